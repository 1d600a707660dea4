//! What an operator may do.

use alloc::string::String;
use alloc::vec::Vec;

use super::ask::{From, Publish, Published, Refused};
use super::desk::{Desk, Seat};
use super::settings::Settings;
use super::{MessageId, Schedule};
use crate::Millis;
use crate::limits::{NAME_LEN_MAX, PAUSED_KEYS_MAX, REQUEST_MESSAGES_MAX, SCHEDULES_MAX};
use crate::origin::Lane;

impl Desk<'_> {
    /// Changes how the topic behaves.
    pub(super) fn change(&mut self, settings: Settings) {
        let before = core::mem::replace(&mut self.topic.settings, settings);
        let rate_changed = before.rate != self.topic.settings.rate;
        let of_keys = |settings: &Settings| (settings.key_rate, settings.key_concurrency);
        let keys_changed = of_keys(&before) != of_keys(&self.topic.settings);
        for group in self.topic.groups.values_mut() {
            if rate_changed {
                group.spent_until_us = 0;
            }
            if keys_changed {
                group.review = Some(0);
            }
        }
        self.sweep_at_once();
    }

    /// Leases nothing, or nothing of a key.
    pub(super) fn pause(&mut self, key: Option<u64>) -> Result<(), Refused> {
        let Some(key) = key else {
            self.topic.paused = true;
            return Ok(());
        };
        let known = self.topic.paused_keys.contains(&key);
        if !known && self.topic.paused_keys.len() >= PAUSED_KEYS_MAX {
            return Err(Refused::TooMany(alloc::format!("{PAUSED_KEYS_MAX} paused keys")));
        }
        self.topic.paused_keys.insert(key);
        self.each_seat(|desk, seat| desk.park(seat, key));
        Ok(())
    }

    /// Undoes [`pause`](Self::pause).
    pub(super) fn resume(&mut self, key: Option<u64>) {
        let Some(key) = key else {
            self.topic.paused = false;
            return;
        };
        self.topic.paused_keys.remove(&key);
        self.each_seat(|desk, seat| {
            desk.unpark(seat, key);
        });
    }

    fn each_seat(&mut self, mut with: impl FnMut(&mut Self, &mut Seat)) {
        let numbers: Vec<u32> = self.topic.everybody().map(|group| group.number).collect();
        for number in numbers {
            if let Some(mut seat) = self.sit_at(number) {
                with(self, &mut seat);
                self.rise(seat);
            }
        }
    }

    /// Makes a group that begins there, or lets one go on from there: what it has begun or given up from there
    /// on, it comes to again; what it has not come to before there, it never does.
    pub(super) fn begin_from(&mut self, name: &str, from: From) -> Result<(), Refused> {
        if !self.topic.groups.contains_key(name) {
            self.begin(name)?;
        }
        let before = [Lane::Urgent, Lane::Normal].map(|lane| (lane, self.before(lane, from)));
        let index = self.stamp.index;
        let Some(group) = self.topic.groups.get_mut(name) else { return Ok(()) };
        group.begun = index;
        for (lane, before) in before {
            *group.at_mut(lane) = before;
        }
        self.sweep_at_once();
        Ok(())
    }

    /// The place of a lane after which something begins.
    fn before(&self, lane: Lane, from: From) -> u64 {
        let of_lane = self.topic.lane(lane);
        // What lies below is kept only because somebody holds it.
        let above = MessageId::new(lane, of_lane.floor + 1).0;
        let first = match from {
            From::Earliest => return of_lane.floor,
            From::Latest => return of_lane.published,
            From::Time(time) => of_lane.messages.first_where(above, |message| message.time >= time),
            // What was delayed came in an earlier command than what stands before it: nothing is in order.
            From::Index(index) => of_lane.messages.first_ranked(above, index),
        };
        first.map_or(of_lane.published, |id| MessageId(id).place() - 1)
    }

    /// Deletes a group. What only it held goes.
    pub(super) fn disband(&mut self, name: &str) -> Result<(), Refused> {
        let Some(group) = self.topic.groups.remove(name) else {
            return Err(Refused::UnknownGroup(name.into()));
        };
        self.lists.unname_group(self.topic.number, group.number);
        self.topic.leaving.insert(group.number, group.leave());
        self.sweep_at_once();
        Ok(())
    }

    /// Tries again what a group has given up; says how many of it there were.
    pub(super) fn redrive(&mut self, group: &str, ids: &[MessageId]) -> Result<u64, Refused> {
        self.with_dead(group, ids, |desk, seat, id| {
            let known = seat.group.dead.get(id.0).is_some() && !seat.group.is_void(id);
            if known {
                // It stays held, so nothing of it goes.
                desk.line_up_again(seat, id);
            }
            known
        })
    }

    /// Forgets what a group has given up; says how many of it there were.
    pub(super) fn forget_all(&mut self, group: &str, ids: &[MessageId]) -> Result<u64, Refused> {
        self.with_dead(group, ids, Self::forget)
    }

    fn with_dead(
        &mut self,
        group: &str,
        ids: &[MessageId],
        mut with: impl FnMut(&mut Self, &mut Seat, MessageId) -> bool,
    ) -> Result<u64, Refused> {
        not_too_many(ids)?;
        let Some(mut seat) = self.sit(group) else {
            return Err(Refused::UnknownGroup(group.into()));
        };
        let mut concerned = 0;
        for id in ids {
            concerned += u64::from(with(self, &mut seat, *id));
        }
        self.rise(seat);
        Ok(concerned)
    }

    fn line_up_again(&mut self, seat: &mut Seat, id: MessageId) {
        self.forget(seat, id);
        self.line_up(seat, id, 0);
    }

    /// Deletes messages for all groups; says how many there were.
    pub(super) fn remove(&mut self, ids: &[MessageId]) -> Result<u64, Refused> {
        not_too_many(ids)?;
        let mut removed = 0;
        for id in ids {
            if self.topic.message(*id).is_none() {
                continue;
            }
            self.each_seat(|desk, seat| {
                desk.finish(seat, *id);
                desk.forget(seat, *id);
            });
            self.drop_message(*id);
            removed += 1;
        }
        self.time_walk();
        Ok(removed)
    }

    /// Publishes something again and again.
    pub(super) fn schedule(&mut self, name: String, schedule: Schedule) -> Result<(), Refused> {
        let known = self.topic.schedules.contains_key(&name);
        if !known && self.topic.schedules.len() >= SCHEDULES_MAX {
            return Err(Refused::TooMany(alloc::format!("{SCHEDULES_MAX} schedules")));
        }
        if !super::is_name(&name) || schedule.cron.len() > NAME_LEN_MAX {
            return Err(Refused::Invalid(super::name_rule("schedule")));
        }
        super::publish::check(&schedule.message)?;
        self.topic.schedules.insert(name, schedule);
        Ok(())
    }

    /// A schedule is due. Another node may have said so before.
    pub(super) fn fire(
        &mut self,
        name: &str,
        (at, next): (Millis, Millis),
    ) -> Result<Vec<Published>, Refused> {
        let unknown = || Refused::UnknownSchedule(name.into());
        let schedule = self.topic.schedules.get_mut(name).ok_or_else(unknown)?;
        if schedule.next != at || next <= at {
            return Ok(Vec::new());
        }
        schedule.next = next;
        let message: Publish = schedule.message.clone();
        let published = self.publish(alloc::vec![message]);
        self.topic.dropped += u64::from(published.is_err());
        published
    }
}

fn not_too_many(ids: &[MessageId]) -> Result<(), Refused> {
    if ids.len() <= REQUEST_MESSAGES_MAX {
        return Ok(());
    }
    Err(Refused::Invalid(alloc::format!("messages: {REQUEST_MESSAGES_MAX} at the most")))
}
