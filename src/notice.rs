//! Notices, and other messages, as they are shown outside.

use serde::Serialize;
use state::notices::{self, Event};
use state::reply::Kept;
use utoipa::ToSchema;

use crate::clock::rfc3339;

/// Something began or ended.
#[derive(Serialize, ToSchema)]
pub(crate) struct Notice {
    /// Its place in the log: the newest is the greatest.
    id: String,
    time: String,
    /// `shortfall`: more was sold from a location than is there. `covered`: no longer. `low`: what is
    /// available, over all locations, fell to the SKU's mark.
    event: &'static str,
    sku: String,
    /// Of a shortfall and its end.
    location: Option<String>,
    /// Of a shortfall: units that were missing when it began.
    units: Option<i64>,
    /// Of low stock.
    available: Option<i64>,
    /// Of low stock: the mark.
    low_at: Option<i64>,
}

impl Notice {
    /// As people are shown it.
    pub(crate) fn new(id: String, notice: &notices::Notice) -> Self {
        let (time, sku) = (rfc3339(notice.time), notice.sku.clone());
        let empty = Self {
            id,
            time,
            event: "covered",
            sku,
            location: None,
            units: None,
            available: None,
            low_at: None,
        };
        match &notice.event {
            Event::Covered { location } => Self { location: Some(location.clone()), ..empty },
            Event::Shortfall { location, units } => Self {
                event: "shortfall",
                location: Some(location.clone()),
                units: Some(*units),
                ..empty
            },
            Event::Low { available, low_at } => {
                Self { event: "low", available: Some(*available), low_at: Some(*low_at), ..empty }
            }
        }
    }
}

/// The body of the message that is kept under a log index and a number: as it was published, or, of a notice,
/// as JSON. `None` of what is no message.
pub(crate) fn body_of(kept: Kept, (index, n): (u64, u32)) -> Option<Vec<u8>> {
    match kept {
        Kept::Message { body, .. } => Some(body),
        Kept::Notice(notice) => {
            serde_json::to_vec(&Notice::new(format!("{index}.{n}"), &notice)).ok()
        }
        Kept::Body(_) | Kept::Facts(_) => None,
    }
}
