//! Bugs that tests plant in the product, to see whether they would be caught. A release has none.

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// The inbox answers what it has not made durable.
    SkipFlush,
    /// The inbox numbers its segments under the same name at each start.
    SameIncarnation,
    /// A segment that was refused, as one before it is missing, counts as agreed on.
    GapIsApplied,
    /// What is answered once it is agreed on is answered before.
    AnsweredBeforeAgreed,
    /// A push without an answer counts as one that was not taken.
    UnknownIsRefused,
    /// An intent that may have been agreed on is forgotten.
    IntentForgotten,
    /// An ack is answered before it is agreed on.
    AckIsEarly,
    /// What a node granted from its quota and its replica does not know yet is left of it all the same.
    SpentIsLeft,
    /// What must be read first is left to the feeds, which read nothing.
    UnreadIsFed,
}

#[cfg(feature = "planted-bugs")]
mod on {
    use std::sync::OnceLock;

    use super::Bug;

    static PLANTED: OnceLock<Bug> = OnceLock::new();

    const NAMES: [(&str, Bug); 9] = [
        ("skip-flush", Bug::SkipFlush),
        ("same-incarnation", Bug::SameIncarnation),
        ("gap-is-applied", Bug::GapIsApplied),
        ("answered-before-agreed", Bug::AnsweredBeforeAgreed),
        ("unknown-is-refused", Bug::UnknownIsRefused),
        ("intent-forgotten", Bug::IntentForgotten),
        ("ack-is-early", Bug::AckIsEarly),
        ("spent-is-left", Bug::SpentIsLeft),
        ("unread-is-fed", Bug::UnreadIsFed),
    ];

    /// Plants a bug in this process; whether there is one of this name.
    pub(crate) fn plant(name: &str) -> bool {
        let found = NAMES.iter().find(|(known, _)| *known == name);
        found.is_some_and(|(_, bug)| PLANTED.set(*bug).is_ok())
    }

    /// Whether this bug is planted.
    pub(crate) fn has(bug: Bug) -> bool {
        PLANTED.get() == Some(&bug)
    }
}

#[cfg(feature = "planted-bugs")]
pub(crate) use on::{has, plant};

/// Never.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn has(_: Bug) -> bool {
    false
}
