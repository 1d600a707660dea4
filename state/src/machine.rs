//! The state, and the one way to change it.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::allocation::{self, Policy};
use crate::buckets::Buckets;
use crate::channel::{Channel, Definition, Owner};
use crate::command::{Command, ListingSpec};
use crate::dedup::{Expiring, Seen};
use crate::ledger::Stock;
use crate::limits;
use crate::listing::{Due, Listing, Place, Stale};
use crate::names::Names;
use crate::order::Order;
use crate::origin::Origins;
use crate::{Effects, Key, Millis, NodeId, Reply};

/// Where in the log a command stands, and when the cluster says that was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Log index.
    pub index: u64,
    /// Agreed time.
    pub now: Millis,
}

/// Everything that is agreed on: what a snapshot holds and a digest covers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Data {
    /// Agreed time of the last command.
    pub now: Millis,
    /// SKUs.
    pub stock: Buckets<String, Stock>,
    /// Orders by channel and the channel's id.
    pub orders: Expiring<(String, String), Order>,
    /// Deliveries seen.
    pub seen: Expiring<Key, Seen>,
    /// Movements asked for and booked, by the caller's id.
    pub booked: Expiring<Key, Seen>,
    /// First answers by idempotency key.
    pub answers: Expiring<Key, Answer>,
    /// Dead letters by log index and number in the entry.
    pub dead: Expiring<(u64, u32), DeadLetter>,
    /// Movements that channels told of, by channel and the channel's id.
    pub told: Expiring<(String, String), Millis>,
    /// What the channels' own ids stand for.
    pub names: Names,
    /// Orders that must be fetched, by channel and the channel's id.
    pub reloads: BTreeMap<(String, String), Reload>,
    /// Sequences of the inboxes.
    pub origins: Origins,
    /// Channels by name.
    pub channels: BTreeMap<String, Channel>,
    /// Allocation policies, first match wins.
    pub policies: Vec<Policy>,
    /// Whether channels and policies were seeded.
    pub seeded: bool,
}

/// The first answer to an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Hash of the request.
    pub body: Key,
    /// What was answered.
    pub reply: Reply,
    /// When.
    pub time: Millis,
}

/// An order that must be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// Log index of the newest delivery that asked for it.
    pub asked: u64,
    /// When the order changed, by the channel's clock; 0 if nobody said.
    pub version: Millis,
    /// Agreed time since which it waits.
    pub since: Millis,
}

/// A delivery that could not be applied, listed until somebody looks at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Why.
    pub reason: String,
    /// The channel.
    pub channel: String,
    /// The sender's topic.
    pub topic: String,
    /// The delivery's id.
    pub delivery: String,
    /// When it was received.
    pub received: Millis,
    /// When it was listed.
    pub time: Millis,
}

/// Walks over all data in an order that is the same on every node; see [`Data::visit`].
pub trait Visitor {
    /// A bucket of a map; `writes` changes whenever its entries may have.
    fn bucket<T: Serialize>(&mut self, map: &'static str, n: usize, writes: u64, entries: &T);
    /// A part that is not in buckets.
    fn part<T: Serialize>(&mut self, name: &'static str, part: &T);
}

impl Data {
    /// Shows every part to a visitor.
    pub fn visit(&self, visitor: &mut impl Visitor) {
        for (n, writes, entries) in self.stock.buckets() {
            visitor.bucket("stock", n, writes, entries);
        }
        for (n, writes, entries) in self.orders.entries().buckets() {
            visitor.bucket("orders", n, writes, entries);
        }
        for (n, writes, entries) in self.seen.entries().buckets() {
            visitor.bucket("seen", n, writes, entries);
        }
        for (n, writes, entries) in self.booked.entries().buckets() {
            visitor.bucket("booked", n, writes, entries);
        }
        for (n, writes, entries) in self.answers.entries().buckets() {
            visitor.bucket("answers", n, writes, entries);
        }
        for (n, writes, entries) in self.dead.entries().buckets() {
            visitor.bucket("dead", n, writes, entries);
        }
        for (n, writes, entries) in self.told.entries().buckets() {
            visitor.bucket("told", n, writes, entries);
        }
        for (n, writes, entries) in self.names.names().buckets() {
            visitor.bucket("names", n, writes, entries);
        }
        for (n, writes, entries) in self.names.waiting().buckets() {
            visitor.bucket("waiting", n, writes, entries);
        }
        visitor.part("ready", self.names.ready());
        visitor.part("reloads", &self.reloads);
        visitor.part("now", &self.now);
        visitor.part("origins", &self.origins);
        visitor.part("channels", &self.channels);
        visitor.part("policies", &self.policies);
        visitor.part("seeded", &self.seeded);
    }

    /// One channel's allocation of a SKU.
    #[must_use]
    pub fn allocation(&self, channel: &str, sku: &str) -> Option<allocation::Allocation> {
        let stock = self.stock.get(&sku.to_string())?;
        let policy = allocation::policy_of(&self.policies, sku);
        allocation::allocate(stock, &self.channels, policy, channel, self.now)
    }
}

/// The state with the lists derived from it.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub(crate) data: Data,
    due: Due,
    wakes: Due,
    flights: Due,
}

/// One command being applied: where it stands, and what has come of it so far.
pub(crate) struct Work {
    pub(crate) stamp: Stamp,
    pub(crate) effects: Effects,
    /// SKUs that it changed, with the change that their channels have to show.
    touched: BTreeMap<String, Option<Stale>>,
}

impl Work {
    /// Notes that a SKU changed, for the most urgent of its causes.
    pub(crate) fn touch(&mut self, sku: &str, cause: Option<Stale>) {
        let known = self.touched.entry(sku.to_string()).or_default();
        *known = match (*known, cause) {
            (Some(known), Some(cause)) => Some(earlier(known, cause)),
            (known, cause) => known.or(cause),
        };
    }
}

impl State {
    /// A state from a snapshot.
    #[must_use]
    pub fn new(data: Data) -> Self {
        let mut state = Self { data, ..Self::default() };
        for (sku, stock) in state.data.stock.iter() {
            for (channel, listing) in &stock.listings {
                let place = (channel.clone(), sku.clone());
                state.due.change(&place, None, due_at(listing));
                state.wakes.change(&place, None, listing.wakes_at());
                state.flights.change(&place, None, in_flight(listing));
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
        &self.due
    }

    /// Listings with a push that has no outcome yet.
    #[must_use]
    pub const fn flights(&self) -> &Due {
        &self.flights
    }

    /// When the next thing is due for which a tick must be proposed, if nothing else is.
    #[must_use]
    pub fn wakes_at(&self) -> Option<Millis> {
        let named = (!self.data.names.ready().is_empty()).then_some(self.data.now);
        let woken = self.wakes.first().map(|(time, ..)| time);
        named.into_iter().chain(woken).min()
    }

    /// Applies a command. The same commands with the same stamps give the same state everywhere.
    pub fn apply(&mut self, stamp: Stamp, command: Command) -> (Reply, Effects) {
        let now = stamp.now.max(self.data.now).min(limits::TIME_MAX);
        let stamp = Stamp { now, ..stamp };
        self.data.now = now;
        let mut work = Work { stamp, effects: Effects::default(), touched: BTreeMap::new() };
        self.expire(&mut work);
        let reply = match command {
            Command::Segment(segment) => self.segment(&mut work, segment),
            Command::Movements(asked) => self.movements(&mut work, &asked),
            Command::Seed { channels, policies } => self.seed(now, channels, policies),
            Command::PutChannel { name, definition } => {
                self.put_channel(&mut work, name, definition)
            }
            Command::PutPolicies(policies) => self.put_policies(&mut work, policies),
            Command::Map { sku, listings } => self.map(&mut work, &sku, listings),
            Command::List(rows) => self.list(&mut work, rows),
            Command::Claim { channel, node } => self.claim(&mut work, &channel, node),
            Command::Intend { channel, epoch, skus } => {
                self.intend(&mut work, &channel, epoch, skus)
            }
            Command::Settle { channel, epoch, outcomes } => {
                self.settle(&mut work, &channel, epoch, outcomes)
            }
            Command::Tick => Reply::Done,
        };
        self.work_off_named(&mut work);
        for (sku, cause) in work.touched {
            self.refresh(&sku, cause);
        }
        (reply, work.effects)
    }

    fn expire(&mut self, work: &mut Work) {
        let now = work.stamp.now;
        // Keys were put in with their own end, and nothing touches them after.
        self.data.seen.expire(now, |_| 0);
        self.data.booked.expire(now, |_| 0);
        self.data.answers.expire(now, |_| 0);
        self.data.dead.expire(now, |_| 0);
        self.data.told.expire(now, |_| 0);
        let orders = self.data.orders.expire(now, |order| order.touched + limits::ORDER_KEEP_MS);
        for (place, order) in &orders {
            self.data.names.forget(place, order);
        }
        for _ in 0..limits::EXPIRED_PER_COMMAND_MAX {
            let Some((_, channel, sku)) = self.wakes.first().filter(|(time, ..)| *time <= now)
            else {
                break;
            };
            let place = (channel.to_string(), sku.to_string());
            self.change_listing(&place, |listing| listing.wake(now));
            work.touch(&place.1, None);
        }
    }

    fn seed(
        &mut self,
        now: Millis,
        channels: BTreeMap<String, Definition>,
        policies: Vec<Policy>,
    ) -> Reply {
        if self.data.seeded {
            return Reply::Done;
        }
        let known = &self.data.channels;
        let new = channels.keys().filter(|name| !known.contains_key(*name)).count();
        if known.len() + new > limits::CHANNELS_MAX || policies.len() > limits::POLICIES_MAX {
            return Reply::Rejected("too many channels or policies".into());
        }
        for (name, definition) in channels {
            self.data.channels.entry(name).or_insert(Channel::new(definition, now));
        }
        self.data.policies = policies;
        self.data.seeded = true;
        Reply::Done
    }

    fn put_channel(&mut self, work: &mut Work, name: String, definition: Definition) -> Reply {
        let known = self.data.channels.get_mut(&name);
        if let Some(channel) = known {
            if channel.definition.location != definition.location {
                return Reply::Rejected("the location of a channel cannot be changed".into());
            }
            if channel.definition.pushes != definition.pushes {
                let listed = self.data.stock.iter().filter(|(_, s)| s.listings.contains_key(&name));
                listed.for_each(|(sku, _)| work.touch(sku, None));
            }
            channel.definition = definition;
        } else if self.data.channels.len() >= limits::CHANNELS_MAX {
            return Reply::Rejected("too many channels".into());
        } else {
            self.data.channels.insert(name, Channel::new(definition, work.stamp.now));
        }
        Reply::Done
    }

    fn put_policies(&mut self, work: &mut Work, policies: Vec<Policy>) -> Reply {
        if policies.len() > limits::POLICIES_MAX {
            return Reply::Rejected("too many policies".into());
        }
        self.data.policies = policies;
        for (sku, _) in self.data.stock.iter() {
            work.touch(sku, None);
        }
        Reply::Done
    }

    /// Says which listings a SKU has: those, and no others.
    fn map(
        &mut self,
        work: &mut Work,
        sku: &str,
        listings: BTreeMap<String, ListingSpec>,
    ) -> Reply {
        if let Err(why) = self.know(listings.keys()) {
            return why;
        }
        let stock = self.data.stock.entry(sku.to_string());
        let gone: Vec<String> =
            stock.listings.keys().filter(|name| !listings.contains_key(*name)).cloned().collect();
        for channel in gone {
            let place = (channel, sku.to_string());
            let mut old = ListingSpec::default();
            self.change_listing(&place, |listing| {
                old = core::mem::take(listing).spec;
            });
            old.ids().for_each(|id| self.data.names.unset(&(place.0.clone(), id.into()), sku));
            self.data.stock.entry(sku.to_string()).listings.remove(&place.0);
        }
        for (channel, spec) in listings {
            self.map_one(work, sku, channel, spec);
        }
        work.touch(sku, None);
        Reply::Done
    }

    /// Adds listings to SKUs, or changes them; what is not named stays.
    fn list(&mut self, work: &mut Work, rows: Vec<(String, String, ListingSpec)>) -> Reply {
        if rows.len() > limits::LISTING_ROWS_MAX {
            return Reply::Rejected("too many listings in one request".into());
        }
        if let Err(why) = self.know(rows.iter().map(|(_, channel, _)| channel)) {
            return why;
        }
        for (sku, channel, spec) in rows {
            self.map_one(work, &sku, channel, spec);
            work.touch(&sku, None);
        }
        Reply::Done
    }

    fn know<'a>(&self, mut channels: impl Iterator<Item = &'a String>) -> Result<(), Reply> {
        match channels.find(|name| !self.data.channels.contains_key(*name)) {
            Some(unknown) => {
                Err(Reply::Rejected(alloc::format!("there is no channel {unknown:?}")))
            }
            None => Ok(()),
        }
    }

    fn map_one(&mut self, work: &mut Work, sku: &str, channel: String, spec: ListingSpec) {
        let place = (channel, sku.to_string());
        self.data.stock.entry(place.1.clone()).listings.entry(place.0.clone()).or_default();
        let mut old = ListingSpec::default();
        let ids: Vec<String> = spec.ids().map(ToString::to_string).collect();
        self.change_listing(&place, |listing| {
            // Another listing id is another listing: nothing is known of it.
            if listing.spec != spec {
                old = core::mem::replace(listing, Listing { spec, ..Listing::default() }).spec;
            }
            listing.fault = None;
        });
        old.ids().for_each(|id| self.data.names.unset(&(place.0.clone(), id.into()), sku));
        for id in ids {
            self.data.names.set((place.0.clone(), id), sku);
        }
        work.touch(sku, None);
    }

    fn claim(&mut self, work: &mut Work, channel: &str, node: NodeId) -> Reply {
        let Stamp { index, now } = work.stamp;
        let Some(known) = self.data.channels.get_mut(channel) else {
            return Reply::Rejected(alloc::format!("there is no channel {channel:?}"));
        };
        known.owner = Some(Owner { node, epoch: index });
        let in_flight: Vec<String> =
            self.flights.of(channel).map(|(_, sku)| sku.to_string()).collect();
        for sku in in_flight {
            let place = (channel.to_string(), sku);
            self.change_listing(&place, |listing| listing.abandon(now));
            work.touch(&place.1, None);
        }
        Reply::Claimed { epoch: index }
    }

    /// Changes a listing, if there is one, and keeps the derived lists true.
    pub(crate) fn change_listing<T>(
        &mut self,
        place: &Place,
        change: impl FnOnce(&mut Listing) -> T,
    ) -> Option<T> {
        let listing = self.data.stock.get_mut(&place.1)?.listings.get_mut(&place.0)?;
        let times = |listing: &Listing| (due_at(listing), listing.wakes_at(), in_flight(listing));
        let before = times(listing);
        let result = change(listing);
        let after = times(listing);
        self.due.change(place, before.0, after.0);
        self.wakes.change(place, before.1, after.1);
        self.flights.change(place, before.2, after.2);
        Some(result)
    }

    /// Compares what each listing of a SKU shows with what it should, and marks those that differ.
    fn refresh(&mut self, sku: &str, cause: Option<Stale>) {
        let sku = sku.to_string();
        let now = self.data.now;
        let cause = cause.unwrap_or(Stale { since: now, deadline: now + limits::WINDOW_RETURN_MS });
        let Some(stock) = self.data.stock.get(&sku) else { return };
        let policy = allocation::policy_of(&self.data.policies, &sku);
        let mut changes = Vec::new();
        for (name, listing) in &stock.listings {
            let channels = &self.data.channels;
            let pushes = channels.get(name).is_some_and(|channel| channel.definition.pushes);
            let allocation = allocation::allocate(stock, channels, policy, name, now);
            let desired = allocation.map(|allocation| allocation.desired);
            let differs = listing.unsure || listing.expected() != desired;
            let wanted = pushes && listing.fault.is_none() && differs;
            let stale = wanted.then(|| listing.stale.map_or(cause, |stale| earlier(stale, cause)));
            if stale != listing.stale {
                changes.push((name.clone(), stale));
            }
        }
        for (channel, stale) in changes {
            self.change_listing(&(channel, sku.clone()), |listing| listing.stale = stale);
        }
    }
}

fn earlier(a: Stale, b: Stale) -> Stale {
    Stale { since: a.since.min(b.since), deadline: a.deadline.min(b.deadline) }
}

fn due_at(listing: &Listing) -> Option<Millis> {
    listing.stale.filter(|_| listing.is_due()).map(|stale| stale.deadline)
}

fn in_flight(listing: &Listing) -> Option<Millis> {
    listing.in_flight.map(|push| push.stale.deadline)
}
