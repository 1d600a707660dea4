//! How far an order has come, where the channel tells the time of a change in whole seconds.

/// Whether an order wants its units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Not yet: it may never be paid.
    Before,
    /// It does.
    Holds,
    /// Not any more.
    After,
}

impl Stage {
    /// The version of an image of this second: an order that was placed and cancelled within one second
    /// is cancelled, whichever image comes last. An order that comes back to life within the second of
    /// its end holds nothing until it changes again.
    #[must_use]
    pub(crate) const fn within_second(self, second_ms: u64) -> u64 {
        let offset = match self {
            Self::Before => 0,
            Self::Holds => 1,
            Self::After => 2,
        };
        second_ms.saturating_add(offset)
    }
}
