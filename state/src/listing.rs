//! Listings: what each channel shows, what is on its way there, and what may still be sold from it.
//!
//! **Exposure** is an upper bound on the sales that may still arrive from a listing. It is a sum, and only
//! these change it:
//!
//! * where the channel compares and sets, a push of N from C adds N − C when it is agreed on, if that is more
//!   than nothing; once it is confirmed, less than nothing counts too;
//! * where it sets plainly, a push of N adds N, raise or not: all that was shown before may have been sold
//!   until it came, and their sales are erased by it. Once it is confirmed, what was shown before counts as
//!   [`unresolved`](Listing::unresolved) until orders through the confirmation are in;
//! * a push without a known outcome goes on counting ([`unresolved`](Listing::unresolved)): a raise
//!   may have been taken or may land yet, a lowering may not have been taken;
//! * reading a channel moves units between what is shown and what is missing
//!   ([`unheard`](Listing::unheard)), and never lowers the sum: the reason may be a sale on its way;
//! * a sale that arrives takes its quantity off, and units that a channel put back on sale, or may have put back,
//!   come on, unless a reading showed them already ([`put_back`](Listing::put_back)).
//!
//! What is missing or unresolved stops to count when nothing can be on its way any more and the
//! channel has been read since. A listing that was never read has no bound, and nothing is raised
//! beside it.

mod due;
mod stale;

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::command::ListingSpec;
use crate::velocity::Pace;
use crate::{Millis, Stamp, limits};

pub use due::Due;
pub(crate) use due::Place;
pub use stale::{Class, Stale};

/// One SKU on one channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a question of its own")]
pub struct Listing {
    /// How the channel names it.
    pub spec: ListingSpec,
    /// What the channel shows, as far as was heard; `None` until it was observed once.
    pub shown: Option<i64>,
    /// The push that was agreed on and has no outcome yet.
    pub in_flight: Option<InFlight>,
    /// The push that went by feed and that a sale did not wait for: the feed may carry it out over what was
    /// pushed since, until its end is told of. Revision of that push.
    pub overtaken: Option<u64>,
    /// What was read before this log index says nothing: it was listed then, or began to leave, or the end of a feed
    /// was told of.
    pub read_after: u64,
    /// Units that pushes without a known outcome may have added, may yet add, or may not have taken.
    pub unresolved: i64,
    /// Until when the last raise without a known outcome may land.
    pub lands_until: Millis,
    /// Whether what it shows must be read back before anything is pushed.
    pub unsure: bool,
    /// Units missing on the channel whose sale has not arrived yet.
    pub unheard: i64,
    /// Units that a reading showed too many: put back on sale there, and their cancellation or return
    /// has not arrived.
    pub put_back: i64,
    /// Whether a sale was taken for one of units of a lost push, and nothing was read since. Units put back on
    /// sale, and not heard of, may have been sold instead, and more of them hide that from one reading.
    pub guessed: bool,
    /// Until when `unheard`, `unresolved` and `put_back` count at least.
    pub uncertain_until: Millis,
    /// Set while nothing is uncertain but what plain sets erased, all confirmed: it stops to count without a
    /// reading, as soon as orders through this time are in.
    pub settles: Option<Millis>,
    /// Log index of the last sale there that was heard of.
    pub sold_at: u64,
    /// Log index of the last that was heard of units put back on sale there.
    pub restocked_at: u64,
    /// The quantity confirmed last, and when.
    pub confirmed: Option<(i64, Millis)>,
    /// The quantity read back last, and when.
    pub observed: Option<(i64, Millis)>,
    /// The quantity that the channel told of by itself last, and when by its own clock.
    pub told: Option<(i64, Millis)>,
    /// Set while the channel shows something else than it should.
    pub stale: Option<Stale>,
    /// Why the channel will not take a push until the mapping changes or somebody asks for one.
    pub fault: Option<String>,
    /// Since when.
    pub failed_at: Millis,
    /// What would have been pushed last, and when, where nothing is really sent.
    pub shadow: Option<(i64, Millis)>,
    /// The channel's share, where the SKU is split: see [`shares`](crate::shares).
    pub allocated: i64,
    /// How fast it sells.
    pub pace: Pace,
    /// Set once it is its SKU's no more: it shall show nothing, and goes once nothing can be sold from it.
    pub leaves: bool,
    /// Whether what it shows follows from sales that were heard of, and the channel has not said it since.
    pub inferred: bool,
}

/// A push that was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// What the channel shall show.
    pub quantity: i64,
    /// What it was believed to show.
    pub from: i64,
    /// Log index of the intent: names the push.
    pub revision: u64,
    /// The change that it answers.
    pub stale: Stale,
    /// Whether the channel sets it whatever it shows.
    pub plain: bool,
    /// Whether it goes by feed, which takes minutes: a sale does not wait for that.
    pub fed: bool,
}

impl Listing {
    /// The most that may still arrive from it as sales; `None` while nobody can know.
    #[must_use]
    pub fn exposure(&self, now: Millis) -> Option<i64> {
        let shown = self.shown?;
        let most = match self.in_flight {
            Some(push) if push.plain => push.erases(shown),
            _ => self.expected().map_or(shown, |expected| expected.max(shown)).max(0),
        };
        Some(most + self.unheard(now) + self.unresolved(now))
    }

    /// What it shows once the push in flight is taken, as far as was heard. What was sold or put back
    /// since the push was agreed on came after it on the channel too, or the channel refuses it.
    #[must_use]
    pub fn expected(&self) -> Option<i64> {
        let shown = self.shown?;
        let changed = |push: InFlight| {
            if push.plain { push.quantity } else { (push.quantity + shown - push.from).max(0) }
        };
        Some(self.in_flight.map_or(shown, changed))
    }

    /// Units missing there whose sale may still arrive.
    #[must_use]
    pub fn unheard(&self, now: Millis) -> i64 {
        if self.counts(now) { self.unheard } else { 0 }
    }

    /// Units that pushes without a known outcome may have added to what is shown, or may yet add.
    #[must_use]
    pub fn unresolved(&self, now: Millis) -> i64 {
        if self.counts(now) { self.unresolved } else { 0 }
    }

    /// When something about it stops to count, if anything does: it must be looked at again then. The same of
    /// what was explained by a sale that may have been another one: it was never read since.
    #[must_use]
    pub fn wakes_at(&self) -> Option<Millis> {
        let unread = self.settles.is_none() && self.read_at() < self.uncertain_until;
        let waits = self.is_uncertain() || unread;
        (waits && !self.unsure).then_some(self.uncertain_until)
    }

    /// When it was read last; 0 before the first time.
    pub(crate) fn read_at(&self) -> Millis {
        self.observed.map_or(0, |(_, time)| time)
    }

    /// Forgets what no longer counts, unless a reading must come first, and asks for one: units put back
    /// may have been counted twice, once by a reading and once when they were heard of.
    pub fn wake(&mut self, now: Millis) {
        let doubtful = self.wakes_at().is_some_and(|time| now >= time);
        self.forget(now);
        self.unsure |= doubtful && self.settles.is_none();
    }

    /// Orders are in of all that was sold there through `time`: what plain sets erased before counts no more.
    pub fn hear(&mut self, time: Millis, now: Millis) {
        if self.settles.is_some_and(|until| until <= time) {
            self.uncertain_until = self.uncertain_until.min(now);
        }
    }

    const fn is_uncertain(&self) -> bool {
        self.unheard > 0 || self.unresolved > 0 || self.put_back > 0
    }

    fn counts(&self, now: Millis) -> bool {
        self.unsure || now < self.uncertain_until || self.may_have_landed()
    }

    /// Whether a raise without a known outcome may have landed since the channel was read.
    fn may_have_landed(&self) -> bool {
        self.is_uncertain() && self.read_at() < self.lands_until
    }

    fn forget(&mut self, now: Millis) {
        if !self.counts(now) {
            (self.unheard, self.unresolved, self.put_back) = (0, 0, 0);
        }
    }

    /// A sale of this channel arrived: it explains missing units first, then lowers what is shown.
    pub fn sold(&mut self, quantity: i64, stamp: Stamp) {
        self.forget(stamp.now);
        self.sold_at = stamp.index;
        let missing = self.unheard.min(quantity);
        let doubtful = self.unresolved.min(quantity - missing);
        self.unheard -= missing;
        self.unresolved -= doubtful;
        // Units that a lost push never added cannot have been sold: then fewer are shown than it seems, and
        // nothing else would ever tell.
        self.unsure |= doubtful > 0;
        self.guessed |= doubtful > 0;
        let rest = quantity - missing - doubtful;
        // Below zero stands what was sold of units of which nothing was heard: of what the push in flight
        // brings, or put back on sale before. What else it may be, a reading tells.
        let least = self.in_flight.map_or(0, |push| {
            if push.plain {
                push.from.min(0) - push.quantity
            } else {
                (push.from - push.quantity).min(0)
            }
        });
        self.shown = self.shown.map(|shown| shown.saturating_sub(rest).max(-limits::LEVEL_MAX));
        self.inferred |= rest > 0;
        self.unsure |= rest > 0 && self.shown.is_some_and(|shown| shown < least);
    }

    /// Nobody will learn what became of the push in flight: what was sold beyond what was shown may not be
    /// of it.
    fn doubt(&mut self) {
        let Some(push) = self.in_flight else { return };
        self.shown = self.shown.map(|shown| shown.max(push.from.min(0)));
    }

    /// The push in flight was not taken: what was sold beyond what was shown had been put back on sale, and a
    /// reading tells.
    fn drop_push(&mut self) {
        self.in_flight = None;
        self.unsure |= self.shown.is_some_and(|shown| shown < 0);
    }

    /// The channel put units back on sale by itself: a cancellation or a return that it restocked. It
    /// explains units that a reading showed too many first, then raises what is shown.
    pub fn restocked(&mut self, quantity: i64, stamp: Stamp) {
        let rest = self.unexplained(quantity, stamp);
        self.shown = self.shown.map(|shown| shown.saturating_add(rest).min(limits::LEVEL_MAX));
    }

    /// A cancellation or a return there of which nobody says whether the channel put its units back on sale:
    /// on some it depends on the reason. They count as if it had, until a reading tells.
    pub fn may_be_restocked(&mut self, quantity: i64, stamp: Stamp) {
        let rest = self.unexplained(quantity, stamp);
        let Some(shown) = self.shown else { return };
        let doubtful = rest.min(limits::LEVEL_MAX - shown);
        if doubtful > 0 {
            self.unresolved = (self.unresolved + doubtful).min(limits::LEVEL_MAX);
            let until = stamp.now + limits::UNCERTAIN_KEEP_MS;
            self.uncertain_until = self.uncertain_until.max(until);
            self.unsure = true;
        }
    }

    /// Of units put back on sale there, how many no reading showed yet.
    fn unexplained(&mut self, quantity: i64, stamp: Stamp) -> i64 {
        self.forget(stamp.now);
        self.restocked_at = stamp.index;
        // Of units put back before a plain set nothing is left, and it may have been that.
        self.settles = None;
        let explained = self.put_back.min(quantity);
        self.put_back -= explained;
        quantity - explained
    }

    /// A push is about to be sent.
    pub fn intend(&mut self, push: InFlight, now: Millis) {
        self.abandon(now);
        self.in_flight = Some(push);
        (self.stale, self.shadow) = (None, None);
    }

    /// The push in flight has an outcome that nobody will learn: its owner is gone.
    pub fn abandon(&mut self, now: Millis) {
        self.forget(now);
        if self.in_flight.is_some_and(|push| push.plain) {
            self.abandon_plain(now);
            return;
        }
        self.doubt();
        let expected = self.expected();
        let Some(lost) = self.in_flight.take() else { return };
        let (shown, expected) = (self.shown.unwrap_or(0), expected.unwrap_or(0));
        self.settles = None;
        if lost.quantity > lost.from {
            self.lands_until = self.lands_until.max(lost.lands_until(now));
        } else {
            self.shown = Some(expected.min(shown));
        }
        let doubtful = self.unresolved + (expected - shown).abs();
        self.unresolved = doubtful.min(limits::LEVEL_MAX);
        self.uncertain_until = self.uncertain_until.max(lost.lands_until(now));
        self.unsure = true;
        self.stale.get_or_insert(lost.stale);
    }

    /// A sale does not wait for the feed that the push in flight went by: it is sent by itself, once the channel
    /// was read. What the feed does counts as what becomes of a push whose outcome nobody will learn, and when its
    /// end is told of, the channel is read again.
    pub fn overtake(&mut self, now: Millis) {
        let overtaken = self.in_flight.map(|push| push.revision);
        self.abandon(now);
        self.overtaken = overtaken;
    }

    /// The feed of a push that was overtaken has come to its end. Whatever it says of the row, it came before or
    /// after what was pushed since, and only the channel knows.
    pub fn feed_ended(&mut self, revision: u64, stamp: Stamp) -> bool {
        if self.overtaken != Some(revision) {
            return false;
        }
        (self.overtaken, self.read_after, self.unsure) = (None, stamp.index, true);
        // Nothing of it lands any more, but that channels show late what they took.
        let soon = stamp.now + limits::UNCERTAIN_KEEP_MS;
        self.lands_until = self.lands_until.min(soon);
        self.uncertain_until = self.uncertain_until.min(soon);
        true
    }

    /// The same of a plain set: it may have come at any time since, or come yet, raise or not.
    fn abandon_plain(&mut self, now: Millis) {
        let bound = self.in_flight.map_or(0, |push| push.erases(self.shown.unwrap_or(0)));
        self.doubt();
        let Some(lost) = self.in_flight.take() else { return };
        let added = (bound - self.shown.unwrap_or(0)).max(0);
        self.unresolved = (self.unresolved + added).min(limits::LEVEL_MAX);
        self.lands_until = self.lands_until.max(lost.lands_until(now));
        self.uncertain_until = self.uncertain_until.max(self.lands_until);
        (self.unsure, self.settles) = (true, None);
        self.stale.get_or_insert(lost.stale);
    }

    /// The channel took the push. Earlier pushes without a known outcome go on counting: when the
    /// channel shows again what they compared with, they may still be taken.
    pub fn confirm(&mut self, push: InFlight, stamp: Stamp) {
        let now = stamp.now;
        self.fed(push, stamp);
        if push.plain {
            self.confirm_plain(push, now);
        } else {
            // Sold beyond what it can have had: units were put back on sale first, and it will be heard why.
            let beyond = push.from - push.quantity - self.shown.unwrap_or(0).min(push.from);
            self.shown = self.expected();
            if beyond > 0 {
                self.put_back = (self.put_back + beyond).min(limits::LEVEL_MAX);
                self.uncertain_until = self.uncertain_until.max(now + limits::UNCERTAIN_KEEP_MS);
            }
        }
        self.in_flight = None;
        self.confirmed = Some((push.quantity, now));
        (self.fault, self.inferred) = (None, false);
    }

    /// The other lane may have read what a feed set while that was on its way.
    const fn fed(&mut self, push: InFlight, stamp: Stamp) {
        if push.fed {
            self.read_after = stamp.index;
        }
    }

    /// A plain set was taken: as much as was shown before it may have been sold until then, and be on its way.
    /// What was heard of meanwhile may have been sold before or after; a reading tells.
    fn confirm_plain(&mut self, push: InFlight, now: Millis) {
        let before = self.shown.unwrap_or(0);
        let bound = push.erases(before);
        self.forget(now);
        let certain = !self.unsure && (self.settles.is_some() || self.wakes_at().is_none());
        let shown = push.quantity.min(bound);
        self.shown = Some(shown);
        self.unresolved = (self.unresolved + bound - shown).min(limits::LEVEL_MAX);
        self.unsure |= before != push.from;
        self.settles = (certain && before == push.from).then_some(now);
        self.uncertain_until = self.uncertain_until.max(now + limits::UNCERTAIN_KEEP_MS);
    }

    /// The channel was read and shows `quantity`. Units that should be there and are not are sales on
    /// their way; of those of which a lost push may be the reason nobody can know. Units that are there
    /// for no known reason were put back, and it will be heard why.
    ///
    /// Nobody read before log index `intent`. If what was heard since may be just what the reading did not
    /// know yet, it says nothing, and the channel is read again.
    pub fn observe(&mut self, quantity: i64, intent: u64, stamp: Stamp) {
        let (now, read_after) = (stamp.now, self.read_after);
        let quantity = quantity.clamp(-limits::LEVEL_MAX, limits::LEVEL_MAX);
        if let Some(push) = self.in_flight {
            self.fed(push, stamp);
        }
        self.abandon(now);
        self.forget(now);
        // So does what was read first, where units were put back on sale since.
        if read_after > intent || self.shown.is_none() && self.restocked_at > intent {
            self.unsure = true;
            return;
        }
        if let Some(shown) = self.shown {
            let bound = shown + self.unheard + self.unresolved;
            let before_a_sale = quantity > bound && self.sold_at > intent;
            if before_a_sale || quantity < bound && self.restocked_at > intent {
                self.unsure = true;
                return;
            }
            let missing = shown + self.unheard - quantity;
            self.unheard = missing.clamp(0, limits::LEVEL_MAX);
            let doubtful = bound - quantity - self.unheard;
            self.unresolved = doubtful.clamp(0, limits::LEVEL_MAX);
            let unexplained = (quantity - bound).clamp(0, limits::LEVEL_MAX);
            self.put_back = (self.put_back + unexplained).min(limits::LEVEL_MAX);
            // What plain sets erased is no more in doubt than before.
            let erased = self.settles.is_some() && self.unheard == 0 && self.put_back == 0;
            let doubtful = self.unsure && self.is_uncertain() && !erased;
            // More than was known of may be of a lost push, or put back on sale.
            if doubtful || self.guessed || quantity != shown {
                self.uncertain_until = self.uncertain_until.max(now + limits::UNCERTAIN_KEEP_MS);
                self.settles = None;
            }
        }
        self.shown = Some(quantity);
        self.observed = Some((quantity, now));
        (self.unsure, self.guessed, self.inferred) = (false, false, false);
    }

    /// The channel told by itself what it shows: our own push that comes back, a sale, or somebody's edit.
    /// That moves nothing. More than may be there by all that is known is read back before anything is
    /// raised; less is a sale whose order is on its way, and the next push compares. Returns whether it is
    /// just what was expected there.
    pub fn tell(&mut self, quantity: i64, version: Millis, now: Millis) -> bool {
        let quantity = quantity.clamp(-limits::LEVEL_MAX, limits::LEVEL_MAX);
        if self.told.is_some_and(|told| (told.1, told.0) > (version, quantity)) {
            return true;
        }
        self.told = Some((quantity, version));
        let expected = self.shown == Some(quantity) || self.expected() == Some(quantity);
        let bound = self.exposure(now).map(|bound| bound.max(self.shown.unwrap_or(0)));
        self.unsure |= bound.is_some_and(|bound| quantity > bound);
        expected
    }

    /// The channel certainly did not take the push.
    pub fn refuse(&mut self, push: InFlight) {
        self.drop_push();
        self.stale.get_or_insert(push.stale);
    }

    /// The channel never will take it: nothing more is pushed until the mapping changes.
    pub fn fail(&mut self, reason: String, now: Millis) {
        self.drop_push();
        self.stale = None;
        self.fault = Some(reason);
        self.failed_at = now;
    }

    /// Whether something may still be sold from it, as far as was heard.
    pub(crate) fn is_open(&self) -> bool {
        self.shown != Some(0)
            || self.in_flight.is_some()
            || self.unsure
            || self.unheard > 0
            || self.unresolved > 0
    }

    /// Whether it waits for its owner to push or to read it. A sale waits for no feed.
    #[must_use]
    pub const fn is_due(&self) -> bool {
        let waits = match (self.stale, self.in_flight) {
            (Some(stale), Some(push)) => push.fed && matches!(stale.class, Class::Sale),
            (stale, None) => stale.is_some(),
            (None, Some(_)) => false,
        };
        waits && self.fault.is_none()
    }
}

impl InFlight {
    /// Until when it may be carried out, if nobody ever learns what became of it.
    const fn lands_until(&self, now: Millis) -> Millis {
        now + if self.fed { limits::FEED_KEEP_MS } else { limits::UNCERTAIN_KEEP_MS }
    }

    /// The most that may be sold there until orders through a plain set are in: what was shown before it, and
    /// what it sets. `shown` is what was shown before it, less what was heard of since.
    fn erases(&self, shown: i64) -> i64 {
        (self.quantity.max(0) + shown - self.from.min(0)).max(0)
    }
}
