//! How fast one channel is called: a token bucket, what the channel asks us to wait, and a pause that
//! grows with each failure and is probed by a single call.

use std::time::Duration;

use tokio::time::Instant;

const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The pace of one channel.
pub(super) struct Pace {
    per_second: f64,
    burst: f64,
    tokens: f64,
    filled: Instant,
    not_before: Instant,
    pause: Duration,
}

impl Pace {
    /// A full bucket.
    pub(super) fn new(per_second: f64, burst: u64) -> Self {
        let burst = u32::try_from(burst.max(1)).map_or(f64::from(u32::MAX), f64::from);
        let now = Instant::now();
        let (tokens, filled, not_before) = (burst, now, now);
        Self { per_second, burst, tokens, filled, not_before, pause: PAUSE_MIN }
    }

    /// Waits until a call is allowed.
    pub(super) async fn ready(&mut self) {
        tokio::time::sleep_until(self.not_before).await;
        self.fill();
        while self.tokens < 1.0 {
            let missing = (1.0 - self.tokens) / self.per_second;
            tokio::time::sleep(Duration::from_secs_f64(missing.clamp(0.001, 60.0))).await;
            self.fill();
        }
    }

    /// Waits until a call is allowed, and takes it.
    pub(super) async fn take(&mut self) {
        self.ready().await;
        self.tokens -= 1.0;
    }

    fn fill(&mut self) {
        let now = Instant::now();
        let elapsed = now.duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.per_second).min(self.burst);
        self.filled = now;
    }

    /// A call was answered; the channel wants this pause.
    pub(super) fn succeeded(&mut self, wait: Duration) {
        self.pause = PAUSE_MIN;
        self.not_before = Instant::now() + wait;
    }

    /// The channel says how long to wait.
    pub(super) fn limited(&mut self, wait: Duration) {
        self.tokens = 0.0;
        self.not_before = Instant::now() + wait;
    }

    /// A call failed: the next one is a probe after a pause.
    pub(super) fn failed(&mut self) {
        self.not_before = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}
