//! How urgent a change is that a channel does not show yet.

use serde::{Deserialize, Serialize};

use crate::{Millis, limits};

/// How urgent a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Class {
    /// Something was sold or is held: the others must not sell it too.
    Sale,
    /// Something was given back, or shares changed.
    Return,
    /// Stock was received, counted or moved.
    Adjustment,
}

impl Class {
    /// All of them, most urgent first, with their names.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Sale, "sale"), (Self::Return, "return"), (Self::Adjustment, "adjustment")];

    /// How long the channels may show the old quantity.
    #[must_use]
    pub const fn window_ms(self) -> Millis {
        match self {
            Self::Sale => limits::WINDOW_SALE_MS,
            Self::Return => limits::WINDOW_RETURN_MS,
            Self::Adjustment => limits::WINDOW_ADJUSTMENT_MS,
        }
    }
}

/// A change that a channel does not show yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stale {
    /// When its cause was received.
    pub since: Millis,
    /// When it must be shown.
    pub deadline: Millis,
    /// How urgent the most urgent of its causes is.
    pub class: Class,
}

impl Stale {
    /// A change whose cause was received at this time.
    pub(crate) const fn new(class: Class, since: Millis) -> Self {
        Self { since, deadline: since + class.window_ms(), class }
    }

    /// Two changes that one push answers.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            since: self.since.min(other.since),
            deadline: self.deadline.min(other.deadline),
            class: self.class.min(other.class),
        }
    }
}
