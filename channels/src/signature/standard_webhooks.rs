//! Standard Webhooks: `webhook-id`, `webhook-timestamp`, `webhook-signature`.
//!
//! Source: the specification and reference libraries of standard-webhooks/standard-webhooks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, UnparsedPublicKey};

use super::claim::{self, ENTRIES_MAX, TOLERANCE_MS, base64_mac, fresh, header, seconds};
use super::keys::{self, MacKeys};
use super::{Refused, Request};

/// The secrets and public keys of one sender.
#[derive(Clone, Debug)]
pub struct Keys {
    macs: MacKeys,
    ed25519: Vec<UnparsedPublicKey<[u8; 32]>>,
}

impl Keys {
    /// Of their texts: `whsec_` and base64 of a secret (`v1`), or `whpk_` and base64 of an Ed25519
    /// public key (`v1a`). Without a prefix it is a secret, as for the reference libraries.
    pub(super) fn new<S: AsRef<str>>(texts: &[S]) -> Result<Self, String> {
        let (mut macs, mut ed25519) = (Vec::new(), Vec::new());
        for text in keys::texts(texts)? {
            if text.starts_with("whsk_") {
                return Err(
                    "whsk_ is the sender's private key; the public one, whpk_, belongs here".into(),
                );
            }
            let (public, encoded) = match text.strip_prefix("whpk_") {
                Some(encoded) => (true, encoded),
                None => (false, text.strip_prefix("whsec_").unwrap_or(text)),
            };
            let decoded = STANDARD.decode(encoded);
            let decoded = decoded.map_err(|_| "what follows whsec_ or whpk_ is not base64")?;
            if public {
                let key = decoded.try_into().map_err(|_| "a key after whpk_ has 32 bytes")?;
                ed25519.push(UnparsedPublicKey::new(&ED25519, key));
            } else {
                macs.push(decoded);
            }
        }
        Ok(Self { macs: MacKeys::of_bytes(macs)?, ed25519 })
    }

    /// Each entry of `webhook-signature`, a space between them, is a version, a comma and base64: `v1`
    /// is HMAC-SHA256, `v1a` Ed25519, both over id, timestamp and raw body with dots between. One that
    /// verifies is enough; what is of another version, or of no shape, is passed over. The timestamp
    /// may be five minutes off either way. An id with a dot would make the signed text ambiguous.
    pub(super) fn verify(&self, request: &Request<'_>) -> Result<(), Refused> {
        let id = claim::id(request.headers, "webhook-id")?;
        let timestamp = header(request.headers, &["webhook-timestamp"])?;
        let claim = claim::text(request.headers, &["webhook-signature"])?;
        let entries: Vec<&str> = claim.split(' ').take(ENTRIES_MAX + 1).collect();
        if id.contains('.') || entries.len() > ENTRIES_MAX {
            return Err(Refused);
        }
        fresh(request.now_ms, seconds(timestamp)?, TOLERANCE_MS)?;
        let of = |version: &'static str| {
            let pairs = entries.iter().filter_map(|entry| entry.split_once(','));
            pairs.filter(move |(name, _)| *name == version).map(|(_, code)| code.as_bytes())
        };
        let message = [id.as_bytes(), b".", timestamp, b".", request.body];
        let codes: Vec<[u8; 32]> = of("v1").filter_map(|code| base64_mac(code).ok()).collect();
        if self.macs.verify(&message, &codes).is_ok() {
            return Ok(());
        }
        // Public keys: no secret that the time taken could tell. The text is put together only if needed.
        let mut signatures = of("v1a").filter_map(|code| STANDARD.decode(code).ok()).peekable();
        if self.ed25519.is_empty() || signatures.peek().is_none() {
            return Err(Refused);
        }
        let message = message.concat();
        let signed = |by: &[u8]| self.ed25519.iter().any(|key| key.verify(&message, by).is_ok());
        if signatures.any(|signature| signed(&signature)) { Ok(()) } else { Err(Refused) }
    }
}
