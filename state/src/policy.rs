//! Policies: what an operator says of how SKUs are allocated. Numbers only; how people write them is the
//! node's business.

use alloc::collections::BTreeMap;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::Millis;
use crate::allocation::matches;
use crate::limits::DAY_MS;

/// Millionths of something.
pub type Ppm = u32;
/// All of it.
pub const WHOLE_PPM: Ppm = 1_000_000;
/// The risk of an `auto` buffer that nobody gave another: 0.1 %.
pub const RISK_DEFAULT_PPM: Ppm = 1_000;
/// A share is low below this part of its target, unless a policy says otherwise: a quarter.
pub const LOW_DEFAULT_PPM: Ppm = 250_000;
/// How long a sale weighs half as much as one of now, unless a policy says otherwise.
pub const HALF_LIFE_DEFAULT_MS: Millis = 7 * DAY_MS;

/// How SKUs are allocated; the first policy whose glob matches counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// SKUs that it is for: `*` stands for any characters, `?` for one.
    pub sku: String,
    /// How.
    pub mode: Mode,
    /// What shares are in proportion to, in `split`.
    pub weights: Weights,
    /// How long until a sale weighs half as much, where sales are measured.
    pub half_life_ms: Option<Millis>,
    /// The least and the most part of all that a share by measured sales may be.
    pub floor: Option<Ppm>,
    /// See [`floor`](Self::floor).
    pub cap: Option<Ppm>,
    /// What is held back.
    pub buffers: Each<Buffer>,
    /// How likely an `auto` buffer may be too small, each time.
    pub risk: Option<Ppm>,
    /// So much is shown at least, as long as the share has as much: the buffer gives way.
    pub min: Each<i64>,
    /// So much is shown at the most.
    pub max: Each<i64>,
    /// What would show so much or less shows nothing: its listing ends.
    pub end_at: Each<i64>,
    /// Below this part of its target a share is low, and others give it what they have too much.
    pub low_share: Option<Ppm>,
}

/// The two ways of allocating.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Every channel shows all that is available, less its buffer. They can oversell each other for
    /// as long as a push takes.
    #[default]
    Shared,
    /// Each channel shows its share, less its buffer, and no raise is sent that could oversell.
    Split,
}

/// What shares are in proportion to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Weights {
    /// Fixed, by channel. A channel that is not named gets nothing; if none is named, all weigh the same.
    Fixed(BTreeMap<String, u32>),
    /// What each channel sells, as was measured.
    Velocity,
}

impl Default for Weights {
    fn default() -> Self {
        Self::Fixed(BTreeMap::new())
    }
}

/// Something that is said of all channels, or of some by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Each<T> {
    /// The same of all.
    All(T),
    /// By channel; of the others nothing is said.
    Named(BTreeMap<String, T>),
}

impl<T> Default for Each<T> {
    fn default() -> Self {
        Self::Named(BTreeMap::new())
    }
}

impl<T: Copy> Each<T> {
    /// What is said of a channel.
    #[must_use]
    pub fn of(&self, channel: &str) -> Option<T> {
        match self {
            Self::All(said) => Some(*said),
            Self::Named(named) => named.get(channel).copied(),
        }
    }

    /// All that is said, with the channel of which it is.
    pub fn entries(&self) -> impl Iterator<Item = (Option<&str>, T)> {
        let (all, named) = match self {
            Self::All(said) => (Some(*said), None),
            Self::Named(named) => (None, Some(named)),
        };
        let named = named.into_iter().flatten();
        let named = named.map(|(channel, said)| (Some(channel.as_str()), *said));
        all.map(|said| (None, said)).into_iter().chain(named)
    }
}

/// What a channel may not show of its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Buffer {
    /// So many units.
    Units(i64),
    /// So large a part of the share, rounded up.
    Part(Ppm),
    /// As many as elsewhere may be sold before the channel hears of it, but for the risk. Computed outside, from what
    /// was measured: see [`Pace::buffer`](crate::velocity::Pace::buffer).
    Auto,
}

impl Policy {
    /// The channels that it names.
    pub fn channels(&self) -> impl Iterator<Item = &str> {
        let weighed = match &self.weights {
            Weights::Fixed(weights) => Some(weights.keys().map(String::as_str)),
            Weights::Velocity => None,
        };
        let units = [&self.min, &self.max, &self.end_at].into_iter().flat_map(|each| {
            let named = each.entries();
            named.filter_map(|(channel, _)| channel)
        });
        let buffers = self.buffers.entries().filter_map(|(channel, _)| channel);
        weighed.into_iter().flatten().chain(buffers).chain(units)
    }

    /// Why it cannot be meant, if it cannot. What it names may yet be unknown: see [`channels`](Self::channels).
    pub fn check(&self) -> Result<(), &'static str> {
        if let Weights::Fixed(weights) = &self.weights
            && !weights.is_empty()
            && weights.values().all(|weight| *weight == 0)
        {
            return Err("weights: they add up to 0, so nobody would get anything");
        }
        let whole = |part: Option<Ppm>| part.is_none_or(|part| part <= WHOLE_PPM);
        if ![self.floor, self.cap, self.risk, self.low_share].into_iter().all(whole) {
            return Err("floor, cap, risk and low_share: between 0 % and 100 %");
        }
        if self.floor.unwrap_or(0) > self.cap.unwrap_or(WHOLE_PPM) {
            return Err("floor: not above cap");
        }
        if self.risk == Some(0) {
            return Err("risk: above 0 %; no buffer is large enough for none");
        }
        if self.half_life_ms == Some(0) {
            return Err("half_life: longer than nothing");
        }
        let negative = |each: &Each<i64>| each.entries().any(|(_, units)| units < 0);
        if [&self.min, &self.max, &self.end_at].into_iter().any(negative) {
            return Err("min, max and end_at: 0 or more");
        }
        let wrong = |buffer: Buffer| match buffer {
            Buffer::Units(units) => units < 0,
            Buffer::Part(part) => part > WHOLE_PPM,
            Buffer::Auto => false,
        };
        if self.buffers.entries().any(|(_, buffer)| wrong(buffer)) {
            return Err("buffers: units of 0 or more, a part up to 100 %, or auto");
        }
        Ok(())
    }

    /// What of a share of `allocated` units may be shown, when `auto` is the buffer that was computed: the buffer,
    /// and that.
    #[must_use]
    pub fn shown_of(&self, channel: &str, allocated: i64, auto: i64) -> (i64, i64) {
        let buffer = match self.buffers.of(channel) {
            None => 0,
            Some(Buffer::Units(units)) => units.max(0),
            Some(Buffer::Part(part)) => part_of(allocated, part),
            Some(Buffer::Auto) => auto.max(0),
        };
        let mut shown = allocated.saturating_sub(buffer).max(0);
        if let Some(min) = self.min.of(channel) {
            shown = shown.max(min.min(allocated));
        }
        if let Some(max) = self.max.of(channel) {
            shown = shown.min(max.max(0));
        }
        if self.end_at.of(channel).is_some_and(|end| shown <= end) {
            shown = 0;
        }
        (buffer, shown)
    }
}

/// A part of some units, rounded up.
fn part_of(units: i64, part: Ppm) -> i64 {
    let product = i128::from(units.max(0)) * i128::from(part);
    i64::try_from((product + i128::from(WHOLE_PPM) - 1) / i128::from(WHOLE_PPM)).unwrap_or(units)
}

/// The policy of a SKU.
#[must_use]
pub fn policy_of<'a>(policies: &'a [Policy], sku: &str) -> Option<&'a Policy> {
    policies.iter().find(|policy| matches(&policy.sku, sku))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn what_is_shown_of_a_share_is_within_it() {
        // A minimum that invents units, or a buffer that hides more than there are, would oversell or wrap.
        let policy = |buffer: Buffer| Policy { buffers: Each::All(buffer), ..Policy::default() };
        for (buffer, allocated, shown) in [
            (Buffer::Units(2), 40, (2, 38)),
            (Buffer::Units(50), 40, (50, 0)),
            (Buffer::Part(50_000), 100, (5, 95)),
            (Buffer::Part(50_000), 1, (1, 0)),
            (Buffer::Part(WHOLE_PPM), i64::MAX, (i64::MAX, 0)),
            (Buffer::Auto, 10, (7, 3)),
        ] {
            assert_eq!(policy(buffer).shown_of("shop", allocated, 7), shown, "{buffer:?}");
        }
        let bounded = Policy {
            buffers: Each::All(Buffer::Units(5)),
            min: Each::All(2),
            max: Each::Named([("shop".to_string(), 10)].into()),
            end_at: Each::All(1),
            ..Policy::default()
        };
        let shown = |channel: &str, allocated| bounded.shown_of(channel, allocated, 0).1;
        assert_eq!([0, 1, 2, 6, 9, 99].map(|units| shown("shop", units)), [0, 0, 2, 2, 4, 10]);
        assert_eq!(shown("other", 99), 94);
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        // A policy that gives nobody anything, or more than there is, must not be agreed on.
        let weights = |weight| Weights::Fixed([("shop".to_string(), weight)].into());
        let good = Policy { weights: weights(40), ..Policy::default() };
        assert_eq!(good.check(), Ok(()));
        for (bad, what) in [
            (Policy { weights: weights(0), ..good.clone() }, "weights"),
            (Policy { buffers: Each::All(Buffer::Units(-1)), ..good.clone() }, "buffers"),
            (Policy { buffers: Each::All(Buffer::Part(WHOLE_PPM + 1)), ..good.clone() }, "buffers"),
            (Policy { end_at: Each::All(-1), ..good.clone() }, "end_at"),
            (Policy { floor: Some(500_000), cap: Some(400_000), ..good.clone() }, "floor"),
            (Policy { risk: Some(0), ..good.clone() }, "risk"),
            (Policy { low_share: Some(WHOLE_PPM + 1), ..good.clone() }, "low_share"),
            (Policy { half_life_ms: Some(0), ..good }, "half_life"),
        ] {
            assert!(bad.check().unwrap_err().contains(what), "{bad:?}");
        }
    }
}
