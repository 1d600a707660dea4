//! A simulated Shopify store over real HTTP, for the demo and for tests.
//!
//! It behaves as the real one does where it matters to whoever syncs stock with it:
//!
//! - it **sells** only what it shows, takes that off at once, and does not know what other stores sell;
//! - it **tells** of orders, cancellations and refunds by signed webhooks that come late, twice, out of
//!   order, and again after failures;
//! - it **is told** quantities through its Admin API, which compares before it sets, wants an
//!   idempotency key, and throttles;
//! - it **fails** on order, and remembers everything, so that a checker can compare the seller's books
//!   with what truly happened.
//!
//! | to read | open |
//! | --- | --- |
//! | the handle that everything goes through | [`Store`] |
//! | what a store can be told to do | [`Options`], [`Faults`], [`Outage`] |
//! | the truth that several stores share | [`Warehouse`] |
//! | what is kept for a checker | [`history`] |
//! | one delivery made by hand | [`shopify::payload`], [`shopify::sign`] |
//! | many deliveries, fast | [`load`] |
//!
//! Stock, orders and the Admin API are plain code without I/O; one task lets customers in, one task a
//! webhook sends it, one task a connection answers it. The same seed makes customers choose
//! the same while they are shown the same; it does not fix when the network lets anything happen.
//!
//! ```no_run
//! # async fn run() -> Result<(), marketplace::Error> {
//! use marketplace::{Item, Options, Store, Warehouse};
//!
//! let warehouse = Warehouse::open([("MUG-01", 100)]);
//! let options = Options {
//!     items: vec![Item {
//!         sku: "MUG-01".into(),
//!         variant_id: 9_107_199_254_740_993,
//!         inventory_item_id: 9_207_199_254_740_993,
//!         available: 40,
//!     }],
//!     targets: vec!["http://127.0.0.1:8080/webhooks/north".into()],
//!     orders_per_second: 5.0,
//!     ..Options::new("north")
//! };
//! let store = Store::start(options, warehouse.clone()).await?;
//! store.wait_until(|stats| stats.orders >= 20).await;
//! store.stop_selling();
//! store.drained().await;
//! assert_eq!(warehouse.oversold_units(), 0);
//! store.shutdown().await;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

pub mod amazon;
pub mod clock;
pub mod ebay;
pub mod generic;
pub mod history;
pub mod load;
pub mod odoo;
pub mod random;
pub mod sender;
pub mod shopify;
pub mod sqs;
pub mod walmart;
pub mod woocommerce;

mod door;
mod error;
mod options;
mod shop;
mod store;
mod warehouse;

pub use error::Error;
pub use options::{Costs, Faults, Item, Options, Outage};
pub use shopify::payload::Restock;
pub use store::Store;
pub use warehouse::{Bin, Oversell, Warehouse};
