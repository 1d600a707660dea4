//! Who is let in. The requests are signed by the AWS crate and verified by the queue's own code, so that
//! neither can be wrong alone.

use marketplace::sqs::{Credentials, Options};
use serde_json::json;

use crate::support::{Answered, Signer, open, options, request, send};

const BODY: &str = r#"{"QueueUrl":"http://sqs.us-east-1.amazonaws.com/123456789012/orders"}"#;

/// What a signer does wrong.
type Change = fn(&mut Signer);

async fn signed(options: Options, change: impl FnOnce(&mut Signer)) -> Answered {
    let queue = open(options).await;
    let mut signer = Signer::of(queue.options());
    change(&mut signer);
    let url = format!("http://{}/", queue.address());
    let answer = send(signer.request(&url, "ReceiveMessage", BODY.as_bytes())).await.unwrap();
    assert_eq!(queue.counts().unauthorized, u64::from(answer.status != 200));
    answer
}

/// A signer that the real service would refuse must be refused here.
#[tokio::test]
async fn only_a_right_signature_is_let_in() {
    assert_eq!(signed(options(), |_| {}).await.status, 200);
    let minutes = |minutes: i64| minutes * 60 * 1000;
    assert_eq!(signed(options(), |s| s.at_ms -= minutes(14)).await.status, 200);
    let wrong = async |change: Change| {
        let answer = signed(options(), change).await;
        assert_eq!(answer.status, 403);
        assert!(answer.body["__type"].as_str().unwrap().starts_with("com.amazon.coral.service#"));
        (answer.error().to_owned(), answer.body["message"].as_str().unwrap().to_owned())
    };
    let changes: [(Change, &str); 5] = [
        (|s| s.secret.push('x'), "does not match"),
        (|s| s.region = "eu-west-1".to_owned(), "valid region, not 'eu-west-1'"),
        (|s| s.service = "sns", "correct service: 'sqs'"),
        (|s| s.at_ms -= 16 * 60 * 1000, "Signature expired"),
        (|s| s.at_ms += 16 * 60 * 1000, "Signature not yet current"),
    ];
    for (change, says) in changes {
        let (error, message) = wrong(change).await;
        assert_eq!(error, "InvalidSignatureException");
        assert!(message.contains(says), "{message}");
    }
    let (error, _) = wrong(|s| s.key_id.push('x')).await;
    assert_eq!(error, "UnrecognizedClientException");
}

/// Temporary credentials without their token, or with another's, are worth nothing.
#[tokio::test]
async fn temporary_credentials_need_their_token() {
    let temporary = || {
        let token = Some("FwoGZXIvYXdzE/token+with/signs==".to_owned());
        let credentials = Credentials { session_token: token, ..options().credentials };
        Options { credentials, ..options() }
    };
    assert_eq!(signed(temporary(), |_| {}).await.status, 200);
    assert_eq!(signed(temporary(), |s| s.token = None).await.status, 403);
    assert_eq!(signed(temporary(), |s| s.token = Some("another".into())).await.status, 403);
}

/// A request without a signature, or changed after it was signed, is refused.
#[tokio::test]
async fn a_changed_request_is_refused() {
    let queue = open(options()).await;
    let build = || request(&queue, "ReceiveMessage", json!({"WaitTimeSeconds": 0}));
    assert_eq!(send(build()).await.unwrap().status, 200);
    let mut bare = build();
    bare.headers_mut().remove("authorization");
    let answer = send(bare).await.unwrap();
    assert_eq!((answer.status, answer.error()), (403, "MissingAuthenticationTokenException"));
    assert_eq!(answer.headers["x-amzn-query-error"], "MissingAuthenticationToken;Sender");
    let mut target = build();
    target.headers_mut().insert("x-amz-target", "AmazonSQS.PurgeQueue".parse().unwrap());
    let mut unsigned = build();
    unsigned.headers_mut().insert("x-amz-extra", "1".parse().unwrap());
    let body = request(&queue, "ReceiveMessage", json!({"WaitTimeSeconds": 1}));
    let mut body_changed = build();
    *body_changed.body_mut() = body.into_body();
    for request in [target, unsigned, body_changed] {
        let answer = send(request).await.unwrap();
        assert_eq!((answer.status, answer.error()), (403, "InvalidSignatureException"));
    }
    let mut cut = build();
    cut.headers_mut().insert("authorization", "AWS4-HMAC-SHA256 Credential=x".parse().unwrap());
    let answer = send(cut).await.unwrap();
    assert_eq!((answer.status, answer.error()), (400, "IncompleteSignatureException"));
}

/// A client that sends to the queue's own path signs another path, and is right too.
#[tokio::test]
async fn the_path_is_signed_as_it_is() {
    let queue = open(options()).await;
    let url = queue.url();
    let body = json!({"QueueUrl": url}).to_string();
    let signer = Signer::of(queue.options());
    let answer = send(signer.request(&url, "ReceiveMessage", body.as_bytes())).await.unwrap();
    assert_eq!(answer.status, 200);
    let other = json!({"QueueUrl": format!("{url}-other")}).to_string();
    let answer = send(signer.request(&url, "ReceiveMessage", other.as_bytes())).await.unwrap();
    assert_eq!((answer.status, answer.error()), (400, "QueueDoesNotExist"));
    assert_eq!(answer.body["__type"], "com.amazonaws.sqs#QueueDoesNotExist");
}
