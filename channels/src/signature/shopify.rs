//! Shopify: `X-Shopify-Hmac-SHA256`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use sha2::Sha256;

use super::{Refused, Verified};

/// `X-Shopify-Hmac-SHA256` (or the newer `Shopify-Hmac-SHA256`) is the padded base64 of
/// HMAC-SHA256 over the raw body, keyed with the text of the app's client secret. After a rotation
/// Shopify may sign with the old secret for an hour, so any one of several verifies; all are tried,
/// each in constant time, so that the time taken says nothing.
///
/// Source: shopify.dev, "Verify webhook deliveries"; Shopify's own Ruby and JavaScript libraries.
pub fn verify<'a, 's>(
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
