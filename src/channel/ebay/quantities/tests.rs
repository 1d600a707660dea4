use super::*;
use crate::channel::api::fake::{Asked, Fake, said};
use serde_json::json;

fn client(fake: &Fake) -> Client {
    let ebay = Ebay::new(&Settings {
        base_url: fake.url.clone(),
        token_url: format!("{}/token", fake.url),
        client_id: "app".into(),
        client_secret: "secret".into(),
        refresh_token: Some("refresh".into()),
    });
    Client { ebay: ebay.unwrap(), rows_max: ROWS_MAX, compared: Compared::default() }
}

/// A seller of whom every item has five units, and whose bulk update is answered with this.
async fn seller(status: u16, answer: Value) -> Fake {
    Fake::start(move |asked: Asked| {
        let answer = answer.clone();
        async move {
            match asked.target.as_str() {
                "/token" => said(200, r#"{"access_token":"seller"}"#),
                GET => {
                    let asked = asked.json()["requests"].as_array().unwrap().clone();
                    let shown = |asked: &Value| {
                        let available = json!({ "shipToLocationAvailability": { "quantity": 5 } });
                        json!({ "statusCode": 200, "sku": asked["sku"], "errors": [],
                            "inventoryItem": { "availability": available } })
                    };
                    let shown: Vec<Value> = asked.iter().map(shown).collect();
                    said(200, json!({ "responses": shown }).to_string())
                }
                _ => said(status, answer.to_string()),
            }
        }
    })
    .await
}

fn row(sku: &str, offer: Option<&str>) -> Row {
    let settings = offer.map(|id| ("offer_id".to_owned(), id.to_owned())).into_iter().collect();
    let place = Place { sku: "own".into(), listing: sku.into(), settings, ..Place::default() };
    Row { place, quantity: 17, from: 5 }
}

fn one(sku: &str, status: u16, error: u64, message: &str) -> Value {
    json!({ "statusCode": status, "sku": sku, "warnings": [],
        "errors": [{ "errorId": error, "domain": "API_INVENTORY", "message": message }] })
}

async fn outcome(status: u16, error: u64, message: &str) -> RowOutcome {
    let answer = json!({ "responses": [one("TEE", status, error, message)] });
    let fake = seller(207, answer).await;
    client(&fake).set(&[row("TEE", None)], "a").await.unwrap().value.remove(0)
}

/// 207 is a success of which some rows are none; a row of which nothing is said may have been set.
#[tokio::test]
async fn each_row_has_its_own_outcome() {
    let answer = json!({ "responses": [
        { "statusCode": 200, "offerId": "36", "sku": "TEE-M", "errors": [], "warnings": [] },
        one("MUG", 400, 25_709, "Invalid value"),
        { "statusCode": 200, "sku": "CAP", "errors": [] },
        one("CAP", 404, 25_713, "This Offer is not available."),
    ]});
    let fake = seller(207, answer).await;
    let rows =
        [row("TEE-M", Some("36")), row("MUG", None), row("CAP", Some("37, 38")), row("X", None)];
    let outcomes = client(&fake).set(&rows, "a").await.unwrap().value;
    assert_eq!(outcomes[0], RowOutcome::Confirmed);
    assert!(matches!(&outcomes[1], RowOutcome::Failed(why) if why.contains("25709")));
    assert!(matches!(&outcomes[2], RowOutcome::Failed(why) if why.contains("offer_id")));
    assert_eq!(outcomes[3], RowOutcome::Unknown);
    let asked = fake.asked();
    let set = asked.iter().find(|asked| asked.target == SET).unwrap();
    assert_eq!(set.header("authorization"), "Bearer seller");
    // The listing shows the smaller of the two.
    let requests = &set.json()["requests"];
    let offer = |id| json!({ "offerId": id, "availableQuantity": 17 });
    assert_eq!(
        requests[0],
        json!({ "sku": "TEE-M", "offers": [offer("36")],
        "shipToLocationAvailability": { "quantity": 17 } })
    );
    assert_eq!(requests[1].get("offers"), None);
    assert_eq!(requests[2]["offers"], json!([offer("37"), offer("38")]));
}

/// What is given up waits for a person, and what is tried again for ever costs the day's calls.
#[tokio::test]
async fn errors_are_taken_for_what_they_are() {
    for (status, error) in [(400, 25_002), (400, 25_709), (404, 25_702), (400, 25_759)] {
        let outcome = outcome(status, error, "no").await;
        assert!(matches!(outcome, RowOutcome::Failed(_)), "{error}: {outcome:?}");
    }
    assert_eq!(outcome(500, 25_001, "a system error").await, RowOutcome::Unknown);
    assert_eq!(outcome(400, 25_604, "try later").await, RowOutcome::Refused);
    let revised = "The listing was revised 250 times today";
    assert_eq!(outcome(400, 25_002, revised).await, RowOutcome::Refused);
}

/// The same of a whole call.
#[tokio::test]
async fn a_call_that_fails_is_taken_for_what_it_is() {
    let error = |id: u64| json!({ "errors": [{ "errorId": id, "message": "no" }] });
    let of = |status, answer| async move {
        let fake = seller(status, answer).await;
        client(&fake).set(&[row("TEE", None)], "a").await.unwrap_err()
    };
    assert!(matches!(of(400, error(25_002)).await, PushError::Suspect(_)));
    assert!(matches!(of(403, error(1_100)).await, PushError::Unauthorised(_)));
    assert!(matches!(of(500, error(25_001)).await, PushError::Unknown(_)));
    assert!(matches!(of(200, json!("<html>")).await, PushError::Unknown(_)));
    assert!(matches!(of(429, error(2_001)).await, PushError::Limited { wait_ms: 2_000 }));
    assert!(matches!(of(302, json!("")).await, PushError::Refused(_)));
}

/// A refresh token that was taken back is for a person to mend, and nothing was set meanwhile.
#[tokio::test]
async fn without_a_token_nothing_is_set() {
    for (status, revoked) in [(400, true), (502, false)] {
        let fake = Fake::always(status, r#"{"error":"invalid_grant"}"#).await;
        let error = client(&fake).set(&[row("TEE", None)], "a").await.unwrap_err();
        let fits = if revoked {
            matches!(error, PushError::Unauthorised(_))
        } else {
            matches!(error, PushError::Refused(_))
        };
        assert!(fits, "{error:?}");
        assert!(fake.asked().iter().all(|asked| asked.target == "/token"));
    }
}

/// An item that eBay cannot look up now is not one that it does not know.
#[tokio::test]
async fn a_reading_says_why_there_is_none() {
    let read = |answer: Value| async move {
        let fake = Fake::start(move |asked: Asked| {
            let answer = if asked.target == "/token" {
                json!({ "access_token": "seller" })
            } else {
                answer.clone()
            };
            async move { said(200, answer.to_string()) }
        })
        .await;
        let read = client(&fake).read(&[row("TEE", None).place]).await;
        read.map(|answered| answered.value)
    };
    let unknown = json!({ "responses": [one("TEE", 404, 25_710, "We didn't find it.")] });
    assert_eq!(read(unknown).await, Ok(vec![None]));
    assert_eq!(read(json!({ "responses": [] })).await, Ok(vec![None]));
    let broken = json!({ "responses": [one("TEE", 500, 25_001, "a system error")] });
    assert!(matches!(read(broken).await, Err(PushError::Refused(_))));
}
