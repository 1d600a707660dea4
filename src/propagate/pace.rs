//! How fast one channel is called, by all who call it from here: a token bucket, what the channel asks us to
//! wait, and a breaker that opens after some failures in a row and lets a single call through to probe.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use crate::measures::Breaker;

const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// So many failures in a row open the breaker.
const FAILURES_MAX: u32 = 3;
/// A probe that nobody heard of for so long is another's to make.
const PROBE_MAX: Duration = Duration::from_secs(60);
/// How long whoever waits for another's probe waits until it looks again.
const LOOK: Duration = Duration::from_millis(100);

/// Who wants to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Somebody may sell what is gone already.
    Quick,
    /// It has time, and takes only what the others leave.
    Slow,
}

/// Which call of one push, or of one reading, it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nth {
    First,
    Further,
}

/// The pace of one channel.
pub(super) struct Pace {
    inner: Mutex<Inner>,
    /// Somebody who waits need not wait any longer.
    opened: Notify,
}

struct Inner {
    per_second: f64,
    burst: f64,
    tokens: f64,
    filled: Instant,
    not_before: Instant,
    pause: Duration,
    failures: u32,
    /// When a probe went out whose answer is awaited.
    probe: Option<Instant>,
    /// How many urgent calls wait.
    quick: u32,
    /// Whether the channel does not accept our credentials.
    refused: bool,
    /// Calls that were not told of yet.
    calls: u64,
}

impl Pace {
    /// An empty bucket: whoever called the channel before may just have used its burst.
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let inner = Inner {
            per_second: 1.0,
            burst: 1.0,
            tokens: 0.0,
            filled: now,
            not_before: now,
            pause: PAUSE_MIN,
            failures: 0,
            probe: None,
            quick: 0,
            refused: false,
            calls: 0,
        };
        Self { inner: Mutex::new(inner), opened: Notify::new() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the channel allows, from now on: thousandths of a call a second, and calls at once.
    pub(super) fn allow(&self, rate_milli: u64, burst: u64) {
        let float = |n: u64| u32::try_from(n).map_or(f64::from(u32::MAX), f64::from);
        let mut inner = self.inner();
        inner.fill();
        inner.per_second = float(rate_milli.max(1)) / 1_000.0;
        inner.burst = float(burst.max(1));
        inner.tokens = inner.tokens.min(inner.burst);
    }

    /// Another node called the channel until now.
    pub(super) fn empty(&self) {
        let mut inner = self.inner();
        inner.fill();
        inner.tokens = 0.0;
    }

    /// Calls that may be made at once.
    pub(super) fn at_once(&self) -> usize {
        let mut inner = self.inner();
        inner.fill();
        let whole = (1..16_u32).take_while(|n| f64::from(*n) <= inner.tokens).last();
        usize::try_from(whole.unwrap_or(0)).unwrap_or(0)
    }

    /// Calls that are allowed now, in whole and in part. None are while the channel wants to be left alone.
    pub(super) fn allowed(&self) -> f64 {
        let mut inner = self.inner();
        inner.fill();
        if Instant::now() < inner.not_before { 0.0 } else { inner.tokens.max(0.0) }
    }

    /// Waits until a call is allowed.
    pub(super) async fn ready(&self, urgency: Urgency) {
        let waits = Waits::new(self, urgency);
        loop {
            // From before the look: what changes right after it is heard of too.
            let opened = self.opened.notified();
            let Some(until) = waits.pace.closed_until(urgency) else { return };
            rest_until(until, opened).await;
        }
    }

    fn closed_until(&self, urgency: Urgency) -> Option<Instant> {
        self.inner().closed_until(urgency, Nth::First)
    }

    /// Waits until a call is allowed, and takes it.
    pub(super) async fn take(&self, urgency: Urgency) {
        self.take_as(urgency, Nth::First).await;
    }

    /// The same of a further call of a push or a reading. If that is a probe, it is the one that was let through.
    pub(super) async fn more(&self, urgency: Urgency) {
        self.take_as(urgency, Nth::Further).await;
    }

    async fn take_as(&self, urgency: Urgency, nth: Nth) {
        let waits = Waits::new(self, urgency);
        loop {
            let opened = self.opened.notified();
            let until = {
                let mut inner = waits.pace.inner();
                match inner.closed_until(urgency, nth) {
                    Some(until) => until,
                    None => return inner.take(),
                }
            };
            rest_until(until, opened).await;
        }
    }

    /// A call was answered; the channel wants this pause.
    pub(super) fn succeeded(&self, wait: Duration) {
        let mut inner = self.inner();
        (inner.pause, inner.failures, inner.probe) = (PAUSE_MIN, 0, None);
        inner.refused = false;
        inner.rest(wait);
    }

    /// The channel says how long to wait. It lives.
    pub(super) fn limited(&self, wait: Duration) {
        let mut inner = self.inner();
        (inner.tokens, inner.probe) = (0.0, None);
        inner.rest(wait);
    }

    /// A call failed: the next one is a probe after a pause.
    pub(super) fn failed(&self) {
        let mut inner = self.inner();
        let pause = inner.pause;
        inner.failures = inner.failures.saturating_add(1);
        inner.probe = None;
        inner.pause = (pause * 2).min(PAUSE_MAX);
        inner.rest(pause);
    }

    /// The channel does not accept our credentials: nothing will change that soon.
    pub(super) fn refused(&self, wait: Duration) {
        let mut inner = self.inner();
        (inner.refused, inner.probe) = (true, None);
        inner.rest(wait);
    }

    /// Somebody says that the credentials are good now.
    pub(super) fn accepted(&self) {
        let mut inner = self.inner();
        if std::mem::take(&mut inner.refused) {
            inner.not_before = Instant::now();
            self.opened.notify_waiters();
        }
    }

    /// Whether the channel is called.
    pub(super) fn breaker(&self) -> Breaker {
        let inner = self.inner();
        if inner.failures < FAILURES_MAX {
            Breaker::Closed
        } else if inner.probe.is_some() || Instant::now() >= inner.not_before {
            Breaker::HalfOpen
        } else {
            Breaker::Open
        }
    }

    /// Calls made since this was asked last.
    pub(super) fn told(&self) -> u64 {
        std::mem::take(&mut self.inner().calls)
    }

    /// Calls that nobody was told of after all.
    pub(super) fn untold(&self, calls: u64) {
        self.inner().calls += calls;
    }

    /// How many those are by now.
    pub(super) fn untold_calls(&self) -> u64 {
        self.inner().calls
    }
}

/// Waits until a time, or until that may have changed.
async fn rest_until(until: Instant, opened: Notified<'_>) {
    tokio::select! {
        biased;
        () = opened => {}
        () = tokio::time::sleep_until(until) => {}
    }
}

impl Inner {
    fn fill(&mut self) {
        let now = Instant::now();
        let elapsed = now.duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.per_second).min(self.burst);
        self.filled = now;
    }

    /// What the channel wants counts, even if another call was answered meanwhile that wants less.
    fn rest(&mut self, wait: Duration) {
        self.not_before = self.not_before.max(Instant::now() + wait);
    }

    /// Until when no such call may be made; `None` if one may.
    fn closed_until(&mut self, urgency: Urgency, nth: Nth) -> Option<Instant> {
        let now = Instant::now();
        if now < self.not_before {
            return Some(self.not_before);
        }
        let probes = self.failures >= FAILURES_MAX
            && self.probe.is_some_and(|since| now < since + PROBE_MAX);
        if probes && nth == Nth::First {
            return Some(now + LOOK);
        }
        self.fill();
        let wanted = match urgency {
            Urgency::Quick => 1.0,
            Urgency::Slow if self.quick > 0 => return Some(now + LOOK),
            // What comes in the next second finds its token.
            Urgency::Slow => 1.0 + ((self.burst - 1.0) / 2.0).clamp(0.0, self.per_second),
        };
        if self.tokens >= wanted {
            return None;
        }
        let missing = (wanted - self.tokens) / self.per_second;
        Some(now + Duration::from_secs_f64(missing.clamp(0.001, 60.0)))
    }

    fn take(&mut self) {
        self.tokens -= 1.0;
        self.calls += 1;
        if self.failures >= FAILURES_MAX {
            self.probe = Some(Instant::now());
        }
    }
}

/// An urgent call that waits, as long as somebody waits for it.
struct Waits<'a> {
    pace: &'a Pace,
    quick: bool,
}

impl<'a> Waits<'a> {
    fn new(pace: &'a Pace, urgency: Urgency) -> Self {
        let quick = urgency == Urgency::Quick;
        pace.inner().quick += u32::from(quick);
        Self { pace, quick }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.pace.inner().quick -= u32::from(self.quick);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(rate_milli: u64, burst: u64) -> Pace {
        let pace = Pace::new();
        pace.allow(rate_milli, burst);
        pace
    }

    async fn takes(pace: &Pace, urgency: Urgency) -> u128 {
        let began = Instant::now();
        pace.take(urgency).await;
        began.elapsed().as_millis()
    }

    // A new owner that begins with a full burst doubles what the channel allows, and is throttled when sales
    // wait.
    #[tokio::test(start_paused = true)]
    async fn a_bucket_begins_empty_and_never_holds_more_than_its_burst() {
        let pace = pace(2_000, 4);
        assert!((500..510).contains(&takes(&pace, Urgency::Quick).await));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(pace.at_once(), 4);
        let mut calls = 0;
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(10) {
            pace.take(Urgency::Quick).await;
            calls += 1;
        }
        assert!((23..=25).contains(&calls), "{calls} calls in 10 s");
        assert_eq!(pace.told(), calls + 1);
        // Its rate is changed while it runs.
        pace.allow(1_000, 4);
        pace.empty();
        assert!((1_000..1_010).contains(&takes(&pace, Urgency::Quick).await));
    }

    // A receipt of thousands of SKUs would take every token, and a sale would wait behind all of them.
    #[tokio::test(start_paused = true)]
    async fn the_slow_ones_leave_a_token_for_whoever_is_in_a_hurry() {
        let pace = pace(1_000, 10);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let began = Instant::now();
        let mut drips = 0;
        while began.elapsed() < Duration::from_secs(20) {
            pace.take(Urgency::Slow).await;
            drips += 1;
            if drips % 4 == 0 {
                assert_eq!(takes(&pace, Urgency::Quick).await, 0);
            }
        }
        assert!(drips > 15, "{drips}");
        // While an urgent one waits, no other goes first.
        pace.empty();
        let quick = async {
            pace.take(Urgency::Quick).await;
            Instant::now()
        };
        let slow = async {
            pace.take(Urgency::Slow).await;
            Instant::now()
        };
        let (slow, quick) = tokio::join!(slow, quick);
        assert!(quick < slow);
    }

    // A channel that is down would be called at full rate, by both lanes; and one that said when to come back
    // would be called before.
    #[tokio::test(start_paused = true)]
    async fn a_breaker_opens_and_is_probed_by_one_call() {
        let pace = pace(1_000_000, 1_000);
        tokio::time::sleep(Duration::from_secs(1)).await;
        for _ in 0..2 {
            pace.take(Urgency::Quick).await;
            pace.failed();
        }
        assert_eq!(pace.breaker(), Breaker::Closed);
        pace.take(Urgency::Quick).await;
        pace.failed();
        assert_eq!(pace.breaker(), Breaker::Open);
        assert!(takes(&pace, Urgency::Quick).await >= 800);
        assert_eq!(pace.breaker(), Breaker::HalfOpen);
        // The other lane waits for what becomes of the probe.
        let second = tokio::time::timeout(Duration::from_secs(20), pace.take(Urgency::Quick));
        assert!(second.await.is_err());
        pace.succeeded(Duration::ZERO);
        assert_eq!(pace.breaker(), Breaker::Closed);
        assert_eq!(takes(&pace, Urgency::Quick).await, 0);
        pace.limited(Duration::from_secs(7));
        pace.succeeded(Duration::ZERO);
        assert!((7_000..7_010).contains(&takes(&pace, Urgency::Quick).await));
        for _ in 0..20 {
            pace.failed();
        }
        assert!(takes(&pace, Urgency::Quick).await <= 31_000);
    }

    // Wrong credentials would be sent again and again until the channel locks the account; and right ones be
    // left unused after somebody has put them in.
    #[tokio::test(start_paused = true)]
    async fn refused_credentials_rest_until_somebody_resumes() {
        let pace = pace(1_000_000, 1_000);
        pace.refused(Duration::from_secs(300));
        assert!(takes(&pace, Urgency::Quick).await >= 300_000);
        pace.refused(Duration::from_secs(300));
        pace.accepted();
        assert!(takes(&pace, Urgency::Quick).await < 100);
        pace.limited(Duration::from_secs(9));
        pace.accepted();
        assert!(takes(&pace, Urgency::Quick).await >= 9_000);
    }
}
