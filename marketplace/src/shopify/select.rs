//! Answers only what was selected of a value, in pages where the schema says so, and counts what that
//! cost.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{
    graphql::Field,
    schema::{self, Kind},
};

/// What was selected, under the names asked for, and its cost by the rule of [`schema::cost`]; or an
/// entry of the answer's `errors`.
pub(super) type Selected = Result<(Value, u64), Value>;

/// One element of a connection.
pub(super) struct Element {
    pub(super) cursor: String,
    pub(super) node: Value,
}

/// What `field` selects of a value of this kind. The elements of a connection are given as an array.
pub(super) fn select(value: &Value, kind: Kind, field: &Field) -> Selected {
    match (kind, value) {
        (Kind::Scalar, _) | (_, Value::Null) => Ok((value.clone(), 0)),
        (Kind::Connection(_), Value::Array(nodes)) => {
            let start = match cursor_of(field)? {
                None => 0,
                Some((_, last_id)) => {
                    let at = nodes.iter().position(|node| node["id"] == json!(last_id));
                    at.ok_or_else(|| wrong_cursor(field))? + 1
                }
            };
            let nodes = nodes.iter().skip(start).map(|node| {
                let cursor = cursor(&node["id"], node["id"].as_str().unwrap_or_default());
                Element { cursor, node: node.clone() }
            });
            page(nodes.collect(), kind, field)
        }
        (_, Value::Array(values)) => {
            let most = field.arguments.get("first").and_then(Value::as_u64);
            let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(values.len());
            let mut answer = Vec::with_capacity(values.len().min(most));
            let mut cost = if matches!(kind, Kind::List(_)) { schema::list_cost(field) } else { 0 };
            for value in values.iter().take(most) {
                let (value, spent) = select(value, kind, field)?;
                cost = cost.saturating_add(spent);
                answer.push(value);
            }
            Ok((Value::Array(answer), cost))
        }
        _ => object(value, kind, field),
    }
}

/// One page of a connection: the first of these elements, and whether there are more.
pub(super) fn page(mut elements: Vec<Element>, kind: Kind, field: &Field) -> Selected {
    let size = usize::try_from(schema::size(field)).unwrap_or(usize::MAX);
    let more = elements.len() > size;
    elements.truncate(size);
    let page = json!({
        "pageInfo": {
            "hasNextPage": more,
            "hasPreviousPage": cursor_of(field)?.is_some(),
            "startCursor": elements.first().map(|element| &element.cursor),
            "endCursor": elements.last().map(|element| &element.cursor),
        },
        "nodes": elements.iter().map(|element| &element.node).collect::<Vec<_>>(),
        "edges": elements
            .iter()
            .map(|element| json!({"cursor": element.cursor, "node": element.node}))
            .collect::<Vec<_>>(),
    });
    object(&page, kind, field)
}

fn object(value: &Value, kind: Kind, field: &Field) -> Selected {
    let mut answer = Map::new();
    let mut cost = match kind {
        Kind::Scalar | Kind::PageInfo | Kind::Edge(_) => 0_u64,
        Kind::Object(_) | Kind::List(_) => 1,
        Kind::Connection(_) => 2,
    };
    for inner in &field.fields {
        if inner.name == "__typename" {
            answer.insert(inner.key.clone(), json!(kind.name()));
            continue;
        }
        let Some((kind, _)) = kind.field(&inner.name) else { continue };
        let (value, spent) = select(&narrowed(&value[inner.name.as_str()], inner), kind, inner)?;
        cost = cost.saturating_add(spent);
        answer.insert(inner.key.clone(), value);
    }
    Ok((Value::Object(answer), cost))
}

/// What is left of a value by arguments other than those of pages: the level at the asked location, or
/// null if the item is not stocked there; the quantities of the asked names, in their order.
fn narrowed<'a>(value: &'a Value, field: &Field) -> Cow<'a, Value> {
    match field.name.as_str() {
        "inventoryLevel" if field.arguments.get("locationId") != value.pointer("/location/id") => {
            Cow::Owned(Value::Null)
        }
        "quantities" => {
            let names = field.arguments.get("names").and_then(Value::as_array);
            let quantity =
                |name: &Value| value.as_array()?.iter().find(|of| of["name"] == *name).cloned();
            Cow::Owned(names.into_iter().flatten().filter_map(quantity).collect())
        }
        _ => Cow::Borrowed(value),
    }
}

/// Where a page goes on: after the element with this value of what is sorted by, and with this id.
pub(super) fn cursor(last_value: &Value, last_id: &str) -> String {
    STANDARD.encode(json!({"last_id": last_id, "last_value": last_value}).to_string())
}

/// What the argument `after` says.
pub(super) fn cursor_of(field: &Field) -> Result<Option<(Value, String)>, Value> {
    let after = match field.arguments.get("after") {
        None | Some(Value::Null) => return Ok(None),
        Some(after) => after.as_str().and_then(|text| STANDARD.decode(text).ok()),
    };
    let cursor = after.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    let read = cursor.and_then(|cursor| {
        Some((cursor.get("last_value")?.clone(), cursor.get("last_id")?.as_str()?.to_owned()))
    });
    read.map(Some).ok_or_else(|| wrong_cursor(field))
}

pub(super) fn wrong_cursor(field: &Field) -> Value {
    schema::refusal("BAD_REQUEST", "Invalid cursor for current pagination sort.", field)
}
