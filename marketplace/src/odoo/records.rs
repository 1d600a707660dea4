//! The book as Odoo's models show it.

use std::collections::BTreeMap;

use jiff::{Timestamp, tz::Offset};
use serde_json::{Value, json};

use super::{CUSTOMERS, LOSS, SCRAP, SHELF, STOCK, SUPPLIERS};
use crate::{
    clock::Millis,
    sender::{
        Item, MoveKind,
        book::{Book, Line, Move, Order, Status},
    },
};

/// One record of a model.
pub(super) struct Record {
    pub(super) id: u64,
    /// As `search_read` shows them: many2one is `[id, name]`.
    pub(super) fields: BTreeMap<&'static str, Value>,
    /// What only domains and sorting see: fields of related records, and times to the microsecond.
    pub(super) hidden: BTreeMap<&'static str, Value>,
}

impl Record {
    fn new<const N: usize>(id: u64, at: Millis, fields: [(&'static str, Value); N]) -> Self {
        let mut fields = BTreeMap::from(fields);
        fields.insert("id", json!(id));
        fields.insert("write_date", json!(time(at)));
        let hidden = BTreeMap::from([("write_date", json!(exact(at)))]);
        Self { id, fields, hidden }
    }

    fn with_location(mut self, id: u64) -> Self {
        self.fields.insert("location_id", many2one(id, location(id).0));
        self.hidden.insert("location_id.usage", json!(location(id).1));
        self
    }

    fn with_product(mut self, listing: u64, sku: &str) -> Self {
        self.fields.insert("product_id", many2one(listing, &format!("[{sku}] {sku}")));
        self.hidden.insert("product_id.default_code", json!(sku));
        self
    }

    fn with_dest(mut self, id: u64) -> Self {
        self.fields.insert("location_dest_id", many2one(id, location(id).0));
        self.hidden.insert("location_dest_id.usage", json!(location(id).1));
        self
    }

    /// What a domain or a sort compares; nothing if there is no such field.
    pub(super) fn compared(&self, name: &str) -> Option<&Value> {
        self.hidden.get(name).or_else(|| self.fields.get(name)).map(bare)
    }
}

/// All records of a model; nothing if there is no such model.
pub(super) fn of(book: &Book, model: &str) -> Option<Vec<Record>> {
    let orders = book.orders.values();
    Some(match model {
        "sale.order" => orders.map(sale_order).collect(),
        "sale.order.line" => {
            orders.flat_map(|o| o.lines.iter().map(|line| sale_line(o, line))).collect()
        }
        "stock.move" => {
            let deliveries = orders.flat_map(|o| o.lines.iter().map(|line| delivery(o, line)));
            let moves = book.moves.values().filter_map(|own| moved(book, own));
            let mut all: Vec<Record> = deliveries.chain(moves).collect();
            all.sort_by_key(|record| record.id);
            all
        }
        "stock.quant" => (0..book.items.len()).flat_map(|item| quants(book, item)).collect(),
        "product.product" => book.items.iter().map(product).collect(),
        "stock.location" => {
            [SUPPLIERS, CUSTOMERS, STOCK, LOSS, SCRAP, SHELF].into_iter().map(place).collect()
        }
        _ => return None,
    })
}

pub(super) fn sale_order(order: &Order) -> Record {
    let lines: Vec<u64> = order.lines.iter().map(|line| line.id).collect();
    let fields = [
        ("name", json!(name(order))),
        ("state", json!(sale_state(order))),
        ("client_order_ref", json!(false)),
        ("date_order", json!(time(order.created_ms))),
        ("order_line", json!(lines)),
    ];
    Record::new(order.id, order.modified_ms, fields)
}

fn sale_line(order: &Order, line: &Line) -> Record {
    let fields = [
        ("order_id", many2one(order.id, &name(order))),
        ("product_uom_qty", float(line.ordered)),
        ("qty_delivered", float(line.fulfilled)),
        ("state", json!(sale_state(order))),
    ];
    let mut record = Record::new(line.id, order.modified_ms, fields);
    record.hidden.insert("order_id.state", json!(sale_state(order)));
    record.hidden.insert("order_id.client_order_ref", json!(false));
    record.with_product(line.listing, &line.sku)
}

/// The stock move that delivers a line of an order. Its id is that of the line: another model, another
/// sequence.
pub(super) fn delivery(order: &Order, line: &Line) -> Record {
    let state = match order.status {
        Status::Open => "assigned",
        Status::Shipped => "done",
        Status::Cancelled => "cancel",
    };
    let fields = [
        ("product_uom_qty", float(line.wanted())),
        ("quantity", float(line.fulfilled)),
        ("state", json!(state)),
        ("origin", json!(name(order))),
        ("reference", json!(format!("WH/OUT/{:05}", order.id))),
        ("is_inventory", json!(false)),
        ("date", json!(time(order.modified_ms))),
        ("sale_line_id", many2one(line.id, &name(order))),
    ];
    let record = Record::new(line.id, order.modified_ms, fields);
    record.with_product(line.listing, &line.sku).with_location(STOCK).with_dest(CUSTOMERS)
}

/// A move that no order asked for.
pub(super) fn moved(book: &Book, moved: &Move) -> Option<Record> {
    let item = book.items.get(moved.item)?;
    let (from, to, origin) = match moved.kind {
        MoveKind::Receipt => (SUPPLIERS, STOCK, json!(format!("P{:05}", moved.id))),
        MoveKind::Transfer => (STOCK, SHELF, json!(false)),
        MoveKind::Scrap => (STOCK, SCRAP, json!(format!("SP/{:05}", moved.id))),
        MoveKind::Count if moved.quantity < 0 => (STOCK, LOSS, json!(false)),
        MoveKind::Count => (LOSS, STOCK, json!(false)),
    };
    let is_count = moved.kind == MoveKind::Count;
    let fields = [
        ("product_uom_qty", float(moved.quantity.abs())),
        ("quantity", float(moved.quantity.abs())),
        ("state", json!("done")),
        ("origin", origin),
        ("reference", json!(moved.reference.clone().unwrap_or_else(|| format!("WH/{}", moved.id)))),
        ("is_inventory", json!(is_count)),
        ("date", json!(time(moved.at_ms))),
        ("sale_line_id", json!(false)),
    ];
    let record = Record::new(moved.id, moved.at_ms, fields);
    Some(record.with_product(item.listing, &item.sku).with_location(from).with_dest(to))
}

/// What lies on the shelves of an item. An empty second shelf has no quant.
pub(super) fn quants(book: &Book, item: usize) -> Vec<Record> {
    let (Some(sold), Some(extra)) = (book.items.get(item), book.extras.get(item)) else {
        return Vec::new();
    };
    let quant = |id: u64, location: u64, quantity: i64, reserved: i64| {
        let fields = [
            ("lot_id", json!(false)),
            ("package_id", json!(false)),
            ("owner_id", json!(false)),
            ("quantity", float(quantity)),
            ("reserved_quantity", float(reserved)),
            ("inventory_quantity", float(0)),
        ];
        let record = Record::new(id, extra.changed_ms, fields);
        record.with_product(sold.listing, &sold.sku).with_location(location)
    };
    // What is neither shown any more nor delivered is promised to somebody.
    let (on_hand, reserved) = book.shelf(item).unwrap_or_default();
    let id = quant_id(item);
    let mut quants = vec![quant(id, STOCK, on_hand, reserved)];
    if extra.transferred > 0 {
        quants.push(quant(id + 1, SHELF, extra.transferred, 0));
    }
    quants
}

/// The quant of an item on the main shelf; that on the second is the next one.
pub(super) fn quant_id(item: usize) -> u64 {
    900 + 2 * u64::try_from(item).unwrap_or(0)
}

fn product(item: &Item) -> Record {
    let fields = [("default_code", json!(item.sku)), ("display_name", json!(item.sku))];
    Record::new(item.listing, 0, fields)
}

fn place(id: u64) -> Record {
    let (name, usage) = location(id);
    Record::new(id, 0, [("complete_name", json!(name)), ("usage", json!(usage))])
}

/// Name and usage.
fn location(id: u64) -> (&'static str, &'static str) {
    match id {
        SUPPLIERS => ("Partners/Vendors", "supplier"),
        CUSTOMERS => ("Partners/Customers", "customer"),
        SCRAP => ("Virtual Locations/Scrap", "inventory"),
        LOSS => ("Virtual Locations/Inventory adjustment", "inventory"),
        SHELF => ("WH/Stock/Shelf 2", "internal"),
        _ => ("WH/Stock", "internal"),
    }
}

fn name(order: &Order) -> String {
    format!("S{:05}", order.id)
}

fn sale_state(order: &Order) -> &'static str {
    if order.status == Status::Cancelled { "cancel" } else { "sale" }
}

fn many2one(id: u64, name: &str) -> Value {
    json!([id, name])
}

/// The id of a many2one; any other value as it is.
pub(super) fn bare(value: &Value) -> &Value {
    match value.as_array().map(Vec::as_slice) {
        Some([id, Value::String(_)]) => id,
        _ => value,
    }
}

/// Quantities are floats.
fn float(units: i64) -> Value {
    i32::try_from(units).map_or(Value::Null, |units| json!(f64::from(units)))
}

/// UTC to the second, without an offset.
pub(super) fn time(at: Millis) -> String {
    text(at, "%Y-%m-%d %H:%M:%S")
}

/// As the database knows it: longer, so greater than the same second without a fraction.
fn exact(at: Millis) -> String {
    text(at, "%Y-%m-%d %H:%M:%S.%6f")
}

fn text(at: Millis, format: &str) -> String {
    let at = Timestamp::from_millisecond(at).unwrap_or_default();
    Offset::UTC.to_datetime(at).strftime(format).to_string()
}
