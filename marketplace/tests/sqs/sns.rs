//! SNS deliveries: what is signed, and that nothing of it can be changed.

use base64::{Engine, engine::general_purpose::STANDARD};
use marketplace::amazon::sns::{Delivery, Topic};
use ring::{
    rsa::KeyPair,
    signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey},
};
use serde_json::Value;

const ARN: &str = "arn:aws:sns:eu-west-1:123456789012:orders";
const CERTIFICATE: &str = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0001.pem";
/// 2026-11-20T15:00:00.123Z
const AT: i64 = 1_795_186_800_123;

/// An RSA key for these tests alone, PKCS#8.
const PRIVATE_KEY: &str = "\
    MIIEvAIBADANBgkqhkiG9w0BAQEFAASCBKYwggSiAgEAAoIBAQDCzlUuh04+ePqLuw1ftP9RB8RnSTF3MVDtZMdX\
    S8FwGOzeAWhSJlTaue15KMshXlOo96S44wpiPggXgJ813IYU/tjeFlgOiLasC2TdXY7dB8JH6h7scT8+h+RYBNt7\
    jd1zuKnpPnmASh8nHn3E2G9ehXLyQbcaBbjvz8ejVta//YcaOnolih8HCbwguwERdqEyQ9SnKRQy5FU8/QK+oleZ\
    LHt3E7ckqJ4pR7fE+7AP+uI0uVY7dvPg8OXtrJ6cMDfVK5j5Ofj4vFOHfjZKSS9bL62SzJaKDLmsEX6P0eerwgKP\
    ty8vwYsVEl4OzRKD0jFyeLW2ffLyNQH8pAONlFPrAgMBAAECggEAAaYp7gH5pWArOswDf5yyay3T3illGbtrf+OJ\
    AwjQEQkT1ofZO98UxPPPjHfOJrDOOlqW5L4Q/6aeow8nLnLB9KxCL5Q/193wjV0BVDmKvf2LnCE9BsbyW8E5vbJv\
    r8htuo77tBf7OcGUlu6LN98DvlZPlCZsaAZYO8t4RvUzTgxR8yJA66CmzvIgjwtpvcBrpPCyU+DlGAhhd52/EaIg\
    E/8LgiPyp23D+8AbWzbk4x+JWJIR1hjlRYAAjQs7sOmxGYGlP5LQtESwyB9IqLsAbLPU2btIglFZ77hMjvHlpGla\
    XvEya0i8dRojZEGCxkKwzMNbYwZVS1soaXb/k1lGjQKBgQDsqqH3gsROhR0cVsbgqLfJckMBH7hb4nBzRuJkRZDd\
    sbgVHI/ewkR2p8SRjLOEXhdPU2t0J06sho4kMtE7p+HkdMl0QAaisiqQTYIzJtG6PEALqcp71uka/e7/PXkjEKiD\
    709WS2vdnOfjMUtDkCENfTyjMQ8RUfnYQFX6o+GGdQKBgQDSuEcKjTd0/6nP7hc6mi09oKpyS6WqmnWhKdn3DxQM\
    Y1PM31S1XzLBQbnhJv6GMehd/vDyL1/HJ29sPlXB4KZjkTc+bhah8jUfPPyKqc2b884e5fJ4GDnRApnymhaTv6eF\
    R7ZKP/2YlNzlJOCexWY6Qp5BvdMyMQvXNo/N4uDk3wKBgB4IxYdArCL+16PqC1EleDVzb7drzBy1DupCO6bYATtx\
    O1hKiKOPadrZDaQfBAUvX6vsfT1/Y4eXh+BmJpF4i71PaOV83pq1G5u2imhta75DuSkBwjWXH3wSb8sqhP4DNi+Q\
    JjRgW+8C45a8gb2wQ9GPbCuVpUDgc2GTQJYPSCalAoGAa6abHIfighIu5bxD/7tOS4KuMS/2Vb8NQyWHZhE888s2\
    v56EvxgAbPywApeSRmpuxL5+x6tuKec6pDkARMkJGCrS50EErP15KBlXB1wSX47hiaV+Bt6RgvbqQSd5S0gJRCzL\
    swkX/IBojWQWoOZGAJOSGBHrOGQYIX2NX+h9bk8CgYAqHE1TeRVIROPXyOAk9a0bhJ1YI32bLqB2W5qwk/VDmegi\
    14dakV/4rGzrzmzwwj0hwh63jyM3ed171PlTijlh+O4A3XFXWFBtVm3G8SLssRgL9RidgIqPp1Ca5X8mjZ8qKerV\
    PeMBnTEuoX8L6xvP/CzutYbBAewJIzIJ+lwS7w==";

fn private_key() -> Vec<u8> {
    STANDARD.decode(PRIVATE_KEY).unwrap()
}

pub(crate) fn topic() -> Topic {
    Topic::new(ARN, CERTIFICATE, &private_key()).unwrap()
}

fn verify(delivery: &Delivery, canonical: &str) -> Result<Value, ring::error::Unspecified> {
    let body: Value = serde_json::from_slice(&delivery.body).unwrap();
    let signature = STANDARD.decode(body["Signature"].as_str().unwrap()).unwrap();
    let pair = KeyPair::from_pkcs8(&private_key()).unwrap();
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref());
    key.verify(canonical.as_bytes(), &signature)?;
    Ok(body)
}

/// A signer and a verifier that are wrong together would pass each other; here the string is written
/// out by hand after the rules, with all that JSON escapes and without a subject.
#[test]
fn a_notification_is_signed_over_its_unescaped_members() {
    let message = "{\"sku\":\"T-M\u{00fc}\",\n\t\"x\":\"\\\\\"}";
    let delivery = topic().notification("id-1", None, message, AT);
    let canonical = format!(
        "Message\n{message}\nMessageId\nid-1\nTimestamp\n2026-11-20T15:00:00.123Z\n\
         TopicArn\n{ARN}\nType\nNotification\n"
    );
    let body = verify(&delivery, &canonical).unwrap();
    assert_eq!((body["Message"].as_str(), &body["Subject"]), (Some(message), &Value::Null));
    assert_eq!(
        (&body["SignatureVersion"], &body["SigningCertURL"]),
        (&"2".into(), &CERTIFICATE.into())
    );
    assert!(
        body["UnsubscribeURL"]
            .as_str()
            .unwrap()
            .starts_with("https://sns.eu-west-1.amazonaws.com/")
    );
    assert!(verify(&delivery, &canonical.replace("id-1", "id-2")).is_err());
    for (name, value) in [
        ("content-type", "text/plain; charset=UTF-8"),
        ("user-agent", "Amazon Simple Notification Service Agent"),
        ("x-amz-sns-message-type", "Notification"),
        ("x-amz-sns-message-id", "id-1"),
        ("x-amz-sns-topic-arn", ARN),
    ] {
        assert_eq!(delivery.headers[name], value);
    }
    assert!(delivery.headers.contains_key("x-amz-sns-subscription-arn"));
}

/// A subject is signed where there is one.
#[test]
fn a_subject_is_signed_too() {
    let delivery = topic().notification("id-1", Some("Stock"), "{}", AT);
    let canonical = format!(
        "Message\n{{}}\nMessageId\nid-1\nSubject\nStock\nTimestamp\n2026-11-20T15:00:00.123Z\n\
         TopicArn\n{ARN}\nType\nNotification\n"
    );
    assert!(verify(&delivery, &canonical).is_ok());
}

/// A confirmation is signed over its URL and token as well: they say what will be visited.
#[test]
fn confirmations_are_signed_over_their_url() {
    let topic = topic();
    for (kind, delivery) in [
        ("SubscriptionConfirmation", topic.subscription_confirmation("id-2", "abc123", AT)),
        ("UnsubscribeConfirmation", topic.unsubscribe_confirmation("id-2", "abc123", AT)),
    ] {
        let body: Value = serde_json::from_slice(&delivery.body).unwrap();
        let message = body["Message"].as_str().unwrap();
        let url = format!(
            "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={ARN}&Token=abc123"
        );
        let canonical = format!(
            "Message\n{message}\nMessageId\nid-2\nSubscribeURL\n{url}\nTimestamp\n\
             2026-11-20T15:00:00.123Z\nToken\nabc123\nTopicArn\n{ARN}\nType\n{kind}\n"
        );
        verify(&delivery, &canonical).unwrap();
        assert_eq!(delivery.headers["x-amz-sns-message-type"], kind);
        assert!(!delivery.headers.contains_key("x-amz-sns-subscription-arn"));
        let target = "http://127.0.0.1:1/sns/north".parse().unwrap();
        let request = delivery.request(&target);
        assert_eq!(
            (request.uri(), &request.headers()["host"]),
            (&target, &"127.0.0.1:1".parse().unwrap())
        );
    }
    assert!(Topic::new(ARN, CERTIFICATE, b"no key").is_err());
}
