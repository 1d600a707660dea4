//! What is measured outside and agreed on here: how fast a listing sells, how late its channel hears, and the
//! buffer that follows from both.
//!
//! The state counts units sold and keeps what was measured last, and when; so whoever leads next goes on with the
//! same decaying average, and needs no memory of its own. It never computes a velocity: that takes more than integers.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::machine::{State, Work};
use crate::{Millis, NodeId, Reply, limits};

/// How fast a listing sells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Agreed time at which the listing was mapped; 0 if that was before anything was counted.
    pub since: Millis,
    /// Units sold there, of which was heard: that only grows.
    pub sold: u64,
    /// What was measured last: millionths of a unit an hour.
    pub velocity: u64,
    /// Agreed time of that.
    pub at: Millis,
    /// Units sold until then.
    pub until: u64,
    /// The buffer that follows from it, where a policy says `auto`.
    pub buffer: i64,
}

/// What was measured of one listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// The channel.
    pub channel: String,
    /// The SKU.
    pub sku: String,
    /// Millionths of a unit an hour.
    pub velocity: u64,
    /// Agreed time up to which was measured.
    pub at: Millis,
    /// Units sold until then.
    pub until: u64,
    /// The buffer that follows.
    pub buffer: i64,
}

/// How late a channel hears of what happened elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lag {
    /// From the receipt of a change to its confirmation, in 99 of 100 cases.
    pub p99_ms: Millis,
    /// Of so many cases.
    pub cases: u64,
    /// Agreed time of the measurement.
    pub at: Millis,
}

impl State {
    /// Takes in what was measured of listings. What is older than what is known says nothing.
    pub(crate) fn measured(&mut self, work: &mut Work, rows: Vec<Measured>) -> Reply {
        if rows.len() > limits::MEASURED_MAX {
            return Reply::Rejected("too many measurements in one request".into());
        }
        for row in rows {
            let place = (row.channel.as_str().into(), row.sku.as_str().into());
            let now = work.stamp.now;
            let known = self.change_listing(&place, |listing| {
                let known = &mut listing.pace;
                if row.at <= known.at || row.at > now || row.until > known.sold {
                    return false;
                }
                known.velocity = row.velocity;
                (known.at, known.until) = (row.at, row.until);
                known.buffer = row.buffer.clamp(0, limits::QUANTITY_MAX);
                true
            });
            if known == Some(true) {
                work.touch(&row.sku, None);
            }
        }
        Reply::Done
    }

    /// Takes in how late a channel hears, as its owner measured it.
    pub(crate) fn lagged(
        &mut self,
        work: &Work,
        node: NodeId,
        lags: BTreeMap<String, (Millis, u64)>,
    ) -> Reply {
        for (name, (p99_ms, cases)) in lags {
            let Some(channel) = self.data.channels.get_mut(&name) else { continue };
            // Whoever was replaced measured what is over.
            if channel.owner.is_some_and(|owner| owner.node == node) {
                channel.lag = Some(Lag { p99_ms, cases, at: work.stamp.now });
            }
        }
        Reply::Done
    }
}
