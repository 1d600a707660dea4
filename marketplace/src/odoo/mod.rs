//! Odoo: a warehouse that tells once, unsigned, and waits for a second.
//!
//! Automation rules post a record's chosen fields when a sales order is confirmed or cancelled, and when a
//! stock move is done or a quant changes. Nothing is signed: the secret is in the path of the target. Nothing
//! is sent again. All of it can be read by JSON-2: `search_read` with a domain, over stock moves, quants,
//! sales orders and their lines, products and locations.
//!
//! Besides its own sales (orders without `client_order_ref`, delivered later) it makes receipts, transfers
//! to a second shelf, and scraps.
//!
//! It is told quantities as an inventory adjustment: a count of a shelf, which is then applied, unless
//! something moved there in between. The adjustment is a stock move, and told like any other.
//!
//! Source: Odoo's documentation of the external JSON-2 API, its `stock` module, and copies of
//! `_run_action_webhook`.

mod api;
mod domain;
mod inventory;
mod records;

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::{
    clock::Millis,
    sender::{
        MoveKind, Options,
        book::{Book, Change},
        call::{Answer, Call},
        dialect::{Dialect, Manner, Message, Notice, Partial, Try},
    },
};
use records::Record;

/// Where receipts come from: `usage` is `supplier`.
pub const SUPPLIERS: u64 = 4;
/// Where deliveries go to: `usage` is `customer`.
pub const CUSTOMERS: u64 = 5;
/// The main shelf, `internal`: all sales and receipts.
pub const STOCK: u64 = 8;
/// Where scraps go to: `usage` is `inventory`.
pub const SCRAP: u64 = 16;
/// Where a count finds units, and loses them: `usage` is `inventory`.
pub const LOSS: u64 = 14;
/// The second shelf, `internal`: what was transferred.
pub const SHELF: u64 = 18;

const MANNER: Manner = Manner {
    answer_max: Duration::from_secs(1),
    accepted: 200..=399,
    waits: &[],
    failures_max: None,
    gone_disables: false,
    coalesces: false,
    partial: Partial::No,
    moves: &[MoveKind::Receipt, MoveKind::Receipt, MoveKind::Transfer, MoveKind::Scrap],
};

pub(crate) struct Warehouse {
    key: String,
    /// What was counted and not applied yet, by item.
    counted: BTreeMap<usize, Counted>,
}

/// A count of the main shelf that waits to be applied.
struct Counted {
    units: i64,
    /// What lay there when it was counted.
    before: i64,
}

impl Warehouse {
    pub(crate) fn new(options: &Options) -> Self {
        Self { key: options.api_secret.clone(), counted: BTreeMap::new() }
    }
}

impl Dialect for Warehouse {
    fn manner(&self) -> &Manner {
        &MANNER
    }

    fn tell(&mut self, book: &Book, change: Change) -> Vec<Notice> {
        match change {
            Change::Placed { order }
            | Change::Cancelled { order }
            | Change::Reduced { order, .. } => {
                let order = book.orders.get(&order).into_iter();
                order
                    .map(|o| notice(&records::sale_order(o), o.version, o.modified_ms, &SALE_ORDER))
                    .collect()
            }
            Change::Shipped { order } => {
                let Some(order) = book.orders.get(&order) else { return Vec::new() };
                let at = order.modified_ms;
                let moves = order.lines.iter().map(|line| records::delivery(order, line));
                let mut notices: Vec<Notice> =
                    moves.map(|delivery| notice(&delivery, order.version, at, &MOVE)).collect();
                for line in &order.lines {
                    notices.extend(quants(book, line.item, at));
                }
                notices
            }
            Change::Moved { id } => {
                let Some(moved) = book.moves.get(&id) else { return Vec::new() };
                let mut notices: Vec<Notice> = records::moved(book, moved)
                    .map(|record| notice(&record, 1, moved.at_ms, &MOVE))
                    .into_iter()
                    .collect();
                // The rule for quants leaves counts out: whoever made them knows.
                if moved.kind != MoveKind::Count {
                    notices.extend(quants(book, moved.item, moved.at_ms));
                }
                notices
            }
            Change::Trashed { .. } => Vec::new(),
        }
    }

    fn compose(&mut self, _book: &Book, notice: &Notice, _try: &Try<'_>) -> Message {
        Message::json(&[("user-agent", "python-requests/2.32.3")], notice.data.to_string())
    }

    fn answer(&mut self, book: &mut Book, call: &Call, now: Millis) -> Answer {
        api::answer(self, book, call, now)
    }
}

/// An automation rule: its name, and the fields that it sends.
struct Rule {
    model: &'static str,
    action: &'static str,
    fields: &'static [&'static str],
}

const SALE_ORDER: Rule = Rule {
    model: "sale.order",
    action: "Notify stock sync(#412)",
    fields: &["id", "name", "state", "client_order_ref", "write_date"],
};
const QUANT: Rule = Rule {
    model: "stock.quant",
    action: "Stock changed(#413)",
    fields: &["id", "product_id", "location_id", "quantity", "reserved_quantity", "write_date"],
};
const MOVE: Rule = Rule {
    model: "stock.move",
    action: "Move done(#414)",
    fields: &[
        "id",
        "product_id",
        "product_uom_qty",
        "quantity",
        "state",
        "location_id",
        "location_dest_id",
        "origin",
        "reference",
        "is_inventory",
        "date",
        "write_date",
    ],
};

/// What a rule sends of a record: a map whose keys are sorted, many2one as bare ids.
fn notice(record: &Record, version: u32, at: Millis, rule: &Rule) -> Notice {
    let mut notice = Notice::new(rule.model, record.id, version, at);
    let own =
        [("_action", json!(rule.action)), ("_id", json!(record.id)), ("_model", json!(rule.model))];
    let fields = rule.fields.iter().filter_map(|name| {
        let value = record.fields.get(name)?;
        Some((*name, records::bare(value).clone()))
    });
    let body: serde_json::Map<String, Value> =
        own.into_iter().chain(fields).map(|(name, value)| (name.to_owned(), value)).collect();
    notice.data = Value::Object(body);
    notice
}

fn quants(book: &Book, item: usize, at: Millis) -> Vec<Notice> {
    let version = book.extras.get(item).map_or(0, |extra| extra.version);
    let quants = records::quants(book, item);
    quants.iter().map(|quant| notice(quant, version, at, &QUANT)).collect()
}
