//! What every channel counted of its orders, held against the movements of a ledger, line by line.
#![expect(clippy::indexing_slicing, reason = "JSON indexed by name is null where nothing is")]

use std::collections::BTreeMap;

use hyper::Method;
use marketplace::Store;

use super::others::Others;
use super::{SKUS, sku};
use crate::client::Client;

/// Where a ledger and a channel differ, in words.
#[derive(Default)]
pub(super) struct Differences {
    /// Order lines of all channels.
    pub(super) lines: usize,
    /// The ledger holds less than happened.
    pub(super) lost: Vec<String>,
    /// The ledger holds more than happened.
    pub(super) doubled: Vec<String>,
}

/// Units of one order line: owed to the customer, and gone from the shelf.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Units {
    committed: i64,
    shipped: i64,
}

impl Units {
    /// What cannot be sold any more, and how much of that was shipped: with these two, more is too much.
    const fn taken(self) -> (i64, i64) {
        (self.committed + self.shipped, self.shipped)
    }
}

/// By channel, and by order line there (or SKU: see [`Others::expected`]).
type Books = BTreeMap<(String, String), Units>;

/// Compares what a node's ledger holds with what the channels say. Everything can be heard of: what was
/// not told is asked for, and so what was lost on the way comes to nothing in the end.
pub(super) async fn compare(
    api: &Client,
    (stores, others): (&[Store], &Others),
) -> Result<Differences, String> {
    let mut booked = booked(api, others).await?;
    let mut differences = Differences::default();
    let of_stores = stores.iter().map(|s| (s.options().name.clone(), s.expected_lines()));
    for (channel, lines) in of_stores.chain(others.expected()) {
        differences.lines += lines.len();
        for (line, wanted) in lines {
            let wanted = Units { committed: wanted.open(), shipped: -wanted.on_hand() };
            let found = booked.remove(&(channel.clone(), line.clone())).unwrap_or_default();
            differences.note(&channel, &line, found, wanted);
        }
    }
    for ((channel, line), found) in booked {
        differences.note(&channel, &line, found, Units::default());
    }
    Ok(differences)
}

impl Differences {
    /// Whether there are none.
    pub(super) const fn are_none(&self) -> bool {
        self.lost.is_empty() && self.doubled.is_empty()
    }

    fn note(&mut self, channel: &str, line: &str, found: Units, wanted: Units) {
        if found == wanted {
            return;
        }
        let which = if found.taken() < wanted.taken() { &mut self.lost } else { &mut self.doubled };
        which.push(format!(
            "{channel} {line}: {} committed and {} shipped, {} and {} expected",
            found.committed, found.shipped, wanted.committed, wanted.shipped
        ));
    }
}

/// What came through channels, by the node's ledger.
async fn booked(api: &Client, others: &Others) -> Result<Books, String> {
    let mut books = Books::new();
    for sku in (0..SKUS).map(sku) {
        let mut path = format!("/v1/stock/{sku}/movements?limit=1000");
        loop {
            let page = api.call(Method::GET, &path, None).await.map_err(|e| e.to_string())?;
            for line in page["items"].as_array().into_iter().flatten() {
                let Some(channel) = line["channel"].as_str() else { continue };
                let reference = line["reference"].as_str().filter(|_| !others.is_by_sku(channel));
                let place = reference.unwrap_or(&sku);
                let units = books.entry((channel.to_string(), place.to_string())).or_default();
                let quantity = line["quantity"].as_i64().unwrap_or(0);
                match line["kind"].as_str() {
                    Some("sale") => units.committed += quantity,
                    Some("cancellation") => units.committed -= quantity,
                    Some("fulfilment") => {
                        units.committed -= quantity;
                        units.shipped += quantity;
                    }
                    Some("return") => units.shipped -= quantity,
                    _ => {}
                }
            }
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/v1/stock/{sku}/movements?limit=1000&cursor={next}");
        }
    }
    Ok(books)
}
