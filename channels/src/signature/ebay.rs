//! eBay: `X-EBAY-SIGNATURE`, and the challenge that proves an endpoint to be ours.
//!
//! Source: developer.ebay.com, "getPublicKey"; eBay's event-notification-nodejs-sdk.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::pkcs8::DecodePublicKey;
use serde::Deserialize;
use sha2::Sha256;

use super::claim::{header, hex};
use super::{Refused, Request};

/// No answer of `getPublicKey` is longer.
const RECORD_LEN_MAX: usize = 8192;

/// What the header is the base64 of. eBay's own library reads `kid` and `signature` alone; `alg` and
/// `digest` are checked against the key, so that no sender can choose how it is verified.
#[derive(Deserialize)]
struct Claim {
    alg: String,
    kid: String,
    signature: String,
    digest: Option<String>,
}

impl Claim {
    fn of(request: &Request<'_>) -> Result<Self, Refused> {
        let text = STANDARD.decode(header(request.headers, &["x-ebay-signature"])?);
        let claim: Self =
            serde_json::from_slice(&text.map_err(|_| Refused)?).map_err(|_| Refused)?;
        let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
        let named = (1..=64).contains(&claim.kid.len()) && claim.kid.bytes().all(plain);
        if named && claim.alg.eq_ignore_ascii_case("ecdsa") { Ok(claim) } else { Err(Refused) }
    }
}

/// The id of the key that is said to have signed: fit to stand in a URL's path.
pub(super) fn key_id(request: &Request<'_>) -> Result<String, Refused> {
    Claim::of(request).map(|claim| claim.kid)
}

/// ECDSA over P-256 of the raw body. The digest is the key's; if the header names one, it must be that.
pub(super) fn verify(key: &EbayKey, request: &Request<'_>) -> Result<(), Refused> {
    let claim = Claim::of(request)?;
    if claim.digest.is_some_and(|digest| Digest::named(&digest) != Some(key.digest)) {
        return Err(Refused);
    }
    let signature = STANDARD.decode(claim.signature).map_err(|_| Refused)?;
    let signature = Signature::from_der(&signature).map_err(|_| Refused)?;
    let algorithm = match key.digest {
        Digest::Sha1 => &ring::digest::SHA1_FOR_LEGACY_USE_ONLY,
        Digest::Sha256 => &ring::digest::SHA256,
    };
    let digest = ring::digest::digest(algorithm, request.body);
    key.key.verify_prehash(digest.as_ref(), &signature).map_err(|_| Refused)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Digest {
    Sha1,
    Sha256,
}

impl Digest {
    fn named(name: &str) -> Option<Self> {
        match name.replace('-', "").to_ascii_uppercase().as_str() {
            "SHA1" => Some(Self::Sha1),
            "SHA256" => Some(Self::Sha256),
            _ => None,
        }
    }
}

/// A public key of eBay's.
#[derive(Clone, Debug)]
pub struct EbayKey {
    key: VerifyingKey,
    digest: Digest,
}

impl EbayKey {
    /// Reads what `getPublicKey` answers: JSON of `key`, `algorithm` and `digest`. The key is a PEM that
    /// may be without its line breaks. The error says what is wrong with it.
    pub fn parse(record: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Record {
            key: String,
            algorithm: String,
            digest: String,
        }
        if record.len() > RECORD_LEN_MAX {
            return Err(format!("a key record is longer than {RECORD_LEN_MAX} bytes"));
        }
        let Record { key, algorithm, digest } = crate::json::read(record)?;
        if !algorithm.eq_ignore_ascii_case("ecdsa") {
            return Err(format!("no algorithm of ours: {:?}", crate::json::shortened(&algorithm)));
        }
        let digest = Digest::named(&digest)
            .ok_or_else(|| format!("no digest of ours: {:?}", crate::json::shortened(&digest)))?;
        let body = key.trim().strip_prefix("-----BEGIN PUBLIC KEY-----");
        let body = body.and_then(|body| body.strip_suffix("-----END PUBLIC KEY-----"));
        let mut body = body.ok_or("the key is no PEM of a public key")?.to_string();
        body.retain(|c| !c.is_ascii_whitespace());
        let der = STANDARD.decode(body).map_err(|_| "the key's PEM is not base64")?;
        let key = VerifyingKey::from_public_key_der(&der);
        Ok(Self { key: key.map_err(|_| "the key is no key of the curve P-256")?, digest })
    }
}

/// The answer to eBay's challenge of an endpoint: hex SHA-256 of code, token and endpoint. The endpoint
/// is the URL exactly as it is registered at eBay, trailing slash included.
#[must_use]
pub fn challenge(code: &str, verification_token: &str, endpoint: &str) -> String {
    use sha2::Digest as _;
    hex(&Sha256::new()
        .chain_update(code)
        .chain_update(verification_token)
        .chain_update(endpoint)
        .finalize())
}
