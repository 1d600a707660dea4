//! Amazon's notifications from an SQS queue: received, made durable here, and only then deleted there.
//!
//! The queue delivers at least once and in any order, and hides what was received for a while: a message
//! that cannot be kept now is left alone and comes back. Every node may take from one queue.
//!
//! Wire: AWS JSON 1.0, signed with Signature Version 4 (Amazon SQS API reference).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use futures::future::join_all;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::channel::{self, Meant};
use crate::client::{Https, https};
use crate::clock;
use crate::config;
use crate::intake::Intake;
use crate::measures::{self, Measures};

/// How long the queue may hold a question open while it is empty, in seconds; 20 is the most it allows.
const WAIT_S: u64 = 20;
/// Messages of one receipt; 10 is the most that the queue gives.
const MESSAGES_MAX: u64 = 10;
/// How long a call may take; a receipt may wait besides.
const TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Tries to delete what was kept; after them the queue repeats it, and its key absorbs that.
const DELETE_TRIES: u32 = 3;
const BACK_OFF_MIN: Duration = Duration::from_millis(500);
const BACK_OFF_MAX: Duration = Duration::from_secs(30);

/// What takes messages from one channel's queue.
pub struct Consumer {
    /// The channel's name.
    pub channel: String,
    /// Its queue.
    pub sqs: config::Sqs,
    /// Where deliveries become durable.
    pub intake: Intake,
    /// What is counted.
    pub measures: Arc<Measures>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Received {
    messages: Option<Vec<Message>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Message {
    receipt_handle: String,
    body: String,
}

/// A queue that can be called.
struct Queue {
    http: Https,
    endpoint: Uri,
    url: String,
    region: String,
    credentials: Credentials,
}

/// Takes messages until `stop`, then finishes those that it has.
pub async fn run(consumer: Consumer, stop: CancellationToken) {
    let queue = match Queue::new(&consumer.sqs) {
        Ok(queue) => queue,
        Err(why) => {
            tracing::error!(channel = consumer.channel, why, "its queue cannot be used");
            return;
        }
    };
    let mut wait = BACK_OFF_MIN;
    loop {
        let received = tokio::select! {
            received = queue.receive(consumer.visibility()) => received,
            () = stop.cancelled() => return,
        };
        let outcome = match received {
            Ok(messages) => consumer.work(&queue, messages).await,
            Err(why) => Err(why),
        };
        match outcome {
            Ok(()) => wait = BACK_OFF_MIN,
            Err(why) => {
                tracing::warn!(channel = consumer.channel, why, "its queue goes on later");
                consumer
                    .measures
                    .fetch_failures
                    .get_or_create(&measures::of(&consumer.channel))
                    .inc();
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = stop.cancelled() => return,
                }
                wait = (wait * 2).min(BACK_OFF_MAX);
            }
        }
    }
}

impl Consumer {
    const fn visibility(&self) -> Duration {
        Duration::from_millis(self.sqs.visibility.0)
    }

    /// Makes messages durable, hiding them for longer while that takes, and deletes those that are.
    async fn work(&self, queue: &Queue, messages: Vec<Message>) -> Result<(), String> {
        let keeping = join_all(messages.iter().map(|message| self.keep(message)));
        tokio::pin!(keeping);
        let handles = || messages.iter().map(|message| message.receipt_handle.clone()).collect();
        let kept = loop {
            tokio::select! {
                kept = &mut keeping => break kept,
                () = tokio::time::sleep(self.visibility() / 2) => {
                    queue.extend(handles(), self.visibility()).await?;
                }
            }
        };
        let durable = messages.iter().zip(&kept).filter(|(_, kept)| **kept);
        let durable: Vec<String> =
            durable.map(|(message, _)| message.receipt_handle.clone()).collect();
        queue.delete(durable).await?;
        if kept.contains(&false) {
            return Err("some messages could not be kept, and will come back".into());
        }
        Ok(())
    }

    /// Whether the message needs the queue no more.
    async fn keep(&self, message: &Message) -> bool {
        let raw = message.body.as_bytes();
        let parsed = channels::amazon::notification(raw);
        match channel::deliver(&self.channel, parsed, raw, clock::now_ms()) {
            Meant::Ignored(_) | Meant::Confirm(_) => true,
            Meant::Delivery(delivery, _) => {
                let kept = self.intake.keep(*delivery).await;
                if let Err(later) = &kept {
                    tracing::warn!(channel = self.channel, %later, "a message stays in its queue");
                }
                kept.is_ok()
            }
        }
    }
}

impl Queue {
    fn new(sqs: &config::Sqs) -> Result<Self, String> {
        let url: Uri = sqs.queue_url.parse().map_err(|_| "queue_url is no URL")?;
        let (scheme, host) = (url.scheme_str().unwrap_or("https"), url.authority());
        let host = host.ok_or("queue_url names no host")?;
        let endpoint = format!("{scheme}://{host}/").parse().map_err(|_| "queue_url is no URL")?;
        let token = sqs.session_token.as_ref().map(|token| token.expose().to_string());
        let secret = sqs.secret_access_key.expose();
        let credentials = Credentials::new(&sqs.access_key_id, secret, token, None, "config");
        Ok(Self {
            http: https().map_err(|error| error.to_string())?,
            endpoint,
            url: sqs.queue_url.clone(),
            region: sqs.region.clone(),
            credentials,
        })
    }

    async fn receive(&self, visibility: Duration) -> Result<Vec<Message>, String> {
        let asked = json!({
            "QueueUrl": self.url,
            "MaxNumberOfMessages": MESSAGES_MAX,
            "WaitTimeSeconds": WAIT_S,
            "VisibilityTimeout": visibility.as_secs(),
        });
        let answer = self.call("ReceiveMessage", &asked, Duration::from_secs(WAIT_S)).await?;
        let received: Received = serde_json::from_slice(&answer)
            .map_err(|error| format!("ReceiveMessage answered something else: {error}"))?;
        Ok(received.messages.unwrap_or_default())
    }

    /// Deletes messages. Those that the queue says it could not delete by its own fault are tried again.
    async fn delete(&self, mut handles: Vec<String>) -> Result<(), String> {
        for _ in 0..DELETE_TRIES {
            if handles.is_empty() {
                return Ok(());
            }
            let answer = self.batch("DeleteMessageBatch", &handles, &json!({})).await?;
            handles = still_failed(&handles, &answer);
        }
        if handles.is_empty() { Ok(()) } else { Err("some messages could not be deleted".into()) }
    }

    async fn extend(&self, handles: Vec<String>, visibility: Duration) -> Result<(), String> {
        let more = json!({ "VisibilityTimeout": visibility.as_secs() });
        self.batch("ChangeMessageVisibilityBatch", &handles, &more).await.map(|_| ())
    }

    async fn batch(&self, action: &str, handles: &[String], more: &Value) -> Result<Value, String> {
        let entry = |(n, handle): (usize, &String)| {
            let mut entry = json!({ "Id": n.to_string(), "ReceiptHandle": handle });
            if let (Some(entry), Some(more)) = (entry.as_object_mut(), more.as_object()) {
                entry.extend(more.clone());
            }
            entry
        };
        let entries: Vec<Value> = handles.iter().enumerate().map(entry).collect();
        let asked = json!({ "QueueUrl": self.url, "Entries": entries });
        let answer = self.call(action, &asked, Duration::ZERO).await?;
        serde_json::from_slice(&answer)
            .map_err(|error| format!("{action} answered something else: {error}"))
    }

    async fn call(&self, action: &str, asked: &Value, waits: Duration) -> Result<Bytes, String> {
        let request = self.signed(action, asked.to_string())?;
        let exchange = async {
            let response = self.http.request(request).await.map_err(|error| format!("{error}"))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| format!("{error}"))?.to_bytes();
            if status == StatusCode::OK {
                return Ok(body);
            }
            let said: Value = serde_json::from_slice(&body).unwrap_or_default();
            let kind = said.get("__type").and_then(Value::as_str).unwrap_or_default();
            Err(format!("{action}: {status} {kind}"))
        };
        let timed_out = |_| format!("{action}: no answer in time");
        tokio::time::timeout(TIMEOUT + waits, exchange).await.map_err(timed_out)?
    }

    /// A request with the signature of Amazon's Signature Version 4.
    fn signed(&self, action: &str, body: String) -> Result<Request<Full<Bytes>>, String> {
        let target = format!("AmazonSQS.{action}");
        let kind = "application/x-amz-json-1.0";
        let host = self.endpoint.authority().map_or("", |authority| authority.as_str());
        let headers = [("content-type", kind), ("host", host), ("x-amz-target", target.as_str())];
        let identity = self.credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("sqs")
            .time(UNIX_EPOCH + Duration::from_millis(clock::now_ms()))
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| error.to_string())?;
        let uri = self.endpoint.to_string();
        let signable = SignableBody::Bytes(body.as_bytes());
        let signable = SignableRequest::new("POST", &uri, headers.into_iter(), signable)
            .map_err(|error| error.to_string())?;
        let (instructions, _) =
            sign(signable, &parameters.into()).map_err(|error| error.to_string())?.into_parts();
        let mut request = Request::post(&self.endpoint)
            .header(CONTENT_TYPE, kind)
            .header(HOST, host)
            .header("x-amz-target", &target)
            .body(Full::from(body))
            .map_err(|error| error.to_string())?;
        instructions.apply_to_request_http1x(&mut request);
        Ok(request)
    }
}

/// Of these messages, those that the answer says were not done, by no fault of ours.
fn still_failed(handles: &[String], answer: &Value) -> Vec<String> {
    let failed = answer.get("Failed").and_then(Value::as_array).into_iter().flatten();
    let ours = |entry: &&Value| entry.get("SenderFault").and_then(Value::as_bool) == Some(true);
    let ids: BTreeSet<&str> =
        failed.filter(|entry| !ours(entry)).filter_map(|entry| entry.get("Id")?.as_str()).collect();
    let numbered = handles.iter().enumerate();
    numbered.filter(|(n, _)| ids.contains(n.to_string().as_str())).map(|(_, h)| h.clone()).collect()
}
