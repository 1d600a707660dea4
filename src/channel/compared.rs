//! Compare-and-set for channels that only set: what they show is read right before.
//!
//! A sale between the reading and the setting is erased all the same. That window is as long as a call, and
//! the next reading finds what it did.

use std::sync::{Mutex, PoisonError};

use super::outcome::{Answered, Place, PushError, Row, RowOutcome};

/// What a channel shows at a place, or why nothing can ever be set there.
pub type Shown = Result<i64, String>;

/// Why a place is none.
pub const UNKNOWN: &str = "the channel does not know this listing: map the SKU to one that it has";

/// The comparison, and what it has to know of calls before.
#[derive(Debug, Default)]
pub struct Compared {
    /// The key of the last call if nobody knows what became of it.
    unanswered: Mutex<Option<String>>,
}

impl Compared {
    /// What becomes of each row by what is shown: nothing yet of those that are to be set.
    ///
    /// A call that is repeated since it was not answered may have been carried out: then what it was to set
    /// is shown, and is no accident.
    #[must_use]
    pub fn judge(&self, rows: &[Row], shown: &[Shown], key: &str) -> Vec<Option<RowOutcome>> {
        let repeated = self.unanswered().as_deref() == Some(key);
        let judged = rows.iter().zip(shown).map(|(row, shown)| match shown {
            Err(why) => Some(RowOutcome::Failed(why.clone())),
            Ok(shown) if *shown == row.from => None,
            Ok(shown) if repeated && *shown == row.quantity => Some(RowOutcome::Confirmed),
            Ok(_) if repeated => Some(RowOutcome::Unknown),
            Ok(_) => Some(RowOutcome::Stale),
        });
        judged.collect()
    }

    /// Completes what was judged with what became of the rows that were sent.
    pub fn complete(
        &self,
        judged: Vec<Option<RowOutcome>>,
        sent: Result<Answered<Vec<RowOutcome>>, PushError>,
        key: &str,
    ) -> Result<Answered<Vec<RowOutcome>>, PushError> {
        let unknown = matches!(sent, Err(PushError::Unknown(_)));
        *self.unanswered() = unknown.then(|| key.into());
        let Answered { value, wait } = sent?;
        let mut sent = value.into_iter();
        let complete = |judged: Option<RowOutcome>| {
            judged.or_else(|| sent.next()).unwrap_or(RowOutcome::Unknown)
        };
        Ok(Answered { value: judged.into_iter().map(complete).collect(), wait })
    }

    fn unanswered(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A channel that is read right before it is set.
pub trait ReadFirst: Send + Sync {
    /// The comparison.
    fn compared(&self) -> &Compared;

    /// What is shown at places. Nothing is set by that.
    fn shown(&self, places: &[Place])
    -> impl Future<Output = Result<Vec<Shown>, PushError>> + Send;

    /// Sets rows, whatever is shown.
    fn send(
        &self,
        rows: &[&Row],
    ) -> impl Future<Output = Result<Answered<Vec<RowOutcome>>, PushError>> + Send;
}

/// Sets what is shown as it was believed to be.
pub async fn set(
    channel: &impl ReadFirst,
    rows: &[Row],
    key: &str,
) -> Result<Answered<Vec<RowOutcome>>, PushError> {
    let shown = channel.shown(&places(rows)).await?;
    let judged = channel.compared().judge(rows, &shown, key);
    let sent = channel.send(&left(rows, &judged)).await;
    channel.compared().complete(judged, sent, key)
}

/// Reads what is shown.
pub async fn read(
    channel: &impl ReadFirst,
    places: &[Place],
) -> Result<Answered<Vec<Option<i64>>>, PushError> {
    answered(channel.shown(places).await?)
}

/// What rows are of.
#[must_use]
pub fn places(rows: &[Row]) -> Vec<Place> {
    rows.iter().map(|row| row.place.clone()).collect()
}

/// The rows that nothing became of yet.
#[must_use]
pub fn left<'a>(rows: &'a [Row], judged: &[Option<RowOutcome>]) -> Vec<&'a Row> {
    let both = rows.iter().zip(judged);
    both.filter(|(_, judged)| judged.is_none()).map(|(row, _)| row).collect()
}

/// An answer to a reading. Where nothing can be set the seller must be told why: a place that is asked for
/// alone is said to be at fault, and several are asked for again in smaller parts.
pub fn answered(shown: Vec<Shown>) -> Result<Answered<Vec<Option<i64>>>, PushError> {
    let value = shown.into_iter().map(|shown| match shown {
        Ok(shown) => Ok(Some(shown)),
        Err(why) if why == UNKNOWN => Ok(None),
        Err(why) => Err(PushError::Suspect(why)),
    });
    Ok(Answered::now(value.collect::<Result<_, _>>()?))
}

/// An error before anything was set: whatever it is, nothing was.
#[must_use]
pub fn unset(error: PushError) -> PushError {
    match error {
        PushError::Unknown(why) => PushError::Refused(why),
        error => error,
    }
}

/// Whole units of what may be a fraction: the part of one cannot be sold.
#[must_use]
pub fn whole(units: f64) -> Option<i64> {
    // Beyond that a float does not hold units.
    let in_range = units.abs() <= 1e12;
    // 5.999 999 is six, as sums of floats go.
    in_range.then(|| format!("{:.0}", (units + 1e-6).floor()).parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(from: i64, quantity: i64) -> Row {
        Row { place: Place::default(), quantity, from }
    }

    fn lost() -> Result<Answered<Vec<RowOutcome>>, PushError> {
        Err(PushError::Unknown("no answer".into()))
    }

    /// What is set over a sale that was not heard of yet puts its units on sale again.
    #[test]
    fn what_was_not_expected_is_not_set() {
        let compared = Compared::default();
        let rows = [row(5, 3), row(5, 3), row(5, 3)];
        let shown = [Ok(5), Ok(3), Err("no".to_owned())];
        let judged = compared.judge(&rows, &shown, "a");
        let failed = RowOutcome::Failed("no".into());
        assert_eq!(judged, [None, Some(RowOutcome::Stale), Some(failed.clone())]);
        assert_eq!(left(&rows, &judged).len(), 1);
        let sent = Ok(Answered::now(vec![RowOutcome::Confirmed]));
        let complete = compared.complete(judged, sent, "a").unwrap().value;
        assert_eq!(complete, [RowOutcome::Confirmed, RowOutcome::Stale, failed]);
    }

    /// A call that was carried out and not answered is no edit by somebody else.
    #[test]
    fn a_repetition_finds_what_it_did() {
        let compared = Compared::default();
        let rows = [row(5, 3), row(5, 3), row(5, 3)];
        let judged = compared.judge(&rows, &[Ok(5), Ok(5), Ok(5)], "a");
        assert!(compared.complete(judged, lost(), "a").is_err());
        let again = [Ok(3), Ok(4), Ok(5)];
        let judged = compared.judge(&rows, &again, "a");
        assert_eq!(judged, [Some(RowOutcome::Confirmed), Some(RowOutcome::Unknown), None]);
        // Under another key it is another call.
        let other = compared.judge(&rows, &again, "b");
        assert_eq!(other, [Some(RowOutcome::Stale), Some(RowOutcome::Stale), None]);
    }

    /// A part of a unit that is shown as a whole one is sold and not there.
    #[test]
    fn parts_of_units_are_not_for_sale() {
        let floats = [17.0, 16.999_999_9, 2.5, -0.5, 1e300, f64::NAN];
        assert_eq!(floats.map(whole), [Some(17), Some(17), Some(2), Some(-1), None, None]);
    }
}
