//! What SNS wraps around a message, and which of it is signed.

use std::borrow::Cow;

use serde::Deserialize;

use super::url;

/// No envelope is longer: a message of SNS has at most 256 KiB, and JSON may write a byte as six.
pub(super) const ENVELOPE_LEN_MAX: usize = 2 << 20;

/// An envelope. Of its fields `UnsubscribeURL` is not read, because it is not signed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Envelope<'a> {
    /// `Notification`, `SubscriptionConfirmation` or `UnsubscribeConfirmation`.
    #[serde(borrow, rename = "Type")]
    pub kind: Cow<'a, str>,
    /// The message's id, equal on retries.
    #[serde(borrow)]
    pub message_id: Cow<'a, str>,
    /// The topic that it came through.
    #[serde(borrow)]
    pub topic_arn: Cow<'a, str>,
    /// What was published.
    #[serde(borrow)]
    pub message: Cow<'a, str>,
    /// When it was published, as RFC 3339.
    #[serde(borrow)]
    pub timestamp: Cow<'a, str>,
    pub(super) subject: Option<Cow<'a, str>>,
    pub(super) token: Option<Cow<'a, str>>,
    #[serde(rename = "SubscribeURL")]
    pub(super) subscribe_url: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) signature_version: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) signature: Cow<'a, str>,
    #[serde(borrow, rename = "SigningCertURL")]
    pub(super) signing_cert_url: Cow<'a, str>,
}

/// Reads an envelope; a field that is there twice is an error. It is authentic if the bytes are those of
/// a `Verified` of the SNS scheme.
pub fn envelope(bytes: &[u8]) -> Result<Envelope<'_>, String> {
    if bytes.len() > ENVELOPE_LEN_MAX {
        return Err(format!("an envelope is longer than {ENVELOPE_LEN_MAX} bytes"));
    }
    crate::json::read(bytes)
}

/// The URL whose visit confirms a subscription, if this asks for one and the URL does nothing else.
/// Never for `UnsubscribeConfirmation`, whose `SubscribeURL` would subscribe again.
#[must_use]
pub fn subscribe_url<'e>(envelope: &'e Envelope<'_>) -> Option<&'e str> {
    let url = envelope.subscribe_url.as_deref()?;
    let asked = envelope.kind == "SubscriptionConfirmation";
    (asked && url::confirms(url, envelope.region()?)).then_some(url)
}

impl Envelope<'_> {
    /// The region of its topic: `arn:aws:sns:<region>:<account>:<name>`.
    pub(super) fn region(&self) -> Option<&str> {
        self.topic_arn.split(':').nth(3)
    }

    /// What is signed: name and value of certain fields, a line each, in this order. Values may hold line
    /// ends in `Message` alone; elsewhere they could move the border between two fields.
    ///
    /// Source: the developer guide of SNS, "Verifying the signatures of Amazon SNS messages". Its
    /// JavaScript validator leaves `Token` out for `UnsubscribeConfirmation`; the guide does not.
    pub(super) fn signed_text(&self) -> Option<String> {
        let mut fields = vec![("Message", &*self.message), ("MessageId", &*self.message_id)];
        match &*self.kind {
            "Notification" => {
                fields.extend(self.subject.as_deref().map(|subject| ("Subject", subject)));
                fields.push(("Timestamp", &*self.timestamp));
            }
            "SubscriptionConfirmation" | "UnsubscribeConfirmation" => {
                fields.push(("SubscribeURL", self.subscribe_url.as_deref()?));
                fields.push(("Timestamp", &*self.timestamp));
                fields.push(("Token", self.token.as_deref()?));
            }
            _ => return None,
        }
        fields.extend([("TopicArn", &*self.topic_arn), ("Type", &*self.kind)]);
        let (message, others) = fields.split_first()?;
        if others.iter().any(|(_, value)| value.contains('\n')) {
            return None;
        }
        let lines = [message].into_iter().chain(others);
        Some(lines.flat_map(|(name, value)| [*name, "\n", *value, "\n"]).collect())
    }
}
