//! What may happen at channels and between them.

use proptest::prelude::*;
use state::Millis;
use state::limits::MINUTE_MS;
use state::order::Removal;

/// `Look` asks what a channel shows, which is agreed on later; `Repeat` tells the last outcome again. A feed lands,
/// and its end is told of; pushes go ahead of it.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    Polled {
        at: usize,
    },
    Sell {
        at: usize,
        quantity: i64,
    },
    TakeBack {
        at: usize,
        sale: usize,
        removal: Removal,
    },
    Hear {
        at: usize,
        which: usize,
    },
    Push {
        at: usize,
        fate: Fate,
    },
    Read {
        at: usize,
    },
    Look {
        at: usize,
    },
    Repeat {
        at: usize,
    },
    Land {
        at: usize,
    },
    Claim {
        at: usize,
    },
    Feed {
        at: usize,
    },
    FeedLands {
        at: usize,
    },
    FeedEnds {
        at: usize,
    },
    Lower(i64),
    Receive(i64),
    Weigh([u32; 3]),
    Wait(Millis),
    /// Its SKU is listed there, or no more.
    List {
        at: usize,
        listed: bool,
    },
}

#[derive(Clone, Copy, Debug)]
pub enum Fate {
    Answered,
    AnswerLost,
    Lost,
    Late,
    Refused,
}

/// Anything at one of so many channels.
pub fn op(channels: usize) -> impl Strategy<Value = Op> {
    let at = move || 0..channels;
    let removal = prop_oneof![Just(Removal::Cancelled), Just(Removal::Returned)];
    let fate = prop_oneof![
        3 => Just(Fate::Answered),
        1 => Just(Fate::AnswerLost),
        1 => Just(Fate::Lost),
        1 => Just(Fate::Late),
        1 => Just(Fate::Refused),
    ];
    prop_oneof![
        4 => (at(), 1..4i64).prop_map(|(at, quantity)| Op::Sell { at, quantity }),
        2 => (at(), any::<usize>(), removal)
            .prop_map(|(at, sale, removal)| Op::TakeBack { at, sale, removal }),
        4 => (at(), any::<usize>()).prop_map(|(at, which)| Op::Hear { at, which }),
        8 => (at(), fate).prop_map(|(at, fate)| Op::Push { at, fate }),
        2 => at().prop_map(|at| Op::Read { at }),
        2 => at().prop_map(|at| Op::Look { at }),
        1 => at().prop_map(|at| Op::Repeat { at }),
        2 => at().prop_map(|at| Op::Land { at }),
        1 => at().prop_map(|at| Op::Claim { at }),
        3 => at().prop_map(|at| Op::Feed { at }),
        2 => at().prop_map(|at| Op::FeedLands { at }),
        2 => at().prop_map(|at| Op::FeedEnds { at }),
        1 => (1..4i64).prop_map(Op::Lower),
        1 => (1..6i64).prop_map(Op::Receive),
        1 => [0..4u32, 0..4u32, 1..4u32].prop_map(Op::Weigh),
        2 => at().prop_map(|at| Op::Polled { at }),
        1 => (at(), any::<bool>()).prop_map(|(at, listed)| Op::List { at, listed }),
        3 => (1..20u64).prop_map(|minutes| Op::Wait(minutes * MINUTE_MS)),
    ]
}
