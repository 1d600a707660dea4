//! How a queue is set up, and what may go wrong in it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

/// An AWS access key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// `AKIA…`, or `ASIA…` with a session token.
    pub access_key_id: String,
    /// What signs.
    pub secret_access_key: String,
    /// What temporary credentials send along.
    pub session_token: Option<String>,
}

/// Everything that one queue needs to know at its start.
///
/// [`Options::new`] fills in a standard queue without faults; use it with struct update syntax.
#[derive(Clone, Debug)]
pub struct Options {
    /// The queue's name.
    pub name: String,
    /// The owner's account number, twelve digits.
    pub account: String,
    /// The region for which calls must be signed.
    pub region: String,
    /// Where it listens. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Who may call.
    pub credentials: Credentials,
    /// How long a received message stays hidden, if the receiver does not say.
    pub visibility: Duration,
    /// After how long a message is dropped, received or not.
    pub retention: Duration,
    /// How many messages may be in flight before a receive is refused as over the limit.
    pub in_flight_max: usize,
    /// Divides every time of the protocol (visibility, waits, delays, retention): 1000 makes a second
    /// a millisecond. The age of a signature is never scaled.
    pub time_scale: f64,
    /// Decides every random choice, though not the moment at which it is made.
    pub seed: u64,
    /// What goes wrong by itself.
    pub faults: Faults,
}

impl Options {
    /// A queue as AWS makes it by default.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            account: "123456789012".to_owned(),
            region: "us-east-1".to_owned(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            credentials: Credentials {
                access_key_id: "AKIASIMULATED0000000".to_owned(),
                secret_access_key: "simulated/secret+access/key".to_owned(),
                session_token: None,
            },
            visibility: Duration::from_secs(30),
            retention: Duration::from_secs(4 * 24 * 60 * 60),
            in_flight_max: 120_000,
            time_scale: 1.0,
            seed: 1,
            faults: Faults::default(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), crate::Error> {
        let wrong =
            |field, reason: &str| Err(crate::Error::Options { field, reason: reason.to_owned() });
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if self.name.is_empty() || self.name.len() > 80 || !self.name.chars().all(is_name) {
            return wrong("name", "must be 1 to 80 letters, digits, hyphens and underscores");
        }
        if !(self.time_scale.is_finite() && self.time_scale > 0.0) {
            return wrong("time_scale", "must be above zero");
        }
        Ok(())
    }

    /// The queue's ARN.
    #[must_use]
    pub fn arn(&self) -> String {
        format!("arn:aws:sqs:{}:{}:{}", self.region, self.account, self.name)
    }

    /// A time of the protocol on this queue's clock.
    pub(crate) fn scaled(&self, time: Duration) -> Duration {
        Duration::try_from_secs_f64(time.as_secs_f64() / self.time_scale).unwrap_or(time)
    }
}

/// What goes wrong by itself, as probabilities between 0 and 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    /// A message survives its first delete and is received once more, as when one of the servers that
    /// hold a copy missed the delete.
    pub twice: f64,
    /// How many of the messages sent after a message may be received before it; zero keeps the order.
    pub shuffle: u64,
    /// An entry of a batch fails by itself, with an internal error.
    pub entry_failed: f64,
    /// A call is refused with `RequestThrottled`.
    pub throttled: f64,
    /// A call is answered 502 and not carried out.
    pub server_error: f64,
    /// A call is carried out, and then the connection drops without an answer.
    pub answer_lost: f64,
}
