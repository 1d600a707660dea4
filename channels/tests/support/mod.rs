//! The file of vectors, as requests that can be judged.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use channels::Refused;
use channels::signature::{
    EbayKey, Judged, Key, Request, Scheme, SnsCertificates, Wanted, sns, verify, wanted,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::Value;

pub(crate) const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/vectors.json");

pub(crate) const TOLERANCE_MS: u64 = 300_000;

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// The schemes of the file that are known here.
const FAMILIES: [&str; 8] = [
    "shopify",
    "woocommerce",
    "standard_webhooks",
    "stripe_style",
    "github_style",
    "walmart_performance",
    "aws_sns",
    "ebay",
];

/// A request that a test can change before it is judged.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) now_ms: u64,
}

impl Sent {
    pub(crate) fn new(body: &[u8]) -> Self {
        let headers = HeaderMap::new();
        let target = "/webhooks/test".to_string();
        Self { method: Method::POST, target, headers, body: body.to_vec(), now_ms: 0 }
    }

    pub(crate) fn with(mut self, name: &str, value: &[u8]) -> Self {
        let name: HeaderName = name.parse().unwrap();
        self.headers.append(name, HeaderValue::from_bytes(value).unwrap());
        self
    }

    pub(crate) fn request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            target: &self.target,
            headers: &self.headers,
            body: &self.body,
            now_ms: self.now_ms,
        }
    }

    pub(crate) fn judge(&self, scheme: &Scheme, key: Option<&Key>) -> Result<Judged<'_>, Refused> {
        verify(scheme, &self.request(), key)
    }

    pub(crate) fn wanted(&self, scheme: &Scheme) -> Result<Option<Wanted>, Refused> {
        wanted(scheme, &self.request())
    }
}

/// One vector.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) family: String,
    pub(crate) name: String,
    pub(crate) expect: String,
    pub(crate) why: String,
    pub(crate) secrets: Vec<String>,
    pub(crate) scheme: Result<Scheme, String>,
    pub(crate) sent: Sent,
    pub(crate) key: Option<Key>,
}

impl Case {
    /// As a node would do it: ask which key is wanted, then judge with it.
    pub(crate) fn accepted(&self) -> bool {
        let Ok(scheme) = &self.scheme else { return false };
        let judged = self.sent.judge(scheme, self.key.as_ref());
        if judged.is_ok() {
            // What is accepted with a key must have asked for one, or the node would never fetch it.
            let wanted = self.sent.wanted(scheme).unwrap();
            assert_eq!(wanted.is_some(), self.key.is_some(), "{}", self.name);
        }
        judged.is_ok()
    }
}

pub(crate) fn file(path: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// All vectors of the repository's own file.
pub(crate) fn own_cases() -> Vec<Case> {
    let file = file(VECTORS);
    let families = file["schemes"].as_object().unwrap();
    families.iter().flat_map(|(name, family)| cases(name, family).unwrap()).collect()
}

/// The vectors of one scheme, or `None` if it is none of ours.
pub(crate) fn cases(name: &str, family: &Value) -> Option<Vec<Case>> {
    // Asked first: the vectors of an unknown scheme may have any shape.
    if !FAMILIES.contains(&name) {
        return None;
    }
    let vectors = family["vectors"].as_array().unwrap();
    let topics = topics(vectors);
    let cases = vectors.iter().map(|vector| {
        let secrets = secrets(vector);
        let mut sent = sent(vector);
        let scheme = match name {
            "shopify" => Scheme::shopify(&secrets),
            "woocommerce" => Scheme::woocommerce(&secrets),
            "standard_webhooks" => Scheme::standard_webhooks(&secrets),
            "stripe_style" => Scheme::stripe(&secrets),
            "github_style" => Scheme::github(&secrets),
            "walmart_performance" => Scheme::walmart_performance(&secrets, TOLERANCE_MS),
            "aws_sns" => Scheme::sns(&topics, 3_600_000, true),
            "ebay" => Ok(Scheme::ebay()),
            other => panic!("no scheme is made of {other}"),
        };
        let key = match name {
            "aws_sns" => {
                sent.now_ms = sns::envelope(&sent.body).map_or(0, |envelope| {
                    channels::time::rfc3339(&envelope.timestamp).unwrap_or_default()
                });
                let pem = &family["certs"][vector["served_cert"].as_str().unwrap()];
                let pem = pem.as_str().unwrap().as_bytes();
                // The file's certificates vouch for themselves: only their keys are of use here.
                Some(Key::Sns(SnsCertificates::parse(pem).unwrap().key()))
            }
            "ebay" => match sent.wanted(&Scheme::ebay()) {
                Ok(Some(Wanted::Ebay(id))) => ebay_key(family, &id),
                _ => None,
            },
            _ => None,
        };
        let text = |field: &str| vector[field].as_str().unwrap_or_default().to_string();
        let (family, name) = (name.to_string(), text("name"));
        let (expect, why) = (text("expect"), text("why"));
        Case { family, name, expect, why, secrets, scheme, sent, key }
    });
    Some(cases.collect())
}

fn ebay_key(family: &Value, id: &str) -> Option<Key> {
    let record = family["public_keys_as_returned_by_getPublicKey"].get(id)?;
    Some(Key::Ebay(EbayKey::parse(record.to_string().as_bytes()).unwrap()))
}

fn secrets(vector: &Value) -> Vec<String> {
    let text = |secret: &Value| secret.as_str().unwrap().to_string();
    match &vector["secrets"] {
        Value::Array(secrets) => secrets.iter().map(text).collect(),
        _ => vector["secret"].as_str().map(String::from).into_iter().collect(),
    }
}

fn sent(vector: &Value) -> Sent {
    let mut sent = Sent::new(&STANDARD.decode(vector["body_b64"].as_str().unwrap()).unwrap());
    for (name, value) in vector["headers"].as_object().unwrap() {
        let values = value.as_array().map_or_else(|| vec![value.clone()], Clone::clone);
        for value in values {
            sent = sent.with(name, value.as_str().unwrap().as_bytes());
        }
    }
    sent.now_ms = vector["now_unix"].as_u64().unwrap_or_default() * 1000;
    if let Some(method) = vector["request_method"].as_str() {
        sent.method = method.parse().unwrap();
    }
    if let Some(target) = vector["request_target"].as_str() {
        sent.target = target.into();
    }
    sent
}

/// The topics that the good vectors come through: what a merchant would have named.
fn topics(vectors: &[Value]) -> Vec<String> {
    let good = vectors.iter().filter(|vector| vector["expect"] == "accept");
    let topic = |vector: &Value| {
        let body = sent(vector).body;
        sns::envelope(&body).ok().map(|envelope| envelope.topic_arn.to_string())
    };
    good.filter_map(topic).collect()
}
