//! What is told to the marketplaces: by calls and by feeds, and what becomes of it.

use super::*;

impl World {
    pub(super) fn claim(&mut self, at: usize) {
        let (reply, _) = self.node.apply(Command::Claim { channel: NAMES[at].into(), node: 1 });
        let Reply::Claimed { epoch } = reply else { panic!("{reply:?}") };
        self.markets[at].epoch = epoch;
        // Nobody waits for a feed of the owner before.
        let feed = self.markets[at].feed.take();
        self.markets[at].late.extend(feed.filter(|(_, landed)| !landed).map(|(push, _)| push));
        self.markets[at].unanswered = None;
        self.markets[at].refused = None;
        self.markets[at].reading = None;
    }

    pub(super) fn settle(&mut self, at: usize, intent: u64, revision: u64, result: Settled) {
        let market = &mut self.markets[at];
        market.unanswered = None;
        let ids = (market.epoch, intent);
        let command = settle(NAMES[at], ids, sold_as(self.each[at]), revision, result);
        market.told = Some(command.clone());
        self.node.apply(command);
    }

    pub(super) fn tell_refusal(&mut self, at: usize) {
        if let Some(revision) = self.markets[at].refused.take() {
            self.settle(at, revision, revision, Settled::Refused);
        }
    }

    pub(super) fn look(&mut self, at: usize) {
        self.tell_refusal(at);
        let market = &mut self.markets[at];
        market.reading.get_or_insert((self.node.index, market.shown));
    }

    /// What a channel showed when it was asked, if it was, or else shows now.
    pub(super) fn read(&mut self, at: usize) {
        self.look(at);
        let market = &mut self.markets[at];
        let revision = market.unanswered.unwrap_or(0);
        if let Some((intent, shown)) = market.reading.take() {
            self.settle(at, intent, revision, Settled::Observed(shown));
        }
    }

    pub(super) fn push(&mut self, at: usize, fate: Fate) -> Checked {
        // One thing at a time.
        self.tell_refusal(at);
        if self.markets[at].reading.is_some() {
            self.read(at);
        }
        let epoch = self.markets[at].epoch;
        let (reply, _) = self.node.apply(common::intend(NAMES[at], epoch, sold_as(self.each[at])));
        let Reply::Intended(intended) = reply else { panic!("{reply:?}") };
        let (to, from, revision) = match intended.first() {
            None => return Ok(()),
            Some(Intended { step: Step::Observe, .. }) => {
                self.read(at);
                return Ok(());
            }
            Some(Intended { step: Step::Push { quantity, from, revision }, .. }) => {
                (*quantity, *from, *revision)
            }
        };
        if to == from {
            return Err(format!("{} is told what it shows: {to}", NAMES[at]));
        }
        if to > from {
            invariant::exposure_is_covered(self.node.state.data(), SKU)?;
        }
        let push = Push { from, to, revision, lowered: self.lowered, sent: self.node.now };
        self.markets[at].unanswered = Some(revision);
        match fate {
            Fate::Answered if self.take(at, push)? => {
                self.settle(at, revision, revision, Settled::Confirmed);
            }
            Fate::Answered => {
                self.settle(at, revision, revision, Settled::Refused);
                self.read(at);
            }
            Fate::AnswerLost => {
                self.take(at, push)?;
            }
            Fate::Refused => self.markets[at].refused = Some(revision),
            Fate::Lost => {}
            Fate::Late => self.markets[at].late.push(push),
        }
        Ok(())
    }

    /// The next push goes by feed.
    pub(super) fn feed(&mut self, at: usize) -> Checked {
        let (epoch, sku) = (self.markets[at].epoch, sold_as(self.each[at]));
        if self.markets[at].feed.is_some() {
            return Ok(());
        }
        let (channel, skus) = (NAMES[at].into(), vec![sku.into()]);
        let intent = Command::Intend { channel, epoch, lane: Lane::Normal, skus };
        let (reply, _) = self.node.apply(intent);
        let Reply::Intended(intended) = reply else { panic!("{reply:?}") };
        let Some(&Step::Push { quantity: to, from, revision }) =
            intended.first().map(|next| &next.step)
        else {
            return Ok(());
        };
        if to > from {
            invariant::exposure_is_covered(self.node.state.data(), SKU)?;
        }
        let push = Push { from, to, revision, lowered: self.lowered, sent: self.node.now };
        self.markets[at].feed = Some((push, false));
        Ok(())
    }

    pub(super) fn feed_lands(&mut self, at: usize) -> Checked {
        if let Some((push, false)) = self.markets[at].feed {
            let landed = self.take(at, push)?;
            self.markets[at].feed = landed.then_some((push, true));
            if !landed {
                self.tell_feed(at, push, Settled::Refused);
            }
        }
        Ok(())
    }

    /// What a feed did not set by its end it never will.
    pub(super) fn feed_ends(&mut self, at: usize) {
        if let Some((push, landed)) = self.markets[at].feed.take() {
            let result = if landed { Settled::Confirmed } else { Settled::Refused };
            self.tell_feed(at, push, result);
        }
    }

    pub(super) fn tell_feed(&mut self, at: usize, push: Push, result: Settled) {
        let ids = (self.markets[at].epoch, push.revision);
        let told = settle(NAMES[at], ids, sold_as(self.each[at]), push.revision, result);
        let Command::Settle { channel, epoch, intent, calls, outcomes, .. } = told else {
            panic!("{told:?}")
        };
        let lane = Lane::Normal;
        self.node.apply(Command::Settle { channel, epoch, lane, intent, calls, outcomes });
    }

    /// A push reaches its channel, which compares and sets.
    pub(super) fn take(&mut self, at: usize, push: Push) -> Result<bool, String> {
        let market = &mut self.markets[at];
        if market.shown != push.from && !market.plain {
            return Ok(false);
        }
        // Nothing keeps a lowering from adding units, where its channel does not compare.
        let added = (push.to - market.shown).max(0) * self.each[at];
        self.lowered += if push.to <= push.from { added } else { 0 };
        market.shown = push.to;
        let reach: i64 = (0..NAMES.len()).map(|at| self.reach(at)).sum();
        let lowered = self.lowered - push.lowered;
        if push.to > push.from && reach > self.available() + lowered {
            return Err(format!(
                "the raise {} of {} causes an oversell: {reach} can be sold, {} are available, \
                 facts took {lowered} since",
                push.revision,
                NAMES[at],
                self.available()
            ));
        }
        Ok(true)
    }
}
