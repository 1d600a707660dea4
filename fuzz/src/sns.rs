//! Messages of SNS: nothing is accepted but what the vectors' keys signed, and no URL but those of SNS is
//! fetched or visited.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use channels::signature::{Judged, Key, Scheme, SnsCertificates, Wanted, sns, wanted};
use serde_json::Value;

use crate::sent::Sent;

static VECTORS: LazyLock<Value> = LazyLock::new(|| {
    let text = include_str!("../../channels/tests/vectors/vectors.json");
    serde_json::from_str(text).expect("the vectors are JSON")
});

/// Every account has topics of its own: one region's are enough here.
const TOPIC: &str = "arn:aws:sns:us-east-1:123456789012:spapi-bridge";

struct Known {
    keys: Vec<Key>,
    /// The fields of each message that is good, in the order in which they are signed.
    signed: Vec<Vec<(&'static str, String)>>,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let family = &VECTORS["schemes"]["aws_sns"];
    let certificates = family["certs"].as_object().into_iter().flatten();
    let keys = certificates.map(|(_, pem)| {
        let pem = pem.as_str().unwrap_or_default().as_bytes();
        Key::Sns(SnsCertificates::parse(pem).expect("a vector's certificate").key())
    });
    let good = family["vectors"].as_array().into_iter().flatten();
    let good = good.filter(|vector| vector["expect"] == "accept").map(|vector| {
        let body = STANDARD.decode(vector["body_b64"].as_str().unwrap_or_default());
        signed(&body.expect("a vector's body")).expect("a vector's envelope")
    });
    Known { keys: keys.collect(), signed: good.collect() }
});

/// What is signed of an envelope. Members that nobody reads may be anything.
fn signed(body: &[u8]) -> Option<Vec<(&'static str, String)>> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Envelope {
        r#type: String,
        message_id: String,
        topic_arn: String,
        message: String,
        timestamp: String,
        subject: Option<String>,
        token: Option<String>,
        #[serde(rename = "SubscribeURL")]
        subscribe_url: Option<String>,
    }
    let envelope: Envelope = serde_json::from_slice(body).ok()?;
    let (subject, token, url) = match envelope.r#type.as_str() {
        "Notification" => (envelope.subject, None, None),
        _ => (None, envelope.token, envelope.subscribe_url),
    };
    let fields = [
        ("Message", Some(envelope.message)),
        ("MessageId", Some(envelope.message_id)),
        ("Subject", subject),
        ("SubscribeURL", url),
        ("Timestamp", Some(envelope.timestamp)),
        ("Token", token),
        ("TopicArn", Some(envelope.topic_arn)),
        ("Type", Some(envelope.r#type)),
    ];
    Some(fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
}

/// A message under every key of the vectors, whichever certificate it names.
pub(crate) fn message(input: &[u8]) {
    let mut sent = Sent::read(input);
    let envelope = sns::envelope(&sent.body);
    let time =
        envelope.as_ref().ok().and_then(|read| channels::time::rfc3339(&read.timestamp).ok());
    if let Ok(read) = &envelope
        && let Some(url) = sns::subscribe_url(read)
    {
        of_sns(url, read.topic_arn.split(':').nth(3).unwrap_or_default());
    }
    drop(envelope);
    // The vectors' own time, unless the input says when it arrived.
    if let (Some(time), None) = (time, sent.setting("now")) {
        sent.now_ms = time;
    }
    let version_1 = sent.setting("version_1") != Some("no");
    let scheme = Scheme::sns(&[TOPIC], 3_600_000, version_1).expect("it is a topic");
    let fetched = wanted(&scheme, &sent.request());
    if let Ok(Some(Wanted::Sns(url))) = &fetched {
        of_sns(url, "us-east-1");
        assert!(url.rsplit('.').next() == Some("pem") && !url.contains('?'), "{url:?} is fetched");
    }
    for key in &KNOWN.keys {
        let Ok(judged) = sent.judged(&scheme, Some(key)) else { continue };
        assert!(matches!(judged, Judged::Genuine(_)) && fetched.is_ok());
        let said = signed(&sent.body).expect("what is accepted can be read");
        assert!(KNOWN.signed.contains(&said), "accepted, and nobody signed it: {said:?}");
    }
    assert!(sent.judged(&scheme, None).is_err(), "accepted without a key");
}

/// Asserts that the URL is of SNS in this region, by another reading of URLs.
fn of_sns(url: &str, region: &str) {
    let uri: http::Uri = url.parse().expect("it is a URL");
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    let named = host.strip_prefix("sns.").and_then(|rest| {
        rest.strip_suffix(".amazonaws.com").or_else(|| rest.strip_suffix(".amazonaws.com.cn"))
    });
    assert_eq!(named, Some(&*region.to_ascii_lowercase()), "{url:?} is not of the topic's region");
    assert_eq!(uri.scheme_str(), Some("https"));
    let authority = uri.authority().map(|authority| authority.as_str().to_ascii_lowercase());
    assert_eq!(authority, Some(host), "{url:?} names more than a host");
}
