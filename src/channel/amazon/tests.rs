use std::collections::BTreeMap as Map;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use marketplace::amazon::{Account, Faults, Item};
use marketplace::sqs::Queue;

use super::*;
use crate::channel::api::fake::{Asked, Fake, said};

/// One tenth of a second is long enough where nothing really happens.
fn client(fake: &Fake) -> Client {
    let settings = Settings {
        base_url: fake.url.clone(),
        token_url: format!("{}/token", fake.url),
        client_id: "amzn1.app".into(),
        client_secret: "secret".into(),
        refresh_token: "Atzr|1".into(),
        marketplaces: vec!["ATVPDKIKX0DER".into(), "A2EUQ1WTGCTBG2".into()],
        seller_id: "A0SELLER".into(),
        applied_within: Duration::ZERO,
    };
    let ms = Duration::from_millis;
    let quick = Patience { first: ms(1), most: ms(1), total: ms(100) };
    Client { applied: quick, feeds: quick, ..Client::new(&settings).unwrap() }
}

/// A row whose product type is known.
fn row(sku: &str, quantity: i64) -> Row {
    let settings = Map::from([("product_type".to_owned(), "SHIRT".to_owned())]);
    let place = Place { sku: sku.into(), listing: sku.into(), settings, ..Place::default() };
    Row { place, quantity, from: 0 }
}

type Said = Response<Full<Bytes>>;

/// A server that hands out tokens, and otherwise answers by method and path.
async fn amazon(answer: impl Fn(&str, &Asked) -> Said + Clone + Send + 'static) -> Fake {
    Fake::start(move |asked: Asked| {
        let (path, _) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
        let said = match path {
            "/token" => said(200, r#"{"access_token":"Atza|1","expires_in":3600}"#),
            path => answer(&format!("{} {path}", asked.method), &asked),
        };
        async move { said }
    })
    .await
}

/// What is said of listings that are asked for: each shows so many.
fn shows(asked: &Asked, shown: i64) -> Said {
    let item = |sku: &str| {
        json!({
            "sku": sku,
            "fulfillmentAvailability": [
                { "fulfillmentChannelCode": "DEFAULT", "quantity": shown },
            ],
            "productTypes": [{ "marketplaceId": "ATVPDKIKX0DER", "productType": "LUGGAGE" }],
        })
    };
    let (path, query) = asked.target.split_once('?').unwrap();
    let body = match query.split('&').find_map(|part| part.strip_prefix("identifiers=")) {
        Some(skus) => {
            let items: Vec<Value> = skus.split("%2C").map(item).collect();
            json!({ "numberOfResults": items.len(), "items": items })
        }
        None => item(path.rsplit('/').next().unwrap()),
    };
    said(200, body.to_string())
}

async fn pushed(status: u16, body: &'static str) -> Result<RowOutcome, PushError> {
    let fake = amazon(
        move |what, asked| {
            if what.starts_with("PATCH") { said(status, body) } else { shows(asked, 0) }
        },
    )
    .await;
    let answered = client(&fake).set(&[row("TEE-M", 17)], "").await?;
    Ok(answered.value[0].clone())
}

fn failed(outcome: RowOutcome) -> String {
    match outcome {
        RowOutcome::Failed(why) => why,
        other => panic!("{other:?}"),
    }
}

/// Taken for done, what Amazon only promised is sold twice in between; sent to another path, or in other
/// words, it is never done.
#[tokio::test]
async fn accepted_is_not_shown() {
    // What is accepted comes to be shown, or to be more than that since somebody sold.
    let accepted = r#"{"sku":"TEE M/1","status":"ACCEPTED","submissionId":"f1","issues":[]}"#;
    let patched = Arc::new(AtomicBool::new(false));
    let fake = amazon(move |what, asked| {
        if what.starts_with("PATCH") {
            patched.store(true, Ordering::SeqCst);
            return said(200, accepted);
        }
        shows(asked, if patched.swap(false, Ordering::SeqCst) { 17 } else { 0 })
    })
    .await;
    let client = client(&fake);
    let set = |quantity| {
        let rows = [row("TEE M/1", quantity)];
        let client = &client;
        async move { client.set(&rows, "").await.unwrap().value }
    };
    assert_eq!(set(17).await, [RowOutcome::Confirmed]);
    assert_eq!(set(18).await, [RowOutcome::Unknown]);
    let asked = fake.asked();
    let asked = asked.iter().find(|asked| asked.method == "PATCH").unwrap();
    let path = "/listings/2021-08-01/items/A0SELLER/TEE%20M%2F1?marketplaceIds=ATVPDKIKX0DER";
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("PATCH", path));
    assert_eq!(asked.header("x-amz-access-token"), "Atza|1");
    assert_eq!(
        asked.json(),
        json!({ "productType": "SHIRT", "patches": [{
            "op": "merge", "path": "/attributes/fulfillment_availability",
            "value": [{ "fulfillment_channel_code": "DEFAULT", "quantity": 17 }],
        }] })
    );
}

/// A refusal that is tried for ever uses up the rate of all others; one that is given up for a passing fault
/// is never pushed again.
#[tokio::test]
async fn each_answer_means_what_it_says() {
    let invalid = r#"{"sku":"TEE-M","status":"INVALID","submissionId":"f1","issues":[
        {"code":"90220","message":"a required attribute is missing","severity":"ERROR"},
        {"code":"18027","message":"a picture is small","severity":"WARNING"}]}"#;
    let why = failed(pushed(200, invalid).await.unwrap());
    assert_eq!(why, "90220: a required attribute is missing");
    let error = r#"{"errors":[{"code":"InvalidInput","message":"no such type","details":""}]}"#;
    assert_eq!(failed(pushed(400, error).await.unwrap()), "InvalidInput: no such type");
    assert!(failed(pushed(404, error).await.unwrap()).contains("map the SKU"));
    // Without Amazon's own words it was something else that answered.
    assert!(matches!(pushed(404, "<html>").await, Err(PushError::Refused(_))));
    assert!(matches!(pushed(400, "<html>").await, Err(PushError::Refused(_))));
    assert!(matches!(pushed(301, "").await, Err(PushError::Refused(_))));
    assert_eq!(pushed(429, error).await, Err(PushError::Limited { wait_ms: 2_000 }));
    assert!(matches!(pushed(403, error).await, Err(PushError::Unauthorised(_))));
    for (status, body) in
        [(500, error), (503, error), (502, "<html>"), (200, "<html>"), (200, "{}")]
    {
        assert_eq!(pushed(status, body).await, Ok(RowOutcome::Unknown), "{status} {body}");
    }
}

/// A row that is counted as sent after a limit is never sent; one before it that counts as refused is sent
/// twice.
#[tokio::test]
async fn a_limit_among_rows_stops_those_after_it() {
    let fake = amazon(|what, asked| {
        let error = r#"{"errors":[{"code":"QuotaExceeded","message":"slow"}]}"#;
        let own = what.rsplit('/').next().unwrap();
        match (asked.method.as_str(), own) {
            ("PATCH", "A") => said(400, error),
            ("PATCH", "B") => said(429, error),
            ("GET", _) => shows(asked, 0),
            (method, sku) => panic!("{method} {sku}"),
        }
    })
    .await;
    let rows = [row("A", 1), row("B", 2), row("C", 3)];
    let answered = client(&fake).set(&rows, "").await.unwrap();
    assert!(answered.wait >= Duration::from_secs(1), "{:?}", answered.wait);
    let RowOutcome::Failed(_) = answered.value[0] else { panic!("{answered:?}") };
    assert_eq!(answered.value[1..], [RowOutcome::Refused, RowOutcome::Refused]);
}

/// A listing that Amazon fulfils becomes the seller's to ship once a quantity is set, so it must not be shown
/// as one that shows nothing. One whose stock was never told must be.
#[tokio::test]
async fn only_own_stock_is_read() {
    let fake = amazon(|_, asked| {
        assert!(asked.target.contains("identifiers=A%2CB%2CC%2CD&identifiersType=SKU"));
        said(
            200,
            r#"{"numberOfResults":3,"items":[
            {"sku":"C","fulfillmentAvailability":[]},
            {"sku":"A","fulfillmentAvailability":[
                {"fulfillmentChannelCode":"AMAZON_NA"},
                {"fulfillmentChannelCode":"DEFAULT","quantity":5}]},
            {"sku":"B","fulfillmentAvailability":[{"fulfillmentChannelCode":"AMAZON_NA"}]}]}"#,
        )
    })
    .await;
    let places = ["A", "B", "C", "D"].map(|sku| row(sku, 0).place);
    let read = client(&fake).read(&places).await.unwrap();
    assert_eq!(read.value, [Some(5), None, Some(0), None]);
}

/// A SKU with a comma would be two in a list. An id that no path can hold must not stop the others.
#[tokio::test]
async fn odd_ids_are_asked_for_alone() {
    let shows = |sku: &str| {
        let own = json!([{ "fulfillmentChannelCode": "DEFAULT", "quantity": 1 }]);
        json!({ "sku": sku, "fulfillmentAvailability": own })
    };
    let fake = amazon(move |what, asked| {
        let body = if asked.target.contains("identifiers=") {
            json!({ "items": [shows("A"), shows("B")] })
        } else {
            assert!(what.ends_with("/C%2CD"), "{what}");
            shows("C,D")
        };
        said(200, body.to_string())
    })
    .await;
    let client = client(&fake);
    let places = ["A", "C,D", "B"].map(|sku| row(sku, 0).place);
    assert_eq!(client.read(&places).await.unwrap().value, [Some(1); 3]);
    let nowhere = [row("..", 0).place];
    assert!(matches!(client.read(&nowhere).await, Err(PushError::Suspect(_))));
    let set = client.set(&[row("..", 1)], "").await;
    assert!(matches!(set, Err(PushError::Suspect(_))), "{set:?}");
}

/// What is set over a sale that was not heard of yet puts its units on sale again; without the right product
/// type Amazon takes no patch.
#[tokio::test]
async fn what_is_shown_is_looked_at_before() {
    let fake = amazon(|what, asked| match what {
        "PATCH /listings/2021-08-01/items/A0SELLER/A" => {
            assert_eq!(asked.json()["productType"], "LUGGAGE");
            said(200, r#"{"status":"ACCEPTED"}"#)
        }
        what => {
            assert!(what.starts_with("GET"), "{what}");
            shows(asked, 4)
        }
    })
    .await;
    let client = client(&fake);
    let mut rows = [row("A", 4), row("B", 3)];
    rows[0].place.settings.clear();
    (rows[0].from, rows[1].from) = (4, 5);
    let outcomes = client.set(&rows, "").await.unwrap().value;
    assert_eq!(outcomes, [RowOutcome::Confirmed, RowOutcome::Stale]);
}

/// A feed whose report is this, of three rows.
async fn fed(status: &'static str, report: &'static str) -> (Vec<RowOutcome>, Vec<Asked>) {
    let fake = amazon(move |what, asked| {
        let url = format!("http://{}", asked.header("host"));
        let document = |id: &str| {
            said(200, json!({ "feedDocumentId": id, "url": format!("{url}/{id}?s=1") }).to_string())
        };
        match what {
            "GET /listings/2021-08-01/items/A0SELLER" => shows(asked, 0),
            "POST /feeds/2021-06-30/documents" => document("in"),
            "GET /feeds/2021-06-30/documents/out" => document("out"),
            "PUT /in" => said(200, ""),
            "GET /out" => said(200, report),
            "POST /feeds/2021-06-30/feeds" => said(202, r#"{"feedId":"53"}"#),
            "GET /feeds/2021-06-30/feeds/53" => said(
                200,
                json!({ "processingStatus": status, "resultFeedDocumentId": "out" }).to_string(),
            ),
            other => panic!("{other}"),
        }
    })
    .await;
    let rows = [row("A", 1), row("B", 2), row("C", 3)];
    let outcomes = client(&fake).feed(&rows, "").await.unwrap().value;
    (outcomes, fake.asked())
}

/// One bad row must not hold back the others, nor a report that does not add up confirm any. A token that
/// goes to the storage is anybody's who reads its logs.
#[tokio::test]
async fn the_report_settles_each_row() {
    const REPORT: &str = r#"{"header":{"feedId":"53"},
        "issues":[{"messageId":2,"sku":"B","code":"90220","severity":"ERROR","message":"missing"},
            {"messageId":3,"sku":"C","code":"1","severity":"WARNING","message":"small"}],
        "summary":{"errors":1,"warnings":1,"messagesProcessed":3,"messagesAccepted":2,
            "messagesInvalid":1}}"#;
    let (outcomes, asked) = fed("DONE", REPORT).await;
    let invalid = RowOutcome::Failed("90220: missing".into());
    assert_eq!(outcomes, [RowOutcome::Confirmed, invalid.clone(), RowOutcome::Confirmed]);
    let upload = asked.iter().find(|asked| asked.method == "PUT").unwrap();
    assert_eq!(upload.header("x-amz-access-token"), "");
    assert_eq!(upload.header("content-type"), "application/json; charset=UTF-8");
    let message = &upload.json()["messages"][1];
    assert_eq!((&message["messageId"], &message["sku"]), (&json!(2), &json!("B")));
    assert_eq!(message["patches"][0]["value"][0]["quantity"], 2);

    let two = REPORT.replace("\"messagesInvalid\":1", "\"messagesInvalid\":2");
    let fewer = REPORT.replace("\"messagesProcessed\":3", "\"messagesProcessed\":2");
    for report in [two, fewer, REPORT.replace("summary", "sum")] {
        let (outcomes, _) = fed("DONE", report.leak()).await;
        assert_eq!(outcomes, [RowOutcome::Unknown, invalid.clone(), RowOutcome::Unknown]);
    }
}

/// Some rows of a feed that failed may have been taken: taken for refused, they would be overwritten by
/// whatever is pushed next without being looked at.
#[tokio::test]
async fn a_feed_without_a_report_is_read_back() {
    assert_eq!(fed("FATAL", "").await.0, vec![RowOutcome::Unknown; 3]);
    assert_eq!(fed("DONE", "<html>").await.0, vec![RowOutcome::Unknown; 3]);
    assert_eq!(fed("IN_PROGRESS", "").await.0, vec![RowOutcome::Unknown; 3]);
    assert_eq!(fed("CANCELLED", "").await.0, vec![RowOutcome::Refused; 3]);
}

/// A feed that is made twice may overtake itself; one that was not made must not be waited for.
#[tokio::test]
async fn a_feed_is_made_once() {
    for (status, wanted) in [
        (500, Ok(vec![RowOutcome::Unknown])),
        (429, Err(PushError::Limited { wait_ms: 60_000 })),
        (400, Err(PushError::Refused("X: no".into()))),
    ] {
        let fake = amazon(move |what, asked| match what {
            "POST /feeds/2021-06-30/documents" => {
                let url = format!("http://{}/in", asked.header("host"));
                said(200, json!({ "feedDocumentId": "in", "url": url }).to_string())
            }
            "POST /feeds/2021-06-30/feeds" => {
                said(status, r#"{"errors":[{"code":"X","message":"no"}]}"#)
            }
            "PUT /in" => said(200, ""),
            _ => shows(asked, 0),
        })
        .await;
        let result = client(&fake).feed(&[row("A", 1)], "").await;
        assert_eq!(result.map(|answered| answered.value), wanted);
        let made = fake.asked().iter().filter(|one| one.target.ends_with("/feeds")).count();
        assert_eq!(made, 1);
    }
    let elsewhere =
        amazon(|_, _| said(200, r#"{"feedDocumentId":"in","url":"https://example.com/in"}"#)).await;
    let result = client(&elsewhere).feed(&[row("A", 1)], "").await;
    assert!(matches!(result, Err(PushError::Refused(_))), "{result:?}");
}

/// A credential that Amazon takes no more must pause the channel, and not be tried for ever.
#[tokio::test]
async fn a_revoked_grant_is_not_an_outage() {
    let fake =
        Fake::always(400, r#"{"error":"invalid_grant","error_description":"revoked"}"#).await;
    let client = client(&fake);
    let result = client.set(&[row("A", 1)], "").await;
    assert!(matches!(result, Err(PushError::Unauthorised(_))), "{result:?}");
    let result = client.feed(&[row("A", 1)], "").await;
    assert!(matches!(result, Err(PushError::Unauthorised(_))), "{result:?}");
}

/// A seller account that goes wrong in every way it can.
async fn simulated(faults: Faults) -> (Account, Client) {
    let queue = Queue::start(marketplace::sqs::Options::new("orders")).await.unwrap();
    let items = ["A", "B", "C", "D"].map(|sku| Item { sku: sku.into(), units: 0 });
    let options = marketplace::amazon::Options {
        items: items.to_vec(),
        applied_after: Duration::from_millis(5),
        feed_after: Duration::from_millis(20),
        time_scale: 100_000.0,
        faults,
        ..marketplace::amazon::Options::new("A0SELLER")
    };
    let account = Account::start(options, queue).await.unwrap();
    let of = account.options();
    let settings = Settings {
        base_url: account.endpoint(),
        token_url: format!("{}/auth/o2/token", account.endpoint()),
        client_id: of.client_id.clone(),
        client_secret: of.client_secret.as_str().into(),
        refresh_token: of.refresh_token.as_str().into(),
        marketplaces: vec![of.marketplace_id.clone()],
        seller_id: of.seller_id.clone(),
        applied_within: Duration::ZERO,
    };
    let ms = Duration::from_millis;
    let applied = Patience { first: ms(10), most: ms(20), total: ms(300) };
    let feeds = Patience { first: ms(10), most: ms(20), total: ms(400) };
    let client = Client { applied, feeds, ..Client::new(&settings).unwrap() };
    (account, client)
}

/// Reads until it is answered, as whoever pushes does.
async fn shown(client: &Client, places: &[Place]) -> Vec<i64> {
    loop {
        if let Ok(read) = client.read(places).await {
            return read.value.into_iter().map(Option::unwrap).collect();
        }
    }
}

/// What an account says that it did must be what it did, whatever goes wrong; and it must never have been told
/// an older quantity after a newer one.
#[tokio::test]
async fn outcomes_are_true_and_in_order() {
    let (account, client) = simulated(Faults {
        invalid: 0.1,
        row_failed: 0.1,
        fatal: 0.1,
        cancelled: 0.1,
        throttled: 0.02,
        server_error: 0.05,
        answer_lost: 0.05,
        ..Faults::default()
    })
    .await;
    let places: Vec<Place> = ["A", "B", "C", "D"].map(|sku| row(sku, 0).place).to_vec();
    let (mut confirmed, mut failed, mut unknown) = (0, 0, 0);
    for quantity in 1..=12 {
        let from = shown(&client, &places).await;
        let rows: Vec<Row> = places
            .iter()
            .zip(from)
            .map(|(place, from)| {
                let mut place = place.clone();
                place.settings.insert("product_type".into(), "PRODUCT".into());
                Row { place, quantity, from }
            })
            .collect();
        let told = account.pushes().len();
        let result = if quantity % 3 == 0 {
            client.feed(&rows, "").await
        } else {
            client.set(&rows, "").await
        };
        let told = &account.pushes()[told..];
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
    assert!(confirmed > 5 && failed > 0 && unknown > 0, "{confirmed} {failed} {unknown}");
    for place in &places {
        let pushes = account.pushes().into_iter().filter(|push| push.sku == place.sku);
        let told: Vec<i64> = pushes.map(|push| push.to).collect();
        assert!(told.is_sorted(), "{told:?}");
    }
    account.shutdown().await;
}

/// What was granted and is taken back ends a channel until a person mends it; an outage does not.
#[tokio::test]
async fn revoked_and_down_are_not_the_same() {
    let (account, client) = simulated(Faults::default()).await;
    let places = [row("A", 0).place];
    client.read(&places).await.unwrap();
    account.set_outage(marketplace::Outage::DropAfterApply);
    assert!(matches!(client.read(&places).await, Err(PushError::Refused(_))));
    account.set_outage(marketplace::Outage::None);
    account.set_revoked(true);
    // A token as young as this one is not asked for again.
    assert!(matches!(client.read(&places).await, Err(PushError::Unauthorised(_))));
    account.shutdown().await;
}
