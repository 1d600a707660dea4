//! Sales channels: how each signs, what its deliveries mean, and how it is told a quantity.
//!
//! To add a channel: one folder here, one line in each `match` below, one folder of samples in `tests`.

pub mod outcome;
pub mod shopify;

use std::net::IpAddr;

use hyper::HeaderMap;
use sha2::{Digest, Sha256};
use state::Key;
use state::command::{Delivery, Fact};
use state::origin::Lane;

use crate::config;
use crate::signature::{self, Refused, Verified};

pub use outcome::{PushError, Row, RowOutcome};

/// An authentic webhook, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Understood {
    /// It says something about stock.
    Facts(Vec<Fact>),
    /// It changes no stock.
    Ignored(&'static str),
    /// It cannot be understood, for this reason: kept as a dead letter.
    Dead(String),
}

/// Verifies a body as the channel's kind signs it.
pub fn verify<'a>(
    channel: &config::Channel,
    headers: &HeaderMap,
    body: &'a [u8],
) -> Result<Verified<'a>, Refused> {
    let secrets = channel.secrets.iter().map(|secret| secret.expose().as_bytes());
    match channel.kind.as_str() {
        "shopify" => signature::shopify(headers, body, secrets),
        _ => Err(Refused),
    }
}

/// Makes a delivery of a verified body. Pure: the time is an argument.
pub fn deliver(
    channel: &config::Channel,
    headers: &HeaderMap,
    body: Verified<'_>,
    received_ms: u64,
) -> (Delivery, Result<(), &'static str>) {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let (sender_id, topic, understood) = match channel.kind.as_str() {
        "shopify" => {
            let topic = shopify::topic(&header).unwrap_or_default();
            (shopify::delivery_id(&header), topic, shopify::parse::parse(topic, body))
        }
        _ => (None, "", Understood::Dead("the channel's kind is not spoken here".into())),
    };
    let hash = Sha256::digest(body.bytes());
    let sender_id = sender_id.map_or_else(|| hex(&hash), str::to_string);
    let id = format!("{}:{sender_id}", channel.name);
    let (facts, ignored) = match understood {
        Understood::Facts(facts) => (facts, Ok(())),
        Understood::Ignored(why) => (Vec::new(), Err(why)),
        Understood::Dead(reason) => {
            (vec![Fact::Dead { reason, body: body.bytes().to_vec() }], Ok(()))
        }
    };
    let delivery = Delivery {
        key: key(id.as_bytes()),
        body: key(body.bytes()),
        id,
        channel: channel.name.clone(),
        topic: topic.chars().take(state::limits::NAME_LEN_MAX).collect(),
        received_ms,
        facts,
    };
    (delivery, ignored)
}

/// Decrements go first.
#[must_use]
pub fn lane(delivery: &Delivery) -> Lane {
    let is_sale = |fact: &Fact| matches!(fact, Fact::Image { .. });
    if delivery.facts.iter().any(is_sale) { Lane::Urgent } else { Lane::Normal }
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

/// An API is reached by https, or on loopback. The URL is not said: it may hold a password.
pub fn check_base_url(url: &str) -> Result<(), String> {
    let uri: hyper::Uri = url.parse().map_err(|_| "this is no URL")?;
    let host = uri.host().ok_or("this URL names no host")?;
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let loopback = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if loopback => Ok(()),
        _ => Err("must begin with https:// (http:// on loopback only)".into()),
    }
}
