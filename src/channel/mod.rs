//! Sales channels: from a verified request to a [`Delivery`], and the clients of the channels' APIs.
//!
//! How each channel signs and what its payloads mean is the room `channels`.

pub mod account;
pub mod amazon;
pub mod api;
pub mod compared;
pub mod ebay;
pub mod odoo;
pub mod outcome;
pub mod pushed;
pub mod shopify;
pub mod source;
pub mod target;
pub mod token;
pub mod walmart;
pub mod woocommerce;

use std::net::IpAddr;

use channels::{Parsed, Understood, Verified};
use hyper::HeaderMap;
use hyper::header::HeaderValue;
use sha2::{Digest, Sha256};
use state::Key;
use state::command::{Delivery, Fact};

use crate::config;
use crate::route::Router;

pub use outcome::{Answered, Calls, Place, PushError, Quantities, Row, RowOutcome};
pub use source::Orders;
pub use target::Target;

/// Takes a verified webhook apart as the channel's kind means it. Pure.
#[must_use]
pub fn parse(channel: &config::Channel, headers: &HeaderMap, body: Verified<'_>) -> Parsed {
    match channel.kind.as_str() {
        "shopify" => channels::shopify::parse(headers, body),
        "woocommerce" => channels::woocommerce::parse(headers, body),
        "amazon" => channels::amazon::parse(body),
        "ebay" => channels::ebay::parse(headers, body),
        "walmart" => channels::walmart::parse(headers, body),
        "odoo" => channels::odoo::parse(headers, body, &channel.meaning.odoo),
        "generic" => channels::generic::parse(headers, body, &channel.meaning.generic),
        _ => Parsed::new("", Understood::Dead("the channel's kind is not spoken here".into())),
    }
}

/// What is understood now of a webhook that was kept because nothing was: the kind's parser, or the channel's
/// settings, may have learned since. Of its headers only the topic is known.
#[must_use]
pub fn parse_again(channel: &config::Channel, topic: &str, body: &[u8]) -> Option<Vec<Fact>> {
    let mut headers = HeaderMap::new();
    let topic = HeaderValue::from_str(topic).ok()?;
    headers.insert("x-shopify-topic", topic.clone());
    headers.insert("x-wc-webhook-topic", topic);
    let facts = |parsed: Parsed| match parsed.understood {
        Understood::Facts(facts) => Some(facts),
        Understood::Ignored(_) | Understood::Dead(_) | Understood::Confirm(_) => None,
    };
    let read = facts(parse(channel, &headers, Verified::before(body)));
    // What came by a queue has no envelope.
    let bare = || facts(channels::amazon::notification(body)).filter(|_| channel.kind == "amazon");
    read.or_else(bare)
}

/// What becomes of an authentic delivery.
#[derive(Debug)]
pub enum Meant {
    /// It must be kept. With a reason: as a dead letter.
    Delivery(Box<Delivery>, Option<String>),
    /// It changes nothing, for this reason.
    Ignored(String),
    /// A subscription asks to be confirmed by a visit of this URL.
    Confirm(String),
}

/// Makes a delivery of what was understood of a body, with what it publishes. Pure but for what the router
/// knows of orders: the time is an argument. What changes nothing is kept all the same where it is published.
#[must_use]
pub fn deliver(
    router: &Router,
    channel: &str,
    parsed: Parsed,
    raw: &[u8],
    received_ms: u64,
) -> Meant {
    let (facts, dead, ignored) = match parsed.understood {
        Understood::Facts(facts) => (facts, None, None),
        Understood::Ignored(why) => (Vec::new(), None, Some(why)),
        Understood::Confirm(url) => return Meant::Confirm(url),
        Understood::Dead(reason) => {
            (vec![Fact::Dead { reason: reason.clone(), body: raw.to_vec() }], Some(reason), None)
        }
    };
    let sender_id = parsed.id.unwrap_or_else(|| hex(&Sha256::digest(raw)));
    let id = format!("{channel}:{sender_id}");
    let mut delivery = Delivery {
        key: key(id.as_bytes()),
        body: key(parsed.essence.as_deref().unwrap_or(raw)),
        id,
        channel: channel.into(),
        topic: parsed.topic,
        received_ms,
        raw: if facts.iter().any(may_wait) { raw.to_vec() } else { Vec::new() },
        facts,
        publish: Vec::new(),
    };
    delivery.publish = router.publish(&delivery, raw);
    match ignored {
        Some(why) if delivery.publish.is_empty() => Meant::Ignored(why),
        _ => Meant::Delivery(Box::new(delivery), dead),
    }
}

/// Whether something in it names no SKU, and may have to wait for a mapping.
fn may_wait(fact: &Fact) -> bool {
    match fact {
        Fact::Image { lines, .. } => lines.iter().any(|line| line.sku.is_none()),
        Fact::Moved(moved) => moved.sku.is_none(),
        _ => false,
    }
}

/// The first half of a SHA-256: what the agreed state knows of names and bodies.
#[must_use]
pub fn key(bytes: &[u8]) -> Key {
    let mut key = Key::default();
    key.copy_from_slice(Sha256::digest(bytes).get(..16).unwrap_or(&[0; 16]));
    key
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// An API is reached by https, or on loopback, at a URL without a query. The URL is not said: it may hold a
/// password.
pub fn check_base_url(url: &str) -> Result<(), String> {
    let uri: hyper::Uri = url.parse().map_err(|_| "this is no URL")?;
    if url.contains(['?', '#']) {
        return Err("the URL of an API has neither a query nor a fragment".into());
    }
    let host = uri.host().ok_or("this URL names no host")?;
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let loopback = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if loopback => Ok(()),
        _ => Err("must begin with https:// (http:// on loopback only)".into()),
    }
}

/// Whether a URL names an address of a private network by its number: no marketplace is there. Loopback is not
/// meant.
#[must_use]
pub fn is_private(url: &str) -> bool {
    let uri: Option<hyper::Uri> = url.parse().ok();
    let host = uri.as_ref().and_then(hyper::Uri::host).unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let Ok(address) = address.map(|address| address.to_canonical()) else { return false };
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            let shared = first == 100 && (64..128).contains(&second);
            v4.is_private() || v4.is_link_local() || shared || first == 0
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_unspecified(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A number that was mistyped, or put there by somebody else, would have a node call whatever listens beside
    // it: a cloud's metadata, for one.
    #[test]
    fn no_marketplace_is_on_a_private_network() {
        for private in [
            "https://10.1.2.3/api",
            "https://192.168.0.9:8443",
            "https://172.20.0.1",
            "https://169.254.169.254",
            "https://100.64.0.1",
            "https://0.0.0.0",
            "https://[fd00::1]:8443",
            "https://[fe80::1]",
            "https://[::ffff:10.0.0.1]",
        ] {
            assert!(is_private(private), "{private}");
        }
        for public in
            ["https://a.example", "https://93.184.216.34", "http://127.0.0.1:1", "http://[::1]:1"]
        {
            assert!(!is_private(public), "{public}");
        }
    }
}
