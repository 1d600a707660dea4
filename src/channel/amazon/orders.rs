//! Orders of an Amazon seller, by the Orders API of the Selling Partner API, version 2026-01-01.

use bytes::Bytes;
use channels::amazon::poll::INCLUDED_DATA;

use super::{Settings, account};
use crate::channel::account::Account;
use crate::channel::api::{Answer, ApiError, Call};
use crate::clock;

const PATH: &str = "/orders/2026-01-01/orders";
/// Orders of a page: what the API allows.
const PAGE: &str = "100";

/// A seller's orders.
pub struct Orders {
    account: Account,
    marketplaces: String,
}

impl Orders {
    /// Nobody is asked yet. The error says what is wrong with a URL.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let marketplaces = settings.marketplaces.join(",");
        Ok(Self { account: account(settings)?, marketplaces })
    }

    /// One order; `None` if Amazon does not know it. Allowed twice a second.
    pub async fn order(&self, id: &str) -> Result<Option<Bytes>, ApiError> {
        self.send(|| Call::get(PATH).segment(id)).await?.known()
    }

    /// One page of the orders changed since a time. `page` is the token of the page before, with the same
    /// `since_ms`; it lives for a day. Allowed once in three minutes, after a burst of twenty.
    pub async fn changes(&self, since_ms: u64, page: Option<&str>) -> Result<Bytes, ApiError> {
        let call = || {
            let call = Call::get(PATH)
                .query("lastUpdatedAfter", &clock::rfc3339(since_ms))
                .query("marketplaceIds", &self.marketplaces)
                .query("maxResultsPerPage", PAGE);
            page.into_iter().fold(call, |call, page| call.query("paginationToken", page))
        };
        self.send(call).await?.success()
    }

    async fn send(&self, call: impl Fn() -> Call + Send + Sync) -> Result<Answer, ApiError> {
        self.account.send(|| call().query("includedData", INCLUDED_DATA)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::api::fake::{Asked, Fake, said};

    /// An order without its status is never cancelled; a page without the same filters is refused; a call
    /// without a name of its maker too.
    #[tokio::test]
    async fn calls_have_all_that_amazon_wants() {
        let fake = Fake::start(|asked: Asked| async move {
            said(200, if asked.target == "/token" { r#"{"access_token":"Atza|1"}"# } else { "{}" })
        })
        .await;
        let orders = Orders::new(&Settings {
            base_url: fake.url.clone(),
            token_url: format!("{}/token", fake.url),
            client_id: "amzn1.app".into(),
            client_secret: "secret".into(),
            refresh_token: "Atzr|1".into(),
            marketplaces: vec!["ATVPDKIKX0DER".into(), "A2EUQ1WTGCTBG2".into()],
            seller_id: "A0SELLER".into(),
            applied_within: std::time::Duration::ZERO,
        })
        .unwrap();
        orders.order("114-1234567-1234567").await.unwrap();
        orders.changes(1_000, None).await.unwrap();
        orders.changes(1_000, Some("a+b/c=")).await.unwrap();
        let asked = fake.asked();
        let targets: Vec<_> = asked[1..].iter().map(|one| one.target.as_str()).collect();
        let first = "lastUpdatedAfter=1970-01-01T00%3A00%3A01.000Z&\
                     marketplaceIds=ATVPDKIKX0DER%2CA2EUQ1WTGCTBG2&maxResultsPerPage=100";
        assert_eq!(
            targets,
            [
                format!("{PATH}/114-1234567-1234567?includedData=FULFILLMENT%2CCANCELLATION"),
                format!("{PATH}?{first}&includedData=FULFILLMENT%2CCANCELLATION"),
                format!(
                    "{PATH}?{first}&paginationToken=a%2Bb%2Fc%3D&includedData=FULFILLMENT%2CCANCELLATION"
                ),
            ]
        );
        assert!(asked[1..].iter().all(|one| one.header("x-amz-access-token") == "Atza|1"));
        assert!(asked[1..].iter().all(|one| one.header("user-agent").starts_with("stockraft/")));
    }
}
