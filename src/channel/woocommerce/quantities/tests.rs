use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::channel::api::fake::{Asked, Fake, said};

fn client(fake: &Fake) -> Client {
    let (consumer_key, consumer_secret) = ("ck_1".into(), "cs_1".into());
    let settings = Settings { base_url: fake.url.clone(), consumer_key, consumer_secret };
    let api = Api::new(&fake.url).unwrap();
    Client { api, settings, rows_max: 100, compared: Compared::default() }
}

fn row(listing: &str, parent: Option<&str>, from: i64, quantity: i64) -> Row {
    let settings = parent.map(|id| ("parent_id".to_owned(), id.to_owned())).into_iter().collect();
    let place =
        Place { sku: listing.into(), listing: listing.into(), settings, ..Place::default() };
    Row { place, quantity, from }
}

/// A store that shows five of everything that it is asked for, and answers a batch with this.
async fn store(status: u16, batch: Value) -> Fake {
    Fake::start(move |asked: Asked| {
        let batch = batch.clone();
        async move {
            if asked.method == "POST" {
                return said(status, batch.to_string());
            }
            let query = asked.target.split_once("include=").unwrap().1;
            let ids = query.split('&').next().unwrap().replace("%2C", ",");
            let shown = ids.split(',').map(|id| {
                json!({ "id": id.parse::<u64>().unwrap(), "manage_stock": true, "stock_quantity": 5 })
            });
            said(200, Value::Array(shown.collect()).to_string())
        }
    })
    .await
}

async fn outcomes(status: u16, batch: Value, rows: &[Row]) -> Result<Vec<RowOutcome>, PushError> {
    let fake = store(status, batch).await;
    client(&fake).set(rows, "a").await.map(|answered| answered.value)
}

fn fault(id: u64, code: &str, status: u16) -> Value {
    json!({ "id": id, "error": { "code": code, "message": "no", "data": { "status": status } } })
}

/// A batch is answered 200 whatever became of its rows: each must be looked at.
#[tokio::test]
async fn each_row_of_a_batch_has_its_own_outcome() {
    let batch = json!({ "update": [
        { "id": 93, "type": "simple", "manage_stock": true, "stock_quantity": 17 },
        fault(99_999, "woocommerce_rest_product_invalid_id", 400),
        { "id": 94, "manage_stock": false, "stock_quantity": null },
        { "id": 95, "manage_stock": "parent", "stock_quantity": 3 },
        { "id": 96, "manage_stock": true, "stock_quantity": 16 },
        fault(97, "internal_server_error", 500),
    ]});
    let rows: Vec<Row> =
        ["93", "99999", "94", "95", "96", "97", "98"].map(|id| row(id, None, 5, 17)).into();
    let outcomes = outcomes(200, batch, &rows).await.unwrap();
    let [confirmed, unknown_id, unmanaged, of_parent, changed, broken, missing] = &outcomes[..]
    else {
        panic!("{outcomes:?}")
    };
    assert_eq!(*confirmed, RowOutcome::Confirmed);
    let failed = |outcome: &RowOutcome, cure: &str| {
        assert!(matches!(outcome, RowOutcome::Failed(why) if why.contains(cure)), "{outcome:?}");
    };
    failed(unknown_id, "a product that exists");
    failed(unmanaged, "Stock management");
    failed(of_parent, "Manage stock?");
    for outcome in [changed, broken, missing] {
        assert_eq!(*outcome, RowOutcome::Unknown);
    }
}

/// A variation that is sent among products is not found, and its stock never set.
#[tokio::test]
async fn variations_go_with_their_parent() {
    let row_of = |id| json!({ "id": id, "manage_stock": true, "stock_quantity": 6 });
    let batch = json!({ "update": [row_of(93), row_of(101), row_of(102), row_of(201)] });
    let fake = store(200, batch).await;
    let rows = [
        row("101", Some("100"), 5, 6),
        row("93", None, 5, 6),
        row("201", Some("200"), 5, 6),
        row("102", Some("100"), 5, 6),
        row("x", None, 5, 6),
        row("103", Some("y"), 5, 6),
    ];
    let outcomes = client(&fake).set(&rows, "a").await.unwrap().value;
    assert_eq!(outcomes[..4], vec![RowOutcome::Confirmed; 4]);
    assert!(outcomes[4..].iter().all(|one| matches!(one, RowOutcome::Failed(_))), "{outcomes:?}");
    let posted = fake.asked().into_iter().filter(|asked| asked.method == "POST");
    let posted: Vec<_> = posted.map(|asked| (asked.target.clone(), asked.json())).collect();
    let update = |id| json!({ "id": id, "manage_stock": true, "stock_quantity": 6 });
    let expected = [
        ("/wp-json/wc/v3/products/batch", vec![93]),
        ("/wp-json/wc/v3/products/100/variations/batch", vec![101, 102]),
        ("/wp-json/wc/v3/products/200/variations/batch", vec![201]),
    ];
    let expected = expected.map(|(path, ids)| {
        let rows: Vec<Value> = ids.into_iter().map(update).collect();
        (path.to_owned(), json!({ "update": rows }))
    });
    assert_eq!(posted, expected);
    assert_eq!(fake.asked()[0].header("authorization"), "Basic Y2tfMTpjc18x");
}

/// What is believed of a whole call decides whether it is sent again, read back, or given up.
#[tokio::test]
async fn a_call_that_fails_is_taken_for_what_it_is() {
    let rows = [row("93", None, 5, 6), row("94", None, 5, 6)];
    let fault = |code: &str| json!({ "code": code, "message": "no", "data": {} });
    let of = |status, body| outcomes(status, body, &rows);
    let denied = of(401, fault("woocommerce_rest_cannot_batch")).await;
    assert!(matches!(denied, Err(PushError::Unauthorised(why)) if why.contains("REST key")));
    for (status, code) in [
        (413, "woocommerce_rest_request_entity_too_large"),
        (400, "rest_invalid_param"),
        (404, "woocommerce_rest_product_invalid_id"),
    ] {
        let suspect = of(status, fault(code)).await;
        assert!(matches!(suspect, Err(PushError::Suspect(_))), "{status}: {suspect:?}");
    }
    for (status, body) in
        [(404, fault("rest_no_route")), (403, json!("a firewall")), (301, json!(""))]
    {
        let refused = of(status, body).await;
        assert!(matches!(refused, Err(PushError::Refused(_))), "{status}: {refused:?}");
    }
    // A page of HTML may come after the store did it all.
    for (status, body) in [(502, json!("bad gateway")), (500, json!({})), (200, json!("<html>"))] {
        let unknown = of(status, body).await;
        assert!(matches!(unknown, Err(PushError::Unknown(_))), "{status}: {unknown:?}");
    }
    let limited = of(429, json!("slow down")).await;
    assert_eq!(limited, Err(PushError::Limited { wait_ms: 2_000 }));
}

/// Before anything was sent nothing can have been set.
#[tokio::test]
async fn nothing_is_set_without_a_reading() {
    for (status, body) in [(502, "<html>"), (200, "<html>"), (200, "{}")] {
        let fake = Fake::always(status, body).await;
        let refused = client(&fake).set(&[row("93", None, 5, 6)], "a").await;
        assert!(matches!(refused, Err(PushError::Refused(_))), "{refused:?}");
        assert_eq!(fake.asked().len(), 1);
    }
}

/// Of several batches one may fail after another was carried out: only its own rows are in doubt.
#[tokio::test]
async fn a_second_batch_that_fails_takes_nothing_back() {
    let posts = Arc::new(AtomicU32::new(0));
    let fake = Fake::start(move |asked: Asked| {
        let nth = if asked.method == "POST" { posts.fetch_add(1, Ordering::Relaxed) } else { 9 };
        async move {
            let shown =
                |id, units| json!({ "id": id, "manage_stock": true, "stock_quantity": units });
            match nth {
                0 => said(200, json!({ "update": [shown(93, 6)] }).to_string()),
                1 => said(504, "<html>"),
                9 => said(200, json!([shown(93, 5), shown(101, 5), shown(201, 5)]).to_string()),
                _ => said(429, "<html>"),
            }
        }
    })
    .await;
    let rows =
        [row("93", None, 5, 6), row("101", Some("100"), 5, 6), row("201", Some("200"), 5, 6)];
    let answered = client(&fake).set(&rows, "a").await.unwrap();
    let expected = [RowOutcome::Confirmed, RowOutcome::Unknown, RowOutcome::Untouched];
    assert_eq!((answered.value, answered.wait), (expected.into(), Duration::from_secs(2)));
}

/// A listing that can never be set must say what to do, and not only that it is unknown.
#[tokio::test]
async fn a_reading_says_why_there_is_none() {
    let body =
        r#"[{"id":93,"manage_stock":true,"stock_quantity":-2},{"id":94,"manage_stock":false}]"#;
    let fake = Fake::always(200, body).await;
    let client = client(&fake);
    let place = |id: &str| row(id, None, 0, 0).place;
    let read = client.read(&[place("93"), place("95")]).await.unwrap().value;
    assert_eq!(read, [Some(0), None]);
    let unmanaged = client.read(&[place("93"), place("94")]).await;
    assert!(matches!(unmanaged, Err(PushError::Suspect(why)) if why.contains("not managed")));
}
