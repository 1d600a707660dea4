//! What goes wrong: the kinds of fault, how often, and how many there were.

use std::collections::{BTreeMap, BTreeSet};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    WebhookLost,
    WebhookLate,
    WebhookRepeated,
    WebhookNeverSent,
    WebhookForged,
    AnswerLost,
    ProposalLost,
    ProposalLate,
    ProposalDiscarded,
    ProposalUnanswered,
    FollowerLags,
    LeaderLost,
    NodeCutOff,
    NodeKilled,
    PowerLost,
    DiskError,
    DiskFull,
    DiskLost,
    ClockStepped,
    ClockFarOff,
    CallLost,
    CallUnanswered,
    CallLate,
    CallRepeated,
    CallLimited,
    CallRefused,
    ChannelDown,
    ChannelEdited,
    FeedSlow,
    FeedCancelled,
    FeedBroken,
    FeedRefused,
    FeedRowRefused,
    FeedRowUnknown,
    FeedLies,
}

/// Name, and how many of a thousand chances come true; of those that somebody plans, how they compare.
const ALL: [(Fault, &str, u64); 35] = [
    (Fault::WebhookLost, "webhook-lost", 60),
    (Fault::WebhookLate, "webhook-late", 100),
    (Fault::WebhookRepeated, "webhook-repeated", 90),
    (Fault::WebhookNeverSent, "webhook-never-sent", 60),
    (Fault::WebhookForged, "webhook-forged", 60),
    (Fault::AnswerLost, "answer-lost", 50),
    (Fault::ProposalLost, "proposal-lost", 15),
    (Fault::ProposalLate, "proposal-late", 30),
    (Fault::ProposalDiscarded, "proposal-discarded", 15),
    (Fault::ProposalUnanswered, "proposal-unanswered", 25),
    (Fault::FollowerLags, "follower-lags", 12),
    (Fault::LeaderLost, "leader-lost", 12),
    (Fault::NodeCutOff, "node-cut-off", 12),
    (Fault::NodeKilled, "node-killed", 12),
    (Fault::PowerLost, "power-lost", 8),
    (Fault::DiskError, "disk-error", 12),
    (Fault::DiskFull, "disk-full", 10),
    (Fault::DiskLost, "disk-lost", 6),
    (Fault::ClockStepped, "clock-stepped", 10),
    (Fault::ClockFarOff, "clock-far-off", 8),
    (Fault::CallLost, "call-lost", 35),
    (Fault::CallUnanswered, "call-unanswered", 40),
    (Fault::CallLate, "call-late", 40),
    (Fault::CallRepeated, "call-repeated", 50),
    (Fault::CallLimited, "call-limited", 30),
    (Fault::CallRefused, "call-refused", 30),
    (Fault::ChannelDown, "channel-down", 8),
    (Fault::ChannelEdited, "channel-edited", 8),
    (Fault::FeedSlow, "feed-slow", 200),
    (Fault::FeedCancelled, "feed-cancelled", 100),
    (Fault::FeedBroken, "feed-broken", 120),
    (Fault::FeedRefused, "feed-refused", 80),
    (Fault::FeedRowRefused, "feed-row-refused", 80),
    (Fault::FeedRowUnknown, "feed-row-unknown", 100),
    (Fault::FeedLies, "feed-lies", 40),
];

/// Those that are planned, one after another, rather than met by chance.
pub(super) const PLANNED: [Fault; 12] = [
    Fault::FollowerLags,
    Fault::LeaderLost,
    Fault::NodeCutOff,
    Fault::NodeKilled,
    Fault::PowerLost,
    Fault::DiskError,
    Fault::DiskFull,
    Fault::DiskLost,
    Fault::ClockStepped,
    Fault::ClockFarOff,
    Fault::ChannelDown,
    Fault::ChannelEdited,
];

impl Fault {
    pub(super) fn name(self) -> &'static str {
        ALL.iter().find(|(fault, ..)| *fault == self).map_or("", |(_, name, _)| name)
    }

    /// Whether it is one that workers of a topic may notice.
    pub(super) fn strikes_topics(self) -> bool {
        let (of_nodes, of_channels) = (Self::AnswerLost.., Self::CallLost..);
        of_nodes.contains(&self) && !of_channels.contains(&self)
    }

    /// How many of a thousand chances come true.
    pub(super) fn per_mille(self) -> u64 {
        ALL.iter().find(|(fault, ..)| *fault == self).map_or(0, |(.., chances)| *chances)
    }
}

/// The kinds that a run may meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kinds(BTreeSet<Fault>);

impl Kinds {
    /// The kinds whose names begin so: none named is all of them, `none` is none.
    pub(super) fn named(names: &[String]) -> Self {
        let all = names.is_empty();
        let asked = |known: &str| names.iter().any(|name| known.starts_with(name.as_str()));
        let kinds = ALL.iter().filter(|(_, known, _)| all || asked(known));
        Self(kinds.map(|(fault, ..)| *fault).collect())
    }

    pub(super) fn has(&self, fault: Fault) -> bool {
        self.0.contains(&fault)
    }

    pub(super) fn without(&self, fault: Fault) -> Self {
        Self(self.0.iter().copied().filter(|kind| *kind != fault).collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Fault> {
        self.0.iter().copied()
    }

    /// As they are named on the command line; empty for all.
    pub(super) fn names(&self) -> Vec<String> {
        match self.0.len() {
            0 => vec!["none".into()],
            all if all == ALL.len() => Vec::new(),
            _ => self.0.iter().map(|fault| fault.name().to_string()).collect(),
        }
    }
}

/// The name of a kind, what several begin with (`webhook`, `call`), or `none`.
pub(super) fn known(name: &str) -> Result<String, String> {
    if name == "none" || ALL.iter().any(|(_, known, _)| known.starts_with(name)) {
        return Ok(name.into());
    }
    let known: Vec<&str> = ALL.iter().map(|(_, name, _)| *name).collect();
    Err(format!("known are {}", known.join(", ")))
}

/// What a run met, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) faults: BTreeMap<Fault, u64>,
    /// Commands, replies and transitions that were reached.
    pub(super) reached: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn reach(&mut self, what: &str) {
        if let Some(count) = self.reached.get_mut(what) {
            *count += 1;
        } else {
            self.reached.insert(what.to_string(), 1);
        }
    }
}
