//! Secrets that a request carries openly: in its path, or in a header. They prove who sent it, not what
//! was sent; TLS has to do that.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, header::AUTHORIZATION};

use super::claim::header;
use super::keys::{self, Tokens};
use super::{Refused, Request};

/// The fewest characters of a secret in a path: 128 bits in hex are 32, in base64 22; fewer than this can
/// be guessed.
const PATH_SECRET_LEN_MIN: usize = 16;

/// Secrets for the last segment of a path: long enough, and of characters that no one escapes.
pub(super) fn path_secrets<S: AsRef<str>>(secrets: &[S]) -> Result<Tokens, String> {
    for secret in keys::texts(secrets)? {
        if !secret.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.~".contains(&c)) {
            return Err("a secret in a path is made of A-Z a-z 0-9 - _ . ~ alone".into());
        }
        if secret.len() < PATH_SECRET_LEN_MIN {
            return Err(format!("a secret in a path has {PATH_SECRET_LEN_MIN} characters or more"));
        }
    }
    Tokens::of_texts(secrets)
}

/// The last segment of the path is a secret: `/webhooks/{channel}/{secret}`, for senders that cannot sign
/// and cannot set a header (Odoo's webhook action).
pub(super) fn verify_path(secrets: &Tokens, request: &Request<'_>) -> Result<(), Refused> {
    let path = request.target.split('?').next().unwrap_or_default();
    let (_, secret) = path.rsplit_once('/').ok_or(Refused)?;
    secrets.verify(secret.as_bytes())
}

/// A header that carries a secret after a prefix.
#[derive(Clone, Debug)]
pub struct Token {
    header: HeaderName,
    prefix: String,
    tokens: Tokens,
}

impl Token {
    /// Such a header. The prefix may be empty, and may end in a space: `Bearer `.
    pub(super) fn new<S: AsRef<str>>(
        header: &str,
        prefix: &str,
        secrets: &[S],
    ) -> Result<Self, String> {
        let header = header.parse().map_err(|_| format!("{header:?} is no name of a header"))?;
        Ok(Self { header, prefix: prefix.into(), tokens: Tokens::of_texts(secrets)? })
    }

    /// HTTP's basic authentication: base64 of user, colon and password, so a token like another.
    pub(super) fn basic<S: AsRef<str>>(
        header: Option<&str>,
        user: &str,
        passwords: &[S],
    ) -> Result<Self, String> {
        if user.contains(':') {
            return Err("a user of basic authentication has no colon".into());
        }
        let pair = |password| STANDARD.encode(format!("{user}:{password}"));
        let tokens: Vec<String> = keys::texts(passwords)?.into_iter().map(pair).collect();
        Self::new(header.unwrap_or(AUTHORIZATION.as_str()), "Basic ", &tokens)
    }

    /// The prefix in any case (RFC 9110 11.1), then exactly a secret.
    pub(super) fn verify(&self, request: &Request<'_>) -> Result<(), Refused> {
        let claim = header(request.headers, &[self.header.as_str()])?;
        let (prefix, token) = claim.split_at_checked(self.prefix.len()).ok_or(Refused)?;
        if !prefix.eq_ignore_ascii_case(self.prefix.as_bytes()) {
            return Err(Refused);
        }
        self.tokens.verify(token)
    }
}
