#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};

use super::*;
use crate::channel::api::fake::{Asked, Fake, said};

/// A queue in memory, whose messages are their own receipts, and all that happened in order.
struct Sqs {
    waiting: Mutex<VecDeque<&'static str>>,
    /// What the next deletes answer, instead of success.
    deletes: Mutex<VecDeque<(u16, Value)>>,
    events: watch::Sender<Vec<String>>,
}

/// Takes messages as their bodies say: `busy…` is busy, `slow…` waits for a permit.
struct Taker {
    sqs: Arc<Sqs>,
    permits: Arc<Semaphore>,
}

impl Take for Taker {
    async fn take(&self, body: &str) -> Taken {
        self.sqs.event(format!("take {body}"));
        if body.starts_with("slow") {
            self.permits.acquire().await.unwrap().forget();
        }
        self.sqs.event(format!("taken {body}"));
        if body.starts_with("busy") { Taken::Busy } else { Taken::Durable }
    }
}

impl Sqs {
    fn event(&self, event: String) {
        self.events.send_modify(|events| events.push(event));
    }

    /// Waits until something happened, and gives all that happened so far.
    async fn until(&self, event: &str) -> Vec<String> {
        let mut events = self.events.subscribe();
        let seen = events.wait_for(|events| events.iter().any(|one| one == event));
        let seen = tokio::time::timeout(Duration::from_secs(20), seen).await;
        seen.unwrap_or_else(|_| panic!("no {event:?} in {:?}", self.events.borrow()))
            .unwrap()
            .clone()
    }

    fn answer(&self, asked: &Asked) -> Option<(u16, Value)> {
        let body = asked.json();
        let entries = body["Entries"].as_array().cloned().unwrap_or_default();
        let receipts: Vec<_> =
            entries.iter().map(|entry| entry["ReceiptHandle"].as_str().unwrap()).collect();
        let ids: Vec<_> = entries.iter().map(|entry| json!({ "Id": entry["Id"] })).collect();
        let done = json!({ "Successful": ids });
        match asked.header("x-amz-target") {
            "AmazonSQS.ReceiveMessage" => {
                let mut waiting = self.waiting.lock().unwrap();
                let message = |body: &'static str| json!({ "ReceiptHandle": body, "Body": body });
                let messages: Vec<_> = waiting.drain(..).map(message).collect();
                self.event("receive".into());
                (!messages.is_empty()).then(|| (200, json!({ "Messages": messages })))
            }
            "AmazonSQS.DeleteMessageBatch" => {
                self.event(format!("delete {}", receipts.join(" ")));
                Some(self.deletes.lock().unwrap().pop_front().unwrap_or((200, done)))
            }
            "AmazonSQS.ChangeMessageVisibilityBatch" => {
                let seconds = &entries[0]["VisibilityTimeout"];
                self.event(format!("hide {} for {seconds}", receipts.join(" ")));
                Some((200, done))
            }
            other => panic!("{other}"),
        }
    }
}

struct Running {
    sqs: Arc<Sqs>,
    permits: Arc<Semaphore>,
    counts: Counts,
    stop: CancellationToken,
    consumer: tokio::task::JoinHandle<()>,
    _fake: Fake,
}

fn settings(url: &str) -> Settings {
    Settings {
        channel: "amazon-us".into(),
        queue_url: format!("{url}/123456789012/orders"),
        region: "us-east-1".into(),
        access_key_id: "AKIDEXAMPLE".into(),
        secret_access_key: "secret".into(),
        session_token: None,
        receivers: 1,
        wait: Duration::from_secs(20),
        visibility: Duration::from_secs(1),
    }
}

async fn run(messages: &[&'static str], deletes: &[(u16, Value)]) -> Running {
    let sqs = Arc::new(Sqs {
        waiting: Mutex::new(messages.iter().copied().collect()),
        deletes: Mutex::new(deletes.iter().cloned().collect()),
        events: watch::Sender::default(),
    });
    let answering = Arc::clone(&sqs);
    let fake = Fake::start(move |asked| {
        let answer = answering.answer(&asked);
        async move {
            match answer {
                Some((status, body)) => said(status, body.to_string()),
                // Nothing to receive: the call hangs, as a long poll does.
                None => std::future::pending().await,
            }
        }
    })
    .await;
    let permits = Arc::new(Semaphore::new(0));
    let taker = Taker { sqs: Arc::clone(&sqs), permits: Arc::clone(&permits) };
    let (counts, stop) = (Counts::default(), CancellationToken::new());
    let consumer = Consumer::new(settings(&fake.url), taker, counts.clone()).unwrap();
    let stopped = stop.clone();
    let consumer = tokio::spawn(async move { consumer.run(&stopped).await });
    Running { sqs, permits, counts, stop, consumer, _fake: fake }
}

fn place(events: &[String], event: &str) -> usize {
    events.iter().position(|one| one == event).unwrap()
}

/// A message deleted before it is durable is lost with the next power failure.
#[tokio::test]
async fn a_message_is_deleted_only_after_it_is_durable() {
    let running = run(&["slow"], &[]).await;
    let events = running.sqs.until("take slow").await;
    assert!(!events.iter().any(|event| event.starts_with("delete")));
    running.permits.add_permits(1);
    let events = running.sqs.until("delete slow").await;
    assert!(place(&events, "taken slow") < place(&events, "delete slow"));
}

/// A message that could not be kept and is deleted all the same is lost.
#[tokio::test]
async fn a_busy_message_stays_in_the_queue() {
    let running = run(&["a", "busy", "b"], &[]).await;
    running.sqs.until("delete a b").await;
    running.stop.cancel();
    running.consumer.await.unwrap();
    let events = running.sqs.events.borrow().clone();
    let deletes: Vec<_> = events.iter().filter(|event| event.starts_with("delete")).collect();
    assert_eq!(deletes, ["delete a b"]);
    assert_eq!((running.counts.busy.get(), running.counts.deleted.get()), (1, 2));
}

/// A message whose visibility ends while it is worked on is given out again, to be worked on twice.
#[tokio::test]
async fn slow_work_is_kept_hidden_and_what_is_done_is_deleted_meanwhile() {
    let running = run(&["quick", "slow"], &[]).await;
    let events = running.sqs.until("hide slow for 1").await;
    assert!(!events.contains(&"taken slow".into()));
    let events = running.sqs.until("delete quick").await;
    assert!(!events.contains(&"taken slow".into()));
    running.stop.cancel();
    running.permits.add_permits(1);
    running.consumer.await.unwrap();
    assert!(running.counts.extended.get() >= 1);
    assert_eq!(running.counts.deleted.get(), 2);
}

/// A batch answers 200 although some of its entries failed: these would come again for no reason.
#[tokio::test]
async fn what_failed_of_a_batch_is_tried_again() {
    let failed = json!({ "Id": "1", "Code": "InternalError", "SenderFault": false });
    let partly = json!({ "Successful": [{ "Id": "0" }, { "Id": "2" }], "Failed": [failed] });
    let running = run(&["a", "b", "c"], &[(200, partly)]).await;
    let events = running.sqs.until("delete b").await;
    assert!(events.contains(&"delete a b c".into()));
}

/// A receipt that is no longer good will never be: to try it again holds up the others.
#[tokio::test]
async fn a_receipt_that_is_not_good_is_given_up() {
    let failed = json!({ "Id": "0", "Code": "ReceiptHandleIsInvalid", "SenderFault": true });
    let running = run(&["a"], &[(200, json!({ "Failed": [failed] }))]).await;
    running.sqs.until("delete a").await;
    running.stop.cancel();
    running.consumer.await.unwrap();
    assert_eq!((running.counts.undeleted.get(), running.counts.deleted.get()), (1, 0));
    let events = running.sqs.events.borrow().clone();
    assert_eq!(events.iter().filter(|event| event.starts_with("delete")).count(), 1);
}

/// A fault of SQS while it deletes would leave all of the batch in the queue.
#[tokio::test]
async fn a_delete_that_broke_off_is_tried_again() {
    let fault = json!({ "__type": "com.amazonaws.sqs#InternalError" });
    let running = run(&["a"], &[(500, fault)]).await;
    running.sqs.until("delete a").await;
    let mut events = running.sqs.events.subscribe();
    let twice = |events: &Vec<String>| events.iter().filter(|one| *one == "delete a").count() == 2;
    events.wait_for(twice).await.unwrap();
    running.stop.cancel();
    drop(events);
    running.consumer.await.unwrap();
    assert_eq!((running.counts.deleted.get(), running.counts.failures.get()), (1, 1));
}

/// A node that stops in the middle would have its messages wait for their visibility to end.
#[tokio::test]
async fn what_was_received_is_finished_when_it_stops() {
    let running = run(&["slow"], &[]).await;
    running.sqs.until("take slow").await;
    running.stop.cancel();
    running.permits.add_permits(1);
    running.consumer.await.unwrap();
    let events = running.sqs.events.borrow().clone();
    assert_eq!(events, ["receive", "take slow", "taken slow", "delete slow"]);
}

/// Without long polls an idle queue costs a request every few milliseconds; without our own visibility
/// nobody knows when half of it is over.
#[tokio::test]
async fn a_receive_waits_and_is_signed() {
    let fake = Fake::start(|_| std::future::pending()).await;
    let given = Settings { session_token: Some("session".into()), ..settings(&fake.url) };
    let queue = Queue::new(&given).unwrap();
    let brief = tokio::time::timeout(Duration::from_millis(200), queue.receive());
    assert!(brief.await.is_err());
    let asked = &fake.asked()[0];
    assert_eq!(asked.target, "/");
    assert_eq!(asked.header("content-type"), "application/x-amz-json-1.0");
    assert_eq!(asked.header("x-amz-security-token"), "session");
    let wanted = json!({
        "QueueUrl": format!("{}/123456789012/orders", fake.url),
        "MaxNumberOfMessages": 10, "WaitTimeSeconds": 20, "VisibilityTimeout": 1,
    });
    assert_eq!(asked.json(), wanted);
    let authorization = asked.header("authorization");
    assert!(
        authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"),
        "{authorization}"
    );
    assert!(authorization.contains("/us-east-1/sqs/aws4_request"), "{authorization}");
    let signed = "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target";
    assert!(authorization.contains(signed), "{authorization}");
}

/// SQS answers 400 to much that is not the request's fault: a rate that is taken for a fault is reported
/// as one, and a key that was revoked is tried for ever in silence.
#[tokio::test]
async fn the_name_of_an_error_says_what_it_is() {
    let of = |status: u16, name: &'static str| async move {
        let body = json!({ "__type": name, "message": "as it is" }).to_string();
        let fake = Fake::start(move |_| std::future::ready(said(status, body.clone()))).await;
        Queue::new(&settings(&fake.url)).unwrap().receive().await.err().unwrap()
    };
    let denied = of(400, "com.amazon.coral.service#AccessDeniedException").await;
    assert_eq!(denied, ApiError::Unauthorised("AccessDeniedException: as it is".into()));
    assert!(matches!(of(403, "InvalidClientTokenId").await, ApiError::Unauthorised(_)));
    assert!(matches!(of(400, "ExpiredToken").await, ApiError::Unauthorised(_)));
    let throttled = of(400, "com.amazonaws.sqs#RequestThrottled").await;
    assert!(matches!(throttled, ApiError::Limited { .. }));
    let unknown = of(400, "com.amazonaws.sqs#QueueDoesNotExist").await;
    assert_eq!(unknown, ApiError::Refused("QueueDoesNotExist: as it is".into()));
    assert!(matches!(of(500, "InternalError").await, ApiError::Unreachable(_)));
}

/// A fault that lasts a night must neither fill the disk nor be said once and forgotten.
#[test]
fn a_fault_is_said_once_a_minute() {
    let (mut last, now) = (None, Instant::now());
    let due = [0, 1, 59, 60, 61, 120].map(|s| is_due(&mut last, now + Duration::from_secs(s)));
    assert_eq!(due, [true, false, false, true, false, true]);
}

/// Pauses that grow without end leave a queue unread long after it is back.
#[test]
fn pauses_grow_to_a_bound() {
    for failures in 1..100 {
        let whole = PAUSE.saturating_mul(2_u32.saturating_pow(failures - 1)).min(PAUSE_MAX);
        let pause = pause(failures);
        assert!(pause >= whole / 2 && pause < whole, "{failures}: {pause:?}");
    }
}

/// Credentials of a seller must not go to a host in clear.
#[test]
fn a_queue_is_at_https() {
    for url in ["http://sqs.us-east-1.amazonaws.com/1/q", "sqs.us-east-1.amazonaws.com/1/q", ""] {
        let settings = Settings { queue_url: url.into(), ..settings("") };
        assert!(Queue::new(&settings).is_err(), "{url}");
    }
}
