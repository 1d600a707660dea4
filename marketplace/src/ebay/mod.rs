//! eBay: a seller whose notifications name an order and say nothing about it.
//!
//! Before anything is sent the endpoint must answer a challenge. Each line of a new order is told by one
//! `ORDER_CONFIRMATION`, signed with ECDSA (P-256, SHA-1) by a key that the API hands out, and tried again
//! with another count and date: the bodies of two tries differ. What becomes of an order later is never
//! told: only its API knows.
//!
//! It is told quantities by `bulk_update_price_quantity`: the total of an inventory item, and what each of
//! its offers may show of it. The smaller one is listed.
//!
//! Source: eBay's own event notification SDK, the `AsyncAPI` document of `ORDER_CONFIRMATION`, and the
//! OAS documents of the Notification, Fulfillment and Inventory APIs. The times of its retries are not published:
//! these are invented.

mod api;
mod inventory;
mod token;

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hyper::{HeaderMap, Method, StatusCode, Uri};
use p256::{
    ecdsa::{Signature, SigningKey, signature::hazmat::PrehashSigner},
    pkcs8::{EncodePublicKey, LineEnding},
};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    clock::{Millis, utc_time},
    door::Refusal,
    random::{Random, name_hash},
    sender::{
        Options,
        book::{Book, Change, Order},
        call::{Answer, Call},
        dialect::{Dialect, Handshake, Manner, Message, Notice, Partial, Try},
        tokens::Tokens,
    },
    shopify::sign,
    store::courier::hex,
};
pub use inventory::offer_id;
use token::Grant;

/// How long an access token lives.
const TOKEN_LIFE: Duration = Duration::from_secs(7200);
const MINUTE: u64 = 60;

const MANNER: Manner = Manner {
    answer_max: Duration::from_secs(3),
    accepted: 200..=299,
    waits: &[
        Duration::from_secs(10),
        Duration::from_secs(MINUTE),
        Duration::from_secs(5 * MINUTE),
        Duration::from_secs(30 * MINUTE),
        Duration::from_secs(60 * MINUTE),
        Duration::from_secs(3 * 60 * MINUTE),
        Duration::from_secs(6 * 60 * MINUTE),
        Duration::from_secs(12 * 60 * MINUTE),
    ],
    failures_max: None,
    gone_disables: false,
    coalesces: false,
    partial: Partial::No,
    moves: &[],
};

pub(crate) struct Seller {
    options: Options,
    key: SigningKey,
    key_id: String,
    tokens: Tokens<Grant>,
    /// Units of an inventory item beyond what its offer shows, by item.
    hidden: BTreeMap<usize, i64>,
}

impl Seller {
    pub(crate) fn new(options: &Options) -> Self {
        let seed = options.seed ^ name_hash(&options.name) ^ name_hash("key pair");
        Self {
            options: options.clone(),
            key: signing_key(seed),
            key_id: Random::new(seed).uuid(),
            tokens: Tokens::new(options.token_life.unwrap_or(TOKEN_LIFE), seed.rotate_left(1)),
            hidden: BTreeMap::new(),
        }
    }

    /// What `X-EBAY-SIGNATURE` holds for a body.
    fn signature(&self, body: &[u8]) -> Option<String> {
        let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, body);
        let signature: Signature = self.key.sign_prehash(digest.as_ref()).ok()?;
        let signature = STANDARD.encode(signature.to_der());
        let header = json!({
            "alg": "ecdsa", "kid": self.key_id, "signature": signature, "digest": "SHA1",
        });
        Some(STANDARD.encode(header.to_string()))
    }

    /// The public key as `getPublicKey` has it: PEM on one line.
    fn public_key(&self, key_id: &str) -> Option<Value> {
        let pem = self.key.verifying_key().to_public_key_pem(LineEnding::LF).ok()?;
        let key = pem.replace('\n', "");
        (key_id == self.key_id).then(|| json!({"key": key, "algorithm": "ECDSA", "digest": "SHA1"}))
    }
}

impl Dialect for Seller {
    fn manner(&self) -> &Manner {
        &MANNER
    }

    fn tell(&mut self, book: &Book, change: Change) -> Vec<Notice> {
        let Change::Placed { order } = change else { return Vec::new() };
        let Some(order) = book.orders.get(&order) else { return Vec::new() };
        let notice = |line: u32| {
            let at = order.created_ms;
            let mut notice = Notice::new("ORDER_CONFIRMATION", order.id, line, at);
            notice.reference = self.order_name(order);
            notice
        };
        (1..).zip(&order.lines).map(|(line, _)| notice(line)).collect()
    }

    fn compose(&mut self, _book: &Book, notice: &Notice, try_: &Try<'_>) -> Message {
        let body = json!({
            "metadata": {"topic": notice.topic, "schemaVersion": "1.0", "deprecated": false},
            "notification": {
                "notificationId": notice.id,
                "eventDate": utc_time(notice.at_ms),
                "publishDate": utc_time(try_.now),
                "publishAttemptCount": try_.number,
                "data": {"orderId": notice.reference},
            },
        });
        let body = Bytes::from(body.to_string());
        let signature = self.signature(&body).unwrap_or_default();
        let agent = ("user-agent", "eBayNioHttpClient 1.0");
        Message::json(&[("x-ebay-signature", &signature), agent], body)
    }

    fn handshake(&self, target: &Uri, nonce: &str) -> Option<Handshake> {
        let code = nonce.replace('-', "");
        let text = target.to_string();
        let join = if text.contains('?') { '&' } else { '?' };
        let asked: Uri = format!("{text}{join}challenge_code={code}").parse().ok()?;
        let mut request = sign::request(&asked, HeaderMap::new(), Bytes::new());
        *request.method_mut() = Method::GET;
        let endpoint = self.options.endpoint.as_ref().unwrap_or(&text);
        let hash = Sha256::new()
            .chain_update(&code)
            .chain_update(&self.options.verification_token)
            .chain_update(endpoint);
        let wanted = hex(&hash.finalize());
        let proves = move |status: StatusCode, body: &str| {
            let answer: Value = serde_json::from_str(body).unwrap_or_default();
            let response = answer.get("challengeResponse").and_then(Value::as_str);
            status == StatusCode::OK && response == Some(&*wanted)
        };
        Some(Handshake { request, proves: Box::new(proves) })
    }

    fn answer(&mut self, book: &mut Book, call: &Call, now: Millis) -> Answer {
        api::answer(self, book, call, now)
    }

    fn refused(&self, refusal: Refusal) -> Answer {
        match refusal {
            Refusal::ServerError(status) => {
                token::error(status, 25001, "API_INVENTORY", "A system error has occurred.")
            }
            // It does not say how long to wait.
            Refusal::Throttled { .. } => token::error(429, 2001, "ACCESS", "Too many requests."),
        }
    }

    fn expire_tokens(&mut self) {
        self.tokens.expire();
    }

    /// `12-34567-89012`.
    fn order_name(&self, order: &Order) -> String {
        let digits = format!("{:012}", order.id);
        let (first, rest) = digits.split_at_checked(digits.len() - 10).unwrap_or(("", &digits));
        let (second, third) = rest.split_at_checked(5).unwrap_or((rest, ""));
        format!("{first}-{second}-{third}")
    }
}

/// A key pair that depends on the seed alone. Not for secrets.
fn signing_key(seed: u64) -> SigningKey {
    let hash =
        |nth: u64| Sha256::new().chain_update(seed.to_be_bytes()).chain_update(nth.to_be_bytes());
    let mut keys = (0..u64::MAX).map(|nth| SigningKey::from_slice(&hash(nth).finalize()));
    // One of 2^32 hashes is no key.
    keys.find_map(Result::ok).unwrap_or_else(|| unreachable!())
}
