//! The state, and the one way to change it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::allocation::Exposures;
use crate::command::{Command, Report};
use crate::data::Data;
use crate::dues::{Counts, Dues, Times};
use crate::escrow::Holder;
use crate::ledger::Stock;
use crate::limits;
use crate::listing::{Class, Due, Listing, Place, Stale};
use crate::notices::{Before, shortfalls};
use crate::pushes::Told;
use crate::queue::lists::Lists;
use crate::reservation::Status;
use crate::shares::{Overlaps, Pending};
use crate::{Effects, Id, Millis, NodeId, Packed, Reply};

/// Where in the log a command stands, and when the cluster says that was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Log index.
    pub index: u64,
    /// Agreed time.
    pub now: Millis,
}

/// The state with the lists derived from it.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub(crate) data: Data,
    pub(crate) dues: Dues,
    /// SKUs that are short of something somewhere.
    pub(crate) short: BTreeSet<Id>,
    /// When what is held is let go.
    pub(crate) holds: BTreeSet<(Millis, String)>,
    /// What is held from quotas, by who lets it go.
    pub(crate) escrowed: BTreeSet<(Holder, String)>,
    pub(crate) lists: Lists,
    pub(crate) overlaps: Overlaps,
}

/// One command being applied: where it stands, and what has come of it so far.
pub(crate) struct Work {
    pub(crate) stamp: Stamp,
    pub(crate) effects: Effects,
    /// SKUs that it changed, with the change that their channels have to show.
    touched: BTreeMap<String, Option<Stale>>,
    /// How the SKUs that it changed were before it.
    pub(crate) before: BTreeMap<String, Before>,
    /// What of it concerns shares.
    pub(crate) shares: Pending,
    /// Whether it brought a walk over all SKUs to its end.
    pub(crate) walked: bool,
}

impl Work {
    /// Notes that a SKU changed, for the most urgent of its causes.
    pub(crate) fn touch(&mut self, sku: &str, cause: Option<Stale>) {
        let known = self.touched.entry(sku.to_string()).or_default();
        *known = match (*known, cause) {
            (Some(known), Some(cause)) => Some(known.and(cause)),
            (known, cause) => known.or(cause),
        };
    }
}

impl State {
    /// A state from a snapshot.
    #[must_use]
    pub fn new(data: Data) -> Self {
        let mut state = Self { data, ..Self::default() };
        state.data.kits.derive();
        state.lists = Lists::of(&state.data.queue);
        for (id, reservation) in state.data.reservations.entries().iter() {
            match (reservation.status, reservation.escrow) {
                (Status::Held, None) => {
                    state.holds.insert((reservation.expires, id.clone()));
                }
                (Status::Held, Some(escrow)) => {
                    state.escrowed.insert((escrow.holder, id.clone()));
                }
                _ => {}
            }
        }
        for (sku, stock) in state.data.stock.iter() {
            if !shortfalls(stock).is_empty() {
                state.short.insert(sku.clone());
            }
            state.overlaps.change(0, stock.overlap);
            for (channel, listing) in &stock.listings {
                let (place, listing) = ((channel.clone(), sku.clone()), listing.get());
                state.dues.change(&place, Times::default(), Times::of(&listing));
            }
        }
        state
    }

    /// What is agreed on.
    #[must_use]
    pub const fn data(&self) -> &Data {
        &self.data
    }

    /// Listings that wait to be pushed.
    #[must_use]
    pub const fn due(&self) -> &Due {
        &self.dues.due
    }

    /// Listings with a push that has no outcome yet.
    #[must_use]
    pub const fn flights(&self) -> &Due {
        &self.dues.flights
    }

    /// Of the listings that wait to be pushed, those that a sale made wait.
    #[must_use]
    pub const fn urgent(&self) -> &Due {
        &self.dues.urgent
    }

    /// Listings whose channel takes no push for them, by the time since when.
    #[must_use]
    pub const fn failures(&self) -> &Due {
        &self.dues.failures
    }

    /// How many listings a channel has.
    #[must_use]
    pub fn counts(&self, channel: &str) -> Counts {
        self.dues.counts(channel)
    }

    /// Whether something of a channel's listings stops to count once its sales are heard of, or with time.
    #[must_use]
    pub fn has_doubts(&self, channel: &str) -> bool {
        self.dues.wakes.count(channel) > 0
    }

    /// Listings of which something stops to count at a time.
    pub(crate) const fn wakes(&self) -> &Due {
        &self.dues.wakes
    }

    /// When the next thing is due for which a tick must be proposed, if nothing else is.
    #[must_use]
    pub fn wakes_at(&self) -> Option<Millis> {
        let data = &self.data;
        let more = !data.names.ready().is_empty()
            || data.walk.is_some()
            || data.escrow.is_coming_back()
            || data.channels.values().any(|known| known.pushes_all.is_some());
        let named = more.then_some(data.now);
        let woken = self.dues.wakes.first().map(|(time, ..)| time);
        let let_go = self.holds.first().map(|(time, _)| *time);
        let channels = self.data.channels.iter();
        let goes_on = channels.filter_map(|(name, known)| {
            let waits = self.dues.due.count(name) + self.dues.flights.count(name) > 0;
            known.goes_on_at(self.data.now).filter(|_| waits)
        });
        let of_channels = woken.into_iter().chain(goes_on);
        named.into_iter().chain(of_channels).chain(let_go).chain(self.lists.wakes_at()).min()
    }

    /// SKUs that are short of something somewhere.
    #[must_use]
    pub const fn short(&self) -> &BTreeSet<Id> {
        &self.short
    }

    /// What of all SKUs may be oversold as things stand.
    #[must_use]
    pub const fn overlaps(&self) -> Overlaps {
        self.overlaps
    }

    /// What is derived of the topics.
    #[must_use]
    pub const fn queue(&self) -> &Lists {
        &self.lists
    }

    /// When what is held is let go, by reservation.
    #[must_use]
    pub const fn holds(&self) -> &BTreeSet<(Millis, String)> {
        &self.holds
    }

    /// What is held from quotas, by who lets it go.
    #[must_use]
    pub const fn escrowed(&self) -> &BTreeSet<(Holder, String)> {
        &self.escrowed
    }

    /// Applies a command. The same commands with the same stamps give the same state everywhere.
    pub fn apply(&mut self, stamp: Stamp, command: Command) -> (Reply, Effects) {
        let now = stamp.now.max(self.data.now).min(limits::TIME_MAX);
        let stamp = Stamp { now, ..stamp };
        self.data.now = now;
        let mut work = Work {
            stamp,
            effects: Effects::default(),
            touched: BTreeMap::new(),
            before: BTreeMap::new(),
            shares: Pending::default(),
            walked: false,
        };
        self.expire(&mut work);
        let reply = self.carry_out(&mut work, command);
        self.settle_what_follows(&mut work);
        (reply, work.effects)
    }

    pub(crate) fn carry_out(&mut self, work: &mut Work, command: Command) -> Reply {
        let now = work.stamp.now;
        match command {
            Command::Segment(segment) => self.segment(work, segment),
            Command::Request { idempotency, asked } => self.request(work, idempotency, asked),
            Command::Seed { channels, policies, locations } => {
                self.seed(work, channels, policies, locations)
            }
            Command::PutChannel { name, definition } => self.put_channel(work, name, definition),
            Command::PutPolicies { policies, replaces } => {
                self.put_policies(work, policies, replaces)
            }
            Command::Map { sku, settings } => self.map(work, &sku, settings),
            Command::List(rows) => self.list(work, rows),
            Command::Claim { channel, node } => self.claim(work, &channel, node),
            Command::Intend { channel, epoch, lane, skus } => {
                self.intend(work, &channel, (epoch, lane), skus)
            }
            Command::Settle { channel, epoch, lane, intent, calls, outcomes } => {
                let told = Told { epoch, lane, intent, calls };
                self.settle(work, &channel, told, outcomes)
            }
            Command::Tick => {
                self.go_on(work);
                Reply::Done
            }
            Command::PutLocations(locations) => self.put_locations(locations),
            Command::Checkpoint => self.checkpoint(work.stamp),
            Command::Report { checkpoint, node, report } => self.report(checkpoint, node, report),
            Command::Queue(asks) => self.ask_queue(work, asks),
            Command::Rebalance(skus) => self.rebalance(work, skus),
            Command::RemoveChannel { channel, abandon } => {
                self.remove_channel(work, &channel, abandon)
            }
            Command::Measured(rows) => self.measured(work, rows),
            Command::Lagged { node, lags } => self.lagged(work, node, lags),
            Command::Grant(grants) => self.grant(work, grants),
            Command::Destroyed { node, keeping } => self.destroyed(work, node, keeping),
            Command::Renew { channel, epoch, calls } => self.renew(now, &channel, epoch, calls),
            Command::Release { channel, epoch } => self.give_back(now, &channel, epoch),
            Command::Pause { channel, why, for_ms } => self.pause(now, &channel, why, for_ms),
            Command::Resume { channel, owner } => self.resume(&channel, owner),
            Command::PushNow { channel, sku } => self.push_now(work, &channel, sku),
        }
    }

    /// Goes on with what was too much for the command that began it: one thing with each tick.
    fn go_on(&mut self, work: &mut Work) {
        let _ = self.come_back(work) || self.walk_on(work) || self.push_on(work);
    }

    /// What hangs on what changed: shares, listings that are stale now, notices.
    fn settle_what_follows(&mut self, work: &mut Work) {
        self.work_off_named(work);
        self.touch_related(work);
        let touched = core::mem::take(&mut work.touched);
        for sku in touched.keys() {
            self.part_with(sku);
            self.share_out(work, sku);
        }
        // None of what follows changes what may be sold; what kits may show hangs on it.
        let mut exposures = Exposures::default();
        for sku in touched.keys() {
            self.note_overlap(sku, &mut exposures);
        }
        for (sku, cause) in touched {
            self.refresh(&sku, cause, &mut exposures);
        }
        if work.walked {
            self.data.walk = None;
        }
        self.give_notices(work);
    }

    /// What a kit may show hangs on its components, and what they may show on the kit.
    fn touch_related(&self, work: &mut Work) {
        if self.data.kits.recipes().is_empty() {
            return;
        }
        for (sku, cause) in work.touched.clone() {
            for related in self.data.kits.related(&sku) {
                work.touch(&related, cause);
            }
        }
    }

    /// Asks every node for what its replica is at this entry. Older ones than the last few are forgotten.
    fn checkpoint(&mut self, stamp: Stamp) -> Reply {
        let checkpoints = &mut self.data.checkpoints;
        checkpoints.insert(stamp.index, BTreeMap::new());
        while checkpoints.len() > limits::CHECKPOINTS_MAX {
            checkpoints.pop_first();
        }
        Reply::Checkpoint { index: stamp.index }
    }

    fn report(&mut self, checkpoint: u64, node: NodeId, report: Report) -> Reply {
        match self.data.checkpoints.get_mut(&checkpoint) {
            Some(reports) if reports.len() < limits::REPORTS_MAX => {
                reports.entry(node).or_insert(report);
                Reply::Done
            }
            _ => Reply::Rejected("nobody waits for this report".into()),
        }
    }

    fn expire(&mut self, work: &mut Work) {
        let now = work.stamp.now;
        // Keys were put in with their own end, and nothing touches them after.
        self.data.seen.expire(now, |_| 0);
        self.data.booked.expire(now, |_| 0);
        self.data.answers.expire(now, |_| 0);
        let forgotten = self.data.dead.expire(now, |_| 0);
        work.effects.dropped.extend(forgotten.into_iter().map(|(place, _)| place));
        self.data.told.expire(now, |_| 0);
        self.data.notices.expire(now, |_| 0);
        self.expire_holds(work);
        self.wake_queue(work);
        self.data.reservations.expire(now, |known| known.kept_until(now));
        let orders =
            self.data.orders.expire(now, |order| order.get().touched + limits::ORDER_KEEP_MS);
        for (place, order) in &orders {
            self.data.names.forget(place, &order.get());
        }
        for _ in 0..limits::EXPIRED_PER_COMMAND_MAX {
            let first = self.dues.wakes.first().filter(|(time, ..)| *time <= now);
            let Some((_, channel, sku)) = first else { break };
            let place = (channel.into(), sku.into());
            self.change_listing(&place, |listing| listing.wake(now));
            work.touch(&place.1, None);
        }
    }

    /// A SKU, to be changed; made if there was none.
    pub(crate) fn stock_mut(&mut self, sku: &str) -> &mut Stock {
        Arc::make_mut(self.data.stock.entry(sku.into()))
    }

    /// Changes a listing, if there is one, and keeps the derived lists true.
    pub(crate) fn change_listing<T>(
        &mut self,
        place: &Place,
        change: impl FnOnce(&mut Listing) -> T,
    ) -> Option<T> {
        // What nobody listed is not written to.
        self.data.stock.get(&place.1)?.listings.get(&place.0)?;
        let stock = Arc::make_mut(self.data.stock.get_mut(&place.1)?);
        let packed = stock.listings.get_mut(&place.0)?;
        let mut listing = packed.get();
        let before = Times::of(&listing);
        let result = change(&mut listing);
        let after = Times::of(&listing);
        *packed = Packed::new(&listing);
        self.dues.change(place, before, after);
        Some(result)
    }

    /// Compares what each listing of a SKU shows with what it should, and marks those that differ.
    fn refresh(&mut self, sku: &str, cause: Option<Stale>, exposures: &mut Exposures) {
        let now = self.data.now;
        let cause = cause.unwrap_or(Stale::new(Class::Return, now));
        let Some(stock) = self.data.stock.get(sku) else { return };
        let mut changes = Vec::new();
        for (name, listing) in &stock.listings {
            let listing = listing.get();
            let channel = self.data.channels.get(name.as_str());
            let pushes = channel.is_some_and(|channel| channel.definition.pushes);
            let shadow = channel.is_some_and(|channel| channel.definition.shadow);
            let allocation = self.data.allocation_of(name, sku, &listing, exposures);
            let desired = allocation.map(|allocation| allocation.desired);
            let noted = listing.shadow.map(|(quantity, _)| quantity);
            let told = if shadow { noted } else { listing.expected() };
            let differs = listing.unsure || told != desired;
            let wanted = pushes && listing.fault.is_none() && differs;
            let stale = wanted.then(|| listing.stale.map_or(cause, |stale| stale.and(cause)));
            if stale != listing.stale {
                changes.push((name.clone(), stale));
            }
        }
        for (channel, stale) in changes {
            self.change_listing(&(channel, sku.into()), |listing| listing.stale = stale);
        }
    }
}
