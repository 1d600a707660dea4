//! Many quantities as one `JSON_LISTINGS_FEED` of the Feeds API, version 2021-06-30: a document is asked for
//! and uploaded, the feed is made of it, waited for, and its report read.
//!
//! `DONE` means that it was worked through: which rows were not taken stands in the report. `FATAL` says
//! nothing of any row. The URLs that documents are moved through carry their own proof, so no credential
//! goes there, and they must be Amazon's storage ([`place_of`]).

use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use hyper::Uri;
use serde::Deserialize;
use serde_json::{Value, json};

use super::quantities::{Client, availability, complaint, taken};
use crate::channel::api::{Answer, Api, Call};
use crate::channel::outcome::{Answered, PushError, Row, RowOutcome};
use crate::channel::pushed::{read, wait_of};

const FEEDS: &str = "/feeds/2021-06-30/feeds";
const DOCUMENTS: &str = "/feeds/2021-06-30/documents";
const CONTENT_TYPE: &str = "application/json; charset=UTF-8";
/// How long an upload or a download may take.
const TRANSFER: Duration = Duration::from_secs(120);
/// Bytes of a report once it is unpacked: for 25,000 rows of which each has some issues.
const REPORT_BYTES_MAX: u64 = 64 << 20;
/// A feed is allowed every two minutes, after a burst.
const LIMITED_MS: u64 = 60_000;
/// How often a report is asked for that does not come.
const TRIES: u32 = 4;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    feed_document_id: String,
    url: String,
    compression_algorithm: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    feed_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feed {
    processing_status: String,
    result_feed_document_id: Option<String>,
}

#[derive(Deserialize)]
struct Report {
    #[serde(default)]
    issues: Vec<Issue>,
    summary: Option<Summary>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Issue {
    message_id: Option<usize>,
    #[serde(default)]
    code: String,
    #[serde(default)]
    severity: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    messages_processed: usize,
    messages_invalid: usize,
}

impl Client {
    /// Sets many quantities by one feed.
    pub(super) async fn run_feed(
        &self,
        rows: &[Row],
    ) -> Result<Answered<Vec<RowOutcome>>, PushError> {
        // A feed is of one marketplace: those of another go by the next one.
        let marketplace = rows.first().map_or("", |row| self.marketplace(&row.place));
        let (own, others): (Vec<Row>, Vec<Row>) =
            rows.iter().cloned().partition(|row| self.marketplace(&row.place) == marketplace);
        if !others.is_empty() {
            let answered = Box::pin(self.run_feed(&own)).await?;
            let mut became = answered.value.into_iter();
            let value = rows.iter().map(|row| {
                let is_own = self.marketplace(&row.place) == marketplace;
                let became = if is_own { became.next() } else { None };
                became.unwrap_or(RowOutcome::Refused)
            });
            return Ok(Answered { value: value.collect(), wait: answered.wait });
        }
        let types = self.look_up(rows).await?;
        let messages: Vec<Value> = (1_usize..)
            .zip(rows.iter().zip(&types))
            .filter_map(|(id, (row, product_type))| {
                Some(message(id, row, product_type.as_ref().ok()?))
            })
            .collect();
        let sent = messages.len();
        let became =
            if sent == 0 { Became::Nothing } else { self.submit(marketplace, messages).await? };
        let value = (1_usize..).zip(types).map(|(id, product_type)| match product_type {
            Ok(_) => became.of(id, sent),
            Err(outcome) => outcome,
        });
        Ok(Answered { value: value.collect(), wait: Duration::ZERO })
    }

    /// Uploads messages, makes a feed of them, and waits for its report. An error only where nothing was
    /// done: a feed that may have been made is not made again.
    async fn submit(&self, marketplace: &str, messages: Vec<Value>) -> Result<Became, PushError> {
        let header = json!({ "sellerId": self.seller_id, "version": "2.0" });
        let body = json!({ "header": header, "messages": messages }).to_string();
        let asked = json!({ "contentType": CONTENT_TYPE });
        let document: Document = self.said(|| Call::post(DOCUMENTS).json(&asked)).await?;
        self.upload(&document.url, body).await?;
        let asked = json!({
            "feedType": "JSON_LISTINGS_FEED",
            "marketplaceIds": [marketplace],
            "inputFeedDocumentId": document.feed_document_id,
        });
        let created: Created = match self.said(|| Call::post(FEEDS).json(&asked)).await {
            Err(PushError::Unknown(why)) => {
                tracing::warn!(why, "nobody knows whether a feed was made");
                return Ok(Became::Unknown);
            }
            Err(PushError::Limited { wait_ms }) => {
                return Err(PushError::Limited { wait_ms: wait_ms.max(LIMITED_MS) });
            }
            created => created?,
        };
        Ok(self.finished(&created.feed_id).await)
    }

    /// Waits for a feed.
    async fn finished(&self, id: &str) -> Became {
        let (mut pauses, mut wait) = (self.feeds.begin(), Duration::ZERO);
        while pauses.pause(wait).await {
            let feed: Feed = match self.said(|| Call::get(FEEDS).segment(id)).await {
                Ok(feed) => feed,
                Err(error) => {
                    wait = wait_of(&error);
                    tracing::debug!(feed = id, %error, "a feed is asked for again");
                    continue;
                }
            };
            wait = Duration::ZERO;
            match (feed.processing_status.as_str(), feed.result_feed_document_id) {
                ("DONE", Some(document)) => return self.report(id, &document).await,
                // It was cancelled before it began.
                ("CANCELLED", _) => return Became::Nothing,
                (status @ ("DONE" | "FATAL"), _) => {
                    tracing::warn!(
                        feed = id,
                        status,
                        "a feed does not say what became of its rows"
                    );
                    return Became::Unknown;
                }
                _ => {}
            }
        }
        tracing::warn!(feed = id, "a feed is not worked through in time");
        Became::Unknown
    }

    async fn report(&self, feed: &str, document: &str) -> Became {
        let (mut pauses, mut wait) = (self.feeds.begin(), Duration::ZERO);
        for _ in 0..TRIES {
            match self.download(document).await {
                Ok(report) => return Became::Told(report.into()),
                Err(error) => {
                    tracing::warn!(feed, %error, "the report of a feed cannot be read");
                    wait = wait.max(wait_of(&error));
                }
            }
            if !pauses.pause(wait).await {
                break;
            }
        }
        Became::Unknown
    }

    async fn download(&self, document: &str) -> Result<Report, PushError> {
        let document: Document = self.said(|| Call::get(DOCUMENTS).segment(document)).await?;
        let (storage, target) = self.storage(&document.url)?;
        let body = taken(storage.send(Call::get(&target)).await?)?;
        let body = match document.compression_algorithm.as_deref() {
            None => body,
            Some("GZIP") => unpacked(&body).map_err(PushError::Unknown)?,
            Some(other) => return Err(PushError::Unknown(format!("{other:?} is not spoken"))),
        };
        read(&body)
    }

    /// As long as no feed is made of it, an upload changes nothing.
    async fn upload(&self, url: &str, body: String) -> Result<(), PushError> {
        let (storage, target) = self.storage(url)?;
        let call = Call::put(&target).body(CONTENT_TYPE, body);
        let answer = storage.send(call).await;
        let taken = answer.map_err(PushError::from).and_then(taken);
        taken.map(drop).map_err(|error| PushError::Refused(format!("the upload failed: {error}")))
    }

    fn storage(&self, url: &str) -> Result<(Api, String), PushError> {
        let (origin, target) = place_of(url, &self.base_url).map_err(PushError::Refused)?;
        let api = Api::without_credentials(&origin).map_err(PushError::Refused)?;
        Ok((api.lasting(TRANSFER), target))
    }

    /// What a call is answered, if it is a success.
    async fn said<T: serde::de::DeserializeOwned>(
        &self,
        call: impl Fn() -> Call + Send + Sync,
    ) -> Result<T, PushError> {
        let answer: Answer = self.account.change(call).await?;
        if answer.status.is_client_error()
            && !matches!(answer.status.as_u16(), 401 | 403 | 408 | 425 | 429)
            && let Some(why) = complaint(&answer)
        {
            return Err(PushError::Refused(why));
        }
        read(&taken(answer)?)
    }
}

/// What became of a feed.
enum Became {
    /// Nothing was done.
    Nothing,
    /// Nobody knows what was done.
    Unknown,
    /// What the report says.
    Told(Told),
}

/// A report, by message.
struct Told {
    /// Why a message was not taken.
    invalid: BTreeMap<usize, String>,
    /// How many messages it speaks of, if what it counts is what it lists.
    processed: Option<usize>,
}

impl From<Report> for Told {
    fn from(report: Report) -> Self {
        let errors: Vec<Issue> =
            report.issues.into_iter().filter(|issue| issue.severity == "ERROR").collect();
        // An error of the feed as a whole says nothing of a row.
        let nameless = errors.iter().any(|issue| issue.message_id.is_none());
        let mut invalid = BTreeMap::<usize, String>::new();
        for issue in errors {
            let Some(id) = issue.message_id else { continue };
            let text = format!("{}: {}", issue.code, issue.message);
            let texts = invalid.entry(id).or_default();
            if !texts.is_empty() {
                texts.push_str("; ");
            }
            texts.push_str(&text);
        }
        let counted = report.summary.filter(|summary| summary.messages_invalid == invalid.len());
        let processed = counted.filter(|_| !nameless).map(|summary| summary.messages_processed);
        Self { invalid, processed }
    }
}

impl Became {
    /// What became of one message of so many. The report lists what was not taken: what it does not list was,
    /// if it speaks of all messages.
    fn of(&self, id: usize, sent: usize) -> RowOutcome {
        match self {
            Self::Nothing => RowOutcome::Refused,
            Self::Unknown => RowOutcome::Unknown,
            Self::Told(told) => match told.invalid.get(&id) {
                Some(why) => RowOutcome::Failed(why.clone()),
                None if told.processed == Some(sent) => RowOutcome::Confirmed,
                None => RowOutcome::Unknown,
            },
        }
    }
}

/// One row. Feeds know no `merge`: the attribute is replaced.
fn message(id: usize, row: &Row, product_type: &str) -> Value {
    let path = "/attributes/fulfillment_availability";
    json!({
        "messageId": id,
        "sku": row.place.listing,
        "operationType": "PATCH",
        "productType": product_type,
        "patches": [{ "op": "replace", "path": path, "value": [availability(row)] }],
    })
}

/// Where a document is moved through: origin, and path with query. It must be Amazon's storage by https; or,
/// of an API on loopback, the same host. The URL is not said, since it is a credential itself.
fn place_of(url: &str, base_url: &str) -> Result<(String, String), String> {
    let foreign =
        || "a document's URL is not one of Amazon's storage (*.amazonaws.com)".to_string();
    let uri: Uri = url.parse().map_err(|_| foreign())?;
    let base: Uri = base_url.parse().map_err(|_| foreign())?;
    let (scheme, authority) = (uri.scheme_str(), uri.authority().ok_or_else(foreign)?);
    let is_storage = scheme == Some("https")
        && authority.port().is_none()
        && authority.host().to_ascii_lowercase().ends_with(".amazonaws.com");
    // The config lets http stand on loopback only.
    let is_own = base.scheme_str() == Some("http")
        && scheme == Some("http")
        && base.host() == Some(authority.host());
    if authority.as_str().contains('@') || !(is_storage || is_own) {
        return Err(foreign());
    }
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    Ok((format!("{}://{authority}", scheme.unwrap_or("https")), target.into()))
}

/// A gzip file, unpacked within its bound.
fn unpacked(body: &[u8]) -> Result<Bytes, String> {
    let mut unpacked = Vec::new();
    let read = MultiGzDecoder::new(body).take(REPORT_BYTES_MAX + 1).read_to_end(&mut unpacked);
    read.map_err(|error| format!("the report is no gzip file: {error}"))?;
    if u64::try_from(unpacked.len()).is_ok_and(|len| len > REPORT_BYTES_MAX) {
        return Err(format!("the report is longer than {REPORT_BYTES_MAX} bytes"));
    }
    Ok(unpacked.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A URL out of an answer that is followed anywhere makes the node ask whatever host an answer names.
    #[test]
    fn documents_are_only_in_amazons_storage() {
        let amazon = "https://sellingpartnerapi-na.amazon.com";
        let url = "https://tortuga-prod-na.s3-external-1.amazonaws.com/a%2Fb?X-Amz-Signature=1";
        let (origin, target) = place_of(url, amazon).unwrap();
        assert_eq!(origin, "https://tortuga-prod-na.s3-external-1.amazonaws.com");
        assert_eq!(target, "/a%2Fb?X-Amz-Signature=1");
        for url in [
            "http://tortuga.s3.amazonaws.com/a",
            "https://amazonaws.com.example/a",
            "https://evilamazonaws.com/a",
            "https://s3.amazonaws.com:8443/a",
            "https://user@s3.amazonaws.com/a",
            "http://127.0.0.1/a",
            "http://169.254.169.254/latest/meta-data",
            "/a",
            "",
        ] {
            assert!(place_of(url, amazon).is_err(), "{url}");
        }
        assert!(place_of("http://127.0.0.1:7/upload/1?s=2", "http://127.0.0.1:9").is_ok());
        assert!(place_of("http://10.0.0.1:7/upload/1", "http://127.0.0.1:9").is_err());
    }

    /// A few bytes that unpack to gigabytes take the node's memory.
    #[test]
    fn a_report_is_unpacked_within_its_bound() {
        use std::io::Write as _;
        let packed = |bytes: &[u8]| {
            let level = flate2::Compression::fast();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(unpacked(&packed(b"{}")).unwrap(), "{}");
        let most = usize::try_from(REPORT_BYTES_MAX).unwrap();
        assert!(unpacked(&packed(&vec![b' '; most + 1])).is_err());
        assert!(unpacked(b"{}").is_err());
    }
}
