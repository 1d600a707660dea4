#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use serde_json::json;

use super::*;
use crate::channel::api::fake::{Asked, Fake, said};
use crate::channel::{odoo as odoo_api, shopify::orders};

fn shopify(fake: &Fake) -> Source {
    let settings = orders::Settings {
        base_url: fake.url.clone(),
        version: "2026-04".into(),
        token: "shpat_1".into(),
    };
    Source::Shopify(orders::Orders::new(settings).unwrap())
}

fn odoo(fake: &Fake) -> Source {
    let (base_url, key) = (fake.url.clone(), "key".into());
    let api = Odoo::new(odoo_api::Settings { base_url, key, database: None }).unwrap();
    let locations = [(8, "main".to_string())].into();
    Source::Odoo(api, odoo::Settings { locations, ..odoo::Settings::default() })
}

/// An order that the store knows and that counts as unknown is lost; so is one that it refuses to tell of.
#[tokio::test]
async fn only_null_is_an_unknown_order_of_shopify() {
    let of = |body| async move { shopify(&Fake::always(200, body).await).order("5678").await };
    assert_eq!(of(r#"{"data":{"order":null}}"#).await, Ok(None));
    assert!(matches!(of(r#"{"data":{}}"#).await, Err(ApiError::Unreadable(_))));
    let denied = r#"{"data":{"order":null},"errors":[{"message":"no","extensions":{"code":"ACCESS_DENIED"}}]}"#;
    assert!(matches!(of(denied).await, Err(ApiError::Unauthorised(_))));
    let told =
        of(r#"{"data":{"order":{"id":"gid://shopify/Order/5678"}}}"#).await.unwrap().unwrap();
    assert!(
        matches!(told.understood, channels::Understood::Dead(_)),
        "kept, as it is not understood"
    );
}

/// A database with two sales, of which one is not whole, a move and two products.
async fn database() -> Fake {
    Fake::start(|asked: Asked| async move {
        let body = asked.json();
        let domain = &body["domain"];
        let is_one = domain[0][0] == "id" && domain[0][1] == "=";
        let lines = json!({ "id": 70, "order_id": [7, "S7"], "product_id": [3, "[A] A"],
            "product_uom_qty": 2.0 });
        let answer = match asked.target.as_str() {
            "/json/2/sale.order/search_read" if is_one => {
                let id = &domain[0][2];
                let named = if id == 7 { 70 } else { 81 };
                json!([{ "id": id, "name": "S", "state": "sale", "client_order_ref": false,
                    "order_line": [named], "write_date": "2026-11-20 10:00:00" }])
            }
            "/json/2/sale.order/search_read" => json!([
                { "id": 7, "write_date": "2026-11-20 10:00:00" },
                { "id": 8, "write_date": "2026-11-20 10:00:05" },
            ]),
            "/json/2/sale.order.line/search_read" => json!([lines]),
            "/json/2/stock.move/search_read" => json!([{ "id": 4, "product_id": [3, "[A] A"],
                "quantity": 1.0, "product_uom_qty": 1.0, "state": "done", "location_id": [4, "V"],
                "location_dest_id": [8, "WH"], "origin": false, "date": "2026-11-20 10:00:00",
                "write_date": "2026-11-20 10:00:00" }]),
            "/json/2/product.product/search_read" => json!([{ "id": 3 }]),
            "/json/2/stock.quant/search_read" => json!([{ "id": 9, "product_id": [3, "[A] A"],
                "location_id": [8, "WH"], "quantity": 5.0, "reserved_quantity": 2.0,
                "write_date": "2026-11-20 10:00:00" }]),
            other => panic!("{other}"),
        };
        said(200, answer.to_string())
    })
    .await
}

/// If one of its three kinds of records is left out, what it tells of is never made good; and one sale
/// that cannot be read must not hold up all that comes after it.
#[tokio::test]
async fn a_poll_of_odoo_tells_moves_sales_and_stock() {
    let fake = database().await;
    let source = odoo(&fake);
    let (mut topics, mut dead, mut page) = (Vec::new(), 0, None);
    let mut newest = None;
    for _ in 0..3 {
        let read = source.changes(1_000, page.as_deref()).await.unwrap();
        for told in read.told {
            dead += usize::from(matches!(told.understood, channels::Understood::Dead(_)));
            topics.push(told.topic);
        }
        newest = newest.max(read.newest_ms);
        page = read.next;
    }
    assert_eq!(page, None);
    assert_eq!(topics, ["poll/stock.move", "poll/order", "poll/order", "poll/stock.quant"]);
    assert_eq!((dead, newest), (1, time::utc("2026-11-20 10:00:05").ok()));
    assert!(matches!(source.changes(0, Some("others:")).await, Err(ApiError::Refused(_))));
}
