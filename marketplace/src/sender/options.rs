//! How a sender is set up, and what may go wrong with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde::Serialize;

use crate::options::LIVELY_TIME_SCALE;
use crate::{Error, Warehouse};

/// Whose manners a sender has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A `WooCommerce` shop: see [`crate::woocommerce`].
    WooCommerce,
    /// An eBay seller: see [`crate::ebay`].
    Ebay,
    /// A Walmart Marketplace seller: see [`crate::walmart`].
    Walmart,
    /// An Odoo warehouse: see [`crate::odoo`].
    Odoo,
    /// A shop of one's own with Standard Webhooks: see [`crate::generic`].
    Generic,
}

/// One thing that the channel sells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The seller's own name for it; the same in every channel that sells it.
    pub sku: String,
    /// The channel's id of it, which its payloads carry.
    pub listing: u64,
    /// The units that it shows at the start: the channel's to sell, until somebody tells it another
    /// quantity.
    pub units: i64,
}

/// How many calls a channel's API answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Calls a second, on average.
    pub per_second: u32,
    /// Calls at once after a pause.
    pub burst: u32,
}

/// How Walmart's deliveries show that they are Walmart's: chosen when the seller subscribes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WalmartAuth {
    /// HTTP Basic: the user is `wm`, the password is [`Options::secret`].
    #[default]
    Basic,
    /// `WM_SEC.TIMESTAMP` and `WM_SEC.SIGNATURE`, keyed with [`Options::secret`].
    Signature,
}

/// Everything that one sender needs to know at its start.
///
/// [`Options::new`] fills in a quiet channel without faults; use it with struct update syntax.
#[derive(Clone, Debug)]
pub struct Options {
    /// The channel's name. It only names the sender; no payload carries it but as a title.
    pub name: String,
    /// Whose manners it has.
    pub kind: Kind,
    /// Where its API listens. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Signs its webhooks: the hook's secret (`WooCommerce`), the password or key (Walmart), or
    /// `whsec_` and base64 (generic). eBay signs with a key pair made from the seed; Odoo signs nothing,
    /// its secret is in the target's path.
    pub secret: String,
    /// Who its API lets in: consumer key (`WooCommerce`) or client id (eBay, Walmart).
    pub api_id: String,
    /// The consumer secret (`WooCommerce`), client secret (eBay, Walmart) or API key (Odoo).
    pub api_secret: String,
    /// What eBay changes for a seller's access token.
    pub refresh_token: String,
    /// How long an access token of eBay or Walmart lives; `None` for as long as the real ones: two
    /// hours, a quarter of an hour. Never scaled.
    pub token_life: Option<Duration>,
    /// What eBay's challenge is answered with: 32 to 80 letters, digits, `_` and `-`.
    pub verification_token: String,
    /// The endpoint as it is registered with eBay, which the answer to a challenge covers; `None` for
    /// the target that is asked.
    pub endpoint: Option<String>,
    /// How Walmart's deliveries show that they are Walmart's.
    pub walmart_auth: WalmartAuth,
    /// Walmart sends the newer `ORDER_UPDATES` event instead of one event type a cause.
    pub walmart_order_updates: bool,
    /// What it sells.
    pub items: Vec<Item>,
    /// The parent product of each listing that is a variation (`WooCommerce`).
    pub parents: BTreeMap<u64, u64>,
    /// Listings whose stock is not managed (`WooCommerce`): no quantity of them can be set.
    pub unmanaged: BTreeSet<u64>,
    /// The truth that several channels share, which tells an oversell. Without one nobody looks.
    pub warehouse: Option<Warehouse>,
    /// The most calls that its API answers; without it there is no limit.
    pub rate: Option<Rate>,
    /// How long a feed waits before it is worked through (Walmart). Never scaled.
    pub feed_after: Duration,
    /// Full webhook URLs (`http://` only), the primary first. A retry goes to the next one. With none,
    /// nothing is subscribed and nothing is sent.
    pub targets: Vec<String>,
    /// How many customers buy in a second, on average. Zero for one that only scripts sell from.
    pub orders_per_second: f64,
    /// How many receipts (generic), or receipts, transfers and scraps (Odoo), come in a second, on
    /// average. Other kinds have none.
    pub moves_per_second: f64,
    /// The most units of one SKU in an order line of a random customer.
    pub line_quantity_max: u32,
    /// Decides every random choice, though not the moment at which it is made.
    pub seed: u64,
    /// Divides the waits before retries: 1000 makes five hours about 18 seconds.
    pub time_scale: f64,
    /// The wait before a handshake that failed is tried again. Never scaled.
    pub handshake_retry: Duration,
    /// The most webhook requests on the wire at once.
    pub webhooks_in_flight_max: usize,
    /// The most webhooks that are remembered; the oldest are forgotten first.
    pub webhooks_kept_max: usize,
    /// What goes wrong by itself.
    pub faults: Faults,
}

impl Options {
    /// A channel without stock, customers or faults.
    pub fn new(name: impl Into<String>, kind: Kind) -> Self {
        let secret = match kind {
            Kind::Generic => "whsec_c2ltdWxhdGVkLXNlY3JldC1vZi0yNC1ieXRlcw==",
            _ => "simulated-secret-of-a-sender",
        };
        Self {
            name: name.into(),
            kind,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            secret: secret.to_owned(),
            api_id: "simulated-id".to_owned(),
            api_secret: "simulated-api-secret".to_owned(),
            refresh_token: "simulated-refresh-token".to_owned(),
            token_life: None,
            verification_token: "simulated_verification_token_of_a_seller".to_owned(),
            endpoint: None,
            walmart_auth: WalmartAuth::default(),
            walmart_order_updates: false,
            items: Vec::new(),
            parents: BTreeMap::new(),
            unmanaged: BTreeSet::new(),
            warehouse: None,
            rate: None,
            feed_after: Duration::from_millis(500),
            targets: Vec::new(),
            orders_per_second: 0.0,
            moves_per_second: 0.0,
            line_quantity_max: 3,
            seed: 1,
            time_scale: 1.0,
            handshake_retry: Duration::from_secs(1),
            webhooks_in_flight_max: 256,
            webhooks_kept_max: 100_000,
            faults: Faults::default(),
        }
    }

    /// A sender as busy as the demo and the tests want one: all goes wrong that can be found out.
    pub fn lively(name: impl Into<String>, kind: Kind) -> Self {
        let (time_scale, faults) = (LIVELY_TIME_SCALE, Faults::lively());
        Self { time_scale, faults, ..Self::new(name, kind) }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let wrong = |field, reason: &str| Err(Error::Options { field, reason: reason.to_owned() });
        if self.name.is_empty() {
            return wrong("name", "must not be empty");
        }
        if !(self.time_scale.is_finite() && self.time_scale > 0.0) {
            return wrong("time_scale", "must be above zero");
        }
        for (field, rate) in [
            ("orders_per_second", self.orders_per_second),
            ("moves_per_second", self.moves_per_second),
        ] {
            if !(rate.is_finite() && rate >= 0.0) {
                return wrong(field, "must be zero or above");
            }
        }
        if self.webhooks_in_flight_max == 0 || self.webhooks_kept_max == 0 {
            return wrong("webhooks_in_flight_max, webhooks_kept_max", "must be above zero");
        }
        if self.line_quantity_max == 0 {
            return wrong("line_quantity_max", "must be above zero");
        }
        if self.kind == Kind::Generic && self.faults.drop > 0.0 {
            return wrong("faults.drop", "nothing would ever find it: this kind has no API");
        }
        Ok(())
    }
}

/// What goes wrong by itself, as probabilities between 0 and 1 with their times.
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    /// A webhook is sent twice at once, the second time to any of the targets.
    pub duplicate: f64,
    /// A webhook waits before its first attempt, so that later ones overtake it.
    pub delay: f64,
    /// The longest such wait.
    pub delay_max: Duration,
    /// A webhook is never sent: only the API tells of what happened.
    pub drop: f64,
    /// The answer to a webhook is lost: it was taken, and the sender believes that it was not.
    pub answer_lost: f64,
    /// An order of a random customer is cancelled as a whole later.
    pub cancel: f64,
    /// A part of an order is taken back later: a refund (`WooCommerce`), a cancelled line (Walmart) or
    /// fewer units (generic). Other kinds know no such thing.
    pub partial: f64,
    /// The share of `WooCommerce`'s refunds that put nothing back on the shelf.
    pub no_restock: f64,
    /// An order that is not cancelled is shipped later.
    pub ship: f64,
    /// A cancelled order is put into the trash later (`WooCommerce` only). Its API then lists it no more:
    /// who missed the cancellation by webhook can no longer find it in the list.
    pub trash: f64,
    /// The shortest time from one change of an order to the next.
    pub change_after_min: Duration,
    /// The longest.
    pub change_after_max: Duration,
    /// An API call is answered 503 and not carried out.
    pub api_error: f64,
    /// An API call is carried out, and then the connection drops without an answer.
    pub api_answer_lost: f64,
    /// The same of calls that set quantities alone.
    pub push_answer_lost: f64,
    /// A row of a bulk call is not carried out, and the answer is a success that says so.
    pub row_error: f64,
    /// A row of a feed is reported as taken, and was not (Walmart).
    pub report_lies: f64,
    /// A feed is refused as a whole, and its report does not say for which row (Walmart).
    pub feed_error: f64,
    /// Something moves between a count and the moment at which it is applied, so that it is not (Odoo).
    pub conflict: f64,
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
            ship: 0.2,
            answer_lost: 0.02,
            api_error: 0.01,
            api_answer_lost: 0.01,
            push_answer_lost: 0.02,
            row_error: 0.002,
            conflict: 0.01,
            // Some channels tell the time of a change in whole seconds.
            change_after_min: Duration::from_millis(2_100),
            change_after_max: Duration::from_secs(5),
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
            drop: 0.0,
            answer_lost: 0.0,
            cancel: 0.0,
            partial: 0.0,
            no_restock: 0.25,
            ship: 0.0,
            trash: 0.0,
            change_after_min: Duration::ZERO,
            change_after_max: Duration::from_secs(2),
            api_error: 0.0,
            api_answer_lost: 0.0,
            push_answer_lost: 0.0,
            row_error: 0.0,
            report_lies: 0.0,
            feed_error: 0.0,
            conflict: 0.0,
        }
    }
}
