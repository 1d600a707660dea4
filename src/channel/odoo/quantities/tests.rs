use std::sync::{Arc, Mutex};

use super::*;
use crate::channel::api::fake::{Asked, Fake, said};

const APPLY: &str = "/json/2/stock.quant/action_apply_inventory";
const CREATE: &str = "/json/2/stock.quant/create";

fn client(fake: &Fake) -> Client {
    let settings = Settings { base_url: fake.url.clone(), key: "key".into(), database: None };
    Client { odoo: Odoo::new(settings).unwrap(), compared: Compared::default() }
}

fn row(product: &str, from: i64, quantity: i64) -> Row {
    let place = Place { listing: product.into(), location: "8".into(), ..Place::default() };
    Row { place, quantity, from }
}

fn quant(product: u64, lot: Option<u64>, quantity: f64, reserved: f64) -> Value {
    let lot = lot.map_or(json!(false), |lot| json!([lot, "LOT"]));
    json!({ "id": 900 + product, "product_id": [product, "[TEE] Tee"], "location_id": [8, "WH/Stock"],
        "lot_id": lot, "package_id": false, "owner_id": false, "quantity": quantity,
        "reserved_quantity": reserved })
}

/// A database: what it tells of its quants, the last one again and again, and how it answers an apply.
async fn database(quants: Vec<Value>, applied: (u16, Value)) -> Fake {
    let quants = Arc::new(Mutex::new(quants));
    Fake::start(move |asked: Asked| {
        let (status, answer) = match asked.target.as_str() {
            APPLY => applied.clone(),
            CREATE => {
                let counts = asked.json()["vals_list"].as_array().unwrap().len();
                (200, json!((901..).take(counts).collect::<Vec<u64>>()))
            }
            _ => {
                let mut quants = quants.lock().unwrap();
                (200, if quants.len() > 1 { quants.remove(0) } else { quants[0].clone() })
            }
        };
        std::future::ready(said(status, answer.to_string()))
    })
    .await
}

fn bodies(fake: &Fake, target: &str) -> Vec<Value> {
    fake.asked().iter().filter(|asked| asked.target == target).map(Asked::json).collect()
}

async fn outcomes(applied: (u16, Value), rows: &[Row]) -> Result<Vec<RowOutcome>, PushError> {
    let quants = json!([quant(33, None, 7.0, 2.0), quant(34, None, 5.0, 0.0)]);
    let fake = database(vec![quants], applied).await;
    client(&fake).set(rows, "a").await.map(|answered| answered.value)
}

/// What is reserved is somebody's: a count that leaves it out would sell it again.
#[tokio::test]
async fn what_is_reserved_stays_reserved() {
    let fake = database(vec![json!([quant(33, None, 7.0, 2.0)])], (200, Value::Null)).await;
    let outcomes =
        client(&fake).set(&[row("33", 5, 17), row("34", 0, 0)], "a").await.unwrap().value;
    assert_eq!(outcomes, vec![RowOutcome::Confirmed; 2]);
    let counted = bodies(&fake, CREATE);
    let count = json!({ "product_id": 33, "location_id": 8, "inventory_quantity": 19.0 });
    assert_eq!(
        counted,
        [json!({ "vals_list": [count], "context": { "inventory_mode": true } })],
        "and a product that shows what it shall is not counted"
    );
    let context = json!({ "inventory_mode": true, "inventory_name": "stockraft" });
    assert_eq!(bodies(&fake, APPLY), [json!({ "ids": [901], "context": context })]);
}

/// The conflict is answered 200 and has applied nothing.
#[tokio::test]
async fn a_conflict_is_no_success() {
    let rows = [row("33", 5, 17), row("34", 5, 3)];
    let conflict = |fix: Value| {
        json!({ "name": "Conflict in Inventory Adjustment", "type": "ir.actions.act_window",
            "res_model": "stock.inventory.conflict", "context": { "default_quant_ids": [901, 902],
            "default_quant_to_fix_ids": fix } })
    };
    let one = outcomes((200, conflict(json!([902]))), &rows).await.unwrap();
    assert_eq!(one, [RowOutcome::Untouched, RowOutcome::Stale]);
    let all = outcomes((200, conflict(json!(null))), &rows).await.unwrap();
    assert_eq!(all, [RowOutcome::Stale, RowOutcome::Stale]);
    let wizard = json!({ "res_model": "stock.track.confirmation", "context": {} });
    let asks = outcomes((200, wizard), &rows).await;
    assert!(matches!(asks, Err(PushError::Suspect(why)) if why.contains("lot")));
}

/// A delivery between the reading and the count takes what was reserved with it: to count that again would
/// put shipped units on sale.
#[tokio::test]
async fn what_moved_before_the_count_is_not_set() {
    let quants = vec![json!([quant(33, None, 7.0, 2.0)]), json!([quant(33, None, 5.0, 0.0)])];
    let fake = database(quants, (200, Value::Null)).await;
    let outcomes = client(&fake).set(&[row("33", 5, 17)], "a").await.unwrap().value;
    assert_eq!(outcomes, [RowOutcome::Stale]);
    assert_eq!(bodies(&fake, APPLY), Vec::<Value>::new());
}

/// A fault may come after the count was applied: then the shelf is read, and not counted once more.
#[tokio::test]
async fn a_fault_after_the_count_is_read_back() {
    let before = json!([quant(33, None, 7.0, 2.0)]);
    let after = json!([quant(33, None, 19.0, 2.0)]);
    let fake = database(vec![before.clone(), before, after], (500, json!("<html>"))).await;
    let client = client(&fake);
    let rows = [row("33", 5, 17)];
    assert!(matches!(client.set(&rows, "a").await, Err(PushError::Unknown(_))));
    assert_eq!(client.set(&rows, "a").await.unwrap().value, [RowOutcome::Confirmed]);
    assert_eq!(bodies(&fake, APPLY).len(), 1);
}

/// What the name of the exception says counts more than the status.
#[tokio::test]
async fn errors_are_taken_for_what_they_are() {
    let rows = [row("33", 5, 17)];
    let error = |name: &str| json!({ "name": name, "message": "no", "debug": "Traceback" });
    let of = |status, name| outcomes((status, error(name)), &rows);
    let undone = of(503, "psycopg2.errors.SerializationFailure").await;
    assert!(matches!(undone, Err(PushError::Refused(_))), "{undone:?}");
    let denied = of(403, "odoo.exceptions.AccessError").await;
    assert!(matches!(denied, Err(PushError::Unauthorised(why)) if why.contains("right")));
    for name in ["odoo.exceptions.UserError", "odoo.exceptions.ValidationError"] {
        assert!(matches!(of(422, name).await, Err(PushError::Suspect(_))));
    }
    assert!(matches!(of(404, "werkzeug.exceptions.NotFound").await, Err(PushError::Refused(_))));
    assert!(matches!(of(429, "").await, Err(PushError::Limited { .. })));
    assert!(matches!(of(200, "").await, Err(PushError::Suspect(_))));
}

/// A count that may have been made is none that was applied.
#[tokio::test]
async fn nothing_is_set_before_it_is_applied() {
    let fake = Fake::always(504, "<html>").await;
    let refused = client(&fake).set(&[row("33", 5, 17)], "a").await;
    assert!(matches!(refused, Err(PushError::Refused(_))), "{refused:?}");
}

/// Lots, packages and owners lie in quants of their own: what is shown is their sum.
#[tokio::test]
async fn several_quants_are_one_quantity() {
    let quants = json!([
        quant(33, Some(1), 4.0, 1.0),
        quant(33, None, 2.5, 0.0),
        quant(33, Some(2), 3.0, 2.0)
    ]);
    let fake = database(vec![quants], (200, Value::Null)).await;
    let client = client(&fake);
    let place = row("33", 0, 0).place;
    let unknown = row("99", 0, 0).place;
    assert_eq!(client.read(&[place, unknown]).await.unwrap().value, [Some(6), Some(0)]);
    let wrong = row("TEE-M", 0, 0).place;
    assert!(
        matches!(client.read(&[wrong]).await, Err(PushError::Suspect(why)) if why.contains("number"))
    );
}

/// Fewer are taken where nothing is known of them first, and never where they are promised.
#[test]
fn counts_add_up() {
    let at = (33, 8);
    let parsed = |value: Value| serde_json::from_value::<Quant>(value).unwrap();
    let lots = [
        parsed(quant(33, Some(1), 4.0, 1.0)),
        parsed(quant(33, None, 2.0, 0.0)),
        parsed(quant(33, Some(2), 3.0, 2.0)),
    ];
    let plain =
        |units: f64| json!({ "product_id": 33, "location_id": 8, "inventory_quantity": units });
    let lot = |lot: u64, units: f64| json!({ "product_id": 33, "location_id": 8, "inventory_quantity": units, "lot_id": lot });
    // Six are free.
    assert_eq!(counts(at, 6.0, &lots), Vec::<Value>::new());
    assert_eq!(counts(at, 9.0, &lots), [plain(5.0)]);
    assert_eq!(counts(at, 5.0, &lots), [plain(1.0)]);
    assert_eq!(counts(at, 2.0, &lots), [plain(0.0), lot(1, 2.0)]);
    assert_eq!(counts(at, 0.0, &lots), [plain(0.0), lot(1, 1.0), lot(2, 2.0)]);
    assert_eq!(counts(at, 4.0, &[]), [plain(4.0)]);
    assert_eq!(counts(at, 5.0, &lots[..1]), [lot(1, 6.0)]);
}
