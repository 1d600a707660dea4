//! A channel's API as a source of orders: one by its id, or all that changed since.

use bytes::Bytes;
use channels::poll::{Page, Told};
use channels::{amazon, ebay, odoo, shopify, walmart, woocommerce};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::api::{Api, ApiError, Call};
use super::token::{ClientIn, Grant, Settings, Token};
use crate::config::{self, Channel};

/// Orders of one page.
const PAGE: usize = 100;
/// Records of one page of Odoo's.
const RECORDS: usize = 500;
/// How far back Walmart looks for orders that changed, in milliseconds; its own default is a week.
const WALMART_CREATED_MS: u64 = 180 * 24 * 3_600_000;
/// eBay's scope for what needs no seller.
const EBAY_SCOPE: &str = "https://api.ebay.com/oauth/api_scope";

/// A channel's API.
pub struct Source {
    api: Api,
    kind: Kind,
}

/// What each kind needs beside an address.
enum Kind {
    Shopify {
        path: String,
        token: String,
    },
    WooCommerce {
        key: String,
        secret: String,
    },
    /// The token of the application, and that of the seller if there is one.
    Ebay {
        application: Box<Token>,
        seller: Option<Box<Token>>,
    },
    Walmart {
        token: Box<Token>,
    },
    Amazon {
        token: Box<Token>,
        marketplaces: String,
    },
    Odoo {
        key: String,
        database: Option<String>,
        settings: odoo::Settings,
    },
}

fn unreadable(why: String) -> ApiError {
    ApiError::Unreadable(why)
}

/// A time as APIs take it: RFC 3339 in UTC.
fn rfc3339(ms: u64) -> String {
    crate::clock::rfc3339(ms)
}

/// A time in UTC without an offset, in this form.
fn plain(ms: u64, form: &str) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    let at = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    at.strftime(form).to_string()
}

/// Walmart wants its own headers in every call.
fn walmart_call(call: Call) -> Call {
    let mut bytes = [0; 16];
    // An id that others have too only makes a support case harder.
    let _ = getrandom::fill(&mut bytes);
    let id = uuid::Builder::from_random_bytes(bytes).into_uuid().to_string();
    call.header("WM_QOS.CORRELATION_ID", &id)
        .header("WM_SVC.NAME", "Walmart Marketplace")
        .header("Accept", "application/json")
}

/// Amazon wants to know who asks.
fn amazon_call(path: &str) -> Call {
    let version = env!("CARGO_PKG_VERSION");
    Call::get(path).header("user-agent", &format!("stockraft/{version} (Language=Rust)"))
}

impl Source {
    /// The API that the config gives a channel; `None` if it gives none, or one that cannot be asked.
    #[must_use]
    pub fn new(channel: &Channel) -> Option<Self> {
        let api = channel.api.as_ref()?;
        let text = |secret: &Option<config::Secret>| Some(secret.as_ref()?.expose().to_string());
        let token = |client_in, grant, dress: fn(Call) -> Call| {
            let settings = Settings {
                url: api.token_url(&channel.kind),
                client_id: api.client_id.clone()?,
                client_secret: api.client_secret.as_ref()?.into(),
                client_in,
                grant,
                dress,
            };
            Token::new(settings).ok().map(Box::new)
        };
        let refresh = || {
            let token = api.refresh_token.as_ref()?.into();
            Some(Grant::RefreshToken { token, scope: None })
        };
        let own = |scope: Option<&str>| Grant::ClientCredentials { scope: scope.map(Into::into) };
        let same = std::convert::identity;
        let kind = match channel.kind.as_str() {
            "shopify" => Kind::Shopify {
                path: format!("/admin/api/{}/graphql.json", api.version()),
                token: text(&api.token)?,
            },
            "woocommerce" => Kind::WooCommerce {
                key: text(&api.consumer_key)?,
                secret: text(&api.consumer_secret)?,
            },
            "ebay" => Kind::Ebay {
                application: token(ClientIn::Basic, own(Some(EBAY_SCOPE)), same)?,
                seller: refresh().and_then(|grant| token(ClientIn::Basic, grant, same)),
            },
            "walmart" => Kind::Walmart { token: token(ClientIn::Basic, own(None), walmart_call)? },
            "amazon" => Kind::Amazon {
                token: token(ClientIn::Form, refresh()?, same)?,
                marketplaces: api.marketplaces.join(","),
            },
            "odoo" => Kind::Odoo {
                key: text(&api.token)?,
                database: api.database.clone(),
                settings: channel.meaning.odoo.clone(),
            },
            _ => return None,
        };
        Some(Self { api: Api::new(&api.base_url).ok()?, kind })
    }

    /// One order; `None` if the channel knows no such order.
    pub async fn order(&self, id: &str) -> Result<Option<Told>, ApiError> {
        let read = |body: Option<Bytes>, parse: fn(&[u8]) -> Result<Told, String>| {
            body.map(|body| parse(&body).map_err(unreadable)).transpose()
        };
        match &self.kind {
            Kind::Shopify { path, token } => {
                let asked = json!({
                    "query": shopify::poll::ORDER_QUERY,
                    "variables": { "id": format!("gid://shopify/Order/{id}") },
                });
                let body = self.graphql(path, token, &asked).await?;
                shopify::poll::order(&body).map_err(unreadable)
            }
            Kind::WooCommerce { key, secret } => {
                let call = Call::get("/wp-json/wc/v3/orders").segment(id).basic(key, secret);
                read(self.api.send(call).await?.known()?, woocommerce::poll::order)
            }
            Kind::Ebay { seller, .. } => {
                let call = || Call::get("/sell/fulfillment/v1/order").segment(id);
                let answer = self.with(seller.as_deref(), |t| call().bearer(t)).await?;
                read(answer.known()?, ebay::poll::order)
            }
            Kind::Walmart { token } => {
                let call = || walmart_call(Call::get("/v3/orders").segment(id));
                let make = |t: &str| call().header("WM_SEC.ACCESS_TOKEN", t);
                read(self.with(Some(token), make).await?.known()?, walmart::poll::order)
            }
            Kind::Amazon { token, .. } => {
                let orders = "/orders/2026-01-01/orders";
                let call = || {
                    amazon_call(orders)
                        .segment(id)
                        .query("includedData", amazon::poll::INCLUDED_DATA)
                };
                let make = |t: &str| call().header("x-amz-access-token", t);
                read(self.with(Some(token), make).await?.known()?, amazon::poll::order)
            }
            Kind::Odoo { .. } => self.sale(id).await,
        }
    }

    /// One page of what changed since a time. `page` is `next` of the page before.
    pub async fn changes(&self, since_ms: u64, page: Option<&str>) -> Result<Page, ApiError> {
        match &self.kind {
            Kind::Shopify { path, token } => {
                let changed = format!("updated_at:>='{}'", rfc3339(since_ms));
                let asked = json!({
                    "query": shopify::poll::ORDERS_QUERY,
                    "variables": { "after": page, "query": changed },
                });
                let body = self.graphql(path, token, &asked).await?;
                shopify::poll::orders(&body).map_err(unreadable)
            }
            Kind::WooCommerce { key, secret } => {
                let number = page.unwrap_or("1");
                let call = Call::get("/wp-json/wc/v3/orders")
                    .query("status", "any")
                    .query("modified_after", &plain(since_ms, "%Y-%m-%dT%H:%M:%S"))
                    .query("dates_are_gmt", "true")
                    .query("orderby", "modified")
                    .query("order", "asc")
                    .query("per_page", &PAGE.to_string())
                    .query("page", number)
                    .basic(key, secret);
                let body = self.api.send(call).await?.success()?;
                let page = woocommerce::poll::orders(&body).map_err(unreadable)?;
                let next = || number.parse::<u64>().ok().map(|number| (number + 1).to_string());
                let next = if page.told.len() >= PAGE { next() } else { None };
                Ok(Page { next, ..page })
            }
            Kind::Ebay { seller, .. } => {
                let path = "/sell/fulfillment/v1/order";
                let next = page.map(|next| self.api.next_query(path, next)).transpose()?;
                let since = format!("lastmodifieddate:[{}..]", rfc3339(since_ms));
                let first = || Call::get(path).query("filter", &since).query("limit", "200");
                let call = || next.map_or_else(first, |next| Call::get(path).ready_query(next));
                let answer = self.with(seller.as_deref(), |t| call().bearer(t)).await?;
                ebay::poll::orders(&answer.success()?).map_err(unreadable)
            }
            Kind::Walmart { token } => {
                let path = "/v3/orders";
                let next = page.map(|next| self.api.next_query(path, next)).transpose()?;
                let created = rfc3339(crate::clock::now_ms().saturating_sub(WALMART_CREATED_MS));
                let first = || {
                    Call::get(path)
                        .query("createdStartDate", &created)
                        .query("lastModifiedStartDate", &rfc3339(since_ms))
                        .query("limit", &PAGE.to_string())
                };
                let call = || next.map_or_else(first, |next| Call::get(path).ready_query(next));
                let make = |t: &str| walmart_call(call()).header("WM_SEC.ACCESS_TOKEN", t);
                // An empty list is a 404 with a code of its own.
                let Some(body) = self.with(Some(token), make).await?.known()? else {
                    return Ok(Page::default());
                };
                walmart::poll::orders(&body).map_err(unreadable)
            }
            Kind::Amazon { token, marketplaces } => {
                let call = || {
                    let call = amazon_call("/orders/2026-01-01/orders")
                        .query("lastUpdatedAfter", &rfc3339(since_ms))
                        .query("marketplaceIds", marketplaces)
                        .query("includedData", amazon::poll::INCLUDED_DATA)
                        .query("maxResultsPerPage", &PAGE.to_string());
                    page.into_iter().fold(call, |call, next| call.query("paginationToken", next))
                };
                let make = |t: &str| call().header("x-amz-access-token", t);
                let answer = self.with(Some(token), make).await?;
                amazon::poll::orders(&answer.success()?).map_err(unreadable)
            }
            Kind::Odoo { settings, .. } => self.odoo_changes(since_ms, page, settings).await,
        }
    }

    /// The record of one of eBay's public keys; `None` if there is no such key.
    pub async fn ebay_key(&self, id: &str) -> Result<Option<Bytes>, ApiError> {
        let Kind::Ebay { application, .. } = &self.kind else { return Ok(None) };
        let call = || Call::get("/commerce/notification/v1/public_key").segment(id);
        self.with(Some(application), |t| call().bearer(t)).await?.known()
    }

    async fn with(
        &self,
        token: Option<&Token>,
        make: impl Fn(&str) -> Call + Send + Sync,
    ) -> Result<super::api::Answer, ApiError> {
        let missing = || ApiError::Unauthorised("api.refresh_token is not set".into());
        token.ok_or_else(missing)?.call(&self.api, make).await
    }

    /// A question in GraphQL. Errors come with HTTP 200.
    async fn graphql(&self, path: &str, token: &str, asked: &Value) -> Result<Bytes, ApiError> {
        let call = Call::post(path).header("X-Shopify-Access-Token", token).json(asked);
        let body = self.api.send(call).await?.success()?;
        let answer: Value = serde_json::from_slice(&body).map_err(|e| unreadable(e.to_string()))?;
        let error = answer.pointer("/errors/0");
        let Some(error) = error else { return Ok(body) };
        let said = error.get("message").and_then(Value::as_str).unwrap_or_default().to_string();
        Err(match error.pointer("/extensions/code").and_then(Value::as_str) {
            Some("THROTTLED") => ApiError::Limited { wait_ms: 1000 },
            Some("ACCESS_DENIED" | "SHOP_INACTIVE") => ApiError::Unauthorised(said),
            Some("INTERNAL_SERVER_ERROR") => ApiError::Unreachable(said),
            _ => ApiError::Refused(said),
        })
    }

    /// Records of one of Odoo's models.
    async fn search(&self, model: &str, asked: &Value) -> Result<Bytes, ApiError> {
        let Kind::Odoo { key, database, .. } = &self.kind else { return Ok(Bytes::new()) };
        let call = Call::post(&format!("/json/2/{model}/search_read")).bearer(key).json(asked);
        let named = |call: Call, name: &String| call.header("X-Odoo-Database", name);
        self.api.send(database.iter().fold(call, named)).await?.success()
    }

    async fn sale(&self, id: &str) -> Result<Option<Told>, ApiError> {
        let number: u64 =
            id.parse().map_err(|_| ApiError::Refused("a sale's id is a number".into()))?;
        let order = json!({
            "domain": [["id", "=", number]],
            "fields": ["id", "name", "state", "client_order_ref", "order_line", "write_date"],
        });
        let lines = json!({
            "domain": [["order_id", "=", number]],
            "fields": ["id", "order_id", "product_id", "product_uom_qty"],
        });
        let order = self.search("sale.order", &order).await?;
        let lines = self.search("sale.order.line", &lines).await?;
        odoo::poll::sale(&order, &lines).map_err(unreadable)
    }

    /// Moves that were done, page by page; then sales, one by one; then what there is. `page` says which
    /// of them, and from which record on.
    async fn odoo_changes(
        &self,
        since_ms: u64,
        page: Option<&str>,
        settings: &odoo::Settings,
    ) -> Result<Page, ApiError> {
        let (what, from) = page.and_then(|page| page.split_once(':')).unwrap_or(("moves", "0"));
        let from: usize = from.parse().map_err(|_| unreadable("no such page".into()))?;
        let since = plain(since_ms, "%Y-%m-%d %H:%M:%S");
        let asked = |domain: Value, fields: &[&str]| {
            json!({
                "domain": domain, "fields": fields,
                "order": "write_date,id", "limit": RECORDS, "offset": from,
            })
        };
        let following = |told: usize, then: Option<&str>| match told {
            told if told >= RECORDS => Some(format!("{what}:{}", from + RECORDS)),
            _ => then.map(Into::into),
        };
        match what {
            "moves" => {
                let domain = json!([["state", "=", "done"], ["write_date", ">=", since]]);
                let fields = [
                    "id",
                    "product_id",
                    "quantity",
                    "product_uom_qty",
                    "state",
                    "location_id",
                    "location_dest_id",
                    "origin",
                    "date",
                    "write_date",
                ];
                let body = self.search("stock.move", &asked(domain, &fields)).await?;
                let mut page = odoo::poll::moves(&body, settings).map_err(unreadable)?;
                page.next = following(page.told.len(), Some("sales:0"));
                Ok(page)
            }
            "sales" => {
                let domain = json!([["write_date", ">=", since]]);
                let body = self.search("sale.order", &asked(domain, &["id", "write_date"])).await?;
                let sales: Vec<Value> =
                    serde_json::from_slice(&body).map_err(|e| unreadable(e.to_string()))?;
                let mut page = Page::default();
                for sale in &sales {
                    let id = sale.get("id").map(ToString::to_string).unwrap_or_default();
                    page.told.extend(self.sale(&id).await?);
                    let changed = sale.get("write_date").and_then(Value::as_str);
                    let changed = changed.and_then(|at| channels::time::utc(at).ok());
                    page.newest_ms = page.newest_ms.max(changed);
                }
                page.next = following(sales.len(), Some("quants:0"));
                Ok(page)
            }
            _ => {
                let domain = json!([["location_id.usage", "=", "internal"]]);
                let fields = [
                    "id",
                    "product_id",
                    "location_id",
                    "quantity",
                    "reserved_quantity",
                    "write_date",
                ];
                let asked = json!({ "domain": domain, "fields": fields, "order": "write_date,id" });
                let body = self.search("stock.quant", &asked).await?;
                odoo::poll::quants(&body, settings).map_err(unreadable)
            }
        }
    }
}
