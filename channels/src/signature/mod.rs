//! From raw bytes and headers to [`Verified`], or one refusal for every fault.
//!
//! [`wanted`] says whether a public key must be fetched first, and which; [`verify`] judges. A body is
//! not parsed before it is verified, but for the envelope of SNS, which carries its own signature: it is
//! bounded, and nothing of it is believed until then. Only this folder makes a [`Verified`], in one place.
//!
//! For all schemes: headers are bounded before they are decoded; of two that contradict each other none
//! is believed; codes are compared as bytes of the right length, in constant time, under every secret.

mod claim;
pub mod described;
pub mod ebay;
mod github;
mod keys;
mod shopify;
pub mod sns;
pub mod standard_webhooks;
mod stripe;
pub mod token;
mod walmart;
mod woocommerce;

use http::{HeaderMap, Method};

pub use described::{Described, Description};
pub use ebay::EbayKey;
pub use keys::{MacKeys, Tokens};
pub use sns::{Sns, SnsCertificates, SnsKey};
pub use token::Token;

/// A request as it arrived.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a Method,
    /// Path and query, as on the wire.
    pub target: &'a str,
    /// All headers.
    pub headers: &'a HeaderMap,
    /// The raw body.
    pub body: &'a [u8],
    /// When it arrived, in milliseconds since the Unix epoch.
    pub now_ms: u64,
}

/// A body whose sender knew a secret of the channel.
#[derive(Clone, Copy, Debug)]
pub struct Verified<'a>(&'a [u8]);

impl<'a> Verified<'a> {
    /// A body that was verified when it came and has been with us since: a dead letter's.
    #[must_use]
    pub const fn before(body: &'a [u8]) -> Self {
        Self(body)
    }

    /// The bytes as they were signed.
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        self.0
    }
}

/// The signature is missing, malformed or wrong. Which of them is nobody's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signature not accepted")]
pub struct Refused;

/// What is not refused.
#[derive(Clone, Copy, Debug)]
pub enum Judged<'a> {
    /// Whoever sent it knew a secret.
    Genuine(Verified<'a>),
    /// The unsigned ping of a `WooCommerce` store: answered 200, changes nothing.
    Ping,
}

/// How a channel signs, with its secrets, which `Debug` does not show. Any of several secrets verifies,
/// so that one can be replaced.
#[derive(Clone, Debug)]
pub enum Scheme {
    /// Shopify's webhooks.
    Shopify(MacKeys),
    /// `WooCommerce`'s webhooks.
    WooCommerce(MacKeys),
    /// Amazon's messages that come through SNS.
    Sns(Sns),
    /// eBay's notifications. The keys are eBay's, and are fetched.
    Ebay,
    /// A secret as the last segment of the path.
    PathSecret(Tokens),
    /// A secret in a header: a token, or basic authentication.
    Token(Token),
    /// Walmart's seller performance notifications.
    WalmartPerformance {
        /// The secrets.
        keys: MacKeys,
        /// How far the timestamp may be off either way, in milliseconds.
        tolerance_ms: u64,
    },
    /// Standard Webhooks.
    StandardWebhooks(standard_webhooks::Keys),
    /// As Stripe signs.
    Stripe(MacKeys),
    /// As GitHub signs.
    GitHub(MacKeys),
    /// As somebody described.
    Described(Described),
}

/// Each constructor's error is a sentence for whoever wrote the config, and shows no secret.
impl Scheme {
    /// Of the app's client secret, and during a rotation the one before.
    pub fn shopify<S: AsRef<str>>(secrets: &[S]) -> Result<Self, String> {
        MacKeys::of_texts(secrets).map(Self::Shopify)
    }

    /// Of the webhook's secret, as the store shows it or as it was typed.
    pub fn woocommerce<S: AsRef<str>>(secrets: &[S]) -> Result<Self, String> {
        woocommerce::keys(secrets).map(Self::WooCommerce)
    }

    /// Of the ARNs of the topics whose messages are accepted, if they are at most so many milliseconds
    /// old. `version_1` accepts signatures with SHA-1 too.
    pub fn sns<S: AsRef<str>>(
        topics: &[S],
        age_ms_max: u64,
        version_1: bool,
    ) -> Result<Self, String> {
        Sns::new(topics, age_ms_max, version_1).map(Self::Sns)
    }

    /// eBay's, which has no secret of ours.
    #[must_use]
    pub const fn ebay() -> Self {
        Self::Ebay
    }

    /// Of secrets of at least 16 characters that need no escape in a path.
    pub fn path_secret<S: AsRef<str>>(secrets: &[S]) -> Result<Self, String> {
        token::path_secrets(secrets).map(Self::PathSecret)
    }

    /// HTTP's basic authentication, in `Authorization` or in another header.
    pub fn basic<S: AsRef<str>>(
        header: Option<&str>,
        user: &str,
        passwords: &[S],
    ) -> Result<Self, String> {
        Token::basic(header, user, passwords).map(Self::Token)
    }

    /// A header that carries a secret after a prefix, such as `Authorization` and `Bearer `.
    pub fn token<S: AsRef<str>>(header: &str, prefix: &str, secrets: &[S]) -> Result<Self, String> {
        Token::new(header, prefix, secrets).map(Self::Token)
    }

    /// Of the webhook's secret, and how far timestamps may be off either way, in milliseconds.
    pub fn walmart_performance<S: AsRef<str>>(
        secrets: &[S],
        tolerance_ms: u64,
    ) -> Result<Self, String> {
        let keys = MacKeys::of_texts(secrets)?;
        Ok(Self::WalmartPerformance { keys, tolerance_ms })
    }

    /// Of `whsec_…` secrets and `whpk_…` public keys.
    pub fn standard_webhooks<S: AsRef<str>>(secrets: &[S]) -> Result<Self, String> {
        standard_webhooks::Keys::new(secrets).map(Self::StandardWebhooks)
    }

    /// Of the endpoint's secret, `whsec_` included.
    pub fn stripe<S: AsRef<str>>(secrets: &[S]) -> Result<Self, String> {
        MacKeys::of_texts(secrets).map(Self::Stripe)
    }

    /// Of the webhook's secret.
    pub fn github<S: AsRef<str>>(secrets: &[S]) -> Result<Self, String> {
        MacKeys::of_texts(secrets).map(Self::GitHub)
    }

    /// Of a description, and secrets in the form that it says.
    pub fn described<S: AsRef<str>>(
        description: &Description,
        secrets: &[S],
    ) -> Result<Self, String> {
        Described::new(description, secrets).map(Self::Described)
    }
}

/// A public key that must be fetched before a request can be judged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// eBay's key of this id: 1 to 64 of A-Z a-z 0-9 and `-`.
    Ebay(String),
    /// The certificate at this URL, which is HTTPS to SNS in the topic's region.
    Sns(String),
}

/// A public key that was fetched: what [`Wanted`] asked for, by the same name.
#[derive(Clone, Debug)]
pub enum Key {
    /// From eBay's `getPublicKey`.
    Ebay(EbayKey),
    /// From a certificate that was checked.
    Sns(SnsKey),
}

/// Which key must be fetched before this request can be judged, if any. Whatever can be refused without
/// a key is refused here, so that strangers cannot make this node fetch.
pub fn wanted(scheme: &Scheme, request: &Request<'_>) -> Result<Option<Wanted>, Refused> {
    match scheme {
        Scheme::Ebay => ebay::key_id(request).map(|id| Some(Wanted::Ebay(id))),
        Scheme::Sns(sns) => sns.certificate_url(request).map(|url| Some(Wanted::Sns(url))),
        _ => Ok(None),
    }
}

/// Judges a request, with the key that [`wanted`] asked for.
pub fn verify<'a>(
    scheme: &Scheme,
    request: &Request<'a>,
    key: Option<&Key>,
) -> Result<Judged<'a>, Refused> {
    match (scheme, key) {
        (Scheme::Shopify(keys), _) => shopify::verify(keys, request),
        (Scheme::WooCommerce(_), _) if woocommerce::is_ping(request) => return Ok(Judged::Ping),
        (Scheme::WooCommerce(keys), _) => woocommerce::verify(keys, request),
        (Scheme::Sns(sns), Some(Key::Sns(key))) => sns.verify(key, request),
        (Scheme::Ebay, Some(Key::Ebay(key))) => ebay::verify(key, request),
        (Scheme::Sns(_) | Scheme::Ebay, _) => Err(Refused),
        (Scheme::PathSecret(secrets), _) => token::verify_path(secrets, request),
        (Scheme::Token(token), _) => token.verify(request),
        (Scheme::WalmartPerformance { keys, tolerance_ms }, _) => {
            walmart::verify(keys, *tolerance_ms, request)
        }
        (Scheme::StandardWebhooks(keys), _) => keys.verify(request),
        (Scheme::Stripe(keys), _) => stripe::verify(keys, request),
        (Scheme::GitHub(keys), _) => github::verify(keys, request),
        (Scheme::Described(described), _) => described.verify(request),
    }
    .map(|()| Judged::Genuine(Verified(request.body)))
}
