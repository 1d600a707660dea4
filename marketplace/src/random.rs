//! A small seeded generator (`SplitMix64`): the same seed makes the same customers.

use std::time::Duration;

/// A stream of numbers that depends on its seed and on nothing else. Not for secrets.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A stream for this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number, uniform over all of `u64`.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; zero if `bound` is zero. The bias of the remainder is below 2^-40 for
    /// the bounds used here.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64().checked_rem(bound).unwrap_or(0)
    }

    /// A fraction in `[0, 1)`, with 32 bits.
    pub fn fraction(&mut self) -> f64 {
        let high = u32::try_from(self.next_u64() >> 32).unwrap_or(0);
        f64::from(high) / 4_294_967_296.0
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.fraction() < probability
    }

    /// A uniform time up to `max`.
    pub fn up_to(&mut self, max: Duration) -> Duration {
        max.mul_f64(self.fraction())
    }

    /// The gap to the next of a Poisson stream with this rate; an hour if the rate is not positive.
    pub fn gap(&mut self, per_second: f64) -> Duration {
        const HOUR: Duration = Duration::from_secs(3600);
        if per_second <= 0.0 {
            return HOUR;
        }
        let seconds = -(1.0 - self.fraction()).ln() / per_second;
        Duration::try_from_secs_f64(seconds).unwrap_or(HOUR).min(HOUR)
    }

    /// A version 4 UUID in its usual spelling.
    pub fn uuid(&mut self) -> String {
        let high = (self.next_u64() & 0xffff_ffff_ffff_0fff) | 0x4000;
        let low = (self.next_u64() & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        )
    }
}

/// A fixed hash of a name (FNV-1a), so that two stores with one seed still differ.
pub(crate) fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A changed generator would silently change every recorded seed.
    #[test]
    fn the_stream_is_fixed() {
        let mut random = Random::new(0);
        assert_eq!(random.next_u64(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(random.next_u64(), 0x6e78_9e6a_a1b9_65f4);
        let uuid = random.uuid();
        assert_eq!(uuid.len(), 36);
        assert_eq!(uuid.as_bytes()[14], b'4');
        assert!((0..1000).all(|_| (0.0..1.0).contains(&random.fraction())));
    }
}
