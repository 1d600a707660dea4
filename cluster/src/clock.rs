//! Whether a leader's clock may stamp.

use crate::config::CLOCK_SKEW_MS_MAX;

/// A clock that may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Skew {
    /// How far it is ahead of the median of the voters' clocks; negative when it is behind.
    pub(crate) ahead_ms: i64,
    /// The voter whose clock is nearest to that median.
    pub(crate) best: u64,
}

/// Judges this node's clock by the voters that were heard: who, and how far ahead of us.
///
/// Of two medians the one nearer to us counts: a clock is wrong only when more than half of all are
/// known to say so, since two clocks that differ cannot tell which of them is off.
pub(crate) fn judge(heard: impl Iterator<Item = (u64, i64)>) -> Option<Skew> {
    let heard: Vec<_> = heard.collect();
    let mut all: Vec<i64> = heard.iter().map(|(_, ahead)| *ahead).chain([0]).collect();
    all.sort_unstable();
    let upper = all.get(all.len() / 2)?;
    let lower = all.get((all.len() - 1) / 2)?;
    let median = if upper.unsigned_abs() < lower.unsigned_abs() { *upper } else { *lower };
    if median.unsigned_abs() <= CLOCK_SKEW_MS_MAX {
        return None;
    }
    let best = heard.iter().min_by_key(|(_, ahead)| ahead.abs_diff(median))?.0;
    Some(Skew { ahead_ms: median.saturating_neg(), best })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(others: &[i64]) -> Option<(i64, u64)> {
        let heard = (1..).zip(others.iter().copied());
        judge(heard).map(|skew| (skew.ahead_ms, skew.best))
    }

    // A leader an hour ahead stops time for an hour; but a leader that one bad clock could depose
    // would hand the cluster to that clock.
    #[test]
    fn only_a_majority_says_that_a_clock_is_off() {
        assert_eq!(judged(&[]), None, "alone");
        assert_eq!(judged(&[90_000]), None, "one of two");
        assert_eq!(judged(&[-3_600_000, -3_599_000]), Some((3_599_000, 2)), "we are ahead");
        assert_eq!(judged(&[60_000, 61_000]), Some((-60_000, 1)), "we are behind");
        assert_eq!(judged(&[-3_600_000, 20]), None, "another is off");
        assert_eq!(judged(&[-3_600_000, 3_600_000]), None, "they are both off");
        assert_eq!(judged(&[4_999, 4_999, -4_999, 5_000]), None, "all within bounds");
        assert_eq!(judged(&[i64::MIN, i64::MIN]), Some((i64::MAX, 1)), "nothing overflows");
    }
}
