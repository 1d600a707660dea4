//! Parsers of what is pushed: any headers and any body, twice.

use channels::{Parsed, Verified, amazon, ebay, generic, odoo, shopify, walmart, woocommerce};
use http::HeaderMap;

use crate::sent::{Sent, stretched};
use crate::sound;

/// The same twice, and sound.
fn twice(input: &[u8], parse: impl Fn(&HeaderMap, Verified<'_>) -> Parsed) {
    let sent = Sent::read(input);
    let parsed = sent.parsed(&parse);
    assert_eq!(parsed, sent.parsed(&parse), "the same bytes were read in two ways");
    sound::parsed(&parsed, sent.len());
}

/// A message of SNS, and one of a queue in any envelope.
pub(crate) fn amazon(input: &[u8]) {
    twice(input, |_, body| amazon::parse(body));
    let message = stretched(input);
    let parsed = amazon::notification(&message);
    assert_eq!(parsed, amazon::notification(&message), "the same bytes were read in two ways");
    sound::parsed(&parsed, message.len());
}

pub(crate) fn ebay(input: &[u8]) {
    twice(input, ebay::parse);
}

pub(crate) fn generic(input: &[u8]) {
    let sent = Sent::read(input);
    let settings = generic::Settings {
        ignore: sent.settings("ignore").into_iter().map(String::from).collect(),
        id_header: sent.setting("id_header").map(String::from),
    };
    twice(input, |headers, body| generic::parse(headers, body, &settings));
}

pub(crate) fn odoo(input: &[u8]) {
    twice(input, |headers, body| odoo::parse(headers, body, &odoo_settings()));
}

/// Two locations that the ledger knows, one under two ids, and one of customers.
pub(crate) fn odoo_settings() -> odoo::Settings {
    let locations = [(8, "main"), (9, "main"), (20, "berlin")];
    odoo::Settings {
        locations: locations.map(|(id, name)| (id, name.to_string())).into(),
        customers: [5].into(),
    }
}

pub(crate) fn shopify(input: &[u8]) {
    twice(input, shopify::parse);
}

pub(crate) fn walmart(input: &[u8]) {
    twice(input, walmart::parse);
}

pub(crate) fn woocommerce(input: &[u8]) {
    twice(input, woocommerce::parse);
}
