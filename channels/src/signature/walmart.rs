//! Walmart's seller performance notifications: `WM_SEC.SIGNATURE`.

use sha2::{Digest, Sha256};

use super::claim::{base64_mac, fresh, header, hex, seconds};
use super::keys::MacKeys;
use super::{Refused, Request};

/// The padded base64 of HMAC-SHA256 over method, path with query, `WM_SEC.TIMESTAMP` (Unix seconds)
/// and the hex SHA-256 of the raw body, a line each, none after the last. The path is the one that
/// reached this process: a proxy in front must not rewrite it, and must let headers with a dot pass.
/// `WM_SEC.KEY_ID` is not signed, so it chooses nothing: all keys are tried.
///
/// Source: developer.walmart.com, "Security and authenticity". Given there for
/// `SELLER_PERFORMANCE_NOTIFICATIONS` alone.
pub(super) fn verify(
    keys: &MacKeys,
    tolerance_ms: u64,
    request: &Request<'_>,
) -> Result<(), Refused> {
    let claim = base64_mac(header(request.headers, &["wm_sec.signature"])?)?;
    let timestamp = header(request.headers, &["wm_sec.timestamp"])?;
    fresh(request.now_ms, seconds(timestamp)?, tolerance_ms)?;
    let digest = hex(&Sha256::digest(request.body));
    let (method, target) = (request.method.as_str().as_bytes(), request.target.as_bytes());
    keys.verify(&[method, b"\n", target, b"\n", timestamp, b"\n", digest.as_bytes()], &[claim])
}
