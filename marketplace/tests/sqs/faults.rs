//! What goes wrong on order.

use std::time::Duration;

use marketplace::{
    Outage,
    sqs::{Faults, Options},
};
use serde_json::json;

use crate::support::{call, delete, open, options, receive, request, send, soon};

/// A receive whose answer is lost leaves its messages in flight: they come back, and nothing is gone.
#[tokio::test]
async fn a_lost_answer_loses_no_message() {
    let queue = open(Options { time_scale: 1000.0, ..options() }).await;
    queue.send("a");
    queue.set_outage(Outage::DropAfterApply);
    assert!(send(request(&queue, "ReceiveMessage", json!({}))).await.is_err());
    queue.set_outage(Outage::None);
    soon(queue.wait_until(|counts| counts.visible == 1)).await;
    let message = receive(&queue).await.remove(0);
    assert_eq!(message["Attributes"]["ApproximateReceiveCount"], "2");
    // The same for a delete: it is carried out, and its consumer does not know.
    queue.set_outage(Outage::DropAfterApply);
    let handle = json!({"ReceiptHandle": message["ReceiptHandle"]});
    assert!(send(request(&queue, "DeleteMessage", handle)).await.is_err());
    assert!(queue.counts().is_empty());
    queue.set_outage(Outage::None);
    assert_eq!(delete(&queue, &message).await.status, 200);
}

/// Faults are answered in the service's own shapes, and nothing is carried out.
#[tokio::test]
async fn refused_calls_do_nothing() {
    let queue = open(options()).await;
    queue.send("a");
    for (faults, outage, status, error) in [
        (Faults { throttled: 1.0, ..Faults::default() }, Outage::None, 403, "RequestThrottled"),
        (Faults { server_error: 1.0, ..Faults::default() }, Outage::None, 502, "InternalFailure"),
        (Faults::default(), Outage::ServerError(503), 503, "InternalFailure"),
        (Faults::default(), Outage::TooManyRequests { retry_after: 1 }, 403, "RequestThrottled"),
    ] {
        queue.set_faults(faults);
        queue.set_outage(outage);
        let answer = call(&queue, "ReceiveMessage", json!({})).await;
        assert_eq!((answer.status, answer.error()), (status, error));
    }
    assert_eq!((queue.counts().visible, queue.counts().outage_calls), (1, 4));
}

/// Entries that fail by themselves are the service's fault, and the others are done.
#[tokio::test]
async fn entries_fail_by_themselves() {
    let faults = Faults { entry_failed: 1.0, ..Faults::default() };
    let queue = open(Options { faults, ..options() }).await;
    queue.send("a");
    let message = receive(&queue).await.remove(0);
    let entries = json!([{"Id": "0", "ReceiptHandle": message["ReceiptHandle"]}]);
    let answer = call(&queue, "DeleteMessageBatch", json!({"Entries": entries})).await;
    assert_eq!((answer.status, &answer.body["Successful"]), (200, &json!([])));
    assert_eq!(answer.body["Failed"][0]["SenderFault"], json!(false));
    assert_eq!(queue.counts().in_flight, 1);
}

/// While the queue is down messages still come in, and a long poll that was open is cut.
#[tokio::test]
async fn it_goes_down_and_comes_back_with_its_messages() {
    let queue = open(options()).await;
    let poll = send(request(&queue, "ReceiveMessage", json!({"WaitTimeSeconds": 20})));
    let down = async {
        queue.wait_until(|counts| counts.polls == 1).await;
        queue.set_outage(Outage::Down);
    };
    let (cut, ()) = soon(async { tokio::join!(poll, down) }).await;
    assert!(cut.is_err());
    queue.send("a");
    queue.set_outage(Outage::None);
    let answer = soon(async {
        loop {
            match send(request(&queue, "ReceiveMessage", json!({}))).await {
                Ok(answer) => return answer,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    })
    .await;
    assert_eq!(answer.messages().len(), 1);
    soon(queue.shutdown()).await;
    assert!(send(request(&queue, "ReceiveMessage", json!({}))).await.is_err());
}
