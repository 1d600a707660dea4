//! Names for what a run reached.

use state::command::{Asked, Settled};
use state::origin::Lane;
use state::reply::{Answered, Refused, Step};
use state::reservation::Status;
use state::{Command, Reply};

pub(super) const fn of_command(command: &Command) -> &'static str {
    match command {
        Command::Segment(_) => "command segment",
        Command::Request { .. } => "command request",
        Command::Seed { .. } => "command seed",
        Command::PutChannel { .. } => "command put channel",
        Command::PutPolicies { .. } => "command put policies",
        Command::Map { .. } => "command map",
        Command::Claim { .. } => "command claim",
        Command::Intend { .. } => "command intend",
        Command::Settle { .. } => "command settle",
        Command::Tick => "command tick",
        Command::List(_) => "command list",
        Command::PutLocations(_) => "command put locations",
        Command::Checkpoint => "command checkpoint",
        Command::Report { .. } => "command report",
        Command::Queue(_) => "command queue",
        Command::Rebalance(_) => "command rebalance",
        Command::RemoveChannel { .. } => "command remove channel",
        Command::Measured(_) => "command measured",
        Command::Lagged { .. } => "command lagged",
        Command::Grant(_) => "command grant",
        Command::Destroyed { .. } => "command destroyed",
        Command::Renew { .. } => "command renew",
        Command::Release { .. } => "command release",
        Command::Pause { .. } => "command pause",
        Command::Resume { .. } => "command resume",
        Command::PushNow { .. } => "command push now",
    }
}

pub(super) const fn of_reply(reply: &Reply) -> &'static str {
    match reply {
        Reply::Done => "reply done",
        Reply::Applied => "reply applied",
        Reply::Gap { .. } => "reply gap",
        Reply::Answered { answer: Answered::Movements(_), .. } => "reply movements",
        Reply::Answered { answer: Answered::Reservation(..), .. } => "reply reservation",
        Reply::Answered { answer: Answered::Refused(Refused::Insufficient(_)), .. } => {
            "reply insufficient stock"
        }
        Reply::Answered { answer: Answered::Refused(_), .. } => "reply refused",
        Reply::Queue(_)
        | Reply::Answered { answer: Answered::Queue(_) | Answered::Granted(_), .. } => {
            "reply queue"
        }
        Reply::Answered { answer: Answered::Changed(_), .. } => "reply changed",
        Reply::KeyReused => "reply key reused",
        Reply::Claimed { .. } => "reply claimed",
        Reply::Fenced => "reply fenced",
        Reply::Intended(_) => "reply intended",
        Reply::Rejected(_) => "reply rejected",
        Reply::Checkpoint { .. } => "reply checkpoint",
        Reply::Superseded { .. } => "reply superseded",
    }
}

/// What became of pushes and readings, of intents and of reservations, one name each.
pub(super) fn of_parts(command: &Command, reply: &Reply) -> Vec<&'static str> {
    match (command, reply) {
        (Command::Settle { outcomes, lane: Lane::Normal, .. }, Reply::Done) => {
            let names = outcomes.iter().map(|outcome| match outcome.result {
                Settled::Confirmed => "feed row confirmed",
                Settled::Observed(_) => "feed row settled by reading",
                Settled::Refused => "feed row not taken",
                Settled::Failed(_) => "feed row failed",
            });
            names.collect()
        }
        (Command::Settle { outcomes, .. }, Reply::Done) => {
            let names = outcomes.iter().map(|outcome| match outcome.result {
                Settled::Confirmed => "settled confirmed",
                Settled::Observed(_) if outcome.revision > 0 => "settled by reading",
                Settled::Observed(_) => "settled observed",
                Settled::Refused => "settled refused",
                Settled::Failed(_) => "settled failed",
            });
            names.collect()
        }
        (Command::Intend { lane, .. }, Reply::Intended(intended)) => {
            let names = intended.iter().map(|next| match next.step {
                Step::Push { quantity, from, .. } if *lane == Lane::Normal => {
                    if quantity > from {
                        "raise intended by feed"
                    } else {
                        "lowering intended by feed"
                    }
                }
                Step::Push { quantity, from, .. } if quantity > from => "raise intended",
                Step::Push { .. } => "lowering intended",
                Step::Observe => "reading intended",
            });
            if intended.is_empty() { vec!["nothing intended"] } else { names.collect() }
        }
        (
            Command::Request { .. },
            Reply::Answered { answer: Answered::Reservation(_, known), .. },
        ) => match known.status {
            Status::Held => vec!["reservation held"],
            Status::Confirmed => vec!["reservation confirmed"],
            Status::Released => vec!["reservation released"],
            Status::Expired => vec!["reservation expired"],
        },
        _ => Vec::new(),
    }
}

/// A command and its reply in words, by SKU where it has several.
pub(super) fn in_words(command: &Command, reply: &Reply) -> Vec<String> {
    match command {
        Command::Segment(segment) => {
            let (node, sequence) = (segment.origin.node, segment.sequence);
            let facts = segment.deliveries.iter().flat_map(|delivery| {
                delivery.facts.iter().map(move |fact| format!("{} {fact:?}", delivery.id))
            });
            facts
                .map(|fact| {
                    format!("segment {node}/{:?}/{sequence} {reply:?}: {fact}", segment.lane)
                })
                .collect()
        }
        Command::Intend { channel, .. } => match reply {
            Reply::Intended(intended) => {
                let next = intended.iter();
                next.map(|next| format!("intend {channel} {} {:?}", next.sku, next.step)).collect()
            }
            reply => vec![format!("intend {channel}: {reply:?}")],
        },
        Command::Settle { channel, outcomes, .. } => outcomes
            .iter()
            .map(|of| {
                format!("settle {channel} {} {} {:?}: {reply:?}", of.sku, of.revision, of.result)
            })
            .collect(),
        Command::Request { asked: Asked::Movements(asked), .. } => {
            let movements = asked.movements.iter();
            movements.map(|one| format!("{:?} {} {}", one.kind, one.quantity, one.sku)).collect()
        }
        Command::Request { asked, .. } => vec![format!("{asked:?}: {reply:?}")],
        other => vec![format!("{}: {reply:?}", of_command(other))],
    }
}
