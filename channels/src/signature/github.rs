//! GitHub and those who sign as it does: `X-Hub-Signature-256`.

use super::claim::{header, hex_mac};
use super::keys::MacKeys;
use super::{Refused, Request};

/// `sha256=` and the lower-case hex of HMAC-SHA256 over the raw body, keyed with the secret's text.
/// Without a secret GitHub sends no such header, and the delivery is refused.
///
/// Source: docs.github.com, "Validating webhook deliveries".
pub(super) fn verify(keys: &MacKeys, request: &Request<'_>) -> Result<(), Refused> {
    let claim = header(request.headers, &["x-hub-signature-256"])?;
    let code = claim.strip_prefix(b"sha256=").ok_or(Refused)?;
    keys.verify(&[request.body], &[hex_mac(code)?])
}
