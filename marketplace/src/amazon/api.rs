//! Login with Amazon and the orders API, version 2026-01-01: what each call is answered; and where the
//! calls of the other APIs are answered. It reads no clock and opens no socket.
//!
//! Shapes and usage plans are those of Amazon's published model `orders_2026-01-01`.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use hyper::Method;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{
    Stats,
    book::{Book, Order, Status, order_id, order_number},
    feeds::Feeds,
    listings::{self, Plans},
    options::{Faults, Options, Rate},
};
use crate::{
    clock::{self, Millis, Now},
    random::{Random, name_hash},
    sender::{call::Call, tokens::Tokens},
};

const TOKEN_PATH: &str = "/auth/o2/token";
/// What access tokens begin with.
const TOKEN_PREFIX: &str = "Atza|";
const ORDERS_PATH: &str = "/orders/2026-01-01/orders";
const PAGE_MAX: usize = 100;

/// What a call is answered.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Value,
    /// What is sent instead of it, if it is no JSON.
    pub(crate) raw: Option<Bytes>,
    /// For `x-amzn-RateLimit-Limit`.
    pub(crate) rate: Option<f64>,
}

impl Reply {
    pub(super) fn new(status: u16, body: Value) -> Self {
        Self { status, body, raw: None, rate: None }
    }

    /// One that is no JSON.
    pub(super) fn raw(status: u16, body: impl Into<Bytes>) -> Self {
        Self { raw: Some(body.into()), ..Self::new(status, Value::Null) }
    }
}

/// A refusal in the shape of the Selling Partner API.
pub(crate) fn refusal(status: u16, code: &str, message: &str, details: &str) -> Reply {
    let error = json!({"code": code, "message": message, "details": details});
    Reply::new(status, json!({"errors": [error]}))
}

/// Over the quota. There is no `Retry-After`.
pub(crate) fn over_quota() -> Reply {
    refusal(429, "QuotaExceeded", "You exceeded your quota for the requested resource.", "")
}

/// A call, and all that answering it may look at and change.
pub(crate) struct Visit<'a> {
    pub(crate) options: &'a Options,
    pub(crate) call: &'a Call,
    pub(crate) book: &'a mut Book,
    pub(crate) faults: &'a Faults,
    /// What goes wrong.
    pub(crate) random: &'a mut Random,
    pub(crate) stats: &'a mut Stats,
    pub(crate) now: Now,
    /// When something will happen that was set off here.
    pub(crate) wakes: Vec<Millis>,
}

/// Who is let in, and how often.
pub(crate) struct Desk {
    tokens: Tokens<()>,
    /// The seller took back what he had granted.
    pub(crate) revoked: bool,
    listings: Plans,
    pub(super) feeds: Feeds,
    search: Bucket,
    order: Bucket,
}

impl Desk {
    pub(crate) fn new(options: &Options, now: Instant) -> Self {
        Self {
            tokens: Tokens::new(options.token_life, options.seed ^ name_hash("tokens")),
            revoked: false,
            listings: Plans::new(options, now),
            feeds: Feeds::new(options, now),
            search: Bucket::full(options.search_rate, options.time_scale, now),
            order: Bucket::full(options.order_rate, options.time_scale, now),
        }
    }

    /// Access tokens that were handed out are good no longer.
    pub(crate) fn expire_tokens(&mut self) {
        self.tokens.expire();
    }

    pub(crate) fn answer(&mut self, visit: &mut Visit<'_>) -> Reply {
        let path = visit.call.path.as_str();
        if Feeds::is_storage(path) {
            return self.feeds.storage(visit);
        }
        let is_listings = path.starts_with(listings::PATH);
        if !is_listings && !Feeds::is_feeds(path) {
            return self.orders(visit);
        }
        if let Some(refusal) = self.refuse_token(visit.call, visit.now.ms) {
            visit.stats.unauthorized += 1;
            return refusal;
        }
        if is_listings { self.listings.answer(visit) } else { self.feeds.answer(visit) }
    }

    fn orders(&mut self, visit: &mut Visit<'_>) -> Reply {
        let Visit { options, call, book, stats, now, .. } = visit;
        let now = *now;
        if call.method == Method::POST && call.path == TOKEN_PATH {
            return self.token(options, call, stats, now.ms);
        }
        let Some(rest) = call.path.strip_prefix(ORDERS_PATH).filter(|_| call.method == Method::GET)
        else {
            return refusal(404, "NotFound", "The resource specified does not exist.", "");
        };
        if let Some(refusal) = self.refuse_token(call, now.ms) {
            stats.unauthorized += 1;
            return refusal;
        }
        let bucket = if rest.is_empty() { &mut self.search } else { &mut self.order };
        if !bucket.take(now.instant) {
            stats.throttled += 1;
            return Reply { rate: Some(bucket.rate.per_second), ..over_quota() };
        }
        let rate = Some(bucket.rate.per_second);
        let reply = match rest.strip_prefix('/') {
            None => {
                stats.searches += 1;
                search(options, call, book, now.ms).unwrap_or_else(|invalid| invalid)
            }
            Some(id) => {
                stats.reads += 1;
                match order_number(id).and_then(|number| book.order(number)) {
                    Some(order) => Reply::new(200, json!({"order": wire(options, call, order)})),
                    None => refusal(404, "NotFound", "The order was not found.", ""),
                }
            }
        };
        Reply { rate, ..reply }
    }

    /// Login with Amazon: a refresh token for an access token.
    fn token(&mut self, options: &Options, call: &Call, stats: &mut Stats, now: Millis) -> Reply {
        let wrong = |status, error, text| {
            Reply::new(status, json!({"error": error, "error_description": text}))
        };
        let is = |name: &str, right: &str| call.form(name).as_deref() == Some(right);
        if !is("grant_type", "refresh_token") {
            let text = "The authorization grant type is not supported by the authorization server";
            return wrong(400, "unsupported_grant_type", text);
        }
        if !is("client_id", &options.client_id) || !is("client_secret", &options.client_secret) {
            stats.unauthorized += 1;
            return wrong(401, "invalid_client", "Client authentication failed");
        }
        if !is("refresh_token", &options.refresh_token) || self.revoked {
            stats.unauthorized += 1;
            return wrong(400, "invalid_grant", "The request has an invalid grant parameter");
        }
        let (token, life_s) = self.tokens.issue((), now);
        stats.tokens += 1;
        Reply::new(
            200,
            json!({
                "access_token": format!("{TOKEN_PREFIX}{token}"),
                "refresh_token": options.refresh_token,
                "token_type": "bearer",
                "expires_in": life_s,
            }),
        )
    }

    fn refuse_token(&self, call: &Call, now: Millis) -> Option<Reply> {
        let denied = |details| {
            let message = "Access to requested resource is denied.";
            Some(refusal(403, "Unauthorized", message, details))
        };
        let Some(token) = call.header("x-amz-access-token") else {
            return denied("Access token is missing in the request header.");
        };
        let token = token.strip_prefix(TOKEN_PREFIX).unwrap_or_default();
        if self.tokens.grant(token, now).is_some() && !self.revoked {
            return None;
        }
        denied(if self.tokens.is_known(token) && !self.revoked {
            "The access token you provided has expired."
        } else {
            "The access token you provided is revoked, malformed or invalid."
        })
    }
}

/// A page of orders by their last change, oldest first.
fn search(options: &Options, call: &Call, book: &Book, now: Millis) -> Result<Reply, Reply> {
    let invalid = |text: &str| refusal(400, "InvalidInput", text, "");
    let lag = Duration::try_from_secs_f64(options.search_lag.as_secs_f64() / options.time_scale);
    let lag = lag.ok().and_then(|lag| Millis::try_from(lag.as_millis()).ok());
    let newest = now.saturating_sub(lag.unwrap_or(Millis::MAX));
    let newest = if options.whole_seconds { newest - newest.rem_euclid(1000) } else { newest };
    let max = match call.param("maxResultsPerPage") {
        None => PAGE_MAX,
        Some(text) => text
            .parse()
            .ok()
            .filter(|max| (1..=PAGE_MAX).contains(max))
            .ok_or_else(|| invalid("maxResultsPerPage must be between 1 and 100."))?,
    };
    let time = |name: &str| {
        let parsed = call.param(name).map(str::parse::<Timestamp>).transpose();
        let parsed = parsed.map_err(|_| invalid(&format!("{name} is not an ISO 8601 time.")))?;
        Ok(parsed.map(Timestamp::as_millisecond))
    };
    let page = if let Some(token) = call.param("paginationToken") {
        Page::read(token).ok_or_else(|| invalid("The paginationToken is not valid."))?
    } else {
        let Some(after) = time("lastUpdatedAfter")? else {
            return Err(invalid("lastUpdatedAfter is required here."));
        };
        let before = time("lastUpdatedBefore")?;
        if before.is_some_and(|before| before > newest || before < after) {
            return Err(invalid(
                "lastUpdatedBefore must be after lastUpdatedAfter and 2 minutes old.",
            ));
        }
        Page { next: (after, 0), before: before.unwrap_or(newest) }
    };
    let mut found =
        book.updated(page.next, page.before).filter(|order| wanted(options, call, order));
    let orders: Vec<Value> =
        found.by_ref().take(max).map(|order| wire(options, call, order)).collect();
    let next = found.next().map(|order| (order.updated_ms, order.number));
    let mut body = json!({
        "orders": orders,
        "lastUpdatedBefore": written(options, page.before),
    });
    if let (Some(body), Some(next)) = (body.as_object_mut(), next) {
        let token = Page { next, ..page }.write();
        body.insert("pagination".to_owned(), json!({"nextToken": token}));
    }
    Ok(Reply::new(200, body))
}

/// A place in the answers of one search.
#[derive(Clone, Copy)]
struct Page {
    next: (Millis, u64),
    before: Millis,
}

impl Page {
    fn write(self) -> String {
        let ((at, number), before) = (self.next, self.before);
        URL_SAFE_NO_PAD.encode(format!("{at}.{number}.{before}"))
    }

    fn read(token: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let (at, rest) = text.split_once('.')?;
        let (number, before) = rest.split_once('.')?;
        let next = (at.parse().ok()?, number.parse().ok()?);
        Some(Self { next, before: before.parse().ok()? })
    }
}

fn wanted(options: &Options, call: &Call, order: &Order) -> bool {
    let is = |name: &str, value: &str| {
        let list = call.list(name);
        list.is_empty() || list.contains(&value)
    };
    is("marketplaceIds", &options.marketplace_id)
        && is("fulfilledBy", fulfilled_by(order))
        && is("fulfillmentStatuses", status(order))
}

/// An order as the API shows it. What became of it is shown only to who asks for `FULFILLMENT`.
fn wire(options: &Options, call: &Call, order: &Order) -> Value {
    let full = call.list("includedData").contains(&"FULFILLMENT");
    let items: Vec<Value> = order
        .lines
        .iter()
        .map(|line| {
            let left = line.quantity - line.shipped;
            let left = if order.status == Status::Canceled { 0 } else { left };
            let fulfillment = json!({
                "quantityFulfilled": line.shipped,
                "quantityUnfulfilled": left,
            });
            let mut item = json!({
                "orderItemId": line.item_id.to_string(),
                "quantityOrdered": line.quantity,
                "product": {"sellerSku": line.sku, "title": line.sku},
            });
            extend(&mut item, full.then_some(("fulfillment", fulfillment)));
            item
        })
        .collect();
    let mut wire = json!({
        "orderId": order_id(order.number),
        "createdTime": written(options, order.created_ms),
        "lastUpdatedTime": written(options, order.updated_ms),
        "salesChannel": {
            "channelName": "AMAZON",
            "marketplaceId": options.marketplace_id,
            "marketplaceName": "Amazon.com",
        },
        "orderItems": items,
    });
    let fulfillment = json!({
        "fulfillmentStatus": status(order),
        "fulfilledBy": fulfilled_by(order),
        "fulfillmentServiceLevel": "STANDARD",
    });
    extend(&mut wire, full.then_some(("fulfillment", fulfillment)));
    wire
}

fn extend(value: &mut Value, member: Option<(&str, Value)>) {
    let members: Option<&mut Map<String, Value>> = value.as_object_mut();
    if let (Some(members), Some((name, member))) = (members, member) {
        members.insert(name.to_owned(), member);
    }
}

/// The API's words for what notifications spell otherwise.
fn status(order: &Order) -> &'static str {
    match order.status {
        Status::Pending => "PENDING",
        Status::Unshipped => "UNSHIPPED",
        Status::PartiallyShipped => "PARTIALLY_SHIPPED",
        Status::Shipped => "SHIPPED",
        Status::Canceled => "CANCELLED",
    }
}

fn fulfilled_by(order: &Order) -> &'static str {
    if order.amazon_fulfilled { "AMAZON" } else { "MERCHANT" }
}

fn written(options: &Options, at: Millis) -> String {
    if options.whole_seconds { clock::utc_seconds(at) } else { clock::utc_time(at) }
}

/// A usage plan at work.
pub(super) struct Bucket {
    rate: Rate,
    time_scale: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn full(rate: Rate, time_scale: f64, now: Instant) -> Self {
        Self { rate, time_scale, level: rate.burst, at: now }
    }

    /// What the plan says.
    pub(super) fn per_second(&self) -> f64 {
        self.rate.per_second
    }

    /// Takes one call out, or nothing if there is none.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64() * self.time_scale;
        self.at = now;
        self.level = (self.level + passed * self.rate.per_second).min(self.rate.burst);
        let some = self.level >= 1.0;
        if some {
            self.level -= 1.0;
        }
        some
    }
}
