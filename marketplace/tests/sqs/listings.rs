//! What the account is told of quantities, by patches of listings and by feeds, and what it does with it.

use std::{io::Read, time::Duration};

use bytes::Bytes;
use flate2::read::GzDecoder;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use marketplace::{
    Error, Outage, Warehouse,
    amazon::{Account, Faults, Options},
};
use serde_json::{Value, json};

use crate::{
    account::{seller, start},
    orders::token,
    support::soon,
};

const ITEMS: &str = "/listings/2021-08-01/items/A0EXAMPLESELLER";

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

async fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let request =
        Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(url);
    let request = headers.iter().fold(request, |request, (k, v)| request.header(*k, *v));
    let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http();
    let (head, body) = soon(client.request(request)).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: head.status.as_u16(), headers: head.headers, body }
}

async fn ask(account: &Account, token: &str, method: &str, rest: &str, body: Value) -> Answer {
    let url = format!("{}{rest}", account.endpoint());
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    send(method, &url, &[("x-amz-access-token", token)], &body).await
}

fn patch(quantity: i64) -> Value {
    json!({"productType": "PRODUCT", "patches": [{
        "op": "merge", "path": "/attributes/fulfillment_availability",
        "value": [{"fulfillment_channel_code": "DEFAULT", "quantity": quantity}],
    }]})
}

async fn tell(account: &Account, token: &str, sku: &str, body: Value) -> Answer {
    let rest = format!("{ITEMS}/{sku}?marketplaceIds=ATVPDKIKX0DER");
    ask(account, token, "PATCH", &rest, body).await
}

/// Waits until it is shown.
async fn shows(account: &Account, sku: &str, quantity: i64) {
    soon(async {
        while account.left(sku) != Some(quantity) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// A quantity that is shown at once hides a client that takes `ACCEPTED` for done; units that no buyer can
/// order, or that are sold beyond what is there and not counted, hide an oversell.
#[tokio::test]
async fn what_is_accepted_is_shown_later_and_sold() {
    let warehouse = Warehouse::open([("SKU-1", 3)]);
    let applied_after = Duration::from_millis(80);
    let options = Options { warehouse: Some(warehouse.clone()), applied_after, ..seller() };
    let (account, _queue) = start(options).await;
    let token = token(&account).await;
    let answer = tell(&account, &token, "SKU-1", patch(4)).await;
    assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("ACCEPTED")));
    assert_eq!(account.left("SKU-1"), Some(10));
    shows(&account, "SKU-1", 4).await;
    let too_many = account.sell(&[("SKU-1", 5)]);
    assert!(matches!(too_many, Err(Error::OutOfStock { shown: 4, .. })), "{too_many:?}");
    let order = account.sell(&[("SKU-1", 4)]).unwrap();
    assert_eq!((account.left("SKU-1"), warehouse.oversold_units()), (Some(0), 1));
    account.cancel(order).unwrap();
    assert_eq!((account.left("SKU-1"), warehouse.units("SKU-1")), (Some(0), 3));
    let told = account.pushes();
    assert_eq!((told.len(), told[0].from, told[0].to, told[0].applied), (1, 10, 4, true));
}

/// A door that is always open, or refusals without Amazon's words, teach a client nothing.
#[tokio::test]
async fn calls_are_refused_as_amazon_refuses_them() {
    let (account, _queue) = start(Options { time_scale: 1e6, ..seller() }).await;
    let good = token(&account).await;
    let status = |answer: Answer| (answer.status, answer.json()["errors"][0]["code"].to_string());
    let refused = |status, code: &str| (status, format!("\"{code}\""));
    let of = |body: Value| tell(&account, &good, "SKU-1", body);
    let mut other = patch(1);
    other["productType"] = json!("SHOES");
    assert_eq!(status(of(other).await), refused(400, "InvalidInput"));
    assert_eq!(status(of(json!({})).await), refused(400, "InvalidInput"));
    assert_eq!(status(tell(&account, &good, "NO", patch(1)).await), refused(404, "NotFound"));
    assert_eq!(status(tell(&account, "x", "SKU-1", patch(1)).await), refused(403, "Unauthorized"));
    let nowhere = ask(&account, &good, "PATCH", &format!("{ITEMS}/SKU-1"), patch(1)).await;
    assert_eq!(status(nowhere), refused(400, "InvalidInput"));
    let negative = of(patch(-1)).await;
    assert_eq!((negative.status, &negative.json()["status"]), (200, &json!("INVALID")));
    account.set_faults(Faults { invalid: 1.0, ..Faults::default() });
    let invalid = of(patch(1)).await.json();
    assert_eq!(
        (&invalid["status"], &invalid["issues"][0]["severity"]),
        (&json!("INVALID"), &json!("ERROR"))
    );
    account.expire_tokens();
    let expired = tell(&account, &good, "SKU-1", patch(1)).await;
    assert!(expired.json()["errors"][0]["details"].as_str().unwrap().contains("expired"));
    account.set_revoked(true);
    let form = super::orders::form(&account);
    assert_eq!(super::orders::log_in(&account, form).await.body["error"], "invalid_grant");
    assert_eq!(account.left("SKU-1"), Some(10));
    assert!(account.pushes().iter().all(|push| !push.applied));
}

/// A client that never meets the limit learns nothing of it; nor does one that is told how long to wait.
#[tokio::test]
async fn five_patches_at_once_and_no_more() {
    let (account, _queue) = start(seller()).await;
    let token = token(&account).await;
    let mut last = None;
    for quantity in 1..=6 {
        last = Some(tell(&account, &token, "SKU-1", patch(quantity)).await);
    }
    let last = last.unwrap();
    assert_eq!(last.status, 429);
    assert!(last.headers.get("retry-after").is_none());
    assert_eq!(account.stats().throttled, 1);
    let read = ask(
        &account,
        &token,
        "GET",
        &format!("{ITEMS}?marketplaceIds=ATVPDKIKX0DER&identifiers=SKU-1,SKU-2,NO&identifiersType=SKU&includedData=fulfillmentAvailability"),
        Value::Null,
    )
    .await;
    assert_eq!(read.headers["x-amzn-ratelimit-limit"], "5");
    let items = read.json()["items"].clone();
    assert_eq!(items.as_array().unwrap().len(), 2);
    assert_eq!(items[1]["fulfillmentAvailability"][0]["quantity"], 10);
}

/// The whole way of a feed; its id.
async fn feed(account: &Account, token: &str, messages: Value) -> String {
    let content = json!({"contentType": "application/json"});
    let documents = "/feeds/2021-06-30/documents";
    let document = ask(account, token, "POST", documents, content).await.json();
    let url = document["url"].as_str().unwrap();
    let header = json!({"sellerId": "A0EXAMPLESELLER", "version": "2.0"});
    let file = json!({"header": header, "messages": messages}).to_string();
    let kind = [("content-type", "application/json")];
    let shown = [kind[0], ("x-amz-access-token", token)];
    assert_eq!(send("PUT", url, &shown, file.as_bytes()).await.status, 400);
    let other = [("content-type", "text/plain")];
    assert_eq!(send("PUT", url, &other, file.as_bytes()).await.status, 403);
    assert_eq!(send("PUT", &format!("{url}0"), &kind, file.as_bytes()).await.status, 403);
    assert_eq!(send("PUT", url, &kind, file.as_bytes()).await.status, 200);
    let asked = json!({
        "feedType": "JSON_LISTINGS_FEED", "marketplaceIds": ["ATVPDKIKX0DER"],
        "inputFeedDocumentId": document["feedDocumentId"],
    });
    let made = ask(account, token, "POST", "/feeds/2021-06-30/feeds", asked).await;
    assert_eq!(made.status, 202);
    made.json()["feedId"].as_str().unwrap().to_owned()
}

/// What a feed comes to.
async fn ended(account: &Account, token: &str, id: &str) -> Value {
    soon(async {
        loop {
            let rest = format!("/feeds/2021-06-30/feeds/{id}");
            let feed = ask(account, token, "GET", &rest, Value::Null).await.json();
            let status = feed["processingStatus"].as_str().unwrap();
            if !matches!(status, "IN_QUEUE" | "IN_PROGRESS") {
                return feed;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

fn message(id: u32, sku: &str, quantity: i64) -> Value {
    json!({
        "messageId": id, "sku": sku, "operationType": "PATCH", "productType": "PRODUCT",
        "patches": [{
            "op": "replace", "path": "/attributes/fulfillment_availability",
            "value": [{"fulfillment_channel_code": "DEFAULT", "quantity": quantity}],
        }],
    })
}

fn quick(faults: Faults) -> Options {
    let feed_after = Duration::from_millis(20);
    Options { feed_after, faults, time_scale: 1_000.0, ..seller() }
}

/// A report without the rows that failed, or one that anybody can read, would hide what is wrong with a client
/// that never looks.
#[tokio::test]
async fn a_feed_reports_its_rows() {
    let (account, _queue) = start(quick(Faults::default())).await;
    let token = token(&account).await;
    let mut update = message(4, "SKU-1", 9);
    update["operationType"] = json!("UPDATE");
    let messages =
        json!([message(1, "SKU-1", 7), message(2, "NO", 1), message(3, "SKU-2", -1), update]);
    let id = feed(&account, &token, messages).await;
    let feed = ended(&account, &token, &id).await;
    assert_eq!(feed["processingStatus"], "DONE");
    shows(&account, "SKU-1", 7).await;
    let document = feed["resultFeedDocumentId"].as_str().unwrap();
    let rest = format!("/feeds/2021-06-30/documents/{document}");
    let place = ask(&account, &token, "GET", &rest, Value::Null).await.json();
    assert_eq!(place["compressionAlgorithm"], "GZIP");
    let packed = send("GET", place["url"].as_str().unwrap(), &[], &[]).await.body;
    let mut text = String::new();
    GzDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    let wrong: Vec<&Value> =
        report["issues"].as_array().unwrap().iter().map(|issue| &issue["messageId"]).collect();
    assert_eq!(wrong, [2, 3, 4]);
    let summary = &report["summary"];
    assert_eq!(
        (&summary["messagesProcessed"], &summary["messagesInvalid"]),
        (&json!(4), &json!(3))
    );
    soon(account.wait_until(|stats| stats.notifications >= 2)).await;
}

/// A feed that fails as a whole may have done a part of its work; one that is cancelled has not.
#[tokio::test]
async fn feeds_fail_on_order() {
    let messages = json!([message(1, "SKU-1", 7), message(2, "SKU-2", 7)]);
    for (faults, status, shown) in [
        (Faults { fatal: 1.0, ..Faults::default() }, "FATAL", (7, 10)),
        (Faults { cancelled: 1.0, ..Faults::default() }, "CANCELLED", (10, 10)),
        (Faults { row_failed: 1.0, ..Faults::default() }, "DONE", (10, 10)),
        (Faults { report_lies: 1.0, ..Faults::default() }, "DONE", (10, 10)),
    ] {
        let (account, _queue) = start(quick(faults)).await;
        let token = token(&account).await;
        let id = feed(&account, &token, messages.clone()).await;
        assert_eq!(ended(&account, &token, &id).await["processingStatus"], status);
        let left = |sku: &str| account.left(sku).unwrap();
        assert_eq!((left("SKU-1"), left("SKU-2")), shown, "{status}");
    }
}

/// Whoever sets by hand, or while nobody answers, must be seen too.
#[tokio::test]
async fn a_call_that_is_not_answered_is_carried_out() {
    let (account, _queue) = start(seller()).await;
    let token = token(&account).await;
    account.set_available("SKU-2", 3).unwrap();
    assert_eq!(account.shown()["SKU-2"], 3);
    account.set_outage(Outage::DropAfterApply);
    let url = format!("{}{ITEMS}/SKU-1?marketplaceIds=ATVPDKIKX0DER", account.endpoint());
    let request = Request::patch(url).header("x-amz-access-token", token);
    let request = request.body(Full::new(Bytes::from(patch(2).to_string()))).unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http();
    assert!(soon(client.request(request)).await.is_err());
    shows(&account, "SKU-1", 2).await;
}
