use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use marketplace::sender::{Faults, Item, Kind, Options, Sender};

use super::*;
use crate::channel::api::fake::{Asked, Fake, said};

fn client(fake: &Fake) -> Client {
    let settings = Settings {
        base_url: fake.url.clone(),
        token_url: format!("{}/v3/token", fake.url),
        client_id: "id".into(),
        client_secret: "secret".into(),
        feeds: FeedType::Inventory,
        adds_reserved: true,
    };
    let ms = Duration::from_millis;
    let feeds = Patience { first: ms(1), most: ms(1), total: ms(100) };
    Client { feeds, ..Client::new(&settings).unwrap() }
}

fn row(sku: &str, quantity: i64) -> Row {
    let place = Place { sku: sku.into(), listing: sku.into(), ..Place::default() };
    Row { place, quantity, from: 17 }
}

type Said = Response<Full<Bytes>>;

async fn walmart(answer: impl Fn(&str, &Asked) -> Said + Clone + Send + 'static) -> Fake {
    Fake::start(move |asked: Asked| {
        let (path, _) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
        let said = match path {
            "/v3/token" => said(200, r#"{"access_token":"t","expires_in":900}"#),
            path => answer(&format!("{} {path}", asked.method), &asked),
        };
        async move { said }
    })
    .await
}

/// Two of it are reserved.
const STOCK: &str = r#"{"sku":"TEE M","nodes":[{"shipNode":"36","inputQty":{"unit":"EACH","amount":19},
    "availToSellQty":{"unit":"EACH","amount":17},"reservedQty":{"unit":"EACH","amount":2}}]}"#;

/// Told what is available, Walmart takes open orders off once more and shows too few for ever.
#[tokio::test]
async fn what_is_reserved_is_not_deducted_twice() {
    let fake = walmart(|what, asked| match what {
        "GET /v3/inventories/TEE%20M" => said(200, STOCK),
        "PUT /v3/inventory" => said(200, asked.body.clone()),
        "GET /v3/inventory" => {
            said(200, r#"{"sku":"TEE M","quantity":{"unit":"EACH","amount":19}}"#)
        }
        other => panic!("{other}"),
    })
    .await;
    let mut client = client(&fake);
    let set = client.set(&[row("TEE M", 17)], "").await.unwrap();
    assert_eq!(set.value, [RowOutcome::Confirmed]);
    let put = fake.asked().pop().unwrap();
    assert_eq!(put.target, "/v3/inventory?sku=TEE%20M");
    let told = json!({ "sku": "TEE M", "quantity": { "unit": "EACH", "amount": 19 } });
    assert_eq!(put.json(), told);
    assert_eq!(client.read(&[row("TEE M", 0).place]).await.unwrap().value, [Some(17)]);
    let sold = Row { from: 18, ..row("TEE M", 9) };
    let stale = client.set(&[sold], "").await.unwrap();
    assert_eq!(stale.value, [RowOutcome::Stale]);
    client.adds_reserved = false;
    client.set(&[Row { from: 19, ..row("TEE M", 17) }], "").await.unwrap();
    assert_eq!(fake.asked().pop().unwrap().json()["quantity"]["amount"], 17);
    assert_eq!(client.read(&[row("TEE M", 0).place]).await.unwrap().value, [Some(19)]);
}

async fn put(status: u16, body: &'static str) -> Result<RowOutcome, PushError> {
    let fake = walmart(move |what, _| match what {
        "PUT /v3/inventory" => said(status, body),
        _ => said(200, STOCK),
    })
    .await;
    Ok(client(&fake).set(&[row("TEE M", 17)], "").await?.value[0].clone())
}

/// A refusal that is tried for ever uses up the rate of all others; one that is given up for a passing fault
/// is never pushed again.
#[tokio::test]
async fn each_answer_means_what_it_says() {
    let error = r#"{"errors":[{"code":"INVALID_REQUEST_PARAM.GMP_INVENTORY_API","field":"sku",
        "description":"invalid sku","severity":"ERROR","category":"DATA"}]}"#;
    let why = "INVALID_REQUEST_PARAM.GMP_INVENTORY_API: invalid sku";
    assert_eq!(put(400, error).await, Ok(RowOutcome::Failed(why.into())));
    assert_eq!(put(404, error).await, Ok(RowOutcome::Failed(NOT_FOUND.into())));
    assert!(matches!(put(404, "<html>").await, Err(PushError::Refused(_))));
    assert!(matches!(put(401, error).await, Err(PushError::Unauthorised(_))));
    assert!(matches!(put(429, error).await, Err(PushError::Limited { .. })));
    let other = r#"{"sku":"TEE M","quantity":{"unit":"EACH","amount":4}}"#;
    for (status, body) in [(500, error), (520, ""), (504, ""), (200, "<html>"), (200, other)] {
        assert_eq!(put(status, body).await, Ok(RowOutcome::Unknown), "{status} {body}");
    }
}

/// A wait that is not found is answered by more refusals; one of an hour would leave the channel alone for
/// long after it was free.
#[tokio::test]
async fn tokens_are_waited_for_under_both_spellings() {
    let soon = clock::now_ms() + 5_000;
    let late = clock::now_ms() + 3_600_000;
    for (name, at, within) in [
        ("X-Next-Replenish-Time", soon, 4_000..=5_000),
        ("x-next-replenishment-time", soon, 4_000..=5_000),
        ("x-next-replenish-time", late, 60_000..=60_000),
    ] {
        let headers =
            [(name.to_owned(), at.to_string()), ("x-current-token-count".into(), "0".into())];
        let with = |mut said: Said, headers: &[(String, String)]| {
            for (name, value) in headers {
                let name: hyper::header::HeaderName = name.parse().unwrap();
                said.headers_mut().insert(name, value.parse().unwrap());
            }
            said
        };
        let given = headers.clone();
        let fake = walmart(move |what, asked| match what {
            "PUT /v3/inventory" => with(said(200, asked.body.clone()), &given),
            _ => said(200, STOCK),
        })
        .await;
        let wait = client(&fake).set(&[row("TEE M", 1)], "").await.unwrap().wait;
        assert!(within.contains(&wait.as_millis().try_into().unwrap()), "{name} {wait:?}");
        let fake = walmart(move |_, _| with(said(429, "{}"), &headers)).await;
        let result = client(&fake).set(&[row("TEE M", 1)], "").await;
        let Err(PushError::Limited { wait_ms }) = result else { panic!("{result:?}") };
        assert!(within.contains(&wait_ms), "{name} {wait_ms}");
    }
}

/// Which ship node is meant must not be guessed.
#[tokio::test]
async fn one_of_several_nodes_must_be_named() {
    let fake = walmart(|what, asked| match what {
        "PUT /v3/inventory" => said(200, asked.body.clone()),
        _ => said(
            200,
            r#"{"sku":"A","nodes":[{"shipNode":"1","availToSellQty":{"amount":3}},
            {"shipNode":"2","availToSellQty":{"amount":4},"reservedQty":{"amount":1}}]}"#,
        ),
    })
    .await;
    let client = client(&fake);
    let mut row = row("A", 7);
    let set = client.set(std::slice::from_ref(&row), "").await.unwrap().value;
    assert_eq!(set, [RowOutcome::Failed(NO_NODE.into())]);
    row.place.location = "2".into();
    row.from = 4;
    assert_eq!(client.read(std::slice::from_ref(&row.place)).await.unwrap().value, [Some(4)]);
    client.set(&[row], "").await.unwrap();
    let put = fake.asked().pop().unwrap();
    assert_eq!(put.target, "/v3/inventory?sku=A&shipNode=2");
    assert_eq!(put.json()["quantity"]["amount"], 8);
}

/// A feed of these rows, whose state and items are these.
async fn fed(
    status: &'static str,
    items: Value,
    rows: &[Row],
) -> (Result<Vec<RowOutcome>, PushError>, Vec<Asked>) {
    let (first, second) = (["TEE M", "A"], ["SLOW", "NOPE", "GONE"]);
    let (first, second) = (first.to_vec(), second.to_vec());
    let fake = walmart(move |what, asked| match what {
        "GET /v3/inventories" => {
            let page = if asked.target.contains("nextCursor") { &second } else { &first };
            let stock = |sku: &&str| {
                let mut stock: Value = serde_json::from_str(STOCK).unwrap();
                stock["sku"] = (*sku).into();
                stock
            };
            let listed: Vec<Value> = page.iter().map(stock).collect();
            let meta = json!({ "totalCount": 1, "nextCursor": "Nx" });
            said(200, json!({ "meta": meta, "elements": { "inventories": listed } }).to_string())
        }
        "POST /v3/feeds" => said(200, r#"{"feedId":"F129@AU8"}"#),
        "GET /v3/feeds/F129%40AU8" => {
            let offset: usize = asked.target.rsplit_once("offset=").unwrap().1.parse().unwrap();
            let all = items.as_array().unwrap();
            let page: Vec<&Value> = all.iter().skip(offset).take(50).collect();
            let mut body = json!({ "feedStatus": status, "itemsReceived": all.len() });
            if asked.target.contains("includeDetails=true") {
                body["itemDetails"] = json!({ "itemIngestionStatus": page });
            }
            said(200, body.to_string())
        }
        other => panic!("{other}"),
    })
    .await;
    let result = client(&fake).feed(rows, "").await.map(|answered| answered.value);
    (result, fake.asked())
}

/// `PROCESSED` is no success of any item. One bad item must not hold back the others, wherever in the report
/// it stands.
#[tokio::test]
async fn the_report_settles_each_row() {
    let item = |sku: &str, status: &str| json!({ "sku": sku, "ingestionStatus": status });
    let mut items: Vec<Value> = (0..50).map(|n| item(&n.to_string(), "SUCCESS")).collect();
    items.push(json!({ "sku": "NOPE", "ingestionStatus": "DATA_ERROR", "ingestionErrors": {
        "ingestionError": [{ "code": "ERR_EXT_DATA_0", "description": "unknown sku" }] } }));
    items.push(item("SLOW", "TIMEOUT_ERROR"));
    items.push(item("TEE M", "SUCCESS"));
    let mut rows = ["TEE M", "NOPE", "SLOW", "GONE", "NEVER", "A"].map(|sku| row(sku, 17));
    rows[5].from = 16;
    let (result, asked) = fed("PROCESSED", items.into(), &rows).await;
    let failed = RowOutcome::Failed("ERR_EXT_DATA_0: unknown sku".into());
    let unknown = RowOutcome::Unknown;
    let missing = RowOutcome::Failed(NOT_FOUND.into());
    let all = [RowOutcome::Confirmed, failed, unknown.clone(), unknown, missing, RowOutcome::Stale];
    assert_eq!(result.unwrap(), all);
    let post = asked.iter().find(|asked| asked.method == "POST" && asked.target.contains("feeds"));
    let post = post.unwrap();
    assert_eq!(post.target, "/v3/feeds?feedType=inventory");
    assert!(post.header("content-type").starts_with("multipart/form-data; boundary="));
    let body = String::from_utf8(post.body.to_vec()).unwrap();
    let json = body.split("\r\n\r\n").nth(1).unwrap().split("\r\n").next().unwrap();
    let document: Value = serde_json::from_str(json).unwrap();
    assert_eq!(document["InventoryHeader"]["version"], "1.4");
    // Seventeen are to be shown, and two are reserved.
    assert_eq!(document["Inventory"][0]["quantity"]["amount"], 19);
}

/// A feed that is refused as a whole for one row must be halved; one that does not end must be read back.
#[tokio::test]
async fn a_feed_that_says_nothing_of_its_rows() {
    let rows = [row("A", 1)];
    let (refused, _) = fed("ERROR", json!([]), &rows).await;
    assert!(matches!(refused, Err(PushError::Suspect(_))));
    let (late, _) = fed("INPROGRESS", json!([]), &rows).await;
    assert_eq!(late.unwrap(), [RowOutcome::Unknown]);
}

/// A seller that goes wrong in every way it can.
async fn simulated(faults: Faults, feeds: FeedType) -> (Sender, Client) {
    let items = ["A", "B", "C", "D"].map(|sku| Item { sku: sku.into(), listing: 1, units: 9 });
    let options = Options {
        items: items.to_vec(),
        // A feed is worked through before the next call is answered, and so none overtakes what comes after it.
        feed_after: Duration::ZERO,
        faults,
        ..Options::new("north", Kind::Walmart)
    };
    let sender = Sender::start(options).await.unwrap();
    let settings = Settings {
        base_url: sender.url(),
        token_url: format!("{}/v3/token", sender.url()),
        client_id: sender.options().api_id.clone(),
        client_secret: sender.options().api_secret.as_str().into(),
        feeds,
        adds_reserved: true,
    };
    let ms = Duration::from_millis;
    let feeds = Patience { first: ms(10), most: ms(20), total: ms(500) };
    let client = Client { feeds, ..Client::new(&settings).unwrap() };
    (sender, client)
}

/// What a seller says that it did must be what it did, whatever goes wrong, with orders open all the time; and
/// it must never have been told an older quantity after a newer one.
#[tokio::test]
async fn outcomes_are_true_and_in_order() {
    let faults = Faults {
        row_error: 0.2,
        feed_error: 0.1,
        api_error: 0.05,
        api_answer_lost: 0.05,
        ..Faults::default()
    };
    let (sender, client) = simulated(faults, FeedType::Inventory).await;
    let (mut confirmed, mut failed, mut unknown) = (0, 0, 0);
    for quantity in 11..=30 {
        if quantity % 4 == 0 {
            sender.sell(&[("A", 1), ("C", 2)]).unwrap();
        }
        let rows = ["A", "B", "C", "D"]
            .map(|sku| Row { from: sender.available(sku).unwrap(), ..row(sku, quantity) });
        let parts = if quantity % 3 == 0 { 4 } else { 1 };
        for rows in rows.chunks(parts) {
            let told = sender.pushes().len();
            let result = match rows {
                [_] => client.set(rows, "").await,
                rows => client.feed(rows, "").await,
            };
            let told = &sender.pushes()[told..];
            let taken = |sku: &str| told.iter().any(|push| push.sku == sku && push.applied);
            let Ok(answered) = result else {
                assert!(told.iter().all(|push| !push.applied), "{told:?} after {result:?}");
                continue;
            };
            for (row, outcome) in rows.iter().zip(answered.value) {
                let sku = &row.place.sku;
                match outcome {
                    RowOutcome::Confirmed => {
                        assert!(taken(sku), "{sku} {quantity}");
                        assert_eq!(sender.available(sku), Some(quantity));
                        confirmed += 1;
                    }
                    RowOutcome::Failed(_) => {
                        assert!(!taken(sku), "{sku} {quantity}");
                        failed += 1;
                    }
                    RowOutcome::Unknown => unknown += 1,
                    outcome => assert!(!taken(sku), "{sku} {quantity} {outcome:?}"),
                }
            }
        }
    }
    assert!(confirmed > 5 && failed > 0 && unknown > 0, "{confirmed} {failed} {unknown}");
    for sku in ["A", "B", "C", "D"] {
        let pushes = sender.pushes().into_iter().filter(|push| push.sku == sku);
        let told: Vec<i64> = pushes.map(|push| push.to).collect();
        assert!(told.is_sorted(), "{told:?}");
    }
    sender.shutdown().await;
}

/// A feed of the newer form that is not understood, or a report that lies, must not pass for what was done.
#[tokio::test]
async fn the_newer_feed_is_understood_and_a_lie_shows_when_read() {
    let (sender, client) = simulated(Faults::default(), FeedType::MpInventory).await;
    let mut row = Row { from: 9, ..row("A", 4) };
    row.place.location = "361451354333223041".into();
    sender.sell(&[("B", 2)]).unwrap();
    let mut other = Row { from: 7, ..row.clone() };
    (other.place.sku, other.place.listing) = ("B".into(), "B".into());
    let rows = [row.clone(), other];
    let fed = client.feed(&rows, "").await.unwrap().value;
    assert_eq!(fed, [RowOutcome::Confirmed, RowOutcome::Confirmed]);
    assert_eq!((sender.available("A"), sender.available("B")), (Some(4), Some(4)));
    sender.set_faults(Faults { report_lies: 1.0, ..Faults::default() });
    let lie = Row { from: 4, quantity: 3, ..row.clone() };
    assert_eq!(client.feed(&[lie], "").await.unwrap().value, [RowOutcome::Confirmed]);
    assert_eq!(client.read(&[row.place]).await.unwrap().value, [Some(4)]);
    sender.shutdown().await;
}
