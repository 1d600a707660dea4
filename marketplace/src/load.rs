//! Many distinct, signed `orders/create` webhooks, built beforehand and sent fast, for benches.
//!
//! Everything is bounded by the number of deliveries. With a pace, latency counts from the moment at
//! which a delivery was due, so that a receiver that stalls cannot hide it by slowing the sender down.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Uri, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    Error, clock,
    options::Options,
    random::Random,
    shopify::{
        payload::{LineItem, Order},
        sign::{self, Delivery, Topic},
    },
};

/// Longest wait for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// How deliveries are sent.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Connections kept open side by side.
    pub connections: usize,
    /// Deliveries due in a second over all connections; with none, each connection sends its next as
    /// soon as it has its answer.
    pub per_second: Option<u32>,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Answers by status.
    pub by_status: BTreeMap<u16, u64>,
    /// Deliveries without an answer.
    pub failed: u64,
    /// From the first to the last.
    pub elapsed: Duration,
    /// Microseconds to the answer, of those that got one.
    pub latency_us: Histogram<u64>,
}

impl Report {
    /// Answers with any 2xx.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.by_status.range(200..300).map(|(_, count)| count).sum()
    }
}

/// Builds `count` distinct deliveries of one line each, over the items of `options` in turn, signed
/// with its secret. Fails if there is no item or a field cannot be a header.
pub fn prebuild(options: &Options, count: usize) -> Result<Vec<Delivery>, Error> {
    let mut random = Random::new(options.seed);
    let base = (1_u64 << 61) + (random.below(1 << 24) << 36);
    let now = clock::now_ms();
    let at = clock::shop_time(now, options.utc_offset_minutes);
    let mut ids = (base..).step_by(2);
    let mut deliveries = Vec::with_capacity(count);
    for (item, id) in options.items.iter().cycle().zip(&mut ids).take(count) {
        let line = LineItem::new(id + 1, item, 1);
        let order = Order::new(id, id - base, at.clone(), vec![line]);
        deliveries.push(Delivery {
            topic: Topic::OrdersCreate,
            shop_domain: options.domain(),
            api_version: options.api_version.clone(),
            webhook_id: random.uuid(),
            event_id: random.uuid(),
            triggered_at: clock::utc_time(now),
            body: order.body(),
        });
    }
    if deliveries.len() < count {
        return Err(Error::Options { field: "items", reason: "must not be empty".to_owned() });
    }
    Ok(deliveries)
}

/// The requests of these deliveries, signed: the work that must not be measured.
pub fn sign_all(
    deliveries: &[Delivery],
    url: &str,
    secret: &str,
) -> Result<Vec<Request<Full<Bytes>>>, Error> {
    let target = sign::target(url)?;
    let path = target.path_and_query().map_or("/", hyper::http::uri::PathAndQuery::as_str);
    let path: Uri = path.parse().map_err(|_| Error::Target(url.to_owned()))?;
    deliveries
        .iter()
        .map(|delivery| {
            let mut request = delivery.request(&target, secret)?;
            // A direct connection takes the path alone; the Host header is set already.
            *request.uri_mut() = path.clone();
            Ok(request)
        })
        .collect()
}

/// Sends each request once to the authority of `url` and counts the answers.
pub async fn send(
    url: &str,
    requests: Vec<Request<Full<Bytes>>>,
    plan: Plan,
) -> Result<Report, Error> {
    let target = sign::target(url)?;
    let authority = target.authority().ok_or_else(|| Error::Target(url.to_owned()))?;
    let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
    let work = Arc::new(Work {
        address,
        requests,
        next: AtomicUsize::new(0),
        start: Instant::now(),
        per_second: plan.per_second,
    });
    let mut senders = JoinSet::new();
    for _ in 0..plan.connections.max(1) {
        senders.spawn(Sender { work: Arc::clone(&work), report: Report::empty() }.run());
    }
    let mut total = Report::empty();
    while let Some(Ok(report)) = senders.join_next().await {
        total.add(&report);
    }
    total.elapsed = work.start.elapsed();
    Ok(total)
}

impl Report {
    fn empty() -> Self {
        // A minute at most, three digits: bounds that are always valid. A histogram that grows by itself
        // would clamp what is recorded with saturation to its first, small range.
        let latency_us =
            Histogram::new_with_bounds(1, 60_000_000, 3).unwrap_or_else(|_| unreachable!());
        Self { by_status: BTreeMap::new(), failed: 0, elapsed: Duration::ZERO, latency_us }
    }

    fn add(&mut self, other: &Self) {
        for (status, count) in &other.by_status {
            *self.by_status.entry(*status).or_default() += count;
        }
        self.failed += other.failed;
        self.latency_us += &other.latency_us;
    }
}

struct Work {
    address: String,
    requests: Vec<Request<Full<Bytes>>>,
    next: AtomicUsize,
    start: Instant,
    per_second: Option<u32>,
}

impl Work {
    /// The next request, and when it is due.
    fn take(&self) -> Option<(Request<Full<Bytes>>, Option<Instant>)> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        let request = self.requests.get(index)?.clone();
        let due = self.per_second.and_then(|rate| {
            let index = u64::try_from(index).ok()?;
            let micros = index.saturating_mul(1_000_000).checked_div(u64::from(rate))?;
            Some(self.start + Duration::from_micros(micros))
        });
        Some((request, due))
    }
}

struct Sender {
    work: Arc<Work>,
    report: Report,
}

type Connection = http1::SendRequest<Full<Bytes>>;

impl Sender {
    async fn run(mut self) -> Report {
        let mut connection: Option<Connection> = None;
        while let Some((request, due)) = self.work.take() {
            if let Some(due) = due {
                sleep_until(due).await;
            }
            let start = due.unwrap_or_else(Instant::now);
            let answer = exchange(&self.work.address, &mut connection, request);
            if let Ok(Ok(status)) = timeout(ANSWER_MAX, answer).await {
                *self.report.by_status.entry(status).or_default() += 1;
                let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.report.latency_us.saturating_record(micros);
            } else {
                self.report.failed += 1;
                connection = None;
            }
        }
        self.report
    }
}

/// Sends over the open connection, or a new one if there is none that still works.
async fn exchange(
    address: &str,
    connection: &mut Option<Connection>,
    request: Request<Full<Bytes>>,
) -> Result<u16, Box<dyn std::error::Error + Send + Sync>> {
    let mut open = match connection.take().filter(|open| !open.is_closed()) {
        Some(open) => open,
        None => connect(address).await?,
    };
    open.ready().await?;
    let response = open.send_request(request).await?;
    let status = response.status().as_u16();
    response.into_body().collect().await?;
    *connection = Some(open);
    Ok(status)
}

async fn connect(address: &str) -> Result<Connection, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends by itself when the sender is dropped.
    tokio::spawn(driver);
    Ok(sender)
}
