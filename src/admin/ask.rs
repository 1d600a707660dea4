//! Requests that the cluster judges: proposed once, answered once.

use axum::http::HeaderMap;
use state::command::Asked;
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
