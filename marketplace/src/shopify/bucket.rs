//! The leaky bucket of query cost. It counts in thousandths of a point, so that no float drifts.

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::options::Costs;

pub(crate) struct Bucket {
    level_milli: u64,
    at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn full(costs: &Costs, now: Instant) -> Self {
        Self { level_milli: u64::from(costs.maximum_available) * 1000, at: now }
    }

    /// Takes the cost out, or nothing at all if there is too little.
    pub(crate) fn take(&mut self, costs: &Costs, cost: u32, now: Instant) -> bool {
        self.restore(costs, now);
        match self.level_milli.checked_sub(u64::from(cost) * 1000) {
            Some(left) => {
                self.level_milli = left;
                true
            }
            None => false,
        }
    }

    /// Puts back what was taken and not spent.
    pub(crate) fn put_back(&mut self, costs: &Costs, unspent: u32) {
        self.level_milli = self
            .level_milli
            .saturating_add(u64::from(unspent) * 1000)
            .min(u64::from(costs.maximum_available) * 1000);
    }

    /// `extensions` as every answer carries it. A refused call has no actual cost.
    pub(crate) fn extensions(&self, costs: &Costs, requested: u32, actual: Option<u32>) -> Value {
        json!({"cost": {
            "requestedQueryCost": requested,
            "actualQueryCost": actual,
            "throttleStatus": {
                "maximumAvailable": f64::from(costs.maximum_available),
                "currentlyAvailable": self.level_milli / 1000,
                "restoreRate": f64::from(costs.restore_rate),
            }
        }})
    }

    fn restore(&mut self, costs: &Costs, now: Instant) {
        let passed_ms = now.saturating_duration_since(self.at).as_millis();
        let passed_ms = u64::try_from(passed_ms).unwrap_or(u64::MAX);
        if passed_ms == 0 {
            return;
        }
        self.at = now;
        self.level_milli = self
            .level_milli
            .saturating_add(passed_ms.saturating_mul(u64::from(costs.restore_rate)))
            .min(u64::from(costs.maximum_available) * 1000);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A bucket that never refills, overfills, or lets a refused call drain it, would teach a client
    /// the wrong pace.
    #[test]
    fn it_empties_refuses_and_refills() {
        let costs = Costs { maximum_available: 30, restore_rate: 10, ..Costs::default() };
        let start = Instant::now();
        let mut bucket = Bucket::full(&costs, start);
        assert!(bucket.take(&costs, 25, start));
        assert!(!bucket.take(&costs, 10, start));
        assert!(bucket.take(&costs, 10, start + Duration::from_millis(500)));
        assert!(bucket.take(&costs, 30, start + Duration::from_secs(60)));
        assert!(!bucket.take(&costs, 1, start + Duration::from_secs(60)));
    }
}
