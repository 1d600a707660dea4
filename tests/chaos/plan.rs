//! What is done to the cluster, decided by a seed before anything happens.

use std::time::Duration;

use crate::support::random;

/// To whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    Leader,
    Follower,
    All,
}

/// What is cut between members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// One from all others: a minority.
    Around(Whom),
    /// One still hears the others and is not heard.
    From(Whom),
    /// One is still heard and hears nobody.
    To(Whom),
    /// Two from each other, while both reach the third.
    Bridge,
    /// Everybody from everybody: no majority.
    All,
}

/// How the node that pushes to the stores is away for longer than its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    Paused,
    CutOff,
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Kill(Whom),
    Freeze(Whom),
    /// Others push meanwhile.
    Owner(Loss),
    Cut(Cut),
    /// Links lose, repeat and delay far more than usual.
    BadLinks,
    /// A disk has no room left: first too little for webhooks, then none.
    FullDisk,
    PowerLoss(Whom),
    /// A clock is set ahead, or back, by an hour.
    Clock {
        ahead: bool,
    },
    RollingRestart,
    /// A node joins, learns, votes, and another is removed.
    Membership,
    /// A node is away for longer than the log reaches back.
    Snapshot,
}

/// Every kind, in as many ways as it has.
const DECK: [Fault; 20] = [
    Fault::Kill(Whom::Leader),
    Fault::Kill(Whom::Follower),
    Fault::Kill(Whom::All),
    Fault::Freeze(Whom::Leader),
    Fault::Freeze(Whom::Follower),
    Fault::Cut(Cut::Around(Whom::Leader)),
    Fault::Cut(Cut::Around(Whom::Follower)),
    Fault::Cut(Cut::From(Whom::Leader)),
    Fault::Cut(Cut::To(Whom::Leader)),
    Fault::Cut(Cut::Bridge),
    Fault::Cut(Cut::All),
    Fault::BadLinks,
    Fault::FullDisk,
    Fault::PowerLoss(Whom::Leader),
    Fault::PowerLoss(Whom::All),
    Fault::Clock { ahead: true },
    Fault::Clock { ahead: false },
    Fault::RollingRestart,
    Fault::Membership,
    Fault::Snapshot,
];

/// One fault, how long it lasts, and a number that decides what is left to decide.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) fault: Fault,
    pub(crate) lasts: Duration,
    pub(crate) choice: u64,
}

/// Endless: the whole deck shuffled, and shuffled again. Each time it begins with the owner lost, which takes longest,
/// in the other way than before: so a short plan has one of these, and no more.
pub(crate) struct Plan {
    random: u64,
    loss: Loss,
    left: Vec<Fault>,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let loss = if seed.is_multiple_of(2) { Loss::Paused } else { Loss::CutOff };
        Self { random: seed, loss, left: Vec::new() }
    }

    fn fault(&mut self) -> Fault {
        if self.left.is_empty() {
            self.left = DECK.into();
            let next = if self.loss == Loss::Paused { Loss::CutOff } else { Loss::Paused };
            return Fault::Owner(std::mem::replace(&mut self.loss, next));
        }
        let count = u64::try_from(self.left.len()).unwrap();
        let which = usize::try_from(random(&mut self.random, count)).unwrap();
        self.left.swap_remove(which)
    }
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let fault = self.fault();
        let lasts = Duration::from_millis(1_000 + random(&mut self.random, 2_000));
        Some(Step { fault, lasts, choice: random(&mut self.random, 1 << 30) })
    }
}
