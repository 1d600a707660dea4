//! How a channel signs: made of its kind, its secrets, and what its config says where the kind leaves a
//! choice.

use channels::signature::described::{Encoding, KeyForm, Timestamp, Unit};
use channels::signature::{Description, Scheme};
use serde::Deserialize;

use super::channels::Channel;
use super::values::Millis;

/// How a channel signs, where its kind leaves a choice. Which keys there are depends on `scheme`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    /// Walmart: `basic`, `token`, `signature` or `described`. Generic: `standard-webhooks`, `stripe`,
    /// `github`, `basic`, `token` or `described`.
    pub scheme: String,
    /// `basic`: the user's name.
    pub user: Option<String>,
    /// `token` and `described`: the header that carries the token or the code; `basic`: if it is not
    /// `Authorization`.
    pub header: Option<String>,
    /// `token` and `described`: what stands before it in the header.
    pub prefix: Option<String>,
    /// `described`: how the code is written, `hex` or `base64`.
    pub encoding: Option<Form>,
    /// `described`: how the secrets are written, `text`, `hex` or `base64`.
    pub key: Option<Form>,
    /// `described`: what is signed, such as `"{timestamp}.{body}"`.
    pub signed: Option<String>,
    /// `described`: the header of the time, where one is signed.
    pub timestamp_header: Option<String>,
    /// `described`: the unit of that time, `s` or `ms`.
    pub timestamp_unit: Option<TimeUnit>,
    /// `signature` and `described`: how far the time may be off.
    pub tolerance: Option<Millis>,
    /// `described`: the header of the delivery's id, where one is signed.
    pub id_header: Option<String>,
    /// `described`: what stands between several codes in one header.
    pub separator: Option<String>,
}

/// How bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// As they are.
    Text,
    /// In hexadecimal.
    Hex,
    /// In base64.
    Base64,
}

/// The unit of a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeUnit {
    /// Seconds.
    S,
    /// Milliseconds.
    Ms,
}

/// What Walmart's documentation of its own signature allows, and what most others do.
const TOLERANCE: Millis = Millis(300_000);

/// Keys that a scheme takes beside `scheme`: those that it needs, and those that it may have.
fn keys(scheme: &str) -> (&'static [&'static str], &'static [&'static str]) {
    match scheme {
        "basic" => (&["user"], &["header"]),
        "token" => (&["header"], &["prefix"]),
        "signature" => (&[], &["tolerance"]),
        "described" => (
            &["header", "encoding", "signed"],
            &[
                "prefix",
                "key",
                "timestamp_header",
                "timestamp_unit",
                "tolerance",
                "id_header",
                "separator",
            ],
        ),
        _ => (&[], &[]),
    }
}

impl Verify {
    fn present(&self) -> [(&'static str, bool); 11] {
        [
            ("user", self.user.is_some()),
            ("header", self.header.is_some()),
            ("prefix", self.prefix.is_some()),
            ("encoding", self.encoding.is_some()),
            ("key", self.key.is_some()),
            ("signed", self.signed.is_some()),
            ("timestamp_header", self.timestamp_header.is_some()),
            ("timestamp_unit", self.timestamp_unit.is_some()),
            ("tolerance", self.tolerance.is_some()),
            ("id_header", self.id_header.is_some()),
            ("separator", self.separator.is_some()),
        ]
    }

    fn check(&self, kind: &str) -> Result<(), String> {
        let (scheme, walmart) = (self.scheme.as_str(), kind == "walmart");
        let schemes: &[&str] = if walmart {
            &["basic", "token", "signature", "described"]
        } else {
            &["standard-webhooks", "stripe", "github", "basic", "token", "described"]
        };
        if !schemes.contains(&scheme) {
            let known = schemes.join(", ");
            return Err(format!("verify.scheme: kind {kind:?} has {known}, not {scheme:?}"));
        }
        let (needed, allowed) = keys(scheme);
        for (key, is_there) in self.present() {
            if is_there && !needed.contains(&key) && !allowed.contains(&key) {
                return Err(format!("verify.{key}: scheme {scheme:?} has no such key"));
            }
            if !is_there && needed.contains(&key) {
                return Err(format!("verify.{key}: scheme {scheme:?} needs it"));
            }
        }
        Ok(())
    }

    fn description(&self) -> Description {
        let tolerance_ms = self.tolerance.unwrap_or(TOLERANCE).0;
        let timestamp = self.timestamp_header.clone().map(|header| Timestamp {
            header,
            unit: match self.timestamp_unit {
                Some(TimeUnit::Ms) => Unit::Ms,
                _ => Unit::S,
            },
            tolerance_ms,
        });
        Description {
            header: self.header.clone().unwrap_or_default(),
            prefix: self.prefix.clone().unwrap_or_default(),
            encoding: match self.encoding {
                Some(Form::Base64) => Encoding::Base64,
                _ => Encoding::Hex,
            },
            key: match self.key {
                Some(Form::Hex) => KeyForm::Hex,
                Some(Form::Base64) => KeyForm::Base64,
                _ => KeyForm::Text,
            },
            signed: self.signed.clone().unwrap_or_default(),
            timestamp,
            id_header: self.id_header.clone(),
            separator: self.separator.clone(),
        }
    }
}

/// How this channel signs; `None` if it has no webhooks at all. The error is for people.
pub(super) fn scheme(channel: &Channel) -> Result<Option<Scheme>, String> {
    let secrets: Vec<&str> = channel.secrets.iter().map(super::secret::Secret::expose).collect();
    let secrets = secrets.as_slice();
    let made = match channel.kind.as_str() {
        "shopify" => Scheme::shopify(secrets),
        "woocommerce" => Scheme::woocommerce(secrets),
        "amazon" => match &channel.sns {
            None => return Ok(None),
            Some(sns) => Scheme::sns(&sns.topics, sns.max_age.0, sns.sha1),
        },
        "ebay" => Ok(Scheme::ebay()),
        "odoo" => Scheme::path_secret(secrets),
        kind => {
            let usual = || Verify {
                scheme: if kind == "walmart" { "basic" } else { "standard-webhooks" }.into(),
                user: (kind == "walmart").then(|| channel.name.clone()),
                ..Verify::default()
            };
            let verify = channel.verify.clone().unwrap_or_else(usual);
            verify.check(kind)?;
            let header = verify.header.as_deref();
            let prefix = verify.prefix.as_deref().unwrap_or_default();
            let tolerance_ms = verify.tolerance.unwrap_or(TOLERANCE).0;
            match verify.scheme.as_str() {
                "basic" => {
                    Scheme::basic(header, verify.user.as_deref().unwrap_or_default(), secrets)
                }
                "token" => Scheme::token(header.unwrap_or_default(), prefix, secrets),
                "signature" => Scheme::walmart_performance(secrets, tolerance_ms),
                "stripe" => Scheme::stripe(secrets),
                "github" => Scheme::github(secrets),
                "described" => Scheme::described(&verify.description(), secrets),
                _ => Scheme::standard_webhooks(secrets),
            }
        }
    };
    made.map(Some).map_err(|why| format!("how it signs: {why}"))
}
