//! Webhooks on their way: signed, lost, late, repeated, overtaken, sent again until somebody answers 200.
//! A node judges and understands them with the product's own code.

use std::time::Duration;

use bytes::Bytes;
use channels::signature::{self, Judged, Scheme};
use hyper::{HeaderMap, Method};
use marketplace::clock::utc_time;
use marketplace::generic;
use marketplace::shopify::sign::{self, Topic};
use serde_json::json;
use tokio::time::sleep;

use super::book::Sent;
use super::faults::Fault;
use super::truth::LineId;
use super::world::{NODES, Sim, World};
use super::{TILLS, is_till, shop};
use crate::channel::{self, Meant, key};
use crate::route::Router;

/// How often a webhook is tried, and the pauses between: about four hours, as Shopify does.
const ATTEMPTS: u32 = 10;
const PAUSE_MIN: Duration = Duration::from_secs(10);
/// A pause at the most, once faults have stopped.
const PAUSE_CALM: Duration = Duration::from_secs(60);
const SHOP_SECRET: &str = "a secret of all marketplaces";
/// Base64.
const TILL_SECRET: &str = "c2VjcmV0IG9mIHRpbGxz";

/// What one webhook says.
#[derive(Clone)]
pub(super) struct Webhook {
    channel: String,
    /// The sender's own id of it.
    id: String,
    /// Its name at marketplaces; tills write it into the body.
    topic: Option<Topic>,
    body: Bytes,
    /// The line that it alone tells of, where nothing else makes good for it.
    line: Option<LineId>,
}

/// How a channel signs.
pub(super) fn scheme(channel: &str) -> Result<Scheme, String> {
    if is_till(channel) {
        Scheme::standard_webhooks(&[format!("whsec_{TILL_SECRET}")])
    } else {
        Scheme::shopify(&[SHOP_SECRET])
    }
}

impl Webhook {
    /// A marketplace's.
    pub(super) fn of_market(world: &mut World, m: usize, (topic, body): shop::Body) -> Self {
        let (channel, id) = (world.market(m).name.clone(), world.book.serial());
        Self { channel, id: format!("w{id}"), topic: Some(topic), body, line: None }
    }

    /// A till's, of a sale of one line.
    pub(super) fn of_till(world: &mut World, (channel, order): (&str, &str), line: LineId) -> Self {
        let (id, now) = (world.book.serial(), world.now);
        let quantity = world.log.truth.lines.get(&line).map_or(0, |line| line.real.sold);
        let body = json!({
            "type": "order.created",
            "timestamp": utc_time(i64::try_from(now).unwrap_or(0)),
            "data": {
                "order": order, "version": now, "whole": false,
                "lines": [{ "id": "1", "sku": line.2, "quantity": quantity }],
            },
        });
        let body = body.to_string().into_bytes().into();
        Self { channel: channel.into(), id: format!("w{id}"), topic: None, body, line: Some(line) }
    }

    fn key(&self) -> String {
        format!("{}:{}", self.channel, self.id)
    }

    /// The headers, signed at a time.
    fn headers(&self, now: u64) -> Option<HeaderMap> {
        if let Some(topic) = self.topic {
            let time = utc_time(i64::try_from(now).unwrap_or(0));
            let delivery = sign::Delivery {
                topic,
                shop_domain: format!("{}.invalid", self.channel),
                api_version: "2026-04".into(),
                webhook_id: self.id.clone(),
                event_id: self.id.clone(),
                triggered_at: time,
                body: self.body.clone(),
            };
            return delivery.headers(SHOP_SECRET).ok();
        }
        let (id, timestamp) = (&self.id, (now / 1000).to_string());
        let code = generic::signature(TILL_SECRET, id, &timestamp, &self.body);
        let mut headers = HeaderMap::new();
        let fields =
            [("webhook-id", id), ("webhook-timestamp", &timestamp), ("webhook-signature", &code)];
        for (name, value) in fields {
            headers.insert(name, value.parse().ok()?);
        }
        Some(headers)
    }
}

/// Sends a webhook, in a task of its own.
pub(super) fn send(sim: &Sim, world: &mut World, webhook: Webhook) {
    let sent =
        Sent { channel: webhook.channel.clone(), line: webhook.line.clone(), ..Sent::default() };
    world.book.sent.insert(webhook.key(), sent);
    world.busy += 1;
    let repeated = world.happens(Fault::WebhookRepeated);
    let (sim, of_task) = (sim.clone(), webhook);
    tokio::spawn(async move {
        attempts(&sim, &of_task).await;
        if repeated {
            let later = sim.with(|world| world.between(1_000, 3_600_000));
            sleep(later).await;
            let n = sim.with(|world| world.any(NODES));
            attempt(&sim, n, &of_task).await;
        }
        sim.with(|world| world.busy -= 1);
    });
}

async fn attempts(sim: &Sim, webhook: &Webhook) {
    let mut pause = PAUSE_MIN;
    for _ in 0..ATTEMPTS {
        let (lost, unheard, there, n) = sim.with(|world| {
            let usual = world.between(50, 2_000);
            let late = world.happens(Fault::WebhookLate);
            let late = if late { world.between(5_000, 780_000) } else { Duration::ZERO };
            let n = world.any(NODES);
            (world.happens(Fault::WebhookLost), world.happens(Fault::AnswerLost), usual + late, n)
        });
        sleep(there).await;
        if !lost && attempt(sim, n, webhook).await && !unheard {
            return;
        }
        let calm = sim.with(|world| !world.faulty);
        sleep(if calm { pause.min(PAUSE_CALM) } else { pause }).await;
        pause = (pause * 2).min(Duration::from_secs(3_600));
    }
}

/// A node takes a webhook in as its listener does. Whether it answered 200.
async fn attempt(sim: &Sim, n: usize, webhook: &Webhook) -> bool {
    let (door, now, clock) = sim.with(|world| {
        let now = world.now;
        let node = world.node(n);
        let known = node.replica.state.data().channels.contains_key(&webhook.channel);
        (node.door.clone().filter(|_| known), now, node.clock(now))
    });
    let Some(door) = door else { return false };
    let Some(meant) = webhook
        .headers(now)
        .and_then(|headers| judge(sim, (webhook, &headers), clock, door.local.router()))
    else {
        return false;
    };
    let Meant::Delivery(delivery, None) = meant else {
        let how = format!("{} is genuine, and was not understood: {meant:?}", webhook.key());
        sim.with(|world| world.breaks("I1", how));
        return false;
    };
    sim.with(|world| {
        world.book.sent.entry(webhook.key()).or_default().possible = true;
    });
    let waits = is_agreed_first(&webhook.channel);
    let intake = if waits { &door.quorum } else { &door.local };
    let kept = tokio::select! {
        biased;
        () = door.stop.cancelled() => return false,
        kept = intake.keep(*delivery) => kept.is_ok(),
    };
    sim.with(|world| answered(world, n, webhook, kept));
    kept
}

/// Whether a channel's deliveries are answered 200 once they are agreed on.
pub(super) fn is_agreed_first(channel: &str) -> bool {
    TILLS.get(1) == Some(&channel)
}

/// What a node makes of a request; nothing if it is refused.
fn judge(
    sim: &Sim,
    (webhook, headers): (&Webhook, &HeaderMap),
    clock: u64,
    router: &Router,
) -> Option<Meant> {
    let config = sim.config();
    let channel = config.channel(&webhook.channel)?;
    let scheme = channel.scheme.as_deref()?;
    let target = format!("/webhooks/{}", webhook.channel);
    let request = channels::Request {
        method: &Method::POST,
        target: &target,
        headers,
        body: &webhook.body,
        now_ms: clock,
    };
    if sim.with(|world| world.happens(Fault::WebhookForged)) {
        let mut body = webhook.body.to_vec();
        let n = sim.with(|world| world.any(body.len()));
        body.get_mut(n).into_iter().for_each(|byte| *byte ^= 1);
        if signature::verify(scheme, &channels::Request { body: &body, ..request }, None).is_ok() {
            sim.with(|world| world.breaks("I10", "a forged body was accepted"));
        }
    }
    let judged = signature::verify(scheme, &request, None);
    let Ok(Judged::Genuine(verified)) = judged else {
        sim.with(|world| world.tally.reach("webhook answered 401"));
        return None;
    };
    let parsed = channel::parse(channel, headers, verified);
    Some(channel::deliver(router, &channel.name, parsed, &webhook.body, clock))
}

fn answered(world: &mut World, n: usize, webhook: &Webhook, kept: bool) {
    world.tally.reach(if kept { "webhook answered 200" } else { "webhook answered 503" });
    if !kept {
        return;
    }
    let id = webhook.key();
    let agreed = world.log.head.state.data().seen.get(&key(id.as_bytes())).is_some();
    let waits = is_agreed_first(&webhook.channel);
    if waits && !agreed {
        world.breaks("I1", format!("{id} was answered 200 before it was agreed on"));
    }
    let sent = world.book.sent.entry(id).or_default();
    sent.promised = true;
    if !waits {
        sent.kept_by.insert(n);
    }
}
