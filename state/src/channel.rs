//! Channels as the cluster knows them: everything but their secrets.

use alloc::collections::BTreeMap;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::limits::{self, DAY_MS};
use crate::origin::Lane;
use crate::velocity::Lag;
use crate::{Millis, NodeId};

/// What a channel is. Seeded from a node's file at `init`, changed through the API after that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a question of its own")]
pub struct Definition {
    /// The kind of marketplace, which says how deliveries are signed and understood.
    pub kind: String,
    /// The location that its orders draw from.
    pub location: String,
    /// The node that pushes to it while it lives; without one, the voter with the lowest id.
    pub home: Option<NodeId>,
    /// Whether quantities are pushed to it at all: false where no API is configured.
    pub pushes: bool,
    /// Whether its orders can be fetched: false where no API is configured.
    pub fetches: bool,
    /// How long the keys of its deliveries are kept.
    pub dedup_window_ms: Millis,
    /// Calls that the channel allows: thousandths of a call a second.
    pub rate_milli: u64,
    /// Calls that it allows at once after a pause.
    pub burst: u64,
    /// Calls that it allows a day; 0 where there is no such bound.
    pub per_day: u64,
    /// Whether it takes a quantity only in place of the one that it is believed to show.
    pub compares: bool,
    /// Whether what would be pushed is only noted: nothing is sent.
    pub shadow: bool,
    /// Settings of its kind that are no secrets, `base_url` among them.
    pub settings: BTreeMap<String, String>,
}

impl Definition {
    /// A channel of which nothing else is said: it is pushed to and fetched from, twice a second, and compares.
    #[must_use]
    pub fn new(kind: impl Into<String>, location: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            location: location.into(),
            home: None,
            pushes: true,
            fetches: true,
            dedup_window_ms: limits::DEDUP_WINDOW_DEFAULT_MS,
            rate_milli: 2_000,
            burst: 40,
            per_day: 0,
            compares: true,
            shadow: false,
            settings: BTreeMap::new(),
        }
    }

    /// Whether it can be told what to show: not where nothing is sent.
    #[must_use]
    pub const fn is_told(&self) -> bool {
        self.pushes && !self.shadow
    }
}

/// Who may push to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The node that asked for it last.
    pub node: NodeId,
    /// Grows with each claim. An intent under an older epoch is refused.
    pub epoch: u64,
    /// Log index of the last intent of each lane whose outcomes were told; 0 before the first.
    pub settled: Lanes,
    /// Agreed time until which no other node may claim the channel.
    pub lease_until: Millis,
    /// The node that asked for the channel while the lease ran.
    pub wanted_by: Option<NodeId>,
}

/// A log index for each lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lanes {
    urgent: u64,
    normal: u64,
}

impl Lanes {
    /// Takes note of an index, if it is newer than all before in its lane.
    pub(crate) const fn advance(&mut self, lane: Lane, index: u64) -> bool {
        let last = match lane {
            Lane::Urgent => &mut self.urgent,
            Lane::Normal => &mut self.normal,
        };
        if index <= *last {
            return false;
        }
        *last = index;
        true
    }
}

impl Owner {
    /// It has shown that it lives.
    pub(crate) const fn renew(&mut self, now: Millis) {
        self.lease_until = now + limits::CLAIM_AFTER_MS;
    }
}

/// Why nothing is pushed to a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Since when.
    pub since: Millis,
    /// When it is tried again; `None` if a person must resume it.
    pub until: Option<Millis>,
    /// Why.
    pub why: String,
}

/// Calls made to a channel today.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Which day, of agreed time in UTC.
    pub day: u64,
    /// How many, as far as was told.
    pub calls: u64,
}

/// A channel in the agreed state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// What it is.
    pub definition: Definition,
    /// Who pushes to it, once a node has claimed it.
    pub owner: Option<Owner>,
    /// Agreed time since which it is known: what changed before is not polled.
    pub since: Millis,
    /// Where polling goes on, by the channel's clock. It never goes back.
    pub cursor: Option<Millis>,
    /// How late it hears of what happened elsewhere, once that was measured.
    pub lag: Option<Lag>,
    /// Set while it is being removed.
    pub leaving: Option<Leaving>,
    /// Set while nothing is to be pushed.
    pub paused: Option<Paused>,
    /// What of its daily bound is used up.
    pub spent: Spent,
    /// Set while all of its listings are to be pushed anew, some with each command: the bucket of the map of all SKUs
    /// where that goes on.
    pub pushes_all: Option<usize>,
    /// When it took a quantity last.
    pub pushed: Option<Millis>,
}

/// A channel that is being removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// Agreed time since when.
    pub since: Millis,
    /// Whether nobody waits until they show nothing.
    pub is_abandoned: bool,
}

impl Channel {
    /// A channel that was heard of just now.
    pub(crate) const fn new(definition: Definition, since: Millis) -> Self {
        let spent = Spent { day: 0, calls: 0 };
        Self {
            definition,
            owner: None,
            since,
            cursor: None,
            lag: None,
            leaving: None,
            paused: None,
            spent,
            pushes_all: None,
            pushed: None,
        }
    }

    /// Whether nothing is to be pushed now.
    #[must_use]
    pub fn is_paused(&self, now: Millis) -> bool {
        self.paused.as_ref().is_some_and(|paused| paused.until.is_none_or(|until| now < until))
    }

    /// Calls made on the day of this time.
    #[must_use]
    pub const fn spent(&self, now: Millis) -> u64 {
        if self.spent.day == now / DAY_MS { self.spent.calls } else { 0 }
    }

    /// When more may be sent than now, after a rest or on the next day, if only time is waited for.
    pub(crate) fn goes_on_at(&self, now: Millis) -> Option<Millis> {
        let rest =
            self.paused.as_ref().and_then(|paused| paused.until).filter(|until| now < *until);
        let bounded = self.definition.per_day > 0 && self.spent(now) > 0;
        let day = bounded.then_some((self.spent.day + 1).saturating_mul(DAY_MS));
        rest.into_iter().chain(day).min()
    }

    pub(crate) const fn spend(&mut self, calls: u64, now: Millis) {
        let calls = self.spent(now).saturating_add(calls);
        self.spent = Spent { day: now / DAY_MS, calls };
    }
}
