//! A channel's API as a source of orders: one by its id, or all that changed since.

use channels::poll::{Page, Told};
use channels::{amazon, ebay, odoo, shopify, time, walmart, woocommerce};
use serde_json::Value;

use super::api::ApiError;
use super::ebay::Ebay;
use super::odoo::Odoo;
use crate::config::Channel;

/// A channel's API as a source of orders.
pub trait Orders: Send + Sync + 'static {
    /// One order; `None` if the channel knows no such order.
    fn order(&self, id: &str) -> impl Future<Output = Result<Option<Told>, ApiError>> + Send;

    /// One page of what changed since a time, that time included. `page` is `next` of the page before.
    fn changes(
        &self,
        since_ms: u64,
        page: Option<&str>,
    ) -> impl Future<Output = Result<Page, ApiError>> + Send;
}

/// What reads an order.
type Read = fn(&[u8]) -> Result<Told, String>;

/// The API of a channel of each kind that has one.
pub enum Source {
    /// A Shopify store.
    Shopify(super::shopify::orders::Orders),
    /// A `WooCommerce` store.
    WooCommerce(super::woocommerce::Orders),
    /// An Amazon seller.
    Amazon(Box<super::amazon::orders::Orders>),
    /// An eBay seller.
    Ebay(Box<Ebay>),
    /// A seller on Walmart's marketplace.
    Walmart(Box<super::walmart::orders::Orders>),
    /// An Odoo database, and what its locations stand for.
    Odoo(Odoo, odoo::Settings),
}

impl Source {
    /// The API that the config gives a channel; `None` if it gives none, or one that cannot be asked.
    #[must_use]
    pub fn new(channel: &Channel) -> Option<Self> {
        use super::{amazon, ebay, odoo, shopify::orders, walmart, woocommerce};
        let api = channel.api.as_ref()?;
        let source = match channel.kind.as_str() {
            "shopify" => orders::Orders::new(orders::Settings::of(api)?).map(Self::Shopify),
            "woocommerce" => {
                let settings = woocommerce::Settings::of(api)?;
                woocommerce::Orders::new(settings).map(Self::WooCommerce)
            }
            "amazon" => amazon::orders::Orders::new(&amazon::Settings::of(api)?)
                .map(Box::new)
                .map(Self::Amazon),
            "ebay" => Ebay::new(&ebay::Settings::of(api)?).map(Box::new).map(Self::Ebay),
            "walmart" => walmart::orders::Orders::new(&walmart::Settings::of(api)?)
                .map(Box::new)
                .map(Self::Walmart),
            "odoo" => {
                let locations = channel.meaning.odoo.clone();
                Odoo::new(odoo::Settings::of(api)?).map(|odoo| Self::Odoo(odoo, locations))
            }
            _ => return None,
        };
        source.ok()
    }
}

impl Orders for Source {
    async fn order(&self, id: &str) -> Result<Option<Told>, ApiError> {
        let (body, read): (_, Read) = match self {
            Self::Shopify(orders) => {
                return shopify::poll::order(&orders.order(id).await?)
                    .map_err(ApiError::Unreadable);
            }
            Self::WooCommerce(orders) => (orders.order(id).await?, woocommerce::poll::order),
            Self::Amazon(orders) => (orders.order(id).await?, amazon::poll::order),
            Self::Ebay(orders) => (orders.order(id).await?, ebay::poll::order),
            Self::Walmart(orders) => (orders.order(id).await?, walmart::poll::order),
            Self::Odoo(odoo, _) => return sale(odoo, id).await,
        };
        body.map(|body| read(&body)).transpose().map_err(ApiError::Unreadable)
    }

    async fn changes(&self, since_ms: u64, page: Option<&str>) -> Result<Page, ApiError> {
        let read = match self {
            Self::Shopify(orders) => shopify::poll::orders(&orders.changes(since_ms, page).await?),
            Self::WooCommerce(orders) => {
                let listed = orders.changes(since_ms, page).await?;
                let page = woocommerce::poll::orders(&listed.body);
                page.map(|page| Page { next: listed.next, ..page })
            }
            Self::Amazon(orders) => amazon::poll::orders(&orders.changes(since_ms, page).await?),
            Self::Ebay(orders) => ebay::poll::orders(&orders.changes(since_ms, page).await?),
            Self::Walmart(orders) => match orders.changes(since_ms, page).await? {
                Some(body) => walmart::poll::orders(&body),
                None => Ok(Page::default()),
            },
            Self::Odoo(odoo, locations) => return changes(odoo, locations, since_ms, page).await,
        };
        read.map_err(ApiError::Unreadable)
    }
}

async fn sale(odoo: &Odoo, id: &str) -> Result<Option<Told>, ApiError> {
    let Some((sale, lines)) = odoo.sale(id).await? else { return Ok(None) };
    odoo::poll::sale(&sale, &lines).map_err(ApiError::Unreadable)
}

/// Moves that were done, then sales, then what there is of each product. `page` says which of them, and
/// after which record.
async fn changes(
    odoo: &Odoo,
    locations: &odoo::Settings,
    since_ms: u64,
    page: Option<&str>,
) -> Result<Page, ApiError> {
    let (what, after) = page.and_then(|page| page.split_once(':')).unwrap_or(("moves", ""));
    let after = Some(after).filter(|after| !after.is_empty());
    let (read, next, then) = match what {
        "moves" => {
            let listed = odoo.moves(since_ms, after).await?;
            (odoo::poll::moves(&listed.body, locations), listed.next, Some("sales:"))
        }
        "sales" => {
            let listed = odoo.sales(since_ms, after).await?;
            (Ok(sales(odoo, &listed.body).await?), listed.next, Some("quants:"))
        }
        "quants" => {
            let listed = odoo.quants(after).await?;
            (odoo::poll::quants(&listed.body, locations), listed.next, None)
        }
        _ => return Err(ApiError::Refused("no such page".into())),
    };
    let next = next.map(|after| format!("{what}:{after}")).or(then.map(Into::into));
    Ok(Page { next, ..read.map_err(ApiError::Unreadable)? })
}

/// The sales of a list, each read by itself. One that cannot be read, not even at a second try, is a dead
/// letter and does not keep the others from being told.
async fn sales(odoo: &Odoo, listed: &[u8]) -> Result<Page, ApiError> {
    let listed: Vec<Value> =
        serde_json::from_slice(listed).map_err(|error| ApiError::Unreadable(error.to_string()))?;
    let mut page = Page::default();
    for record in &listed {
        let id = record.get("id").map(ToString::to_string).unwrap_or_default();
        let mut read = sale(odoo, &id).await;
        if matches!(read, Err(ApiError::Unreadable(_))) {
            // Its lines may have changed after the sale was read.
            read = sale(odoo, &id).await;
        }
        page.told.extend(match read {
            Err(ApiError::Unreadable(why)) => Some(Told::order(record, Err(why))),
            read => read?,
        });
        let changed = record.get("write_date").and_then(Value::as_str);
        page.newest_ms = page.newest_ms.max(changed.and_then(|at| time::utc(at).ok()));
    }
    Ok(page)
}

#[cfg(test)]
mod tests;
