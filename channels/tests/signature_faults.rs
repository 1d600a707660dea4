//! Promise: no stranger's bytes are accepted or make the node panic, and no changed bit passes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use channels::signature::described::{Encoding, KeyForm, Timestamp, Unit};
use channels::signature::sns::envelope;
use channels::signature::{Description, Judged, Scheme};
use http::HeaderValue;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::sync::LazyLock;
use support::{Case, Sent, TOLERANCE_MS, hex, own_cases};

/// A good request of each scheme, and where in it the sender claims something.
static GOOD: LazyLock<Vec<Case>> = LazyLock::new(|| {
    // Those with one signature in them: of several, a broken one may stand beside a good one.
    let several = |name: &str| name.contains("two_v1") || name.contains("unknown_version");
    let own = own_cases().into_iter();
    let mut cases: Vec<Case> =
        own.filter(|case| case.expect == "accept" && !several(&case.name)).collect();
    let walmart = cases.iter().find(|case| case.family == "walmart_performance").unwrap();
    let description = Description {
        header: "wm_sec.signature".into(),
        prefix: String::new(),
        encoding: Encoding::Base64,
        key: KeyForm::Text,
        signed: "{method}\n{path}\n{timestamp}\n{body_sha256}".into(),
        separator: None,
        timestamp: Some(Timestamp {
            header: "wm_sec.timestamp".into(),
            unit: Unit::S,
            tolerance_ms: TOLERANCE_MS,
        }),
        id_header: None,
    };
    let scheme = Scheme::described(&description, &walmart.secrets);
    let described = Case { family: "described".into(), scheme, ..walmart.clone() };
    let plain = |family: &str, scheme, sent| Case {
        family: family.into(),
        scheme,
        sent,
        key: None,
        ..walmart.clone()
    };
    let secret = "0123456789-abcdefghij";
    let path = Sent { target: format!("/webhooks/odoo/{secret}"), ..Sent::new(b"{}") };
    let basic = format!("Basic {}", STANDARD.encode(format!("user:{secret}")));
    let basic = Sent::new(b"{}").with("authorization", basic.as_bytes());
    let token = Sent::new(b"{}").with("x-key", secret.as_bytes());
    let more = [
        described,
        plain("path", Scheme::path_secret(&[secret]), path),
        plain("basic", Scheme::basic(None, "user", &[secret]), basic),
        plain("token", Scheme::token("x-key", "", &[secret]), token),
    ];
    cases.extend(more);
    cases
});

fn good() -> impl Strategy<Value = Case> {
    select(GOOD.as_slice())
}

fn flip(bytes: &mut [u8], at: Index) {
    if !bytes.is_empty() {
        let bit = at.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

/// The headers that claim something, and the range of each in which every bit counts.
fn claims(family: &str) -> &'static [(&'static str, usize)] {
    match family {
        "shopify" => &[("x-shopify-hmac-sha256", 0)],
        "woocommerce" => &[("x-wc-webhook-signature", 0)],
        "standard_webhooks" => {
            &[("webhook-id", 0), ("webhook-timestamp", 0), ("webhook-signature", 0)]
        }
        "stripe_style" => &[("stripe-signature", 0)],
        "github_style" => &[("x-hub-signature-256", 0)],
        "walmart_performance" | "described" => &[("wm_sec.timestamp", 0), ("wm_sec.signature", 0)],
        // The name of the scheme is of any case.
        "basic" => &[("authorization", 6)],
        "token" => &[("x-key", 0)],
        // The type of a message also stands in the body; eBay's header is JSON, see below.
        "aws_sns" => &[("x-amz-sns-message-type", 0)],
        "ebay" | "path" => &[],
        other => panic!("what does {other} claim?"),
    }
}

#[test]
fn good_requests_are_good() {
    // Or what follows would prove nothing.
    for case in GOOD.iter() {
        assert!(case.accepted(), "{} {}", case.family, case.name);
    }
    for family in ["shopify", "ebay", "aws_sns", "described", "path", "basic", "token"] {
        assert!(GOOD.iter().any(|case| case.family == family), "{family}");
    }
}

/// Header values: any bytes, and what looks like a claim of some scheme.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let code = prop::collection::vec(any::<u8>(), 0..80);
    let coded = |code: &Vec<u8>| STANDARD.encode(code);
    let like = prop_oneof![
        code.clone().prop_map(move |code| coded(&code)),
        code.clone().prop_map(move |code| format!("v1,{} v1a,{}", coded(&code), coded(&code))),
        code.clone().prop_map(|code| format!("t=1763650000,v1={}", hex(&code))),
        code.prop_map(move |code| {
            let claim = format!(r#"{{"alg":"ecdsa","kid":"9","signature":"{}"}}"#, coded(&code));
            STANDARD.encode(claim)
        }),
        Just("1763650000".to_string()),
        "Basic [A-Za-z0-9+/=]{0,40}",
        "sha256=[0-9a-fA-F]{60,66}",
    ];
    prop_oneof![like.prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..120)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    // A header or a body of any shape: refused, without a panic.
    #[test]
    fn strangers_are_refused(
        case in good(),
        values in prop::collection::vec(value(), 4),
        body in prop::collection::vec(any::<u8>(), 0..300),
        target in "[/a-z?=%]{0,40}",
        now_ms in any::<u64>(),
        keep_time: bool,
    ) {
        let names: Vec<&str> = claims(&case.family).iter().map(|(name, _)| *name).collect();
        let now_ms = if keep_time { case.sent.now_ms } else { now_ms };
        let mut sent = Sent { target, body, now_ms, ..case.sent.clone() };
        sent.headers.clear();
        for (name, value) in names.iter().chain(&["x-ebay-signature"]).zip(&values) {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                sent.headers.append(*name, value);
            }
        }
        let scheme = case.scheme.as_ref().unwrap();
        prop_assert!(sent.judge(scheme, case.key.as_ref()).is_err(), "{} {:?}", case.family, sent);
        let _ = sent.wanted(scheme);
    }

    // One bit of the body. An envelope of SNS has parts that nobody signed; what was signed must stay.
    #[test]
    fn a_changed_body_is_refused(case in good(), at: Index) {
        let mut sent = case.sent.clone();
        flip(&mut sent.body, at);
        let judged = sent.judge(case.scheme.as_ref().unwrap(), case.key.as_ref());
        match case.family.as_str() {
            // These say who sent it, not what.
            "path" | "basic" | "token" => prop_assert!(judged.is_ok()),
            "aws_sns" => if let Ok(Judged::Genuine(verified)) = judged {
                let read = |bytes: &[u8]| {
                    let read = envelope(bytes).unwrap();
                    let fields = [read.kind, read.message_id, read.topic_arn, read.message, read.timestamp];
                    fields.map(String::from)
                };
                prop_assert_eq!(read(verified.bytes()), read(&case.sent.body));
            },
            _ => prop_assert!(judged.is_err(), "{} {}", case.family, case.name),
        }
    }

    // One bit of a claim.
    #[test]
    fn a_changed_claim_is_refused(case in good(), which: Index, at: Index) {
        let claims = claims(&case.family);
        let mut sent = case.sent.clone();
        if case.family == "path" {
            let segment = "0123456789-abcdefghij".len();
            let mut target = sent.target.clone().into_bytes();
            let start = target.len() - segment;
            flip(&mut target[start..], at);
            let Ok(target) = String::from_utf8(target) else { return Ok(()) };
            sent.target = target;
        } else if claims.is_empty() {
            return Ok(());
        } else {
            let (name, from) = claims[which.index(claims.len())];
            let mut value = sent.headers[name].as_bytes().to_vec();
            flip(&mut value[from..], at);
            let Ok(value) = HeaderValue::from_bytes(&value) else { return Ok(()) };
            sent.headers.insert(name, value);
        }
        let judged = sent.judge(case.scheme.as_ref().unwrap(), case.key.as_ref());
        prop_assert!(judged.is_err(), "{} {:?}", case.family, sent);
    }

    // One bit of the method or the path, where they are signed.
    #[test]
    fn a_changed_request_line_is_refused(at: Index, method: bool) {
        for case in GOOD.iter() {
            if !["walmart_performance", "described"].contains(&case.family.as_str()) {
                continue;
            }
            let mut sent = case.sent.clone();
            if method {
                sent.method = http::Method::PUT;
            } else {
                let mut target = sent.target.clone().into_bytes();
                flip(&mut target, at);
                let Ok(target) = String::from_utf8(target) else { return Ok(()) };
                sent.target = target;
            }
            prop_assert!(sent.judge(case.scheme.as_ref().unwrap(), None).is_err(), "{:?}", sent);
        }
    }

    // One bit of eBay's signature inside the JSON of the header, and any of the JSON: what is accepted
    // still asks for the same key.
    #[test]
    fn a_changed_signature_of_ebay_is_refused(at: Index, inner: bool) {
        let case = GOOD.iter().find(|case| case.family == "ebay").unwrap();
        let scheme = case.scheme.as_ref().unwrap();
        let mut claim = STANDARD.decode(&case.sent.headers["x-ebay-signature"]).unwrap();
        if inner {
            let mut json: serde_json::Value = serde_json::from_slice(&claim).unwrap();
            let mut signature = STANDARD.decode(json["signature"].as_str().unwrap()).unwrap();
            flip(&mut signature, at);
            json["signature"] = STANDARD.encode(signature).into();
            claim = json.to_string().into_bytes();
        } else {
            flip(&mut claim, at);
        }
        let mut sent = case.sent.clone();
        sent.headers.insert("x-ebay-signature", HeaderValue::from_str(&STANDARD.encode(&claim)).unwrap());
        let wanted = sent.wanted(scheme);
        let same = wanted.is_ok() && wanted == case.sent.wanted(scheme);
        let judged = sent.judge(scheme, case.key.as_ref().filter(|_| same));
        if judged.is_ok() {
            // What a flipped bit may do is change the case of a name, or rename a field that may be absent.
            let read = |claim: &[u8]| serde_json::from_slice::<serde_json::Value>(claim).unwrap();
            let sent = STANDARD.decode(&case.sent.headers["x-ebay-signature"]).unwrap();
            let (was, is) = (read(&sent), read(&claim));
            prop_assert!(!inner);
            prop_assert_eq!((&was["kid"], &was["signature"]), (&is["kid"], &is["signature"]));
        }
    }
}
