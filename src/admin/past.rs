//! Stock as it was: the levels of now, with everything that came later taken back.

use std::collections::BTreeSet;
use std::sync::Arc;

use state::Few;
use state::escrow::Escrow;
use state::ledger::Stock;

use super::{Problem, view};
use crate::clock;
use crate::history::{Error, History};
use crate::replica::Frozen;

/// Lines of the ledger that are taken back for one answer.
const LINES_MAX: usize = 50_000;

/// A time in the past, in milliseconds.
pub(super) fn moment(text: &str) -> Result<u64, Problem> {
    let at = clock::parse_rfc3339(text).map_err(|why| {
        Problem::unprocessable("invalid", format!("at: {why} (a + is written as %2B)"))
    })?;
    if at > clock::now_ms() {
        let why = format!("at: {text:?} has not come yet by this node's clock");
        return Err(Problem::unprocessable("invalid", why));
    }
    Ok(at)
}

/// A SKU as it was at a time; `None` if nobody knows it today. `as_of` names the newest movement that
/// counts, so that a count against it is stale if anything moved since. Refused if that is too far back.
pub(super) fn stock(
    frozen: &Frozen,
    history: &History,
    sku: &str,
    at: u64,
) -> Result<Option<view::Stock>, Problem> {
    within(LINES_MAX, frozen, history, sku, at)
}

fn within(
    mut lines: usize,
    frozen: &Frozen,
    history: &History,
    sku: &str,
    at: u64,
) -> Result<Option<view::Stock>, Problem> {
    let mut then = frozen.data.clone();
    then.now = at;
    // What each region had of it then is not written down.
    then.escrow = Escrow::default();
    let mut index = 0;
    let mut skus: BTreeSet<String> =
        then.kits.parts(sku).into_iter().map(|(part, _)| part).collect();
    skus.insert(sku.into());
    for known in skus {
        let Some(stock) = then.stock.get_mut(known.as_str()) else { continue };
        let stock = Arc::make_mut(stock);
        stock.listings = Few::default();
        let newest = take_back(history, &known, stock, at, &mut lines);
        let newest = newest.map_err(|error| Problem::internal(error.to_string()))?;
        let newest = newest.ok_or_else(|| {
            let why =
                "at: too much was booked since: read the movements, newest first, as far back";
            Problem::unprocessable("too_far_back", why)
        })?;
        index = newest.max(index);
    }
    Ok(view::stock(&then, index, sku))
}

/// Takes back what was booked after a time. The log index of the newest movement before that; 0 without;
/// `None` if that would be more lines than are left.
fn take_back(
    history: &History,
    sku: &str,
    stock: &mut Stock,
    at: u64,
    left: &mut usize,
) -> Result<Option<u64>, Error> {
    let newest = std::mem::take(&mut stock.newest);
    for line in history.of_sku(sku, newest) {
        let (index, movement, _) = line?;
        if movement.time <= at {
            stock.newest = index;
            break;
        }
        let Some(rest) = left.checked_sub(1) else { return Ok(None) };
        *left = rest;
        stock.unbook(&movement);
    }
    Ok(Some(stock.newest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

    use std::path::Path;

    use cluster::durable::Batch;
    use state::command::{Asked, Command, MovementRequest, Movements};
    use state::ledger::Kind;
    use state::{Stamp, State};

    use super::*;
    use crate::history::put_movements;

    /// A receipt of one unit at each time from 1 on.
    fn booked(dir: &Path, receipts: u64) -> (Frozen, History) {
        let (history, mut state) = (History::open(dir).unwrap(), State::default());
        let (mut batch, mut chain) = (Batch::default(), [0; 32]);
        for index in 1..=receipts {
            let key = [u8::try_from(index).unwrap(); 16];
            let request =
                MovementRequest::new(key, index.to_string(), Kind::Receipt, "MUG", 1, "main");
            let asked = Asked::Movements(Movements { atomic: false, movements: vec![request] });
            let command = Command::Request { idempotency: None, asked };
            let (_, effects) = state.apply(Stamp { index, now: index }, command);
            put_movements(&mut batch, &mut chain, index, effects.movements);
        }
        history.write(batch).unwrap();
        let data = state.data().clone();
        (Frozen { data, chain, index: receipts, restores: 0 }, history)
    }

    // A reader who asks for a past behind a million movements would keep the node's disk and processor busy
    // for minutes, as often as he likes.
    #[test]
    fn how_much_one_answer_takes_back_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let (frozen, history) = booked(dir.path(), 9);
        for at in 0..=9 {
            let found = within(5, &frozen, &history, "MUG", at);
            // As many lines are taken back as came later.
            if 9 - at > 5 {
                let told = serde_json::to_value(found.err().unwrap()).unwrap();
                assert_eq!((&told["status"], &told["type"]), (&422.into(), &"too_far_back".into()));
            } else {
                let told = serde_json::to_value(found.unwrap().unwrap()).unwrap();
                assert_eq!(told["on_hand"], at);
            }
        }
    }
}
