//! JSON-2: `POST /json/2/{model}/{method}` with named arguments.

use std::cmp::Ordering;

use hyper::Method;
use serde_json::{Map, Value, json};

use super::{
    Warehouse,
    domain::{self, compare},
    inventory,
    records::{self, Record},
};
use crate::{
    clock::Millis,
    sender::{
        book::Book,
        call::{self, Answer, Call},
    },
};

pub(super) fn answer(
    warehouse: &mut Warehouse,
    book: &mut Book,
    call: &Call,
    now: Millis,
) -> Answer {
    let named = call.path.strip_prefix("/json/2/").and_then(|rest| rest.split_once('/'));
    let Some((model, method)) = named.filter(|_| call.method == Method::POST) else {
        return error(404, "werkzeug.exceptions.NotFound", "Not Found");
    };
    if call.bearer() != Some(&warehouse.key) {
        return error(401, "werkzeug.exceptions.Unauthorized", "Invalid apikey");
    }
    let writes = model == "stock.quant" && inventory::WRITES.contains(&method);
    let Some(all) = records::of(book, model) else {
        let message = format!("the model '{model}' does not exist");
        return error(404, "werkzeug.exceptions.NotFound", &message);
    };
    let arguments: Map<String, Value> = match serde_json::from_slice(&call.body) {
        Ok(arguments) => arguments,
        Err(_) => return error(400, "werkzeug.exceptions.BadRequest", "not a JSON object"),
    };
    let known: &[&str] = match method {
        "search_read" => &["context", "domain", "fields", "offset", "limit", "order"],
        "search_count" => &["context", "domain"],
        "read" => &["context", "ids", "fields"],
        "create" if writes => &["context", "vals_list"],
        "action_apply_inventory" if writes => &["context", "ids"],
        _ => {
            let message = format!("{model} has no public method '{method}'");
            return error(404, "werkzeug.exceptions.NotFound", &message);
        }
    };
    let result = match arguments.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(format!("unexpected argument '{name}'")),
        None if writes => return inventory::answer(warehouse, book, (method, &arguments), now),
        None => {
            let is_stock = model == "stock.quant";
            book.told.counts.reads += u64::from(is_stock);
            run(method, all, &arguments)
        }
    };
    match result {
        Ok(value) => call::json(200, &value),
        Err(message) => error(422, "werkzeug.exceptions.UnprocessableEntity", &message),
    }
}

fn run(method: &str, all: Vec<Record>, arguments: &Map<String, Value>) -> Result<Value, String> {
    let mut found = Vec::new();
    if method == "read" {
        let ids = list(arguments, "ids")?;
        found.extend(all.into_iter().filter(|record| ids.contains(&json!(record.id))));
    } else {
        let domain = list(arguments, "domain")?;
        for record in all {
            if domain::contains(domain, &record)? {
                found.push(record);
            }
        }
    }
    if method == "search_count" {
        return Ok(json!(found.len()));
    }
    if let Some(order) = arguments.get("order").and_then(Value::as_str) {
        sort(&mut found, order)?;
    }
    let number = |name: &str| arguments.get(name).and_then(Value::as_u64);
    let offset = usize::try_from(number("offset").unwrap_or(0)).unwrap_or(usize::MAX);
    let limit = usize::try_from(number("limit").unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    let fields = list(arguments, "fields")?;
    found.iter().skip(offset).take(limit).map(|record| shown(record, fields)).collect()
}

/// The wanted fields of a record, and always its id; all of them if none is named.
fn shown(record: &Record, fields: &[Value]) -> Result<Value, String> {
    let mut shown = Map::new();
    shown.insert("id".to_owned(), json!(record.id));
    for name in fields {
        let value = name.as_str().and_then(|name| record.fields.get(name));
        let value = value.ok_or_else(|| format!("Invalid field {name}"))?;
        shown.insert(name.as_str().unwrap_or_default().to_owned(), value.clone());
    }
    if fields.is_empty() {
        let all = record.fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        shown.extend(all);
    }
    Ok(Value::Object(shown))
}

/// `write_date, id desc`.
fn sort(records: &mut [Record], order: &str) -> Result<(), String> {
    let keys: Vec<(&str, bool)> = order
        .split(',')
        .map(|key| {
            let mut words = key.split_whitespace();
            let name = words.next().unwrap_or_default();
            (name, words.next().is_some_and(|word| word.eq_ignore_ascii_case("desc")))
        })
        .collect();
    if let Some(first) = records.first() {
        for (name, _) in &keys {
            first.compared(name).ok_or_else(|| format!("Invalid field '{name}'"))?;
        }
    }
    records.sort_by(|one, other| {
        let by = |(name, falling): &(&str, bool)| {
            let pair = one.compared(name).zip(other.compared(name));
            let order = pair.and_then(|(one, other)| compare(one, other));
            let order = order.unwrap_or(Ordering::Equal);
            if *falling { order.reverse() } else { order }
        };
        keys.iter().map(by).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    });
    Ok(())
}

/// A list among the arguments; an empty one if there is none.
pub(super) fn list<'a>(
    arguments: &'a Map<String, Value>,
    name: &str,
) -> Result<&'a [Value], String> {
    match arguments.get(name) {
        None | Some(Value::Null) => Ok(&[]),
        Some(value) => {
            value.as_array().map(Vec::as_slice).ok_or_else(|| format!("{name} must be a list"))
        }
    }
}

pub(super) fn error(status: u16, name: &str, message: &str) -> Answer {
    let body = json!({
        "name": name, "message": message, "arguments": [message, status], "context": {},
        "debug": "Traceback (most recent call last): …",
    });
    call::json(status, &body)
}
