//! Moves, sales and stock of an Odoo database, by its JSON-2 API (Odoo 19 and later).
//!
//! Pages are counted by the record's id and not by its place: a record that changes between two pages
//! stays where it is, so none is skipped. What changes behind the page being read is found by the next
//! poll, which must begin some minutes before this one did: Odoo stamps a change with the time at which
//! its transaction began.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::channel::api::{Answer, Api, ApiError, Broken, Call, Credential, Listed};
use crate::{clock, config};

/// Records of a page.
const PAGE: usize = 500;
/// Sales of a page: each is then read by two calls of its own.
const SALES: usize = 50;
/// Products whose stock is asked for at once.
const PRODUCTS: usize = 200;

/// How to reach a database.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `https://{host}`.
    pub base_url: String,
    /// The API key; it lives for three months at the most.
    pub key: Credential,
    /// Which database, where a host has several.
    pub database: Option<String>,
}

impl Settings {
    /// As the config says; `None` if something is missing there.
    #[must_use]
    pub fn of(api: &config::Api) -> Option<Self> {
        Some(Self {
            base_url: api.base_url.clone(),
            key: api.token.as_ref()?.into(),
            database: api.database.clone(),
        })
    }
}

/// A database's API.
pub struct Odoo {
    api: Api,
    settings: Settings,
}

impl Odoo {
    /// Nobody is asked yet. The error says what is wrong with the URL.
    pub fn new(settings: Settings) -> Result<Self, String> {
        Ok(Self { api: Api::new(&settings.base_url)?, settings })
    }

    /// One page of the moves that are done and changed since a time: `stock.move`.
    pub async fn moves(&self, since_ms: u64, page: Option<&str>) -> Result<Listed, ApiError> {
        let fields = [
            "product_id",
            "quantity",
            "product_uom_qty",
            "state",
            "location_id",
            "location_dest_id",
            "origin",
            "reference",
            "is_inventory",
            "date",
            "write_date",
        ];
        let domain = [json!(["state", "=", "done"]), json!(["write_date", ">=", since(since_ms)])];
        self.page("stock.move", &domain, &fields, page, PAGE).await
    }

    /// One page of the ids of sales that changed since a time: `sale.order`, with `write_date`. Each is
    /// then read by [`Self::sale`].
    pub async fn sales(&self, since_ms: u64, page: Option<&str>) -> Result<Listed, ApiError> {
        let domain = [json!(["write_date", ">=", since(since_ms)])];
        self.page("sale.order", &domain, &["write_date"], page, SALES).await
    }

    /// One sale, and its lines: the lists that hold the `sale.order` and its `sale.order.line`s. `None` if
    /// there is no such sale. They are asked for one after the other, the sale first.
    pub async fn sale(&self, id: &str) -> Result<Option<(Bytes, Bytes)>, ApiError> {
        let id: u64 =
            id.parse().map_err(|_| ApiError::Refused("a sale's id is a number".into()))?;
        let sale = json!({
            "domain": [["id", "=", id]],
            "fields": ["name", "state", "client_order_ref", "order_line", "write_date"],
        });
        let sale = self.search("sale.order", &sale).await?;
        if records(&sale)?.is_empty() {
            return Ok(None);
        }
        let lines = json!({
            "domain": [["order_id", "=", id]],
            "fields": ["order_id", "product_id", "product_uom_qty"],
        });
        Ok(Some((sale, self.search("sale.order.line", &lines).await?)))
    }

    /// All that lies in own locations of some products, whose stock is told whole: `stock.quant`. `next`
    /// leads to the products after them. Stock that is gone has no record.
    pub async fn quants(&self, page: Option<&str>) -> Result<Listed, ApiError> {
        let products = self.page("product.product", &[], &["id"], page, PRODUCTS).await?;
        let ids: Vec<Value> =
            records(&products.body)?.iter().filter_map(|one| one.get("id").cloned()).collect();
        let asked = json!({
            "domain": [["location_id.usage", "=", "internal"], ["product_id", "in", ids]],
            "fields": ["product_id", "location_id", "quantity", "reserved_quantity", "write_date"],
            "order": "id",
        });
        let body = self.search("stock.quant", &asked).await?;
        Ok(Listed { body, next: products.next })
    }

    /// Records in the order of their ids; a page is named by the last id of the one before.
    async fn page(
        &self,
        model: &str,
        domain: &[Value],
        fields: &[&str],
        page: Option<&str>,
        limit: usize,
    ) -> Result<Listed, ApiError> {
        let after = page.map(str::parse::<u64>).transpose();
        let after = after.map_err(|_| ApiError::Refused("no such page".into()))?;
        let mut domain = domain.to_vec();
        domain.extend(after.map(|id| json!(["id", ">", id])));
        let asked = json!({
            "domain": domain, "fields": fields, "order": "id", "limit": limit,
            // A product that was archived may still lie on a shelf.
            "context": { "active_test": false },
        });
        let body = self.search(model, &asked).await?;
        let records = records(&body)?;
        let last = records.last().and_then(|record| record.get("id")?.as_u64());
        let next = last.filter(|_| records.len() >= limit).map(|id| id.to_string());
        Ok(Listed { body, next })
    }

    /// The records of a model. `id` is among the fields always.
    async fn search(&self, model: &str, asked: &Value) -> Result<Bytes, ApiError> {
        self.call(model, "search_read", asked).await?.success()
    }

    /// Calls a method of a model with named arguments.
    pub(super) async fn call(
        &self,
        model: &str,
        method: &str,
        arguments: &Value,
    ) -> Result<Answer, Broken> {
        let of = &self.settings;
        let call = Call::post("/json/2").segment(model).segment(method);
        let call = call.bearer(of.key.expose()).json(arguments);
        let named = |call: Call, name: &String| call.header("X-Odoo-Database", name);
        self.api.send(of.database.iter().fold(call, named)).await
    }
}

fn records(body: &[u8]) -> Result<Vec<Value>, ApiError> {
    serde_json::from_slice(body)
        .map_err(|_| ApiError::Unreadable("it is no list of records".into()))
}

/// A time as Odoo writes it: UTC without saying so.
fn since(ms: u64) -> String {
    clock::rfc3339(ms).chars().take(19).collect::<String>().replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::api::fake::{Asked, Fake, said};

    fn odoo(fake: &Fake) -> Odoo {
        let (base_url, database) = (fake.url.clone(), Some("shop".into()));
        Odoo::new(Settings { base_url, key: "key".into(), database }).unwrap()
    }

    /// Without an end to its pages a poll goes on for ever; with places instead of ids it skips records.
    #[tokio::test]
    async fn pages_follow_the_ids() {
        let fake = Fake::start(|asked: Asked| async move {
            let domain = asked.json()["domain"].as_array().unwrap().clone();
            let after = domain
                .iter()
                .find(|part| part[0] == "id")
                .map_or(0, |part| part[2].as_u64().unwrap());
            let records: Vec<_> =
                (after + 1..=700).take(500).map(|id| json!({ "id": id })).collect();
            said(200, json!(records).to_string())
        })
        .await;
        let odoo = odoo(&fake);
        let first = odoo.moves(1_000, None).await.unwrap();
        assert_eq!(first.next.as_deref(), Some("500"));
        let second = odoo.moves(1_000, Some("500")).await.unwrap();
        assert_eq!((records(&second.body).unwrap().len(), second.next), (200, None));
        assert!(matches!(odoo.moves(0, Some("x")).await, Err(ApiError::Refused(_))));
        let asked = &fake.asked()[1];
        assert_eq!(asked.method, "POST");
        assert_eq!(asked.target, "/json/2/stock.move/search_read");
        assert_eq!(asked.header("authorization"), "Bearer key");
        assert_eq!(asked.header("x-odoo-database"), "shop");
        let domain = json!([
            ["state", "=", "done"],
            ["write_date", ">=", "1970-01-01 00:00:01"],
            ["id", ">", 500]
        ]);
        assert_eq!(asked.json()["domain"], domain);
        assert_eq!(asked.json()["order"], "id");
    }

    /// Some of a product's stock taken for all of it would be too little.
    #[tokio::test]
    async fn stock_is_asked_for_by_whole_products() {
        let fake = Fake::start(|asked: Asked| async move {
            let products: Vec<_> = (1..=200).map(|id| json!({ "id": id })).collect();
            let is_product = asked.target.contains("product.product");
            said(200, if is_product { json!(products).to_string() } else { "[]".into() })
        })
        .await;
        let listed = odoo(&fake).quants(None).await.unwrap();
        assert_eq!(listed.next.as_deref(), Some("200"));
        let asked = fake.asked()[1].json();
        assert_eq!(asked["domain"][1][2].as_array().unwrap().len(), 200);
        assert_eq!(asked.get("limit"), None);
    }

    /// A sale that is gone is not one without lines.
    #[tokio::test]
    async fn a_sale_that_is_gone_is_none() {
        let fake = Fake::always(200, "[]").await;
        assert_eq!(odoo(&fake).sale("7").await, Ok(None));
        assert!(matches!(odoo(&fake).sale("7;").await, Err(ApiError::Refused(_))));
        let fake = Fake::always(200, r#"[{"id":7}]"#).await;
        assert!(odoo(&fake).sale("7").await.unwrap().is_some());
        let fake = Fake::always(404, r#"{"name":"werkzeug.exceptions.NotFound"}"#).await;
        assert_eq!(odoo(&fake).sale("7").await, Err(ApiError::NotFound));
    }
}
