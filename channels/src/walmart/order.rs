//! Lines of an order, as webhooks and the API show them, made one.

use std::collections::BTreeMap;

use state::command::Fact;
use state::order::LineImage;

use crate::json::{self, Scalar};
use crate::{Understood, time};

/// One line. A webhook gives it one status, the API one for each part of its units.
pub(super) struct Line {
    pub(super) id: String,
    pub(super) sku: Option<String>,
    pub(super) ordered: i64,
    pub(super) cancelled: i64,
    pub(super) shipped: i64,
    /// When its status was set: that is what a line is versioned by, as an order has no time of change.
    pub(super) version: u64,
}

impl Line {
    /// Notes that some of its units are in this status. Webhooks and API differ in case. Only what was
    /// shipped is refunded, so that counts as shipped; a status that is not known holds its units.
    pub(super) fn part(&mut self, status: &str, units: i64) {
        match status.to_ascii_lowercase().as_str() {
            "cancelled" | "canceled" => self.cancelled += units,
            "shipped" | "delivered" | "refund" | "refunded" => self.shipped += units,
            _ => {}
        }
    }

    fn image(self) -> LineImage {
        let quantity = (self.ordered - self.cancelled).max(0);
        LineImage {
            id: self.id,
            listing: None,
            sku: self.sku,
            quantity,
            fulfilled: self.shipped.min(quantity),
            returned: 0,
        }
    }
}

/// What the lines of an order that leave the seller's stock say. The images are one for each version among them, oldest first, none of them
/// whole, since a line is never taken out but cancelled. Parts of one line that are told apart are added up.
pub(super) fn images(order: &str, lines: Vec<Line>) -> Result<Understood, String> {
    json::check_lines(lines.len())?;
    let mut merged: BTreeMap<String, Line> = BTreeMap::new();
    for line in lines {
        match merged.get_mut(&line.id) {
            None => drop(merged.insert(line.id.clone(), line)),
            Some(known) => {
                known.ordered += line.ordered;
                known.cancelled += line.cancelled;
                known.shipped += line.shipped;
                known.version = known.version.max(line.version);
                known.sku = known.sku.take().or(line.sku);
            }
        }
    }
    let mut versions: BTreeMap<u64, Vec<LineImage>> = BTreeMap::new();
    for line in merged.into_values() {
        json::quantity(line.ordered)?;
        versions.entry(line.version).or_default().push(line.image());
    }
    let image = |(version, lines)| {
        let order = order.to_string();
        Fact::Image { order, version, whole: false, lines }
    };
    if versions.is_empty() {
        return Ok(Understood::Ignored("none of its lines leaves the seller's stock".into()));
    }
    Ok(Understood::Facts(versions.into_iter().map(image).collect()))
}

/// Whether it leaves the seller's own stock. Walmart's own warehouses (`WFSFulfilled`) and those of third
/// parties (`3PLFulfilled`) are not counted here. Unsaid, it is the seller's, as by default in the API.
pub(super) fn is_sellers(ship_node_type: Option<&str>) -> bool {
    ship_node_type.is_none_or(|kind| kind.eq_ignore_ascii_case("SellerFulfilled"))
}

/// Reads a time: RFC 3339 in webhooks, milliseconds since the Unix epoch in the API.
pub(super) fn time_ms(time: &Scalar) -> Result<u64, String> {
    let text = time.text();
    text.parse().or_else(|_| time::rfc3339(&text)).or_else(|why| time::utc(&text).map_err(|_| why))
}
