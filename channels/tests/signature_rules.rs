//! Promise: what no published vector shows of signatures holds too.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use channels::Refused;
use channels::signature::described::{Encoding, KeyForm, Timestamp, Unit};
use channels::signature::{Description, Judged, Scheme, ebay};
use hmac::{Hmac, KeyInit, Mac};
use ring::signature::{Ed25519KeyPair, KeyPair};
use sha2::Sha256;
use support::{Case, Sent, TOLERANCE_MS, hex, own_cases};

const NOW_MS: u64 = 1_763_650_000_000;

fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    Hmac::<Sha256>::new_from_slice(key)
        .unwrap()
        .chain_update(message)
        .finalize()
        .into_bytes()
        .into()
}

fn own_case(family: &str, name: &str) -> Case {
    own_cases().into_iter().find(|case| case.family == family && case.name == name).unwrap()
}

/// The headers of each scheme that claim something.
fn claims(family: &str) -> &'static [&'static str] {
    match family {
        "shopify" => &["x-shopify-hmac-sha256"],
        "woocommerce" => &["x-wc-webhook-signature"],
        "standard_webhooks" => &["webhook-id", "webhook-timestamp", "webhook-signature"],
        "stripe_style" => &["stripe-signature"],
        "github_style" => &["x-hub-signature-256"],
        "walmart_performance" => &["wm_sec.timestamp", "wm_sec.signature"],
        "aws_sns" => &["x-amz-sns-message-type"],
        "ebay" => &["x-ebay-signature"],
        other => panic!("what does {other} claim?"),
    }
}

// A header that a proxy doubled must not refuse a delivery; one that contradicts another must not let the
// weaker one decide; one that is huge or no text must not cost time or panic.
#[test]
fn claims_are_one_claim_bounded_and_text() {
    let mut seen = 0;
    for case in own_cases().into_iter().filter(|case| case.expect == "accept") {
        for name in claims(&case.family) {
            let value = case.sent.headers.get(*name).unwrap().clone();
            let with = |values: &[&[u8]]| {
                let mut case = case.clone();
                case.sent.headers.remove(*name);
                for value in values {
                    case.sent = case.sent.clone().with(name, value);
                }
                case.accepted()
            };
            let huge = [value.as_bytes(), &b"A".repeat(100_000)].concat();
            assert!(with(&[value.as_bytes(), value.as_bytes()]), "{name} twice: {}", case.name);
            for values in [
                &[value.as_bytes(), b"other"][..],
                &[b"other", value.as_bytes()],
                &[value.as_bytes(), b""],
                &[&huge],
                &[b"\xff\xfe\xe9"],
                &[b""],
            ] {
                assert!(!with(values), "{name}: {} with {} values", case.name, values.len());
            }
            // The type of a message of SNS stands in its body too.
            assert_eq!(with(&[]), case.family == "aws_sns", "{name} missing: {}", case.name);
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} claims seen");
}

// Shopify writes the name of its header in two ways: each alone must do, and the two must agree.
#[test]
fn either_spelling_of_shopify_counts_and_contradicting_ones_do_not() {
    let scheme = Scheme::shopify(&["a secret of some length"]).unwrap();
    let good = STANDARD.encode(mac(b"a secret of some length", b"{}"));
    let bad = STANDARD.encode(mac(b"another secret", b"{}"));
    let judge = |claims: &[(&str, &String)]| {
        let with = |sent: Sent, (name, value): &(&str, &String)| sent.with(name, value.as_bytes());
        claims.iter().fold(Sent::new(b"{}"), with).judge(&scheme, None).is_ok()
    };
    let (old, new) = ("X-Shopify-Hmac-SHA256", "Shopify-Hmac-SHA256");
    assert!(
        judge(&[(old, &good)]) && judge(&[(new, &good)]) && judge(&[(old, &good), (new, &good)])
    );
    assert!(!judge(&[(new, &good), (old, &bad)]) && !judge(&[(new, &bad), (old, &good)]));
}

// A store switches a webhook on only if its unsigned ping is answered 200; whatever is more than that ping
// must not get through without a signature.
#[test]
fn the_ping_of_a_store_is_let_through_and_nothing_else_without_a_signature() {
    let scheme = Scheme::woocommerce(&["secret"]).unwrap();
    let form = b"application/x-www-form-urlencoded";
    let ping = |body: &[u8], kind: &[u8]| Sent::new(body).with("content-type", kind);
    let is_ping = |sent: &Sent| match sent.judge(&scheme, None) {
        Ok(Judged::Ping) => true,
        Ok(Judged::Genuine(_)) => panic!("not signed"),
        Err(Refused) => false,
    };
    assert!(is_ping(&ping(b"webhook_id=12", form)));
    assert!(is_ping(&ping(b"webhook_id=12", b"application/x-www-form-urlencoded; charset=UTF-8")));
    let digits = [&b"webhook_id="[..], &b"1".repeat(21)].concat();
    for body in [
        &b"webhook_id="[..],
        b"webhook_id=12\n",
        b"webhook_id=-1",
        b"webhook_id=1&a=b",
        b"",
        &digits,
    ] {
        assert!(!is_ping(&ping(body, form)), "{}", String::from_utf8_lossy(body));
    }
    let good = ping(b"webhook_id=12", form);
    assert!(!is_ping(&Sent::new(b"webhook_id=12")));
    assert!(!is_ping(&ping(b"webhook_id=12", b"application/json")));
    assert!(!is_ping(&good.clone().with("x-wc-webhook-topic", b"order.updated")));
    assert!(!is_ping(&good.clone().with("x-wc-webhook-signature", b"")));
    // No other scheme knows it.
    assert!(good.judge(&Scheme::shopify(&["secret"]).unwrap(), None).is_err());
}

// Ed25519 signatures are for those who hold only a public key: an HMAC under that key, which everybody
// knows, must not be taken for one.
#[test]
fn standard_webhooks_are_verified_with_public_keys_too() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let other = Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap();
    let text = |pair: &Ed25519KeyPair| format!("whpk_{}", STANDARD.encode(pair.public_key()));
    let (mine, both) = ([text(&pair)], [text(&other), text(&pair), "whsec_AAEC".into()]);
    let message = format!("msg_1.{}.{{}}", NOW_MS / 1000);
    let signed = STANDARD.encode(pair.sign(message.as_bytes()));
    let forged = STANDARD.encode(mac(pair.public_key().as_ref(), message.as_bytes()));
    let coded = STANDARD.encode(mac(&[0, 1, 2], message.as_bytes()));
    let judge = |keys: &[String], id: &str, at_ms: u64, signature: &str| {
        let sent = Sent::new(b"{}").with("webhook-id", id.as_bytes());
        let sent = sent.with("webhook-timestamp", (NOW_MS / 1000).to_string().as_bytes());
        let sent = Sent { now_ms: at_ms, ..sent.with("webhook-signature", signature.as_bytes()) };
        sent.judge(&Scheme::standard_webhooks(keys).unwrap(), None).is_ok()
    };
    let v1a = format!("v1a,{signed}");
    assert!(judge(&mine, "msg_1", NOW_MS, &v1a) && judge(&both, "msg_1", NOW_MS, &v1a));
    assert!(judge(&both, "msg_1", NOW_MS, &format!("v1,{coded}")));
    assert!(judge(&mine, "msg_1", NOW_MS, &format!("v1,x v2,y nothing a,b,c  {v1a}")));
    assert!(judge(&mine, "msg_1", NOW_MS + TOLERANCE_MS, &v1a));
    assert!(judge(&mine, "msg_1", NOW_MS - TOLERANCE_MS, &v1a));
    assert!(!judge(&mine, "msg_1", NOW_MS + TOLERANCE_MS + 1, &v1a));
    assert!(!judge(&mine, "msg_1", NOW_MS - TOLERANCE_MS - 1, &v1a));
    assert!(!judge(&mine, "msg_2", NOW_MS, &v1a));
    assert!(!judge(&[text(&other)], "msg_1", NOW_MS, &v1a));
    for signature in
        [format!("v1,{forged}"), format!("v1a,{forged}"), format!("v1,{signed}"), signed]
    {
        assert!(!judge(&mine, "msg_1", NOW_MS, &signature), "{signature}");
    }
    // Only so many entries are read.
    assert!(!judge(&mine, "msg_1", NOW_MS, &format!("{}{v1a}", "v1,x ".repeat(32))));
}

// An id with a dot would let a part of the body be taken for the timestamp.
#[test]
fn ids_do_not_move_the_border_of_what_is_signed() {
    let body = format!("{}.{{}}", NOW_MS / 1000);
    let message = format!("a.{}.{body}", NOW_MS / 1000);
    let code = format!("v1,{}", STANDARD.encode(mac(&[0, 1, 2], message.as_bytes())));
    let described = described_like("standard_webhooks").unwrap();
    let schemes = [
        Scheme::standard_webhooks(&["whsec_AAEC"]).unwrap(),
        Scheme::described(&described, &["AAEC"]).unwrap(),
    ];
    for scheme in schemes {
        let judge = |id: String, body: &str| {
            let sent = Sent::new(body.as_bytes()).with("webhook-id", id.as_bytes());
            let sent = sent.with("webhook-timestamp", (NOW_MS / 1000).to_string().as_bytes());
            let sent = Sent { now_ms: NOW_MS, ..sent.with("webhook-signature", code.as_bytes()) };
            sent.judge(&scheme, None).is_ok()
        };
        assert!(judge("a".into(), &body), "{scheme:?}");
        assert!(!judge(format!("a.{}", NOW_MS / 1000), "{}"), "{scheme:?}");
    }
}

// A proxy's path, a longer path, a prefix or a part of the secret must not open the door.
#[test]
fn a_secret_in_the_path_is_the_last_segment() {
    let secrets = ["new-secret_0123456789", "old-secret.0123456789"];
    let scheme = Scheme::path_secret(&secrets).unwrap();
    let judge = |target: &str| {
        Sent { target: target.into(), ..Sent::new(b"{}") }.judge(&scheme, None).is_ok()
    };
    assert!(judge("/webhooks/odoo/new-secret_0123456789"));
    assert!(judge("/webhooks/odoo/old-secret.0123456789?db=x/y"));
    for target in [
        "/webhooks/odoo/new-secret_0123456789/",
        "/webhooks/odoo/new-secret_012345678",
        "/webhooks/odoo/new-secret_01234567890",
        "/webhooks/odoo/NEW-SECRET_0123456789",
        "/webhooks/odoo/new%2Dsecret_0123456789",
        "/webhooks/odoo?/new-secret_0123456789",
        "/webhooks/new-secret_0123456789/odoo",
        "new-secret_0123456789",
        "/webhooks/odoo/",
        "",
    ] {
        assert!(!judge(target), "{target}");
    }
}

// Passwords and tokens: another user, an empty one, a bare token or a longer one must not do.
#[test]
fn basic_authentication_and_tokens_are_exact() {
    let judge = |scheme: &Scheme, name: &str, value: &str| {
        Sent::new(b"{}").with(name, value.as_bytes()).judge(scheme, None).is_ok()
    };
    let basic = Scheme::basic(None, "walmart", &["new:password", "old"]).unwrap();
    let pair = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
    for good in ["walmart:new:password", "walmart:old"] {
        assert!(judge(&basic, "authorization", &pair(good)), "{good}");
    }
    assert!(judge(&basic, "authorization", &pair("walmart:old").replace("Basic", "basic")));
    for bad in ["walmart:", ":old", "walmart:older", "walmart:ol", "Walmart:old", "old", ""] {
        assert!(!judge(&basic, "authorization", &pair(bad)), "{bad}");
    }
    assert!(!judge(&basic, "authorization", "Basic walmart:old"));
    assert!(!judge(&basic, "x-auth", &pair("walmart:old")));
    let elsewhere = Scheme::basic(Some("X-Auth"), "walmart", &["old"]).unwrap();
    assert!(judge(&elsewhere, "x-auth", &pair("walmart:old")));

    let bearer = Scheme::token("Authorization", "Bearer ", &["token-1", "token-2"]).unwrap();
    assert!(judge(&bearer, "authorization", "Bearer token-1"));
    assert!(judge(&bearer, "authorization", "bearer token-2"));
    for bad in
        ["Bearer ", "Bearer", "token-1", "Bearer token-", "Bearer token-11", "Bearer  token-1"]
    {
        assert!(!judge(&bearer, "authorization", bad), "{bad}");
    }
    let bare = Scheme::token("X-Key", "", &["token-1"]).unwrap();
    assert!(judge(&bare, "x-key", "token-1") && !judge(&bare, "x-key", "token-2"));
}

/// A description that says what a known scheme does.
fn described_like(family: &str) -> Option<Description> {
    let seconds = |header: &str| {
        Some(Timestamp { header: header.into(), unit: Unit::S, tolerance_ms: TOLERANCE_MS })
    };
    let base = Description {
        header: String::new(),
        prefix: String::new(),
        encoding: Encoding::Base64,
        key: KeyForm::Text,
        signed: "{body}".into(),
        separator: None,
        timestamp: None,
        id_header: None,
    };
    match family {
        "shopify" => Some(Description { header: "X-Shopify-Hmac-SHA256".into(), ..base }),
        "github_style" => Some(Description {
            header: "X-Hub-Signature-256".into(),
            prefix: "sha256=".into(),
            encoding: Encoding::Hex,
            id_header: Some("X-GitHub-Delivery".into()),
            ..base
        }),
        "walmart_performance" => Some(Description {
            header: "WM_SEC.SIGNATURE".into(),
            signed: "{method}\\n{path}\n{timestamp}\\n{body_sha256}".into(),
            timestamp: seconds("WM_SEC.TIMESTAMP"),
            ..base
        }),
        "standard_webhooks" => Some(Description {
            header: "webhook-signature".into(),
            prefix: "v1,".into(),
            key: KeyForm::Base64,
            signed: "{id}.{timestamp}.{body}".into(),
            separator: Some(" ".into()),
            timestamp: seconds("webhook-timestamp"),
            id_header: Some("webhook-id".into()),
            ..base
        }),
        _ => None,
    }
}

// A description of a known scheme that judges differently would be wrong about unknown ones too.
#[test]
fn a_described_scheme_judges_as_the_known_one_does() {
    let mut compared = 0;
    for mut case in own_cases() {
        let Some(description) = described_like(&case.family) else { continue };
        if case.expect == "policy" {
            continue;
        }
        let expected = case.accepted();
        for secret in &mut case.secrets {
            if case.family == "standard_webhooks" {
                *secret = secret.replace("whsec_", "");
            }
        }
        case.scheme = Scheme::described(&description, &case.secrets);
        assert!(case.scheme.is_ok(), "{:?}", case.scheme);
        assert_eq!(case.accepted(), expected, "{}: {}", case.family, case.name);
        compared += 1;
    }
    assert_eq!(compared, 10 + 4 + 8 + 16);
}

// The parts of a description that no known scheme has: milliseconds, keys in hex, upper-case hex.
#[test]
fn a_described_scheme_knows_milliseconds_and_hex() {
    let description = Description {
        header: "X-Signature".into(),
        encoding: Encoding::Hex,
        key: KeyForm::Hex,
        signed: "{timestamp}{body}".into(),
        timestamp: Some(Timestamp { header: "X-Time".into(), unit: Unit::Ms, tolerance_ms: 10 }),
        ..described_like("shopify").unwrap()
    };
    let scheme = Scheme::described(&description, &["00fF"]).unwrap();
    let code = hex(&mac(&[0, 255], format!("{NOW_MS}{{}}").as_bytes()));
    let mixed = code.replacen(|c: char| c.is_ascii_lowercase(), "A", 1);
    let judge = |code: &str, now_ms: u64| {
        let sent = Sent::new(b"{}").with("x-signature", code.as_bytes());
        let sent = sent.with("x-time", NOW_MS.to_string().as_bytes());
        Sent { now_ms, ..sent }.judge(&scheme, None).is_ok()
    };
    assert!(judge(&code, NOW_MS) && judge(&code, NOW_MS + 10) && judge(&code, NOW_MS - 10));
    assert!(judge(&code.to_ascii_uppercase(), NOW_MS));
    assert!(!judge(&code, NOW_MS + 11) && !judge(&code, NOW_MS - 11) && !judge(&mixed, NOW_MS));
}

// A secret or a description that cannot work must be found when the config is read, in words, not by
// refusing every delivery later.
#[test]
fn what_cannot_be_used_is_refused_in_words() {
    let of = |change: fn(&mut Description)| {
        let mut description = described_like("standard_webhooks").unwrap();
        change(&mut description);
        Scheme::described(&description, &["AAEZ"])
    };
    let none: [&str; 0] = [];
    for (scheme, words) in [
        (Scheme::shopify(&none), "missing"),
        (Scheme::shopify(&["a", ""]), "empty"),
        (Scheme::github(&["a"; 17]), "more than 16"),
        (Scheme::standard_webhooks(&["whsec_!"]), "not base64"),
        (Scheme::standard_webhooks(&["whsec_"]), "empty"),
        (Scheme::standard_webhooks(&["whpk_AAEC"]), "32 bytes"),
        (Scheme::standard_webhooks(&["whsk_AAEC"]), "private"),
        (Scheme::path_secret(&["short"]), "16 characters"),
        (Scheme::path_secret(&["with/slash/0123456789"]), "A-Z"),
        (Scheme::basic(None, "a:b", &["c"]), "colon"),
        (Scheme::basic(None, "a", &[""]), "empty"),
        (Scheme::token("no header", "", &["a"]), "no name"),
        (Scheme::sns(&none, 0, true), "name the topics"),
        (Scheme::sns(&["arn:aws:sqs:us-east-1:1:q"], 0, true), "no ARN"),
        (of(|d| d.signed = "{timestamp}.{nonce}".into()), "{nonce}"),
        (of(|d| d.signed = "{id}.{timestamp}".into()), "{body}"),
        (of(|d| d.signed = "{body}".into()), "{timestamp}"),
        (of(|d| d.signed = "{timestamp}.{body".into()), "without its }"),
        (of(|d| d.signed = "{timestamp}}{body}".into()), "without its {"),
        (of(|d| d.timestamp = None), "{timestamp}"),
        (of(|d| d.id_header = None), "{id}"),
        (of(|d| d.separator = Some(String::new())), "separator"),
        (of(|d| d.header = "a b".into()), "no name"),
        (of(|d| d.key = KeyForm::Hex), "not hex"),
    ] {
        let error = scheme.unwrap_err();
        assert!(error.contains(words), "{error:?} does not say {words:?}");
    }
}

// A trace of a scheme must not give its secrets away, in no form.
#[test]
fn secrets_are_never_shown() {
    let secret = "c2VjcmV0LXRoYXQtbm9ib2R5LXNlZXM=";
    let description = described_like("github_style").unwrap();
    for scheme in [
        Scheme::shopify(&[secret]),
        Scheme::woocommerce(&[secret]),
        Scheme::path_secret(&[secret.trim_end_matches('=')]),
        Scheme::basic(None, "user", &[secret]),
        Scheme::token("authorization", "Bearer ", &[secret]),
        Scheme::walmart_performance(&[secret], 1),
        Scheme::standard_webhooks(&[secret]),
        Scheme::stripe(&[secret]),
        Scheme::github(&[secret]),
        Scheme::described(&description, &[secret]),
    ] {
        let shown = format!("{:?}", scheme.unwrap());
        assert!(shown.contains("hidden"), "{shown}");
        // Neither its text, nor its bytes as a list, nor its hex.
        for form in ["c2VjcmV0", "99, 50, 86", "secret-that", "115, 101, 99", "633256"] {
            assert!(!shown.contains(form), "{shown}");
        }
    }
}

// A key of another service, or none, must not judge anything.
#[test]
fn a_missing_or_foreign_key_refuses() {
    let ebay = own_case("ebay", "ok_sha1");
    let sns = own_case("aws_sns", "ok_notification_v1_subject");
    assert!(ebay.accepted() && sns.accepted());
    assert!(!Case { key: None, ..ebay.clone() }.accepted());
    assert!(!Case { key: None, ..sns.clone() }.accepted());
    assert!(!Case { key: sns.key.clone(), ..ebay.clone() }.accepted());
    assert!(!Case { key: ebay.key, ..sns }.accepted());
}

// A sender must not choose how he is verified, nor what stands in the URL that we fetch his key from.
#[test]
fn ebay_takes_the_digest_from_the_key() {
    let case = own_case("ebay", "ok_sha1");
    let claim = STANDARD.decode(&case.sent.headers["x-ebay-signature"]).unwrap();
    let claim = String::from_utf8(claim).unwrap();
    let judge = |claim: &str| {
        let mut case = case.clone();
        case.sent.headers.remove("x-ebay-signature");
        case.sent = case.sent.with("x-ebay-signature", STANDARD.encode(claim).as_bytes());
        case.accepted()
    };
    assert!(judge(&claim) && judge(&claim.replace("SHA1", "sha1")));
    assert!(judge(&claim.replace(r#""digest":"SHA1""#, r#""digest":null"#)));
    assert!(judge(&claim.replace(r#","digest":"SHA1""#, "")));
    for (old, new) in [
        (r#""SHA1""#, r#""SHA256""#),
        (r#""SHA1""#, r#""MD5""#),
        (r#""alg":"ecdsa","#, ""),
        (r#""kid":"#, r#""kid":"a","kid":"#),
        ("9936261a", "9936261a/"),
        ("9936261a", "9936261A%2f"),
        (r#""kid":"9936261a-7d7b-4621-a0f1-96ccb428af49""#, r#""kid":"""#),
    ] {
        assert!(claim.contains(old), "{claim}");
        assert!(!judge(&claim.replace(old, new)), "{new}");
    }
}

// What getPublicKey answers is a stranger's text as well.
#[test]
fn records_of_ebay_keys_are_read_with_care() {
    let file = support::file(support::VECTORS);
    let keys = &file["schemes"]["ebay"]["public_keys_as_returned_by_getPublicKey"];
    let record = keys["9936261a-7d7b-4621-a0f1-96ccb428af49"].to_string();
    let parse = |record: &str| ebay::EbayKey::parse(record.as_bytes()).map(|_| ());
    let wrapped =
        record.replace("KEY-----MFkw", r"KEY-----\nMFkw").replace("==-----", r"==\n-----");
    assert_eq!((parse(&record), parse(&wrapped)), (Ok(()), Ok(())));
    for (old, new) in [
        ("ECDSA", "RSA"),
        ("SHA1", "MD5"),
        ("MFkwEwYH", "MFkwEwYI"),
        ("BEGIN PUBLIC", "BEGIN PRIVATE"),
        ("\"key\"", "\"kee\""),
        ("==-----", "-----"),
    ] {
        assert!(record.contains(old), "{record}");
        assert!(parse(&record.replace(old, new)).is_err(), "{new}");
    }
    assert!(parse(&format!("{record}{}", " ".repeat(9000))).is_err());
    assert!(parse("").is_err());
}
