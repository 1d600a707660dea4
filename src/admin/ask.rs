//! Requests that the cluster judges: proposed once, answered once.

use axum::http::HeaderMap;
use state::command::{Asked, Change};
use state::limits::NAME_LEN_MAX;
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
        let idempotency = idempotency(headers, body)?;
        let (here, reply) = self.propose(&Command::Request { idempotency, asked }).await?;
        // Whoever asks this node next finds what it was just told.
        self.caught_up(here).await?;
        match reply {
            Reply::Answered { answer: Answered::Refused(refused), .. } => Err(refused.into()),
            Reply::Answered { index, answer } => Ok((index, answer)),
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

/// Hashes of the caller's key and of what was sent under it.
pub(super) fn idempotency(headers: &HeaderMap, body: &[u8]) -> Result<Option<(Key, Key)>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| (1..=NAME_LEN_MAX).contains(&text.len()));
    let text = text.ok_or_else(|| {
        Problem::bad_request(format!("Idempotency-Key: 1 to {NAME_LEN_MAX} printable characters"))
    })?;
    Ok(Some((key(format!("idempotency\0{text}").as_bytes()), key(body))))
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
