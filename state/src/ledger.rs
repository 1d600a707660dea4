//! Levels and movements: what is where, and every change of it.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::limits::{INCOMING_REFERENCES_MAX, LEVEL_MAX};
use crate::listing::{Class, Listing};
use crate::{Few, Id, Millis, Packed, limits::QUANTITY_MAX};

/// One SKU: where it lies, and where it is listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stock {
    /// Quantities by location.
    pub levels: Few<Id, Level>,
    /// Listings by channel.
    pub listings: Few<Id, Packed<Listing>>,
    /// Log index of its newest movement, from which the older ones are found; 0 before the first.
    pub newest: u64,
    /// How far below zero requests may take what is available at a location: backorders, pre-orders.
    pub backorder: i64,
    /// A notice is given when what is available everywhere falls to this or below.
    pub low_at: Option<i64>,
    /// What of it may be oversold as things stood when something about it changed last.
    pub overlap: i64,
}

impl Stock {
    /// What may still be sold, over all locations.
    #[must_use]
    pub fn available(&self) -> i64 {
        self.levels.values().map(Level::available).fold(0, i64::saturating_add)
    }

    /// Whether it has ever had anything anywhere that is not gone by now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.levels.values().all(Level::is_zero)
    }
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
    /// Set apart for nodes to grant from by themselves, and not granted yet.
    pub escrowed: i64,
    /// On its way here, by reference.
    pub incoming: Few<Id, i64>,
    /// Log index of the newest movement that changed what is on hand; 0 before the first.
    pub counted: u64,
}

impl Level {
    /// What may still be sold: on hand less committed, reserved and escrowed. Below zero it is a shortfall.
    #[must_use]
    pub const fn available(&self) -> i64 {
        // Each is within ±LEVEL_MAX, so this cannot wrap.
        self.on_hand - self.committed - self.reserved - self.escrowed
    }

    /// Units on their way, whatever their reference.
    #[must_use]
    pub fn incoming(&self) -> i64 {
        self.incoming.values().sum()
    }

    /// Whether nothing is there, owed, held or coming.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        (self.on_hand, self.committed, self.reserved, self.escrowed) == (0, 0, 0, 0)
            && self.incoming.is_empty()
    }

    fn is_within_bounds(&self) -> bool {
        let bounded = |n: i64| (-LEVEL_MAX..=LEVEL_MAX).contains(&n);
        let here = [self.on_hand, self.committed, self.reserved, self.escrowed];
        here.into_iter().all(bounded) && bounded(self.incoming())
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
    /// Reserved + q.
    Hold,
    /// Reserved − q: released, expired, or confirmed and sold by the line after it.
    Release,
    /// Escrowed + q: set apart for a node.
    Grant,
    /// Escrowed − q: returned, or held by the line after it.
    Surrender,
}

impl Kind {
    /// The kinds that may be asked for, with the names that the API uses.
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
        match self {
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Grant => "grant",
            Self::Surrender => "surrender",
            other => {
                Self::NAMES.iter().find(|(_, kind)| *kind == other).map_or("", |(name, _)| name)
            }
        }
    }

    /// Whether it is about stock that lies somewhere, which a kit has none of.
    #[must_use]
    pub const fn is_physical(self) -> bool {
        matches!(self, Self::Receipt | Self::Incoming | Self::Transfer | Self::Adjustment)
    }

    /// Whether it changes what is on hand.
    #[must_use]
    pub const fn changes_on_hand(self) -> bool {
        matches!(
            self,
            Self::Fulfilment | Self::Return | Self::Receipt | Self::Transfer | Self::Adjustment
        )
    }

    /// How urgently the channels must hear of it.
    #[must_use]
    pub const fn class(self) -> Class {
        match self {
            Self::Sale | Self::Hold | Self::Grant => Class::Sale,
            Self::Cancellation | Self::Return | Self::Release | Self::Surrender => Class::Return,
            // A receipt is of thousands of SKUs at once, and late it costs sales, never an oversell.
            Self::Receipt
            | Self::Fulfilment
            | Self::Incoming
            | Self::Transfer
            | Self::Adjustment => Class::Adjustment,
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
    /// The kit that it is a part of, and how many of it were moved.
    pub kit: Option<(String, i64)>,
    /// Of a receipt: units that were on their way by its reference, and are no more.
    pub arrived: i64,
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
    /// A kit has no stock of its own.
    Kit,
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
            Self::Kit => "a kit has no stock of its own; move its components",
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
    /// may be more than one request may name. Gives back the units that were on their way and arrived.
    pub fn book(
        &mut self,
        kind: Kind,
        quantity: i64,
        location: &str,
        to_location: Option<&str>,
        reference: Option<&str>,
    ) -> Result<i64, Refusal> {
        let may_be_negative = matches!(kind, Kind::Adjustment);
        if quantity == 0 || (quantity < 0 && !may_be_negative) {
            return Err(Refusal::Quantity);
        }
        if !(-LEVEL_MAX..=LEVEL_MAX).contains(&quantity) {
            return Err(Refusal::OutOfBounds);
        }
        let mut level = self.levels.get(location).cloned().unwrap_or_default();
        let reference = reference.unwrap_or_default();
        let mut arrived = 0;
        match kind {
            Kind::Hold => level.reserved += quantity,
            Kind::Release => level.reserved -= quantity,
            Kind::Grant => level.escrowed += quantity,
            Kind::Surrender => level.escrowed -= quantity,
            Kind::Sale => level.committed += quantity,
            Kind::Cancellation => level.committed -= quantity,
            Kind::Fulfilment => {
                level.committed -= quantity;
                level.on_hand -= quantity;
            }
            Kind::Return | Kind::Adjustment => level.on_hand += quantity,
            Kind::Receipt => {
                level.on_hand += quantity;
                arrived = arrive(&mut level, reference, quantity);
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
        Ok(arrived)
    }

    /// Takes back a movement that was booked, the newest first: the levels are what they were before it.
    pub fn unbook(&mut self, movement: &Movement) {
        let Movement { quantity, arrived, .. } = *movement;
        let reference = movement.reference.as_deref().unwrap_or_default();
        let level = self.levels.entry(movement.location.as_str().into());
        match movement.kind {
            Kind::Hold => level.reserved -= quantity,
            Kind::Release => level.reserved += quantity,
            Kind::Grant => level.escrowed -= quantity,
            Kind::Surrender => level.escrowed += quantity,
            Kind::Sale => level.committed -= quantity,
            Kind::Cancellation => level.committed += quantity,
            Kind::Fulfilment => {
                level.committed += quantity;
                level.on_hand += quantity;
            }
            Kind::Return | Kind::Adjustment => level.on_hand -= quantity,
            Kind::Receipt => {
                level.on_hand -= quantity;
                if arrived > 0 {
                    *level.incoming.entry(reference.into()) += arrived;
                }
            }
            Kind::Incoming => {
                arrive(level, reference, quantity);
            }
            Kind::Transfer => {
                level.on_hand += quantity;
                let to = movement.to_location.as_deref().unwrap_or_default();
                arrive(self.levels.entry(to.into()), reference, quantity);
            }
        }
    }
}

fn announce(level: &mut Level, reference: &str, quantity: i64) -> Result<(), Refusal> {
    if level.incoming.len() >= INCOMING_REFERENCES_MAX && !level.incoming.contains_key(reference) {
        return Err(Refusal::TooManyIncoming);
    }
    *level.incoming.entry(reference.into()) += quantity;
    if level.is_within_bounds() { Ok(()) } else { Err(Refusal::OutOfBounds) }
}

/// Takes units off what is on its way, and says how many.
fn arrive(level: &mut Level, reference: &str, quantity: i64) -> i64 {
    let Some(expected) = level.incoming.get_mut(reference) else { return 0 };
    let arrived = quantity.min(*expected);
    *expected -= arrived;
    if *expected == 0 {
        level.incoming.remove(reference);
    }
    arrived
}
