//! From raw bytes and headers to [`Verified`], or one refusal for every fault.
//!
//! Nothing is parsed before it is verified, and only this file can make a [`Verified`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use hyper::HeaderMap;
use sha2::Sha256;

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

/// Shopify: `X-Shopify-Hmac-SHA256` (or the newer `Shopify-Hmac-SHA256`) is the padded base64 of
/// HMAC-SHA256 over the raw body, keyed with the text of the app's client secret. After a rotation
/// Shopify may sign with the old secret for an hour, so any one of several verifies; all are tried,
/// each in constant time, so that the time taken says nothing.
///
/// Source: shopify.dev, "Verify webhook deliveries"; Shopify's own Ruby and JavaScript libraries.
pub fn shopify<'a, 's>(
    headers: &HeaderMap,
    body: &'a [u8],
    secrets: impl Iterator<Item = &'s [u8]>,
) -> Result<Verified<'a>, Refused> {
    let spellings = ["shopify-hmac-sha256", "x-shopify-hmac-sha256"];
    let mut claims = spellings.iter().flat_map(|name| headers.get_all(*name));
    let claim = claims.next().ok_or(Refused)?;
    // Two claims that differ: neither is believed. An empty body is refused by Shopify's own library.
    if claims.any(|other| other != claim) || body.is_empty() {
        return Err(Refused);
    }
    let claimed = STANDARD.decode(claim.as_bytes()).map_err(|_| Refused)?;
    let accepted = secrets.fold(false, |accepted, secret| {
        let verified = Hmac::<Sha256>::new_from_slice(secret)
            .map(|mac| mac.chain_update(body).verify_slice(&claimed).is_ok());
        accepted | verified.unwrap_or(false)
    });
    if accepted { Ok(Verified(body)) } else { Err(Refused) }
}
