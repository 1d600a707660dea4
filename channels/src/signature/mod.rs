//! From raw bytes and headers to [`Verified`], or one refusal for every fault.
//!
//! Nothing is parsed before it is verified, and only this folder can make a [`Verified`].

pub mod shopify;

use http::{HeaderMap, Method};

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
