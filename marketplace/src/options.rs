//! How a store is set up, and what may go wrong in it.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use crate::{Error, shopify::sign::Topic};

/// Retries that take hours on the real channels, here take as many seconds as a demo or a test has.
pub(crate) const LIVELY_TIME_SCALE: f64 = 480.0;

/// One thing that the store sells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The seller's own name for it; the same in every store that sells it.
    pub sku: String,
    /// The store's id of the variant, which order lines carry.
    pub variant_id: u64,
    /// The store's id of the stock-keeping record, which pushes carry.
    pub inventory_item_id: u64,
    /// What the store shows at the start.
    pub available: i64,
}

/// Everything that one store needs to know at its start.
///
/// [`Options::new`] fills in a quiet store without faults; use it with struct update syntax.
#[derive(Clone, Debug)]
pub struct Options {
    /// The store's name; with `.myshopify.com` after it, its domain (a name with a dot in it is the
    /// domain itself).
    pub name: String,
    /// Where its Admin API listens. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The app's client secret, whose text bytes sign the webhooks.
    pub secret: String,
    /// The token that pushes must show.
    pub access_token: String,
    /// The one version of the Admin API that is served. It behaves as 2026-04 does, whatever its name.
    pub api_version: String,
    /// The one location where the store keeps its stock.
    pub location_id: u64,
    /// What it sells.
    pub items: Vec<Item>,
    /// Full webhook URLs (`http://` only), the primary first. A retry goes to the next one. With none,
    /// nothing is subscribed and no webhook is made.
    pub targets: Vec<String>,
    /// What webhooks are subscribed to. [`Topic::ALL`] has them all.
    pub topics: BTreeSet<Topic>,
    /// How many customers buy in a second, on average. Zero for a store that only scripts sell from.
    pub orders_per_second: f64,
    /// The most units of one SKU in an order line of a random customer.
    pub line_quantity_max: u32,
    /// Decides every random choice, though not the moment at which it is made.
    pub seed: u64,
    /// Divides the four hours of webhook retries: 1000 makes them about 14 seconds.
    pub time_scale: f64,
    /// The shop's offset from UTC in minutes, in which payloads write their times.
    pub utc_offset_minutes: i32,
    /// The most webhook requests on the wire at once.
    pub webhooks_in_flight_max: usize,
    /// What goes wrong by itself.
    pub faults: Faults,
    /// What calls cost, and how much may be spent.
    pub costs: Costs,
}

impl Options {
    /// A store without stock, customers or faults.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            secret: "shpss_simulated".to_owned(),
            access_token: "shpat_simulated".to_owned(),
            api_version: "2026-04".to_owned(),
            location_id: 24_826_418,
            items: Vec::new(),
            targets: Vec::new(),
            topics: [Topic::OrdersCreate, Topic::OrdersCancelled, Topic::RefundsCreate].into(),
            orders_per_second: 0.0,
            line_quantity_max: 3,
            seed: 1,
            time_scale: 1.0,
            utc_offset_minutes: -300,
            webhooks_in_flight_max: 256,
            faults: Faults::default(),
            costs: Costs::default(),
        }
    }

    /// A store as busy as the demo and the tests want one: all goes wrong that can be found out, all webhooks are
    /// subscribed, and its API does not hold pushes up.
    pub fn lively(name: impl Into<String>) -> Self {
        Self {
            time_scale: LIVELY_TIME_SCALE,
            topics: Topic::ALL.into(),
            costs: Costs { maximum_available: 20_000, restore_rate: 1000, ..Costs::default() },
            faults: Faults::lively(),
            ..Self::new(name)
        }
    }

    /// The shop domain that webhooks name.
    #[must_use]
    pub fn domain(&self) -> String {
        if self.name.contains('.') {
            self.name.clone()
        } else {
            format!("{}.myshopify.com", self.name)
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let wrong = |field, reason: &str| Err(Error::Options { field, reason: reason.to_owned() });
        if self.name.is_empty() {
            return wrong("name", "must not be empty");
        }
        if !(self.time_scale.is_finite() && self.time_scale > 0.0) {
            return wrong("time_scale", "must be above zero");
        }
        if !(self.orders_per_second.is_finite() && self.orders_per_second >= 0.0) {
            return wrong("orders_per_second", "must be zero or above");
        }
        if self.webhooks_in_flight_max == 0 {
            return wrong("webhooks_in_flight_max", "must be above zero");
        }
        if self.line_quantity_max == 0 {
            return wrong("line_quantity_max", "must be above zero");
        }
        Ok(())
    }
}

/// What goes wrong by itself, as probabilities between 0 and 1 with their times.
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    /// A webhook is never sent at all, as when the subscription to it was lost: only who asks finds out.
    pub drop: f64,
    /// A webhook is sent twice at once under one webhook id, the second time to any of the targets.
    pub duplicate: f64,
    /// A webhook waits before its first attempt, so that later ones overtake it.
    pub delay: f64,
    /// The longest such wait.
    pub delay_max: Duration,
    /// An order of a random customer is cancelled later, in full and with restock.
    pub cancel: f64,
    /// An order of a random customer is refunded in part later: what was shipped comes back, what was
    /// not is for sale again.
    pub refund: f64,
    /// The share of those refunds that put nothing back (`no_restock`).
    pub refund_no_restock: f64,
    /// The merchant later changes the lines of a random customer's order: adds one, or takes units out
    /// of one, which are for sale again.
    pub edit: f64,
    /// An order of a random customer is shipped later, half of the time only a part of it.
    pub fulfil: f64,
    /// The longest time from the order to its cancellation, refund, edit or shipment.
    pub change_after_max: Duration,
    /// An Admin API call is carried out, and then the connection drops without an answer.
    pub answer_lost: f64,
    /// An Admin API call is answered 502 and not carried out.
    pub server_error: f64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            drop: 0.0,
            duplicate: 0.0,
            delay: 0.0,
            delay_max: Duration::from_secs(1),
            cancel: 0.0,
            refund: 0.0,
            refund_no_restock: 0.25,
            edit: 0.0,
            fulfil: 0.0,
            change_after_max: Duration::from_secs(2),
            answer_lost: 0.0,
            server_error: 0.0,
        }
    }
}

impl Faults {
    /// What goes wrong in [`Options::lively`].
    #[must_use]
    pub fn lively() -> Self {
        Self {
            duplicate: 0.1,
            delay: 0.1,
            delay_max: Duration::from_secs(2),
            cancel: 0.1,
            refund: 0.1,
            edit: 0.1,
            fulfil: 0.3,
            change_after_max: Duration::from_secs(5),
            answer_lost: 0.02,
            server_error: 0.02,
            ..Self::default()
        }
    }
}

/// The leaky bucket of query cost, in points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Costs {
    /// What the bucket holds when full.
    pub maximum_available: u32,
    /// What comes back in a second.
    pub restore_rate: u32,
    /// What a mutation costs.
    pub mutation: u32,
    /// What reading one inventory item with its level and quantities costs.
    pub item_read: u32,
    /// The most that one call may cost.
    pub call_max: u32,
}

impl Default for Costs {
    fn default() -> Self {
        Self {
            maximum_available: 2000,
            restore_rate: 100,
            mutation: 10,
            item_read: 3,
            call_max: 1000,
        }
    }
}

/// A fault of a service's API on order. It lasts until another is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Outage {
    /// All is well.
    #[default]
    None,
    /// Each answer waits this long first; the call is carried out after the wait.
    Slow(Duration),
    /// Each call is answered with this 5xx status and not carried out.
    ServerError(u16),
    /// Each call is answered 429 with this many seconds in `Retry-After`, and not carried out.
    TooManyRequests {
        /// Seconds.
        retry_after: u32,
    },
    /// Each call is carried out and never answered; the connection stays open until this outage ends.
    TimeoutAfterApply,
    /// Each call is carried out, and the connection drops without an answer.
    DropAfterApply,
    /// Connections are refused, and open ones are cut.
    Down,
}
