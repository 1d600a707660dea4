//! What is too much for one command, worked off by those after it: what groups held that were deleted or told to
//! begin elsewhere, keys whose bounds were changed, what is left of deleted topics, what is old.
//!
//! Until then it is in nobody's way. What lies beyond a group's marks counts no more: no lease of it is valid, and
//! the group leases nothing before it is gone, since it comes to the same messages again.

use alloc::vec::Vec;

use super::desk::{Desk, Seat};
use super::lists::Timer;
use super::settings::Rate;
use super::{Group, MessageId, Place};
use crate::limits::{SWEPT_AT_ONCE_MAX, SWEPT_PER_COMMAND_MAX, WALKED_PER_COMMAND_MAX};
use crate::origin::Lane;

/// What one command may still work off.
pub(super) struct Budget {
    /// Messages that are dropped, each of them from the disk as well.
    pub(super) drops: usize,
    /// Steps in memory.
    pub(super) steps: usize,
}

impl Budget {
    /// That of a command.
    pub(super) const fn whole() -> Self {
        Self { drops: WALKED_PER_COMMAND_MAX, steps: SWEPT_PER_COMMAND_MAX }
    }

    /// That of one request of a command, so that what is small is done when it is answered.
    const fn at_once() -> Self {
        Self { drops: SWEPT_AT_ONCE_MAX, steps: SWEPT_AT_ONCE_MAX }
    }

    pub(super) const fn is_spent(&self) -> bool {
        self.drops == 0 || self.steps == 0
    }

    const fn step(&mut self, dropped: bool) {
        self.steps = self.steps.saturating_sub(1);
        if dropped {
            self.drops = self.drops.saturating_sub(1);
        }
    }
}

impl Desk<'_> {
    /// Works off the beginning of what a request left, and lists the rest.
    pub(super) fn sweep_at_once(&mut self) {
        self.sweep(&mut Budget::at_once());
        self.time_walk();
    }

    fn sweep(&mut self, budget: &mut Budget) {
        let swept = self.topic.groups.values().filter(|group| group.is_swept());
        let leaving = self.topic.leaving.values();
        let numbers: Vec<u32> = swept.chain(leaving).map(|group| group.number).collect();
        for number in numbers {
            let Some(mut seat) = self.sit_at(number) else { continue };
            self.sweep_group(&mut seat, budget);
            let gone = seat.name.is_empty() && seat.group.is_empty();
            self.rise(seat);
            if gone {
                self.topic.leaving.remove(&number);
                self.lists.forget_group(self.topic.number, number);
            }
        }
    }

    fn sweep_group(&mut self, seat: &mut Seat, budget: &mut Budget) {
        // From the end, so that what is parked goes before what it waits for.
        while !budget.is_spent()
            && let Some(id) = seat.group.last_void()
        {
            let dropped = self.sweep_out(seat, id);
            budget.step(dropped);
        }
        let leaves = seat.name.is_empty();
        while leaves
            && !budget.is_spent()
            && let Some((key, until)) = seat.group.closed_keys.pop_first()
        {
            let (topic, group) = (self.topic.number, seat.group.number);
            self.lists.stop(until, Timer::Key { topic, group, key });
            budget.step(false);
        }
        self.review(seat, budget);
    }

    /// Takes out a message that a group has begun or given up and that counts no more; whether that was the last
    /// of it.
    pub(super) fn sweep_out(&mut self, seat: &mut Seat, id: MessageId) -> bool {
        let key = self.key_of(id);
        match self.take(seat, id) {
            Some(held) if held.place != Place::Parked && !seat.name.is_empty() => {
                self.unpark(seat, key);
            }
            Some(_) => {}
            None => drop(self.forget(seat, id)),
        }
        self.settle(id)
    }

    /// Looks again at keys whose bounds were changed, from where it was left.
    fn review(&mut self, seat: &mut Seat, budget: &mut Budget) {
        while !budget.is_spent()
            && let Some(from) = seat.group.review
        {
            let waiting = seat.derived.keys.range(from..).next().map(|(key, _)| *key);
            let closed = seat.group.closed_keys.range(from..).next().map(|(key, _)| *key);
            let next = waiting.into_iter().chain(closed).min();
            seat.group.review = next.and_then(|key| key.checked_add(1));
            let Some(key) = next else { return };
            self.reopen(seat, key);
            budget.steps = budget.steps.saturating_sub(1 + self.unpark(seat, key));
        }
    }

    /// Opens a key that is closed for longer than its rate would close it now.
    fn reopen(&mut self, seat: &mut Seat, key: u64) {
        let interval = self.topic.settings.key_rate.map_or(0, Rate::interval_ms);
        let latest = self.stamp.now + interval;
        let Some(until) = seat.group.closed_keys.get(&key).filter(|until| **until > latest) else {
            return;
        };
        let (topic, group) = (self.topic.number, seat.group.number);
        self.lists.stop(*until, Timer::Key { topic, group, key });
        seat.group.closed_keys.remove(&key);
    }

    /// Drops what was kept long enough. What a group has not come to in that time, it gives up.
    pub(super) fn walk(&mut self, budget: &mut Budget) {
        self.sweep(budget);
        for lane in [Lane::Urgent, Lane::Normal] {
            while let Some((id, message)) = self.topic.oldest(lane)
                && message.time + self.topic.keeps(id) <= self.stamp.now
                && !budget.is_spent()
            {
                budget.step(true);
                let behind = self.topic.groups.values().filter(|g| g.at(lane) < id.place());
                for number in behind.map(|group| group.number).collect::<Vec<_>>() {
                    let Some(mut seat) = self.sit_at(number) else { continue };
                    self.give_up(&mut seat, id, 0, "nobody came to it within the retention");
                    self.rise(seat);
                }
                self.pass_by(id);
            }
        }
        self.time_walk();
    }

    /// Drops what is left of a topic that was deleted, a bounded number; whether there is more.
    pub(super) fn clear(&mut self, budget: &mut Budget) -> bool {
        self.sweep(budget);
        if !self.topic.leaving.is_empty() {
            return true;
        }
        for lane in [Lane::Urgent, Lane::Normal] {
            let of_lane = self.topic.lane(lane).messages.iter();
            let ids: Vec<u64> = of_lane.map(|(id, _)| id).take(budget.drops).collect();
            for id in ids {
                let dropped = self.drop_message(MessageId(id));
                budget.step(dropped);
            }
        }
        let delayed = self.topic.delayed.iter().map(|(number, _)| number);
        for number in delayed.take(budget.drops).collect::<Vec<_>>() {
            self.drop_delayed(number);
            budget.step(true);
        }
        self.topic.depth() > 0
    }
}

impl Group {
    /// Whether something is left to be worked off.
    pub(super) fn is_swept(&self) -> bool {
        self.review.is_some() || self.has_void()
    }

    /// Whether a message lies beyond its mark: what it has begun or given up there counts no more.
    pub(super) const fn is_void(&self, id: MessageId) -> bool {
        id.place() > self.at(id.lane())
    }

    /// Whether there is something that counts no more.
    pub(super) fn has_void(&self) -> bool {
        self.last_void().is_some()
    }

    fn last_void(&self) -> Option<MessageId> {
        [Lane::Normal, Lane::Urgent].into_iter().find_map(|lane| {
            let from = MessageId::new(lane, self.at(lane) + 1).0;
            let to = MessageId::new(lane, u64::MAX).0;
            let held = self.held.last_within(from, to);
            held.or_else(|| self.dead.last_within(from, to)).map(MessageId)
        })
    }

    fn is_empty(&self) -> bool {
        self.held.is_empty() && self.dead.is_empty() && self.closed_keys.is_empty()
    }

    /// Nothing of it counts any more.
    pub(super) fn leave(mut self) -> Self {
        (self.urgent, self.normal, self.review) = (0, 0, None);
        self
    }
}
