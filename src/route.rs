//! What a delivery publishes: to which topics, under which keys, and with which bodies. `docs/queue.md` is
//! the manual.
//!
//! Pure but for one look: what this node's replica knows of an order already, so that an order is created once,
//! however often its channel tells of it. The replica may be behind; then the dedup id makes one message of two.

mod body;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use state::allocation::matches;
use state::command::{Delivery, Fact, Moved};
use state::ledger::Kind;
use state::limits::NAME_LEN_MAX;
use state::order::{LineImage, Order, Removal, RemovalLine};
use state::origin::Lane;
use state::queue::ask::Publish;

use crate::channel::key;
use crate::config::{Builtin, Config, Route};

/// The bytes of the bodies of one delivery's messages at the most: they share a log entry with it.
const BODIES_BYTES_MAX: usize = 1 << 20;

/// What is known of an order of a channel.
type Known = dyn Fn(&str, &str) -> Option<Order> + Send + Sync;

/// Decides what deliveries publish. Cheap to clone.
#[derive(Clone)]
pub struct Router {
    routes: Arc<[Route]>,
    builtin: bool,
    known: Arc<Known>,
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("routes", &self.routes).finish_non_exhaustive()
    }
}

impl Default for Router {
    /// One that publishes nothing.
    fn default() -> Self {
        Self { routes: Arc::new([]), builtin: false, known: Arc::new(|_, _| None) }
    }
}

/// What happened, by the name of the topic that it goes to where no route says another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Created,
    Cancelled,
    Refunded,
    /// An order changed in another way: only routes publish it.
    Updated,
    Stock,
    Product,
    Price,
    /// Nothing that is understood here: only routes publish it.
    Other,
}

impl Event {
    const fn name(self) -> &'static str {
        match self {
            Self::Created => "orders.created",
            Self::Cancelled => "orders.cancelled",
            Self::Refunded => "refunds.created",
            Self::Updated => "orders.updated",
            Self::Stock => "inventory.updates",
            Self::Product => "products.updated",
            Self::Price => "products.price_updated",
            Self::Other => "delivery",
        }
    }
}

/// One message before it is written.
struct Told<'a> {
    event: Event,
    lane: Lane,
    /// Messages of one key come one after the other.
    key: Option<&'a str>,
    /// With topic, channel and event: what makes two messages one.
    id: String,
    about: About<'a>,
}

/// What a message says beyond its delivery.
enum About<'a> {
    Order(&'a str, Vec<&'a LineImage>),
    Refund(&'a str, Vec<&'a RemovalLine>),
    Shown(&'a Fact),
    Moved(&'a Moved),
    Listed(Vec<(&'a str, &'a str)>),
    Nothing,
}

impl Router {
    /// As the config says. `known` finds what this node's replica knows of an order, by channel and id.
    #[must_use]
    pub fn new(
        config: &Config,
        known: impl Fn(&str, &str) -> Option<Order> + Send + Sync + 'static,
    ) -> Self {
        let builtin = config.queue.routes == Builtin::Default;
        Self { routes: config.routes.clone().into(), builtin, known: Arc::new(known) }
    }

    /// What a delivery publishes, by topic. Its raw body is as it was received.
    #[must_use]
    pub fn publish(&self, delivery: &Delivery, raw: &[u8]) -> Vec<(String, Publish)> {
        let matching = |route: &&Route| {
            matches(&route.channel, &delivery.channel) && matches(&route.topic, &delivery.topic)
        };
        let route = self.routes.iter().find(matching);
        if route.is_none() && !self.builtin {
            return Vec::new();
        }
        let mut told = self.told(delivery, raw);
        if route.is_none() {
            told.retain(|told| !matches!(told.event, Event::Updated | Event::Other));
        }
        let mut room = BODIES_BYTES_MAX;
        let written = told.into_iter().map(|told| {
            let (topic, payload) = match route {
                Some(route) => (route.to.as_str(), route.payload),
                // Without the payload there is nothing to know of a product. Orders name people.
                None => (told.event.name(), matches!(told.event, Event::Product | Event::Price)),
            };
            let id = [topic, &delivery.channel, told.event.name(), &told.id].join("\0");
            let body = body::write(&told, delivery, payload.then_some(raw), room);
            room = room.saturating_sub(body.len());
            let key = told.key.filter(|key| (1..=NAME_LEN_MAX).contains(&key.len()));
            let dedup = Some(key_of(&id));
            let key = key.map(Into::into);
            (topic.into(), Publish { lane: told.lane, key, delay_ms: 0, dedup, body })
        });
        written.collect()
    }

    /// What happened, by the facts first and then by the sender's name for the delivery. Never nothing.
    fn told<'a>(&self, delivery: &'a Delivery, raw: &[u8]) -> Vec<Told<'a>> {
        let mut told = Vec::new();
        for (order, (images, removals)) in orders(&delivery.facts) {
            let known = (self.known)(&delivery.channel, order);
            told.extend(about_order(order, &images, &removals, known.as_ref(), delivery, raw));
        }
        told.extend(delivery.facts.iter().filter_map(about_stock));
        let listed: Vec<_> = delivery.facts.iter().filter_map(listed).collect();
        let event = product_event(&delivery.topic);
        if let Some(event) = event.or((!listed.is_empty()).then_some(Event::Product)) {
            let skus: BTreeSet<&str> = listed.iter().map(|(_, sku)| *sku).collect();
            let key = skus.first().copied().filter(|_| skus.len() == 1);
            let about = About::Listed(listed);
            told.push(Told { event, lane: Lane::Normal, key, id: delivery.id.clone(), about });
        }
        if told.is_empty() {
            let id = delivery.id.clone();
            let (event, lane, about) = (Event::Other, Lane::Normal, About::Nothing);
            told.push(Told { event, lane, key: None, id, about });
        }
        told
    }
}

/// What facts say of one order.
type OfOrder<'a> = (Vec<(u64, &'a LineImage)>, Vec<&'a [RemovalLine]>);

fn orders(facts: &[Fact]) -> BTreeMap<&str, OfOrder<'_>> {
    let mut orders: BTreeMap<&str, OfOrder<'_>> = BTreeMap::new();
    for fact in facts {
        match fact {
            Fact::Image { order, version, lines, .. } => {
                let images = &mut orders.entry(order).or_default().0;
                images.extend(lines.iter().map(|line| (*version, line)));
            }
            Fact::Removals { order, lines, .. } => orders.entry(order).or_default().1.push(lines),
            _ => {}
        }
    }
    orders
}

fn about_order<'a>(
    order: &'a str,
    images: &[(u64, &'a LineImage)],
    removals: &[&'a [RemovalLine]],
    known: Option<&Order>,
    delivery: &'a Delivery,
    raw: &[u8],
) -> Vec<Told<'a>> {
    let lines: Vec<_> = images.iter().map(|(_, line)| *line).collect();
    let is_image = |fact: &Fact| matches!(fact, Fact::Image { order: of, .. } if of == order);
    let is_shown = delivery.facts.iter().any(is_image);
    let is_known =
        known.is_some_and(|known| known.whole > 0 || known.lines.values().any(|l| l.version > 0));
    let message = |event, lane, id, about| Told { event, lane, key: Some(order), id, about };
    let whole =
        |event, lane| message(event, lane, order.into(), About::Order(order, lines.clone()));
    let mut told = Vec::new();
    if is_shown && !is_known {
        told.push(whole(Event::Created, Lane::Urgent));
    }
    if is_cancelled(&delivery.topic, images, known, raw) {
        told.push(whole(Event::Cancelled, Lane::Normal));
    }
    for lines in removals {
        let refunded: Vec<_> = lines.iter().filter(|line| is_new_refund(line, known)).collect();
        // A refund is named by the ids of what it takes out, on every road.
        if !refunded.is_empty() {
            let ids: Vec<&str> = refunded.iter().map(|line| line.id.as_str()).collect();
            let id = format!("{order}\0{}", ids.join("\0"));
            told.push(message(Event::Refunded, Lane::Normal, id, About::Refund(order, refunded)));
        }
    }
    let returned: Vec<_> =
        images.iter().filter(|(_, line)| is_returned(line, known)).map(|(_, line)| *line).collect();
    if !returned.is_empty() {
        let count = |line: &&LineImage| format!("\0{}\0{}", line.id, line.returned);
        let id = format!("{order}{}", returned.iter().map(count).collect::<String>());
        let about = About::Order(order, returned);
        told.push(message(Event::Refunded, Lane::Normal, id, about));
    }
    if told.is_empty() {
        let about = About::Order(order, lines.clone());
        let lane = if is_shown { Lane::Urgent } else { Lane::Normal };
        told.push(message(Event::Updated, lane, delivery.id.clone(), about));
    }
    told
}

/// Whether units of a line were refunded, and nothing was heard of that yet.
fn is_new_refund(removed: &RemovalLine, known: Option<&Order>) -> bool {
    let line = known.and_then(|known| known.lines.get(&removed.line));
    removed.removal != Removal::Fulfilled
        && line.is_none_or(|line| !line.removals.contains_key(&removed.id))
}

/// The same where the order itself counts what came back.
fn is_returned(image: &LineImage, known: Option<&Order>) -> bool {
    let line = known.and_then(|known| known.lines.get(&image.id));
    image.returned > line.map_or(0, |line| line.returned)
}

/// Whether an order wants no unit any more, and did before, or was not known. Shopify's cancelled orders keep
/// their quantities, and `WooCommerce`'s have none before they are paid.
fn is_cancelled(
    topic: &str,
    images: &[(u64, &LineImage)],
    known: Option<&Order>,
    raw: &[u8],
) -> bool {
    if matches!(topic, "orders/cancelled" | "order.cancelled") {
        return true;
    }
    let mut wanted: BTreeMap<&str, i64> = BTreeMap::new();
    let shown = known.into_iter().flat_map(|known| &known.lines).filter(|(_, l)| l.version > 0);
    wanted.extend(shown.map(|(id, line)| (id.as_str(), line.quantity)));
    let before: i64 = wanted.values().sum();
    let was_known = !wanted.is_empty();
    wanted.extend(images.iter().map(|(_, line)| (line.id.as_str(), line.quantity)));
    let nothing = !images.is_empty() && wanted.values().all(|units| *units == 0);
    nothing && (!was_known || before > 0) && !body::is_unpaid(raw)
}

fn about_stock(fact: &Fact) -> Option<Told<'_>> {
    let (lane, key, id, about) = match fact {
        Fact::Shown { listing, sku, location, quantity, version } => {
            let place = location.as_deref().unwrap_or_default();
            let id = format!("{listing}\0{place}\0{version}\0{quantity}");
            let key = sku.as_deref().unwrap_or(listing);
            (Lane::Normal, Some(key), id, About::Shown(fact))
        }
        Fact::Moved(moved) => {
            let lane = if takes(moved) { Lane::Urgent } else { Lane::Normal };
            let key = moved.sku.as_deref().or(moved.listing.as_deref());
            (lane, key, moved.id.clone(), About::Moved(moved))
        }
        _ => return None,
    };
    Some(Told { event: Event::Stock, lane, key, id, about })
}

/// Whether a movement lowers what is available somewhere.
fn takes(moved: &Moved) -> bool {
    match moved.kind {
        Kind::Fulfilment | Kind::Transfer => true,
        _ => moved.quantity < 0,
    }
}

fn listed(fact: &Fact) -> Option<(&str, &str)> {
    match fact {
        Fact::Listed { listing, sku, .. } => Some((listing, sku)),
        _ => None,
    }
}

/// What the senders' own names say of what is sold, or of its price.
fn product_event(topic: &str) -> Option<Event> {
    match topic {
        "ANY_OFFER_CHANGED"
        | "B2B_ANY_OFFER_CHANGED"
        | "PRICING_HEALTH"
        | "BUY_BOX_CHANGED"
        | "product.price_updated"
        | "price.updated" => Some(Event::Price),
        "BRANDED_ITEM_CONTENT_CHANGE"
        | "ITEM_PRODUCT_TYPE_CHANGE"
        | "LISTINGS_ITEM_ISSUES_CHANGE"
        | "LISTINGS_ITEM_STATUS_CHANGE" => Some(Event::Product),
        _ if ["products/", "product.", "OFFER_", "ITEM_"].iter().any(|p| topic.starts_with(p)) => {
            // Amazon's counts of sales and stock are of its own warehouses.
            let counts = matches!(topic, "ITEM_INVENTORY_EVENT_CHANGE" | "ITEM_SALES_EVENT_CHANGE");
            (!counts && topic != "ITEM_AVAILABILITY").then_some(Event::Product)
        }
        _ => None,
    }
}

fn key_of(id: &str) -> state::Key {
    key(id.as_bytes())
}

#[cfg(test)]
mod tests;
