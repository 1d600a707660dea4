//! What `WooCommerce`, eBay and Odoo are told of quantities: what is set, what is refused and how that is
//! said. A simulated channel that is kinder than the real one would hide what a client does wrong.

use base64::{Engine, engine::general_purpose::STANDARD};
use marketplace::{
    Outage, ebay,
    sender::{Faults, Kind, MoveKind, Options, Rate, Sender},
};
use serde_json::{Value, json};

use crate::support::{Answered, call, options};

async fn start(options: Options) -> Sender {
    Sender::start(options).await.unwrap()
}

/// One call with the credentials of its kind.
async fn post(sender: &Sender, path: &str, body: &Value) -> Answered {
    let Options { kind, api_id, api_secret, .. } = sender.options();
    let user = format!("Basic {}", STANDARD.encode(format!("{api_id}:{api_secret}")));
    let authorization = match kind {
        Kind::Ebay => {
            let url = format!("{}/identity/v1/oauth2/token", sender.url());
            let form = "grant_type=refresh_token&refresh_token=simulated-refresh-token";
            let answer = call("POST", &url, &[("Authorization", &user)], form).await.unwrap();
            format!("Bearer {}", answer.body["access_token"].as_str().unwrap())
        }
        Kind::Odoo => format!("Bearer {api_secret}"),
        _ => user,
    };
    let url = format!("{}{path}", sender.url());
    call("POST", &url, &[("Authorization", &authorization)], &body.to_string()).await.unwrap()
}

const PRODUCTS: &str = "/wp-json/wc/v3/products/batch";
const PRICES: &str = "/sell/inventory/v1/bulk_update_price_quantity";
const CREATE: &str = "/json/2/stock.quant/create";
const APPLY: &str = "/json/2/stock.quant/action_apply_inventory";

fn update(rows: &[(u64, i64)]) -> Value {
    let rows = rows.iter();
    let rows =
        rows.map(|(id, units)| json!({"id": id, "manage_stock": true, "stock_quantity": units}));
    json!({"update": rows.collect::<Vec<_>>()})
}

/// A batch sets what it can, and says 200 whatever it could not.
#[tokio::test]
async fn a_batch_of_woocommerce_has_errors_of_rows() {
    let unmanaged = [94].into();
    let parents = [(93, 90)].into();
    let sender = start(Options { unmanaged, parents, ..options(Kind::WooCommerce) }).await;
    let answer = post(&sender, PRODUCTS, &update(&[(93, 7), (94, 7), (95, 7)])).await;
    assert_eq!(answer.status, 200);
    let rows = answer.body["update"].as_array().unwrap();
    // A variation is no product.
    assert_eq!(rows[0]["error"]["code"], "woocommerce_rest_product_invalid_id");
    assert_eq!(
        (&rows[1]["manage_stock"], &rows[1]["stock_quantity"]),
        (&json!(false), &Value::Null)
    );
    assert_eq!(rows[2]["error"]["data"]["status"], 400);
    let variations = "/wp-json/wc/v3/products/90/variations/batch";
    let answer = post(&sender, variations, &update(&[(93, 7)])).await;
    assert_eq!(answer.body["update"][0]["stock_quantity"], 7);
    assert_eq!((sender.available("MUG"), sender.available("TEE")), (Some(7), Some(5)));
    let none = post(&sender, "/wp-json/wc/v3/products/91/variations/batch", &update(&[])).await;
    assert_eq!(none.status, 404);
    let many: Vec<(u64, i64)> = (0..101).map(|id| (id, 1)).collect();
    let refused = post(&sender, PRODUCTS, &update(&many)).await;
    assert_eq!(
        (refused.status, &refused.body["code"]),
        (413, &json!("woocommerce_rest_request_entity_too_large"))
    );
    let url = format!("{}{PRODUCTS}", sender.url());
    assert_eq!(call("POST", &url, &[], "{}").await.unwrap().status, 401);
    let told: Vec<_> =
        sender.pushes().iter().map(|push| (push.from, push.to, push.applied)).collect();
    assert_eq!(told, [(5, 7, false), (10, 7, true)]);
    sender.shutdown().await;
}

/// 25 rows, 207 where one failed, and a listing that shows no more than its offer.
#[tokio::test]
async fn ebay_says_what_became_of_each_row() {
    let sender = start(options(Kind::Ebay)).await;
    let row = |sku: &str, units: i64, offer: Option<u64>| {
        let offers: Vec<Value> = offer
            .map(|id| json!({"offerId": id.to_string(), "availableQuantity": units}))
            .into_iter()
            .collect();
        json!({"sku": sku, "shipToLocationAvailability": {"quantity": units}, "offers": offers})
    };
    let set = async |rows: Vec<Value>| post(&sender, PRICES, &json!({"requests": rows})).await;
    let mug = Some(ebay::offer_id(93));
    let answer = set(vec![row("MUG", 17, mug), row("CAP", 1, None), row("TEE", 9, Some(1))]).await;
    assert_eq!(answer.status, 207);
    let codes: Vec<_> = (0..3).map(|n| answer.body["responses"][n]["statusCode"].clone()).collect();
    assert_eq!(codes, [200, 404, 404]);
    assert_eq!(answer.body["responses"][2]["errors"][0]["errorId"], 25_713);
    assert_eq!(set(vec![row("MUG", 30, None)]).await.status, 200);
    assert_eq!(sender.available("MUG"), Some(17), "its offer shows no more");
    let read = json!({"requests": [{"sku": "MUG"}]});
    let read = post(&sender, "/sell/inventory/v1/bulk_get_inventory_item", &read).await;
    let place = "/responses/0/inventoryItem/availability/shipToLocationAvailability/quantity";
    assert_eq!(read.body.pointer(place), Some(&json!(30)));
    assert_eq!(
        set(vec![row("MUG", -1, mug)]).await.body["responses"][0]["errors"][0]["errorId"],
        25_709
    );
    assert_eq!(set(vec![row("MUG", 1, mug); 26]).await.status, 400);
    sender.shutdown().await;
}

/// A count is no change until it is applied, and then only if nothing moved.
#[tokio::test]
async fn odoo_applies_a_count_or_says_that_something_moved() {
    let sender = start(options(Kind::Odoo)).await;
    let context = json!({"inventory_mode": true, "inventory_name": "by hand"});
    let count = async |units: f64| {
        let row = json!({"product_id": 93, "location_id": 8, "inventory_quantity": units});
        post(&sender, CREATE, &json!({"vals_list": [row], "context": context})).await
    };
    let apply = async || post(&sender, APPLY, &json!({"ids": [900], "context": context})).await;
    let order = sender.sell(&[("MUG", 2)]).unwrap();
    assert_eq!(count(17.0).await.body, json!([900]));
    assert_eq!(sender.available("MUG"), Some(8), "a count alone changes nothing");
    assert_eq!((apply().await.body, sender.available("MUG")), (Value::Null, Some(15)));
    count(20.0).await;
    sender.ship(order).unwrap();
    let conflict = apply().await;
    assert_eq!(
        (conflict.status, &conflict.body["res_model"]),
        (200, &json!("stock.inventory.conflict"))
    );
    assert_eq!(conflict.body["context"]["default_quant_to_fix_ids"], json!([900]));
    assert_eq!(sender.available("MUG"), Some(15));
    // An adjustment is a move like any other.
    let moves =
        json!({"domain": [["is_inventory", "=", true]], "fields": ["quantity", "reference"]});
    let moves = post(&sender, "/json/2/stock.move/search_read", &moves).await;
    assert_eq!(
        (&moves.body[0]["quantity"], &moves.body[0]["reference"]),
        (&json!(7.0), &json!("by hand"))
    );
    let plain =
        json!({"vals_list": [{"product_id": 93, "location_id": 8, "inventory_quantity": 1.0}]});
    assert_eq!(post(&sender, CREATE, &plain).await.body["name"], "odoo.exceptions.UserError");
    sender.shutdown().await;
}

/// What was received is for sale once it was counted, and a scrap then takes it from there.
#[tokio::test]
async fn a_count_puts_on_sale_all_that_is_not_promised() {
    let sender = start(options(Kind::Odoo)).await;
    sender.shift(MoveKind::Receipt, "MUG", 6).unwrap();
    assert_eq!(sender.available("MUG"), Some(10));
    let context = json!({"inventory_mode": true});
    let row = json!({"product_id": 93, "location_id": 8, "inventory_quantity": 16.0});
    post(&sender, CREATE, &json!({"vals_list": [row], "context": context})).await;
    post(&sender, APPLY, &json!({"ids": [900], "context": context})).await;
    assert_eq!(sender.available("MUG"), Some(16));
    sender.shift(MoveKind::Scrap, "MUG", 2).unwrap();
    assert_eq!(sender.available("MUG"), Some(14));
    let quants =
        json!({"domain": [["product_id", "=", 93]], "fields": ["quantity", "reserved_quantity"]});
    let quants = post(&sender, "/json/2/stock.quant/search_read", &quants).await;
    assert_eq!(
        (&quants.body[0]["quantity"], &quants.body[0]["reserved_quantity"]),
        (&json!(14.0), &json!(0.0))
    );
    sender.shutdown().await;
}

/// A limit that nobody meets, and faults that are not those of the channel, would test no client.
#[tokio::test]
async fn calls_are_limited_and_lost_on_order() {
    let rate = Some(Rate { per_second: 1, burst: 2 });
    let sender = start(Options { rate, ..options(Kind::WooCommerce) }).await;
    let url = format!("{}{PRODUCTS}", sender.url());
    let status = async || {
        let request =
            hyper::Request::post(&url).body(http_body_util::Full::<bytes::Bytes>::default());
        let client =
            hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new());
        client.build_http().request(request.unwrap()).await.map(|answer| answer.status().as_u16())
    };
    let statuses = [status().await.unwrap(), status().await.unwrap(), status().await.unwrap()];
    assert_eq!((statuses, sender.stats().throttled), ([401, 401, 429], 1));
    sender.set_outage(Outage::ServerError(502));
    assert_eq!(status().await.unwrap(), 502);
    sender.set_outage(Outage::DropAfterApply);
    assert!(status().await.is_err());
    sender.shutdown().await;

    let sender = start(options(Kind::WooCommerce)).await;
    sender.set_faults(Faults { push_answer_lost: 1.0, ..Faults::default() });
    let Options { api_id, api_secret, .. } = sender.options();
    let user = format!("Basic {}", STANDARD.encode(format!("{api_id}:{api_secret}")));
    let url = format!("{}{PRODUCTS}", sender.url());
    let body = update(&[(93, 7)]).to_string();
    assert!(call("POST", &url, &[("Authorization", &user)], &body).await.is_err());
    assert_eq!((sender.available("MUG"), sender.stats().call_faults), (Some(7), 1));
    sender.shutdown().await;
}
