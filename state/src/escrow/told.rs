//! What a holder tells of what it did with its quotas: recorded, never refused.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::Holder;
use crate::command::Confirm;
use crate::data::Answer;
use crate::ledger::Kind;
use crate::limits::{self, ANSWER_KEEP_MS, ANSWERS_MAX, RESERVATION_TTL_MAX_MS, TIME_MAX};
use crate::machine::{State, Work};
use crate::reply::{Answered, Refused};
use crate::reservation::{Line, Reservation, Status, part_of};
use crate::{Key, Millis, Reply};

/// One thing that a holder did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Who.
    pub holder: Holder,
    /// Its number among all that it tells: 1, 2, 3 …
    pub serial: u64,
    /// When, by that node's clock: what it answered says the same.
    pub at: Millis,
    /// Hashes of the `Idempotency-Key` and of the request, if there was one.
    pub idempotency: Option<(Key, Key)>,
    /// What.
    pub what: What,
}

/// What a holder did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// It has a book, and may be granted quotas.
    Opened,
    /// It held units.
    Held(Held),
    /// It sold what it held.
    Confirmed {
        /// The reservation.
        id: String,
        /// Units sold of each line since it was granted: told again, or by another, they count once.
        sold: Vec<i64>,
        /// What it belongs to from now on.
        reference: Option<String>,
    },
    /// It let go what it held.
    Released(String),
    /// Its time was over, by that node's monotonic clock.
    Expired(String),
    /// It holds it for so long from then.
    Extended(String, Millis),
    /// It gives units of its quota back, of which it has taken them already.
    Returned {
        /// Of what.
        sku: String,
        /// Where.
        location: String,
        /// How many.
        units: i64,
    },
}

/// Units held from quotas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The reservation's id.
    pub id: String,
    /// What, and where.
    pub lines: Vec<Line>,
    /// The channel for which.
    pub channel: Option<String>,
    /// How long.
    pub ttl_ms: Millis,
    /// What it belongs to, in the caller's words.
    pub reference: Option<String>,
}

/// What a reservation is to its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Escrowed {
    /// Who granted it, and lets it go.
    pub holder: Holder,
    /// For how long it is held, from when its holder began to count.
    pub ttl_ms: Millis,
}

impl What {
    /// The reservation that it is about.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Opened | Self::Returned { .. } => None,
            Self::Held(held) => Some(&held.id),
            Self::Confirmed { id, .. }
            | Self::Released(id)
            | Self::Expired(id)
            | Self::Extended(id, _) => Some(id),
        }
    }

    /// What it takes from quotas, by SKU and location.
    pub fn takes(&self) -> impl Iterator<Item = (&str, &str, i64)> {
        let lines = match self {
            Self::Held(held) => held.lines.as_slice(),
            _ => &[],
        };
        let returned = match self {
            Self::Returned { sku, location, units } => {
                Some((sku.as_str(), location.as_str(), *units))
            }
            _ => None,
        };
        let held = lines.iter().map(|line| (line.sku.as_str(), line.location.as_str(), line.held));
        held.chain(returned)
    }

    /// Bytes of it, about.
    #[must_use]
    pub fn len(&self) -> usize {
        let lines = match self {
            Self::Held(held) => held.lines.as_slice(),
            _ => &[],
        };
        lines.iter().map(|line| line.sku.len() + line.location.len() + 32).sum::<usize>() + 1024
    }

    /// It is never nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }
}

impl Reservation {
    /// What a holder granted at a time of its own clock.
    #[must_use]
    pub fn of(holder: Holder, held: &Held, at: Millis) -> Self {
        let at = at.min(TIME_MAX);
        Self {
            lines: held.lines.clone(),
            channel: held.channel.clone(),
            reference: held.reference.clone(),
            created: at,
            expires: at.saturating_add(held.ttl_ms).min(TIME_MAX),
            status: Status::Held,
            ended: None,
            escrow: Some(Escrowed { holder, ttl_ms: held.ttl_ms.min(RESERVATION_TTL_MAX_MS) }),
        }
    }

    /// What is told of it when it is sold, all or a part of it.
    pub fn to_confirm(&self, asked: &Confirm) -> Result<What, Refused> {
        self.is_held()?;
        let units = match &asked.lines {
            Some(wanted) => part_of(&self.lines, wanted)?,
            None => self.lines.iter().map(|line| line.held).collect(),
        };
        let sold = self.lines.iter().zip(units).map(|(line, units)| line.confirmed + units);
        let (id, reference) = (asked.id.clone(), asked.reference.clone());
        Ok(What::Confirmed { id, sold: sold.collect(), reference })
    }

    /// Whether something is held of it.
    pub fn is_held(&self) -> Result<(), Refused> {
        if self.status == Status::Held { Ok(()) } else { Err(Refused::Ended(self.status)) }
    }

    /// What it is to its holder after what it told of it, at a time of its clock.
    pub fn tell(&mut self, what: &What, at: Millis) {
        let at = at.min(TIME_MAX);
        let ends = match what {
            What::Opened | What::Held(_) | What::Returned { .. } => return,
            What::Confirmed { sold, reference, .. } => {
                for (line, sold) in self.lines.iter_mut().zip(sold) {
                    let units = sold.saturating_sub(line.confirmed).min(line.held).max(0);
                    (line.held, line.confirmed) = (line.held - units, line.confirmed + units);
                }
                self.reference = reference.clone().or_else(|| self.reference.take());
                self.lines.iter().all(|line| line.held == 0).then_some(Status::Confirmed)
            }
            What::Released(_) => Some(Status::Released),
            What::Expired(_) => Some(Status::Expired),
            What::Extended(_, ttl_ms) => {
                self.expires = at.saturating_add(*ttl_ms).min(TIME_MAX);
                if let Some(escrow) = &mut self.escrow {
                    escrow.ttl_ms = (*ttl_ms).min(RESERVATION_TTL_MAX_MS);
                }
                None
            }
        };
        if let Some(status) = ends.filter(|_| self.status == Status::Held) {
            self.lines.iter_mut().for_each(|line| line.held = 0);
            (self.status, self.ended) = (status, Some(at));
        }
    }
}

impl State {
    /// Records what a holder did. Why it can only be listed, if nobody knows what it is about any more.
    pub(crate) fn told(&mut self, work: &mut Work, told: &Told) -> Result<(), String> {
        let holder = told.holder;
        let known = self.hear_of(work, holder);
        let again = told.serial <= known.serial;
        if let Some(standing) = self.data.escrow.holders.get_mut(&holder) {
            standing.serial = standing.serial.max(told.serial);
        }
        let done = match &told.what {
            What::Opened => Ok(()),
            What::Held(held) => {
                self.held(work, told, held);
                Ok(())
            }
            What::Confirmed { id, sold, reference } => {
                self.sold(work, id, sold, reference.as_ref())
            }
            What::Released(id) => {
                self.let_go(work, holder, id, Status::Released);
                Ok(())
            }
            What::Expired(id) => {
                self.let_go(work, holder, id, Status::Expired);
                Ok(())
            }
            What::Extended(id, _) => {
                if let Some(known) = self.data.reservations.get_mut(id.as_str())
                    && known.escrow.is_some_and(|escrow| escrow.holder == holder)
                {
                    known.tell(&told.what, told.at);
                }
                Ok(())
            }
            What::Returned { sku, location, units } => {
                if !again {
                    self.debit(work, holder, (sku, location), *units, None);
                    self.data.escrow.tidy(sku);
                }
                Ok(())
            }
        };
        self.remember(work, told);
        done
    }

    /// Keeps what was answered, for whoever asks again under the same key, here or elsewhere.
    fn remember(&mut self, work: &Work, told: &Told) {
        let Some((key, body)) = told.idempotency else { return };
        let Some(id) = told.what.id() else { return };
        let Some(mut known) = self.data.reservations.get(id).cloned() else { return };
        if self.data.answers.get(&key).is_some() {
            return;
        }
        known.ended = known.ended.map(|_| told.at.min(TIME_MAX));
        let answer = Answered::Reservation(id.to_string(), known);
        let reply = Reply::Answered { index: work.stamp.index, answer };
        let time = work.stamp.now;
        let answer = Answer { body, reply, time };
        self.data.answers.insert(key, answer, time + ANSWER_KEEP_MS, ANSWERS_MAX);
    }

    fn held(&mut self, work: &mut Work, told: &Told, held: &Held) {
        if self.data.reservations.get(&held.id).is_some() {
            return;
        }
        let (holder, now) = (told.holder, work.stamp.now);
        let mut reservation = Reservation::of(holder, held, told.at);
        let mut lines = core::mem::take(&mut reservation.lines);
        for line in &mut lines {
            let place = (line.sku.as_str(), line.location.as_str());
            // What the quota lacks is taken all the same: it was promised.
            self.debit(work, holder, place, line.held, held.channel.as_deref());
            if let Some(quota) = self.data.escrow.quota_mut(holder, place.0, place.1) {
                quota.ask(line.held, now);
            }
            let units = line.held;
            if self.move_held(work, &held.id, &reservation, line, Kind::Hold, units).is_err() {
                line.held = 0;
            }
        }
        reservation.lines = lines;
        let kept = reservation.kept_until(now);
        self.escrowed.insert((holder, held.id.clone()));
        self.data.reservations.insert(held.id.clone(), reservation, kept, usize::MAX);
        let closed = self.data.escrow.holders.get(&holder).is_some_and(|known| known.closed);
        if closed {
            // Nobody may be there to let it go.
            self.adopt(work, &held.id);
        }
    }

    /// Books what was sold, also if it is not held any more: somebody was told that it is theirs.
    fn sold(
        &mut self,
        work: &mut Work,
        id: &str,
        sold: &[i64],
        reference: Option<&String>,
    ) -> Result<(), String> {
        let Some(mut known) = self.data.reservations.get(id).cloned() else {
            return Err(alloc::format!("reservation {id} was sold, and is forgotten"));
        };
        known.reference = reference.cloned().or_else(|| known.reference.take());
        let mut lines = core::mem::take(&mut known.lines);
        for (line, sold) in lines.iter_mut().zip(sold) {
            let units = sold.saturating_sub(line.confirmed).min(limits::QUANTITY_MAX);
            let held = units.min(line.held);
            if units < 1 {
                continue;
            }
            let mut book = |kind, units| self.move_held(work, id, &known, line, kind, units);
            if held > 0 && book(Kind::Release, held).is_err() {
                continue;
            }
            if book(Kind::Sale, units).is_ok() {
                line.held -= held.max(0);
                line.confirmed += units;
            } else if held > 0 {
                // At the bounds of a level it stays held.
                let _ = book(Kind::Hold, held);
            }
        }
        known.lines = lines;
        let over = known.lines.iter().all(|line| line.held == 0);
        if over && known.status != Status::Confirmed {
            self.ends(work, id, &mut known, Status::Confirmed);
        }
        self.put(id, known);
        Ok(())
    }

    fn let_go(&mut self, work: &mut Work, holder: Holder, id: &str, status: Status) {
        let Some(mut known) = self.data.reservations.get(id).cloned() else { return };
        let own = known.escrow.is_some_and(|escrow| escrow.holder == holder);
        // Somebody else went on with it where its holder could not be heard.
        if known.status != Status::Held || (status == Status::Expired && !own) {
            return;
        }
        self.ends(work, id, &mut known, status);
        let mut lines = core::mem::take(&mut known.lines);
        let open = self.data.escrow.holders.get(&holder).is_some_and(|known| !known.closed);
        for line in lines.iter_mut().filter(|line| line.held > 0) {
            let units = line.held;
            if self.move_held(work, id, &known, line, Kind::Release, units).is_err() {
                continue;
            }
            line.held = 0;
            let place = (line.sku.as_str(), line.location.as_str());
            let shares = self.data.escrow.skus.get(place.0);
            if own && open && shares.is_some_and(|shares| shares.size.is_on()) {
                self.credit(work, holder, place, units, known.channel.as_deref());
            }
        }
        known.lines = lines;
        self.put(id, known);
    }

    fn ends(&mut self, work: &Work, id: &str, known: &mut Reservation, status: Status) {
        (known.status, known.ended) = (status, Some(work.stamp.now));
        self.holds.remove(&(known.expires, id.to_string()));
        if let Some(escrow) = known.escrow {
            self.escrowed.remove(&(escrow.holder, id.to_string()));
        }
    }

    fn put(&mut self, id: &str, known: Reservation) {
        if let Some(place) = self.data.reservations.get_mut(id) {
            *place = known;
        }
    }
}
