//! Requests that the cluster judges: proposed once, answered once.

use axum::http::HeaderMap;
use state::command::{Asked, Change};
use state::limits::NAME_LEN_MAX;
use state::queue::ask::Answer;
use state::reply::{Answered, Lacking, Refused};
use state::{Command, Key, Reply};

use super::{Admin, Problem};
use crate::channel::key;

impl Admin {
    /// Asks the cluster. With an `Idempotency-Key` the first answer to it is repeated for 24 hours, with
    /// the log index of the first time; `body` is what was sent under the key.
    pub(super) async fn ask(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        asked: Asked,
    ) -> Result<(u64, Answered), Problem> {
        let ((_, first), answer) = self.asked(idempotency(headers, body)?, asked).await?;
        Ok((first, answer))
    }

    /// The same, with what it is to be asked for under. The log indices are those of this time and of the first one.
    pub(super) async fn asked(
        &self,
        idempotency: Option<(Key, Key)>,
        asked: Asked,
    ) -> Result<((u64, u64), Answered), Problem> {
        let (here, reply) = self.propose(&Command::Request { idempotency, asked }).await?;
        // Whoever asks this node next finds what it was just told.
        self.caught_up(here).await?;
        match reply {
            Reply::Answered { answer: Answered::Refused(refused), .. } => Err(refused.into()),
            Reply::Answered { index, answer } => Ok(((here, index), answer)),
            Reply::KeyReused => Err(Problem::key_reused()),
            other => Err(Problem::internal(format!("unexpected reply {other:?}"))),
        }
    }
}

impl Admin {
    /// Has something changed that has nothing to answer; with an `Idempotency-Key` once. `said` is what was asked for,
    /// its path and all.
    pub(super) async fn change_once(
        &self,
        headers: &HeaderMap,
        said: &[&[u8]],
        change: Change,
    ) -> Result<(), Problem> {
        let said = said.join(&0);
        if idempotency(headers, &said)?.is_none() {
            return self.change(&change.into()).await;
        }
        match self.ask(headers, &said, Asked::Change(change)).await?.1 {
            Answered::Changed(Ok(())) => Ok(()),
            Answered::Changed(Err(why)) => Err(Problem::unprocessable("rejected", why)),
            other => Err(Problem::internal(format!("unexpected answer {other:?}"))),
        }
    }

    /// Has the cluster do something with itself, which is no command. With an `Idempotency-Key` it is not done again
    /// once it was done; what failed may be tried again.
    pub(super) async fn done_once(
        &self,
        headers: &HeaderMap,
        said: &[&[u8]],
        done: impl Future<Output = Result<(), Problem>>,
    ) -> Result<(), Problem> {
        let Some((key, said)) = idempotency(headers, &said.join(&0))? else { return done.await };
        self.barrier().await?;
        let before = self.read().state().data().answers.get(&key).map(|answer| answer.body);
        if let Some(before) = before {
            return if before == said { Ok(()) } else { Err(Problem::key_reused()) };
        }
        done.await?;
        let (idempotency, asked) = (Some((key, said)), Asked::Change(Change::Noted));
        if let Err(problem) = self.propose(&Command::Request { idempotency, asked }).await {
            tracing::warn!(?problem, "what was done could not be noted under its Idempotency-Key");
        }
        Ok(())
    }
}

/// What is redriven in pieces: under an `Idempotency-Key` each piece has a key of its own, and their end too. Sent
/// again, what was done counts as it did, and the rest is done unless the end was reached.
pub(super) struct Pieces<'a> {
    topic: &'a str,
    under: Option<(Key, Key)>,
    next: u64,
    /// How many the pieces concerned.
    pub(super) count: u64,
    /// Whether all of them were done before.
    pub(super) ended: bool,
}

impl Pieces<'_> {
    /// What the next piece is to be asked for under.
    fn key(&self) -> Option<(Key, Key)> {
        let (own, sent) = self.under?;
        Some((key(&[&own[..], &self.next.to_be_bytes()].concat()), sent))
    }

    /// The same as it is kept.
    fn kept(&self) -> Option<(Key, Key)> {
        self.key().map(|once| of_topic(once, self.topic, "redrive"))
    }

    /// What a piece is asked for under, now.
    pub(super) fn take(&mut self) -> Option<(Key, Key)> {
        let taken = self.key();
        self.next += 1;
        taken
    }
}

impl Admin {
    /// What is known of pieces that were done under this key.
    pub(super) async fn pieces<'a>(
        &self,
        topic: &'a str,
        under: Option<(Key, Key)>,
    ) -> Result<Pieces<'a>, Problem> {
        let mut pieces = Pieces { topic, under, next: 0, count: 0, ended: false };
        if under.is_some() {
            self.barrier().await?;
        }
        let replica = self.read();
        let answers = &replica.state().data().answers;
        while let Some((key, sent)) = pieces.kept()
            && let Some(known) = answers.get(&key)
        {
            match &known.reply {
                _ if known.body != sent => return Err(Problem::key_reused()),
                Reply::Answered { answer: Answered::Queue(Answer::Count(count)), .. } => {
                    pieces.count += count;
                    pieces.next += 1;
                }
                _ => {
                    pieces.ended = true;
                    break;
                }
            }
        }
        Ok(pieces)
    }

    /// Says that there are no more pieces; how many they concerned.
    pub(super) async fn end(&self, pieces: Pieces<'_>) -> Result<u64, Problem> {
        if let Some(idempotency) = pieces.kept().filter(|_| !pieces.ended) {
            let asked = Asked::Change(Change::Noted);
            self.propose(&Command::Request { idempotency: Some(idempotency), asked }).await?;
        }
        Ok(pieces.count)
    }
}

/// Hashes of the caller's key and of what was sent under it.
pub(super) fn idempotency(headers: &HeaderMap, body: &[u8]) -> Result<Option<(Key, Key)>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| (1..=NAME_LEN_MAX).contains(&text.len()));
    let text = text.ok_or_else(|| {
        Problem::bad_request(format!("Idempotency-Key: 1 to {NAME_LEN_MAX} printable characters"))
    })?;
    Ok(Some((key(format!("idempotency\0{text}").as_bytes()), key(body))))
}

/// One key may be sent with the same body to another topic, or with another verb: that is another request.
pub(super) fn of_topic((own, sent): (Key, Key), topic: &str, verb: &str) -> (Key, Key) {
    (own, key(&[&sent[..], verb.as_bytes(), b"\0", topic.as_bytes()].concat()))
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Invalid(why) => Self::unprocessable("invalid", why),
            Refused::UnknownSku(sku) => Self::unprocessable(
                "unknown_sku",
                format!("there is no SKU {sku:?}; a receipt creates it"),
            ),
            Refused::Insufficient(lacking) => {
                let each: Vec<String> = lacking.iter().map(lack).collect();
                Self::conflict("insufficient_stock", each.join("; "))
            }
            Refused::TooMany => Self::conflict(
                "too_many_reservations",
                "the cluster keeps no more reservations; let some go".into(),
            ),
            Refused::UnknownReservation => Self::missing(
                "there is no such reservation, or it ended more than a day ago".into(),
            ),
            Refused::Ended(status) => Self::conflict(
                "reservation_ended",
                format!("nothing is held any more: the reservation is {}", status.name()),
            ),
            Refused::MoreThanHeld { sku, held } => {
                Self::conflict("more_than_held", format!("{held} of {sku:?} are held"))
            }
        }
    }
}

pub(super) fn lack(lack: &Lacking) -> String {
    let Lacking { sku, requested, available, .. } = lack;
    let place = lack.location.as_ref().map(|place| format!(" at {place:?}")).unwrap_or_default();
    format!("{requested} of {sku:?} wanted, {available} available{place}")
}
