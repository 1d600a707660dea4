use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;

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
    Row { place, quantity, from: 0 }
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
    client.adds_reserved = false;
    client.set(&[row("TEE M", 17)], "").await.unwrap();
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
    let fake = walmart(move |what, asked| match what {
        "GET /v3/inventories" => {
            let first = !asked.target.contains("nextCursor");
            let stock: Value = serde_json::from_str(STOCK).unwrap();
            let listed = if first { json!([stock]) } else { json!([]) };
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
    let rows = [row("TEE M", 17), row("NOPE", 1), row("SLOW", 1), row("GONE", 1)];
    let (result, asked) = fed("PROCESSED", items.into(), &rows).await;
    let failed = RowOutcome::Failed("ERR_EXT_DATA_0: unknown sku".into());
    let unknown = RowOutcome::Unknown;
    assert_eq!(result.unwrap(), [RowOutcome::Confirmed, failed, unknown.clone(), unknown]);
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
