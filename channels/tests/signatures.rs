//! Promise: of all signatures, exactly those of a known secret or key over the raw bytes are accepted.
//!
//! `SIGNATURE_VECTORS` may name another file of the shape of `tests/vectors/vectors.json`; schemes in it
//! that are not known here are counted and named.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod support;

use channels::signature::{Scheme, Wanted, ebay};
use serde_json::{Value, json};
use support::{Sent, VECTORS, cases, file};

fn vectors() -> (String, Value) {
    let path = std::env::var("SIGNATURE_VECTORS").unwrap_or_else(|_| VECTORS.into());
    let file = file(&path);
    (path, file)
}

/// What we chose where a scheme leaves a choice; `None` for a choice that is not known here.
fn policy(family: &str, name: &str) -> Option<bool> {
    match (family, name) {
        // Shopify's own library refuses an empty body too. GitHub writes lower case.
        ("shopify", "empty_body") | ("github_style", "policy_upper_hex") => Some(false),
        // Named for the other alphabet, but its text has none of the characters that differ.
        ("shopify", "policy_base64url_alphabet") => Some(true),
        _ => None,
    }
}

// A scheme that is nearly right (hex for base64, a prefix of the code, the text encoded anew, only the
// newest secret, a key that the sender chose) refuses real deliveries or accepts forged ones.
#[test]
fn published_vectors_are_judged_as_they_say() {
    let (path, file) = vectors();
    let (mut judged, mut left) = (0, 0);
    for (family, vectors) in file["schemes"].as_object().unwrap() {
        let Some(cases) = cases(family, vectors) else {
            let count = vectors["vectors"].as_array().map_or(0, Vec::len);
            println!("{family}: unknown here, {count} vectors left out");
            continue;
        };
        println!("{family}: {} vectors", cases.len());
        for case in cases {
            let accepted = case.accepted();
            let expected = match case.expect.as_str() {
                "accept" => true,
                "reject" => false,
                "policy" => {
                    let Some(expected) = policy(family, &case.name) else {
                        println!("{family} {}: a choice, accepted: {accepted}", case.name);
                        left += 1;
                        continue;
                    };
                    expected
                }
                other => panic!("{family} {}: what is {other:?}?", case.name),
            };
            assert_eq!(
                accepted, expected,
                "{family} {}: {} {:?}",
                case.name, case.why, case.scheme
            );
            judged += 1;
        }
    }
    println!("{judged} vectors judged, {left} left as a choice");
    assert!(judged > 0, "nothing to judge in {path}");
    assert!(path != VECTORS || judged == 91, "the file has other vectors: {judged}");
}

// A wrong order of the three parts, or a slash too many, and eBay never enables the endpoint.
#[test]
fn challenges_are_answered_as_published() {
    let (_, file) = vectors();
    let challenges = file["schemes"]["ebay"]["challenge_vectors"].as_array();
    for challenge in challenges.unwrap_or(&Vec::new()) {
        let text = |field: &str| challenge[field].as_str().unwrap();
        let answer =
            ebay::challenge(text("challenge_code"), text("verification_token"), text("endpoint"));
        let published = challenge["response_body"]["challengeResponse"].as_str().unwrap();
        let expected = match text("expect") {
            "match" => true,
            "mismatch" => false,
            other => panic!("what is {other:?}?"),
        };
        assert_eq!(answer == published, expected, "{challenge}");
    }
}

// A rule with a hole lets a stranger name the certificate that he signs with.
#[test]
fn published_certificate_urls_are_judged_as_they_say() {
    let (_, file) = vectors();
    let none = Vec::new();
    let urls = file["schemes"]["aws_sns"]["cert_url_cases"].as_array().unwrap_or(&none);
    for case in urls {
        let url = case["url"].as_str().unwrap();
        // A topic of the region that the URL seems to name, so that the region is not what decides.
        let region = url.split('.').nth(1).filter(|part| !part.is_empty()).unwrap_or("us-east-1");
        let topic =
            format!("arn:aws:sns:{}:123456789012:bridge", region.split('/').next().unwrap());
        let body = json!({
            "Type": "Notification", "MessageId": "1", "TopicArn": topic, "Message": "",
            "Timestamp": "1970-01-01T00:00:00Z", "SignatureVersion": "2", "Signature": "",
            "SigningCertURL": url,
        });
        let scheme = Scheme::sns(&[&topic], 0, false).unwrap();
        let wanted = Sent::new(body.to_string().as_bytes()).wanted(&scheme);
        let accepted = match wanted {
            Ok(Some(Wanted::Sns(wanted))) => {
                assert!(wanted.eq_ignore_ascii_case(url), "{wanted} is not {url}");
                true
            }
            other => other.is_ok(),
        };
        let expected = match case["expect"].as_str().unwrap() {
            "accept" => true,
            "reject" => false,
            other => panic!("what is {other:?}?"),
        };
        assert_eq!(accepted, expected, "{url}");
    }
}
