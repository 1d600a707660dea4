//! What a store refuses, and why it could not start.

use std::{io, net::SocketAddr};

/// Why a call on this crate failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address could not be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A webhook target is not an absolute `http://` URL.
    #[error("webhook target {0:?} is not an absolute http:// URL")]
    Target(String),
    /// A field of [`Options`](crate::Options) has a value that makes no sense.
    #[error("option {field}: {reason}")]
    Options {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Text that must go into an HTTP header cannot.
    #[error("{0:?} cannot be sent as the value of a header")]
    Header(String),
    /// The store does not sell this.
    #[error("the store does not sell {0:?}")]
    UnknownSku(String),
    /// The store shows too few, so the customer cannot buy.
    #[error("{asked} of {sku} asked, and the store shows {shown}")]
    OutOfStock {
        /// What was asked for.
        sku: String,
        /// How many.
        asked: u32,
        /// What the store showed.
        shown: i64,
    },
    /// The store has no such order.
    #[error("no order {0}")]
    UnknownOrder(u64),
    /// The order has been cancelled before.
    #[error("order {0} is cancelled already")]
    Cancelled(u64),
    /// Units of the order have been shipped, so it cannot be cancelled.
    #[error("order {0} is shipped already")]
    Shipped(u64),
    /// The order does not hold so many any more, or not of the kind asked for: shipped, or not.
    #[error("order {order_id} does not hold {asked} of {sku} any more")]
    NothingLeft {
        /// The order.
        order_id: u64,
        /// What was to be refunded, taken out or shipped.
        sku: String,
        /// How many.
        asked: u32,
    },
}
