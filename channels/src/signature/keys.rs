//! Secrets at rest: kept as what verifies with them, and never shown.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::Refused;

/// No channel needs more secrets than that at once. Each costs a computation a request.
const SECRETS_MAX: usize = 16;

/// The texts of secrets, if they can be used: some, not too many, and none empty.
pub(super) fn texts<S: AsRef<str>>(secrets: &[S]) -> Result<Vec<&str>, String> {
    let secrets: Vec<&str> = secrets.iter().map(AsRef::as_ref).collect();
    if secrets.is_empty() {
        return Err("a secret is missing".into());
    }
    if secrets.len() > SECRETS_MAX {
        return Err(format!("{} secrets are more than {SECRETS_MAX}", secrets.len()));
    }
    if secrets.iter().any(|secret| secret.is_empty()) {
        return Err("a secret is empty".into());
    }
    Ok(secrets)
}

/// Keys of HMAC-SHA256, any of which may sign: during a rotation there are two.
#[derive(Clone)]
pub struct MacKeys(Vec<Hmac<Sha256>>);

impl MacKeys {
    /// Keys that are the bytes of their texts.
    pub(super) fn of_texts<S: AsRef<str>>(secrets: &[S]) -> Result<Self, String> {
        Self::of_bytes(texts(secrets)?)
    }

    /// Keys of any bytes; none may be empty, for anybody knows the empty key.
    pub(super) fn of_bytes<K: AsRef<[u8]>>(keys: Vec<K>) -> Result<Self, String> {
        let key = |key: K| {
            let key = Some(key.as_ref()).filter(|key| !key.is_empty()).ok_or("a key is empty")?;
            Hmac::new_from_slice(key).map_err(|_| "a key has a length that cannot be used")
        };
        let keys: Result<Vec<_>, &str> = keys.into_iter().map(key).collect();
        Ok(Self(keys?))
    }

    /// Whether any claim is the code of the message, given in parts, under any key. All are
    /// compared, each in constant time, so that the time taken says nothing.
    pub(super) fn verify(&self, message: &[&[u8]], claims: &[[u8; 32]]) -> Result<(), Refused> {
        let mut accepted = Choice::from(0);
        for key in &self.0 {
            let mac = message.iter().fold(key.clone(), Mac::chain_update);
            let code = mac.finalize().into_bytes();
            for claim in claims {
                accepted |= code.as_slice().ct_eq(claim);
            }
        }
        if accepted.into() { Ok(()) } else { Err(Refused) }
    }
}

impl fmt::Debug for MacKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("MacKeys(hidden)")
    }
}

/// Secrets that a request carries openly, under TLS. Only their hashes are kept: these are all of one
/// length, so a comparison does not tell how long a secret is.
#[derive(Clone)]
pub struct Tokens(Vec<[u8; 32]>);

impl Tokens {
    /// Of the whole texts that requests carry.
    pub(super) fn of_texts<S: AsRef<str>>(secrets: &[S]) -> Result<Self, String> {
        Ok(Self(texts(secrets)?.into_iter().map(|text| Sha256::digest(text).into()).collect()))
    }

    /// Whether this is one of them. All are compared, each in constant time.
    pub(super) fn verify(&self, claim: &[u8]) -> Result<(), Refused> {
        let claimed: [u8; 32] = Sha256::digest(claim).into();
        let accepted =
            self.0.iter().fold(Choice::from(0), |any, token| any | token.ct_eq(&claimed));
        if accepted.into() { Ok(()) } else { Err(Refused) }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tokens(hidden)")
    }
}
