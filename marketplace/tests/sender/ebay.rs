//! eBay: a challenge first, signed notifications that say little, and an API behind tokens.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use marketplace::sender::{Kind, Options, Sender};
use ring::{
    digest,
    signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey},
};
use serde_json::{Value, json};

use crate::support::{
    Answered, Receiver, Reply, Seen, add, busy, call, distinct, open, options, settle, sha256_hex,
    soon, truth,
};

const TOKEN: &str = "simulated_verification_token_of_a_seller";

fn ebay() -> Options {
    options(Kind::Ebay)
}

/// The right answer to a challenge, for the endpoint that was asked.
fn challenge(seen: &Seen) -> Option<Reply> {
    let (path, code) = seen.path.split_once("?challenge_code=")?;
    let endpoint = format!("http://{}{path}", seen.header("host"));
    let hex = sha256_hex(format!("{code}{TOKEN}{endpoint}").as_bytes());
    Some(Reply(200, json!({"challengeResponse": hex}).to_string()))
}

/// A receiver that answers challenges rightly, and notifications with this status.
async fn receiver(status: impl Fn(usize) -> u16 + Send + Sync + 'static) -> Receiver {
    Receiver::open(move |nth, seen: &Seen| challenge(seen).unwrap_or(status(nth).into())).await
}

fn notifications(receiver: &Receiver) -> Vec<Seen> {
    receiver.seen().into_iter().filter(|seen| seen.method == "POST").collect()
}

async fn token(sender: &Sender, form: &str) -> Answered {
    let Options { api_id, api_secret, .. } = sender.options();
    let user = format!("Basic {}", STANDARD.encode(format!("{api_id}:{api_secret}")));
    let url = format!("{}/identity/v1/oauth2/token", sender.url());
    call("POST", &url, &[("Authorization", &user)], form).await.unwrap()
}

async fn bearer(sender: &Sender, form: &str) -> String {
    let answer = token(sender, form).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    format!("Bearer {}", answer.body["access_token"].as_str().unwrap())
}

async fn application(sender: &Sender) -> String {
    bearer(sender, "grant_type=client_credentials&scope=https%3A%2F%2Fapi.ebay.com").await
}

async fn seller(sender: &Sender) -> String {
    bearer(sender, "grant_type=refresh_token&refresh_token=simulated-refresh-token").await
}

async fn get(url: &str, bearer: &str) -> Answered {
    call("GET", url, &[("Authorization", bearer)], "").await.unwrap()
}

/// The signature is ECDSA over SHA-1 by the published key, and not over SHA-256.
fn verify(seen: &Seen, pem: &str) {
    use p256::{
        ecdsa::{DerSignature, VerifyingKey, signature::hazmat::PrehashVerifier},
        pkcs8::DecodePublicKey,
    };
    let header = STANDARD.decode(seen.header("x-ebay-signature")).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    assert_eq!((&header["alg"], &header["digest"]), (&json!("ecdsa"), &json!("SHA1")));
    let signature = STANDARD.decode(header["signature"].as_str().unwrap()).unwrap();
    let key = pem.replace("-----BEGIN PUBLIC KEY-----", "");
    let key = STANDARD.decode(key.replace("-----END PUBLIC KEY-----", "")).unwrap();
    let point = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key[key.len() - 65..]);
    assert!(point.verify(&seen.body, &signature).is_err(), "it is not SHA-256 that is signed");
    let key = VerifyingKey::from_public_key_der(&key).unwrap();
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &seen.body);
    key.verify_prehash(digest.as_ref(), &DerSignature::try_from(&*signature).unwrap()).unwrap();
}

/// A signature that cannot be verified with the key that the API hands out is worth nothing.
#[tokio::test]
async fn every_notification_is_signed_with_the_published_key() {
    let receiver = receiver(|_| 204).await;
    let sender = open(&receiver, ebay()).await;
    let order = sender.sell(&[("MUG", 2), ("TEE", 1)]).unwrap();
    sender.cancel(order).unwrap();
    soon(sender.drained()).await;
    let seen = notifications(&receiver);
    assert_eq!(seen.len(), 2, "one a line, none for what becomes of the order");
    let header = STANDARD.decode(seen[0].header("x-ebay-signature")).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    let id = header["kid"].as_str().unwrap();
    let url = format!("{}/commerce/notification/v1/public_key/{id}", sender.url());
    let key = get(&url, &application(&sender).await).await.body;
    assert_eq!((&key["algorithm"], &key["digest"]), (&json!("ECDSA"), &json!("SHA1")));
    let pem = key["key"].as_str().unwrap();
    assert!(!pem.contains('\n'));
    for seen in &seen {
        verify(seen, pem);
        let data = &seen.json()["notification"]["data"];
        assert_eq!(data, &json!({"orderId": sender.order_name(order).unwrap()}));
    }
    let ids = seen.iter().map(|s| s.json()["notification"]["notificationId"].to_string());
    assert_eq!(distinct(ids), 2);
    let unknown = format!("{}/commerce/notification/v1/public_key/other", sender.url());
    assert_eq!(get(&unknown, &application(&sender).await).await.status, 404);
    assert_eq!(get(&url, &seller(&sender).await).await.status, 403);
}

/// A sender that sends before the endpoint has proved itself would hide a broken handshake.
#[tokio::test]
async fn nothing_is_sent_before_the_challenge_is_met() {
    let receiver = Receiver::open(|nth, seen: &Seen| match nth {
        0 => 404.into(),
        1 => Reply(200, json!({"challengeResponse": "00"}).to_string()),
        _ => challenge(seen).unwrap_or(200.into()),
    });
    let receiver = receiver.await;
    let targets = vec![receiver.url.clone()];
    let sender = Sender::start(Options { targets, ..ebay() }).await.unwrap();
    sender.sell(&[("MUG", 1)]).unwrap();
    soon(sender.subscribed()).await;
    sender.sell(&[("MUG", 1)]).unwrap();
    soon(sender.drained()).await;
    let stats = sender.stats();
    assert_eq!((stats.unsubscribed, stats.handshakes_failed, stats.webhooks), (1, 2, 1));
    let seen = receiver.seen();
    assert_eq!((seen.len(), seen[3].method.as_str()), (4, "POST"));
    let codes = seen[..3].iter().map(|seen| seen.path.clone());
    assert_eq!(distinct(codes), 3, "each challenge is another");
}

/// A retry with the same bytes would hide that they differ, and that a hash of the body tells nothing.
#[tokio::test]
async fn each_try_counts_and_is_signed_anew() {
    let receiver = receiver(|nth| if nth < 3 { 500 } else { 200 }).await;
    let sender = open(&receiver, ebay()).await;
    sender.sell(&[("MUG", 1)]).unwrap();
    soon(sender.drained()).await;
    let seen = notifications(&receiver);
    let bodies: Vec<Value> = seen.iter().map(|seen| seen.json()["notification"].clone()).collect();
    let counts: Vec<_> = bodies.iter().map(|body| body["publishAttemptCount"].as_u64()).collect();
    assert_eq!(counts, [Some(1), Some(2), Some(3)]);
    assert_eq!(distinct(bodies.iter().map(|body| body["notificationId"].to_string())), 1);
    assert_eq!(distinct(bodies.iter().map(|body| body["eventDate"].to_string())), 1);
    assert_eq!(distinct(seen.iter().map(|seen| seen.body.clone())), 3);
}

/// Tokens that never expire, or that open every door, would hide a client that mixes them up.
#[tokio::test]
async fn tokens_expire_and_open_one_door() {
    let short = Some(Duration::from_millis(1500));
    let sender = Sender::start(Options { token_life: short, ..ebay() }).await.unwrap();
    let orders = format!("{}/sell/fulfillment/v1/order", sender.url());
    assert_eq!(get(&orders, "Bearer x").await.status, 401);
    assert_eq!(get(&orders, &application(&sender).await).await.status, 403);
    let bearer = seller(&sender).await;
    assert_eq!(get(&orders, &bearer).await.status, 200);
    let expiry = async {
        while get(&orders, &bearer).await.status == 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(expiry).await;
    let refused = get(&orders, &bearer).await;
    assert_eq!((refused.status, &refused.body["errors"][0]["errorId"]), (401, &json!(1001)));
    let wrong = token(&sender, "grant_type=refresh_token&refresh_token=x").await;
    assert_eq!((wrong.status, &wrong.body["error"]), (400, &json!("invalid_grant")));
    let url = format!("{}/identity/v1/oauth2/token", sender.url());
    assert_eq!(call("POST", &url, &[], "grant_type=client_credentials").await.unwrap().status, 401);
}

/// What was dropped, and all that is never told, must be found by polling, or stock is lost.
#[tokio::test]
async fn the_api_adds_up_to_what_is_expected() {
    let receiver = receiver(|_| 200).await;
    let sender = open(&receiver, busy(Kind::Ebay)).await;
    settle(&sender, false).await;
    let bearer = seller(&sender).await;
    let filter = "lastmodifieddate%3A%5B2020-01-01T00%3A00%3A00.000Z..%5D";
    let mut next =
        Some(format!("{}/sell/fulfillment/v1/order?filter={filter}&limit=2", sender.url()));
    let (mut sums, mut pages) = (BTreeMap::new(), 0);
    while let Some(url) = next {
        let page = get(&url, &bearer).await;
        assert_eq!(page.status, 200, "{page:?}");
        for order in page.body["orders"].as_array().unwrap() {
            for line in order["lineItems"].as_array().unwrap() {
                let sold = line["quantity"].as_i64().unwrap();
                let if_so = |so: bool| if so { sold } else { 0 };
                let cancelled = if_so(order["cancelStatus"]["cancelState"] == "CANCELED");
                let shipped = if_so(order["orderFulfillmentStatus"] == "FULFILLED");
                add(&mut sums, line["sku"].as_str().unwrap(), [sold, cancelled, 0, shipped]);
            }
        }
        next = page.body["next"].as_str().map(str::to_owned);
        pages += 1;
    }
    assert_eq!(sums, truth(&sender));
    assert_eq!(pages, sender.stats().orders.div_ceil(2));
}

/// A filter that is ignored would make each poll read everything, and nobody would notice.
#[tokio::test]
async fn the_api_filters_and_refuses() {
    let sender = Sender::start(ebay()).await.unwrap();
    let order = sender.sell(&[("MUG", 1)]).unwrap();
    sender.cancel(order).unwrap();
    let (bearer, base) = (seller(&sender).await, sender.url());
    let url = format!("{base}/sell/fulfillment/v1/order");
    for (query, status, total) in [
        (
            "filter=lastmodifieddate:%5B2020-01-01T00:00:00.000Z..2020-01-02T00:00:00.000Z%5D",
            200,
            0,
        ),
        ("filter=creationdate:%5B2020-01-01T00:00:00.000Z..%5D", 200, 1),
        ("limit=200", 200, 1),
        ("limit=201", 400, 0),
        ("filter=lastmodifieddate:%5Bsoon..%5D", 400, 0),
    ] {
        let answer = get(&format!("{url}?{query}"), &bearer).await;
        assert_eq!((answer.status, answer.body["total"].as_u64().unwrap_or(0)), (status, total));
    }
    let name = sender.order_name(order).unwrap();
    let single = get(&format!("{url}/{name}"), &bearer).await.body;
    assert_eq!(single["cancelStatus"]["cancelRequests"].as_array().unwrap().len(), 1);
    let listed = get(&url, &bearer).await.body;
    assert_eq!(listed["orders"][0]["cancelStatus"]["cancelRequests"], json!([]));
    assert_eq!(get(&format!("{url}/00-00000-00001"), &bearer).await.status, 404);
    let parts: Vec<_> = name.split('-').map(str::len).collect();
    assert_eq!(parts, [2, 5, 5]);
}
