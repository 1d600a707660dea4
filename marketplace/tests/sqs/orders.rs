//! What the orders API answers: the way to whatever no notification told of.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use marketplace::{
    Outage,
    amazon::{Account, ExpectedBySku, Faults, Options, Rate, order_id},
    clock,
};
use serde_json::{Value, json};

use crate::{
    account::{busy, seller, start},
    support::{Answered, send, soon},
};

/// Without limits, and with an answer that is up to date.
fn unlimited(options: Options) -> Options {
    let rate = Rate { per_second: 1e6, burst: 1e6 };
    let (search_rate, order_rate) = (rate, rate);
    let search_lag = Duration::ZERO;
    Options { search_rate, order_rate, search_lag, whole_seconds: false, ..options }
}

pub(crate) fn form(account: &Account) -> String {
    let Options { client_id, client_secret, .. } = account.options();
    format!(
        "grant_type=refresh_token&refresh_token=Atzr%7Csimulated&client_id={client_id}\
         &client_secret={client_secret}"
    )
}

pub(crate) async fn log_in(account: &Account, form: String) -> Answered {
    let request = Request::post(format!("{}/auth/o2/token", account.endpoint()))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(form)))
        .unwrap();
    send(request).await.unwrap()
}

pub(crate) async fn token(account: &Account) -> String {
    let answer = log_in(account, form(account)).await;
    assert_eq!(answer.status, 200);
    answer.body["access_token"].as_str().unwrap().to_owned()
}

fn get(account: &Account, token: &str, rest: &str) -> Request<Full<Bytes>> {
    Request::get(format!("{}/orders/2026-01-01/orders{rest}", account.endpoint()))
        .header("x-amz-access-token", token)
        .body(Full::default())
        .unwrap()
}

/// All pages from a time on, of seven orders each.
async fn search(account: &Account, token: &str, after: &str) -> (Vec<Value>, String) {
    let query = format!("?lastUpdatedAfter={after}&maxResultsPerPage=7&includedData=FULFILLMENT");
    let (mut orders, mut page) = (Vec::new(), String::new());
    loop {
        let answer = send(get(account, token, &format!("{query}{page}"))).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let found = answer.body["orders"].as_array().unwrap();
        assert!(found.len() <= 7);
        orders.extend(found.iter().cloned());
        let Some(next) = answer.body["pagination"]["nextToken"].as_str() else {
            return (orders, answer.body["lastUpdatedBefore"].as_str().unwrap().to_owned());
        };
        page = format!("&paginationToken={next}");
    }
}

fn sum<'a>(orders: impl IntoIterator<Item = &'a Value>) -> ExpectedBySku {
    let mut ledger = ExpectedBySku::new();
    for order in orders {
        if order["fulfillment"]["fulfilledBy"] == "AMAZON" {
            continue;
        }
        let canceled = order["fulfillment"]["fulfillmentStatus"] == "CANCELLED";
        for item in order["orderItems"].as_array().unwrap() {
            let sku = item["product"]["sellerSku"].as_str().unwrap();
            let sku = ledger.entry(sku.to_owned()).or_default();
            let quantity = item["quantityOrdered"].as_i64().unwrap();
            sku.sold += quantity;
            sku.cancelled += if canceled { quantity } else { 0 };
            sku.fulfilled += item["fulfillment"]["quantityFulfilled"].as_i64().unwrap();
        }
    }
    ledger
}

/// With every notification dropped, who asks must still find the whole truth.
#[tokio::test]
async fn the_orders_add_up_to_what_is_expected() {
    let mut options = unlimited(busy());
    options.faults.dropped = 1.0;
    let (account, queue) = start(options).await;
    soon(account.wait_until(|stats| stats.orders >= 150)).await;
    account.stop_selling();
    soon(account.wait_until(|stats| stats.changes_due == 0)).await;
    assert!(queue.counts().is_empty());
    let (orders, _) = search(&account, &token(&account).await, "2026-01-01T00:00:00Z").await;
    assert!(orders.len() >= 150);
    let mut expected = account.expected();
    expected.retain(|_, sku| sku.sold > 0);
    assert_eq!(sum(&orders), expected);
}

/// Polling while orders change, each time from where the last answer ended, must miss nothing.
#[tokio::test]
async fn a_poller_that_follows_the_checkpoint_misses_nothing() {
    let options = Options { search_lag: Duration::from_millis(5), ..unlimited(busy()) };
    let (account, _queue) = start(options).await;
    let token = token(&account).await;
    let (mut known, mut after) = (BTreeMap::new(), "2026-01-01T00:00:00Z".to_owned());
    let mut poll = async |known: &mut BTreeMap<String, Value>| {
        let (orders, before) = search(&account, &token, &after).await;
        after = before;
        for order in orders {
            known.insert(order["orderId"].as_str().unwrap().to_owned(), order);
        }
    };
    while account.stats().orders < 150 {
        soon(poll(&mut known)).await;
    }
    account.stop_selling();
    soon(account.wait_until(|stats| stats.changes_due == 0)).await;
    let mut expected = account.expected();
    expected.retain(|_, sku| sku.sold > 0);
    soon(async {
        while sum(known.values()) != expected {
            poll(&mut known).await;
        }
    })
    .await;
}

/// A poller that advances to its own clock, past what the answer covers, loses what was changed lately.
#[tokio::test]
async fn an_order_is_found_only_after_the_lag() {
    let options = Options { search_lag: Duration::from_secs(3600), ..unlimited(seller()) };
    let (account, _queue) = start(options).await;
    let order = account.sell(&[("SKU-1", 1)]).unwrap();
    let token = token(&account).await;
    let (orders, before) = search(&account, &token, "2026-01-01T00:00:00Z").await;
    assert!(orders.is_empty());
    assert!(before < clock::utc_time(clock::now_ms() - 3_599_000), "{before}");
    // Asked for by its id it is there at once.
    let one = send(get(&account, &token, &format!("/{}", order_id(order)))).await.unwrap();
    assert_eq!(one.body["order"]["orderId"], json!(order_id(order)));
}

/// A reader written against the published model must find all it needs, and its traps: what became of
/// an order is only there if asked for, and times are to the second.
#[tokio::test]
async fn an_order_has_the_published_shape() {
    let options = Options { whole_seconds: true, ..unlimited(seller()) };
    let (account, _queue) = start(options).await;
    let order = account.sell(&[("SKU-1", 3)]).unwrap();
    account.confirm(order).unwrap();
    account.ship(order, 1).unwrap();
    let token = token(&account).await;
    let path = format!("/{}", order_id(order));
    let bare = send(get(&account, &token, &path)).await.unwrap();
    assert!(bare.body["order"].get("fulfillment").is_none());
    let full = format!("{path}?includedData=PROCEEDS,FULFILLMENT");
    let answer = send(get(&account, &token, &full)).await.unwrap();
    assert_eq!(answer.headers["x-amzn-requestid"].len(), 36);
    assert!(answer.headers.contains_key("x-amzn-ratelimit-limit"));
    let order = &answer.body["order"];
    let id = order["orderId"].as_str().unwrap();
    assert_eq!(id.split('-').map(str::len).collect::<Vec<_>>(), [3, 7, 7]);
    assert_eq!(order["lastUpdatedTime"].as_str().unwrap().len(), "2026-11-20T15:00:00Z".len());
    assert_eq!(order["salesChannel"]["marketplaceId"], "ATVPDKIKX0DER");
    assert_eq!(
        order["fulfillment"],
        json!({
            "fulfillmentStatus": "PARTIALLY_SHIPPED", "fulfilledBy": "MERCHANT",
            "fulfillmentServiceLevel": "STANDARD",
        })
    );
    let item = &order["orderItems"][0];
    assert_eq!(
        (&item["quantityOrdered"], &item["product"]["sellerSku"]),
        (&json!(3), &json!("SKU-1"))
    );
    assert_eq!(item["fulfillment"], json!({"quantityFulfilled": 1, "quantityUnfulfilled": 2}));
    let missing = send(get(&account, &token, "/114-0000000-0000000")).await.unwrap();
    assert_eq!((missing.status, &missing.body["errors"][0]["code"]), (404, &json!("NotFound")));
    for query in [
        "",
        "?lastUpdatedAfter=yesterday",
        "?lastUpdatedAfter=2026-01-01T00:00:00Z&maxResultsPerPage=101",
    ] {
        let invalid = send(get(&account, &token, query)).await.unwrap();
        assert_eq!(
            (invalid.status, &invalid.body["errors"][0]["code"]),
            (400, &json!("InvalidInput"))
        );
    }
}

/// Lists narrow a search.
#[tokio::test]
async fn a_search_can_be_narrowed() {
    let (account, _queue) = start(unlimited(seller())).await;
    account.sell(&[("SKU-1", 1)]).unwrap();
    let confirmed = account.sell(&[("SKU-1", 1)]).unwrap();
    account.confirm(confirmed).unwrap();
    account.sell_amazon_fulfilled(&[("SKU-1", 1)]).unwrap();
    let token = token(&account).await;
    let count = async |narrow: &str| {
        let query = format!("?lastUpdatedAfter=2026-01-01T00%3A00%3A00Z&{narrow}");
        let answer = send(get(&account, &token, &query)).await.unwrap();
        answer.body["orders"].as_array().unwrap().len()
    };
    // Orders changed in this very millisecond are found a moment later.
    soon(async { while count("").await < 3 {} }).await;
    assert_eq!(count("fulfilledBy=MERCHANT").await, 2);
    assert_eq!(count("fulfillmentStatuses=UNSHIPPED,SHIPPED").await, 1);
    assert_eq!(count("fulfillmentStatuses=UNSHIPPED&fulfillmentStatuses=PENDING").await, 3);
    assert_eq!(count("marketplaceIds=A1F83G8C2ARO7P").await, 0);
}

/// A token opens the door for an hour and not longer; without one it stays shut.
#[tokio::test]
async fn only_a_living_token_is_let_in() {
    let (account, _queue) = start(unlimited(seller())).await;
    let right = form(&account);
    let answer = log_in(&account, right.clone()).await;
    assert_eq!(
        (&answer.body["token_type"], &answer.body["expires_in"]),
        (&json!("bearer"), &json!(3600))
    );
    for (form, status, error) in [
        (right.replace("client_secret=", "client_secret=x"), 401, "invalid_client"),
        (right.replace("Atzr", "Atzx"), 400, "invalid_grant"),
        (right.replace("=refresh_token&", "=password&"), 400, "unsupported_grant_type"),
    ] {
        let answer = log_in(&account, form).await;
        assert_eq!((answer.status, &answer.body["error"]), (status, &json!(error)));
    }
    let denied = send(get(&account, "Atza|made-up", "/114-0000000-0000000")).await.unwrap();
    assert_eq!((denied.status, &denied.body["errors"][0]["code"]), (403, &json!("Unauthorized")));
    let (short, _queue) = start(Options { token_life: Duration::ZERO, ..seller() }).await;
    let expired = token(&short).await;
    let denied = send(get(&short, &expired, "/114-0000000-0000000")).await.unwrap();
    let details = denied.body["errors"][0]["details"].as_str().unwrap();
    assert!(denied.status == 403 && details.contains("expired"), "{details}");
}

/// Who asks more often than the usage plan allows is refused, without being told when to come back.
#[tokio::test]
async fn searches_have_a_quota() {
    let (account, _queue) = start(seller()).await;
    let token = token(&account).await;
    let search = "?lastUpdatedAfter=2026-01-01T00:00:00Z";
    for _ in 0..20 {
        assert_eq!(send(get(&account, &token, search)).await.unwrap().status, 200);
    }
    let refused = send(get(&account, &token, search)).await.unwrap();
    assert_eq!(
        (refused.status, &refused.body["errors"][0]["code"]),
        (429, &json!("QuotaExceeded"))
    );
    assert_eq!(refused.headers["x-amzn-ratelimit-limit"], "0.0056");
    assert!(!refused.headers.contains_key("retry-after"));
    // The quota of single orders is another one.
    assert_eq!(send(get(&account, &token, "/114-0000000-0000000")).await.unwrap().status, 404);
    assert_eq!((account.stats().searches, account.stats().throttled), (20, 1));
}

/// Outages and faults answer in the API's own shape, or not at all.
#[tokio::test]
async fn the_api_fails_on_order() {
    let (account, _queue) = start(unlimited(seller())).await;
    let token = token(&account).await;
    let ask = async || send(get(&account, &token, "/114-0000000-0000000")).await;
    for (faults, outage, status) in [
        (Faults { throttled: 1.0, ..Faults::default() }, Outage::None, 429),
        (Faults { server_error: 1.0, ..Faults::default() }, Outage::None, 502),
        (Faults::default(), Outage::ServerError(503), 503),
    ] {
        account.set_faults(faults);
        account.set_outage(outage);
        let answer = ask().await.unwrap();
        assert!(answer.status == status && answer.body["errors"].is_array(), "{answer:?}");
    }
    account.set_outage(Outage::DropAfterApply);
    assert!(ask().await.is_err());
    assert_eq!(account.stats().outage_calls, 4);
}
