//! The Feeds API, version 2021-06-30, for `JSON_LISTINGS_FEED`: documents are uploaded and downloaded at
//! URLs that prove themselves, and a feed is worked through some time after it was made.
//!
//! Shapes are those of Amazon's published models of feeds and of listings feeds, version 2.0.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use hyper::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    api::{Bucket, Reply, Visit, over_quota, refusal},
    listings::quantity,
    options::Options,
};
use crate::clock::Millis;

const FEEDS: &str = "/feeds/2021-06-30/feeds";
const DOCUMENTS: &str = "/feeds/2021-06-30/documents";
/// Where documents are uploaded to and downloaded from; no API, and so without a token.
const STORAGE: &str = "/storage/";
const MESSAGES_MAX: usize = 25_000;
/// How long a document's URL is good.
const URL_LIFE_MS: Millis = 5 * 60 * 1000;

/// All feeds and their documents.
pub(super) struct Feeds {
    plans: [Bucket; 4],
    documents: BTreeMap<String, Document>,
    made: BTreeMap<u64, Feed>,
    last: u64,
}

struct Document {
    content_type: String,
    signature: String,
    until: Millis,
    body: Option<Bytes>,
}

struct Feed {
    begins_at: Millis,
    /// Never of one that is stuck.
    ends_at: Option<Millis>,
    /// The status that it comes to.
    ends: &'static str,
    report: Value,
    told: bool,
}

/// One message of a feed, judged.
struct Row {
    id: u64,
    sku: String,
    /// Which item it sets, and to what; or why not.
    judged: Result<(usize, i64), (&'static str, String)>,
}

impl Feeds {
    pub(super) fn new(options: &Options, now: Instant) -> Self {
        let plans = &options.plans;
        let plans = [plans.document, plans.feed, plans.feed_read, plans.document_read];
        Self {
            plans: plans.map(|rate| Bucket::full(rate, options.time_scale, now)),
            documents: BTreeMap::new(),
            made: BTreeMap::new(),
            last: 53_347_018_000,
        }
    }

    pub(super) fn is_storage(path: &str) -> bool {
        path.starts_with(STORAGE)
    }

    pub(super) fn is_feeds(path: &str) -> bool {
        path.starts_with(FEEDS) || path.starts_with(DOCUMENTS)
    }

    /// Answers a call whose token is good.
    pub(super) fn answer(&mut self, visit: &mut Visit<'_>) -> Reply {
        let path = visit.call.path.clone();
        let (of_feeds, rest) = match path.strip_prefix(FEEDS) {
            Some(rest) => (true, rest),
            None => (false, path.strip_prefix(DOCUMENTS).unwrap_or_default()),
        };
        let post = visit.call.method == Method::POST;
        let [document, feed, feed_read, document_read] = &mut self.plans;
        let plan = match (of_feeds, post) {
            (false, true) => document,
            (true, true) => feed,
            (true, false) => feed_read,
            (false, false) => document_read,
        };
        if !plan.take(visit.now.instant) {
            visit.stats.throttled += 1;
            return over_quota();
        }
        let rate = Some(plan.per_second());
        let reply = match (of_feeds, post, rest.strip_prefix('/')) {
            (false, true, None) => self.create_document(visit),
            (true, true, None) => self.create(visit),
            (true, false, Some(id)) => self.show(visit, id),
            (false, false, Some(id)) => self.report(visit, id),
            _ => refusal(404, "NotFound", "The resource specified does not exist.", ""),
        };
        Reply { rate, ..reply }
    }

    fn create_document(&mut self, visit: &mut Visit<'_>) -> Reply {
        let body: Value = serde_json::from_slice(&visit.call.body).unwrap_or_default();
        let Some(content_type) = body.get("contentType").and_then(Value::as_str) else {
            return refusal(400, "InvalidInput", "contentType is missing.", "");
        };
        self.last += 1;
        let id = format!("amzn1.tortuga.4.na.in-{}", self.last);
        let (url, signature) = url_of(visit, &id);
        let until = visit.now.ms + URL_LIFE_MS;
        let content_type = content_type.to_owned();
        let document = Document { content_type, signature, until, body: None };
        self.documents.insert(id.clone(), document);
        Reply::new(201, json!({"feedDocumentId": id, "url": url}))
    }

    /// The storage: whoever knows the URL may use it for a while, and must show nothing else.
    pub(super) fn storage(&mut self, visit: &Visit<'_>) -> Reply {
        let call = visit.call;
        let id = call.path.strip_prefix(STORAGE).unwrap_or_default();
        let known = self.documents.get_mut(id).filter(|document| {
            call.param("X-Amz-Signature") == Some(document.signature.as_str())
                && visit.now.ms < document.until
        });
        let Some(document) = known else {
            return storage_fault(403, "AccessDenied");
        };
        if call.header("authorization").is_some() || call.header("x-amz-access-token").is_some() {
            return storage_fault(400, "InvalidArgument");
        }
        match (&call.method, &document.body) {
            (&Method::PUT, None) => {
                if call.header("content-type") != Some(document.content_type.as_str()) {
                    return storage_fault(403, "SignatureDoesNotMatch");
                }
                document.body = Some(call.body.clone());
                Reply::raw(200, Bytes::new())
            }
            (&Method::GET, Some(body)) => Reply::raw(200, body.clone()),
            _ => storage_fault(405, "MethodNotAllowed"),
        }
    }

    fn create(&mut self, visit: &mut Visit<'_>) -> Reply {
        let invalid = |text| refusal(400, "InvalidInput", text, "");
        let asked: Value = serde_json::from_slice(&visit.call.body).unwrap_or_default();
        if asked.get("feedType").and_then(Value::as_str) != Some("JSON_LISTINGS_FEED") {
            return invalid("feedType is not known here.");
        }
        let marketplaces = asked.get("marketplaceIds").and_then(Value::as_array);
        let own = Value::from(visit.options.marketplace_id.as_str());
        if !marketplaces.is_some_and(|ids| ids.contains(&own)) {
            return invalid("marketplaceIds is missing or names a marketplace of somebody else.");
        }
        let document = asked.get("inputFeedDocumentId").and_then(Value::as_str);
        let document = document.and_then(|id| self.documents.get(id)?.body.clone());
        let Some(document) = document else { return invalid("No such document was uploaded.") };
        self.last += 1;
        let feed = work(visit, self.last, &document);
        visit.stats.feeds += 1;
        visit.wakes.extend(feed.ends_at);
        self.made.insert(self.last, feed);
        Reply::new(202, json!({"feedId": self.last.to_string()}))
    }

    fn show(&self, visit: &Visit<'_>, id: &str) -> Reply {
        let now = visit.now.ms;
        let Some(feed) = id.parse().ok().and_then(|id: u64| self.made.get(&id)) else {
            return refusal(404, "NotFound", "There is no such feed.", "");
        };
        let status = match feed.ends_at {
            Some(at) if now >= at => feed.ends,
            _ if now >= feed.begins_at => "IN_PROGRESS",
            _ => "IN_QUEUE",
        };
        let mut body = json!({
            "feedId": id,
            "feedType": "JSON_LISTINGS_FEED",
            "createdTime": crate::clock::utc_seconds(feed.begins_at),
            "processingStatus": status,
        });
        if let (Some(body), "DONE") = (body.as_object_mut(), status) {
            body.insert("resultFeedDocumentId".to_owned(), report_id(id).into());
        }
        Reply::new(200, body)
    }

    /// Where the report of a feed is downloaded: as a gzip file.
    fn report(&mut self, visit: &mut Visit<'_>, document: &str) -> Reply {
        let missing = || refusal(404, "NotFound", "There is no such document.", "");
        let id = document.rsplit('.').next().and_then(|id| id.parse::<u64>().ok());
        let done = id.and_then(|id| self.made.get(&id)).filter(|feed| {
            feed.ends == "DONE" && feed.ends_at.is_some_and(|at| visit.now.ms >= at)
        });
        let Some(feed) = done else { return missing() };
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        let text = feed.report.to_string();
        let Ok(body) = packed.write_all(text.as_bytes()).and_then(|()| packed.finish()) else {
            return missing();
        };
        let (url, signature) = url_of(visit, document);
        let until = visit.now.ms + URL_LIFE_MS;
        let (content_type, body) = (String::new(), Some(body.into()));
        let known = Document { content_type, signature, until, body };
        self.documents.insert(document.to_owned(), known);
        let algorithm = "GZIP";
        let body =
            json!({"feedDocumentId": document, "url": url, "compressionAlgorithm": algorithm});
        Reply::new(200, body)
    }

    /// Feeds that were worked through and of which nobody was told yet, with their status.
    pub(super) fn finished(&mut self, now: Millis) -> Vec<(String, &'static str)> {
        let ended = self
            .made
            .iter_mut()
            .filter(|(_, feed)| !feed.told && feed.ends_at.is_some_and(|at| now >= at));
        let tell = |(id, feed): (&u64, &mut Feed)| {
            feed.told = true;
            (id.to_string(), feed.ends)
        };
        ended.map(tell).collect()
    }
}

fn report_id(feed: &str) -> String {
    format!("amzn1.tortuga.4.na.{feed}")
}

fn url_of(visit: &mut Visit<'_>, id: &str) -> (String, String) {
    let signature = visit.random.uuid();
    let url = format!("{}{STORAGE}{id}?X-Amz-Signature={signature}", visit.call.origin);
    (url, signature)
}

fn storage_fault(status: u16, code: &str) -> Reply {
    Reply::raw(status, format!("<Error><Code>{code}</Code></Error>"))
}

/// What becomes of a feed is decided when it is made; it shows some time later.
fn work(visit: &mut Visit<'_>, id: u64, document: &[u8]) -> Feed {
    let now = visit.now.ms;
    let half = Millis::try_from(visit.options.feed_after.as_millis() / 2).unwrap_or(Millis::MAX);
    let (begins_at, at) = (now.saturating_add(half), now.saturating_add(half).saturating_add(half));
    let feed = |ends, report| Feed { begins_at, ends_at: Some(at), ends, report, told: false };
    let Some(rows) = messages(visit, document) else { return feed("FATAL", Value::Null) };
    let (random, faults) = (&mut *visit.random, visit.faults);
    let (cancelled, fatal) = (random.chance(faults.cancelled), random.chance(faults.fatal));
    let stuck = random.chance(faults.stuck);
    let (count, mut issues) = (rows.len(), Vec::new());
    for (nth, row) in rows.into_iter().enumerate() {
        let lies = visit.random.chance(visit.faults.report_lies);
        let fails = visit.random.chance(visit.faults.row_failed);
        let undone = cancelled || stuck || fatal && nth >= count / 2;
        let judged = row.judged.and_then(|set| {
            let failed = || ("90220", "'batteries_required' is required but not supplied.".into());
            if !fails {
                return Ok(set);
            }
            visit.book.refuse(set.0, set.1, now);
            Err(failed())
        });
        match judged {
            Ok((index, quantity)) if lies || undone => visit.book.refuse(index, quantity, now),
            Ok((index, quantity)) => {
                visit.book.accept(index, quantity, now, at);
                visit.stats.rows += 1;
                continue;
            }
            Err((code, text)) => issues.push(json!({
                "messageId": row.id, "sku": row.sku, "code": code, "severity": "ERROR",
                "message": text,
            })),
        }
        visit.stats.rows_refused += 1;
    }
    let invalid = issues.len();
    let report = json!({
        "header": {
            "sellerId": visit.options.seller_id, "version": "2.0", "feedId": id.to_string(),
        },
        "issues": issues,
        "summary": {
            "errors": invalid, "warnings": 0, "messagesProcessed": count,
            "messagesAccepted": count - invalid, "messagesInvalid": invalid,
        },
    });
    let ends = if cancelled {
        "CANCELLED"
    } else if fatal {
        "FATAL"
    } else {
        "DONE"
    };
    let feed = feed(ends, report);
    if stuck { Feed { ends_at: None, ..feed } } else { feed }
}

/// The messages of a document; nothing if it is none that can be worked through.
fn messages(visit: &Visit<'_>, document: &[u8]) -> Option<Vec<Row>> {
    let document: Value = serde_json::from_slice(document).ok()?;
    let header = document.get("header")?;
    let own = header.get("sellerId")?.as_str()? == visit.options.seller_id;
    let messages = document.get("messages")?.as_array()?;
    let fits = own && header.get("version")? == "2.0";
    if !fits || messages.is_empty() || messages.len() > MESSAGES_MAX {
        return None;
    }
    let mut ids = BTreeSet::new();
    let rows = messages.iter().map(|message| {
        let id = message.get("messageId")?.as_u64().filter(|id| *id > 0 && ids.insert(*id))?;
        let sku = message.get("sku")?.as_str()?.to_owned();
        let judged = judge(visit, message, &sku);
        Some(Row { id, sku, judged })
    });
    rows.collect()
}

fn judge(
    visit: &Visit<'_>,
    message: &Value,
    sku: &str,
) -> Result<(usize, i64), (&'static str, String)> {
    let wrong = |text: &str| ("90041", text.to_owned());
    let index = visit.book.shelf_of_sku(sku);
    let index = index.ok_or_else(|| ("13013", format!("SKU '{sku}' does not exist.")))?;
    if message.get("productType").and_then(Value::as_str) != Some(&visit.options.product_type) {
        return Err(wrong("The product type is not that of the listing."));
    }
    let value = match message.get("operationType").and_then(Value::as_str) {
        Some("PATCH") => {
            let patch = message.pointer("/patches/0").ok_or_else(|| wrong("There is no patch."))?;
            let known = matches!(patch.get("op").and_then(Value::as_str), Some("add" | "replace"));
            let at = patch.get("path").and_then(Value::as_str);
            if !known || at != Some("/attributes/fulfillment_availability") {
                return Err(wrong("The operation or the path of the patch is not known here."));
            }
            patch.clone()
        }
        Some("PARTIAL_UPDATE") => {
            json!({"value": message.pointer("/attributes/fulfillment_availability")})
        }
        _ => return Err(wrong("The operation would replace or delete the listing.")),
    };
    quantity(&value).map(|quantity| (index, quantity)).map_err(|text| ("90244", text.to_owned()))
}
