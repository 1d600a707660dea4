//! Answers of Odoo's JSON-2 API: the list of records that `search_read` returns.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use state::command::{Fact, Moved};
use state::order::LineImage;

use super::{Settings, id, many2one, moved, present, required, text, when, whole};
use crate::json::{self, shortened};
use crate::poll::{Page, Told};
use crate::stage::Stage;
use crate::{Understood, time};

/// Reads a page of `stock.move`. The fields: `id`, `product_id`, `quantity`, `product_uom_qty`,
/// `product_qty`, `state`, `location_id`, `location_dest_id`, `origin`, `reference`, `is_inventory`, `date`
/// and `write_date`.
pub fn moves(body: &[u8], settings: &Settings) -> Result<Page, String> {
    let records: Vec<Value> = json::read(body)?;
    let told = records.iter().map(|record| {
        let said = movement(record, settings);
        told("poll/stock.move", record, said)
    });
    Ok(Page { told: told.collect(), next: None, newest_ms: newest_ms(&records) })
}

/// Reads all `stock.quant`s of some products: `product_id`, `location_id`, `quantity`,
/// `reserved_quantity` and `write_date`.
///
/// What is there of a product is the sum of its quants, one for each lot, package and shelf: an answer
/// that holds only some of a product's quants would show too little.
pub fn quants(body: &[u8], settings: &Settings) -> Result<Page, String> {
    const TOPIC: &str = "poll/stock.quant";
    let records: Vec<Value> = json::read(body)?;
    let mut page = Page { newest_ms: newest_ms(&records), ..Page::default() };
    let mut pairs: BTreeMap<(u64, &str), Vec<&Value>> = BTreeMap::new();
    for record in &records {
        match place(record, settings) {
            Ok(Some(pair)) => pairs.entry(pair).or_default().push(record),
            Ok(None) => {}
            Err(why) => page.told.push(told(TOPIC, record, Err(why))),
        }
    }
    for ((product, location), quants) in pairs {
        let said = shown(product, location, &quants);
        page.told.push(told(TOPIC, &json!(quants), said));
    }
    Ok(page)
}

/// Reads one order: the list with its `sale.order` (`id`, `state`, `client_order_ref`, `order_line`,
/// `write_date`) and the list of its `sale.order.line`s (`id`, `order_id`, `product_id`,
/// `product_uom_qty`). `None` if there is no such order.
///
/// The two are asked for one after the other. If a line that the order names is not among the lines,
/// that is an error and not an order without it, which would free its units.
pub fn sale(order: &[u8], lines: &[u8]) -> Result<Option<Told>, String> {
    let orders: Vec<Value> = json::read(order)?;
    let lines: Vec<Value> = json::read(lines)?;
    let Some(order) = orders.first() else { return Ok(None) };
    if orders.len() > 1 {
        return Err("more than one order was told".into());
    }
    for named in order.get("order_line").and_then(Value::as_array).into_iter().flatten() {
        if !lines.iter().any(|line| line.get("id") == Some(named)) {
            return Err(format!("line {named} of the order was not told"));
        }
    }
    let said = image(order, &lines);
    Ok(Some(Told::order(&json!({ "order": order, "lines": lines }), said)))
}

fn told(topic: &'static str, record: &Value, said: Result<Understood, String>) -> Told {
    let understood = said.unwrap_or_else(|why| json::dead(&why));
    Told { topic, raw: record.to_string().into_bytes(), understood }
}

/// When the newest was written. What is wrong with a time is said where the record is read.
fn newest_ms(records: &[Value]) -> Option<u64> {
    records.iter().filter_map(|record| time::utc(text(record, "write_date")?).ok()).max()
}

/// The movement, after what its product's name says of the SKU.
fn movement(record: &Value, settings: &Settings) -> Result<Understood, String> {
    let mut understood = moved(record, settings)?.into();
    if let Understood::Facts(facts) = &mut understood
        && let Some(Fact::Moved(Moved { listing: Some(listing), version, .. })) = facts.first()
        && let Some(sku) = code(record)?
    {
        let listed = Fact::Listed { listing: listing.clone(), sku, version: *version };
        facts.insert(0, listed);
    }
    Ok(understood)
}

/// The product's internal reference, which its display name begins with: `[TEE-M] Tee`.
fn code(record: &Value) -> Result<Option<String>, String> {
    let name = present(record, "product_id").and_then(|product| product.get(1)?.as_str());
    let code = name.and_then(|name| name.strip_prefix('[')?.split_once(']'));
    json::sku(code.map(|(code, _)| code))
}

/// The product and the ledger's location of a quant, if it lies in one.
fn place<'a>(record: &Value, settings: &'a Settings) -> Result<Option<(u64, &'a str)>, String> {
    let location = required(many2one(record, "location_id")?, "location_id")?;
    let product = required(many2one(record, "product_id")?, "product_id")?;
    Ok(settings.locations.get(&location).map(|location| (product, location.as_str())))
}

/// Quants may be negative, where more was shipped than was known to be there.
fn shown(product: u64, location: &str, quants: &[&Value]) -> Result<Understood, String> {
    let mut quantity: i64 = 0;
    let mut version = 0;
    for quant in quants {
        let held = whole(quant, "quantity")?;
        let reserved =
            present(quant, "reserved_quantity").map(|_| whole(quant, "reserved_quantity"));
        let free = held.checked_sub(reserved.transpose()?.unwrap_or(0));
        let sum = free.and_then(|free| quantity.checked_add(free));
        quantity = sum.ok_or("a sum of quantities is out of range")?;
        version = version.max(required(when(quant, "write_date")?, "write_date")?);
    }
    json::quantity(quantity.saturating_abs())?;
    Ok(Understood::Facts(vec![Fact::Shown {
        listing: product.to_string(),
        sku: None,
        location: Some(location.to_string()),
        quantity,
        version,
    }]))
}

/// One whole image of an order that was made in Odoo.
fn image(order: &Value, lines: &[Value]) -> Result<Understood, String> {
    let id = id(order)?;
    if present(order, "client_order_ref").is_some_and(|reference| *reference != json!("")) {
        return Ok(Understood::Ignored("a channel's own order".into()));
    }
    let stage = match required(text(order, "state"), "state")? {
        "sale" | "done" => Stage::Holds,
        "cancel" => Stage::After,
        "draft" | "sent" => return Ok(Understood::Ignored("a quotation holds no stock".into())),
        other => return Err(format!("the state {:?} is unknown", shortened(other))),
    };
    let version = stage.within_second(required(when(order, "write_date")?, "write_date")?);
    json::check_lines(lines.len())?;
    let lines = lines.iter().filter_map(|line| line_image(line, id, stage).transpose());
    let lines = lines.collect::<Result<_, _>>()?;
    let order = id.to_string();
    Ok(Understood::Facts(vec![Fact::Image { order, version, whole: true, lines }]))
}

/// A line, unless it is a section or a note, which has no product. What is shipped of it is told by
/// moves.
fn line_image(line: &Value, order: u64, stage: Stage) -> Result<Option<LineImage>, String> {
    let line_id = id(line)?;
    if required(many2one(line, "order_id")?, "order_id")? != order {
        return Err(format!("line {line_id} is of another order"));
    }
    let Some(product) = many2one(line, "product_id")? else { return Ok(None) };
    let ordered = json::quantity(whole(line, "product_uom_qty")?)?;
    Ok(Some(LineImage {
        id: line_id.to_string(),
        listing: Some(product.to_string()),
        quantity: if stage == Stage::Holds { ordered } else { 0 },
        ..LineImage::default()
    }))
}
