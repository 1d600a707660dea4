//! The demo's verdict: what the stores were promised, held against what the ledger says.
#![expect(clippy::indexing_slicing, reason = "JSON indexed by name is null where nothing is")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use hyper::Method;
use marketplace::history::{Cause, Progress};
use marketplace::shopify::payload::Restock;
use marketplace::shopify::sign::Topic;
use marketplace::{Store, Warehouse};
use serde_json::Value;

use super::nodes::Nodes;
use super::others::Others;
use crate::cli::say;
use crate::client::Client;

/// Waits until nothing is on its way any more, or `most` has passed; false then.
pub(super) async fn settle(
    nodes: &Nodes,
    (stores, others): (&[Store], &Others),
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
        while !others.check(&nodes.api(0)).await.is_ok_and(|found| found.is_empty()) {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        while !at_rest(nodes).await {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let settled = tokio::time::timeout(most, rest).await.is_ok();
    if !settled {
        say(&format!("after {} s something is still on its way", most.as_secs()));
    }
    settled
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
    duplicates_sent: u64,
    lines_checked: u64,
    lost: Vec<String>,
    doubled: Vec<String>,
    too_many_shown: Vec<String>,
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
    let mut findings = Findings { oversold: warehouse.oversold_units(), ..Findings::default() };
    let api = nodes.api(0);
    for store in stores {
        let stats = store.stats();
        findings.sent += stats.webhooks;
        findings.acknowledged += stats.acknowledged;
        findings.given_up += stats.given_up;
        findings.duplicates_sent += stats.duplicates;
    }
    for sender in &others.all {
        let stats = sender.stats();
        findings.sent += stats.webhooks;
        findings.acknowledged += stats.acknowledged;
        findings.given_up += stats.given_up;
        findings.duplicates_sent += stats.duplicates;
    }
    check_orders(&api, stores, &mut findings).await?;
    findings.lost.extend(others.check(&api).await?);
    check_quantities(&api, stores, &mut findings).await?;
    check_replicas(nodes, stores, &mut findings).await;
    for event in story {
        say(&format!("  {event}"));
    }
    findings.print()
}

/// Holds each order line that a store was answered 200 for against the ledger's movements.
async fn check_orders(
    api: &Client,
    stores: &[Store],
    findings: &mut Findings,
) -> Result<(), String> {
    let skus: BTreeSet<String> = stores
        .iter()
        .flat_map(|store| store.options().items.iter().map(|i| i.sku.clone()))
        .collect();
    let mut committed: BTreeMap<(String, String), i64> = BTreeMap::new();
    for sku in &skus {
        let mut path = format!("/v1/stock/{sku}/movements?limit=1000");
        loop {
            let page = api.call(Method::GET, &path, None).await.map_err(|e| e.to_string())?;
            for line in page["items"].as_array().into_iter().flatten() {
                let quantity = line["quantity"].as_i64().unwrap_or(0);
                let signed = match line["kind"].as_str() {
                    Some("sale") => quantity,
                    Some("cancellation") => -quantity,
                    _ => continue,
                };
                let channel = line["channel"].as_str().unwrap_or_default().to_string();
                if !stores.iter().any(|store| store.options().name == channel) {
                    continue;
                }
                let reference = line["reference"].as_str().unwrap_or_default().to_string();
                *committed.entry((channel, reference)).or_default() += signed;
            }
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/v1/stock/{sku}/movements?limit=1000&cursor={next}");
        }
    }
    for store in stores {
        let name = &store.options().name;
        for (reference, wanted) in verdict_lines(store) {
            findings.lines_checked += 1;
            let found = committed.remove(&(name.clone(), reference.clone())).unwrap_or(0);
            let finding = format!("{name} {reference}: {found} committed, {wanted:?} expected");
            // Between the least that was promised and the most that was ever said.
            if found < *wanted.start() {
                findings.lost.push(finding);
            } else if found > *wanted.end() {
                findings.doubled.push(finding);
            }
        }
    }
    let unknown = committed.into_iter().filter(|(_, units)| *units != 0);
    let unknown = unknown.map(|((channel, line), units)| {
        format!("{channel} {line}: {units} committed, and no store knows the line")
    });
    findings.doubled.extend(unknown);
    Ok(())
}

/// By order line, what the ledger must have committed: exactly what the store said, where all of it was
/// acknowledged; else between what was promised and what may have arrived.
fn verdict_lines(store: &Store) -> BTreeMap<String, RangeInclusive<i64>> {
    let history = store.history();
    let mut known = BTreeSet::new();
    let mut refunds = BTreeSet::new();
    for webhook in history.webhooks.iter().filter(|w| w.progress == Progress::Acknowledged) {
        if webhook.topic != Topic::RefundsCreate {
            known.insert(webhook.order_id);
        }
        refunds.extend(webhook.refund_ids.iter().copied());
    }
    // Sold, then the least and the most that was cancelled of it.
    let mut lines: BTreeMap<(u64, u64), (i64, i64, i64)> = BTreeMap::new();
    for movement in &history.movements {
        let line = lines.entry((movement.order_id, movement.line_id)).or_default();
        let quantity = i64::from(movement.quantity);
        match movement.cause {
            Cause::Sold => line.0 += quantity,
            Cause::Cancelled(Restock::Cancel) | Cause::Refunded(Restock::Cancel) => {
                line.2 += quantity;
                if movement.refund_id.is_some_and(|refund| refunds.contains(&refund)) {
                    line.1 += quantity;
                }
            }
            Cause::Cancelled(_) | Cause::Refunded(_) => {}
        }
    }
    let wanted = lines.into_iter().map(|((order, line), (sold, least, most))| {
        let range = if known.contains(&order) { sold - most..=sold - least } else { 0..=sold };
        (format!("{order}/{line}"), range)
    });
    wanted.collect()
}

/// No store shows more than the ledger wants it to show. It may show fewer where a killed node's last
/// push has an unknown outcome: what it may have added is held back until it cannot be sold any more.
async fn check_quantities(
    api: &Client,
    stores: &[Store],
    findings: &mut Findings,
) -> Result<(), String> {
    let page = api.call(Method::GET, "/v1/stock?limit=1000", None).await;
    let page = page.map_err(|error| error.to_string())?;
    for stock in page["items"].as_array().into_iter().flatten() {
        let sku = stock["sku"].as_str().unwrap_or_default();
        for store in stores {
            let name = &store.options().name;
            let desired = stock["channels"][name.as_str()]["desired"].as_i64();
            let shown = store.available(sku);
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
async fn check_replicas(nodes: &Nodes, stores: &[Store], findings: &mut Findings) {
    let mut seen = BTreeMap::new();
    for n in 0..nodes.count() {
        let Some(status) = nodes.status(n).await else {
            findings.replicas_differ.push(format!("{} does not answer", nodes.region(n)));
            continue;
        };
        let digest = format!("{} at {}", status["digest"], status["index"]);
        seen.insert(digest.clone(), format!("{}: {digest}", nodes.region(n)));
        for store in stores {
            let path = format!("/v1/channels/{}", store.options().name);
            let channel = nodes.api(n).call(Method::GET, &path, None).await.unwrap_or_default();
            let worst = channel["window"]["max_ms"].as_u64().unwrap_or(0);
            findings.worst_ms = findings.worst_ms.max(worst);
        }
    }
    if seen.len() > 1 {
        findings.replicas_differ.extend(seen.into_values());
    }
}

impl Findings {
    fn print(&self) -> Result<(), String> {
        say(&format!(
            "verdict\n  deliveries sent          {} (and {} again, as duplicates)\n  \
             acknowledged             {}\n  given up by the sender   {}\n  \
             order lines checked      {}\n  lost                     {}\n  \
             doubled                  {}\n  showing too many         {}\n  \
             units held back          {}\n  \
             oversold units           {}\n  worst consistency window {} ms\n  \
             replicas                 {}",
            self.sent,
            self.duplicates_sent,
            self.acknowledged,
            self.given_up,
            self.lines_checked,
            self.lost.len(),
            self.doubled.len(),
            self.too_many_shown.len(),
            self.held_back,
            self.oversold,
            self.worst_ms,
            if self.replicas_differ.is_empty() { "equal" } else { "DIFFER" },
        ));
        let faults = [&self.lost, &self.doubled, &self.replicas_differ, &self.too_many_shown];
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
