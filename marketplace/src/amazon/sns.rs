//! Deliveries of Amazon SNS to an HTTPS endpoint, signed as SNS signs them, for whoever verifies them.
//!
//! What is signed is not the body: it is a list of its members, each as its name, a line feed, its value
//! without JSON's escapes, and a line feed, sorted by name. Signature version 2 is RSA PKCS#1 v1.5 over
//! its SHA-256. (Amazon SNS developer guide, "Verifying the signatures of Amazon SNS messages".)

use std::{fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Request, Uri,
    header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT},
};
use ring::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use serde_json::Value;

use crate::{
    Error,
    clock::{self, Millis},
    shopify::sign,
};

/// The members that a notification's signature covers, where they are present.
const SIGNED_OF_NOTIFICATION: &[&str] =
    &["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"];
/// The members that the signature of a (un)subscribe confirmation covers.
const SIGNED_OF_CONFIRMATION: &[&str] =
    &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"];

/// A topic with its key. Cheap to clone; all clones are one topic.
#[derive(Clone)]
pub struct Topic {
    arn: String,
    certificate_url: String,
    key: Arc<RsaKeyPair>,
}

/// One delivery: what SNS posts to a subscribed endpoint.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Everything but `Host` and the length.
    pub headers: HeaderMap,
    /// The exact bytes.
    pub body: Bytes,
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic").field("arn", &self.arn).finish_non_exhaustive()
    }
}

impl Topic {
    /// A topic that signs with this RSA key (PKCS#8, DER, 2048 bits or more).
    ///
    /// `certificate_url` is only told, not served. Fails if the key cannot sign.
    pub fn new(
        arn: impl Into<String>,
        certificate_url: impl Into<String>,
        private_key: &[u8],
    ) -> Result<Self, Error> {
        let key = RsaKeyPair::from_pkcs8(private_key)
            .map_err(|e| Error::Options { field: "private_key", reason: e.to_string() })?;
        let (arn, certificate_url) = (arn.into(), certificate_url.into());
        Ok(Self { arn, certificate_url, key: Arc::new(key) })
    }

    /// A `Notification`. The same `message_id` on two of them is a retry.
    #[must_use]
    pub fn notification(
        &self,
        message_id: &str,
        subject: Option<&str>,
        message: &str,
        at: Millis,
    ) -> Delivery {
        let mut members = self.members("Notification", message_id, message, at);
        if let Some(subject) = subject {
            members.push(("Subject", subject.to_owned()));
        }
        let unsubscribe = (
            "UnsubscribeURL",
            self.url("Unsubscribe", &format!("SubscriptionArn={}", self.subscription())),
        );
        self.delivery(members, SIGNED_OF_NOTIFICATION, &[unsubscribe])
    }

    /// A `SubscriptionConfirmation`: nothing else comes before its URL was visited.
    #[must_use]
    pub fn subscription_confirmation(&self, message_id: &str, token: &str, at: Millis) -> Delivery {
        let message = format!(
            "You have chosen to subscribe to the topic {}.\n\
             To confirm the subscription, visit the SubscribeURL included in this message.",
            self.arn
        );
        self.confirmation("SubscriptionConfirmation", message_id, token, &message, at)
    }

    /// An `UnsubscribeConfirmation`: its URL would subscribe again.
    #[must_use]
    pub fn unsubscribe_confirmation(&self, message_id: &str, token: &str, at: Millis) -> Delivery {
        let message = format!(
            "You have chosen to deactivate subscription {}.\n\
             To cancel this operation and restore the subscription, visit the SubscribeURL included in \
             this message.",
            self.subscription()
        );
        self.confirmation("UnsubscribeConfirmation", message_id, token, &message, at)
    }

    fn confirmation(
        &self,
        kind: &'static str,
        message_id: &str,
        token: &str,
        message: &str,
        at: Millis,
    ) -> Delivery {
        let mut members = self.members(kind, message_id, message, at);
        let query = format!("TopicArn={}&Token={token}", self.arn);
        members.push(("SubscribeURL", self.url("ConfirmSubscription", &query)));
        members.push(("Token", token.to_owned()));
        self.delivery(members, SIGNED_OF_CONFIRMATION, &[])
    }

    fn members(
        &self,
        kind: &'static str,
        message_id: &str,
        message: &str,
        at: Millis,
    ) -> Vec<(&'static str, String)> {
        vec![
            ("Type", kind.to_owned()),
            ("MessageId", message_id.to_owned()),
            ("TopicArn", self.arn.clone()),
            ("Message", message.to_owned()),
            ("Timestamp", clock::utc_time(at)),
        ]
    }

    fn delivery(
        &self,
        mut members: Vec<(&'static str, String)>,
        signed: &[&str],
        unsigned: &[(&'static str, String)],
    ) -> Delivery {
        let signature = self.signature(&canonical(&members, signed));
        let headers = self.headers(&members);
        members.extend([
            ("SignatureVersion", "2".to_owned()),
            ("Signature", STANDARD.encode(signature)),
            ("SigningCertURL", self.certificate_url.clone()),
        ]);
        members.extend_from_slice(unsigned);
        let lines: Vec<String> = members
            .into_iter()
            .map(|(name, value)| format!("  \"{name}\" : {}", Value::String(value)))
            .collect();
        Delivery { headers, body: Bytes::from(format!("{{\n{}\n}}", lines.join(",\n"))) }
    }

    fn signature(&self, canonical: &str) -> Vec<u8> {
        let mut signature = vec![0; self.key.public().modulus_len()];
        let random = SystemRandom::new();
        self.key
            .sign(&RSA_PKCS1_SHA256, &random, canonical.as_bytes(), &mut signature)
            .expect("a key that was read signs, and the buffer is as long as its modulus");
        signature
    }

    fn headers(&self, members: &[(&'static str, String)]) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(6);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8"));
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static("Amazon Simple Notification Service Agent"),
        );
        for (name, header) in [
            ("Type", "x-amz-sns-message-type"),
            ("MessageId", "x-amz-sns-message-id"),
            ("TopicArn", "x-amz-sns-topic-arn"),
        ] {
            let value = HeaderValue::from_str(member(members, name).unwrap_or_default());
            headers.extend(value.ok().map(|value| (HeaderName::from_static(header), value)));
        }
        if member(members, "Type") == Some("Notification") {
            let value = HeaderValue::from_str(&self.subscription()).ok();
            let name = HeaderName::from_static("x-amz-sns-subscription-arn");
            headers.extend(value.map(|value| (name, value)));
        }
        headers
    }

    fn subscription(&self) -> String {
        format!("{}:2bcfbf39-05c3-41de-beaa-fcfcc21c8f55", self.arn)
    }

    fn url(&self, action: &str, query: &str) -> String {
        let region = self.arn.split(':').nth(3).unwrap_or("us-east-1");
        format!("https://sns.{region}.amazonaws.com/?Action={action}&{query}")
    }
}

impl Delivery {
    /// The whole request, ready to be sent to `target`.
    #[must_use]
    pub fn request(&self, target: &Uri) -> Request<Full<Bytes>> {
        sign::request(target, self.headers.clone(), self.body.clone())
    }
}

fn canonical(members: &[(&'static str, String)], signed: &[&str]) -> String {
    signed
        .iter()
        .filter_map(|name| Some([*name, "\n", member(members, name)?, "\n"].concat()))
        .collect()
}

fn member<'a>(members: &'a [(&'static str, String)], name: &str) -> Option<&'a str> {
    members.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
}
