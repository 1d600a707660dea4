//! `WooCommerce`: a shop of one's own that tells once.
//!
//! A webhook is queued, its payload built when it is sent, and never sent again: whatever fails is lost,
//! and the seventh failure in a row disables the hook. Its delivery id is made of the second in which it
//! is sent, so that two deliveries can have the same. Before a hook is active it sends a form with its
//! own number, which must be answered exactly 200.
//!
//! A real shop has one hook for each topic. Here the three share one state: they are active, fail and are
//! disabled together.
//!
//! It is told quantities by `products/batch`, and by `products/{parent}/variations/batch`: the last one
//! counts, whatever it showed.
//!
//! Source: the plugin's own code, `class-wc-webhook.php`, `wc-webhook-functions.php` and its REST
//! controllers of products.

mod api;
mod payload;
mod products;

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, StatusCode, Uri,
    header::{CONNECTION, CONTENT_TYPE, HeaderValue, USER_AGENT},
};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    clock::Millis,
    sender::{
        Options,
        book::{Book, Change},
        call::{Answer, Call},
        dialect::{Dialect, Handshake, Manner, Message, Notice, Partial, Try},
    },
    shopify::sign,
    store::courier::hex,
};

/// The number of the hook for `order.created`; the others follow.
pub const HOOK_ID: u64 = 12;

const USER: &str = "WooCommerce/11.2.0 Hookshot (WordPress/6.9)";

const MANNER: Manner = Manner {
    answer_max: Duration::from_secs(60),
    accepted: 200..=302,
    waits: &[],
    // The count is tested before it is raised.
    failures_max: Some(7),
    gone_disables: false,
    coalesces: true,
    partial: Partial::Refunds,
    moves: &[],
};

pub(crate) struct Shop {
    /// As the plugin signs with it: with its HTML entities decoded.
    secret: String,
    key: String,
    key_secret: String,
    /// Listings whose stock is not managed.
    unmanaged: BTreeSet<u64>,
}

impl Shop {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            secret: unescaped(&options.secret),
            key: options.api_id.clone(),
            key_secret: options.api_secret.clone(),
            unmanaged: options.unmanaged.clone(),
        }
    }
}

impl Dialect for Shop {
    fn manner(&self) -> &Manner {
        &MANNER
    }

    fn tell(&mut self, book: &Book, change: Change) -> Vec<Notice> {
        let (topic, id) = match change {
            Change::Placed { order } => ("order.created", order),
            Change::Cancelled { order }
            | Change::Reduced { order, .. }
            | Change::Shipped { order } => ("order.updated", order),
            Change::Trashed { order } => ("order.deleted", order),
            Change::Moved { .. } => return Vec::new(),
        };
        let order = book.orders.get(&id).into_iter();
        order.map(|order| Notice::new(topic, id, order.version, order.modified_ms)).collect()
    }

    fn compose(&mut self, book: &Book, notice: &Notice, try_: &Try<'_>) -> Message {
        let body = match book.orders.get(&notice.subject) {
            Some(order) if notice.topic != "order.deleted" => payload::order(order),
            _ => json!({"id": notice.subject}),
        };
        let body = Bytes::from(payload::php_json(&body));
        let (resource, event) = notice.topic.split_once('.').unwrap_or(("", ""));
        let hook = HOOK_ID
            + match event {
                "created" => 0,
                "updated" => 1,
                _ => 2,
            };
        let mut message = Message::json(
            &[
                ("x-wc-webhook-source", "https://shop.example/"),
                ("x-wc-webhook-topic", notice.topic),
                ("x-wc-webhook-resource", resource),
                ("x-wc-webhook-event", event),
                ("x-wc-webhook-signature", &sign::signature(&self.secret, &body)),
                ("x-wc-webhook-id", &hook.to_string()),
                ("x-wc-webhook-delivery-id", &delivery_id(hook, try_.now)),
                ("user-agent", USER),
                ("connection", "close"),
            ],
            body,
        );
        message.old_http = true;
        message
    }

    fn handshake(&self, target: &Uri, _nonce: &str) -> Option<Handshake> {
        let mut headers = HeaderMap::new();
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, form);
        headers.insert(USER_AGENT, HeaderValue::from_static("WordPress/6.9; https://shop.example"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        let request = sign::request(target, headers, Bytes::from(format!("webhook_id={HOOK_ID}")));
        let request: hyper::Request<Full<Bytes>> = request;
        Some(Handshake { request, proves: Box::new(|status, _| status == StatusCode::OK) })
    }

    fn answer(&mut self, book: &mut Book, call: &Call, now: Millis) -> Answer {
        let by_query = || {
            let (key, secret) = (call.param("consumer_key"), call.param("consumer_secret"));
            Some((key?.to_owned(), secret?.to_owned()))
        };
        let user = call.basic().or_else(by_query);
        let known = user.is_some_and(|(key, secret)| key == self.key && secret == self.key_secret);
        if products::are_asked(call) {
            return products::answer(self, book, call, (known, now));
        }
        api::answer(book, call, known)
    }
}

/// `wp_hash` of the hook and the second: two deliveries of one hook in one second share it.
fn delivery_id(hook: u64, now: Millis) -> String {
    let digest = Sha256::digest(format!("{hook}{}", now.div_euclid(1000)));
    hex(digest.get(..16).unwrap_or_default())
}

/// `wp_specialchars_decode(…, ENT_QUOTES)`.
fn unescaped(secret: &str) -> String {
    let entities =
        [("&quot;", "\""), ("&#039;", "'"), ("&#x27;", "'"), ("&lt;", "<"), ("&gt;", ">")];
    let text = entities.iter().fold(secret.to_owned(), |text, (from, to)| text.replace(from, to));
    text.replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An id that tells deliveries apart would hide that the real one does not.
    #[test]
    fn deliveries_of_one_second_share_an_id() {
        assert_eq!(delivery_id(12, 1_795_186_800_001), delivery_id(12, 1_795_186_800_999));
        assert_ne!(delivery_id(12, 1_795_186_800_999), delivery_id(12, 1_795_186_801_000));
        assert_ne!(delivery_id(12, 0), delivery_id(13, 0));
        assert_eq!(delivery_id(12, 0).len(), 32);
    }

    /// The secret that the shop's admin shows is not always the key that signs.
    #[test]
    fn the_secret_is_decoded_once() {
        assert_eq!(unescaped("a&amp;b&quot;c&#039;d&lt;e&gt;f"), "a&b\"c'd<e>f");
        assert_eq!(unescaped("&amp;lt;"), "&lt;");
        assert_eq!(unescaped("plain_-9"), "plain_-9");
    }
}
