//! Changes of an input that a fuzzer of bytes hardly ever finds: one value of the JSON in it becomes another.

use serde_json::{Value, json};

use crate::sent;

/// Changes one value of the body, after the headers, if it is JSON. `None` if it is not, or if the result
/// would be longer than that.
#[must_use]
pub fn json(input: &[u8], seed: u32, len_max: usize) -> Option<Vec<u8>> {
    let mut draw = Draw(u64::from(seed));
    // Where there are no headers the whole is the body.
    let mut head = input.len() - sent::body(input).len();
    let mut value: Value = serde_json::from_slice(input.get(head..)?)
        .or_else(|_| {
            head = 0;
            serde_json::from_slice(input)
        })
        .ok()?;
    // A text may hold JSON itself, as in the envelopes of a queue.
    let count = count(&value);
    let other = nth(&mut value, &mut draw.below(count))?.clone();
    let place = nth(&mut value, &mut draw.below(count))?;
    match place {
        Value::String(text) if draw.below(2) == 0 => {
            if let Ok(inner) = serde_json::from_str::<Value>(text) {
                *text = String::from_utf8(json(inner.to_string().as_bytes(), seed ^ 1, len_max)?)
                    .ok()?;
            } else {
                *place = spoilt(&mut draw);
            }
        }
        Value::Array(list) if !list.is_empty() && draw.below(2) == 0 => {
            let n = draw.below(list.len());
            match draw.below(3) {
                0 => drop(list.remove(n)),
                1 => list.extend(list.clone()),
                _ => list.push(list.get(n)?.clone()),
            }
        }
        Value::Object(map) if !map.is_empty() && draw.below(2) == 0 => {
            let name = map.keys().nth(draw.below(map.len()))?.clone();
            map.remove(&name);
        }
        _ if draw.below(3) == 0 => *place = other,
        _ => *place = spoilt(&mut draw),
    }
    let bytes = [input.get(..head)?, value.to_string().as_bytes()].concat();
    (bytes.len() <= len_max).then_some(bytes)
}

/// Values at which readers of numbers, names and times break.
fn spoilt(draw: &mut Draw) -> Value {
    let values = [
        json!(null),
        json!(true),
        json!(false),
        json!(""),
        json!(" "),
        json!("0"),
        json!("2.0"),
        json!("-1"),
        json!(0),
        json!(1),
        json!(-1),
        json!(0.5),
        json!(1e300),
        json!(1_000_000_000),
        json!(1_000_000_001),
        json!(i64::MIN),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(i64::MAX.to_string()),
        json!("x".repeat(256)),
        json!("ü".repeat(129)),
        json!([]),
        json!({}),
        json!("1969-12-31T23:59:59Z"),
        json!("9999-12-30T22:00:00Z"),
        json!("2026-11-20T15:00:00+25:59"),
    ];
    values.get(draw.below(values.len())).cloned().unwrap_or_default()
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum(),
        _ => 0,
    }
}

fn nth<'a>(value: &'a mut Value, n: &mut usize) -> Option<&'a mut Value> {
    if *n == 0 {
        return Some(value);
    }
    *n -= 1;
    match value {
        Value::Array(list) => list.iter_mut().find_map(|value| nth(value, n)),
        Value::Object(map) => map.values_mut().find_map(|value| nth(value, n)),
        _ => None,
    }
}

/// Splitmix64: the same seed, the same change.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or(0) % end.max(1)
    }
}
