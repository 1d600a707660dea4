//! How a seller account is set up, and what may go wrong in it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::sns::Topic;
use crate::options::LIVELY_TIME_SCALE;
use crate::{Error, Warehouse};

/// One thing that the seller sells and ships himself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The seller's own name for it.
    pub sku: String,
    /// How many are shown at the start. Cancelled units are not shown again by themselves, as Amazon does not
    /// put them back either: somebody must tell it.
    pub units: i64,
}

/// How fast an operation may be called: a bucket that refills.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Calls that come back in a second.
    pub per_second: f64,
    /// Calls that a full bucket allows at once.
    pub burst: f64,
}

/// How fast the operations of the Listings Items API and the Feeds API may be called.
#[derive(Clone, Debug, PartialEq)]
pub struct Plans {
    /// `patchListingsItem`.
    pub patch: Rate,
    /// `getListingsItem`.
    pub item: Rate,
    /// `searchListingsItems`.
    pub items: Rate,
    /// `createFeedDocument`.
    pub document: Rate,
    /// `createFeed`.
    pub feed: Rate,
    /// `getFeed`.
    pub feed_read: Rate,
    /// `getFeedDocument`.
    pub document_read: Rate,
}

impl Default for Plans {
    /// As Amazon's models have them.
    fn default() -> Self {
        let rate = |per_second, burst| Rate { per_second, burst };
        Self {
            patch: rate(5.0, 5.0),
            item: rate(5.0, 10.0),
            items: rate(5.0, 5.0),
            document: rate(0.5, 15.0),
            feed: rate(0.0083, 15.0),
            feed_read: rate(2.0, 15.0),
            document_read: rate(0.0222, 10.0),
        }
    }
}

/// Everything that one seller account needs to know at its start.
///
/// [`Options::new`] fills in a quiet account without faults; use it with struct update syntax.
#[derive(Clone, Debug)]
pub struct Options {
    /// The merchant token.
    pub seller_id: String,
    /// Where everything is sold.
    pub marketplace_id: String,
    /// The application that is subscribed.
    pub application_id: String,
    /// Where the API listens. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Login with Amazon: the application.
    pub client_id: String,
    /// Login with Amazon: the application's secret.
    pub client_secret: String,
    /// What the seller gave the application.
    pub refresh_token: String,
    /// How long an access token lives. Never scaled.
    pub token_life: Duration,
    /// What is sold.
    pub items: Vec<Item>,
    /// How many buyers order in a second, on average.
    pub orders_per_second: f64,
    /// The most units in an order line of a random buyer.
    pub line_quantity_max: u32,
    /// Decides every random choice, though not the moment at which it is made.
    pub seed: u64,
    /// An order changed more recently than this is not in the answers of `searchOrders`.
    pub search_lag: Duration,
    /// The API writes its times to the second, as in its published examples. Two changes of an order
    /// within a second then look equally old, so keep them further apart, or switch it off.
    pub whole_seconds: bool,
    /// The usage plan of `searchOrders`.
    pub search_rate: Rate,
    /// The usage plan of `getOrder`.
    pub order_rate: Rate,
    /// The usage plans of listings and feeds.
    pub plans: Plans,
    /// What an update of a listing must say that it is.
    pub product_type: String,
    /// How long after it was accepted an update is shown. Never scaled.
    pub applied_after: Duration,
    /// How long after it was made a feed is worked through. Never scaled.
    pub feed_after: Duration,
    /// The truth that several channels share, which tells an oversell. Without one nobody looks.
    pub warehouse: Option<Warehouse>,
    /// Divides the lag and multiplies the rates: 1000 makes two minutes 120 milliseconds.
    pub time_scale: f64,
    /// Through which topic some notifications go before they reach the queue: see [`Faults::topic`].
    pub topic: Option<Topic>,
    /// What goes wrong by itself.
    pub faults: Faults,
}

impl Options {
    /// An account without stock, buyers or faults.
    pub fn new(seller_id: impl Into<String>) -> Self {
        Self {
            seller_id: seller_id.into(),
            marketplace_id: "ATVPDKIKX0DER".to_owned(),
            application_id: "amzn1.sellerapps.app.00000000-0000-0000-0000-000000000001".to_owned(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            client_id: "amzn1.application-oa2-client.simulated".to_owned(),
            client_secret: "amzn1.oa2-cs.v1.simulated".to_owned(),
            refresh_token: "Atzr|simulated".to_owned(),
            token_life: Duration::from_secs(3600),
            items: Vec::new(),
            orders_per_second: 0.0,
            line_quantity_max: 3,
            seed: 1,
            search_lag: Duration::from_secs(120),
            whole_seconds: true,
            search_rate: Rate { per_second: 0.0056, burst: 20.0 },
            order_rate: Rate { per_second: 0.5, burst: 30.0 },
            plans: Plans::default(),
            product_type: "PRODUCT".to_owned(),
            applied_after: Duration::from_millis(50),
            feed_after: Duration::from_secs(1),
            warehouse: None,
            time_scale: 1.0,
            topic: None,
            faults: Faults::default(),
        }
    }

    /// An account as busy as the demo and the tests want one.
    pub fn lively(seller_id: impl Into<String>) -> Self {
        Self {
            time_scale: LIVELY_TIME_SCALE,
            // Changes of an order come faster here than any merchant makes them.
            whole_seconds: false,
            faults: Faults::lively(),
            ..Self::new(seller_id)
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let wrong = |field, reason: &str| Err(Error::Options { field, reason: reason.to_owned() });
        if self.seller_id.is_empty() {
            return wrong("seller_id", "must not be empty");
        }
        if !(self.time_scale.is_finite() && self.time_scale > 0.0) {
            return wrong("time_scale", "must be above zero");
        }
        if !(self.orders_per_second.is_finite() && self.orders_per_second >= 0.0) {
            return wrong("orders_per_second", "must be zero or above");
        }
        if self.line_quantity_max == 0 {
            return wrong("line_quantity_max", "must be above zero");
        }
        Ok(())
    }
}

/// What goes wrong or merely differs by itself, as probabilities between 0 and 1 with their times.
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    /// A notification is sent twice under one `NotificationId`.
    pub duplicate: f64,
    /// A notification is late, so that later ones overtake it.
    pub delay: f64,
    /// The longest such wait.
    pub delay_max: Duration,
    /// A notification is never sent: only who asks finds out.
    pub dropped: f64,
    /// A change is told item by item (`OrderItemLevel`) and not as a whole order.
    pub item_level: f64,
    /// A notification goes through [`Options::topic`] and carries its envelope. Nothing without one.
    pub topic: f64,
    /// An order is fulfilled by Amazon from Amazon's own warehouse, and must be ignored.
    pub amazon_fulfilled: f64,
    /// An order of a random buyer is cancelled.
    pub cancel: f64,
    /// A cancellation gives a reason that puts the units back on sale, as a buyer's does; where the seller had
    /// none left, Amazon does not.
    pub relisted: f64,
    /// A buyer asks for a cancellation. That frees nothing, and half of those who ask get none.
    pub cancel_request: f64,
    /// An order that is not cancelled ships.
    pub ship: f64,
    /// A shipment comes in two parts.
    pub partial: f64,
    /// The longest time from one change of an order to the next.
    pub step_after_max: Duration,
    /// An order is followed by a `FEED_PROCESSING_FINISHED`, which concerns no order.
    pub feed: f64,
    /// A patch is answered 200 and `INVALID`, and not carried out.
    pub invalid: f64,
    /// A row of a feed is not carried out, and the report says so.
    pub row_failed: f64,
    /// A row of a feed is not carried out, and the report does not say so.
    pub report_lies: f64,
    /// A feed ends `FATAL`: its first half was carried out, and there is no report.
    pub fatal: f64,
    /// A feed is cancelled before it begins.
    pub cancelled: f64,
    /// A feed is never worked through.
    pub stuck: f64,
    /// A call is refused as over the quota.
    pub throttled: f64,
    /// A call is answered 502 and not carried out.
    pub server_error: f64,
    /// A call is carried out, and then the connection drops without an answer.
    pub answer_lost: f64,
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
            ship: 0.3,
            throttled: 0.01,
            server_error: 0.01,
            answer_lost: 0.01,
            ..Self::default()
        }
    }
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            duplicate: 0.0,
            delay: 0.0,
            delay_max: Duration::from_secs(1),
            dropped: 0.0,
            item_level: 0.0,
            topic: 0.0,
            amazon_fulfilled: 0.0,
            cancel: 0.0,
            relisted: 0.0,
            cancel_request: 0.0,
            ship: 0.0,
            partial: 0.0,
            step_after_max: Duration::from_secs(2),
            feed: 0.0,
            invalid: 0.0,
            row_failed: 0.0,
            report_lies: 0.0,
            fatal: 0.0,
            cancelled: 0.0,
            stuck: 0.0,
            throttled: 0.0,
            server_error: 0.0,
            answer_lost: 0.0,
        }
    }
}
