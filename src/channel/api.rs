//! What all clients of channels' APIs share: how a call is written, bounded, sent and judged.
//!
//! No redirect is followed: a credential goes to the host that the config names, and nowhere else.

mod answer;
mod call;
mod change;
#[cfg(test)]
pub(crate) mod fake;
pub mod gate;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::Request;
use hyper::header::HeaderName;

use crate::channel::check_base_url;
use crate::client::{Https, https, root};
use crate::config::Secret;

pub use answer::{Answer, millis, retry_after_ms, retry_after_within_ms};
pub use call::Call;

/// How long a call may take, if nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer, if nothing else is said: a page of two hundred orders, with room for shops whose
/// extensions write much into each.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Under which epoch a push is sent. No channel asks for it; who reads the record of calls sees whose they were, and
/// whether one came too late.
const EPOCH: HeaderName = HeaderName::from_static("stockraft-epoch");

/// Why a channel's API gave no answer to work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The credentials are not accepted, or do not allow this. Somebody must mend it; to ask again soon
    /// is no use.
    #[error("not authorised: {0}")]
    Unauthorised(String),
    /// Nothing is at this URL, and it was not the API that said so: the base URL is wrong, or the API is
    /// switched off. Ask again, but slowly.
    #[error("nothing is found at this address")]
    NotFound,
    /// Too many calls. Ask again, not before this.
    #[error("the channel limits the rate; wait {wait_ms} ms")]
    Limited {
        /// Milliseconds, a minute at the most.
        wait_ms: u64,
    },
    /// The channel refused this call and will refuse it again.
    #[error("refused: {0}")]
    Refused(String),
    /// No answer, or a fault on the channel's side. Ask again, with longer and longer pauses.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// An answer that cannot be read. The same call will most likely bring the same.
    #[error("the answer cannot be read: {0}")]
    Unreadable(String),
}

/// Why a call brought no answer at all. Whoever changes something with the call needs to know whether it
/// may have been carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The call cannot be written as a request.
    #[error("no request: {0}")]
    Invalid(String),
    /// There was no connection: nothing was sent.
    #[error("{0}")]
    Unsent(String),
    /// It was sent, perhaps in part, and no answer came.
    #[error("{0}")]
    Unanswered(String),
    /// The answer is longer than it may be.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

impl From<Broken> for ApiError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Invalid(why) => Self::Refused(why),
            Broken::Unsent(why) | Broken::Unanswered(why) => Self::Unreachable(why),
            Broken::TooLong(_) => Self::Unreadable(broken.to_string()),
        }
    }
}

/// One page of what changed, where its body does not say what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The page as the API wrote it.
    pub body: Bytes,
    /// How to ask for the page after it; `None` after the last.
    pub next: Option<String>,
}

/// A text that nobody may see: a key, a token, a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential(String);

impl Credential {
    /// The text: never log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Never the text.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential")
    }
}

impl From<&Secret> for Credential {
    fn from(secret: &Secret) -> Self {
        Self(secret.expose().into())
    }
}

impl From<String> for Credential {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Credential {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

/// An API at one address.
pub struct Api {
    http: Https,
    base: String,
    answer_bytes_max: usize,
    timeout: Duration,
}

impl Api {
    /// The API at a base URL: https, or http on loopback, with or without a path, without a query. The
    /// error does not repeat the URL.
    pub fn new(base_url: &str) -> Result<Self, String> {
        check_base_url(base_url)?;
        Self::without_credentials(base_url)
    }

    /// One that may be reached by http anywhere: for what proves itself, and never with a credential.
    pub fn without_credentials(base_url: &str) -> Result<Self, String> {
        Ok(Self {
            http: https().map_err(|error| error.to_string())?,
            base: base_url.trim_end_matches('/').into(),
            answer_bytes_max: ANSWER_BYTES_MAX,
            timeout: TIMEOUT,
        })
    }

    /// With another bound to the bytes of an answer.
    #[must_use]
    pub fn bounded(mut self, answer_bytes_max: usize) -> Self {
        self.answer_bytes_max = answer_bytes_max;
        self
    }

    /// With another bound to the time from the connection to the last byte of the answer.
    #[must_use]
    pub fn lasting(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends a call, once the [`gate`] lets it through. The answer may have any status: [`Answer::success`] and [`Answer::known`] judge it.
    pub async fn send(&self, call: Call) -> Result<Answer, Broken> {
        let mut request = call.request(&self.base)?;
        if let Some(epoch) = gate::pass().await? {
            request.headers_mut().insert(EPOCH, epoch.into());
        }
        let late = |_| Broken::Unanswered(format!("no answer in {} s", self.timeout.as_secs_f32()));
        tokio::time::timeout(self.timeout, self.exchange(request)).await.map_err(late)?
    }

    async fn exchange(&self, request: Request<call::Body>) -> Result<Answer, Broken> {
        let response = self.http.request(request).await.map_err(|error| {
            let why = root(&error);
            if error.is_connect() { Broken::Unsent(why) } else { Broken::Unanswered(why) }
        })?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, self.answer_bytes_max).collect().await;
        let body = body.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Broken::TooLong(self.answer_bytes_max)
            } else {
                Broken::Unanswered(root(&*error))
            }
        })?;
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
    }

    /// The query of the page that an answer names as the next, if it is on this API and of this path.
    ///
    /// It comes as a URL, as a path with a query, or as a query alone. Only the query of it is ever used,
    /// so that no answer can send a credential elsewhere; another host or path is an error all the same,
    /// for it would be other data.
    pub fn next_query<'a>(&self, path: &str, next: &'a str) -> Result<&'a str, ApiError> {
        let foreign = || ApiError::Unreadable("the next page is at another address".into());
        let (at, query) = next.split_once('?').ok_or_else(foreign)?;
        let own = format!("{}{path}", self.base);
        let own_path =
            own.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
        if at.is_empty() || at == own || Some(at) == own_path { Ok(query) } else { Err(foreign()) }
    }
}

#[cfg(test)]
mod tests;
