//! What is in messages: read, shown and searched.

use serde::Deserialize;
use serde_json::Value;
use state::data::DeadLetter;
use state::queue::Message;
use state::reply::Kept;
use utoipa::IntoParams;

use super::Problem;
use crate::history::Bodies;
use crate::notice::body_of;

/// What a message must say to be listed; all of what is given.
#[derive(Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Text somewhere in it.
    text: Option<String>,
    /// A member `order` of it, at any depth.
    order: Option<String>,
    /// A member `sku`.
    sku: Option<String>,
    /// A member `channel`.
    channel: Option<String>,
    /// A member `delivery`.
    delivery: Option<String>,
    /// Its key.
    key: Option<String>,
}

/// The key and the body of a message; nothing if the body is gone.
pub(super) fn read(
    bodies: &mut Bodies,
    message: &Message,
) -> Result<Option<(Option<String>, Value)>, Problem> {
    let kept = bodies.get(message.index, message.n);
    let kept = kept.map_err(|error| Problem::internal(error.to_string()))?;
    Ok(kept.map(|kept| match kept {
        Kept::Message { key, body } => (key, shown(&body)),
        Kept::Notice(notice) => {
            let sku = notice.sku.clone();
            let body = body_of(Kept::Notice(notice), (message.index, message.n));
            (Some(sku), shown(&body.unwrap_or_default()))
        }
        Kept::Body(body) => (None, shown(&body)),
        Kept::Facts(facts) => (None, Value::String(format!("{facts:?}"))),
    }))
}

/// JSON as it is, anything else as text.
fn shown(body: &[u8]) -> Value {
    serde_json::from_slice(body)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()))
}

impl Filter {
    /// Whether it takes a dead letter, of which only the channel and the delivery are known here.
    pub(super) fn takes_letter(&self, letter: &DeadLetter) -> bool {
        let Self { text, order, sku, channel, delivery, key } = self;
        [text, order, sku, key].iter().all(|wanted| wanted.is_none())
            && channel.as_ref().is_none_or(|channel| letter.channel == *channel)
            && delivery.as_ref().is_none_or(|delivery| letter.delivery == *delivery)
    }

    pub(super) fn takes(&self, key: Option<&str>, body: &Value) -> bool {
        let Self { text, order, sku, channel, delivery, key: wanted } = self;
        let members =
            [("order", order), ("sku", sku), ("channel", channel), ("delivery", delivery)];
        let member = |(name, wanted): &(&str, &Option<String>)| {
            wanted.as_ref().is_none_or(|w| says(body, name, w))
        };
        wanted.as_deref().is_none_or(|wanted| key == Some(wanted))
            && members.iter().all(member)
            && text.as_ref().is_none_or(|text| body.to_string().contains(text))
    }
}

/// Whether a member of this name somewhere says this. As deep as JSON is read, so the stack is bounded.
fn says(body: &Value, name: &str, wanted: &str) -> bool {
    match body {
        Value::Object(members) => members.iter().any(|(member, value)| {
            let said = match value {
                Value::String(text) => text == wanted,
                Value::Number(number) => number.to_string() == wanted,
                _ => false,
            };
            (member == name && said) || says(value, name, wanted)
        }),
        Value::Array(items) => items.iter().any(|item| says(item, name, wanted)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    // An operator who looks for an order must find it, and no other.
    #[test]
    fn a_filter_takes_what_says_so() {
        let body = json!({"order": 450, "lines": [{"sku": "MUG"}, {"sku": "TEE"}]});
        let filter = |query: &str| -> Filter { serde_json::from_str(query).unwrap_or_default() };
        for (query, taken) in [
            ("{}", true),
            (r#"{"order":"450"}"#, true),
            (r#"{"order":"45"}"#, false),
            (r#"{"order":"450","sku":"TEE"}"#, true),
            (r#"{"sku":"450"}"#, false),
            (r#"{"text":"MUG"}"#, true),
            (r#"{"text":"CUP"}"#, false),
            (r#"{"key":"k"}"#, true),
            (r#"{"key":"l"}"#, false),
        ] {
            assert_eq!(filter(query).takes(Some("k"), &body), taken, "{query}");
        }
    }
}
