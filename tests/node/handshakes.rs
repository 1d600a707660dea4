//! Promise: before a channel sends, it learns that the endpoint is ours; and nobody else learns anything,
//! nor makes the node fetch what he likes.

use crate::support::http::{Answer, Http};
use crate::support::issuer::Issuer;
use crate::support::senders::{self, EBAY_ENDPOINT, EBAY_TOKEN, SENDERS, SNS_TOPIC, Scheme, Sent};
use crate::support::{Cluster, Node, PATIENCE};
use marketplace::sender::{Kind, Options, Sender as Channel};
use serde_json::{Value, json};
use stockraft::clock;
use tokio::net::TcpListener;

async fn start() -> (Cluster, Issuer) {
    let issuer = Issuer::start().await;
    let channels = senders::config(&issuer);
    (Cluster::start(1, |node| node.more.clone_from(&channels)).await, issuer)
}

async fn get(node: &Node, path: &str) -> Answer {
    Http::new().request(node.ports[0], "GET", path, &[], "".into()).await.unwrap()
}

/// Asserts that the node has taken nothing so far.
async fn assert_untouched(node: &Node) {
    let status = node.get("/cluster/status").await;
    assert_eq!((&status["accepted"], &status["deliveries"]), (&json!(0), &json!(0)), "{status}");
}

// One byte off, and eBay never sends anything: sales there are heard of by polling alone, minutes late.
#[tokio::test(flavor = "multi_thread")]
async fn ebay_is_answered_its_challenge() {
    let (cluster, _issuer) = start().await;
    let node = &cluster.nodes[0];
    for code in ["a8628072-3d33-45ee-9004-bee86830a22d", "71745723d054485a8306b45ca1b4b1f9", "~_.-"]
    {
        let right = json!({ "challengeResponse": senders::challenge(code) });
        for query in [format!("challenge_code={code}"), format!("x=1&challenge_code={code}&y=2")] {
            let answer = get(node, &format!("/webhooks/ebay?{query}")).await;
            assert_eq!((answer.status, answer.json()), (200, right.clone()), "{query}");
            assert_eq!(answer.header("content-type"), "application/json");
        }
    }
    // What would hash a text of a stranger's choosing, or belongs to another kind, is no challenge.
    let long = format!("challenge_code={}", "a".repeat(257));
    let bad =
        ["challenge_code=", "challenge_code=%61", "challenge_code=a+b", "Challenge_code=a", ""];
    for query in bad.into_iter().chain([long.as_str()]) {
        let answer = get(node, &format!("/webhooks/ebay?{query}")).await;
        assert_eq!(answer.status, 405, "{query}: {}", answer.text());
    }
    for sender in SENDERS.iter().filter(|sender| sender.scheme != Scheme::Ebay) {
        let answer = get(node, &format!("/webhooks/{}?challenge_code=abc", sender.name)).await;
        assert_eq!(answer.status, 405, "{}: {}", sender.name, answer.text());
    }
    assert_untouched(node).await;
}

// A store switches its webhook on only after exactly 200 to an unsigned form; whatever else comes unsigned
// and is let through could be anybody's order.
#[tokio::test(flavor = "multi_thread")]
async fn a_stores_ping_is_answered_and_nothing_else_is_let_through_with_it() {
    let (cluster, _issuer) = start().await;
    let node = &cluster.nodes[0];
    let form = "application/x-www-form-urlencoded";
    let ping = |path: &str, headers: &[(&str, &str)], body: &str| Sent {
        path: path.into(),
        headers: headers.iter().map(|(n, v)| ((*n).to_string(), (*v).to_string())).collect(),
        body: body.into(),
    };
    for kind in [form, "application/x-www-form-urlencoded; charset=UTF-8"] {
        for body in ["webhook_id=12", "webhook_id=18446744073709551615"] {
            let answer = ping("/webhooks/woo", &[("content-type", kind)], body).to(node).await;
            assert_eq!(answer.status, 200, "{kind} {body}: {}", answer.text());
            assert!(answer.json()["ignored"].is_string(), "{}", answer.text());
        }
    }
    let topic = ("x-wc-webhook-topic", "order.created");
    let signature = ("x-wc-webhook-signature", "AAAA");
    let (form, json) = (("content-type", form), ("content-type", "application/json"));
    let order = r#"{"id":1,"status":"processing","date_modified_gmt":"2026-11-20T10:00:00","line_items":[]}"#;
    for (path, headers, body) in [
        ("woo", &[json][..], "webhook_id=12"),
        ("woo", &[], "webhook_id=12"),
        ("woo", &[form, topic], "webhook_id=12"),
        ("woo", &[form, signature], "webhook_id=12"),
        ("woo", &[form, json], "webhook_id=12"),
        ("woo", &[form], "webhook_id="),
        ("woo", &[form], "webhook_id=-1"),
        ("woo", &[form], "webhook_id=12&more=1"),
        ("woo", &[form], "webhook_id=123456789012345678901"),
        ("woo", &[form], order),
        ("woo", &[json, topic], order),
        ("north", &[form], "webhook_id=12"),
        ("ebay", &[form], "webhook_id=12"),
        ("walmart", &[form], "webhook_id=12"),
        ("odoo", &[form], "webhook_id=12"),
        ("wms", &[form], "webhook_id=12"),
        ("sns", &[form], "webhook_id=12"),
    ] {
        let answer = ping(&format!("/webhooks/{path}"), headers, body).to(node).await;
        assert_eq!(answer.status, 401, "{path} {headers:?} {body}: {}", answer.text());
    }
    assert_untouched(node).await;
}

// What the tests above ask is what their author read; a simulated channel has read for itself.
#[tokio::test(flavor = "multi_thread")]
async fn channels_that_shake_hands_begin_to_send() {
    let (cluster, _issuer) = start().await;
    let node = &cluster.nodes[0];
    for (name, kind) in [("woo", Kind::WooCommerce), ("ebay", Kind::Ebay)] {
        let target = format!("http://127.0.0.1:{}/webhooks/{name}", node.ports[0]);
        let options = Options {
            targets: vec![target],
            verification_token: EBAY_TOKEN.into(),
            endpoint: Some(EBAY_ENDPOINT.into()),
            ..Options::new(name, kind)
        };
        let channel = Channel::start(options).await.unwrap();
        let subscribed = tokio::time::timeout(PATIENCE, channel.subscribed()).await;
        assert!(subscribed.is_ok(), "{name}: {:?}", channel.stats());
        assert_eq!(channel.stats().handshakes_failed, 0, "{name}");
        channel.shutdown().await;
    }
}

/// A message of SNS that everything is right with but the signature.
fn message(change: &[(&str, &str)]) -> Value {
    let mut message = json!({
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": SNS_TOPIC,
        "Message": "{}",
        "Timestamp": clock::rfc3339(clock::now_ms()),
        "SignatureVersion": "2",
        "Signature": "AAAA",
        "SigningCertURL": "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0.pem",
        "SubscribeURL": "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&Token=t",
        "Token": "t",
    });
    for (name, value) in change {
        message[*name] = json!(value);
    }
    message
}

// Anybody can send authentic messages from a topic of his own, and names in them what is to be fetched: a
// node that fetches before it has judged is a tool for him, inside the merchant's network.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_do_not_make_the_node_fetch() {
    let (cluster, _issuer) = start().await;
    let node = &cluster.nodes[0];
    // Whoever connects here was sent by a message.
    let inside = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = inside.local_addr().unwrap();
    let here = |scheme: &str| format!("{scheme}://{address}/SimpleNotificationService-0.pem");
    let disguised = format!("https://sns.us-east-1.amazonaws.com@{address}/a.pem");
    let own_topic = "arn:aws:sns:us-east-1:999999999999:spapi";
    let confirm = ("Type", "SubscriptionConfirmation");
    let old = clock::rfc3339(clock::now_ms() - 2 * 3_600_000);
    let future = clock::rfc3339(clock::now_ms() + 3_600_000);
    let subscribe = format!("https://{address}/?Action=ConfirmSubscription");
    let (plain, tls) = (here("http"), here("https"));
    for change in [
        &[("TopicArn", own_topic)][..],
        &[("TopicArn", own_topic), confirm],
        &[("TopicArn", own_topic), confirm, ("SubscribeURL", &subscribe)],
        &[("TopicArn", own_topic), ("SigningCertURL", &plain)],
        &[("SigningCertURL", &plain)],
        &[("SigningCertURL", &tls)],
        &[("SigningCertURL", &tls), confirm, ("SubscribeURL", &subscribe)],
        &[("SigningCertURL", &disguised)],
        &[("SigningCertURL", "https://sns.us-east-1.amazonaws.com.evil.example/a.pem")],
        &[("SigningCertURL", "https://sns.eu-west-1.amazonaws.com/a.pem")],
        &[("SigningCertURL", "http://sns.us-east-1.amazonaws.com/a.pem")],
        &[("SigningCertURL", "https://sns.us-east-1.amazonaws.com/a.txt")],
        &[("SigningCertURL", "")],
        &[("SignatureVersion", "3")],
        &[("Timestamp", &old)],
        &[("Timestamp", &future)],
        &[("Timestamp", "yesterday")],
    ] {
        let message = message(change).to_string();
        for headers in [&[][..], &[("x-amz-sns-message-type", "Notification")]] {
            let sent = senders::named("sns").sign(headers, message.as_bytes());
            let answer = sent.to(node).await;
            assert_eq!(answer.status, 401, "{change:?} {headers:?}: {}", answer.text());
        }
    }
    // The header tells of another type than what is signed.
    let other = [("x-amz-sns-message-type", "UnsubscribeConfirmation")];
    let sent = senders::named("sns").sign(&other, message(&[]).to_string().as_bytes());
    assert_eq!(sent.to(node).await.status, 401);
    let visit = tokio::time::timeout(std::time::Duration::from_millis(200), inside.accept()).await;
    assert!(visit.is_err(), "the node went where a stranger sent it: {visit:?}");
    assert_untouched(node).await;
}
