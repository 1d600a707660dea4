//! Shopify: `X-Shopify-Hmac-SHA256`.

use super::claim::{base64_mac, header};
use super::keys::MacKeys;
use super::{Refused, Request};

/// `X-Shopify-Hmac-SHA256` (or the newer `Shopify-Hmac-SHA256`) is the padded base64 of
/// HMAC-SHA256 over the raw body, keyed with the text of the app's client secret. After a rotation
/// Shopify may sign with the old secret for an hour. An empty body is refused, as by Shopify's own
/// library.
///
/// Source: shopify.dev, "Verify webhook deliveries"; Shopify's own Ruby and JavaScript libraries.
pub(super) fn verify(keys: &MacKeys, request: &Request<'_>) -> Result<(), Refused> {
    let claim = header(request.headers, &["shopify-hmac-sha256", "x-shopify-hmac-sha256"])?;
    if request.body.is_empty() {
        return Err(Refused);
    }
    keys.verify(&[request.body], &[base64_mac(claim)?])
}
