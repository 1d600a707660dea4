//! Webhooks on their way: lost, late, repeated, overtaken, sent again until somebody answers 200.

use std::time::Duration;

use channels::{Parsed, Understood};
use state::command::Fact;
use tokio::time::sleep;

use super::book::Sent;
use super::faults::Fault;
use super::truth::LineId;
use super::world::{NODES, Sim, World};
use crate::channel::{self, Meant};

/// How often a webhook is tried, and the pauses between: about four hours, as Shopify does.
const ATTEMPTS: u32 = 10;
const PAUSE_MIN: Duration = Duration::from_secs(10);
/// A pause at the most, once faults have stopped.
const PAUSE_CALM: Duration = Duration::from_secs(60);

/// What one webhook says.
#[derive(Clone)]
pub(super) struct Webhook {
    pub(super) channel: String,
    /// The sender's own id of it.
    pub(super) id: String,
    pub(super) topic: &'static str,
    pub(super) fact: Fact,
    /// The line that it alone tells of, where nothing else makes good for it.
    pub(super) line: Option<LineId>,
}

impl Webhook {
    fn key(&self) -> String {
        format!("{}:{}", self.channel, self.id)
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

/// A node takes a webhook in as its listener does, once it is verified. Whether it answered 200.
async fn attempt(sim: &Sim, n: usize, webhook: &Webhook) -> bool {
    let (intake, now) = sim.with(|world| {
        let now = world.now;
        let node = world.node(n);
        let known = node.replica.state.data().channels.contains_key(&webhook.channel);
        (node.intake.clone().filter(|_| known), node.clock(now))
    });
    let Some((intake, stop)) = intake else { return false };
    let understood = Understood::Facts(vec![webhook.fact.clone()]);
    let parsed = Parsed { id: Some(webhook.id.clone()), ..Parsed::new(webhook.topic, understood) };
    let raw = format!("{:?}", webhook.fact);
    let Meant::Delivery(delivery, _) =
        channel::deliver(intake.router(), &webhook.channel, parsed, raw.as_bytes(), now)
    else {
        return false;
    };
    sim.with(|world| {
        world.book.sent.entry(webhook.key()).or_default().possible = true;
    });
    let kept = tokio::select! {
        biased;
        () = stop.cancelled() => return false,
        kept = intake.keep(*delivery) => kept,
    };
    let answer = if kept.is_ok() { "webhook answered 200" } else { "webhook answered 503" };
    sim.with(|world| {
        world.tally.reach(answer);
        if kept.is_ok() {
            world.book.sent.entry(webhook.key()).or_default().promised = true;
        }
    });
    kept.is_ok()
}
