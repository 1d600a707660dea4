//! Orders of a Shopify store, by its GraphQL Admin API.
//!
//! Without the scope `read_all_orders` a store tells of the last 60 days alone.

use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use channels::shopify::poll::{ORDER_QUERY, ORDERS_MAX, ORDERS_QUERY};
use serde_json::{Value, json};

use super::client::{GraphQl, call, path};
use crate::channel::api::{Api, ApiError, Credential};
use crate::channel::outcome::PushError;
use crate::{clock, config};

/// How to reach a store.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `https://{shop}.myshopify.com`.
    pub base_url: String,
    /// The dated version of its API.
    pub version: String,
    /// The access token.
    pub token: Credential,
}

impl Settings {
    /// As the config says; `None` if something is missing there.
    #[must_use]
    pub fn of(api: &config::Api) -> Option<Self> {
        Some(Self {
            base_url: api.base_url.clone(),
            version: api.version().into(),
            token: api.token.as_ref()?.into(),
        })
    }
}

/// A store's orders.
pub struct Orders {
    api: Api,
    path: String,
    settings: Settings,
    /// Orders of a page: fewer where the store found that too dear.
    page: AtomicU32,
}

impl Orders {
    /// Nobody is asked yet. The error says what is wrong with the URL.
    pub fn new(settings: Settings) -> Result<Self, String> {
        let (api, path) = (Api::new(&settings.base_url)?, path(&settings.version));
        Ok(Self { api, path, settings, page: AtomicU32::new(ORDERS_MAX) })
    }

    /// The answer of a store that was asked for one order, by its number or its gid.
    pub async fn order(&self, id: &str) -> Result<Bytes, ApiError> {
        let kind = "gid://shopify/Order/";
        let gid = format!("{kind}{}", id.strip_prefix(kind).unwrap_or(id));
        let (body, answer) = self.ask(ORDER_QUERY, &json!({ "id": gid })).await?;
        failed(&answer).map(|()| body)
    }

    /// One page of the orders changed since a time. `page` is the `endCursor` of the page before.
    pub async fn changes(&self, since_ms: u64, page: Option<&str>) -> Result<Bytes, ApiError> {
        let query = format!("updated_at:>='{}' AND status:any", clock::rfc3339(since_ms));
        loop {
            let first = self.page.load(Ordering::Relaxed);
            let variables = json!({ "first": first, "after": page, "query": query });
            let (body, answer) = self.ask(ORDERS_QUERY, &variables).await?;
            // What a page costs depends on the query and on the store's plan: fewer cost less.
            if answer.costs_too_much() && first > 1 {
                self.page.store(first / 2, Ordering::Relaxed);
                continue;
            }
            failed(&answer)?;
            return Ok(body);
        }
    }

    async fn ask(&self, query: &str, variables: &Value) -> Result<(Bytes, GraphQl), ApiError> {
        let call = call(&self.path, self.settings.token.expose(), query, variables);
        let body = self.api.send(call).await?.success()?;
        let answer = serde_json::from_slice(&body)
            .map_err(|error| ApiError::Unreadable(format!("it is no GraphQL: {error}")))?;
        Ok((body, answer))
    }
}

/// Errors come with HTTP 200.
fn failed(answer: &GraphQl) -> Result<(), ApiError> {
    Err(match answer.error() {
        None => return Ok(()),
        Some(PushError::Limited { wait_ms }) => ApiError::Limited { wait_ms },
        Some(PushError::Unauthorised(why)) => ApiError::Unauthorised(why),
        Some(PushError::Unknown(why)) => ApiError::Unreachable(why),
        Some(PushError::Refused(why) | PushError::Suspect(why)) => ApiError::Refused(why),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::api::fake::{Asked, Fake, said};

    fn orders(fake: &Fake) -> Orders {
        Orders::new(Settings {
            base_url: fake.url.clone(),
            version: "2026-04".into(),
            token: "shpat_1".into(),
        })
        .unwrap()
    }

    /// A fault that comes with status 200 and counts as an answer loses what was asked for.
    #[tokio::test]
    async fn an_answer_with_errors_is_an_error() {
        let of = |body| async move { orders(&Fake::always(200, body).await).order("5678").await };
        assert!(of(r#"{"data":{"order":{"id":"x"}}}"#).await.is_ok());
        let denied = r#"{"data":{"order":null},"errors":[{"message":"no","extensions":{"code":"ACCESS_DENIED"}}]}"#;
        assert!(matches!(of(denied).await, Err(ApiError::Unauthorised(_))));
        let slow = r#"{"errors":[{"message":"slow","extensions":{"code":"THROTTLED"}}]}"#;
        assert!(matches!(of(slow).await, Err(ApiError::Limited { wait_ms: 100.. })));
        let fault = r#"{"errors":[{"message":"x","extensions":{"code":"INTERNAL_SERVER_ERROR"}}]}"#;
        assert!(matches!(of(fault).await, Err(ApiError::Unreachable(_))));
    }

    /// A page that is too dear is too dear each time: nothing would ever be polled.
    #[tokio::test]
    async fn a_page_that_costs_too_much_is_halved() {
        let fake = Fake::start(|asked: Asked| async move {
            let dear = r#"{"errors":[{"message":"x","extensions":{"code":"MAX_COST_EXCEEDED"}}]}"#;
            let is_dear = asked.json()["variables"]["first"].as_u64().unwrap() > 5;
            said(200, if is_dear { dear } else { r#"{"data":{"orders":{}}}"# })
        })
        .await;
        let orders = orders(&fake);
        orders.changes(1_000, Some("cursor")).await.unwrap();
        orders.changes(1_000, None).await.unwrap();
        let asked = fake.asked();
        let firsts: Vec<_> = asked.iter().map(|a| a.json()["variables"]["first"].clone()).collect();
        assert_eq!(firsts, [12, 6, 3, 3]);
        let variables = asked[0].json()["variables"].clone();
        assert_eq!(variables["after"], "cursor");
        assert_eq!(variables["query"], "updated_at:>='1970-01-01T00:00:01.000Z' AND status:any");
        assert_eq!(asked[0].header("x-shopify-access-token"), "shpat_1");
        assert_eq!(asked[0].target, "/admin/api/2026-04/graphql.json");
    }
}
