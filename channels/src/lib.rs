//! What each channel's bytes mean: how it signs, and what its payloads say of stock. Pure: the same
//! bytes at the same time give the same answer, and nothing here opens a socket, a file or a clock.
//!
//! The road of one request:
//!
//! ```text
//! Request ── signature::verify ──► Verified ── <channel>::parse ──► Parsed ──► facts for `state`
//! ```
//!
//! Only `signature` can make a [`Verified`], and every `parse` of a pushed body asks for one. What was
//! fetched from a channel's API over TLS is trusted for that reason, and is read by `<channel>::poll`.

pub mod amazon;
pub mod ebay;
pub mod generic;
pub mod json;
pub mod odoo;
pub mod poll;
pub mod shopify;
pub mod signature;
mod stage;
pub mod time;
pub mod walmart;
pub mod woocommerce;

use state::command::Fact;

pub use signature::{Refused, Request, Verified};

/// An authentic delivery, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The sender's own id of the delivery, if no other delivery has it and repetitions do.
    pub id: Option<String>,
    /// The sender's name for its kind, at most [`state::limits::NAME_LEN_MAX`] characters.
    pub topic: String,
    /// What of the body says what happened, where repetitions of one delivery differ in the rest (a
    /// count of attempts, another envelope). Hashed instead of the body to tell a repetition from a
    /// conflict; `None` where the body itself is repeated.
    pub essence: Option<Vec<u8>>,
    /// What it says.
    pub understood: Understood,
}

/// What an authentic delivery says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Understood {
    /// Something about stock, orders or listings.
    Facts(Vec<Fact>),
    /// It changes nothing here, for this reason.
    Ignored(String),
    /// It cannot be understood, for this reason: kept with its body as a dead letter.
    Dead(String),
    /// A subscription asks to be confirmed by a visit of this URL, which was checked.
    Confirm(String),
}

impl Parsed {
    /// A delivery of this topic without an id of its own.
    #[must_use]
    pub fn new(topic: &str, understood: Understood) -> Self {
        let topic = topic.chars().take(state::limits::NAME_LEN_MAX).collect();
        Self { id: None, topic, essence: None, understood }
    }
}

/// An id of a sender's that is fit to be one: printable, without spaces, and not long.
#[must_use]
pub fn plain_id(id: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_graphic();
    (!id.is_empty() && id.len() <= 128 && id.chars().all(plain)).then(|| id.to_string())
}
