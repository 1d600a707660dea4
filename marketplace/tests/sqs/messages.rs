//! What a consumer sees: visibility, handles, deletes, batches, long polls, age.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use marketplace::sqs::{Faults, Options, What};
use serde_json::{Value, json};

use crate::support::{call, delete, open, options, receive, soon};

fn bodies(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["Body"].as_str().unwrap()).collect()
}

/// A consumer written against the real answer must find all it needs, in the real types.
#[tokio::test]
async fn a_message_has_the_real_shape() {
    let queue = open(options()).await;
    let sent = call(&queue, "SendMessage", json!({"MessageBody": "abc"})).await;
    assert_eq!(sent.body["MD5OfMessageBody"], "900150983cd24fb0d6963f7d28e17f72");
    let answer = call(&queue, "ReceiveMessage", json!({"AttributeNames": ["All"]})).await;
    assert_eq!(answer.headers["content-type"], "application/x-amz-json-1.0");
    assert_eq!(answer.headers["x-amzn-requestid"].len(), 36);
    let message = &answer.messages()[0];
    assert_eq!(message["MessageId"], sent.body["MessageId"]);
    assert_eq!(
        (&message["Body"], &message["MD5OfBody"]),
        (&json!("abc"), &sent.body["MD5OfMessageBody"])
    );
    assert!(message["ReceiptHandle"].as_str().unwrap().starts_with("AQEB"));
    let attributes = &message["Attributes"];
    assert_eq!(attributes["ApproximateReceiveCount"], "1");
    for name in ["SentTimestamp", "ApproximateFirstReceiveTimestamp"] {
        assert!(attributes[name].as_str().unwrap().parse::<i64>().unwrap() > 1_700_000_000_000);
    }
    // Nothing visible is an empty object, not an empty list.
    assert_eq!(call(&queue, "ReceiveMessage", json!({})).await.body, json!({}));
    let asked = json!({"AttributeNames": ["ApproximateNumberOfMessagesNotVisible", "QueueArn"]});
    assert_eq!(
        call(&queue, "GetQueueAttributes", asked).await.body,
        json!({"Attributes": {
            "ApproximateNumberOfMessagesNotVisible": "1",
            "QueueArn": "arn:aws:sqs:us-east-1:123456789012:orders",
        }})
    );
}

/// A message that two consumers see at once is handled twice; one that never comes back is lost when
/// its consumer dies.
#[tokio::test]
async fn a_received_message_is_hidden_and_comes_back() {
    // Thirty seconds are thirty milliseconds.
    let queue = open(Options { time_scale: 1000.0, ..options() }).await;
    queue.send("a");
    let first = receive(&queue).await;
    assert_eq!(bodies(&first), ["a"]);
    soon(queue.wait_until(|counts| counts.visible == 1)).await;
    let second = receive(&queue).await;
    assert_eq!(second[0]["MessageId"], first[0]["MessageId"]);
    assert_eq!(second[0]["Attributes"]["ApproximateReceiveCount"], "2");
    assert_ne!(second[0]["ReceiptHandle"], first[0]["ReceiptHandle"]);
}

/// A delete by a handle that has been superseded says yes and deletes nothing, as the real one does: a
/// consumer that was too slow must not delete what another one holds now.
#[tokio::test]
async fn only_the_newest_handle_deletes() {
    let queue = open(options()).await;
    let id = queue.send("a");
    let ask = json!({"VisibilityTimeout": 0});
    let stale = call(&queue, "ReceiveMessage", ask).await.messages().remove(0);
    let newest = receive(&queue).await.remove(0);
    assert_eq!(delete(&queue, &stale).await.status, 200);
    assert_eq!((queue.counts().in_flight, queue.counts().deleted), (1, 0));
    assert_eq!(delete(&queue, &newest).await.status, 200);
    assert!(queue.counts().is_empty());
    assert_eq!(delete(&queue, &newest).await.status, 200);
    assert_eq!(queue.counts().deleted, 1);
    let what: Vec<What> = queue.history().into_iter().map(|event| event.what).collect();
    let received = |count| What::Received { count, body: "a".into() };
    assert_eq!(what, [received(1), received(2), What::DeleteIgnored, What::Deleted]);
    assert!(queue.history().iter().all(|event| event.message_id == id));
    let wrong = delete(&queue, &json!({"ReceiptHandle": "AQEBnonsense"})).await;
    assert_eq!((wrong.status, wrong.error()), (404, "ReceiptHandleIsInvalid"));
}

/// A handle whose visibility has run out still deletes as long as nobody received the message anew.
#[tokio::test]
async fn a_late_delete_works_until_the_next_receive() {
    let queue = open(options()).await;
    queue.send("a");
    let ask = json!({"VisibilityTimeout": 0});
    let message = call(&queue, "ReceiveMessage", ask).await.messages().remove(0);
    assert_eq!(queue.counts().visible, 1);
    delete(&queue, &message).await;
    assert_eq!((queue.counts().visible, queue.counts().deleted), (0, 1));
}

/// A consumer that needs longer asks for more time; one that gives up hands the message back.
#[tokio::test]
async fn visibility_can_be_changed_while_in_flight() {
    let queue = open(options()).await;
    queue.send("a");
    let message = receive(&queue).await.remove(0);
    let change = async |seconds: i64| {
        let handle = &message["ReceiptHandle"];
        let body = json!({"ReceiptHandle": handle, "VisibilityTimeout": seconds});
        call(&queue, "ChangeMessageVisibility", body).await
    };
    assert_eq!(change(600).await.status, 200);
    assert_eq!(change(43_201).await.error(), "InvalidParameterValueException");
    assert_eq!(queue.counts().in_flight, 1);
    assert_eq!(change(0).await.status, 200);
    assert_eq!(queue.counts().visible, 1);
    let late = change(30).await;
    assert_eq!((late.status, late.error()), (400, "MessageNotInflight"));
    assert_eq!(
        late.headers["x-amzn-query-error"],
        "AWS.SimpleQueueService.MessageNotInflight;Sender"
    );
    let changes = queue.history().into_iter().filter(|e| matches!(e.what, What::Hidden(_))).count();
    assert_eq!(changes, 2);
}

/// A batch is answered 200 though some of it failed: whoever reads only the status loses the rest.
#[tokio::test]
async fn a_batch_fails_in_part() {
    let queue = open(options()).await;
    for body in ["a", "b"] {
        queue.send(body);
    }
    let messages = receive(&queue).await;
    let entry = |id: &str, handle: &Value| json!({"Id": id, "ReceiptHandle": handle});
    let entries = json!([
        entry("0", &messages[0]["ReceiptHandle"]),
        entry("1", &json!("nonsense")),
        entry("2", &messages[1]["ReceiptHandle"]),
    ]);
    let answer = call(&queue, "DeleteMessageBatch", json!({"Entries": entries})).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body["Successful"], json!([{"Id": "0"}, {"Id": "2"}]));
    let failed = &answer.body["Failed"][0];
    assert_eq!(
        (&failed["Id"], &failed["Code"], &failed["SenderFault"]),
        (&json!("1"), &json!("ReceiptHandleIsInvalid"), &json!(true))
    );
    assert_eq!(queue.counts().deleted, 2);
    // A batch whose form is wrong is refused as a whole.
    let many: Vec<Value> = (0..11).map(|n| entry(&n.to_string(), &json!("x"))).collect();
    for (entries, error) in [
        (json!([]), "EmptyBatchRequest"),
        (json!(many), "TooManyEntriesInBatchRequest"),
        (json!([many[0], many[0]]), "BatchEntryIdsNotDistinct"),
        (json!([entry("a b", &json!("x"))]), "InvalidBatchEntryId"),
    ] {
        let answer = call(&queue, "DeleteMessageBatch", json!({"Entries": entries})).await;
        assert_eq!((answer.status, answer.error()), (400, error));
    }
}

/// Visibility of several messages changes at once, each entry by itself.
#[tokio::test]
async fn a_batch_changes_visibility() {
    let queue = open(options()).await;
    queue.send("a");
    queue.send("b");
    let entries: Vec<Value> = receive(&queue)
        .await
        .iter()
        .map(|m| json!({"Id": m["Body"], "ReceiptHandle": m["ReceiptHandle"], "VisibilityTimeout": 0}))
        .collect();
    let answer = call(&queue, "ChangeMessageVisibilityBatch", json!({"Entries": entries})).await;
    assert_eq!(answer.body, json!({"Successful": [{"Id": "a"}, {"Id": "b"}], "Failed": []}));
    assert_eq!(queue.counts().visible, 2);
}

/// A long poll that sits out its wait adds seconds to every order; one that returns at once costs a
/// call each time.
#[tokio::test]
async fn a_long_poll_ends_when_a_message_comes() {
    let queue = open(options()).await;
    let start = Instant::now();
    let poll = call(&queue, "ReceiveMessage", json!({"WaitTimeSeconds": 20}));
    let sent = async {
        queue.wait_until(|counts| counts.polls == 1).await;
        queue.send("a");
    };
    let (answer, ()) = soon(async { tokio::join!(poll, sent) }).await;
    assert_eq!(bodies(&answer.messages()), ["a"]);
    assert!(start.elapsed() < Duration::from_secs(10));
}

/// It also ends when its time is up, and when a hidden message becomes visible.
#[tokio::test]
async fn a_long_poll_ends_when_a_hidden_message_comes_back() {
    // Twenty seconds are a tenth of one, and twelve hours are minutes.
    let queue = open(Options { time_scale: 200.0, ..options() }).await;
    queue.send("a");
    let ask = json!({"VisibilityTimeout": 43_200});
    let first = call(&queue, "ReceiveMessage", ask).await.messages().remove(0);
    let ask = json!({"WaitTimeSeconds": 20});
    let empty = soon(call(&queue, "ReceiveMessage", ask.clone())).await;
    assert_eq!(empty.body, json!({}));
    let soon_visible = json!({"ReceiptHandle": first["ReceiptHandle"], "VisibilityTimeout": 10});
    assert_eq!(call(&queue, "ChangeMessageVisibility", soon_visible).await.status, 200);
    let again = soon(async {
        loop {
            let messages = call(&queue, "ReceiveMessage", ask.clone()).await.messages();
            if !messages.is_empty() {
                return messages;
            }
        }
    })
    .await;
    assert_eq!(again[0]["MessageId"], first["MessageId"]);
}

/// A consumer that goes away in the middle of a long poll must not take messages with it.
#[tokio::test]
async fn a_poll_that_was_given_up_takes_nothing() {
    let queue = open(options()).await;
    tokio::select! {
        answer = call(&queue, "ReceiveMessage", json!({"WaitTimeSeconds": 20})) => {
            panic!("the poll ended: {answer:?}");
        }
        () = soon(queue.wait_until(|counts| counts.polls == 1)) => {}
    }
    soon(queue.wait_until(|counts| counts.polls == 0)).await;
    queue.send("a");
    assert_eq!(bodies(&receive(&queue).await), ["a"]);
}

/// At least once means that some come twice: a consumer without its own memory counts a sale twice.
#[tokio::test]
async fn a_message_can_survive_its_delete() {
    let faults = Faults { twice: 1.0, ..Faults::default() };
    let queue = open(Options { faults, ..options() }).await;
    let id = queue.send("a");
    for count in ["1", "2"] {
        let message = receive(&queue).await.remove(0);
        assert_eq!(message["MessageId"], json!(id));
        assert_eq!(message["Attributes"]["ApproximateReceiveCount"], count);
        assert_eq!(delete(&queue, &message).await.status, 200);
    }
    assert!(queue.counts().is_empty());
    let missed = queue.history().into_iter().filter(|e| e.what == What::DeleteMissed).count();
    assert_eq!((missed, queue.counts().deleted), (1, 1));
}

/// A consumer that relies on the order would pass every test against a queue that keeps it.
#[tokio::test]
async fn messages_come_out_of_order_and_all() {
    let run = async |shuffle| {
        let faults = Faults { shuffle, ..Faults::default() };
        let queue = open(Options { faults, ..options() }).await;
        let sent: Vec<String> = (0..50).map(|n| queue.send(&n.to_string())).collect();
        let mut received = Vec::new();
        for _ in 0..5 {
            received.extend(receive(&queue).await.iter().map(|m| m["MessageId"].clone()));
        }
        let received: Vec<String> =
            received.iter().map(|id| id.as_str().unwrap().to_owned()).collect();
        let all = |ids: &[String]| ids.iter().cloned().collect::<BTreeSet<_>>();
        assert_eq!(all(&received), all(&sent));
        received == sent
    };
    assert!(run(0).await);
    assert!(!run(20).await);
}

/// A message that nobody receives in time is gone: whoever was away for longer must ask elsewhere.
#[tokio::test]
async fn old_messages_are_dropped() {
    let retention = Duration::from_secs(60);
    let queue = open(Options { retention, time_scale: 1000.0, ..options() }).await;
    queue.send("a");
    soon(async {
        while queue.counts().expired == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(queue.counts().is_empty());
    assert!(receive(&queue).await.is_empty());
}

/// Arguments outside their bounds are refused and not bent.
#[tokio::test]
async fn wrong_arguments_are_refused() {
    let queue = open(Options { in_flight_max: 1, ..options() }).await;
    for body in [
        json!({"MaxNumberOfMessages": 11}),
        json!({"MaxNumberOfMessages": 0}),
        json!({"WaitTimeSeconds": 21}),
        json!({"VisibilityTimeout": -1}),
    ] {
        let answer = call(&queue, "ReceiveMessage", body).await;
        assert_eq!((answer.status, answer.error()), (400, "InvalidParameterValueException"));
    }
    assert_eq!(call(&queue, "PurgeQueue", json!({})).await.error(), "UnknownOperationException");
    queue.send("a");
    queue.send("b");
    assert_eq!(receive(&queue).await.len(), 1);
    let over = call(&queue, "ReceiveMessage", json!({})).await;
    assert_eq!((over.status, over.error()), (403, "OverLimit"));
}
