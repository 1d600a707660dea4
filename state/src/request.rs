//! How facts and requests reach the ledger, and how pushes are agreed on.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::command::{Delivery, MovementRequest, Movements, Outcome, Settled};
use crate::dedup::{Seen, Verdict};
use crate::ledger::{Kind, Movement, Refusal, Stock, is_quantity};
use crate::limits;
use crate::listing::{InFlight, Stale};
use crate::machine::{Answer, Stamp, State, Work};
use crate::order::{Line, LineImage, Order, RemovalLine};
use crate::reply::{Confirmed, Intended, Step};
use crate::{Key, MovementOutcome, Reply};

/// A movement that is about to be booked.
struct Booking<'a> {
    kind: Kind,
    sku: &'a str,
    quantity: i64,
    location: &'a str,
    to_location: Option<&'a str>,
    channel: Option<&'a str>,
    cause: &'a str,
    reference: Option<String>,
    reason: Option<&'a str>,
    occurred: Option<u64>,
    since: u64,
}

impl State {
    /// Takes an order's image in. The error is the reason for which it becomes a dead letter.
    pub(crate) fn image(
        &mut self,
        work: &mut Work,
        delivery: &Delivery,
        order: (&str, u64),
        lines: &[LineImage],
    ) -> Result<(), &'static str> {
        if !lines.iter().all(|line| (0..=limits::QUANTITY_MAX).contains(&line.quantity)) {
            return Err("an order line's quantity is out of range");
        }
        let named = lines.iter().map(|line| (line.id.as_str(), line.sku.as_deref()));
        self.with_order(work, delivery, order, named, |known| {
            for image in lines {
                if let Some(line) = known.lines.get_mut(&image.id) {
                    line.merge(order.1.max(1), image.quantity);
                }
            }
        })
    }

    /// Takes units out of an order. The error is the reason for which it becomes a dead letter.
    pub(crate) fn refund(
        &mut self,
        work: &mut Work,
        delivery: &Delivery,
        order: (&str, u64),
        lines: &[RemovalLine],
    ) -> Result<(), &'static str> {
        if !lines.iter().all(|line| (0..=limits::QUANTITY_MAX).contains(&line.quantity)) {
            return Err("a refunded quantity is out of range");
        }
        let named = lines.iter().map(|line| (line.line.as_str(), line.sku.as_deref()));
        let mut kept = Ok(());
        self.with_order(work, delivery, order, named, |known| {
            for refund in lines {
                let Some(line) = known.lines.get_mut(&refund.line) else { continue };
                let full = line.removals.len() >= limits::LINE_REMOVALS_MAX;
                if full && !line.removals.contains_key(&refund.id) {
                    kept = Err("an order line has too many refunds");
                    continue;
                }
                let removal = (refund.removal, refund.quantity);
                line.removals.entry(refund.id.clone()).or_insert(removal);
            }
        })?;
        kept
    }

    /// Merges a fact into its order and books what is owed for the lines that it names.
    fn with_order<'a>(
        &mut self,
        work: &mut Work,
        delivery: &Delivery,
        (order, version): (&str, u64),
        lines: impl Iterator<Item = (&'a str, Option<&'a str>)>,
        merge: impl FnOnce(&mut Order),
    ) -> Result<(), &'static str> {
        let now = work.stamp.now;
        let Some(channel) = self.data.channels.get(&delivery.channel) else {
            return Err("the channel is unknown");
        };
        let location = channel.definition.location.clone();
        let place = (delivery.channel.clone(), order.to_string());
        if self.data.orders.get(&place).is_none() {
            if version.saturating_add(limits::ORDER_KEEP_MS) < now {
                return Err("too_old: the order may have been forgotten already");
            }
            let expires = now + limits::ORDER_KEEP_MS;
            self.data.orders.insert(place.clone(), Order::default(), expires, limits::ORDERS_MAX);
        }
        let Some(known) = self.data.orders.get_mut(&place) else { return Err("no order") };
        known.touched = now;
        let lines: Vec<_> = lines.collect();
        let ids: BTreeSet<&str> = lines.iter().map(|(id, _)| *id).collect();
        let new = ids.iter().filter(|id| !known.lines.contains_key(**id)).count();
        if known.lines.len() + new > limits::ORDER_LINES_MAX {
            return Err("the order has too many lines");
        }
        for (id, sku) in lines {
            let new_line = || Line { location: location.clone(), ..Line::default() };
            let line = known.lines.entry(id.to_string()).or_insert_with(new_line);
            if line.sku.is_none() {
                line.sku = sku.map(ToString::to_string);
            }
        }
        merge(known);
        self.settle_order(work, delivery, &place, &ids)
    }

    fn settle_order(
        &mut self,
        work: &mut Work,
        delivery: &Delivery,
        place: &(String, String),
        lines: &BTreeSet<&str>,
    ) -> Result<(), &'static str> {
        let Some(order) = self.data.orders.get(place) else { return Err("no order") };
        let owed: Vec<(String, Line)> = lines
            .iter()
            .filter_map(|id| Some((id.to_string(), order.lines.get(*id)?.clone())))
            .filter(|(_, line)| line.owed().iter().any(|(_, quantity)| *quantity > 0))
            .collect();
        let mut outcome = Ok(());
        for (id, line) in owed {
            let Some(sku) = &line.sku else {
                if line.implied().net() != line.moved.net() {
                    outcome = Err("pending: an order line names no SKU");
                }
                continue;
            };
            for (kind, quantity) in line.owed().into_iter().filter(|(_, q)| *q > 0) {
                let booking = Booking {
                    kind,
                    sku,
                    quantity,
                    location: &line.location,
                    to_location: None,
                    channel: Some(&place.0),
                    cause: &delivery.id,
                    reference: Some(alloc::format!("{}/{id}", place.1)),
                    reason: None,
                    occurred: None,
                    since: delivery.received_ms,
                };
                if self.book(work, &booking).is_err() {
                    outcome = Err("the level would leave its bounds");
                    continue;
                }
                let order = self.data.orders.get_mut(place);
                if let Some(known) = order.and_then(|order| order.lines.get_mut(&id)) {
                    known.moved.book(kind, quantity);
                }
            }
        }
        outcome
    }

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

    /// Writes one line of the ledger.
    fn book(&mut self, work: &mut Work, booking: &Booking<'_>) -> Result<(), Refusal> {
        let stamp = work.stamp;
        let Booking { kind, quantity, location, .. } = *booking;
        let mut stock = self.data.stock.get(&booking.sku.to_string()).cloned().unwrap_or_default();
        stock.book(kind, quantity, location, booking.to_location, booking.reference.as_deref())?;
        let level = stock.levels.get(location).cloned().unwrap_or_default();
        work.effects.movements.push(Movement {
            time: stamp.now,
            kind,
            sku: booking.sku.into(),
            quantity,
            location: location.into(),
            to_location: booking.to_location.map(Into::into),
            channel: booking.channel.map(Into::into),
            cause: booking.cause.into(),
            reference: booking.reference.clone(),
            reason: booking.reason.map(Into::into),
            occurred: booking.occurred,
            on_hand: level.on_hand,
            available: level.available(),
            previous: stock.newest,
        });
        stock.newest = stamp.index;
        self.data.stock.insert(booking.sku.into(), stock);
        self.hear(stamp, booking);
        let since = booking.since.min(stamp.now);
        let deadline = since + kind.window_ms();
        work.touch(booking.sku, Some(Stale { since, deadline }));
        Ok(())
    }

    /// The channel's own listing already shows what the channel did.
    fn hear(&mut self, stamp: Stamp, booking: &Booking<'_>) {
        let Some(channel) = booking.channel else { return };
        let place = (channel.to_string(), booking.sku.to_string());
        let listed =
            self.data.stock.get(&place.1).is_some_and(|s| s.listings.contains_key(channel));
        if !listed {
            return;
        }
        self.change_listing(&place, |listing| match booking.kind {
            Kind::Sale => listing.sold(booking.quantity, stamp.now),
            Kind::Cancellation | Kind::Return => listing.restocked(booking.quantity, stamp.now),
            _ => {}
        });
    }

    /// Agrees on what is pushed next: the current quantities, at this place in the log.
    pub(crate) fn intend(
        &mut self,
        work: &mut Work,
        channel: &str,
        epoch: u64,
        skus: Vec<String>,
    ) -> Reply {
        if !self.is_owner(channel, epoch) {
            return Reply::Fenced;
        }
        let stamp = work.stamp;
        let mut intended = Vec::new();
        for sku in skus.into_iter().take(limits::INTENT_SKUS_MAX) {
            let Some(allocation) = self.data.allocation(channel, &sku) else { continue };
            let listing = |stock: &Stock| stock.listings.get(channel).cloned();
            let Some(listing) = self.data.stock.get(&sku).and_then(listing) else { continue };
            let Some(stale) = listing.stale.filter(|_| listing.is_due()) else { continue };
            let step = match listing.shown.filter(|_| !listing.unsure) {
                None => Step::Observe,
                Some(shown) => {
                    let quantity = allocation.desired;
                    let push = InFlight { quantity, from: shown, revision: stamp.index, stale };
                    let place = (channel.to_string(), sku.clone());
                    self.change_listing(&place, |listing| listing.intend(push, stamp.now));
                    // What this one may sell, others may not be raised to any more.
                    work.touch(&sku, None);
                    Step::Push { quantity, from: shown, revision: stamp.index }
                }
            };
            intended.push(Intended { sku, step });
        }
        Reply::Intended(intended)
    }

    /// Takes in what became of pushes and read-backs.
    pub(crate) fn settle(
        &mut self,
        work: &mut Work,
        channel: &str,
        epoch: u64,
        outcomes: Vec<Outcome>,
    ) -> Reply {
        let now = work.stamp.now;
        if !self.is_owner(channel, epoch) {
            return Reply::Fenced;
        }
        for Outcome { sku, listing: id, revision, result } in outcomes {
            let place = (channel.to_string(), sku.clone());
            let confirmed = self.change_listing(&place, |listing| {
                if listing.spec.id != id {
                    return None;
                }
                let push = listing.in_flight.filter(|push| push.revision == revision);
                match (result, push) {
                    (Settled::Confirmed, Some(push)) => {
                        listing.confirm(push, now);
                        return Some(push.stale);
                    }
                    (Settled::Observed(quantity), _)
                        if push.is_some() || listing.in_flight.is_none() =>
                    {
                        let stale = push.filter(|push| push.quantity == quantity);
                        listing.observe(quantity, now);
                        return stale.map(|push| push.stale);
                    }
                    (Settled::Refused, Some(push)) => listing.refuse(push),
                    // Of another push than the one in flight it says nothing.
                    (Settled::Failed(reason), _)
                        if push.is_some() || listing.in_flight.is_none() =>
                    {
                        listing.fail(reason);
                    }
                    _ => {}
                }
                None
            });
            if let Some(Stale { since, deadline }) = confirmed.flatten() {
                let channel = channel.to_string();
                work.effects.confirmed.push(Confirmed {
                    channel,
                    sku: sku.clone(),
                    since,
                    deadline,
                });
            }
            work.touch(&sku, None);
        }
        Reply::Done
    }

    fn is_owner(&self, channel: &str, epoch: u64) -> bool {
        let owner = self.data.channels.get(channel).and_then(|channel| channel.owner);
        owner.is_some_and(|owner| owner.epoch == epoch)
    }
}
