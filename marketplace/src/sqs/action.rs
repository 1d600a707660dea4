//! The actions: what each call asks for, and how it is answered. Only the server waits.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::{
    State,
    error::Error,
    history::{Event, What},
    messages::{Deletion, Fate, Received},
    options::Options,
};
use crate::clock::Now;

const BATCH_MAX: usize = 10;
const WAIT_SECONDS_MAX: u64 = 20;
const DELAY_SECONDS_MAX: u64 = 900;
const VISIBILITY_SECONDS_MAX: u64 = 43_200;
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
const SENDER_ID: &str = "AIDASIMULATED00000000";

/// One call, understood.
pub(super) enum Action {
    Send(Send),
    Receive(Ask),
    Delete(Handle),
    DeleteBatch(Vec<Entry>),
    Change(Handle),
    ChangeBatch(Vec<Entry>),
    Attributes(BTreeSet<String>),
}

/// What a receive asks for, checked.
pub(super) struct Ask {
    max: usize,
    hide: Duration,
    pub(super) wait: Duration,
    attributes: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Send {
    message_body: String,
    delay_seconds: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Handle {
    receipt_handle: String,
    visibility_timeout: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    id: String,
    #[serde(flatten)]
    handle: Handle,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Batch {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Receive {
    max_number_of_messages: Option<i64>,
    visibility_timeout: Option<i64>,
    wait_time_seconds: Option<i64>,
    #[serde(default)]
    attribute_names: BTreeSet<String>,
    #[serde(default)]
    message_system_attribute_names: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Names {
    #[serde(default)]
    attribute_names: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Queue {
    queue_url: Option<String>,
}

impl Action {
    /// Reads a call. `target` is the value of `X-Amz-Target`.
    pub(super) fn read(options: &Options, target: &str, body: &[u8]) -> Result<Self, Error> {
        let name = target.strip_prefix("AmazonSQS.").ok_or(Error::UnknownOperation)?;
        let queue = parse::<Queue>(body)?.queue_url.ok_or(Error::MissingParameter("QueueUrl"))?;
        let path = format!("/{}/{}", options.account, options.name);
        if !queue.ends_with(&path) {
            return Err(Error::QueueDoesNotExist);
        }
        Ok(match name {
            "SendMessage" => Self::Send(parse(body)?),
            "ReceiveMessage" => Self::Receive(Ask::check(options, parse(body)?)?),
            "DeleteMessage" => Self::Delete(parse(body)?),
            "DeleteMessageBatch" => {
                Self::DeleteBatch(batch(parse(body)?, "DeleteMessageBatchRequestEntry")?)
            }
            "ChangeMessageVisibility" => Self::Change(parse(body)?),
            "ChangeMessageVisibilityBatch" => {
                Self::ChangeBatch(batch(parse(body)?, "ChangeMessageVisibilityBatchRequestEntry")?)
            }
            "GetQueueAttributes" => Self::Attributes(parse::<Names>(body)?.attribute_names),
            _ => return Err(Error::UnknownOperation),
        })
    }
}

impl Ask {
    fn check(options: &Options, receive: Receive) -> Result<Self, Error> {
        let hide = match receive.visibility_timeout {
            Some(given) => seconds("VisibilityTimeout", given, VISIBILITY_SECONDS_MAX)?,
            None => options.visibility,
        };
        let wait =
            seconds("WaitTimeSeconds", receive.wait_time_seconds.unwrap_or(0), WAIT_SECONDS_MAX)?;
        let max = receive.max_number_of_messages.unwrap_or(1);
        let max = usize::try_from(max).ok().filter(|max| (1..=BATCH_MAX).contains(max));
        let max = max.ok_or_else(|| Error::InvalidParameterValue {
            parameter: "MaxNumberOfMessages",
            value: receive.max_number_of_messages.unwrap_or_default().to_string(),
            reason: format!("Must be between 1 and {BATCH_MAX}, if provided."),
        })?;
        let mut attributes = receive.attribute_names;
        attributes.extend(receive.message_system_attribute_names);
        Ok(Self { max, hide: options.scaled(hide), wait: options.scaled(wait), attributes })
    }
}

impl State {
    /// Carries out what needs no waiting.
    pub(super) fn answer(
        &mut self,
        options: &Options,
        action: Action,
        now: Now,
    ) -> Result<Value, Error> {
        match action {
            Action::Send(send) => self.send(options, &send, now),
            Action::Delete(handle) => {
                self.delete(&handle.receipt_handle, now)?;
                Ok(json!({}))
            }
            Action::DeleteBatch(entries) => {
                Ok(self
                    .each(&entries, |state, entry| state.delete(&entry.handle.receipt_handle, now)))
            }
            Action::Change(handle) => {
                self.change(options, &handle, now)?;
                Ok(json!({}))
            }
            Action::ChangeBatch(entries) => {
                Ok(self.each(&entries, |state, entry| state.change(options, &entry.handle, now)))
            }
            Action::Attributes(names) => Ok(self.attributes(options, &names, now)),
            Action::Receive(ask) => Ok(self.receive(options, &ask, now)?.unwrap_or(json!({}))),
        }
    }

    /// The answer of a receive, or nothing if no message is visible.
    pub(super) fn receive(
        &mut self,
        options: &Options,
        ask: &Ask,
        now: Now,
    ) -> Result<Option<Value>, Error> {
        let received = self.messages.receive(ask.max, ask.hide, options.in_flight_max, now)?;
        let messages: Vec<Value> =
            received.iter().map(|message| wire(message, &ask.attributes)).collect();
        for Received { id, body, receives, .. } in received {
            self.counts.received += 1;
            let what = What::Received { count: receives, body };
            self.history.push(Event { at_ms: now.ms, message_id: id, what });
        }
        // A real queue leaves an empty list out.
        Ok((!messages.is_empty()).then(|| json!({"Messages": messages})))
    }

    fn send(&mut self, options: &Options, send: &Send, now: Now) -> Result<Value, Error> {
        let length = send.message_body.len();
        if !(1..=MESSAGE_BYTES_MAX).contains(&length) {
            return Err(Error::InvalidParameterValue {
                parameter: "MessageBody",
                value: length.to_string(),
                reason: format!("Must be 1 to {MESSAGE_BYTES_MAX} bytes."),
            });
        }
        let delay = send.delay_seconds.unwrap_or(0);
        let delay = options.scaled(seconds("DelaySeconds", delay, DELAY_SECONDS_MAX)?);
        let (id, md5) = self.put(&send.message_body, delay, now);
        Ok(json!({"MessageId": id, "MD5OfMessageBody": md5}))
    }

    /// Takes a message and decides what will go wrong with it.
    pub(super) fn put(&mut self, body: &str, delay: Duration, now: Now) -> (String, String) {
        let Self { mishaps, faults, .. } = self;
        let fate = Fate { delay, twice: mishaps.chance(faults.twice), shuffle: faults.shuffle };
        self.messages.send(body, fate, now)
    }

    fn delete(&mut self, handle: &str, now: Now) -> Result<(), Error> {
        let (id, what) = match self.messages.delete(handle, now)? {
            Deletion::Gone(id) => {
                self.counts.deleted += 1;
                (id, What::Deleted)
            }
            Deletion::Survived(id) => (id, What::DeleteMissed),
            Deletion::Ignored(Some(id)) => (id, What::DeleteIgnored),
            Deletion::Ignored(None) => return Ok(()),
        };
        self.history.push(Event { at_ms: now.ms, message_id: id, what });
        Ok(())
    }

    fn change(&mut self, options: &Options, handle: &Handle, now: Now) -> Result<(), Error> {
        let given =
            handle.visibility_timeout.ok_or(Error::MissingParameter("VisibilityTimeout"))?;
        let hide = seconds("VisibilityTimeout", given, VISIBILITY_SECONDS_MAX)?;
        let hide_max = options.scaled(Duration::from_secs(VISIBILITY_SECONDS_MAX));
        let id = self.messages.change_visibility(
            &handle.receipt_handle,
            options.scaled(hide),
            hide_max,
            now,
        )?;
        self.history.push(Event { at_ms: now.ms, message_id: id, what: What::Hidden(hide) });
        Ok(())
    }

    /// Carries out each entry of a batch by itself.
    fn each(
        &mut self,
        entries: &[Entry],
        mut act: impl FnMut(&mut Self, &Entry) -> Result<(), Error>,
    ) -> Value {
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for entry in entries {
            let Self { mishaps, faults, .. } = self;
            let done = if mishaps.chance(faults.entry_failed) {
                Err(Error::Internal(500))
            } else {
                act(self, entry)
            };
            match done {
                Ok(()) => successful.push(json!({"Id": entry.id})),
                Err(error) => failed.push(error.entry(&entry.id)),
            }
        }
        json!({"Successful": successful, "Failed": failed})
    }

    fn attributes(&mut self, options: &Options, names: &BTreeSet<String>, now: Now) -> Value {
        self.messages.turn(now.instant);
        let all = names.contains("All");
        let attributes: Map<String, Value> = [
            ("ApproximateNumberOfMessages", self.messages.visible().to_string()),
            ("ApproximateNumberOfMessagesNotVisible", self.messages.in_flight().to_string()),
            ("ApproximateNumberOfMessagesDelayed", self.messages.delayed().to_string()),
            ("VisibilityTimeout", options.visibility.as_secs().to_string()),
            ("MessageRetentionPeriod", options.retention.as_secs().to_string()),
            ("MaximumMessageSize", MESSAGE_BYTES_MAX.to_string()),
            ("ReceiveMessageWaitTimeSeconds", "0".to_owned()),
            ("DelaySeconds", "0".to_owned()),
            ("QueueArn", options.arn()),
        ]
        .into_iter()
        .filter(|(name, _)| all || names.contains(*name))
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
        json!({"Attributes": attributes})
    }
}

fn wire(message: &Received, names: &BTreeSet<String>) -> Value {
    let mut wire = json!({
        "MessageId": message.id,
        "ReceiptHandle": message.handle,
        "MD5OfBody": message.md5,
        "Body": message.body,
    });
    let all = names.contains("All");
    let attributes: Map<String, Value> = [
        ("SenderId", SENDER_ID.to_owned()),
        ("SentTimestamp", message.sent_ms.to_string()),
        ("ApproximateReceiveCount", message.receives.to_string()),
        ("ApproximateFirstReceiveTimestamp", message.first_received_ms.to_string()),
    ]
    .into_iter()
    .filter(|(name, _)| all || names.contains(*name))
    .map(|(name, value)| (name.to_owned(), value.into()))
    .collect();
    if let (Some(wire), false) = (wire.as_object_mut(), attributes.is_empty()) {
        wire.insert("Attributes".to_owned(), attributes.into());
    }
    wire
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| Error::Serialization(error.to_string()))
}

fn batch(batch: Batch, entry: &'static str) -> Result<Vec<Entry>, Error> {
    let entries = batch.entries;
    if entries.is_empty() {
        return Err(Error::EmptyBatchRequest(entry));
    }
    if entries.len() > BATCH_MAX {
        return Err(Error::TooManyEntriesInBatchRequest(entries.len()));
    }
    let is_id = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let mut ids = BTreeSet::new();
    for Entry { id, .. } in &entries {
        if !(1..=80).contains(&id.len()) || !id.chars().all(is_id) {
            return Err(Error::InvalidBatchEntryId);
        }
        if !ids.insert(id) {
            return Err(Error::BatchEntryIdsNotDistinct(id.clone()));
        }
    }
    Ok(entries)
}

fn seconds(parameter: &'static str, given: i64, max: u64) -> Result<Duration, Error> {
    let value = u64::try_from(given).ok().filter(|value| *value <= max);
    value.map(Duration::from_secs).ok_or_else(|| Error::InvalidParameterValue {
        parameter,
        value: given.to_string(),
        reason: format!("Must be >= 0 and <= {max}, if provided."),
    })
}
