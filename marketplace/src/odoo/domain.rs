//! Odoo's search domains: terms in Polish notation, joined by "and" where nothing is said.

use std::cmp::Ordering;

use serde_json::Value;

use super::records::Record;

/// The most terms of a domain, so that nesting is bounded.
const TERMS_MAX: usize = 64;

/// Whether a record is in a domain; an error if the domain is none.
pub(super) fn contains(domain: &[Value], record: &Record) -> Result<bool, String> {
    if domain.len() > TERMS_MAX {
        return Err("the domain is too long".to_owned());
    }
    let mut rest = domain.iter();
    let mut all = true;
    while !rest.as_slice().is_empty() {
        all &= term(&mut rest, record)?;
    }
    Ok(all)
}

fn term(rest: &mut std::slice::Iter<'_, Value>, record: &Record) -> Result<bool, String> {
    let next = rest.next().ok_or("the domain ends too early")?;
    match (next.as_str(), next.as_array().map(Vec::as_slice)) {
        (Some("!"), _) => Ok(!term(rest, record)?),
        (Some(operator @ ("&" | "|")), _) => {
            let (one, other) = (term(rest, record)?, term(rest, record)?);
            Ok(if operator == "&" { one && other } else { one || other })
        }
        (None, Some([field, operator, value])) => {
            let (field, operator) = (text(field)?, text(operator)?);
            let found = record.compared(field).ok_or_else(|| format!("Invalid field '{field}'"))?;
            leaf(found, operator, value)
        }
        _ => Err(format!("{next} is no term of a domain")),
    }
}

fn leaf(found: &Value, operator: &str, value: &Value) -> Result<bool, String> {
    let is = |value: &Value| compare(found, value) == Some(Ordering::Equal);
    let order = || compare(found, value).ok_or_else(|| format!("{found} cannot be compared"));
    let among = || match value.as_array() {
        Some(values) => Ok(values.iter().any(is)),
        None => Err(format!("{operator} wants a list")),
    };
    Ok(match operator {
        "=" => is(value),
        "!=" => !is(value),
        "in" => among()?,
        "not in" => !among()?,
        "<" => order()?.is_lt(),
        "<=" => order()?.is_le(),
        ">" => order()?.is_gt(),
        ">=" => order()?.is_ge(),
        other => return Err(format!("Invalid operator '{other}'")),
    })
}

/// Numbers by value, texts by their characters; nothing for values that have no order.
pub(super) fn compare(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => match (one.as_i64(), other.as_i64()) {
            (Some(one), Some(other)) => Some(one.cmp(&other)),
            _ => one.as_f64()?.partial_cmp(&other.as_f64()?),
        },
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        _ if one == other => Some(Ordering::Equal),
        _ => None,
    }
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("{value} is no text"))
}
