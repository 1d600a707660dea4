#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::api::fake::{Asked, Fake, said};
use super::*;

fn settings(fake: &Fake, client_in: ClientIn, grant: Grant) -> Settings {
    Settings {
        url: format!("{}/token", fake.url),
        client_id: "app 1".into(),
        client_secret: "s&cret".into(),
        client_in,
        grant,
        dress: std::convert::identity,
    }
}

fn client_credentials() -> Grant {
    Grant::ClientCredentials { scope: None }
}

/// Gives out token 1, 2, 3…, and takes none but those from `good` on.
async fn issuer(good: u32) -> Fake {
    let given = Arc::new(AtomicU32::new(0));
    Fake::start(move |asked: Asked| {
        let answer = if asked.target == "/token" {
            let number = given.fetch_add(1, Ordering::SeqCst) + 1;
            said(200, format!(r#"{{"access_token":"token {number}","expires_in":900}}"#))
        } else {
            let number: u32 =
                asked.header("authorization").rsplit(' ').next().unwrap().parse().unwrap();
            if number >= good { said(200, "{}") } else { said(401, "{}") }
        };
        async move { answer }
    })
    .await
}

fn given_out(fake: &Fake) -> usize {
    fake.asked().iter().filter(|asked| asked.target == "/token").count()
}

/// A grant in other words, or credentials at the wrong place, are refused by the issuer.
#[tokio::test]
async fn each_issuer_is_asked_in_its_way() {
    let fake = issuer(1).await;
    let token = Token::new(settings(&fake, ClientIn::Basic, client_credentials())).unwrap();
    assert_eq!(token.current(None).await.unwrap().expose(), "token 1");
    let grant = Grant::RefreshToken { token: "r=1".into(), scope: Some("a b".into()) };
    let token = Token::new(settings(&fake, ClientIn::Form, grant)).unwrap();
    token.current(None).await.unwrap();
    let asked = fake.asked();
    assert_eq!(asked[0].body, "grant_type=client_credentials");
    assert_eq!(asked[0].header("authorization"), "Basic YXBwIDE6cyZjcmV0");
    assert_eq!(
        asked[1].body,
        "grant_type=refresh_token&refresh_token=r%3D1&scope=a%20b&client_id=app%201&client_secret=s%26cret"
    );
    assert_eq!(asked[1].header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(asked[1].header("authorization"), "");
}

/// Each of many callers with a token of its own would use up what the issuer gives out in a day.
#[tokio::test]
async fn callers_side_by_side_share_one_token() {
    let fake = issuer(1).await;
    let token = Token::new(settings(&fake, ClientIn::Form, client_credentials())).unwrap();
    let all = futures::future::join_all((0..16).map(|_| token.current(None))).await;
    assert!(all.iter().all(|one| one.as_ref().unwrap().expose() == "token 1"));
    assert_eq!(given_out(&fake), 1);
}

/// A token that was revoked before its end would make every call fail until then. One that is new and
/// refused too is not the cause: another for each call would only use up the issuer's patience.
#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let fake = issuer(2).await;
    let token = Token::new(settings(&fake, ClientIn::Form, client_credentials())).unwrap();
    let api = Api::new(&fake.url).unwrap();
    token.current(None).await.unwrap();
    if let Some(held) = &mut token.kept.lock().await.held {
        held.since = held.since.checked_sub(YOUNG).unwrap();
    }
    let make = |token: &str| Call::get("/orders").bearer(token);
    assert!(token.call(&api, make).await.unwrap().success().is_ok());
    assert_eq!(given_out(&fake), 2);

    let strict = issuer(u32::MAX).await;
    let token = Token::new(settings(&strict, ClientIn::Form, client_credentials())).unwrap();
    let api = Api::new(&strict.url).unwrap();
    for _ in 0..5 {
        let answer = token.call(&api, make).await.unwrap();
        assert!(matches!(answer.success(), Err(ApiError::Unauthorised(_))));
    }
    assert_eq!(given_out(&strict), 1);
}

/// An issuer that is asked anew by every call while it fails is asked without end.
#[tokio::test]
async fn a_failure_is_shared_for_a_while() {
    let fake = Fake::always(400, r#"{"error":"invalid_grant"}"#).await;
    let token = Token::new(settings(&fake, ClientIn::Form, client_credentials())).unwrap();
    for _ in 0..5 {
        let error = token.current(None).await.unwrap_err();
        assert!(matches!(&error, ApiError::Unauthorised(why) if why.contains("invalid_grant")));
    }
    assert_eq!(fake.asked().len(), 1);
}

/// An answer without a token must not be shown: it may hold one at another place.
#[tokio::test]
async fn an_unreadable_answer_is_not_repeated() {
    let fake = Fake::always(200, r#"{"token":"hunter22"}"#).await;
    let token = Token::new(settings(&fake, ClientIn::Form, client_credentials())).unwrap();
    let error = token.current(None).await.unwrap_err();
    assert!(matches!(&error, ApiError::Unreadable(why) if !why.contains("hunter22")), "{error}");
}

fn kept(now: Instant) -> Kept {
    let given = Given { access_token: "one".into(), expires_in: Some(1_000) };
    Kept { held: Some(Held::new(given, now)), failed: None }
}

fn uses(step: &Step) -> bool {
    matches!(step, Step::Use(token) if token.expose() == "one")
}

/// A token that ends on its way is refused; an issuer that is down for a minute must not stop calls whose
/// token is still good.
#[test]
fn a_token_is_renewed_before_its_end_and_used_until_it() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut kept = kept(start);
    assert!(uses(&kept.step(at(799), None)));
    assert!(matches!(kept.step(at(800), None), Step::Renew));
    let down = || ApiError::Unreachable("down".into());
    assert!(kept.failed(down(), at(800)).is_ok());
    assert!(uses(&kept.step(at(801), None)));
    assert!(matches!(kept.step(at(805), None), Step::Renew));
    assert!(matches!(kept.step(at(1_000), None), Step::Renew));
    assert_eq!(kept.failed(down(), at(1_000)), Err(down()));
    assert!(matches!(kept.step(at(1_001), None), Step::Fail(_)));
}
