//! What channels say has happened: recorded, never refused for lack of stock. What cannot be applied is
//! listed as a dead letter; nothing is dropped.

mod moved;
mod orders;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::command::{Delivery, Fact, Letter, Segment};
use crate::data::{DeadLetter, Reload};
use crate::dedup::{Seen, Verdict};
use crate::machine::{Stamp, State, Work};
use crate::names::Waiter;
use crate::origin::Turn;
use crate::queue::ask::Answer;
use crate::reply::{Answered, Body, Kept, Refused};
use crate::{Millis, Reply, limits};

/// The delivery that says it: what a movement names as its cause, and when it was received.
#[derive(Clone, Copy)]
pub(crate) struct Cause<'a> {
    pub(crate) channel: &'a str,
    pub(crate) delivery: &'a str,
    pub(crate) received: Millis,
}

/// Why a fact did not apply, or not yet.
enum Held {
    /// It never will by itself.
    Dead(String),
    /// A part of it waits for a mapping: what waits, in words. The dead letter leaves the list when it
    /// has moved.
    Pending(String),
}

impl From<&str> for Held {
    fn from(reason: &str) -> Self {
        Self::Dead(reason.to_string())
    }
}

impl State {
    pub(crate) fn segment(&mut self, work: &mut Work, segment: Segment) -> Reply {
        match self.data.origins.take(segment.origin, segment.lane, segment.sequence) {
            Turn::Past => return Reply::Applied,
            Turn::Gap(expected) => return Reply::Gap { expected },
            Turn::Next => {}
        }
        work.effects.durable_ms = segment.durable_ms;
        for delivery in segment.deliveries {
            self.delivery(work, delivery);
        }
        Reply::Applied
    }

    fn delivery(&mut self, work: &mut Work, mut delivery: Delivery) {
        let facts = core::mem::take(&mut delivery.facts);
        let publish = core::mem::take(&mut delivery.publish);
        let raw = core::mem::take(&mut delivery.raw);
        match self.data.seen.verdict(&delivery.key, &delivery.body) {
            Verdict::New => {}
            Verdict::Duplicate => {
                work.effects.duplicates += 1;
                return;
            }
            Verdict::Conflict => {
                let reason = "conflict: the same delivery id came with another body";
                self.bury(work, &delivery, reason.into(), kept(raw, facts));
                return;
            }
        }
        work.effects.applied += 1;
        work.effects.arrived.push((delivery.key, delivery.received_ms));
        let channel = self.data.channels.get(&delivery.channel);
        let window = channel
            .map_or(limits::DEDUP_WINDOW_DEFAULT_MS, |known| known.definition.dedup_window_ms)
            .min(limits::DEDUP_WINDOW_MAX_MS);
        let Stamp { index, now } = work.stamp;
        let seen = Seen { body: delivery.body, index, time: now };
        self.data.seen.insert(delivery.key, seen, now + window, limits::DELIVERY_KEYS_MAX);
        for fact in facts {
            let Err(held) = self.fact(work, &delivery, &fact) else { continue };
            let kept = match fact {
                Fact::Dead { body, .. } => Kept::Body(body),
                understood => kept(raw.clone(), alloc::vec![understood]),
            };
            let (Held::Dead(reason) | Held::Pending(reason)) = held;
            self.bury(work, &delivery, reason, kept);
        }
        for (topic, mut message) in publish {
            let body = core::mem::take(&mut message.body);
            let kept = Kept::Message { key: message.key.clone(), body };
            self.offer(work, &topic, &message, kept);
        }
    }

    fn fact(&mut self, work: &mut Work, delivery: &Delivery, fact: &Fact) -> Result<(), Held> {
        let cause = Cause {
            channel: &delivery.channel,
            delivery: &delivery.id,
            received: delivery.received_ms,
        };
        if let Fact::Dead { reason, .. } = fact {
            return Err(Held::Dead(reason.clone()));
        }
        if let Fact::Escrow(told) = fact {
            return self.told(work, told).map_err(Held::Dead);
        }
        if !self.data.channels.contains_key(cause.channel) {
            return Err("the channel is unknown".into());
        }
        match fact {
            Fact::Dead { .. } | Fact::Escrow(_) => Ok(()),
            Fact::Image { order, version, whole, lines } => {
                self.image(work, cause, (order, *version, *whole), lines)
            }
            Fact::Removals { order, version, lines } => {
                self.removals(work, cause, (order, *version), lines)
            }
            Fact::Listed { listing, sku, version } => {
                let listed = (cause.channel.into(), listing.as_str().into());
                self.data.names.learn(listed, sku, *version);
                Ok(())
            }
            Fact::Shown { listing, sku, location, quantity, version } => {
                let named = (listing.as_str(), sku.as_deref(), location.as_deref());
                self.shown(work, cause, named, (*quantity, *version));
                Ok(())
            }
            Fact::Moved(moved) => self.moved(work, cause, moved),
            Fact::Reload { order, version } => self.reload(work, cause, order, *version),
            Fact::Fetched { order, asked } => {
                let place = (cause.channel.to_string(), order.clone());
                if self.data.reloads.get(&place).is_some_and(|reload| reload.asked <= *asked) {
                    self.data.reloads.remove(&place);
                }
                Ok(())
            }
            Fact::Polled { cursor } => {
                // A poll that began earlier elsewhere may end later.
                if let Some(channel) = self.data.channels.get_mut(cause.channel) {
                    channel.cursor = channel.cursor.max(Some(*cursor));
                }
                Ok(())
            }
            Fact::Looked { began } => {
                self.looked(work.stamp.now, cause.channel, *began);
                Ok(())
            }
        }
    }

    /// An order changed in a way that only the channel knows.
    fn reload(
        &mut self,
        work: &Work,
        cause: Cause<'_>,
        order: &str,
        version: Millis,
    ) -> Result<(), Held> {
        let fetches = self.data.channels.get(cause.channel).is_some_and(|c| c.definition.fetches);
        if !fetches {
            return Err("the order must be fetched, and the channel has no api".into());
        }
        let Stamp { index, now } = work.stamp;
        let place = (cause.channel.to_string(), order.to_string());
        let known = self.data.reloads.len();
        match self.data.reloads.get_mut(&place) {
            Some(reload) => {
                reload.asked = index;
                // What nobody dated only the fetched order itself can answer.
                let undated = reload.version == 0 || version == 0;
                reload.version = if undated { 0 } else { reload.version.max(version) };
            }
            None if known >= limits::RELOADS_MAX => {
                return Err("too many orders wait to be fetched".into());
            }
            None => {
                self.data.reloads.insert(place, Reload { asked: index, version, since: now });
            }
        }
        Ok(())
    }

    /// What a channel shows, as it tells by itself.
    fn shown(
        &mut self,
        work: &mut Work,
        cause: Cause<'_>,
        (listing, sku, location): (&str, Option<&str>, Option<&str>),
        (quantity, version): (i64, Millis),
    ) {
        let now = work.stamp.now;
        let Some(sku) = self.data.names.resolve(cause.channel, Some(listing), sku) else { return };
        let elsewhere = |place: &String| location.is_some_and(|location| location != place);
        let place = (cause.channel.into(), sku.into());
        let expected = self.change_listing(&place, |known| {
            // Of another place of the channel it says nothing.
            if known.spec.settings.get("location_id").is_some_and(elsewhere) {
                return true;
            }
            known.tell(quantity, version, now)
        });
        if expected == Some(false) {
            work.touch(&place.1, None);
        }
    }

    /// Lists a dead letter, and says where. Its body is kept by the node, beside the state.
    fn bury(&mut self, work: &mut Work, delivery: &Delivery, reason: String, kept: Kept) {
        let Stamp { index, now } = work.stamp;
        let n = next_letter(work);
        let letter = DeadLetter {
            reason,
            channel: delivery.channel.clone(),
            topic: delivery.topic.clone(),
            delivery: delivery.id.clone(),
            received: delivery.received_ms,
            time: now,
            attempts: 1,
        };
        let expires = now + limits::ORDER_KEEP_MS;
        let dead = &mut self.data.dead;
        let forgotten = dead.insert((index, n), letter, expires, limits::DEAD_LETTERS_MAX);
        work.effects.dropped.extend(forgotten.map(|(place, _)| place));
        work.effects.bodies.push(Body { n, kept });
    }

    /// Takes a dead letter off the list. Nobody needs its body any more.
    fn unbury(&mut self, work: &mut Work, place: &(u64, u32)) {
        if self.data.dead.remove(place).is_some() {
            work.effects.dropped.push(*place);
        }
    }

    /// Applies dead letters again, or forgets them. One that cannot be applied now either stays where it is.
    pub(crate) fn letters(&mut self, work: &mut Work, letters: Vec<Letter>) -> Answered {
        if letters.len() > limits::REQUEST_MESSAGES_MAX {
            let why = "too many dead letters in one request".into();
            return Answered::Refused(Refused::Invalid(why));
        }
        let mut concerned = 0;
        for (place, facts) in letters {
            let Some(letter) = self.data.dead.get(&place).cloned() else { continue };
            let delivery = Delivery {
                id: letter.delivery,
                channel: letter.channel,
                topic: letter.topic,
                received_ms: letter.received,
                ..Delivery::default()
            };
            let facts = facts.unwrap_or_default();
            if facts.iter().all(|fact| self.fact(work, &delivery, fact).is_ok()) {
                self.unbury(work, &place);
                concerned += 1;
            } else if let Some(letter) = self.data.dead.get_mut(&place) {
                letter.attempts = letter.attempts.saturating_add(1);
            }
        }
        Answered::Queue(Answer::Count(concerned))
    }

    /// Moves what waited for a mapping and has one now, a bounded number with each command.
    pub(crate) fn work_off_named(&mut self, work: &mut Work) {
        for _ in 0..limits::WAITERS_PER_COMMAND_MAX {
            let Some(((channel, listing), waiter)) = self.data.names.next_ready() else { return };
            match waiter {
                Waiter::Order(order) => self.order_named(work, &channel, &listing, &order),
                Waiter::Movement { moved, delivery, received, letter } => {
                    let cause = Cause { channel: &channel, delivery: &delivery, received };
                    if self.book_moved(work, cause, &moved).is_ok() {
                        self.unbury(work, &letter);
                    }
                }
            }
        }
    }
}

/// The number in this log entry of the dead letter that is listed next.
fn next_letter(work: &Work) -> u32 {
    u32::try_from(work.effects.bodies.len()).unwrap_or(u32::MAX)
}

fn kept(raw: Vec<u8>, facts: Vec<Fact>) -> Kept {
    if raw.is_empty() { Kept::Facts(facts) } else { Kept::Body(raw) }
}
