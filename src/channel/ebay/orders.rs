//! eBay: orders of a seller by the Fulfillment API, and public keys by the Notification API.

use bytes::Bytes;

use crate::channel::PushError;
use crate::channel::api::{Answer, Api, ApiError, Call, Credential};
use crate::channel::token::{self, ClientIn, Grant, Token};
use crate::{clock, config};

const PATH: &str = "/sell/fulfillment/v1/order";
/// Orders of a page: what the API allows.
const PAGE: &str = "200";
/// What an application may do without a seller: read public keys, for one.
const SCOPE: &str = "https://api.ebay.com/oauth/api_scope";

/// How to reach eBay.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `https://api.ebay.com`.
    pub base_url: String,
    /// `https://api.ebay.com/identity/v1/oauth2/token`.
    pub token_url: String,
    /// The application's id.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Credential,
    /// What the seller granted it; without it there are public keys and no orders.
    pub refresh_token: Option<Credential>,
}

impl Settings {
    /// As the config says; `None` if something is missing there.
    #[must_use]
    pub fn of(api: &config::Api) -> Option<Self> {
        Some(Self {
            base_url: api.base_url.clone(),
            token_url: api.token_url("ebay"),
            client_id: api.client_id.clone()?,
            client_secret: api.client_secret.as_ref()?.into(),
            refresh_token: api.refresh_token.as_ref().map(Into::into),
        })
    }
}

/// eBay's API.
pub struct Ebay {
    api: Api,
    application: Token,
    seller: Option<Token>,
}

impl Ebay {
    /// Nobody is asked yet. The error says what is wrong with a URL.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let token = |grant| {
            Token::new(token::Settings {
                url: settings.token_url.clone(),
                client_id: settings.client_id.clone(),
                client_secret: settings.client_secret.clone(),
                client_in: ClientIn::Basic,
                grant,
                dress: std::convert::identity,
            })
        };
        // Without a scope a refreshed token has all that the seller granted.
        let grant = |token| Grant::RefreshToken { token, scope: None };
        Ok(Self {
            api: Api::new(&settings.base_url)?,
            application: token(Grant::ClientCredentials { scope: Some(SCOPE.into()) })?,
            seller: settings.refresh_token.clone().map(grant).map(token).transpose()?,
        })
    }

    /// One order; `None` if eBay does not know it.
    pub async fn order(&self, id: &str) -> Result<Option<Bytes>, ApiError> {
        self.of_seller(|| Call::get(PATH).segment(id)).await?.known()
    }

    /// One page of the orders changed since a time, at most two years ago. `page` is what the page before
    /// names as `next`.
    pub async fn changes(&self, since_ms: u64, page: Option<&str>) -> Result<Bytes, ApiError> {
        let next = page.map(|page| self.api.next_query(PATH, page)).transpose()?;
        let since = format!("lastmodifieddate:[{}..]", clock::rfc3339(since_ms));
        let first = || Call::get(PATH).query("filter", &since).query("limit", PAGE);
        let call = || next.map_or_else(first, |query| Call::get(PATH).ready_query(query));
        self.of_seller(call).await?.success()
    }

    /// The record of a public key; `None` if there is none of this id.
    pub async fn public_key(&self, id: &str) -> Result<Option<Bytes>, ApiError> {
        let call = || Call::get("/commerce/notification/v1/public_key").segment(id);
        self.application.call(&self.api, |token| call().bearer(token)).await?.known()
    }

    async fn of_seller(&self, call: impl Fn() -> Call + Send + Sync) -> Result<Answer, ApiError> {
        self.seller()?.call(&self.api, |token| call().bearer(token)).await
    }

    /// A call that changes something of the seller's.
    pub(super) async fn change(
        &self,
        call: impl Fn() -> Call + Send + Sync,
    ) -> Result<Answer, PushError> {
        self.seller()?.change(&self.api, |token| call().bearer(token)).await
    }

    fn seller(&self) -> Result<&Token, ApiError> {
        let missing = || ApiError::Unauthorised("no seller granted a refresh token".into());
        self.seller.as_ref().ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::api::fake::{Asked, Fake, said};

    async fn ebay() -> (Ebay, Fake) {
        let fake = Fake::start(|asked: Asked| async move {
            let of_seller = asked.body.starts_with(b"grant_type=refresh_token");
            match asked.target.as_str() {
                "/token" if of_seller => said(200, r#"{"access_token":"seller"}"#),
                "/token" => said(200, r#"{"access_token":"application"}"#),
                _ => said(200, "{}"),
            }
        })
        .await;
        let ebay = Ebay::new(&Settings {
            base_url: fake.url.clone(),
            token_url: format!("{}/token", fake.url),
            client_id: "app".into(),
            client_secret: "secret".into(),
            refresh_token: Some("refresh".into()),
        });
        (ebay.unwrap(), fake)
    }

    /// A key asked for with the seller's token, or an order with the application's, is refused.
    #[tokio::test]
    async fn each_call_has_the_token_that_it_needs() {
        let (ebay, fake) = ebay().await;
        ebay.order("26-11111-22222").await.unwrap();
        ebay.public_key("a/b").await.unwrap();
        ebay.changes(1_000, None).await.unwrap();
        ebay.changes(1_000, Some("/sell/fulfillment/v1/order?limit=200&offset=200")).await.unwrap();
        let asked: Vec<_> = fake.asked().into_iter().filter(|one| one.target != "/token").collect();
        let asked: Vec<_> =
            asked.iter().map(|one| (one.header("authorization"), one.target.as_str())).collect();
        let filter = "filter=lastmodifieddate%3A%5B1970-01-01T00%3A00%3A01.000Z..%5D&limit=200";
        assert_eq!(
            asked,
            [
                ("Bearer seller", "/sell/fulfillment/v1/order/26-11111-22222"),
                ("Bearer application", "/commerce/notification/v1/public_key/a%2Fb"),
                ("Bearer seller", format!("{PATH}?{filter}").as_str()),
                ("Bearer seller", "/sell/fulfillment/v1/order?limit=200&offset=200"),
            ]
        );
    }

    /// A next page elsewhere would take the seller's token there.
    #[tokio::test]
    async fn no_page_leads_elsewhere() {
        let (ebay, fake) = ebay().await;
        for page in ["https://evil.example.com/sell/fulfillment/v1/order?a=b", "/other?a=b"] {
            assert!(ebay.changes(0, Some(page)).await.is_err());
        }
        assert!(fake.asked().is_empty());
    }
}
