//! What really happened, apart from what the ledger says: the lines of all orders, what channels sold, and
//! what the log took in of it.

use std::collections::{BTreeMap, VecDeque};

use state::command::Asked;
use state::ledger::{Kind, Movement};
use state::limits::{FEED_KEEP_MS, MINUTE_MS, UNCERTAIN_KEEP_MS};
use state::origin::Lane;
use state::reply::{Answered, Step};
use state::{Command, Reply};

use super::world::World;
use super::{LISTED, parts};

/// What comes later than this is later than the ledger counts on, by its own time.
const LATE_MS: u64 = UNCERTAIN_KEEP_MS - MINUTE_MS;
/// For so long after something came too late an oversell may be its fault.
const FAULT_MS: u64 = 4 * UNCERTAIN_KEEP_MS;
/// Intents remembered of one listing.
const INTENTS_MAX: usize = 64;

/// Channel, order and line as movements name them, and of what of it: a kit is told apart from its parts.
pub(super) type LineId = (String, String, String);

/// Units of one line of an order: as they really are, or as the ledger moved them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Units {
    pub(super) sold: i64,
    pub(super) cancelled: i64,
    pub(super) fulfilled: i64,
    pub(super) returned: i64,
}

impl Units {
    /// Committed, and what was added to what is on hand.
    pub(super) const fn net(self) -> (i64, i64) {
        (self.sold - self.cancelled - self.fulfilled, self.returned - self.fulfilled)
    }
}

/// One SKU's part of one line of an order that somebody placed.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    pub(super) real: Units,
    pub(super) heard: Units,
    /// Agreed time of the first change of which not all was heard.
    pub(super) since: u64,
}

impl Line {
    /// A line as it is placed.
    pub(super) fn placed(sold: i64, now: u64) -> Self {
        let real = Units { sold, ..Units::default() };
        Self { real, heard: Units::default(), since: now }
    }

    /// Something happens to it.
    pub(super) fn change(&mut self, now: u64, change: impl FnOnce(&mut Units)) {
        if self.real.net() == self.heard.net() {
            self.since = now;
        }
        change(&mut self.real);
    }

    /// Whether something of it comes, or would come, later than the ledger counts on.
    const fn is_late(&self, now: u64) -> bool {
        now > self.since + LATE_MS
    }
}

/// A push that was agreed on.
#[derive(Clone, Debug)]
pub(super) struct Intent {
    pub(super) revision: u64,
    quantity: i64,
    from: i64,
    /// What it takes out of stock, and what facts had taken away of that by then.
    lowered: Vec<(String, i64)>,
    /// What comes later is later than the ledger counts on.
    late_after: u64,
}

/// One SKU as it really is.
#[derive(Clone, Debug, Default)]
pub(super) struct Sku {
    /// What can be sold through channels, and what they sold of it.
    pub(super) kept: i64,
    pub(super) out: i64,
    /// What facts have taken away: counts, holds, other sales.
    pub(super) lowered: i64,
    /// The same, when the last raise that a channel took was agreed on.
    pub(super) lowered_at_raise: i64,
    /// Agreed time at which something came too late last.
    pub(super) late: Option<u64>,
}

#[derive(Default)]
pub(super) struct Truth {
    pub(super) lines: BTreeMap<LineId, Line>,
    pub(super) skus: BTreeMap<String, Sku>,
    intents: BTreeMap<(String, String), VecDeque<Intent>>,
    /// Units sold beyond what was there, by what explains it.
    pub(super) oversold: BTreeMap<&'static str, i64>,
}

impl Truth {
    pub(super) fn sku(&mut self, sku: &str) -> &mut Sku {
        if !self.skus.contains_key(sku) {
            self.skus.insert(sku.into(), Sku::default());
        }
        self.skus.entry(sku.into()).or_default()
    }

    /// A movement is in the ledger.
    pub(super) fn moved(&mut self, movement: &Movement, now: u64) {
        let quantity = movement.quantity;
        if let (Some(channel), Some(reference)) = (&movement.channel, &movement.reference) {
            let place = (channel.clone(), reference.clone(), movement.sku.clone());
            let line = self.lines.entry(place).or_default();
            match movement.kind {
                Kind::Sale => line.heard.sold += quantity,
                Kind::Cancellation => line.heard.cancelled += quantity,
                Kind::Fulfilment => line.heard.fulfilled += quantity,
                Kind::Return => line.heard.returned += quantity,
                _ => {}
            }
            if !super::is_till(channel) {
                if line.is_late(now) {
                    self.sku(&movement.sku).late = Some(now);
                }
                return;
            }
        }
        let sku = self.sku(&movement.sku);
        let change = match movement.kind {
            Kind::Receipt
            | Kind::Return
            | Kind::Adjustment
            | Kind::Cancellation
            | Kind::Release
            | Kind::Surrender => quantity,
            Kind::Sale | Kind::Hold | Kind::Grant | Kind::Transfer => -quantity,
            Kind::Fulfilment | Kind::Incoming => 0,
        };
        sku.kept += change;
        sku.lowered += (-change).max(0);
    }

    /// Something that the ledger does not count on, for a while.
    pub(super) fn late(&mut self, sku: &str, now: u64) {
        self.sku(sku).late = Some(now);
    }

    /// The same of a SKU and of what it is made of.
    pub(super) fn late_all(&mut self, sku: &str, now: u64) {
        self.late(sku, now);
        for (part, _) in parts(sku) {
            self.late(part, now);
        }
    }

    /// The newest push that was agreed on with these quantities.
    pub(super) fn intent(
        &self,
        channel: &str,
        sku: &str,
        (quantity, from): (i64, i64),
    ) -> Option<&Intent> {
        let intents = self.intents.get(&(channel.into(), sku.into()))?;
        let same = |intent: &&Intent| (intent.quantity, intent.from) == (quantity, from);
        intents.iter().rev().find(same)
    }

    /// Whether something that came too late, or that nobody has heard of for long, explains an oversell.
    fn came_late(&self, name: &str, now: u64) -> bool {
        let late = self.skus.get(name).and_then(|sku| sku.late);
        let unheard = |((channel, _, sku), line): (&LineId, &Line)| {
            let late = line.is_late(now) && !super::is_till(channel);
            late && sku == name && line.real.net() != line.heard.net()
        };
        late.is_some_and(|late| now < late + FAULT_MS) || self.lines.iter().any(unheard)
    }
}

impl World {
    /// Agreed time.
    pub(super) fn agreed_now(&self) -> u64 {
        self.log.head.state.data().now
    }

    /// What was agreed on that others are held against later.
    pub(super) fn remember(&mut self, command: &Command, reply: &Reply, index: u64) {
        let now = self.agreed_now();
        match (command, reply) {
            (Command::Intend { channel, lane, .. }, Reply::Intended(intended)) => {
                self.goes_ahead(channel, intended);
                let feed = *lane == Lane::Normal;
                let late_after = now + if feed { FEED_KEEP_MS - MINUTE_MS } else { LATE_MS };
                let pushes = intended.iter().any(|next| matches!(next.step, Step::Push { .. }));
                self.in_shadow(channel, pushes);
                for next in intended {
                    let Step::Push { quantity, from, revision } = next.step else { continue };
                    let parts = parts(&next.sku);
                    let lowered = parts
                        .into_iter()
                        .map(|(part, _)| (part.to_string(), self.log.truth.sku(part).lowered));
                    let lowered = lowered.collect();
                    let place = (channel.clone(), next.sku.clone());
                    let intents = self.log.truth.intents.entry(place).or_default();
                    intents.push_back(Intent { revision, quantity, from, lowered, late_after });
                    if intents.len() > INTENTS_MAX {
                        intents.pop_front();
                    }
                }
            }
            (
                Command::Request { asked: Asked::Hold(_), .. },
                Reply::Answered { index: at, answer: Answered::Reservation(id, held) },
            ) if *at == index => {
                let data = self.log.head.state.data();
                let short = held.lines.iter().find(|line| {
                    let parts = parts(&line.sku);
                    parts.iter().any(|(part, _)| data.available(part, &line.location) < 0)
                });
                if let Some(line) = short {
                    let how = format!("{id} was granted, and {} is short then", line.sku);
                    self.breaks("I3", how);
                }
            }
            (Command::Settle { channel, outcomes, .. }, Reply::Done) => {
                self.feed_ended(channel, outcomes);
            }
            _ => {}
        }
    }

    /// Whether nobody could know in time.
    fn excused(&self, part: &str, now: u64) -> bool {
        let by_hand = |sku: &String| parts(sku).iter().any(|(known, _)| *known == part);
        let edited = self.markets.iter().any(|market| {
            // What is noticed cannot be mended where operators let nobody tell it.
            market.edited.iter().any(by_hand)
                || self.is_bound(&market.name) && market.unset.iter().any(by_hand)
        });
        edited || self.log.truth.came_late(part, now)
    }

    /// Whether operators let a channel be told little, or nothing.
    pub(super) fn is_bound(&self, channel: &str) -> bool {
        let known = self.log.head.state.data().channels.get(channel);
        known.is_some_and(|known| known.definition.shadow || known.definition.per_day > 0)
    }

    /// What channels can sell of a SKU, by itself and in kits, and what they have sold of it.
    fn reach(&self, part: &str) -> i64 {
        let each = |sku: &str| parts(sku).iter().find(|(known, _)| *known == part).map(|of| of.1);
        let holders = LISTED.iter().filter_map(|sku| Some((sku, each(sku)?)));
        let shown = holders.map(|(sku, each)| {
            each * self.markets.iter().map(|market| market.shows(sku)).sum::<i64>()
        });
        shown.sum::<i64>() + self.log.truth.skus.get(part).map_or(0, |sku| sku.out)
    }

    /// A channel took a raise: together, channels must not be able to sell more than there is.
    pub(super) fn raised(&mut self, sku: &str, intent: &Intent) {
        let now = self.agreed_now();
        for (part, lowered) in &intent.lowered {
            if now > intent.late_after {
                self.log.truth.late(part, now);
            }
            let reach = self.reach(part);
            let known = self.log.truth.sku(part);
            known.lowered_at_raise = *lowered;
            let most = known.kept + known.lowered - lowered;
            if reach > most && !self.excused(part, now) {
                let revision = intent.revision;
                let how =
                    format!("raise {revision} of {sku}: {reach} {part} can be sold of {most}");
                self.breaks("I4", how);
            }
        }
    }

    /// A channel sold units: what is sold beyond what is there must have a cause that nobody could know.
    pub(super) fn sold(&mut self, sku: &str, quantity: i64) {
        let now = self.agreed_now();
        let known = self.log.truth.sku(sku);
        let before = (known.out - known.kept).max(0);
        known.out += quantity;
        let units = (known.out - known.kept).max(0) - before;
        if units <= 0 {
            return;
        }
        let cause = if super::is_shared(sku) {
            "shared by policy"
        } else if known.lowered > known.lowered_at_raise {
            "a fact that lowered stock"
        } else if self.excused(sku, now) {
            "news that came too late"
        } else {
            self.breaks("I4", format!("{units} of {sku} were sold twice, and nothing explains it"));
            "unexplained"
        };
        *self.log.truth.oversold.entry(cause).or_default() += units;
        self.tally.reach("oversell");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_heard_of_is_not_news_because_more_happened() {
        // An order that was cancelled in part right now, and whose sale came an hour too late, would be the fault of
        // whoever did not know of it.
        let (sold, later) = (1_000, 1_000 + LATE_MS + 1);
        let mut line = Line::placed(3, sold);
        line.change(later, |real| real.cancelled += 1);
        assert!(line.is_late(later));
        // Once all was heard, the next change is news.
        line.heard = line.real;
        line.change(later, |real| real.fulfilled += 1);
        assert!(!line.is_late(later));
    }
}
