//! A webhook as it goes over the wire: headers, signature, body.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request, Uri,
    header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue},
};
use serde::Serialize;
use sha2::Sha256;

use crate::Error;

/// What a webhook tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Topic {
    /// A customer bought.
    #[serde(rename = "orders/create")]
    OrdersCreate,
    /// An order was cancelled; the body is the whole order with its refunds.
    #[serde(rename = "orders/cancelled")]
    OrdersCancelled,
    /// Money went back, and perhaps units.
    #[serde(rename = "refunds/create")]
    RefundsCreate,
    /// Anything in an order changed after it was placed; the body is the whole order.
    #[serde(rename = "orders/updated")]
    OrdersUpdated,
    /// The merchant changed an order's lines; the body is not an order.
    #[serde(rename = "orders/edited")]
    OrdersEdited,
    /// The last units of an order were shipped; the body is the whole order.
    #[serde(rename = "orders/fulfilled")]
    OrdersFulfilled,
    /// Some units of an order were shipped; the body is the whole order.
    #[serde(rename = "orders/partially_fulfilled")]
    OrdersPartiallyFulfilled,
    /// Units were shipped.
    #[serde(rename = "fulfillments/create")]
    FulfillmentsCreate,
    /// What the store shows of an item changed, whoever changed it.
    #[serde(rename = "inventory_levels/update")]
    InventoryLevelsUpdate,
}

impl Topic {
    /// Every topic that a store knows.
    pub const ALL: [Self; 9] = [
        Self::OrdersCreate,
        Self::OrdersCancelled,
        Self::RefundsCreate,
        Self::OrdersUpdated,
        Self::OrdersEdited,
        Self::OrdersFulfilled,
        Self::OrdersPartiallyFulfilled,
        Self::FulfillmentsCreate,
        Self::InventoryLevelsUpdate,
    ];

    /// The topic's name in the `X-Shopify-Topic` header.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OrdersCreate => "orders/create",
            Self::OrdersCancelled => "orders/cancelled",
            Self::RefundsCreate => "refunds/create",
            Self::OrdersUpdated => "orders/updated",
            Self::OrdersEdited => "orders/edited",
            Self::OrdersFulfilled => "orders/fulfilled",
            Self::OrdersPartiallyFulfilled => "orders/partially_fulfilled",
            Self::FulfillmentsCreate => "fulfillments/create",
            Self::InventoryLevelsUpdate => "inventory_levels/update",
        }
    }
}

/// One webhook: what is signed (the body) and what stands around it (the rest).
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What it tells of.
    pub topic: Topic,
    /// The shop it comes from.
    pub shop_domain: String,
    /// The API version of its payload.
    pub api_version: String,
    /// The id of this delivery, equal on every retry of it.
    pub webhook_id: String,
    /// The id of the action behind it, shared by all topics that the action fired.
    pub event_id: String,
    /// When the action happened, RFC 3339.
    pub triggered_at: String,
    /// The exact bytes that are signed.
    pub body: Bytes,
}

impl Delivery {
    /// All headers of the delivery, signed with the text bytes of `secret`.
    ///
    /// Fails if a field holds what a header cannot.
    pub fn headers(&self, secret: &str) -> Result<HeaderMap, Error> {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let signature = signature(secret, &self.body);
        for (name, value) in [
            ("x-shopify-topic", self.topic.as_str()),
            ("x-shopify-hmac-sha256", &signature),
            ("x-shopify-shop-domain", &self.shop_domain),
            ("x-shopify-api-version", &self.api_version),
            ("x-shopify-webhook-id", &self.webhook_id),
            ("x-shopify-triggered-at", &self.triggered_at),
            ("x-shopify-event-id", &self.event_id),
        ] {
            let value =
                HeaderValue::from_str(value).map_err(|_| Error::Header(value.to_owned()))?;
            headers.insert(HeaderName::from_static(name), value);
        }
        Ok(headers)
    }

    /// The whole request, ready to be sent to `target`.
    pub fn request(&self, target: &Uri, secret: &str) -> Result<Request<Full<Bytes>>, Error> {
        Ok(request(target, self.headers(secret)?, self.body.clone()))
    }
}

/// A POST of this body with these headers.
pub(crate) fn request(target: &Uri, headers: HeaderMap, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = target.clone();
    *request.headers_mut() = headers;
    if let Some(host) =
        target.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok())
    {
        request.headers_mut().insert(HOST, host);
    }
    request
}

/// The value of `X-Shopify-Hmac-SHA256`: base64 of HMAC-SHA256 over the raw body, keyed with the
/// secret's text bytes (a secret that looks like hex is not decoded).
#[must_use]
pub fn signature(secret: &str, body: &[u8]) -> String {
    let mut mac = keyed(secret);
    mac.update(body);
    STANDARD.encode(mac.finalize().into_bytes())
}

fn keyed(secret: &str) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length")
}

/// An absolute `http://` URL, or an error.
pub(crate) fn target(url: &str) -> Result<Uri, Error> {
    let wrong = || Error::Target(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    if uri.scheme_str() == Some("http") && uri.authority().is_some() {
        Ok(uri)
    } else {
        Err(wrong())
    }
}
