//! A queue's API: Amazon SQS in its AWS JSON 1.0 protocol, each request signed with Signature Version 4.
//!
//! Source: docs.aws.amazon.com, Amazon SQS API Reference (`ReceiveMessage`, `DeleteMessageBatch`,
//! `ChangeMessageVisibilityBatch`) and Developer Guide ("Interpreting Amazon SQS JSON API responses").

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use hyper::Uri;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Settings;
use crate::channel::api::{Answer, Api, ApiError, Call};
use crate::clock;

/// Messages of one receive or one batch: what SQS allows.
const BATCH_MAX: usize = 10;
/// What a receive may take beyond the time for which it waits for messages.
const SLACK: Duration = Duration::from_secs(10);
/// Bytes of a receive: ten messages of a megabyte, and room for what JSON escapes.
const RECEIVED_BYTES_MAX: usize = 24 << 20;
const CONTENT_TYPE: &str = "application/x-amz-json-1.0";

/// A message that was received.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Message {
    /// By which this receipt of it is deleted or hidden for longer.
    pub(super) receipt_handle: String,
    pub(super) body: String,
}

/// What became of the messages of a batch, by their place in it.
#[derive(Default)]
pub(super) struct Outcome {
    /// Done.
    pub(super) done: BTreeSet<usize>,
    /// Never to be done, with the reason: the receipt is no longer good.
    pub(super) lost: BTreeMap<usize, String>,
}

pub(super) struct Queue {
    /// For receives, which wait long.
    polled: Api,
    api: Api,
    origin: String,
    url: String,
    region: String,
    credentials: Credentials,
    wait: Duration,
    visibility: Duration,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Received {
    messages: Option<Vec<Message>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Batch {
    successful: Option<Vec<Done>>,
    failed: Option<Vec<Failed>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Done {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failed {
    id: String,
    code: Option<String>,
    #[serde(default)]
    sender_fault: bool,
}

impl Queue {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let uri: Uri = settings.queue_url.parse().map_err(|_| "the queue's URL is none")?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err("the queue's URL names no host".into());
        };
        let origin = format!("{scheme}://{authority}");
        if settings.region.is_empty() {
            return Err("the queue's region is missing".into());
        }
        let token = settings.session_token.as_ref().map(|token| token.expose().to_string());
        let secret = settings.secret_access_key.expose();
        let id = settings.access_key_id.as_str();
        Ok(Self {
            polled: Api::new(&origin)?.bounded(RECEIVED_BYTES_MAX).lasting(settings.wait + SLACK),
            api: Api::new(&origin)?,
            origin,
            url: settings.queue_url.clone(),
            region: settings.region.clone(),
            credentials: Credentials::new(id, secret, token, None, "config"),
            wait: settings.wait,
            visibility: settings.visibility,
        })
    }

    /// Waits for messages. They are hidden from others until their visibility ends.
    pub(super) async fn receive(&self) -> Result<Vec<Message>, ApiError> {
        let body = json!({
            "QueueUrl": self.url,
            "MaxNumberOfMessages": BATCH_MAX,
            "WaitTimeSeconds": self.wait.as_secs(),
            "VisibilityTimeout": self.visibility.as_secs(),
        });
        let answer = self.call(&self.polled, "ReceiveMessage", &body).await?;
        let received: Received = read(&answer)?;
        Ok(received.messages.unwrap_or_default())
    }

    /// Deletes messages, ten at the most.
    pub(super) async fn delete(&self, messages: &[(usize, &Message)]) -> Result<Outcome, ApiError> {
        let entry = |(at, message): &(usize, &Message)| json!({ "Id": at.to_string(), "ReceiptHandle": message.receipt_handle });
        self.batch("DeleteMessageBatch", messages.iter().map(entry).collect()).await
    }

    /// Hides messages, ten at the most, for the whole time of visibility from now on.
    pub(super) async fn hide(&self, messages: &[(usize, &Message)]) -> Result<Outcome, ApiError> {
        let entry = |(at, message): &(usize, &Message)| {
            json!({
                "Id": at.to_string(),
                "ReceiptHandle": message.receipt_handle,
                "VisibilityTimeout": self.visibility.as_secs(),
            })
        };
        self.batch("ChangeMessageVisibilityBatch", messages.iter().map(entry).collect()).await
    }

    async fn batch(&self, action: &str, entries: Vec<Value>) -> Result<Outcome, ApiError> {
        let body = json!({ "QueueUrl": self.url, "Entries": entries });
        let batch: Batch = read(&self.call(&self.api, action, &body).await?)?;
        let place = |id: &str| id.parse().ok();
        let done = batch.successful.unwrap_or_default();
        let failed = batch.failed.unwrap_or_default().into_iter().filter(|one| one.sender_fault);
        Ok(Outcome {
            done: done.iter().filter_map(|one| place(&one.id)).collect(),
            lost: failed
                .filter_map(|one| Some((place(&one.id)?, one.code.unwrap_or_default())))
                .collect(),
        })
    }

    async fn call(&self, api: &Api, action: &str, body: &Value) -> Result<Bytes, ApiError> {
        let call = self.signed(action, body.to_string(), clock::now_ms());
        let call = call.map_err(|why| ApiError::Refused(format!("cannot be signed: {why}")))?;
        judged(api.send(call).await?)
    }

    /// A request, signed for this time.
    fn signed(&self, action: &str, body: String, now_ms: u64) -> Result<Call, String> {
        let target = format!("AmazonSQS.{action}");
        let identity = self.credentials.clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("sqs")
            .time(UNIX_EPOCH + Duration::from_millis(now_ms))
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| error.to_string())?
            .into();
        let headers = [("content-type", CONTENT_TYPE), ("x-amz-target", target.as_str())];
        let (signed, url) = (SignableBody::Bytes(body.as_bytes()), format!("{}/", self.origin));
        let request = SignableRequest::new("POST", url, headers.into_iter(), signed)
            .map_err(|error| error.to_string())?;
        let signature = sign(request, &params).map_err(|error| error.to_string())?;
        let (instructions, _) = signature.into_parts();
        let call = Call::post("/").header("x-amz-target", &target);
        let sign = |call: Call, (name, value): (&str, &str)| call.header(name, value);
        Ok(instructions.headers().fold(call.body(CONTENT_TYPE, body), sign))
    }
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::Unreadable(error.to_string()))
}

/// The body of a success, or what the error's name means. The name decides before the status does: SQS
/// answers 400 to much that is not the request's fault.
fn judged(answer: Answer) -> Result<Bytes, ApiError> {
    if answer.status.is_success() {
        return Ok(answer.body);
    }
    let Some(name) = error_name(&answer) else { return answer.success() };
    let is = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    if is(&["Throttl", "OverLimit", "TooManyRequests"]) {
        return Err(ApiError::Limited { wait_ms: answer.wait_ms() });
    }
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let words = said.get("message").or_else(|| said.get("Message")).and_then(Value::as_str);
    let said = match words {
        Some(words) => format!("{name}: {}", words.chars().take(200).collect::<String>()),
        None => name.clone(),
    };
    let denied = is(&["AccessDenied", "Token", "Signature", "UnrecognizedClient", "OptInRequired"]);
    if denied || matches!(answer.status.as_u16(), 401 | 403) {
        Err(ApiError::Unauthorised(said))
    } else if answer.status.is_client_error() {
        Err(ApiError::Refused(said))
    } else {
        Err(ApiError::Unreachable(said))
    }
}

/// The error's name: `QueueDoesNotExist` of `com.amazonaws.sqs#QueueDoesNotExist`.
fn error_name(answer: &Answer) -> Option<String> {
    let body: Value = serde_json::from_slice(&answer.body).ok()?;
    let name = body.get("__type")?.as_str()?;
    Some(name.rsplit('#').next()?.chars().take(100).collect())
}
