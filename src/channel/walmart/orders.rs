//! Orders of a seller on Walmart's marketplace.

use bytes::Bytes;

use super::{Settings, seller};
use crate::channel::account::Account;
use crate::channel::api::{Answer, ApiError, Call};
use crate::clock;

const PATH: &str = "/v3/orders";
/// Orders of a page: what the API allows.
const PAGE: &str = "200";
/// How long ago an order may have been made: the 180 days that Walmart allows, less an hour for clocks
/// that differ. Its own default, a week, would hide late changes of older orders.
const CREATED_MS: u64 = (180 * 24 - 1) * 3_600_000;

/// A seller's orders.
pub struct Orders {
    seller: Account,
}

impl Orders {
    /// Nobody is asked yet. The error says what is wrong with a URL.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        Ok(Self { seller: seller(settings)? })
    }

    /// One order by its purchase order's id; `None` if Walmart does not know it.
    pub async fn order(&self, id: &str) -> Result<Option<Bytes>, ApiError> {
        self.send(|| Call::get(PATH).segment(id)).await?.known()
    }

    /// One page of the orders changed since a time; `None` if none did, which Walmart answers as not
    /// found. `page` is the `nextCursor` of the page before.
    pub async fn changes(
        &self,
        since_ms: u64,
        page: Option<&str>,
    ) -> Result<Option<Bytes>, ApiError> {
        let next = page.map(|page| self.seller.next_query(PATH, page)).transpose()?;
        let created_ms = clock::now_ms().saturating_sub(CREATED_MS);
        let first = || {
            Call::get(PATH)
                .query("createdStartDate", &clock::rfc3339(created_ms))
                .query("lastModifiedStartDate", &clock::rfc3339(since_ms))
                .query("limit", PAGE)
        };
        let call = || next.map_or_else(first, |query| Call::get(PATH).ready_query(query));
        let answer = self.send(call).await?;
        // Behind the first page it would leave out what nobody has read yet.
        if page.is_some() { answer.success().map(Some) } else { answer.known() }
    }

    async fn send(&self, call: impl Fn() -> Call + Send + Sync) -> Result<Answer, ApiError> {
        self.seller.send(call).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::api::fake::{Asked, Fake, said};

    async fn walmart(status: u16, body: &'static str) -> (Orders, Fake) {
        let fake = Fake::start(move |asked: Asked| async move {
            match asked.target.as_str() {
                "/v3/token" => said(200, r#"{"access_token":"t","expires_in":900}"#),
                _ => said(status, body),
            }
        })
        .await;
        let orders = Orders::new(&Settings {
            base_url: fake.url.clone(),
            token_url: format!("{}/v3/token", fake.url),
            client_id: "id".into(),
            client_secret: "secret".into(),
            feeds: super::super::FeedType::Inventory,
            adds_reserved: true,
        });
        (orders.unwrap(), fake)
    }

    /// Walmart refuses a call without its headers, shows a week if it is not told otherwise, and refuses
    /// more than 180 days.
    #[tokio::test]
    async fn calls_have_all_that_walmart_wants() {
        let (orders, fake) = walmart(200, "{}").await;
        orders.changes(1_000, None).await.unwrap();
        orders.changes(1_000, Some("?limit=200&soIndex=5&poIndex=a%3D")).await.unwrap();
        orders.order("1796330120075").await.unwrap();
        let asked = fake.asked();
        assert!(asked.iter().all(|one| one.header("wm_svc.name") == "Walmart Marketplace"));
        assert!(asked.iter().all(|one| one.header("accept") == "application/json"));
        let ids: std::collections::BTreeSet<_> =
            asked.iter().map(|one| one.header("wm_qos.correlation_id").to_string()).collect();
        assert_eq!(ids.len(), asked.len(), "a correlation id is repeated");
        assert!(asked[1..].iter().all(|one| one.header("wm_sec.access_token") == "t"));
        let first = asked[1].target.replace("%3A", ":");
        let created = first.strip_prefix("/v3/orders?createdStartDate=").unwrap();
        let (created, rest) = created.split_once('&').unwrap();
        assert_eq!(rest, "lastModifiedStartDate=1970-01-01T00:00:01.000Z&limit=200");
        let age_ms = clock::now_ms() - clock::parse_rfc3339(created).unwrap();
        assert!(age_ms < 180 * 24 * 3_600_000 && age_ms > 179 * 24 * 3_600_000, "{created}");
        assert_eq!(asked[2].target, "/v3/orders?limit=200&soIndex=5&poIndex=a%3D");
        assert_eq!(asked[3].target, "/v3/orders/1796330120075");
    }

    /// No order that changed is the usual outcome of a poll, and no fault.
    #[tokio::test]
    async fn nothing_changed_is_not_a_fault() {
        let (orders, _fake) = walmart(404, r#"{"error":[{"code":"CONTENT_NOT_FOUND"}]}"#).await;
        assert_eq!(orders.changes(0, None).await, Ok(None));
    }
}
