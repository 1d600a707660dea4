//! Levels and movements: what is where, and every change of it.

use alloc::collections::BTreeMap;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::limits::{self, INCOMING_REFERENCES_MAX, LEVEL_MAX};
use crate::listing::Listing;
use crate::{Millis, limits::QUANTITY_MAX};

/// One SKU: where it lies, and where it is listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stock {
    /// Quantities by location.
    pub levels: BTreeMap<String, Level>,
    /// Listings by channel.
    pub listings: BTreeMap<String, Listing>,
    /// Log index of its newest movement, from which the older ones are found; 0 before the first.
    pub newest: u64,
}

/// The quantities of one SKU at one location, in whole units.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// Physically there.
    pub on_hand: i64,
    /// Sold and not shipped.
    pub committed: i64,
    /// Held for somebody, until it expires.
    pub reserved: i64,
    /// On its way here, by reference.
    pub incoming: BTreeMap<String, i64>,
}

impl Level {
    /// What may still be sold: on hand less committed less reserved. Below zero it is a shortfall.
    #[must_use]
    pub const fn available(&self) -> i64 {
        // Each is within ±LEVEL_MAX, so this cannot wrap.
        self.on_hand - self.committed - self.reserved
    }

    /// Units on their way, whatever their reference.
    #[must_use]
    pub fn incoming(&self) -> i64 {
        self.incoming.values().sum()
    }

    fn is_within_bounds(&self) -> bool {
        let bounded = |n: i64| (-LEVEL_MAX..=LEVEL_MAX).contains(&n);
        bounded(self.on_hand) && bounded(self.committed) && bounded(self.incoming())
    }
}

/// The kinds of movement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// Committed + q.
    Sale,
    /// Committed − q.
    Cancellation,
    /// Committed − q, on hand − q.
    Fulfilment,
    /// On hand + q.
    Return,
    /// On hand + q; incoming of the same reference less what of it arrives.
    Receipt,
    /// Incoming + q.
    Incoming,
    /// On hand − q here; incoming + q there, until its receipt with the same reference.
    Transfer,
    /// On hand ± q.
    Adjustment,
}

impl Kind {
    /// All kinds, with the names that the API uses.
    pub const NAMES: [(&'static str, Self); 8] = [
        ("sale", Self::Sale),
        ("cancellation", Self::Cancellation),
        ("fulfilment", Self::Fulfilment),
        ("return", Self::Return),
        ("receipt", Self::Receipt),
        ("incoming", Self::Incoming),
        ("transfer", Self::Transfer),
        ("adjustment", Self::Adjustment),
    ];

    /// The name that the API uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// How long the other channels may show the old quantity.
    #[must_use]
    pub const fn window_ms(self) -> Millis {
        match self {
            Self::Sale => limits::WINDOW_SALE_MS,
            Self::Cancellation | Self::Return | Self::Receipt => limits::WINDOW_RETURN_MS,
            Self::Fulfilment | Self::Incoming | Self::Transfer | Self::Adjustment => {
                limits::WINDOW_ADJUSTMENT_MS
            }
        }
    }
}

/// One line of the ledger, with what the level was after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Movement {
    /// Agreed time.
    pub time: Millis,
    /// What kind.
    pub kind: Kind,
    /// Of what.
    pub sku: String,
    /// How many units.
    pub quantity: i64,
    /// Where.
    pub location: String,
    /// Where to, of a transfer.
    pub to_location: Option<String>,
    /// Through which channel.
    pub channel: Option<String>,
    /// The delivery, or the id of the request, that caused it.
    pub cause: String,
    /// The order and line, or what the request referred to.
    pub reference: Option<String>,
    /// Why, in the caller's words.
    pub reason: Option<String>,
    /// When it happened, where the caller said so.
    pub occurred: Option<Millis>,
    /// On hand at the location, after it.
    pub on_hand: i64,
    /// Available at the location, after it.
    pub available: i64,
    /// Log index of the SKU's movement before this entry's; 0 if there was none.
    pub previous: u64,
}

/// Why a level cannot take a movement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A level would leave its bounds.
    OutOfBounds,
    /// A transfer without a destination, or to where it came from.
    NoDestination,
    /// Too many shipments are on their way there.
    TooManyIncoming,
    /// More would be cancelled or fulfilled than is committed.
    NotCommitted,
    /// Zero, negative where it may not be, or absurdly large.
    Quantity,
}

impl Refusal {
    /// The reason in words.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::OutOfBounds => "the level would leave its bounds",
            Self::NoDestination => "a transfer needs a to_location that differs from location",
            Self::TooManyIncoming => "too many shipments are on their way to this location",
            Self::NotCommitted => "more than is committed",
            Self::Quantity => {
                "quantity must be between 1 and 1000000000; an adjustment may be negative, none is zero"
            }
        }
    }
}

/// Whether a quantity may stand in a movement of this kind.
#[must_use]
pub const fn is_quantity(kind: Kind, quantity: i64) -> bool {
    let lowest = if matches!(kind, Kind::Adjustment) { -QUANTITY_MAX } else { 1 };
    quantity != 0 && quantity >= lowest && quantity <= QUANTITY_MAX
}

impl Stock {
    /// Books a movement on the levels, or changes nothing and says why. What several facts add up to
    /// may be more than one request may name.
    pub fn book(
        &mut self,
        kind: Kind,
        quantity: i64,
        location: &str,
        to_location: Option<&str>,
        reference: Option<&str>,
    ) -> Result<(), Refusal> {
        let may_be_negative = matches!(kind, Kind::Adjustment);
        if quantity == 0 || (quantity < 0 && !may_be_negative) {
            return Err(Refusal::Quantity);
        }
        if !(-LEVEL_MAX..=LEVEL_MAX).contains(&quantity) {
            return Err(Refusal::OutOfBounds);
        }
        let mut level = self.levels.get(location).cloned().unwrap_or_default();
        let reference = reference.unwrap_or_default();
        match kind {
            Kind::Sale => level.committed += quantity,
            Kind::Cancellation => level.committed -= quantity,
            Kind::Fulfilment => {
                level.committed -= quantity;
                level.on_hand -= quantity;
            }
            Kind::Return | Kind::Adjustment => level.on_hand += quantity,
            Kind::Receipt => {
                level.on_hand += quantity;
                arrive(&mut level, reference, quantity);
            }
            Kind::Incoming => announce(&mut level, reference, quantity)?,
            Kind::Transfer => level.on_hand -= quantity,
        }
        if !level.is_within_bounds() {
            return Err(Refusal::OutOfBounds);
        }
        if kind == Kind::Transfer {
            let to = to_location.filter(|to| *to != location).ok_or(Refusal::NoDestination)?;
            let mut destination = self.levels.get(to).cloned().unwrap_or_default();
            announce(&mut destination, reference, quantity)?;
            self.levels.insert(to.into(), destination);
        }
        self.levels.insert(location.into(), level);
        Ok(())
    }
}

fn announce(level: &mut Level, reference: &str, quantity: i64) -> Result<(), Refusal> {
    if level.incoming.len() >= INCOMING_REFERENCES_MAX && !level.incoming.contains_key(reference) {
        return Err(Refusal::TooManyIncoming);
    }
    *level.incoming.entry(reference.into()).or_default() += quantity;
    if level.is_within_bounds() { Ok(()) } else { Err(Refusal::OutOfBounds) }
}

fn arrive(level: &mut Level, reference: &str, quantity: i64) {
    if let Some(expected) = level.incoming.get_mut(reference) {
        *expected -= quantity.min(*expected);
        if *expected == 0 {
            level.incoming.remove(reference);
        }
    }
}
