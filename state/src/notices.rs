//! Notices: what a person wants to hear of, given when it begins and when it ends.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ledger::Stock;
use crate::limits::{NOTICE_KEEP_MS, NOTICES_MAX};
use crate::machine::{State, Work};
use crate::origin::Lane;
use crate::queue::ask::Publish;
use crate::reply::Kept;
use crate::{Id, Millis};

/// The topic of notices. Without it there are no messages of them.
pub const TOPIC: &str = "stock.notices";

/// Something that a person wants to hear of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Agreed time.
    pub time: Millis,
    /// The SKU.
    pub sku: String,
    /// What of it.
    pub event: Event,
}

/// What began or ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// More was sold from a location than is there.
    Shortfall {
        /// The location.
        location: String,
        /// Units that are missing.
        units: i64,
    },
    /// Nothing is missing there any more.
    Covered {
        /// The location.
        location: String,
    },
    /// What is available fell to the SKU's mark or below.
    Low {
        /// What is available, over all locations.
        available: i64,
        /// The mark.
        low_at: i64,
    },
}

/// What was so of a SKU before a command.
pub(crate) struct Before {
    available: i64,
    short: BTreeMap<Id, i64>,
}

/// Units that are missing, by location: where what is available is below zero.
#[must_use]
pub fn shortfalls(stock: &Stock) -> BTreeMap<Id, i64> {
    let short = stock.levels.iter().filter(|(_, level)| level.available() < 0);
    short.map(|(location, level)| (location.clone(), -level.available())).collect()
}

impl Work {
    /// Notes how a SKU was, unless that was noted before.
    pub(crate) fn note(&mut self, sku: &str, stock: &Stock) {
        if !self.before.contains_key(sku) {
            let before = Before { available: stock.available(), short: shortfalls(stock) };
            self.before.insert(sku.to_string(), before);
        }
    }
}

impl State {
    /// Publishes a notice, where somebody has made the topic for them.
    fn publish_notice(&mut self, work: &mut Work, notice: &Notice) {
        if self.data.queue.topic(TOPIC).is_some() {
            let (lane, key) = (Lane::Urgent, Some(notice.sku.clone()));
            let message = Publish { lane, key, delay_ms: 0, dedup: None, body: Vec::new() };
            self.offer(work, TOPIC, &message, Kept::Notice(notice.clone()));
        }
    }

    /// Gives notice of what began or ended with a command.
    pub(crate) fn give_notices(&mut self, work: &mut Work) {
        let stamp = work.stamp;
        let mut n = 0;
        for (sku, before) in core::mem::take(&mut work.before) {
            let Some(stock) = self.data.stock.get(sku.as_str()) else { continue };
            let (available, after) = (stock.available(), shortfalls(stock));
            let low = stock.low_at.filter(|low| available <= *low && before.available > *low);
            let low = low.map(|low_at| Event::Low { available, low_at });
            let begun = after.iter().filter(|(location, _)| !before.short.contains_key(*location));
            let begun = begun.map(|(location, units)| Event::Shortfall {
                location: location.to_string(),
                units: *units,
            });
            let ended = before.short.keys().filter(|location| !after.contains_key(*location));
            let ended = ended.map(|location| Event::Covered { location: location.to_string() });
            for event in begun.chain(ended).chain(low) {
                let notice = Notice { time: stamp.now, sku: sku.clone(), event };
                let expires = stamp.now + NOTICE_KEEP_MS;
                self.publish_notice(work, &notice);
                self.data.notices.insert((stamp.index, n), notice, expires, NOTICES_MAX);
                n += 1;
            }
        }
    }
}
