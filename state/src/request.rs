//! What is asked of us: judged, and booked only if it can be kept.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::booking::Booking;
use crate::command::{Asked, Confirm, Count, MovementRequest, Movements};
use crate::data::Answer;
use crate::dedup::{Seen, Verdict};
use crate::kits::Parts;
use crate::ledger::{Kind, Refusal, Stock, is_quantity};
use crate::limits;
use crate::machine::{Stamp, State, Work};
use crate::reply::{Answered, Refused};
use crate::{Key, MovementOutcome, Reply};

impl State {
    /// Answers a request, once per idempotency key.
    pub(crate) fn request(
        &mut self,
        work: &mut Work,
        idempotency: Option<(Key, Key)>,
        asked: Asked,
    ) -> Reply {
        self.once(work, idempotency, |state, work| state.answer(work, asked))
    }

    fn answer(&mut self, work: &mut Work, asked: Asked) -> Answered {
        if let Asked::Confirm(Confirm { id, .. }) | Asked::Release(id) | Asked::Extend(id, _) =
            &asked
        {
            self.adopt(work, id);
        }
        match asked {
            Asked::Movements(asked) => match self.movements(work, &asked) {
                Ok(outcomes) => Answered::Movements(outcomes),
                Err(refused) => Answered::Refused(refused),
            },
            Asked::Hold(asked) => self.hold(work, asked),
            Asked::Confirm(asked) => self.confirm(work, asked),
            Asked::Release(id) => self.release(work, id),
            Asked::Extend(id, ttl_ms) => self.extend(work, id, ttl_ms),
            Asked::Change(change) => Answered::Changed(match self.carry_out(work, change.into()) {
                Reply::Done => Ok(()),
                Reply::Rejected(why) => Err(why),
                other => Err(alloc::format!("{other:?}")),
            }),
            Asked::Letters(letters) => self.letters(work, letters),
        }
    }

    /// Does what is asked, once per idempotency key.
    pub(crate) fn once(
        &mut self,
        work: &mut Work,
        idempotency: Option<(Key, Key)>,
        done: impl FnOnce(&mut Self, &mut Work) -> Answered,
    ) -> Reply {
        if let Some((key, body)) = idempotency
            && let Some(known) = self.data.answers.get(&key)
        {
            return if known.body == body { known.reply.clone() } else { Reply::KeyReused };
        }
        let answer = done(self, work);
        let reply = Reply::Answered { index: work.stamp.index, answer };
        if let Some((key, body)) = idempotency {
            let answer = Answer { body, reply: reply.clone(), time: work.stamp.now };
            let expires = work.stamp.now + limits::ANSWER_KEEP_MS;
            self.data.answers.insert(key, answer, expires, limits::ANSWERS_MAX);
        }
        reply
    }

    /// Books movements asked for, once per id.
    fn movements(
        &mut self,
        work: &mut Work,
        asked: &Movements,
    ) -> Result<Vec<MovementOutcome>, Refused> {
        if asked.movements.len() > limits::REQUEST_MOVEMENTS_MAX {
            return Err(Refused::Invalid("too many movements in one request".into()));
        }
        let refused =
            if asked.atomic { self.refused_together(work.stamp, &asked.movements) } else { None };
        Ok(refused.unwrap_or_else(|| {
            asked.movements.iter().map(|request| self.movement(work, request)).collect()
        }))
    }

    /// Tries movements on copies of the levels; the outcomes, if not all of them are good.
    fn refused_together(
        &self,
        stamp: Stamp,
        requests: &[MovementRequest],
    ) -> Option<Vec<MovementOutcome>> {
        let mut levels: BTreeMap<String, Stock> = BTreeMap::new();
        let mut ids: BTreeMap<Key, Key> = BTreeMap::new();
        let mut all_good = true;
        let mut outcomes = Vec::new();
        for request in requests {
            let verdict = match ids.insert(request.key, request.body) {
                None => self.data.booked.verdict(&request.key, &request.body),
                Some(body) if body == request.body => Verdict::Duplicate,
                Some(_) => Verdict::Conflict,
            };
            outcomes.push(match verdict {
                Verdict::Duplicate => MovementOutcome::Duplicate,
                Verdict::Conflict => {
                    all_good = false;
                    MovementOutcome::Conflict
                }
                Verdict::New => match self.tried(stamp, request, &levels) {
                    Ok(changed) => {
                        levels.extend(changed);
                        let others = "another movement of the request was refused";
                        MovementOutcome::Rejected(others.into())
                    }
                    Err(why) => {
                        all_good = false;
                        MovementOutcome::Rejected(why)
                    }
                },
            });
        }
        (!all_good).then_some(outcomes)
    }

    /// What a movement would make of levels, some of which were changed by others before it.
    fn tried(
        &self,
        stamp: Stamp,
        request: &MovementRequest,
        changed: &BTreeMap<String, Stock>,
    ) -> Result<Vec<(String, Stock)>, String> {
        let known = |sku: &str| self.data.stock.get(sku).map(Arc::as_ref);
        let stock = |sku: &str| changed.get(sku).or_else(|| known(sku));
        let Judged { quantity, parts } = self.judge(request, stock)?;
        let (to, reference) = (request.to_location.as_deref(), request.reference.as_deref());
        let whole = alloc::vec![(request.sku.clone(), 1)];
        let moved = if parts.is_empty() { whole } else { parts };
        let mut tried = Vec::new();
        for (sku, units) in moved.into_iter().filter(|_| quantity != 0) {
            let mut stock = stock(&sku).cloned().unwrap_or_default();
            let units = quantity.saturating_mul(units);
            let booked = stock.book(request.kind, units, &request.location, to, reference);
            booked.map_err(|refusal| refusal.reason().to_string())?;
            if request.kind.changes_on_hand() {
                stock.levels.entry(request.location.as_str().into()).counted = stamp.index;
            }
            tried.push((sku, stock));
        }
        Ok(tried)
    }

    fn movement(&mut self, work: &mut Work, request: &MovementRequest) -> MovementOutcome {
        match self.data.booked.verdict(&request.key, &request.body) {
            Verdict::New => {}
            Verdict::Duplicate => return MovementOutcome::Duplicate,
            Verdict::Conflict => return MovementOutcome::Conflict,
        }
        let judged = self.judge(request, |sku| self.data.stock.get(sku).map(Arc::as_ref));
        let Judged { quantity, parts } = match judged {
            Ok(judged) => judged,
            Err(why) => return MovementOutcome::Rejected(why),
        };
        let booking = Booking {
            kind: request.kind,
            sku: &request.sku,
            parts: &parts,
            quantity,
            location: &request.location,
            to_location: request.to_location.as_deref(),
            channel: request.channel.as_deref(),
            cause: &request.id,
            reference: request.reference.clone(),
            reason: request.reason.as_deref(),
            occurred: request.occurred_ms,
            since: work.stamp.now,
        };
        // A count that finds what the ledger says moves nothing.
        if quantity != 0 {
            if let Err(refusal) = self.book(work, &booking) {
                return MovementOutcome::Rejected(refusal.reason().into());
            }
            self.hear(work.stamp, &booking);
        }
        let Stamp { index, now } = work.stamp;
        let seen = Seen { body: request.body, index, time: now };
        let expires = now + limits::MOVEMENT_ID_KEEP_MS;
        self.data.booked.insert(request.key, seen, expires, limits::MOVEMENT_IDS_MAX);
        MovementOutcome::Applied
    }

    /// What a request must satisfy and a fact need not.
    fn judge<'a>(
        &'a self,
        request: &MovementRequest,
        stock: impl Fn(&str) -> Option<&'a Stock>,
    ) -> Result<Judged, String> {
        let (kind, sku) = (request.kind, &request.sku);
        if matches!(kind, Kind::Hold | Kind::Release) {
            return Err("units are held by a reservation".into());
        }
        if matches!(kind, Kind::Grant | Kind::Surrender) {
            return Err("quotas are granted by the cluster itself".into());
        }
        let known = stock(sku);
        if known.is_none() && !matches!(kind, Kind::Receipt | Kind::Incoming) {
            return Err(alloc::format!("there is no SKU {sku:?}; a receipt creates it"));
        }
        let quantity = match request.count {
            Some(count) => difference(request, count, known)?,
            None if is_quantity(kind, request.quantity) => request.quantity,
            None => return Err(Refusal::Quantity.reason().into()),
        };
        if let Some(channel) = &request.channel
            && !self.data.channels.contains_key(channel)
        {
            return Err(alloc::format!("there is no channel {channel:?}"));
        }
        let is_kit = self.data.kits.components(sku).is_some();
        if is_kit && kind.is_physical() {
            return Err(Refusal::Kit.reason().into());
        }
        let parts = self.data.kits.parts(sku);
        if matches!(kind, Kind::Cancellation | Kind::Fulfilment) {
            for (part, units) in &parts {
                let level =
                    stock(part).and_then(|stock| stock.levels.get(request.location.as_str()));
                let committed = level.map_or(0, |level| level.committed);
                if quantity.saturating_mul(*units) > committed {
                    let why = Refusal::NotCommitted.reason();
                    return Err(alloc::format!("{why} of {part:?}: {committed}"));
                }
            }
        }
        Ok(Judged { quantity, parts: if is_kit { parts } else { Parts::new() } })
    }
}

/// What a request comes to.
struct Judged {
    quantity: i64,
    /// What one unit takes out of stock, if it is a kit; else nothing.
    parts: Parts,
}

/// What a count adds to or takes off what is on hand; refused where that has changed since.
fn difference(
    request: &MovementRequest,
    count: Count,
    stock: Option<&Stock>,
) -> Result<i64, String> {
    if request.kind != Kind::Adjustment || request.quantity != 0 {
        return Err("a count is an adjustment, and has no quantity".into());
    }
    if !(0..=limits::QUANTITY_MAX).contains(&count.units) {
        return Err("a count is between 0 and 1000000000".into());
    }
    let level = stock.and_then(|stock| stock.levels.get(request.location.as_str()));
    let (on_hand, changed) = level.map_or((0, 0), |level| (level.on_hand, level.counted));
    if changed > count.index {
        return Err(alloc::format!(
            "stale: {on_hand} are on hand since index {changed}, after {}; count again",
            count.index
        ));
    }
    Ok(count.units - on_hand)
}
