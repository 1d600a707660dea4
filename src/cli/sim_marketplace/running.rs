//! One simulated marketplace, whatever its kind. A new kind is an arm in each function.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use clap::ValueEnum;
use marketplace::amazon::{self, Account};
use marketplace::sender::{self, Sender};
use marketplace::sqs::{self, Queue};
use marketplace::{Store, Warehouse};

use super::orders::Order;
use super::{Item, Options};
use crate::simulated::{self, Settings};

/// The kinds that can be simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    Shopify,
    Woocommerce,
    Amazon,
    Ebay,
    Walmart,
    Odoo,
    Generic,
}

/// One that runs.
pub(super) enum Running {
    Shopify(Box<Store>),
    /// With the name of its channel.
    Amazon(String, Box<Account>, Queue),
    Sender(Sender),
}

impl Kind {
    /// As a config names it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Shopify => "shopify",
            Self::Woocommerce => "woocommerce",
            Self::Amazon => "amazon",
            Self::Ebay => "ebay",
            Self::Walmart => "walmart",
            Self::Odoo => "odoo",
            Self::Generic => "generic",
        }
    }

    /// The kind of sender that it is; `None` for a store or an account.
    const fn sender(self) -> Option<sender::Kind> {
        Some(match self {
            Self::Shopify | Self::Amazon => return None,
            Self::Woocommerce => sender::Kind::WooCommerce,
            Self::Ebay => sender::Kind::Ebay,
            Self::Walmart => sender::Kind::Walmart,
            Self::Odoo => sender::Kind::Odoo,
            Self::Generic => sender::Kind::Generic,
        })
    }
}

impl Running {
    pub(super) async fn start(options: &Options, items: Vec<Item>) -> Result<Self, String> {
        let name = options.name.clone().unwrap_or_else(|| options.kind.name().into());
        let running = match options.kind.sender() {
            None if options.kind == Kind::Amazon => {
                let (account, queue) = account(options, items).await?;
                Self::Amazon(name, Box::new(account), queue)
            }
            None => Self::Shopify(Box::new(store(options, name, items).await?)),
            Some(kind) => Self::Sender(sender(options, kind, name, items).await?),
        };
        running.subscribe(&options.targets).map_err(|error| error.to_string())?;
        Ok(running)
    }

    fn subscribe(&self, nodes: &[String]) -> Result<(), marketplace::Error> {
        let targets: Vec<String> = nodes.iter().map(|node| self.target(node)).collect();
        match self {
            Self::Shopify(store) => store.set_targets(&targets),
            // Nodes take what it tells from its queue.
            Self::Amazon(..) => Ok(()),
            Self::Sender(sender) => sender.set_targets(&targets),
        }
    }

    /// Where its webhooks go to, at a node's URL.
    fn target(&self, node: &str) -> String {
        let webhooks = format!("{}/", node.trim_end_matches('/'));
        match self {
            Self::Shopify(_) | Self::Amazon(..) => format!("{webhooks}{}", self.name()),
            Self::Sender(sender) => simulated::sender_target(sender, &webhooks),
        }
    }

    pub(super) fn targets(&self, nodes: &[String]) -> Vec<String> {
        if let Self::Amazon(_, _, queue) = self {
            return vec![format!("a queue, {}", queue.url())];
        }
        nodes.iter().map(|node| self.target(node)).collect()
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Shopify(store) => &store.options().name,
            Self::Amazon(name, ..) => name,
            Self::Sender(sender) => &sender.options().name,
        }
    }

    /// Where its API is.
    pub(super) fn url(&self) -> String {
        match self {
            Self::Shopify(store) => format!("http://{}", store.address()),
            Self::Amazon(_, account, _) => account.endpoint(),
            Self::Sender(sender) => sender.url(),
        }
    }

    /// Its part of a node's config, but for the table's head.
    pub(super) fn config(&self, node: &str) -> String {
        match self {
            Self::Shopify(store) => simulated::store_config(store),
            Self::Amazon(name, account, queue) => simulated::account_config(name, account, queue),
            Self::Sender(sender) => {
                simulated::sender_config(sender, &format!("{}/", node.trim_end_matches('/')))
            }
        }
    }

    /// As `stockraft channel map` reads them.
    pub(super) fn listings(&self) -> String {
        let listings: Vec<(String, (String, Settings))> = match self {
            Self::Shopify(store) => {
                let items = store.options().items.iter();
                items
                    .map(|item| (item.sku.clone(), simulated::store_listing(store, item)))
                    .collect()
            }
            Self::Amazon(_, account, _) => {
                let listing = |sku: &String| (sku.clone(), (sku.clone(), Vec::new()));
                account.shown().keys().map(listing).collect()
            }
            Self::Sender(sender) => {
                let items = sender.options().items.iter();
                items
                    .map(|item| (item.sku.clone(), simulated::sender_listing(sender, item)))
                    .collect()
            }
        };
        let settings = listings.iter().flat_map(|(_, (_, settings))| settings);
        let columns: BTreeSet<&str> = settings.map(|(name, _)| *name).collect();
        let head = ["sku", "channel", "id"].into_iter().chain(columns.iter().copied());
        let mut text = head.collect::<Vec<_>>().join(",");
        for (sku, (id, settings)) in &listings {
            let _ = write!(text, "\n{},{},{}", cell(sku), cell(self.name()), cell(id));
            for column in &columns {
                let setting = settings.iter().find(|(name, _)| name == column);
                let _ = write!(text, ",{}", cell(setting.map_or("", |(_, value)| value)));
            }
        }
        text.push('\n');
        text
    }

    /// Does as it is told; what it then has to say.
    pub(super) fn obey(&self, order: Order) -> Result<Vec<String>, String> {
        let failed = |error: marketplace::Error| error.to_string();
        match (self, order) {
            (_, Order::Show) => {
                let shown = self.shown().into_iter();
                return Ok(shown.map(|(sku, units)| format!("{sku} {units}")).collect());
            }
            (Self::Amazon(_, account, _), order) => return obey_account(account, order),
            (Self::Shopify(store), Order::Outage(outage)) => store.set_outage(outage),
            (Self::Sender(sender), Order::Outage(outage)) => sender.set_outage(outage),
            (Self::Shopify(store), Order::Rate(rate)) => store.set_orders_per_second(rate),
            (Self::Sender(sender), Order::Rate(rate)) => sender.set_orders_per_second(rate),
            (Self::Shopify(store), Order::Sell(sku, units)) => {
                store.sell_one(&sku, units).map_err(failed)?;
            }
            (Self::Sender(sender), Order::Sell(sku, units)) => {
                sender.sell(&[(&sku, units)]).map_err(failed)?;
            }
            (Self::Shopify(store), Order::Set(sku, units)) => {
                store.set_available(&sku, units).map_err(failed)?;
            }
            (Self::Sender(sender), Order::Set(sku, units)) => {
                sender.set_available(&sku, units).map_err(failed)?;
            }
            (Self::Shopify(_), Order::Expire) => {
                return Err("the access tokens of a Shopify store do not expire".into());
            }
            (Self::Sender(sender), Order::Expire) => sender.expire_tokens(),
            (Self::Shopify(store), Order::Fault(name, chance)) => {
                let mut faults = store.faults();
                *chance_of(store_faults(&mut faults), &name, chance)? = chance;
                store.set_faults(faults);
            }
            (Self::Sender(sender), Order::Fault(name, chance)) => {
                let mut faults = sender.faults();
                *chance_of(sender_faults(&mut faults), &name, chance)? = chance;
                sender.set_faults(faults);
            }
        }
        Ok(Vec::new())
    }

    fn shown(&self) -> BTreeMap<String, i64> {
        match self {
            Self::Shopify(store) => store.shown(),
            Self::Amazon(_, account, _) => account.shown(),
            Self::Sender(sender) => sender.shown(),
        }
    }

    /// What happened so far, in a line.
    pub(super) fn summary(&self) -> String {
        match self {
            Self::Shopify(store) => {
                let of = store.stats();
                format!(
                    "{} orders; {} webhooks, {} taken, {} given up; told {} quantities in {} calls, \
                     {} stale, {} throttled",
                    of.orders,
                    of.webhooks,
                    of.acknowledged,
                    of.given_up,
                    of.rows,
                    of.pushes,
                    of.stale,
                    of.throttled
                )
            }
            Self::Amazon(_, account, queue) => {
                let of = account.stats();
                format!(
                    "{} orders; {} notifications, {} taken; told {} quantities in {} calls and {} feeds, \
                     {} refused, {} calls throttled",
                    of.orders,
                    of.notifications,
                    queue.counts().deleted,
                    of.rows,
                    of.pushes,
                    of.feeds,
                    of.rows_refused,
                    of.throttled
                )
            }
            Self::Sender(sender) => {
                let of = sender.stats();
                format!(
                    "{} orders; {} webhooks, {} taken, {} given up; told {} quantities in {} calls, \
                     {} refused, {} calls throttled",
                    of.orders,
                    of.webhooks,
                    of.acknowledged,
                    of.given_up,
                    of.rows,
                    of.pushes,
                    of.rows_refused,
                    of.throttled
                )
            }
        }
    }

    pub(super) async fn shutdown(&self) {
        match self {
            Self::Shopify(store) => store.shutdown().await,
            Self::Amazon(_, account, queue) => {
                account.shutdown().await;
                queue.shutdown().await;
            }
            Self::Sender(sender) => sender.shutdown().await,
        }
    }
}

async fn store(options: &Options, name: String, items: Vec<Item>) -> Result<Store, String> {
    let warehouse = Warehouse::open(items.iter().map(|item| (item.sku.clone(), item.units)));
    let items = items.into_iter().zip(0..).map(|(item, n)| marketplace::Item {
        sku: item.sku,
        variant_id: 40_000_000_000_000 + n,
        inventory_item_id: 9_007_199_254_741_000 + n,
        available: item.units,
    });
    let mut of = marketplace::Options::new(name);
    of.items = items.collect();
    of.listen = options.listen;
    of.topics = marketplace::shopify::sign::Topic::ALL.into();
    of.orders_per_second = options.orders_per_second;
    of.seed = options.seed;
    of.time_scale = options.time_scale;
    if let Some(rate) = options.calls_per_second {
        // What one call costs at the least.
        of.costs.restore_rate = rate.saturating_mul(of.costs.mutation);
    }
    if let Some(secret) = &options.secret {
        of.secret.clone_from(secret);
    }
    Store::start(of, warehouse).await.map_err(|error| error.to_string())
}

async fn sender(
    options: &Options,
    kind: sender::Kind,
    name: String,
    items: Vec<Item>,
) -> Result<Sender, String> {
    let mut of = sender::Options::new(name, kind);
    for (item, listing) in items.into_iter().zip(1001..) {
        of.parents.extend(item.parent.map(|parent| (listing, parent)));
        of.items.push(sender::Item { sku: item.sku, listing, units: item.units });
    }
    of.listen = options.listen;
    of.orders_per_second = options.orders_per_second;
    of.seed = options.seed;
    of.time_scale = options.time_scale;
    let rate = |per_second: u32| sender::Rate { per_second, burst: per_second.max(1) };
    of.rate = options.calls_per_second.map(rate);
    if let Some(secret) = &options.secret {
        match kind {
            sender::Kind::Ebay => of.verification_token.clone_from(secret),
            _ => of.secret.clone_from(secret),
        }
    }
    Sender::start(of).await.map_err(|error| error.to_string())
}

fn obey_account(account: &Account, order: Order) -> Result<Vec<String>, String> {
    let failed = |error: marketplace::Error| error.to_string();
    match order {
        Order::Outage(outage) => account.set_outage(outage),
        Order::Rate(rate) => account.set_orders_per_second(rate),
        Order::Sell(sku, units) => {
            account.sell(&[(&sku, units)]).map_err(failed)?;
        }
        Order::Set(sku, units) => account.set_available(&sku, units).map_err(failed)?,
        Order::Expire => account.expire_tokens(),
        Order::Show => {}
        Order::Fault(name, chance) => {
            let mut faults = account.faults();
            *chance_of(account_faults(&mut faults), &name, chance)? = chance;
            account.set_faults(faults);
        }
    }
    Ok(Vec::new())
}

/// An account on the wanted address, and its queue on another.
async fn account(options: &Options, items: Vec<Item>) -> Result<(Account, Queue), String> {
    let failed = |error: marketplace::Error| error.to_string();
    let warehouse = Warehouse::open(items.iter().map(|item| (item.sku.clone(), item.units)));
    let queue = sqs::Options { seed: options.seed, ..sqs::Options::new("orders") };
    let queue = Queue::start(queue).await.map_err(failed)?;
    let items = items.into_iter().map(|item| amazon::Item { sku: item.sku, units: item.units });
    let mut of = amazon::Options::new("A0SIMULATED");
    of.items = items.collect();
    of.warehouse = Some(warehouse);
    of.listen = options.listen;
    of.orders_per_second = options.orders_per_second;
    of.seed = options.seed;
    of.time_scale = options.time_scale;
    if let Some(rate) = options.calls_per_second {
        let rate = f64::from(rate);
        of.plans.patch = amazon::Rate { per_second: rate, burst: rate.max(1.0) };
    }
    let account = Account::start(of, queue.clone()).await.map_err(failed)?;
    Ok((account, queue))
}

type Chances<'a> = Vec<(&'static str, &'a mut f64)>;

fn store_faults(of: &mut marketplace::Faults) -> Chances<'_> {
    vec![
        ("drop", &mut of.drop),
        ("duplicate", &mut of.duplicate),
        ("delay", &mut of.delay),
        ("cancel", &mut of.cancel),
        ("refund", &mut of.refund),
        ("edit", &mut of.edit),
        ("ship", &mut of.fulfil),
        ("api-error", &mut of.server_error),
        ("api-answer-lost", &mut of.answer_lost),
    ]
}

fn account_faults(of: &mut amazon::Faults) -> Chances<'_> {
    vec![
        ("drop", &mut of.dropped),
        ("duplicate", &mut of.duplicate),
        ("delay", &mut of.delay),
        ("item-level", &mut of.item_level),
        ("cancel", &mut of.cancel),
        ("relisted", &mut of.relisted),
        ("ship", &mut of.ship),
        ("partial", &mut of.partial),
        ("invalid", &mut of.invalid),
        ("row-failed", &mut of.row_failed),
        ("report-lies", &mut of.report_lies),
        ("fatal", &mut of.fatal),
        ("cancelled", &mut of.cancelled),
        ("stuck", &mut of.stuck),
        ("throttled", &mut of.throttled),
        ("api-error", &mut of.server_error),
        ("api-answer-lost", &mut of.answer_lost),
    ]
}

fn sender_faults(of: &mut sender::Faults) -> Chances<'_> {
    vec![
        ("drop", &mut of.drop),
        ("duplicate", &mut of.duplicate),
        ("delay", &mut of.delay),
        ("answer-lost", &mut of.answer_lost),
        ("cancel", &mut of.cancel),
        ("partial", &mut of.partial),
        ("ship", &mut of.ship),
        ("api-error", &mut of.api_error),
        ("api-answer-lost", &mut of.api_answer_lost),
        ("push-answer-lost", &mut of.push_answer_lost),
        ("row-error", &mut of.row_error),
        ("report-lies", &mut of.report_lies),
        ("feed-error", &mut of.feed_error),
        ("conflict", &mut of.conflict),
    ]
}

fn chance_of<'a>(of: Chances<'a>, name: &str, chance: f64) -> Result<&'a mut f64, String> {
    let names: Vec<&str> = of.iter().map(|(known, _)| *known).collect();
    let wrong = format!("fault NAME CHANCE, where NAME is one of {}", names.join(", "));
    let found = of.into_iter().find(|(known, _)| *known == name && !chance.is_nan());
    found.map(|(_, chance)| chance).ok_or(wrong)
}

/// A cell of a CSV file.
fn cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests;
