//! Orders of a `WooCommerce` store, by its REST API v3.
//!
//! Its pages are counted from the front, and an order that changes between two pages moves to the end, so
//! that the next page skips one. Therefore each page is asked for by the time at which the one before it
//! ended, and pages are counted only within one second.

use bytes::Bytes;
use serde_json::Value;

use crate::channel::api::{Answer, Api, ApiError, Call, Credential, Listed};
use crate::{clock, config};

/// Orders of a page: what the API allows.
const PAGE: usize = 100;
const PATH: &str = "/wp-json/wc/v3/orders";

/// How to reach a store.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `https://{host}`, with the path of the shop, if it has one.
    pub base_url: String,
    /// The consumer key, `ck_…`.
    pub consumer_key: Credential,
    /// The consumer secret, `cs_…`.
    pub consumer_secret: Credential,
}

impl Settings {
    /// As the config says; `None` if something is missing there.
    #[must_use]
    pub fn of(api: &config::Api) -> Option<Self> {
        Some(Self {
            base_url: api.base_url.clone(),
            consumer_key: api.consumer_key.as_ref()?.into(),
            consumer_secret: api.consumer_secret.as_ref()?.into(),
        })
    }
}

/// A store's orders.
pub struct Orders {
    api: Api,
    settings: Settings,
}

impl Orders {
    /// Nobody is asked yet. The error says what is wrong with the URL.
    pub fn new(settings: Settings) -> Result<Self, String> {
        Ok(Self { api: Api::new(&settings.base_url)?, settings })
    }

    /// One order; `None` if the store does not know it.
    pub async fn order(&self, id: &str) -> Result<Option<Bytes>, ApiError> {
        let answer = self.send(Call::get(PATH).segment(id)).await?;
        let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        // Only WooCommerce knows its orders. Where another answers 404 the API itself is missing: WordPress
        // says `rest_no_route` when WooCommerce or its permalinks are switched off.
        let code = said.get("code").and_then(Value::as_str).unwrap_or_default();
        if code.starts_with("woocommerce_") { answer.known() } else { answer.success().map(Some) }
    }

    /// One page of the orders changed since a time, the oldest change first. Its head repeats the end of
    /// the page before.
    pub async fn changes(&self, since_ms: u64, page: Option<&str>) -> Result<Listed, ApiError> {
        let (since_ms, number) = match page {
            None => (since_ms, 1),
            Some(page) => place(page).ok_or_else(|| ApiError::Refused("no such page".into()))?,
        };
        // What is after a time does not hold what is at it.
        let after = clock::rfc3339(since_ms.saturating_sub(1_000));
        let call = Call::get(PATH)
            .query("status", "any")
            .query("modified_after", after.get(..19).unwrap_or(&after))
            .query("dates_are_gmt", "true")
            .query("orderby", "modified")
            .query("order", "asc")
            .query("per_page", &PAGE.to_string())
            .query("page", &number.to_string());
        let answer = self.send(call).await?;
        let pages = answer.headers.get("x-wp-totalpages");
        let pages: Option<u64> = pages.and_then(|pages| pages.to_str().ok()?.parse().ok());
        let body = answer.success()?;
        let next = next(&body, pages, since_ms, number)?;
        Ok(Listed { body, next })
    }

    async fn send(&self, call: Call) -> Result<Answer, ApiError> {
        let of = &self.settings;
        let call = call.basic(of.consumer_key.expose(), of.consumer_secret.expose());
        Ok(self.api.send(call).await?)
    }
}

/// Since when, and which page from there: `1763650800000/2`.
fn place(page: &str) -> Option<(u64, u64)> {
    let (since, number) = page.split_once('/')?;
    Some((since.parse().ok()?, number.parse().ok()?))
}

fn next(
    body: &[u8],
    pages: Option<u64>,
    since_ms: u64,
    number: u64,
) -> Result<Option<String>, ApiError> {
    let orders: Vec<Value> = serde_json::from_slice(body)
        .map_err(|_| ApiError::Unreadable("it is no list of orders".into()))?;
    let Some(last) = orders.last() else { return Ok(None) };
    // A store may give fewer at once than it was asked for.
    let more = pages.map_or(orders.len() >= PAGE, |pages| pages > number);
    let changed = last.get("date_modified_gmt").and_then(Value::as_str);
    let changed_ms = changed.and_then(|at| channels::time::utc(at).ok()).unwrap_or(0);
    let on = if changed_ms / 1_000 > since_ms / 1_000 {
        format!("{changed_ms}/1")
    } else {
        format!("{since_ms}/{}", number.saturating_add(1))
    };
    Ok(more.then_some(on))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::api::fake::{Asked, Fake, said};
    use serde_json::json;
    use std::sync::{Arc, Mutex};

    fn orders(fake: &Fake) -> Orders {
        let (base_url, key, secret) = (format!("{}/shop", fake.url), "ck_1", "cs_1");
        let (consumer_key, consumer_secret) = (key.into(), secret.into());
        Orders::new(Settings { base_url, consumer_key, consumer_secret }).unwrap()
    }

    /// A store whose API is switched off knows no order at all: each would be given up as unknown.
    #[tokio::test]
    async fn a_missing_api_is_not_a_missing_order() {
        let of = |body| async move { orders(&Fake::always(404, body).await).order("5").await };
        let unknown = r#"{"code":"woocommerce_rest_shop_order_invalid_id","data":{"status":404}}"#;
        assert_eq!(of(unknown).await, Ok(None));
        assert_eq!(of(r#"{"code":"rest_no_route"}"#).await, Err(ApiError::NotFound));
        assert_eq!(of(r#"{"code":"rest_forbidden_by_a_plugin"}"#).await, Err(ApiError::NotFound));
        assert_eq!(of("<html>").await, Err(ApiError::NotFound));
    }

    fn parameter(asked: &Asked, name: &str) -> String {
        let query = asked.target.split_once('?').unwrap().1;
        let value = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
        value.unwrap().replace("%3A", ":")
    }

    /// A store whose orders are (id, when it changed in seconds).
    fn store(orders: &Mutex<Vec<(u64, u64)>>, asked: &Asked) -> (String, usize) {
        let after = channels::time::utc(&parameter(asked, "modified_after")).unwrap() / 1000;
        let page: usize = parameter(asked, "page").parse().unwrap();
        let mut orders = orders.lock().unwrap();
        orders.sort_by_key(|(id, changed)| (*changed, *id));
        let found: Vec<_> = orders.iter().filter(|(_, changed)| *changed > after).collect();
        let shown = found.iter().skip((page - 1) * 100).take(100).map(|(id, changed)| {
            let at = clock::rfc3339(changed * 1000);
            json!({ "id": id, "date_modified_gmt": &at[..19] })
        });
        (json!(shown.collect::<Vec<_>>()).to_string(), found.len().div_ceil(100))
    }

    /// An order that changes while pages are read moves the others forward, and pages that are counted
    /// skip one of them. A second with more orders than a page must not hold the poll up for ever.
    #[tokio::test]
    async fn no_order_is_skipped_while_others_change() {
        let mut all: Vec<(u64, u64)> = (0..250).map(|id| (id, 10_000 + id)).collect();
        all.extend((250..600).map(|id| (id, 20_000)));
        all.extend((600..650).map(|id| (id, 30_000)));
        let all = Arc::new(Mutex::new(all));
        let shown = Arc::clone(&all);
        let fake = Fake::start(move |asked: Asked| {
            let (body, pages) = store(&shown, &asked);
            let mut answer = said(200, body);
            answer.headers_mut().insert("x-wp-totalpages", pages.into());
            std::future::ready(answer)
        })
        .await;
        let orders = orders(&fake);
        let (mut seen, mut page) = (std::collections::BTreeSet::new(), None);
        for turn in 0..100 {
            let listed = orders.changes(10_000_000, page.as_deref()).await.unwrap();
            let body: Vec<Value> = serde_json::from_slice(&listed.body).unwrap();
            seen.extend(body.iter().map(|order| order["id"].as_u64().unwrap()));
            // Some of what was shown already changes.
            if turn < 2 {
                let mut all = all.lock().unwrap();
                let early =
                    all.iter_mut().filter(|(id, _)| (turn * 40..turn * 40 + 30).contains(id));
                early.for_each(|order| order.1 = 40_000);
            }
            page = listed.next;
            if page.is_none() {
                break;
            }
        }
        assert_eq!(page, None, "it never ends");
        let missed: Vec<u64> = (0..650).filter(|id| !seen.contains(id)).collect();
        assert!(missed.is_empty(), "missed: {missed:?}");
        let first = &fake.asked()[0];
        assert!(first.target.starts_with("/shop/wp-json/wc/v3/orders?status=any&"), "{first:?}");
        assert_eq!(first.header("authorization"), "Basic Y2tfMTpjc18x");
    }

    /// A page that nobody gave would be asked for as a time.
    #[tokio::test]
    async fn a_page_is_one_that_was_given() {
        let fake = Fake::always(200, "[]").await;
        let orders = orders(&fake);
        assert!(matches!(orders.changes(0, Some("2")).await, Err(ApiError::Refused(_))));
        assert_eq!(orders.changes(0, Some("5000/2")).await.unwrap().next, None);
    }
}
