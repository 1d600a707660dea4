//! Sales channels: from a verified request to a [`Delivery`], and the clients of the channels' APIs.
//!
//! How each channel signs and what its payloads mean is the room `channels`.

pub mod api;
pub mod outcome;
pub mod shopify;
pub mod token;

use std::net::IpAddr;

use channels::signature::{self, Refused, Request, Verified};
use channels::{Parsed, Understood};
use hyper::HeaderMap;
use sha2::{Digest, Sha256};
use state::Key;
use state::command::{Delivery, Fact};
use state::origin::Lane;

use crate::config;

pub use outcome::{PushError, Row, RowOutcome};

/// Verifies a body as the channel's kind signs it.
pub fn verify<'a>(
    channel: &config::Channel,
    request: &Request<'a>,
) -> Result<Verified<'a>, Refused> {
    let secrets = channel.secrets.iter().map(|secret| secret.expose().as_bytes());
    match channel.kind.as_str() {
        "shopify" => signature::shopify::verify(request.headers, request.body, secrets),
        _ => Err(Refused),
    }
}

/// Makes a delivery of a verified body. Pure: the time is an argument.
pub fn deliver(
    channel: &config::Channel,
    headers: &HeaderMap,
    body: Verified<'_>,
    received_ms: u64,
) -> (Delivery, Result<(), String>) {
    let parsed = match channel.kind.as_str() {
        "shopify" => channels::shopify::parse(headers, body),
        _ => Parsed::new("", Understood::Dead("the channel's kind is not spoken here".into())),
    };
    delivery(&channel.name, parsed, body.bytes(), received_ms)
}

fn delivery(
    channel: &str,
    parsed: Parsed,
    raw: &[u8],
    received_ms: u64,
) -> (Delivery, Result<(), String>) {
    let sender_id = parsed.id.unwrap_or_else(|| hex(&Sha256::digest(raw)));
    let id = format!("{channel}:{sender_id}");
    let (facts, ignored) = match parsed.understood {
        Understood::Facts(facts) => (facts, Ok(())),
        Understood::Ignored(why) => (Vec::new(), Err(why)),
        Understood::Dead(reason) => (vec![Fact::Dead { reason, body: raw.to_vec() }], Ok(())),
        Understood::Confirm(_) => (Vec::new(), Err("a subscription".into())),
    };
    let delivery = Delivery {
        key: key(id.as_bytes()),
        body: key(parsed.essence.as_deref().unwrap_or(raw)),
        id,
        channel: channel.into(),
        topic: parsed.topic,
        received_ms,
        raw: Vec::new(),
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
