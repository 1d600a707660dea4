//! A way of signing that is described rather than known: HMAC-SHA256 over parts of the request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use sha2::{Digest, Sha256};

use super::claim::{self, ENTRIES_MAX, base64_mac, fresh, header, hex, hex_mac, number, unhex};
use super::keys::{self, MacKeys};
use super::{Refused, Request};

/// A description, as a person writes it.
#[derive(Clone, Debug)]
pub struct Description {
    /// The header that carries the signature.
    pub header: String,
    /// What stands before each signature: `sha256=`, or nothing.
    pub prefix: String,
    /// How the signature is written.
    pub encoding: Encoding,
    /// How the secrets are written.
    pub key: KeyForm,
    /// What is signed: text with `{body}`, `{body_sha256}` (lower-case hex), `{timestamp}`, `{id}`,
    /// `{method}`, `{path}` (with its query) and `\n`. The body must be in it.
    pub signed: String,
    /// What stands between several signatures in the header, if there may be several.
    pub separator: Option<String>,
    /// The header that says when it was signed. If there is one, `signed` must have it.
    pub timestamp: Option<Timestamp>,
    /// The header that says the delivery's id.
    pub id_header: Option<String>,
}

/// The header that says when a request was signed.
#[derive(Clone, Debug)]
pub struct Timestamp {
    /// Its name.
    pub header: String,
    /// What it counts since the Unix epoch.
    pub unit: Unit,
    /// How far it may be off either way, in milliseconds.
    pub tolerance_ms: u64,
}

/// What a timestamp counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    S,
    /// Milliseconds.
    Ms,
}

/// How a signature is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// 64 digits, all in lower or all in upper case.
    Hex,
    /// Standard base64 with its padding.
    Base64,
}

/// How a secret is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyForm {
    /// The key is the text.
    Text,
    /// The key is what this hex writes.
    Hex,
    /// The key is what this standard base64 writes.
    Base64,
}

/// A description that was checked, with its keys.
#[derive(Clone, Debug)]
pub struct Described {
    header: HeaderName,
    prefix: String,
    encoding: Encoding,
    separator: Option<String>,
    timestamp: Option<(HeaderName, Unit, u64)>,
    id: Option<HeaderName>,
    parts: Vec<Part>,
    keys: MacKeys,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Body,
    BodySha256,
    Timestamp,
    Id,
    Method,
    Path,
}

impl Described {
    /// Checks a description. The error is a sentence for whoever wrote it, and shows no secret.
    pub(super) fn new<S: AsRef<str>>(
        description: &Description,
        secrets: &[S],
    ) -> Result<Self, String> {
        let name = |header: &String| {
            header.parse::<HeaderName>().map_err(|_| format!("{header:?} is no name of a header"))
        };
        let parts = template(&description.signed)?;
        let has = |part: &Part| parts.contains(part);
        if !has(&Part::Body) && !has(&Part::BodySha256) {
            return Err("what is signed must have {body} or {body_sha256}".into());
        }
        if has(&Part::Timestamp) != description.timestamp.is_some() {
            return Err("{timestamp} in what is signed, and a header for it, go together".into());
        }
        if has(&Part::Id) && description.id_header.is_none() {
            return Err("{id} in what is signed needs the header of the id".into());
        }
        if description.separator.as_ref().is_some_and(String::is_empty) {
            return Err("a separator of signatures is not empty".into());
        }
        let timestamp = description.timestamp.as_ref();
        let timestamp =
            timestamp.map(|t| Ok::<_, String>((name(&t.header)?, t.unit, t.tolerance_ms)));
        Ok(Self {
            header: name(&description.header)?,
            prefix: description.prefix.clone(),
            encoding: description.encoding,
            separator: description.separator.clone(),
            timestamp: timestamp.transpose()?,
            id: description.id_header.as_ref().map(name).transpose()?,
            parts,
            keys: keys_of(description.key, secrets)?,
        })
    }

    /// The header that says the delivery's id, if there is one.
    #[must_use]
    pub const fn id_header(&self) -> Option<&HeaderName> {
        self.id.as_ref()
    }

    pub(super) fn verify(&self, request: &Request<'_>) -> Result<(), Refused> {
        let claim = claim::text(request.headers, &[self.header.as_str()])?;
        let codes = self.codes(claim)?;
        let timestamp = self.timestamp(request)?;
        let id = match &self.id {
            Some(name) if self.parts.contains(&Part::Id) => {
                claim::id(request.headers, name.as_str())?
            }
            _ => "",
        };
        // Where the id ends must be plain, or the same text would be signed for another id.
        let ends_early = |pair: &[Part]| match pair {
            [Part::Id, Part::Text(next)] => id.contains(next.as_str()),
            _ => false,
        };
        if self.parts.windows(2).any(ends_early) {
            return Err(Refused);
        }
        let digest = if self.parts.contains(&Part::BodySha256) {
            hex(&Sha256::digest(request.body))
        } else {
            String::new()
        };
        let message = self.parts.iter().map(|part| match part {
            Part::Text(text) => text.as_bytes(),
            Part::Body => request.body,
            Part::BodySha256 => digest.as_bytes(),
            Part::Timestamp => timestamp,
            Part::Id => id.as_bytes(),
            Part::Method => request.method.as_str().as_bytes(),
            Part::Path => request.target.as_bytes(),
        });
        self.keys.verify(&message.collect::<Vec<_>>(), &codes)
    }

    /// The header of the timestamp as it was sent, if it is fresh.
    fn timestamp<'a>(&self, request: &Request<'a>) -> Result<&'a [u8], Refused> {
        let Some((name, unit, tolerance_ms)) = &self.timestamp else { return Ok(b"") };
        let sent = header(request.headers, &[name.as_str()])?;
        let at_ms = match unit {
            Unit::S => claim::seconds(sent)?,
            Unit::Ms => number(sent, 15)?,
        };
        fresh(request.now_ms, at_ms, *tolerance_ms).map(|()| sent)
    }

    /// The codes that a header claims. Of several, those of another shape are passed over.
    fn codes(&self, claim: &str) -> Result<Vec<[u8; 32]>, Refused> {
        let entries: Vec<&str> = match &self.separator {
            Some(separator) => claim.split(separator.as_str()).take(ENTRIES_MAX + 1).collect(),
            None => vec![claim],
        };
        if entries.len() > ENTRIES_MAX {
            return Err(Refused);
        }
        let code = |entry: &&str| {
            let code = entry.strip_prefix(self.prefix.as_str())?;
            let lower = |c: u8| c.is_ascii_lowercase();
            match self.encoding {
                Encoding::Base64 => base64_mac(code.as_bytes()).ok(),
                // Some senders write upper case. A mixture is nobody's writing.
                Encoding::Hex if code.bytes().any(lower) => hex_mac(code.as_bytes()).ok(),
                Encoding::Hex => hex_mac(code.to_ascii_lowercase().as_bytes()).ok(),
            }
        };
        Ok(entries.iter().filter_map(code).collect())
    }
}

fn keys_of<S: AsRef<str>>(form: KeyForm, secrets: &[S]) -> Result<MacKeys, String> {
    let key = |secret: &str| match form {
        KeyForm::Text => Ok(secret.as_bytes().to_vec()),
        KeyForm::Hex => unhex(secret.as_bytes()).ok_or("a secret is not hex"),
        KeyForm::Base64 => STANDARD.decode(secret).map_err(|_| "a secret is not base64"),
    };
    let keys: Result<Vec<_>, &str> = keys::texts(secrets)?.into_iter().map(key).collect();
    MacKeys::of_bytes(keys?)
}

/// Takes a template apart: text, and variables in braces.
fn template(signed: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = signed;
    while !rest.is_empty() {
        let (text, after) = rest.split_once('{').map_or((rest, None), |(t, a)| (t, Some(a)));
        if text.contains('}') {
            return Err("what is signed has a } without its {".into());
        }
        if !text.is_empty() {
            parts.push(Part::Text(text.replace("\\n", "\n")));
        }
        let Some(after) = after else { break };
        let (variable, after) =
            after.split_once('}').ok_or("what is signed has a { without its }")?;
        parts.push(match variable {
            "body" => Part::Body,
            "body_sha256" => Part::BodySha256,
            "timestamp" => Part::Timestamp,
            "id" => Part::Id,
            "method" => Part::Method,
            "path" => Part::Path,
            _ => return Err(format!("{{{variable}}} is no variable of what is signed")),
        });
        rest = after;
    }
    Ok(parts)
}
