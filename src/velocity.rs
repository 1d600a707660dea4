//! How fast listings sell and how late channels hear, measured outside of the agreed state and agreed on as numbers.
//!
//! A velocity is the mean of what was sold an hour, in which a sale weighs half as much with each half-life that has
//! passed. All that it takes is agreed on (units sold, the last velocity, when that was), so that whoever leads next
//! goes on where the last one stopped. Only what changed so much that it matters is proposed, in batches.
//!
//! An `auto` buffer covers what may be sold before the channel hears of it: in `shared`, what the other channels sell
//! during its lag; in `split`, what it sells itself, since nobody else sells of its share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cluster::{Clock, Role, codec};
use state::limits::{HOUR_MS, MEASURED_MAX, MINUTE_MS, WINDOW_SALE_MS};
use state::policy::{
    Buffer, HALF_LIFE_DEFAULT_MS, Mode, Policy, RISK_DEFAULT_PPM, WHOLE_PPM, policy_of,
};
use state::velocity::{Measured, Pace};
use state::{Command, Data, Id, NodeId};
use tokio_util::sync::CancellationToken;

use crate::agreed::Agreed;
use crate::config::Allocation;
use crate::measures::Measures;
use crate::poisson::{self, count, float};

const PROPOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Parts of the state that are looked at in one go, while nothing is applied.
const BUCKETS_AT_ONCE: usize = 64;
/// Commands of one turn; what is left waits for the next.
const COMMANDS_MAX: usize = 20;
/// A p99 of fewer cases is none.
const CASES_MIN: u64 = 20;
/// The share by which a velocity or a lag changes before that is said: a tenth.
const MATTERS: f64 = 0.1;
/// What sells less, in millionths of a unit an hour, sells nothing: one unit in more than a year.
const LEAST: u64 = 100;

/// Measures for as long as this node runs: lags of the channels that it pushes to, and, while it leads, velocities.
pub(crate) async fn run(
    node: NodeId,
    often: Allocation,
    cluster: impl Agreed,
    (clock, measures): (Clock, Arc<Measures>),
    stop: CancellationToken,
) {
    let mut turn = Turn { node, often, cluster, clock, measures, bucket: 0 };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = turn.work() => {}
    }
}

struct Turn<A> {
    node: NodeId,
    often: Allocation,
    cluster: A,
    clock: Clock,
    measures: Arc<Measures>,
    /// Where the next look at the listings begins.
    bucket: usize,
}

impl<A: Agreed> Turn<A> {
    async fn work(&mut self) {
        loop {
            tokio::time::sleep(self.often.measure_every.duration()).await;
            if let Some(lags) = self.lags() {
                self.propose(&Command::Lagged { node: self.node, lags }).await;
            }
            if self.cluster.status().role != Role::Leader {
                continue;
            }
            if self.rebalance_is_due() {
                self.propose(&Command::Rebalance(None)).await;
            }
            self.velocities().await;
        }
    }

    /// What does not come through is measured again.
    async fn propose(&self, command: &Command) -> bool {
        let proposed = self.cluster.propose(codec::encode(command), PROPOSE_TIMEOUT).await;
        if let Err(error) = &proposed {
            tracing::debug!(%error, "a measurement has to wait");
        }
        proposed.is_ok()
    }

    fn rebalance_is_due(&self) -> bool {
        let every = self.often.rebalance_every.0;
        let now = (self.clock)();
        every > 0
            && self.cluster.look(|state| {
                let data = state.data();
                let split = data.policies.iter().any(|policy| policy.mode == Mode::Split);
                split && data.walk.is_none() && data.rebalanced.saturating_add(every) <= now
            })
    }

    /// The lags that differ from what is agreed on so much that it matters.
    fn lags(&self) -> Option<BTreeMap<String, (u64, u64)>> {
        let node = self.node;
        let own: Vec<(String, Option<u64>)> = self.cluster.look(|state| {
            let channels = state.data().channels.iter();
            let own = channels.filter(|(_, c)| c.owner.is_some_and(|owner| owner.node == node));
            own.map(|(name, c)| (name.clone(), c.lag.map(|lag| lag.p99_ms))).collect()
        });
        let measured = own.into_iter().filter_map(|(name, known)| {
            let window = self.measures.window(&name).histogram;
            let (p99, cases) = (window.value_at_quantile(0.99), window.len());
            let news = known.is_none_or(|known| matters(float(known), float(p99)));
            (cases >= CASES_MIN && news).then_some((name, (p99, cases)))
        });
        Some(measured.collect::<BTreeMap<_, _>>()).filter(|lags| !lags.is_empty())
    }

    async fn velocities(&mut self) {
        let (mut rows, mut commands) = (Vec::new(), 0);
        let began = self.bucket;
        loop {
            let (from, to) = (self.bucket, self.bucket + BUCKETS_AT_ONCE);
            let found = self.cluster.look(|state| {
                let data = state.data();
                let mut found = Vec::new();
                for bucket in from..to {
                    let Some(skus) = data.stock.keys_in(bucket) else { return (found, true) };
                    skus.for_each(|sku| measure(data, sku, &mut found));
                }
                (found, false)
            });
            let (found, ended) = found;
            self.bucket = if ended { 0 } else { to };
            rows.extend(found);
            let whole = self.bucket == began || ended && began == 0;
            while rows.len() >= MEASURED_MAX || whole && !rows.is_empty() {
                let rest = rows.split_off(rows.len().min(MEASURED_MAX));
                let some = std::mem::replace(&mut rows, rest);
                if !self.propose(&Command::Measured(some)).await {
                    return;
                }
                commands += 1;
            }
            if whole || commands >= COMMANDS_MAX {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// What of a SKU's listings is to be said.
fn measure(data: &Data, sku: &Id, found: &mut Vec<Measured>) {
    let Some(stock) = data.stock.get(sku.as_str()).filter(|stock| !stock.listings.is_empty())
    else {
        return;
    };
    let listings = stock.listings.iter().map(|(name, listing)| (name, listing.get().pace));
    let listings: Vec<(&Id, Pace)> = listings.collect();
    let still = |pace: &Pace| (pace.sold, pace.velocity, pace.buffer) == (pace.until, 0, 0);
    if listings.iter().all(|(_, pace)| still(pace)) {
        return;
    }
    let policy = policy_of(&data.policies, sku);
    let half_life = policy.and_then(|policy| policy.half_life_ms).unwrap_or(HALF_LIFE_DEFAULT_MS);
    let now: Vec<(&Id, Pace, u64)> = listings
        .into_iter()
        .map(|(name, pace)| (name, pace, velocity(&pace, data.now, half_life)))
        .collect();
    for (name, pace, velocity) in &now {
        let sold = |own: bool| {
            let of = now.iter().filter(|(other, ..)| (other == name) == own);
            of.map(|(.., velocity)| velocity).sum::<u64>()
        };
        let buffer = policy.map_or(0, |policy| auto_buffer(data, policy, name, &sold));
        if data.now > pace.at
            && (buffer != pace.buffer || matters(float(pace.velocity), float(*velocity)))
        {
            found.push(Measured {
                channel: name.to_string(),
                sku: sku.to_string(),
                velocity: *velocity,
                at: data.now,
                until: pace.sold,
                buffer,
            });
        }
    }
}

/// The buffer of a channel where its policy says `auto`; `sold` tells what is sold there or elsewhere.
fn auto_buffer(data: &Data, policy: &Policy, channel: &str, sold: &impl Fn(bool) -> u64) -> i64 {
    if policy.buffers.of(channel) != Some(Buffer::Auto) {
        return 0;
    }
    let lag = lag_of(data, channel).0;
    let risk = policy.risk.unwrap_or(RISK_DEFAULT_PPM);
    let velocity = float(sold(policy.mode == Mode::Split)) / 1e6;
    poisson::buffer(velocity * float(lag) / float(HOUR_MS), f64::from(risk) / f64::from(WHOLE_PPM))
}

/// How late a channel hears, and whether that was measured: before it was, it is what is promised.
pub(crate) fn lag_of(data: &Data, channel: &str) -> (u64, bool) {
    let lag = data.channels.get(channel).and_then(|channel| channel.lag);
    lag.map_or((WINDOW_SALE_MS, false), |lag| (lag.p99_ms, true))
}

fn matters(before: f64, now: f64) -> bool {
    (now - before).abs() > MATTERS * before
}

/// Millionths of a unit an hour, as of now.
///
/// With d = 2^(−t/half-life) for the time t since the last measurement, and w = 1 − 2^(−age/half-life) for what that
/// one weighs (the listing was not there before), the mean of both is
/// `(v w d + r (1 − d)) / (w d + 1 − d)`, where r is what was sold an hour since.
fn velocity(pace: &Pace, now: u64, half_life: u64) -> u64 {
    let at = pace.at.max(pace.since);
    let passed = now.saturating_sub(at);
    if passed < MINUTE_MS {
        return pace.velocity;
    }
    let decay = |ms: u64| (-float(ms) / float(half_life)).exp2();
    // Before anything was counted nobody knows how old a listing is.
    let age = if pace.since == 0 { u64::MAX } else { at.saturating_sub(pace.since) };
    let (d, w) = (decay(passed), 1.0 - decay(age));
    let sold = float(pace.sold.saturating_sub(pace.until)) * 1e6;
    let rate = sold / (float(passed) / float(HOUR_MS));
    let mean = (float(pace.velocity) * w * d + rate * (1.0 - d)) / (w * d + 1.0 - d);
    Some(count(mean)).filter(|mean| *mean >= LEAST).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use state::limits::DAY_MS;

    use super::*;

    // A velocity that hangs on who leads, or on how often it is asked for, would move shares for nothing.
    #[test]
    fn a_velocity_hangs_on_what_was_sold_and_when_alone() {
        let half_life = 7 * DAY_MS;
        let start = 1_000 * DAY_MS;
        // Three an hour, looked at every hour, every day, or once: it is three an hour.
        for step in [HOUR_MS, DAY_MS, 10 * DAY_MS] {
            let mut pace = Pace { since: start, ..Pace::default() };
            let mut now = start;
            while now < start + 10 * DAY_MS {
                now += step;
                pace.sold += 3 * step / HOUR_MS;
                let measured = velocity(&pace, now, half_life);
                (pace.velocity, pace.at, pace.until) = (measured, now, pace.sold);
            }
            assert!(pace.velocity.abs_diff(3_000_000) < 100, "{step}: {pace:?}");
        }
        // A half-life without a sale takes half of it, once what was before weighs fully.
        let old = Pace { velocity: 8_000_000, at: start, ..Pace::default() };
        assert!(velocity(&old, start + half_life, half_life).abs_diff(4_000_000) < 10);
        // One sale in its first two hours is half a unit an hour, not one in a half-life.
        let new = Pace { since: start, sold: 1, ..Pace::default() };
        assert_eq!(velocity(&new, start + 2 * HOUR_MS, half_life), 500_000);
        // A second later nobody can say.
        assert_eq!(velocity(&new, start + 1_000, half_life), 0);
        let gone = Pace { velocity: 1_000, at: start, ..Pace::default() };
        assert_eq!(velocity(&gone, start + 5 * half_life, half_life), 0);
    }
}
