//! Reservations: units held for somebody until they are confirmed, released, or their time is over.
//!
//! A reservation is granted only if it can be kept, all of it or none, and from then on counts against
//! every later request. Its end is by agreed time: no node's clock decides it.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::booking::Booking;
use crate::command::{Confirm, Hold, HoldLine};
use crate::escrow::told::Escrowed;
use crate::kits::Parts;
use crate::ledger::{Kind, Level};
use crate::limits::{
    QUANTITY_MAX, RESERVATION_KEEP_MS, RESERVATION_LINES_MAX, RESERVATION_TTL_MAX_MS,
    RESERVATION_TTL_MIN_MS, RESERVATIONS_MAX,
};
use crate::machine::{State, Work};
use crate::reply::{Answered, Lacking, Refused};
use crate::{Few, Millis};

/// Units held for somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// What is held.
    pub lines: Vec<Line>,
    /// The channel for which it is held.
    pub channel: Option<String>,
    /// What it belongs to, in the caller's words.
    pub reference: Option<String>,
    /// Agreed time at which it was granted.
    pub created: Millis,
    /// Agreed time at which what is still held then is let go.
    pub expires: Millis,
    /// How it stands.
    pub status: Status,
    /// Agreed time of its end, once nothing is held any more.
    pub ended: Option<Millis>,
    /// Of one that a node granted from its quota, and lets go by its own clock: no agreed time ends it.
    pub escrow: Option<Escrowed>,
}

/// One line of a reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The SKU.
    pub sku: String,
    /// Where.
    pub location: String,
    /// What one unit of it took out of stock when it was granted, if it is a kit; else nothing.
    pub parts: Parts,
    /// Units still held.
    pub held: i64,
    /// Units that were sold.
    pub confirmed: i64,
}

/// How a reservation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Status {
    /// Something is held.
    Held,
    /// All of it was sold.
    Confirmed,
    /// What was not sold was let go.
    Released,
    /// What was not sold was let go because its time was over.
    Expired,
}

impl Status {
    /// The name that the API uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Confirmed => "confirmed",
            Self::Released => "released",
            Self::Expired => "expired",
        }
    }
}

impl Reservation {
    /// How long it is known at least. One that holds something is never forgotten, however late its end is
    /// worked off.
    pub(crate) fn kept_until(&self, now: Millis) -> Millis {
        self.ended.unwrap_or(self.expires.max(now)) + RESERVATION_KEEP_MS
    }
}

/// Units needed of SKUs at locations.
type Needs = BTreeMap<(String, String), i64>;

impl State {
    /// Holds units, all or none.
    pub(crate) fn hold(&mut self, work: &mut Work, asked: Hold) -> Answered {
        if let Some(known) = self.data.reservations.get(&asked.id) {
            return Answered::Reservation(asked.id, known.clone());
        }
        let lines = match self.granted(&asked) {
            Ok(lines) => lines,
            Err(refused) => return Answered::Refused(refused),
        };
        let now = work.stamp.now;
        let mut reservation = Reservation {
            lines: Vec::new(),
            channel: asked.channel,
            reference: asked.reference,
            created: now,
            expires: now + asked.ttl_ms,
            status: Status::Held,
            ended: None,
            escrow: None,
        };
        for line in lines {
            let held = self.move_held(work, &asked.id, &reservation, &line, Kind::Hold, line.held);
            let Err(refusal) = held else {
                reservation.lines.push(line);
                continue;
            };
            for line in &reservation.lines {
                // What was just held can be let go.
                let _ =
                    self.move_held(work, &asked.id, &reservation, line, Kind::Release, line.held);
            }
            return Answered::Refused(Refused::Invalid(refusal.reason().into()));
        }
        self.holds.insert((reservation.expires, asked.id.clone()));
        let kept = reservation.kept_until(now);
        self.data.reservations.insert(asked.id.clone(), reservation.clone(), kept, usize::MAX);
        Answered::Reservation(asked.id, reservation)
    }

    /// The lines that can be held, each at its location.
    fn granted(&self, asked: &Hold) -> Result<Vec<Line>, Refused> {
        // Those that have ended are known for a while, and stand in nobody's way before they are as many.
        let known = self.data.reservations.entries().len();
        if self.holds.len() >= RESERVATIONS_MAX || known >= 2 * RESERVATIONS_MAX {
            return Err(Refused::TooMany);
        }
        let wrong = |why: &str| Err(Refused::Invalid(why.into()));
        if !(1..=RESERVATION_LINES_MAX).contains(&asked.lines.len()) {
            return wrong("a reservation has between 1 and 100 lines");
        }
        if !(RESERVATION_TTL_MIN_MS..=RESERVATION_TTL_MAX_MS).contains(&asked.ttl_ms) {
            return wrong("ttl_s must be between 1 and 2592000, which is 30 days");
        }
        if !asked.lines.iter().all(|line| (1..=QUANTITY_MAX).contains(&line.quantity)) {
            return wrong("a quantity must be between 1 and 1000000000");
        }
        if let Some(channel) = &asked.channel
            && !self.data.channels.contains_key(channel)
        {
            return Err(Refused::Invalid(alloc::format!("there is no channel {channel:?}")));
        }
        let (mut taken, mut lines, mut lacking) = (Needs::new(), Vec::new(), Vec::new());
        for line in &asked.lines {
            if self.data.stock.get(line.sku.as_str()).is_none() {
                return Err(Refused::UnknownSku(line.sku.clone()));
            }
            match self.place(line, asked.channel.as_deref(), &mut taken) {
                Ok(granted) => lines.push(granted),
                Err(lack) => lacking.push(lack),
            }
        }
        if lacking.is_empty() { Ok(lines) } else { Err(Refused::Insufficient(lacking)) }
    }

    /// Finds a location for a line beside what others of the request take, or says what is missing.
    fn place(
        &self,
        line: &HoldLine,
        channel: Option<&str>,
        taken: &mut Needs,
    ) -> Result<Line, Lacking> {
        let kit = self.data.kits.components(&line.sku).is_some();
        let parts = self.data.kits.parts(&line.sku);
        let mut most = Lacking {
            sku: line.sku.clone(),
            location: None,
            requested: line.quantity,
            available: i64::MIN,
        };
        for location in self.locations(line, channel, &parts) {
            let left = |(part, units): &(String, i64)| {
                let stock = self.data.stock.get(part.as_str());
                let level = stock.and_then(|stock| stock.levels.get(location.as_str()));
                let available = level.map_or(0, Level::available);
                let backorder = stock.map_or(0, |stock| stock.backorder);
                let place = (part.clone(), location.clone());
                let taken = taken.get(&place).copied().unwrap_or(0);
                available.saturating_add(backorder).saturating_sub(taken).div_euclid(*units)
            };
            let left = parts.iter().map(left).min().unwrap_or(0);
            if left >= line.quantity {
                for (part, units) in &parts {
                    let sum = taken.entry((part.clone(), location.clone())).or_default();
                    *sum = sum.saturating_add(units.saturating_mul(line.quantity));
                }
                return Ok(Line {
                    sku: line.sku.clone(),
                    location,
                    parts: if kit { parts } else { Parts::new() },
                    held: line.quantity,
                    confirmed: 0,
                });
            }
            if left > most.available {
                (most.available, most.location) = (left, Some(location));
            }
        }
        most.available = most.available.max(0);
        Err(most)
    }

    /// Where a line may be held, the first choice first: where it says, or where its channel draws from;
    /// else by the order that is configured, and then wherever its parts lie, by name.
    pub(crate) fn locations(
        &self,
        line: &HoldLine,
        channel: Option<&str>,
        parts: &Parts,
    ) -> Vec<String> {
        let of_channel = || Some(self.data.channels.get(channel?)?.definition.location.clone());
        if let Some(location) = line.location.clone().or_else(of_channel) {
            return alloc::vec![location];
        }
        let mut locations = self.data.locations.clone();
        for (part, _) in parts {
            let levels = self.data.stock.get(part.as_str()).map(|stock| &stock.levels);
            locations.extend(levels.into_iter().flat_map(Few::keys).map(ToString::to_string));
        }
        let ranked = self.data.locations.len();
        let mut rest = locations.split_off(ranked);
        rest.sort_unstable();
        rest.dedup();
        rest.retain(|location| !locations.contains(location));
        locations.extend(rest);
        locations
    }

    /// Writes a line of the ledger for units of a reservation.
    pub(crate) fn move_held(
        &mut self,
        work: &mut Work,
        id: &str,
        of: &Reservation,
        line: &Line,
        kind: Kind,
        quantity: i64,
    ) -> Result<(), crate::ledger::Refusal> {
        let over = match of.escrow {
            Some(_) => of.status == Status::Expired,
            None => of.expires <= work.stamp.now,
        };
        let expired = kind == Kind::Release && over;
        let booking = Booking {
            kind,
            sku: &line.sku,
            parts: &line.parts,
            quantity,
            location: &line.location,
            to_location: None,
            channel: of.channel.as_deref(),
            cause: id,
            reference: of.reference.clone(),
            reason: expired.then_some("expired"),
            occurred: None,
            since: work.stamp.now,
        };
        self.book(work, &booking)
    }

    /// Sells what is held, all or part of it.
    pub(crate) fn confirm(&mut self, work: &mut Work, asked: Confirm) -> Answered {
        let mut known = match self.open(work, &asked.id) {
            Ok(known) => known,
            Err(refused) => return Answered::Refused(refused),
        };
        let mut sold: Vec<i64> = known.lines.iter().map(|line| line.held).collect();
        if let Some(wanted) = &asked.lines {
            sold = match part_of(&known.lines, wanted) {
                Ok(sold) => sold,
                Err(refused) => return Answered::Refused(refused),
            };
        }
        if let Some(reference) = asked.reference {
            known.reference = Some(reference);
        }
        let mut lines = core::mem::take(&mut known.lines);
        for (line, units) in lines.iter_mut().zip(sold).filter(|(_, units)| *units > 0) {
            let mut book = |kind| self.move_held(work, &asked.id, &known, line, kind, units);
            if book(Kind::Release).is_err() {
                continue;
            }
            if book(Kind::Sale).is_ok() {
                line.held -= units;
                line.confirmed += units;
            } else {
                // At the bounds of a level it stays held.
                let _ = book(Kind::Hold);
            }
        }
        known.lines = lines;
        if known.lines.iter().all(|line| line.held == 0) {
            (known.status, known.ended) = (Status::Confirmed, Some(work.stamp.now));
            self.holds.remove(&(known.expires, asked.id.clone()));
        }
        self.store(asked.id, known)
    }

    /// Lets go what is still held.
    pub(crate) fn release(&mut self, work: &mut Work, id: String) -> Answered {
        match self.open(work, &id) {
            Ok(_) => self.end(work, id, Status::Released),
            // Released twice is released.
            Err(Refused::Ended(Status::Released | Status::Expired)) => {
                match self.data.reservations.get(&id) {
                    Some(known) => Answered::Reservation(id, known.clone()),
                    None => Answered::Refused(Refused::UnknownReservation),
                }
            }
            Err(refused) => Answered::Refused(refused),
        }
    }

    /// Holds for so long from now.
    pub(crate) fn extend(&mut self, work: &mut Work, id: String, ttl_ms: Millis) -> Answered {
        let mut known = match self.open(work, &id) {
            Ok(known) => known,
            Err(refused) => return Answered::Refused(refused),
        };
        if !(RESERVATION_TTL_MIN_MS..=RESERVATION_TTL_MAX_MS).contains(&ttl_ms) {
            let why = "ttl_s must be between 1 and 2592000, which is 30 days";
            return Answered::Refused(Refused::Invalid(why.into()));
        }
        self.holds.remove(&(known.expires, id.clone()));
        known.expires = work.stamp.now + ttl_ms;
        self.holds.insert((known.expires, id.clone()));
        self.store(id, known)
    }

    /// Lets go what is held beyond its time, a bounded number with each command.
    pub(crate) fn expire_holds(&mut self, work: &mut Work) {
        for _ in 0..crate::limits::EXPIRED_PER_COMMAND_MAX {
            let Some((time, id)) = self.holds.first() else { return };
            if *time > work.stamp.now {
                return;
            }
            let id = id.clone();
            self.end(work, id, Status::Expired);
        }
    }

    /// A reservation of which something is held. One whose time is over ends now.
    fn open(&mut self, work: &mut Work, id: &str) -> Result<Reservation, Refused> {
        let known = self.data.reservations.get(id);
        let known = known.ok_or(Refused::UnknownReservation)?;
        if known.status != Status::Held {
            return Err(Refused::Ended(known.status));
        }
        if known.expires <= work.stamp.now {
            self.end(work, id.to_string(), Status::Expired);
            return Err(Refused::Ended(Status::Expired));
        }
        Ok(known.clone())
    }

    fn end(&mut self, work: &mut Work, id: String, status: Status) -> Answered {
        let Some(mut known) = self.data.reservations.get(&id).cloned() else {
            self.holds.retain(|(_, held)| *held != id);
            return Answered::Refused(Refused::UnknownReservation);
        };
        self.holds.remove(&(known.expires, id.clone()));
        let mut lines = core::mem::take(&mut known.lines);
        for line in lines.iter_mut().filter(|line| line.held > 0) {
            if self.move_held(work, &id, &known, line, Kind::Release, line.held).is_ok() {
                line.held = 0;
            }
        }
        known.lines = lines;
        (known.status, known.ended) = (status, Some(work.stamp.now));
        self.store(id, known)
    }

    fn store(&mut self, id: String, reservation: Reservation) -> Answered {
        if let Some(known) = self.data.reservations.get_mut(&id) {
            *known = reservation.clone();
        }
        Answered::Reservation(id, reservation)
    }
}

/// How much of each line is meant by SKUs with units; or why that cannot be.
pub(crate) fn part_of(lines: &[Line], wanted: &[(String, i64)]) -> Result<Vec<i64>, Refused> {
    let mut sold = alloc::vec![0; lines.len()];
    for (sku, quantity) in wanted {
        if *quantity < 1 {
            return Err(Refused::Invalid("a quantity must be at least 1".into()));
        }
        let mut left = *quantity;
        for (line, sold) in lines.iter().zip(&mut sold).filter(|(line, _)| line.sku == *sku) {
            let units = left.min(line.held - *sold);
            *sold += units;
            left -= units;
        }
        if left > 0 {
            return Err(Refused::MoreThanHeld { sku: sku.clone(), held: quantity - left });
        }
    }
    Ok(sold)
}
