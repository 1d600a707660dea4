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
    let count = count(&value);
    let other = nth(&mut value, &mut draw.below(count))?.clone();
    let place = nth(&mut value, &mut draw.below(count))?;
    match place {
        Value::String(text) if draw.below(3) > 0 => {
            // A text may hold JSON itself, as in the envelopes of a queue.
            *text = match serde_json::from_str::<Value>(text) {
                Ok(Value::Object(inner)) => {
                    let inner = Value::Object(inner).to_string();
                    String::from_utf8(json(inner.as_bytes(), seed ^ 1, len_max)?).ok()?
                }
                Ok(Value::Number(_)) => draw.of(&NUMBERS)?.to_string(),
                _ => misspelt(text, &mut draw)?,
            };
        }
        Value::Number(_) if draw.below(3) > 0 => {
            *place = serde_json::from_str(draw.of(&NUMBERS)?).ok()?;
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

/// Numbers at which readers of numbers break.
const NUMBERS: [&str; 14] = [
    "0",
    "1",
    "2",
    "-1",
    "2.0",
    "0.5",
    "1e300",
    "1000000000",
    "1000000001",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "253402300800000",
];

/// A text with one character more, less or other: those of times, names and URLs.
fn misspelt(text: &str, draw: &mut Draw) -> Option<String> {
    let mut characters: Vec<char> = text.chars().collect();
    let at = draw.below(characters.len() + 1);
    let until = characters.len().min(at + draw.below(2));
    let put =
        *draw.of(&['x', 'Z', '0', '9', '.', '/', '?', '@', ':', '-', '+', ' ', '\n', '\u{e9}'])?;
    characters.splice(at..until, (draw.below(3) > 0).then_some(put));
    Some(characters.into_iter().collect())
}

/// Values at which readers of anything break.
fn spoilt(draw: &mut Draw) -> Value {
    match draw.below(12) {
        0 => json!(null),
        1 => json!(true),
        2 => json!(false),
        3 => json!(""),
        4 => json!(" "),
        5 => json!("x".repeat(256)),
        6 => json!("\u{fc}".repeat(129)),
        7 => json!([]),
        8 => json!({}),
        9 => json!("9999-12-30T22:00:00Z"),
        10 => json!("1"),
        _ => json!(1),
    }
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
    fn of<'a, T>(&mut self, values: &'a [T]) -> Option<&'a T> {
        values.get(self.below(values.len()))
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or(0) % end.max(1)
    }
}
