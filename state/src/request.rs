//! What is asked of us: judged, and booked only if it can be kept.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::booking::Booking;
use crate::command::{MovementRequest, Movements};
use crate::dedup::{Seen, Verdict};
use crate::ledger::{Kind, Refusal, Stock, is_quantity};
use crate::limits;
use crate::machine::{Answer, Stamp, State, Work};
use crate::{Key, MovementOutcome, Reply};

impl State {
    /// Answers a request for movements, once per idempotency key and once per movement's id.
    pub(crate) fn movements(&mut self, work: &mut Work, asked: &Movements) -> Reply {
        if let Some((key, body)) = asked.idempotency
            && let Some(answer) = self.data.answers.get(&key)
        {
            return if answer.body == body { answer.reply.clone() } else { Reply::KeyReused };
        }
        if asked.movements.len() > limits::REQUEST_MOVEMENTS_MAX {
            return Reply::Rejected("too many movements in one request".into());
        }
        let refused = if asked.atomic { self.refused_together(&asked.movements) } else { None };
        let outcomes = refused.unwrap_or_else(|| {
            asked.movements.iter().map(|request| self.movement(work, request)).collect()
        });
        let reply = Reply::Movements(outcomes);
        if let Some((key, body)) = asked.idempotency {
            let answer = Answer { body, reply: reply.clone(), time: work.stamp.now };
            let expires = work.stamp.now + limits::ANSWER_KEEP_MS;
            self.data.answers.insert(key, answer, expires, limits::ANSWERS_MAX);
        }
        reply
    }

    /// Tries movements on copies of the levels; the outcomes, if not all of them are good.
    fn refused_together(&self, requests: &[MovementRequest]) -> Option<Vec<MovementOutcome>> {
        let mut levels: BTreeMap<&str, Stock> = BTreeMap::new();
        let mut ids: BTreeMap<Key, Key> = BTreeMap::new();
        let mut all_good = true;
        let mut outcomes = Vec::new();
        for request in requests {
            let verdict = match ids.insert(request.key, request.body) {
                None => self.data.booked.verdict(&request.key, &request.body),
                Some(body) if body == request.body => Verdict::Duplicate,
                Some(_) => Verdict::Conflict,
            };
            let tried = || {
                let known = levels.get(request.sku.as_str());
                let known = known.or_else(|| self.data.stock.get(&request.sku));
                self.judge(request, known)?;
                let mut stock = known.cloned().unwrap_or_default();
                let (to, reference) = (&request.to_location, &request.reference);
                stock
                    .book(
                        request.kind,
                        request.quantity,
                        &request.location,
                        to.as_deref(),
                        reference.as_deref(),
                    )
                    .map_err(|refusal| refusal.reason().to_string())?;
                Ok(stock)
            };
            outcomes.push(match verdict {
                Verdict::Duplicate => MovementOutcome::Duplicate,
                Verdict::Conflict => {
                    all_good = false;
                    MovementOutcome::Conflict
                }
                Verdict::New => match tried() {
                    Ok(stock) => {
                        levels.insert(&request.sku, stock);
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

    fn movement(&mut self, work: &mut Work, request: &MovementRequest) -> MovementOutcome {
        match self.data.booked.verdict(&request.key, &request.body) {
            Verdict::New => {}
            Verdict::Duplicate => return MovementOutcome::Duplicate,
            Verdict::Conflict => return MovementOutcome::Conflict,
        }
        if let Err(why) = self.judge(request, self.data.stock.get(&request.sku)) {
            return MovementOutcome::Rejected(why);
        }
        let booking = Booking {
            kind: request.kind,
            sku: &request.sku,
            quantity: request.quantity,
            location: &request.location,
            to_location: request.to_location.as_deref(),
            channel: request.channel.as_deref(),
            cause: &request.id,
            reference: request.reference.clone(),
            reason: request.reason.as_deref(),
            occurred: request.occurred_ms,
            since: work.stamp.now,
        };
        if let Err(refusal) = self.book(work, &booking) {
            return MovementOutcome::Rejected(refusal.reason().into());
        }
        let Stamp { index, now } = work.stamp;
        let seen = Seen { body: request.body, index, time: now };
        let expires = now + limits::MOVEMENT_ID_KEEP_MS;
        self.data.booked.insert(request.key, seen, expires, limits::MOVEMENT_IDS_MAX);
        MovementOutcome::Applied
    }

    /// What a request must satisfy and a fact need not.
    fn judge(&self, request: &MovementRequest, stock: Option<&Stock>) -> Result<(), String> {
        if !is_quantity(request.kind, request.quantity) {
            return Err(Refusal::Quantity.reason().into());
        }
        if stock.is_none() && !matches!(request.kind, Kind::Receipt | Kind::Incoming) {
            let sku = &request.sku;
            return Err(alloc::format!("there is no SKU {sku:?}; a receipt creates it"));
        }
        if let Some(channel) = &request.channel
            && !self.data.channels.contains_key(channel)
        {
            return Err(alloc::format!("there is no channel {channel:?}"));
        }
        let level = stock.and_then(|stock| stock.levels.get(&request.location));
        let committed = level.map_or(0, |level| level.committed);
        let takes_committed = matches!(request.kind, Kind::Cancellation | Kind::Fulfilment);
        if takes_committed && request.quantity > committed {
            return Err(alloc::format!("{}: {committed}", Refusal::NotCommitted.reason()));
        }
        Ok(())
    }
}
