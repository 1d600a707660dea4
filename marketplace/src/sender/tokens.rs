//! Access tokens that a channel's API handed out.

use std::{collections::BTreeMap, time::Duration};

use crate::{clock::Millis, random::Random};

pub(crate) struct Tokens<Grant> {
    life_ms: Millis,
    random: Random,
    live: BTreeMap<String, (Grant, Millis)>,
}

impl<Grant: Copy> Tokens<Grant> {
    pub(crate) fn new(life: Duration, seed: u64) -> Self {
        let life_ms = Millis::try_from(life.as_millis()).unwrap_or(Millis::MAX);
        Self { life_ms, random: Random::new(seed), live: BTreeMap::new() }
    }

    /// A new token and the seconds that it lives.
    pub(crate) fn issue(&mut self, grant: Grant, now: Millis) -> (String, Millis) {
        let token = self.random.uuid();
        self.live.retain(|_, (_, until)| *until > now);
        self.live.insert(token.clone(), (grant, now.saturating_add(self.life_ms)));
        (token, self.life_ms / 1000)
    }

    /// None of the tokens that were handed out is good any longer.
    pub(crate) fn expire(&mut self) {
        self.live.values_mut().for_each(|(_, until)| *until = 0);
    }

    /// What a token lets its bearer do, as long as it lives.
    pub(crate) fn grant(&self, token: &str, now: Millis) -> Option<Grant> {
        self.live.get(token).filter(|(_, until)| *until > now).map(|(grant, _)| *grant)
    }

    /// Whether a token was handed out here, be it that it has expired lately.
    pub(crate) fn is_known(&self, token: &str) -> bool {
        self.live.contains_key(token)
    }
}
