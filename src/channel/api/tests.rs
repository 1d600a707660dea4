#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use super::fake::{Fake, said};
use super::*;
use hyper::header::{LOCATION, RETRY_AFTER};
use hyper::{HeaderMap, StatusCode};

fn answer(status: u16, body: &'static str) -> Answer {
    let status = StatusCode::from_u16(status).unwrap();
    Answer { status, headers: HeaderMap::new(), body: body.into() }
}

/// An id with a slash or a question mark must not name another resource.
#[tokio::test]
async fn parts_of_a_url_are_encoded() {
    let fake = Fake::always(200, "{}").await;
    let api = Api::new(&format!("{}/shop/", fake.url)).unwrap();
    let call = Call::get("/orders").segment("a/b?c d+é").query("filter", "[x&y=1..]");
    api.send(call).await.unwrap();
    let target = "/shop/orders/a%2Fb%3Fc%20d%2B%C3%A9?filter=%5Bx%26y%3D1..%5D";
    assert_eq!(fake.asked()[0].target, target);
}

/// An id of dots would name the path above it; a line break would write a header of its own.
#[tokio::test]
async fn what_cannot_stand_in_a_request_is_not_sent() {
    let fake = Fake::always(200, "{}").await;
    let api = Api::new(&fake.url).unwrap();
    let calls = [
        Call::get("/orders").segment(".."),
        Call::get("/orders").segment(""),
        Call::get("/orders").bearer("a\r\nX-Evil: 1"),
        Call::get("/orders").ready_query("a=b c"),
        Call::get("/orders").ready_query("a=b#c"),
    ];
    for call in calls {
        let broken = api.send(call).await.unwrap_err();
        assert!(matches!(ApiError::from(broken), ApiError::Refused(_)));
    }
    assert!(fake.asked().is_empty());
}

/// A redirect would carry the credential to whatever host it names.
#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = Fake::always(200, "{}").await;
    let to = elsewhere.url.clone();
    let fake = Fake::start(move |_| {
        let mut answer = said(307, "");
        answer.headers_mut().insert(LOCATION, to.parse().unwrap());
        async move { answer }
    })
    .await;
    let answer = Api::new(&fake.url).unwrap().send(Call::get("/").bearer("secret")).await.unwrap();
    assert!(matches!(answer.success(), Err(ApiError::Refused(why)) if why.contains("307")));
    assert!(elsewhere.asked().is_empty());
}

/// An endless answer would fill the memory.
#[tokio::test]
async fn a_long_answer_is_cut_off() {
    let fake = Fake::always(200, "0123456789").await;
    let api = Api::new(&fake.url).unwrap();
    assert!(api.send(Call::get("/")).await.is_ok());
    let broken = api.bounded(9).send(Call::get("/")).await.unwrap_err();
    assert_eq!(broken, Broken::TooLong(9));
    assert!(matches!(ApiError::from(broken), ApiError::Unreadable(_)));
}

/// A host that takes the call and falls silent would hold the caller for ever; and the caller must know
/// that the call may have been carried out.
#[tokio::test]
async fn silence_is_told_from_no_connection() {
    let silent = Fake::start(|_| std::future::pending()).await;
    let api = Api::new(&silent.url).unwrap().lasting(Duration::from_millis(20));
    assert!(matches!(api.send(Call::get("/")).await, Err(Broken::Unanswered(_))));
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let api = Api::new(&format!("http://127.0.0.1:{port}")).unwrap();
    assert!(matches!(api.send(Call::get("/")).await, Err(Broken::Unsent(_))));
}

/// A secret sent in clear is no secret; and an API at a URL with a query cannot have paths.
#[test]
fn an_api_is_at_https_without_a_query() {
    assert!(Api::new("http://example.com").is_err());
    assert!(Api::new("https://example.com/?a=b").is_err());
    assert!(Api::new("https://example.com/shop").is_ok());
}

/// A fault of the channel's that counts as final would lose an order, one of ours that is repeated would
/// be repeated for ever.
#[test]
fn statuses_say_whether_to_try_again() {
    let of = |status| answer(status, "{}").success().unwrap_err();
    assert!(matches!(of(401), ApiError::Unauthorised(_)));
    assert!(matches!(of(403), ApiError::Unauthorised(_)));
    assert!(matches!(of(404), ApiError::NotFound));
    assert!(matches!(of(429), ApiError::Limited { wait_ms: 2000 }));
    assert!(matches!(of(400), ApiError::Refused(_)));
    assert!(matches!(of(422), ApiError::Refused(_)));
    for again in [408, 425, 500, 502, 503, 504, 520] {
        assert!(matches!(of(again), ApiError::Unreachable(_)), "{again}");
    }
    assert_eq!(answer(200, "x").success().unwrap(), "x");
}

/// A proxy's 404 page taken for the API's word would give an order up.
#[test]
fn only_the_api_itself_says_that_something_is_unknown() {
    assert_eq!(answer(404, r#"{"errors":[]}"#).known(), Ok(None));
    assert_eq!(answer(404, "<html>").known(), Err(ApiError::NotFound));
    assert_eq!(answer(404, "").known(), Err(ApiError::NotFound));
    assert!(answer(200, "{}").known().unwrap().is_some());
}

/// A refusal without its reason cannot be mended; the rest of the body may hold a customer's data.
#[test]
fn a_refusal_says_why_in_the_channels_words() {
    let of = |body| answer(400, body).success().unwrap_err().to_string();
    let said = of(r#"{"errors":[{"message":"Invalid filter"}],"debug":"Traceback of Jane"}"#);
    assert_eq!(said, "refused: 400 Bad Request: Invalid filter");
    assert_eq!(of("<html>Jane"), "refused: 400 Bad Request");
}

/// A date that is read as no wait is a storm; a wait of a day is an outage.
#[test]
fn retry_after_is_seconds_or_a_date() {
    let of = |text: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, text.parse().unwrap());
        retry_after_ms(&headers, 784_111_777_000 - 5_000)
    };
    assert_eq!(of("3"), Some(3_000));
    assert_eq!(of("0.5"), Some(500));
    assert_eq!(of("Sun, 06 Nov 1994 08:49:37 GMT"), Some(5_000));
    assert_eq!(of("Sun, 06 Nov 1994 08:40:00 GMT"), Some(0));
    assert_eq!(of("86400"), Some(60_000));
    assert_eq!(of("Sun, 06 Nov 2094 08:49:37 GMT"), Some(60_000));
    assert_eq!(of("-1"), Some(0));
    assert_eq!(of("soon"), None);
}

/// A next page on another host would take the credential there.
#[test]
fn a_next_page_is_on_the_same_host_and_path() {
    let api = Api::new("https://api.example.com/v1").unwrap();
    let of = |next: &'static str| api.next_query("/orders", next);
    assert_eq!(of("?a=b"), Ok("a=b"));
    assert_eq!(of("/v1/orders?a=b&c=d%20"), Ok("a=b&c=d%20"));
    assert_eq!(of("https://api.example.com/v1/orders?a=b"), Ok("a=b"));
    for foreign in [
        "https://evil.example.com/v1/orders?a=b",
        "https://api.example.com.evil.com/v1/orders?a=b",
        "https://api.example.com@evil.com/v1/orders?a=b",
        "http://api.example.com/v1/orders?a=b",
        "//evil.example.com/v1/orders?a=b",
        "/v1/customers?a=b",
        "/v1/orders/../customers?a=b",
        "/v1/orders",
        "",
    ] {
        assert!(of(foreign).is_err(), "{foreign}");
    }
}

/// A secret in a log is a secret lost.
#[test]
fn a_credential_is_not_shown() {
    assert_eq!(format!("{:?}", Credential::from("hunter22")), "Credential");
}
