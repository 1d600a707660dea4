//! Stripe and those who sign as it does: `Stripe-Signature: t=…,v1=…`.

use super::claim::{ENTRIES_MAX, TOLERANCE_MS, fresh, header, hex_mac, seconds};
use super::keys::MacKeys;
use super::{Refused, Request};

/// Each `v1` is the lower-case hex of HMAC-SHA256 over `t`, a dot and the raw body, keyed with the
/// secret's whole text, `whsec_` included. Several are sent during a rotation; `v0` and what else may
/// come is passed over, or a sender could be made to choose the weakest. `t` may be five minutes off
/// either way; it must be there once.
///
/// Source: stripe-python, `_webhook.py`.
pub(super) fn verify(keys: &MacKeys, request: &Request<'_>) -> Result<(), Refused> {
    let claim = header(request.headers, &["stripe-signature"])?;
    let entries: Vec<&[u8]> = claim.split(|c| *c == b',').take(ENTRIES_MAX + 1).collect();
    if entries.len() > ENTRIES_MAX {
        return Err(Refused);
    }
    let of = |key: &'static [u8]| entries.iter().filter_map(move |entry| entry.strip_prefix(key));
    let mut timestamps = of(b"t=");
    let (Some(timestamp), None) = (timestamps.next(), timestamps.next()) else {
        return Err(Refused);
    };
    fresh(request.now_ms, seconds(timestamp)?, TOLERANCE_MS)?;
    let codes: Vec<[u8; 32]> = of(b"v1=").filter_map(|code| hex_mac(code).ok()).collect();
    keys.verify(&[timestamp, b".", request.body], &codes)
}
