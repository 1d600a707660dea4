//! Promise: a message of SNS is accepted only from a topic of the merchant's, fresh, and signed with a key
//! that a root vouches for; and no stranger chooses what is fetched.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod support;

use channels::signature::sns::{envelope, subscribe_url};
use channels::signature::{Scheme, SnsCertificates, Wanted};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CustomExtension, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use serde_json::Value;
use support::{Case, own_cases};
use webpki::anchor_from_trusted_cert;

const TOPIC: &str = "arn:aws:sns:us-east-1:123456789012:spapi-bridge";
const HOUR_MS: u64 = 3_600_000;

fn case(name: &str) -> Case {
    own_cases().into_iter().find(|case| case.family == "aws_sns" && case.name == name).unwrap()
}

/// The same request with another envelope.
fn changed(case: &Case, change: impl FnOnce(&mut Value)) -> Case {
    let mut case = case.clone();
    let mut envelope = serde_json::from_slice(&case.sent.body).unwrap();
    change(&mut envelope);
    case.sent.body = envelope.to_string().into_bytes();
    case
}

fn under(case: &Case, topics: &[&str], age_ms_max: u64, version_1: bool) -> bool {
    let scheme = Scheme::sns(topics, age_ms_max, version_1);
    Case { scheme, ..case.clone() }.accepted()
}

// Anybody with an account at Amazon sends authentic messages from topics of his own. And where the topic is
// allowed, the signature must still decide.
#[test]
fn only_topics_that_were_named_are_heard() {
    let good = case("ok_notification_v2_no_subject");
    assert!(under(&good, &[TOPIC], HOUR_MS, true));
    assert!(under(&good, &["arn:aws:sns:us-east-1:1:other", TOPIC], HOUR_MS, true));
    let (prefix, longer) = (&TOPIC[..TOPIC.len() - 1], format!("{TOPIC}x"));
    for topic in [prefix, &longer, &TOPIC.to_uppercase().replace("ARN:AWS:SNS", "arn:aws:sns")] {
        assert!(!under(&good, &[topic], HOUR_MS, true), "{topic}");
    }
    for case in own_cases() {
        if case.family == "aws_sns" && case.expect == "reject" {
            let topic = envelope(&case.sent.body).unwrap().topic_arn.to_string();
            assert!(!under(&case, &[&topic], HOUR_MS, true), "{}", case.name);
        }
    }
}

// A captured message could be sent again for ever; a clock that is a little behind must not refuse.
#[test]
fn messages_are_heard_for_a_while() {
    let good = case("ok_notification_v2_no_subject");
    let at_ms = good.sent.now_ms;
    let judge = |now_ms: u64| {
        let mut case = good.clone();
        case.sent.now_ms = now_ms;
        let asked = case.sent.wanted(case.scheme.as_ref().unwrap()).is_ok();
        let accepted = under(&case, &[TOPIC], HOUR_MS, true);
        assert_eq!(asked, accepted, "a key must not be fetched for what is refused anyway");
        accepted
    };
    assert!(judge(at_ms + HOUR_MS) && !judge(at_ms + HOUR_MS + 1));
    assert!(judge(at_ms - HOUR_MS / 4) && !judge(at_ms - HOUR_MS / 4 - 1));
}

// SHA-1 is the default of a topic, so it must work; whoever switched it off must not be talked back into it.
#[test]
fn the_first_version_of_signatures_can_be_refused() {
    let (first, second) =
        (case("ok_notification_v1_subject"), case("ok_notification_v2_no_subject"));
    assert!(under(&first, &[TOPIC], HOUR_MS, true) && under(&second, &[TOPIC], HOUR_MS, false));
    assert!(!under(&first, &[TOPIC], HOUR_MS, false));
    for version in ["", "3", "02", "1 "] {
        let other = changed(&second, |envelope| envelope["SignatureVersion"] = version.into());
        assert!(!under(&other, &[TOPIC], HOUR_MS, true), "{version:?}");
    }
}

// Two readings of one envelope: what one parser verifies, another one would act on.
#[test]
fn an_envelope_has_one_reading() {
    let good = case("ok_notification_v2_no_subject");
    assert!(changed(&good, |envelope| envelope["Subject"] = Value::Null).accepted());
    assert!(changed(&good, |envelope| envelope["Unknown"] = 1.into()).accepted());
    for field in ["Type", "Message", "MessageId", "TopicArn", "Timestamp", "Signature", "Subject"] {
        let mut twice = good.clone();
        let text = String::from_utf8(twice.sent.body).unwrap();
        let value = serde_json::from_str::<Value>(&text).unwrap()[field].to_string();
        twice.sent.body = text.replacen('{', &format!("{{{field:?}:{value},"), 1).into_bytes();
        // A subject that is null counts as none, and once is once.
        assert_eq!(twice.accepted(), field == "Subject", "{field}");
        assert!(!changed(&good, |envelope| envelope[field] = 5.into()).accepted(), "{field}");
        if field != "Subject" {
            let missing = changed(&good, |envelope| {
                envelope.as_object_mut().unwrap().remove(field).unwrap();
            });
            assert!(!missing.accepted(), "{field}");
        }
    }
}

// The signed text does not say where a value ends: with a line end in an id, a subject can be moved into it
// and the signature still fits.
#[test]
fn no_field_takes_over_its_neighbour() {
    let good = case("ok_notification_v1_subject");
    let moved = changed(&good, |envelope| {
        let subject = envelope.as_object_mut().unwrap().remove("Subject").unwrap();
        let id = format!(
            "{}\nSubject\n{}",
            envelope["MessageId"].as_str().unwrap(),
            subject.as_str().unwrap()
        );
        envelope["MessageId"] = id.into();
    });
    assert!(good.accepted() && !moved.accepted());
}

// A URL that passes for Amazon's and is not lets a stranger bring his own key, or make this node fetch from
// inside its network. The region keeps out other services whose hosts look alike.
#[test]
fn only_urls_of_sns_in_the_region_of_the_topic_are_fetched() {
    let good = case("ok_notification_v2_no_subject");
    let wanted = |url: &str, topic: &str| {
        let case = changed(&good, |envelope| {
            envelope["SigningCertURL"] = url.into();
            envelope["TopicArn"] = topic.into();
        });
        case.sent.wanted(&Scheme::sns(&[topic], HOUR_MS, true).unwrap()).ok().flatten()
    };
    let cn = "arn:aws-cn:sns:cn-north-1:123456789012:bridge";
    for (url, topic, fetched) in [
        (
            "https://sns.us-east-1.amazonaws.com/a.pem",
            TOPIC,
            "https://sns.us-east-1.amazonaws.com/a.pem",
        ),
        (
            "https://SNS.us-EAST-1.amazonaws.com/A/b.pem",
            TOPIC,
            "https://sns.us-east-1.amazonaws.com/A/b.pem",
        ),
        (
            "https://sns.cn-north-1.amazonaws.com.cn/a.pem",
            cn,
            "https://sns.cn-north-1.amazonaws.com.cn/a.pem",
        ),
    ] {
        assert_eq!(wanted(url, topic), Some(Wanted::Sns(fetched.into())), "{url}");
    }
    for url in [
        "",
        "https://",
        "sns.us-east-1.amazonaws.com/a.pem",
        "http://sns.us-east-1.amazonaws.com/a.pem",
        "HTTPS://sns.us-east-1.amazonaws.com/a.pem",
        "https://sns.us-east-1.amazonaws.com",
        "https://sns.us-east-1.amazonaws.com/",
        "https://sns.us-east-1.amazonaws.com/apem",
        "https://sns.us-east-1.amazonaws.com/a.pem/",
        "https://sns.us-east-1.amazonaws.com/a.pem?",
        "https://sns.us-east-1.amazonaws.com/a.pem?b.pem",
        "https://sns.us-east-1.amazonaws.com/a.pem#",
        "https://sns.us-east-1.amazonaws.com/a.pem\n",
        "https://sns.us-east-1.amazonaws.com/a\u{430}.pem",
        "https://sns.us-east-1.amazonaws.com/a b.pem",
        "https://sns.us-east-1.amazonaws.com:443/a.pem",
        "https://user@sns.us-east-1.amazonaws.com/a.pem",
        "https://sns.us-east-1.amazonaws.com@evil.example/a.pem",
        "https://evil.example\\@sns.us-east-1.amazonaws.com/a.pem",
        "https://evil.example?sns.us-east-1.amazonaws.com/a.pem",
        "https://sns.us-east-1.amazonaws.com./a.pem",
        "https://sns.us-east-1.amazonaws.com.evil.example/a.pem",
        "https://sns.us-east-1.amazonaws.com.cn.evil.example/a.pem",
        "https://evil.sns.us-east-1.amazonaws.com/a.pem",
        "https://sns.us.east.amazonaws.com/a.pem",
        "https://sns.amazonaws.com/a.pem",
        "https://sns.eu-west-1.amazonaws.com/a.pem",
        "https://sns.s3-us-west-2.amazonaws.com/a.pem",
    ] {
        assert_eq!(wanted(url, TOPIC), None, "{url}");
    }
    let long = format!("https://sns.us-east-1.amazonaws.com/{}.pem", "a".repeat(3000));
    assert_eq!(wanted(&long, TOPIC), None);
}

// A visit of the wrong URL unsubscribes, subscribes again what was ended, or reaches a host inside.
#[test]
fn only_a_confirmation_is_visited() {
    let asked = case("ok_subscription_confirmation_v2");
    let url = |case: &Case| subscribe_url(&envelope(&case.sent.body).unwrap()).map(String::from);
    assert!(
        url(&asked).unwrap().starts_with("https://sns.us-east-1.amazonaws.com/?Action=Confirm")
    );
    assert_eq!(url(&case("ok_unsubscribe_confirmation_v2")), None);
    assert_eq!(url(&case("ok_notification_v2_no_subject")), None);
    let host = "https://sns.us-east-1.amazonaws.com";
    for other in [
        format!("{host}/"),
        format!("{host}/?Action=Unsubscribe"),
        format!("{host}/?Action=ConfirmSubscription&Action=Unsubscribe"),
        format!("{host}/?Action=ConfirmSubscription#x"),
        format!("{host}/x?Action=ConfirmSubscription"),
        format!("{host}:444/?Action=ConfirmSubscription"),
        "http://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription".into(),
        "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription".into(),
        "https://169.254.169.254/?Action=ConfirmSubscription".into(),
    ] {
        let case = changed(&asked, |envelope| envelope["SubscribeURL"] = other.clone().into());
        assert_eq!(url(&case), None, "{other}");
        assert!(!case.accepted(), "it is signed");
    }
}

/// A chain as Amazon has it: a root, an intermediate, and a certificate of this name.
struct Chain {
    root: Certificate,
    intermediate: Certificate,
    leaf: Certificate,
}

fn chain(name: &str, issuer_url: &str) -> Chain {
    let authority = || {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params, KeyPair::generate().unwrap())
    };
    let ((mut root_params, root_key), (mut params, key)) = (authority(), authority());
    root_params.distinguished_name.push(rcgen::DnType::CommonName, "root");
    params.distinguished_name.push(rcgen::DnType::CommonName, "intermediate");
    let root = root_params.self_signed(&root_key).unwrap();
    let intermediate = params.signed_by(&key, &Issuer::new(root_params, root_key)).unwrap();
    let mut leaf = CertificateParams::new([name.to_string()]).unwrap();
    leaf.not_before = date_time_ymd(2026, 1, 1);
    leaf.not_after = date_time_ymd(2027, 1, 1);
    leaf.custom_extensions = vec![authority_information_access(issuer_url)];
    let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &Issuer::new(params, key)).unwrap();
    Chain { root, intermediate, leaf }
}

/// SEQUENCE { SEQUENCE { id-ad-caIssuers, [6] url } }
fn authority_information_access(url: &str) -> CustomExtension {
    let der =
        |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap()], content].concat();
    let ca_issuers = [0x2b, 6, 1, 5, 5, 7, 48, 2];
    let access = [der(6, &ca_issuers), der(0x86, url.as_bytes())].concat();
    CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], der(0x30, &der(0x30, &access)))
}

const IN_2026_MS: u64 = 1_780_000_000_000;

// A certificate that nobody vouches for, or that was given for another name or another time, could be anybody's
// who once controlled what the URL serves.
#[test]
fn certificates_are_believed_only_up_to_a_root() {
    let ours = chain("sns.us-east-1.amazonaws.com", "http://crt.example.amazontrust.com/a.cer");
    let other = chain("sns.us-east-1.amazonaws.com", "http://crt.example.amazontrust.com/a.cer");
    let roots = [anchor_from_trusted_cert(ours.root.der()).unwrap()];
    let alone = SnsCertificates::parse(ours.leaf.pem().as_bytes()).unwrap();
    let served = ours.leaf.pem() + &ours.intermediate.pem();
    let served = SnsCertificates::parse(served.as_bytes()).unwrap();
    let fetched = [ours.intermediate.der().clone()];
    assert_eq!(alone.check(&fetched, &roots, IN_2026_MS), Ok(()));
    assert_eq!(served.check(&[], &roots, IN_2026_MS), Ok(()));
    assert!(alone.check(&[], &roots, IN_2026_MS).is_err());
    assert!(alone.check(&[other.intermediate.der().clone()], &roots, IN_2026_MS).is_err());
    assert!(alone.check(&fetched, &[], IN_2026_MS).is_err());
    let elsewhere = [anchor_from_trusted_cert(other.root.der()).unwrap()];
    assert!(alone.check(&fetched, &elsewhere, IN_2026_MS).is_err());
    for now_ms in [1_767_225_599_000, 1_798_761_601_000, 0] {
        assert!(alone.check(&fetched, &roots, now_ms).is_err(), "at {now_ms}");
    }
    // A key that is not RSA verifies nothing, and does not panic.
    let mut message = case("ok_notification_v2_no_subject");
    message.key = Some(channels::signature::Key::Sns(alone.key()));
    assert!(!message.accepted());
}

#[test]
fn certificates_are_believed_only_for_sns() {
    for (name, expected) in [
        ("sns.amazonaws.com", true),
        ("sns.eu-west-1.amazonaws.com", true),
        ("SNS.cn-north-1.amazonaws.com.cn", true),
        ("sqs.eu-west-1.amazonaws.com", false),
        ("sns.eu-west-1.amazonaws.com.evil.example", false),
        ("*.amazonaws.com", false),
        ("evil.example", false),
    ] {
        let chain = chain(name, "http://crt.example.amazontrust.com/a.cer");
        let roots = [anchor_from_trusted_cert(chain.root.der()).unwrap()];
        let certificates = SnsCertificates::parse(chain.leaf.pem().as_bytes()).unwrap();
        let checked = certificates.check(&[chain.intermediate.der().clone()], &roots, IN_2026_MS);
        assert_eq!(checked.is_ok(), expected, "{name}: {checked:?}");
    }
}

// The issuer's URL stands in a certificate that nobody has vouched for yet: it must not lead anywhere.
#[test]
fn issuers_are_fetched_from_amazon_alone() {
    for (url, expected) in [
        ("http://crt.r2m02.amazontrust.com/r2m02.cer", true),
        ("https://crt.rootca1.amazontrust.com/rootca1.cer", true),
        ("ftp://crt.rootca1.amazontrust.com/rootca1.cer", false),
        ("http://amazontrust.com.evil.example/a.cer", false),
        ("http://evilamazontrust.com/a.cer", false),
        ("http://crt.amazontrust.com:22/a.cer", false),
        ("http://crt.amazontrust.com@10.0.0.1/a.cer", false),
        ("http://10.0.0.1/a.cer", false),
        ("", false),
    ] {
        let pem = chain("sns.amazonaws.com", url).leaf.pem();
        let certificates = SnsCertificates::parse(pem.as_bytes()).unwrap();
        assert_eq!(certificates.issuer_url(), expected.then_some(url), "{url}");
    }
}

// What is served may be anything.
#[test]
fn certificates_are_read_with_care() {
    let pem = chain("sns.amazonaws.com", "").leaf.pem();
    assert!(SnsCertificates::parse(pem.repeat(8).as_bytes()).is_ok());
    for bad in [
        String::new(),
        "<html>".into(),
        pem.replace("BEGIN CERTIFICATE", "BEGIN X"),
        pem.replacen("MII", "MIJ", 1),
        pem.repeat(9),
        format!("{}{pem}", "\n".repeat(70_000)),
    ] {
        assert!(SnsCertificates::parse(bad.as_bytes()).is_err(), "{}", &bad[..bad.len().min(80)]);
    }
}
