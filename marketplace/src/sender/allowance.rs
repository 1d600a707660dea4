//! How many calls a channel's API answers: a bucket that fills with time.

use std::time::Duration;

use tokio::time::Instant;

use super::options::Rate;

pub(super) struct Allowance {
    rate: Rate,
    calls: f64,
    at: Instant,
}

impl Allowance {
    pub(super) fn full(rate: Rate, at: Instant) -> Self {
        Self { rate, calls: f64::from(rate.burst), at }
    }

    /// Takes one call, or says how long there is none.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        let per_second = f64::from(self.rate.per_second);
        self.at = now;
        self.calls = (self.calls + passed * per_second).min(f64::from(self.rate.burst));
        if self.calls >= 1.0 {
            self.calls -= 1.0;
            return Ok(());
        }
        let wait = (1.0 - self.calls) / per_second.max(0.001);
        Err(Duration::from_secs_f64(wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A limit that lets a burst through twice, or that refused calls use up, would teach the wrong pace.
    #[test]
    fn it_is_used_up_and_fills_again() {
        let start = Instant::now();
        let mut allowance = Allowance::full(Rate { per_second: 2, burst: 3 }, start);
        let taken = (0..5).filter(|_| allowance.take(start).is_ok()).count();
        assert_eq!(taken, 3);
        assert_eq!(allowance.take(start), Err(Duration::from_millis(500)));
        let later = start + Duration::from_secs(60);
        let taken = (0..5).filter(|_| allowance.take(later).is_ok()).count();
        assert_eq!(taken, 3);
    }
}
