//! Amazon SNS: a JSON envelope, signed with the key of a certificate that it names.
//!
//! Source: the developer guide of SNS, "Verifying the signatures of Amazon SNS messages"; the
//! validators that Amazon publishes for JavaScript and PHP.

mod certificates;
mod envelope;
mod url;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY as RSA_SHA1,
    RSA_PKCS1_2048_8192_SHA256 as RSA_SHA256, RsaParameters, UnparsedPublicKey,
};

use super::claim::header;
use super::{Refused, Request};

pub use certificates::{SnsCertificates, SnsKey};
pub use envelope::{Envelope, envelope, subscribe_url};

/// How far the clock of SNS may be ahead of ours, in milliseconds.
const FUTURE_MS: u64 = 15 * 60 * 1000;

/// What is accepted of SNS.
#[derive(Clone, Debug)]
pub struct Sns {
    topics: Vec<String>,
    age_ms_max: u64,
    version_1: bool,
}

impl Sns {
    /// Messages of these topics, at most so old. Anybody with an account at Amazon can send authentic
    /// messages from topics of his own, so a topic that is not named is refused. `version_1` says
    /// whether signatures with SHA-1 are accepted, which is what a topic makes unless it is told better.
    pub(super) fn new<S: AsRef<str>>(
        topics: &[S],
        age_ms_max: u64,
        version_1: bool,
    ) -> Result<Self, String> {
        let topic = |arn: &S| match arn.as_ref().split(':').collect::<Vec<_>>()[..] {
            ["arn", _, "sns", region, account, name] if ![region, account, name].contains(&"") => {
                Ok(arn.as_ref().to_string())
            }
            _ => Err(format!("{:?} is no ARN of a topic of SNS", arn.as_ref())),
        };
        let topics: Vec<String> = topics.iter().map(topic).collect::<Result<_, _>>()?;
        if topics.is_empty() {
            return Err("name the topics whose messages are accepted".into());
        }
        Ok(Self { topics, age_ms_max, version_1 })
    }

    /// The URL of the certificate that is said to have signed. Whatever can be refused without it is
    /// refused before it is fetched.
    pub(super) fn certificate_url(&self, request: &Request<'_>) -> Result<String, Refused> {
        self.checked(request).map(|(_, url)| url)
    }

    pub(super) fn verify(&self, key: &SnsKey, request: &Request<'_>) -> Result<(), Refused> {
        let (envelope, _) = self.checked(request)?;
        let algorithm = self.algorithm(&envelope)?;
        let text = envelope.signed_text().ok_or(Refused)?;
        let signature = STANDARD.decode(envelope.signature.as_bytes()).map_err(|_| Refused)?;
        let key = UnparsedPublicKey::new(algorithm, key.rsa());
        key.verify(text.as_bytes(), &signature).map_err(|_| Refused)
    }

    /// What a version of signatures means, if it is accepted.
    fn algorithm(&self, envelope: &Envelope<'_>) -> Result<&'static RsaParameters, Refused> {
        match &*envelope.signature_version {
            "1" if self.version_1 => Ok(&RSA_SHA1),
            "2" => Ok(&RSA_SHA256),
            _ => Err(Refused),
        }
    }

    /// The envelope and the URL of its certificate, if everything but the signature is as it must be.
    fn checked<'a>(&self, request: &Request<'a>) -> Result<(Envelope<'a>, String), Refused> {
        let envelope = envelope(request.body).map_err(|_| Refused)?;
        // The header is not signed; it may be missing, but not tell of another type.
        let named = "x-amz-sns-message-type";
        if request.headers.contains_key(named)
            && header(request.headers, &[named])? != envelope.kind.as_bytes()
        {
            return Err(Refused);
        }
        let known = self.topics.iter().any(|topic| *topic == envelope.topic_arn);
        self.algorithm(&envelope)?;
        let at_ms = crate::time::rfc3339(&envelope.timestamp).map_err(|_| Refused)?;
        let age = request.now_ms.saturating_sub(at_ms);
        let ahead = at_ms.saturating_sub(request.now_ms);
        if !known || age > self.age_ms_max || ahead > FUTURE_MS {
            return Err(Refused);
        }
        let region = envelope.region().ok_or(Refused)?;
        let url = url::signing_certificate(&envelope.signing_cert_url, region).ok_or(Refused)?;
        Ok((envelope, url))
    }
}
