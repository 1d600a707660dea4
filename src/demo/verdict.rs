//! The demo's verdict: what the channels were promised, held against what the nodes say.
#![expect(clippy::indexing_slicing, reason = "JSON indexed by name is null where nothing is")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hyper::Method;
use marketplace::{Store, Warehouse};
use serde_json::Value;

use super::books::{self, Differences};
use super::nodes::Nodes;
use super::others::Others;
use super::{SKUS, receive, sku};
use crate::cli::say;
use crate::client::Client;

/// For so long all replicas are asked at one index.
const COMPARED: Duration = Duration::from_secs(30);

/// Waits until nothing is on its way any more, or `most` has passed; false then.
///
/// A channel that cannot compare may have been told a quantity over a sale of the same moment, or have put back on
/// sale what was cancelled, or not: the next reading tells. So at the end one more delivery arrives, and then all
/// are read once more.
pub(super) async fn settle(
    nodes: &Nodes,
    (stores, others): (&[Store], &Others),
    warehouse: &Warehouse,
    most: Duration,
) -> bool {
    for store in stores {
        store.stop_selling();
    }
    let rest = async {
        for store in stores {
            store.drained().await;
        }
        others.rest().await;
        // What was lost on the way is found by polling.
        let api = nodes.api(0);
        let compare = || books::compare(&api, (stores, others));
        while !compare().await.is_ok_and(|found| found.are_none()) {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let each = i64::try_from(stores.len() + others.shown().count()).unwrap_or(0);
        (0..SKUS).for_each(|n| warehouse.receive(&sku(n), each));
        while let Err(error) = receive(nodes, "closing", each).await {
            tracing::debug!(error, "the last receipt is not booked yet");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        come_to_rest(nodes).await;
        let pushed = others.shown().map(|(name, _)| name);
        for name in stores.iter().map(|store| store.options().name.clone()).chain(pushed) {
            while let Err(error) = push_all(&api, &name).await {
                tracing::debug!(%error, name, "what the channel shows is not asked for yet");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
        come_to_rest(nodes).await;
    };
    let settled = tokio::time::timeout(most, rest).await.is_ok();
    if !settled {
        say(&format!("after {} s something is still on its way", most.as_secs()));
    }
    settled
}

async fn push_all(api: &Client, channel: &str) -> Result<(), crate::client::Error> {
    api.call(Method::POST, &format!("/v1/channels/{channel}/push"), None).await.map(drop)
}

async fn come_to_rest(nodes: &Nodes) {
    while !at_rest(nodes).await {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// All nodes are at one index with empty inboxes, and no channel waits for a push.
async fn at_rest(nodes: &Nodes) -> bool {
    let mut indexes = BTreeSet::new();
    for n in 0..nodes.count() {
        let Some(status) = nodes.status(n).await else { return false };
        if status["backlog"] != 0 {
            return false;
        }
        indexes.insert(status["index"].as_u64());
    }
    let channels = nodes.api(0).call(Method::GET, "/v1/channels", None).await;
    let channels = channels.map(|page| page["items"].clone()).unwrap_or_default();
    let quiet = |channel: &Value| channel["backlog"] == 0 && channel["in_flight"] == 0;
    indexes.len() == 1 && channels.as_array().is_some_and(|all| all.iter().all(quiet))
}

/// What the verdict is made of.
#[derive(Default)]
struct Findings {
    sent: u64,
    acknowledged: u64,
    given_up: u64,
    dropped: u64,
    duplicates_sent: u64,
    books: Differences,
    told: Vec<String>,
    listings: u64,
    too_many_shown: Vec<String>,
    misbelieved: Vec<String>,
    held_back: i64,
    replicas_differ: Vec<String>,
    oversold: u64,
    worst_ms: u64,
}

/// Says what became of every promise; an error if one was broken.
pub(super) async fn give(
    nodes: &Nodes,
    (stores, others): (&[Store], &Others),
    warehouse: &Warehouse,
    story: &[String],
) -> Result<(), String> {
    let api = nodes.api(0);
    let mut findings = Findings {
        oversold: warehouse.oversold_units(),
        books: books::compare(&api, (stores, others)).await?,
        ..Findings::default()
    };
    for store in stores {
        let stats = store.stats();
        findings.sent += stats.webhooks;
        findings.acknowledged += stats.acknowledged;
        findings.given_up += stats.given_up;
        findings.duplicates_sent += stats.duplicates;
        findings.dropped += stats.webhooks_dropped;
    }
    let told = stores.iter().map(|store| (store.options().name.clone(), store.stats().rows));
    let told = told.chain(others.told()).map(|(name, rows)| format!("{name} {rows}"));
    findings.told = told.collect();
    for tally in others.tallies() {
        findings.sent += tally.sent;
        findings.acknowledged += tally.acknowledged;
        findings.given_up += tally.given_up;
        findings.duplicates_sent += tally.duplicates;
        findings.dropped += tally.dropped;
    }
    let shown: Vec<_> = stores
        .iter()
        .map(|store| (store.options().name.clone(), store.shown()))
        .chain(others.shown())
        .collect();
    check_quantities(&api, &shown, &mut findings).await?;
    check_replicas(nodes, &shown, &mut findings).await;
    for event in story {
        say(&format!("  {event}"));
    }
    findings.print()
}

/// What each channel that is pushed to shows of every SKU.
type Shown = [(String, BTreeMap<String, i64>)];

/// No channel shows more than the ledger wants it to show, nor anything else than the ledger believes. It may show
/// fewer than wanted where a killed node's last push has an unknown outcome: what it may have added is held back until
/// it cannot be sold any more.
async fn check_quantities(
    api: &Client,
    channels: &Shown,
    findings: &mut Findings,
) -> Result<(), String> {
    let page = api.call(Method::GET, "/v1/stock?limit=1000", None).await;
    let page = page.map_err(|error| error.to_string())?;
    for stock in page["items"].as_array().into_iter().flatten() {
        let sku = stock["sku"].as_str().unwrap_or_default();
        for (name, shown) in channels {
            let listing = &stock["channels"][name.as_str()];
            let (desired, believed) = (listing["desired"].as_i64(), listing["shown"].as_i64());
            let shown = shown.get(sku).copied();
            findings.listings += 1;
            if shown != believed {
                let finding = format!("{name} shows {shown:?} of {sku}, believed is {believed:?}");
                findings.misbelieved.push(finding);
            }
            if shown > desired || shown.is_none() {
                let finding = format!("{name} shows {shown:?} of {sku}, it should be {desired:?}");
                findings.too_many_shown.push(finding);
            }
            findings.held_back += desired.unwrap_or(0) - shown.unwrap_or(0);
        }
    }
    Ok(())
}

/// All replicas have one digest at one index; the worst window is the worst that any node measured.
async fn check_replicas(nodes: &Nodes, channels: &Shown, findings: &mut Findings) {
    for n in 0..nodes.count() {
        for (name, _) in channels {
            let path = format!("/v1/channels/{name}");
            let channel = nodes.api(n).call(Method::GET, &path, None).await.unwrap_or_default();
            let worst = channel["window"]["max_ms"].as_u64().unwrap_or(0);
            findings.worst_ms = findings.worst_ms.max(worst);
        }
    }
    let until = tokio::time::Instant::now() + COMPARED;
    loop {
        let (mut digests, mut indices, mut told) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        for n in 0..nodes.count() {
            let status = nodes.status(n).await.unwrap_or_default();
            let digest = format!("{} at {}", status["digest"], status["index"]);
            told.push(format!("{}: {digest}", nodes.region(n)));
            digests.insert(digest);
            indices.insert(status["index"].as_u64());
        }
        // Even at rest something is agreed on now and then, and one node may be asked before it and one after it.
        let is_one_index = indices.len() == 1 && !indices.contains(&None);
        if is_one_index && digests.len() == 1 {
            return;
        }
        if is_one_index || tokio::time::Instant::now() >= until {
            findings.replicas_differ = told;
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl Findings {
    fn print(&self) -> Result<(), String> {
        say(&format!(
            "verdict\n  deliveries sent          {} (and {} again, as duplicates)\n  \
             acknowledged             {}\n  given up by the sender   {}\n  \
             never sent               {}\n  \
             order lines checked      {}\n  lost                     {}\n  \
             doubled                  {}\n  quantities told          {}\n  \
             listings checked         {}\n  showing too many         {}\n  \
             believed wrongly         {}\n  \
             units held back          {}\n  \
             oversold units           {}\n  worst consistency window {} ms\n  \
             replicas                 {}",
            self.sent,
            self.duplicates_sent,
            self.acknowledged,
            self.given_up,
            self.dropped,
            self.books.lines,
            self.books.lost.len(),
            self.books.doubled.len(),
            self.told.join(", "),
            self.listings,
            self.too_many_shown.len(),
            self.misbelieved.len(),
            self.held_back,
            self.oversold,
            self.worst_ms,
            if self.replicas_differ.is_empty() { "equal" } else { "DIFFER" },
        ));
        let Differences { lost, doubled, .. } = &self.books;
        let Self { replicas_differ, too_many_shown, misbelieved, .. } = self;
        let faults = [lost, doubled, replicas_differ, too_many_shown, misbelieved];
        for fault in faults.into_iter().flatten().take(20) {
            say(&format!("  ! {fault}"));
        }
        // Every SKU is split and nothing was counted down: only a raise could have caused one.
        if self.oversold > 0 {
            return Err(format!("{} units were oversold", self.oversold));
        }
        if self.sent > 0 && self.acknowledged == 0 {
            return Err("no delivery was acknowledged, so nothing was shown".into());
        }
        if faults.iter().any(|found| !found.is_empty()) {
            return Err("a promise was broken".into());
        }
        say("  every promise was kept");
        Ok(())
    }
}
