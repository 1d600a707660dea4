//! Stock as it was: the levels of now, with everything that came later taken back.

use std::collections::BTreeSet;
use std::sync::Arc;

use state::Few;
use state::ledger::Stock;

use super::{Problem, view};
use crate::clock;
use crate::history::{Error, History};
use crate::replica::Frozen;

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
/// counts, so that a count against it is stale if anything moved since.
pub(super) fn stock(
    frozen: &Frozen,
    history: &History,
    sku: &str,
    at: u64,
) -> Result<Option<view::Stock>, Problem> {
    let mut then = frozen.data.clone();
    then.now = at;
    let mut index = 0;
    let mut skus: BTreeSet<String> =
        then.kits.parts(sku).into_iter().map(|(part, _)| part).collect();
    skus.insert(sku.into());
    for known in skus {
        let Some(stock) = then.stock.get_mut(known.as_str()) else { continue };
        let stock = Arc::make_mut(stock);
        stock.listings = Few::default();
        let newest = take_back(history, &known, stock, at);
        index = newest.map_err(|error| Problem::internal(error.to_string()))?.max(index);
    }
    Ok(view::stock(&then, index, sku))
}

/// Takes back what was booked after a time. The log index of the newest movement before that; 0 without.
fn take_back(history: &History, sku: &str, stock: &mut Stock, at: u64) -> Result<u64, Error> {
    let newest = std::mem::take(&mut stock.newest);
    for line in history.of_sku(sku, newest) {
        let (index, movement, _) = line?;
        if movement.time <= at {
            stock.newest = index;
            break;
        }
        stock.unbook(&movement);
    }
    Ok(stock.newest)
}
