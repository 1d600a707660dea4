//! Answers what is asked of topics, and lets happen what is due.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::ask::{Answer, Ask, Publish, Refused, What};
use super::desk::Desk;
use super::lists::Timer;
use super::settings::Settings;
use super::sweep::Budget;
use super::{Schedule, Topic};
use crate::limits::{EXPIRED_PER_COMMAND_MAX, TOPICS_MAX};
use crate::machine::{State, Work};
use crate::reply::{Answered, Kept};
use crate::{Id, Reply};

impl State {
    /// Answers what was asked together, one after the other.
    pub(crate) fn ask_queue(&mut self, work: &mut Work, asks: Vec<Ask>) -> Reply {
        let answers = asks.into_iter().map(|ask| {
            let Ask { idempotency, topic, what } = ask;
            if let (Some(once), What::Lease { group, max, lease_ms }) = (idempotency, &what) {
                return self.lease_once(work, once, &topic, (group, *max, *lease_ms));
            }
            let reply = self.once(work, idempotency, |state, work| {
                let answer = state.ask_topic(work, &topic, what).unwrap_or_else(Answer::Refused);
                Answered::Queue(answer)
            });
            match reply {
                Reply::Answered { answer: Answered::Queue(answer), .. } => answer,
                _ => Answer::Refused(Refused::KeyReused),
            }
        });
        Reply::Queue(answers.collect())
    }

    fn ask_topic(&mut self, work: &mut Work, name: &str, what: What) -> Result<Answer, Refused> {
        match what {
            What::Publish(_) => self.make_topic(name, Settings::default())?,
            What::Put(settings) => {
                settings.check().map_err(Refused::Invalid)?;
                self.make_topic(name, settings.clone())?;
                self.desk(work, name).ok_or(Refused::UnknownTopic)?.change(settings);
                return Ok(Answer::Count(1));
            }
            What::Delete => return self.delete_topic(name),
            What::Seed(settings) => return self.seed_topic(name, settings),
            _ => {}
        }
        let mut desk = self.desk(work, name).ok_or(Refused::UnknownTopic)?;
        desk.ask(what)
    }

    /// Publishes what a delivery or the state itself has to say, in the same step.
    pub(crate) fn offer(&mut self, work: &mut Work, topic: &str, message: &Publish, kept: Kept) {
        let settings = Settings { drop_oldest: true, ..Settings::default() };
        if self.make_topic(topic, settings).is_ok()
            && let Some(mut desk) = self.desk(work, topic)
        {
            desk.offer(message, kept);
        }
    }

    /// Makes a topic, if there is none of this name.
    fn make_topic(&mut self, name: &str, settings: Settings) -> Result<(), Refused> {
        let queue = &mut self.data.queue;
        if queue.topics.contains_key(name) {
            return Ok(());
        }
        if !super::is_name(name) {
            return Err(Refused::Invalid(super::name_rule("topic")));
        }
        if queue.topics.len() + queue.leaving.len() >= TOPICS_MAX {
            return Err(Refused::TooMany(alloc::format!("{TOPICS_MAX} topics")));
        }
        queue.made += 1;
        let topic = Topic::new(queue.made, settings);
        self.lists.add_topic(name.into(), &topic);
        queue.topics.insert(Id::from(name), Arc::new(topic));
        Ok(())
    }

    /// Makes a topic, once and for all.
    fn seed_topic(&mut self, name: &str, settings: Settings) -> Result<Answer, Refused> {
        settings.check().map_err(Refused::Invalid)?;
        if self.data.queue.seeded.contains(name) {
            return Ok(Answer::Count(0));
        }
        if self.data.queue.seeded.len() >= TOPICS_MAX {
            return Err(Refused::TooMany(alloc::format!("{TOPICS_MAX} topics of files")));
        }
        self.make_topic(name, settings)?;
        self.data.queue.seeded.insert(name.into());
        Ok(Answer::Count(1))
    }

    /// Deletes a topic. What is in it goes a few at a time.
    fn delete_topic(&mut self, name: &str) -> Result<Answer, Refused> {
        let queue = &mut self.data.queue;
        let mut topic = queue.topics.remove(name).ok_or(Refused::UnknownTopic)?;
        self.lists.unname_topic(&topic);
        let left = Arc::make_mut(&mut topic);
        let groups = core::mem::take(&mut left.groups).into_values();
        left.leaving.extend(groups.map(|group| (group.number, group.leave())));
        let messages = topic.depth();
        queue.leaving.insert(topic.number, topic);
        Ok(Answer::Count(messages))
    }

    pub(super) fn desk<'a>(&'a mut self, work: &'a mut Work, name: &str) -> Option<Desk<'a>> {
        let topic = self.data.queue.topics.get_mut(name).map(Arc::make_mut)?;
        let (dedup, messages) = (&mut self.data.queue.dedup, &mut self.data.queue.messages);
        let (effects, stamp) = (&mut work.effects, work.stamp);
        let lists = &mut self.lists;
        Some(Desk { topic, lists, dedup, messages, effects, stamp, leaving: false })
    }

    /// The same by number; one that was deleted, too.
    fn desk_at<'a>(&'a mut self, work: &'a mut Work, number: u32) -> Option<Desk<'a>> {
        if !self.data.queue.leaving.contains_key(&number) {
            let name = self.lists.name_of(number)?;
            return self.desk(work, &name);
        }
        let queue = &mut self.data.queue;
        let topic = queue.leaving.get_mut(&number).map(Arc::make_mut)?;
        let (dedup, messages) = (&mut queue.dedup, &mut queue.messages);
        let (effects, stamp) = (&mut work.effects, work.stamp);
        let lists = &mut self.lists;
        Some(Desk { topic, lists, dedup, messages, effects, stamp, leaving: true })
    }

    /// Lets happen what is due by itself, a bounded number of things.
    pub(crate) fn wake_queue(&mut self, work: &mut Work) {
        let now = work.stamp.now;
        self.data.queue.dedup.expire(now, |_| 0);
        for _ in 0..EXPIRED_PER_COMMAND_MAX {
            let Some(timer) = self.lists.due(now) else { break };
            let (Timer::Message { topic, .. }
            | Timer::Delayed { topic, .. }
            | Timer::Key { topic, .. }) = timer;
            let Some(mut desk) = self.desk_at(work, topic) else { continue };
            desk.wake_up(timer);
        }
        let mut budget = Budget::whole();
        while !budget.is_spent()
            && let Some(number) = self.lists.due_walk(now)
        {
            let Some(mut desk) = self.desk_at(work, number) else { break };
            if !desk.leaving {
                desk.walk(&mut budget);
            } else if !desk.clear(&mut budget)
                && let Some(topic) = self.data.queue.leaving.remove(&number)
            {
                self.lists.forget_topic(&topic);
            }
        }
    }
}

impl Desk<'_> {
    fn ask(&mut self, what: What) -> Result<Answer, Refused> {
        let done = |()| Answer::Count(1);
        match what {
            What::Publish(messages) => self.publish(messages).map(Answer::Published),
            What::Lease { group, max, lease_ms } => {
                self.lease(&group, max, lease_ms, false).map(Answer::Leased)
            }
            What::Ack(leases) => Ok(Answer::Done(self.ack(&leases))),
            What::Nack { leases, delay_ms, reason } => {
                self.nack(&leases, delay_ms, &reason).map(Answer::Done)
            }
            What::Extend { leases, lease_ms } => self.extend(&leases, lease_ms).map(Answer::Done),
            What::Begin { group, from } => self.begin_from(&group, from).map(done),
            What::Disband(group) => self.disband(&group).map(done),
            What::Pause(key) => self.pause(key).map(done),
            What::Resume(key) => {
                self.resume(key);
                Ok(done(()))
            }
            What::Redrive { group, messages } => self.redrive(&group, &messages).map(Answer::Count),
            What::Forget { group, messages } => {
                self.forget_all(&group, &messages).map(Answer::Count)
            }
            What::Remove(messages) => self.remove(&messages).map(Answer::Count),
            What::Schedule { name, cron, next, message } => {
                self.schedule(name, Schedule { cron, next, message }).map(done)
            }
            What::Unschedule(name) => {
                let known = self.topic.schedules.remove(&name);
                known.map(|_| done(())).ok_or(Refused::UnknownSchedule(name))
            }
            What::Fire { name, at, next } => self.fire(&name, (at, next)).map(Answer::Published),
            // Answered before, since they are not about a topic that is there.
            What::Put(_) | What::Delete | What::Seed(_) => Err(Refused::UnknownTopic),
        }
    }

    fn wake_up(&mut self, timer: Timer) {
        match timer {
            Timer::Message { group, message, .. } => {
                let Some(mut seat) = self.sit_at(group) else { return };
                self.wake(&mut seat, message);
                self.rise(seat);
                self.time_walk();
            }
            Timer::Key { group, key, .. } => {
                let Some(mut seat) = self.sit_at(group) else { return };
                self.open(&mut seat, key);
                self.rise(seat);
            }
            Timer::Delayed { number, .. } if self.leaving => self.drop_delayed(number),
            Timer::Delayed { number, .. } => self.appear(number),
        }
    }
}

impl Topic {
    fn new(number: u32, settings: Settings) -> Self {
        Self {
            number,
            settings,
            paused: false,
            paused_keys: alloc::collections::BTreeSet::new(),
            urgent: super::Messages::default(),
            normal: super::Messages::default(),
            delayed: super::pages::Pages::default(),
            delays: 0,
            schedules: alloc::collections::BTreeMap::new(),
            groups: alloc::collections::BTreeMap::new(),
            leaving: alloc::collections::BTreeMap::new(),
            groups_made: 0,
            bytes: 0,
            dropped: 0,
        }
    }
}
