//! Pushes that go by feed: they land late, their end is told of later, and sales go ahead of them.

use super::*;

impl World {
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

    fn tell_feed(&mut self, at: usize, push: Push, result: Settled) {
        let ids = (self.markets[at].epoch, push.revision);
        let told = settle(NAMES[at], ids, sold_as(self.each[at]), push.revision, result);
        let Command::Settle { channel, epoch, intent, calls, outcomes, .. } = told else {
            panic!("{told:?}")
        };
        let lane = Lane::Normal;
        self.node.apply(Command::Settle { channel, epoch, lane, intent, calls, outcomes });
    }
}
