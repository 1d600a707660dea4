//! What the seller account tells, and whether it adds up to what it says a ledger must hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use marketplace::{
    amazon::{Account, Expected, ExpectedBySku, Faults, Item, Kind, Options, order_id},
    sqs::{self, What},
};
use serde_json::{Value, json};

use crate::{
    sns,
    support::{call, open, receive, soon},
};

pub(crate) fn items(count: u32, units: i64) -> Vec<Item> {
    (1..=count).map(|n| Item { sku: format!("SKU-{n}"), units }).collect()
}

pub(crate) fn seller() -> Options {
    Options { items: items(2, 10), ..Options::new("A0EXAMPLESELLER") }
}

/// An account and the queue that it sends into.
pub(crate) async fn start(options: Options) -> (Account, sqs::Queue) {
    let queue = open(crate::support::options()).await;
    (Account::start(options, queue.clone()).await.unwrap(), queue)
}

/// Receives and deletes until nothing is left; every body as it came.
async fn drain(queue: &sqs::Queue) -> Vec<Value> {
    let mut bodies = Vec::new();
    while !queue.counts().is_empty() {
        let (mut entries, mut id) = (Vec::new(), 0);
        for message in receive(queue).await {
            bodies.push(serde_json::from_str(message["Body"].as_str().unwrap()).unwrap());
            id += 1;
            entries.push(json!({"Id": id.to_string(), "ReceiptHandle": message["ReceiptHandle"]}));
        }
        if !entries.is_empty() {
            let answer = call(queue, "DeleteMessageBatch", json!({"Entries": entries})).await;
            assert_eq!(answer.body["Failed"], json!([]));
        }
    }
    bodies
}

/// A notification out of whatever it is wrapped in.
fn unwrapped(mut body: Value) -> Value {
    if body["Type"] == "Notification" {
        body = serde_json::from_str(body["Message"].as_str().unwrap()).unwrap();
    }
    if body.get("detail").is_some() { body["detail"].take() } else { body }
}

fn order_changes(bodies: &[Value]) -> Vec<Value> {
    let bodies = bodies.iter().cloned().map(unwrapped);
    bodies.filter(|body| body["NotificationType"] == "ORDER_CHANGE").collect()
}

fn change(body: &Value) -> &Value {
    &body["Payload"]["OrderChangeNotification"]
}

/// The same members with the same types, whatever the values.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            members.iter().map(|(name, member)| (name.clone(), shape(member))).collect()
        }
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::String(_) => json!("text"),
        Value::Number(_) => json!("number"),
        other => other.clone(),
    }
}

fn notification(kind: &str, payload: &Value) -> Value {
    json!({
        "NotificationVersion": "1.0", "NotificationType": kind, "PayloadVersion": "1.0",
        "EventTime": "2026-11-20T15:00:04.500Z", "Payload": payload,
        "NotificationMetadata": {
            "ApplicationId": "amzn1.sellerapps.app.0", "SubscriptionId": "5b7c1b1e",
            "PublishTime": "2026-11-20T15:00:05.001Z", "NotificationId": "d0e9e693",
        },
    })
}

/// A parser written against the published schemas must find all it needs, in the real types.
#[tokio::test]
async fn notifications_have_the_published_shapes() {
    let (account, queue) = start(seller()).await;
    account.sell(&[("SKU-1", 2)]).unwrap();
    account.tell_feed_finished("53347018456", "DONE");
    let mut bodies = drain(&queue).await;
    let item = json!({
        "OrderItemId": "12345678901234", "SellerSKU": "TEE-M", "SupplySourceId": null,
        "Quantity": 2, "QuantityShipped": 0,
    });
    let order = json!({"OrderChangeNotification": {
        "NotificationLevel": "OrderLevel", "SellerId": "A0EXAMPLESELLER",
        "AmazonOrderId": "114-1234567-1234567", "OrderChangeType": "OrderStatusChange",
        "OrderChangeTrigger": {
            "TimeOfOrderChange": "2026-11-20T15:00:03.000Z", "ChangeReason": "Order Status Change",
        },
        "Summary": {
            "MarketplaceId": "ATVPDKIKX0DER", "OrderStatus": "Unshipped",
            "PurchaseDate": "2026-11-20T14:58:00.000Z", "DestinationPostalCode": null,
            "FulfillmentType": "MFN", "OrderType": "StandardOrder",
            "NumberOfItemsShipped": 0, "NumberOfItemsUnshipped": 2, "OrderItems": [item],
        },
    }});
    assert_eq!(shape(&bodies[0]), shape(&notification("ORDER_CHANGE", &order)));
    let quantity = json!({
        "SellerId": "A0EXAMPLESELLER", "FulfillmentChannelCode": "DEFAULT", "Sku": "SKU-1",
        "Quantity": 8,
    });
    let detail = bodies[1]["detail"].take();
    assert_eq!(detail["Payload"], quantity);
    let expected = notification("LISTINGS_ITEM_MFN_QUANTITY_CHANGE", &quantity);
    assert_eq!(shape(&detail), shape(&expected));
    let envelope = json!({
        "version": "0", "id": "6a7e8feb", "detail-type": "LISTINGS_ITEM_MFN_QUANTITY_CHANGE",
        "source": "aws.partner/sellingpartnerapi.amazon.com/123456789012/amzn1.sellerapps.app.0",
        "account": "123456789012", "time": "2026-11-20T15:00:05Z", "region": "us-east-1",
        "resources": [], "detail": null,
    });
    assert_eq!(shape(&bodies[1]), shape(&envelope));
    assert_eq!(bodies[1]["detail-type"], Kind::QuantityChange.as_str());
    let feed = json!({
        "notificationVersion": "2020-09-04", "notificationType": "FEED_PROCESSING_FINISHED",
        "payloadVersion": "2020-09-04", "eventTime": "2026-11-20T15:10:00.000Z",
        "payload": {"feedProcessingFinishedNotification": {
            "sellerId": "A0EXAMPLESELLER", "accountId": "amzn1.merchant.o.A0EXAMPLESELLER",
            "feedId": "53347018456", "feedType": "JSON_LISTINGS_FEED", "processingStatus": "DONE",
            "resultFeedDocumentId": "amzn1.tortuga.4.na.0001",
        }},
        "notificationMetadata": {
            "applicationId": "amzn1.sellerapps.app.0", "subscriptionId": "5b7c1b1e",
            "publishTime": "2026-11-20T15:00:05.001Z", "notificationId": "d0e9e693",
        },
    });
    assert_eq!(shape(&bodies[2]), shape(&feed));
    assert_eq!(bodies[2]["notificationType"], "FEED_PROCESSING_FINISHED");
}

/// Each step of an order is told with the whole order as it is then, later than the step before.
#[tokio::test]
async fn an_order_lives_through_its_states() {
    let (account, queue) = start(seller()).await;
    let order = account.sell(&[("SKU-1", 2), ("SKU-2", 1)]).unwrap();
    account.confirm(order).unwrap();
    account.request_cancel(order).unwrap();
    account.ship(order, 2).unwrap();
    account.ship(order, u32::MAX).unwrap();
    assert!(account.cancel(order).is_err());
    let canceled = account.sell(&[("SKU-1", 3)]).unwrap();
    account.cancel(canceled).unwrap();
    assert!(account.confirm(canceled).is_err());
    account.sell_amazon_fulfilled(&[("SKU-1", 4)]).unwrap();
    let changes = order_changes(&drain(&queue).await);
    let told: Vec<_> = changes
        .iter()
        .map(|body| {
            let change = change(body);
            let summary = &change["Summary"];
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (
                text(&summary["OrderStatus"]),
                summary["NumberOfItemsShipped"].as_u64().unwrap(),
                summary["NumberOfItemsUnshipped"].as_u64().unwrap(),
                text(&summary["FulfillmentType"]),
            )
        })
        .collect();
    let expected = [
        ("Pending", 0, 3, "MFN"),
        ("Unshipped", 0, 3, "MFN"),
        ("Unshipped", 0, 3, "MFN"),
        ("PartiallyShipped", 2, 1, "MFN"),
        ("Shipped", 3, 0, "MFN"),
        ("Pending", 0, 3, "MFN"),
        ("Canceled", 0, 0, "MFN"),
        ("Pending", 0, 4, "AFN"),
    ];
    assert_eq!(told, expected.map(|(a, b, c, d)| (a.to_owned(), b, c, d.to_owned())));
    let request = change(&changes[2]);
    assert_eq!(request["OrderChangeType"], "BuyerRequestedChange");
    assert_eq!(request["Summary"]["OrderItems"][0]["IsBuyerRequestedCancel"], json!(true));
    assert_eq!(change(&changes[0])["AmazonOrderId"], json!(order_id(order)));
    let times: BTreeSet<&str> =
        changes[..5].iter().map(|body| body["EventTime"].as_str().unwrap()).collect();
    assert_eq!(times.len(), 5);
    assert_eq!(account.expected()["SKU-1"], Expected { sold: 5, cancelled: 3, fulfilled: 2 },);
    assert_eq!(account.expected()["SKU-2"].fulfilled, 1);
    // What Amazon ships is not the seller's, and what is cancelled is not sold again.
    assert_eq!((account.left("SKU-1"), account.left("SKU-2")), (Some(5), Some(9)));
}

/// A parser that takes a message of one item for the whole order would drop the others.
#[tokio::test]
async fn item_level_messages_carry_one_item_each() {
    let faults = Faults { item_level: 1.0, ..Faults::default() };
    let (account, queue) = start(Options { faults, ..seller() }).await;
    let order = account.sell(&[("SKU-1", 2), ("SKU-2", 1)]).unwrap();
    account.confirm(order).unwrap();
    account.ship(order, 1).unwrap();
    let changes = order_changes(&drain(&queue).await);
    let told: Vec<_> = changes
        .iter()
        .map(|body| {
            let change = change(body);
            assert_eq!(change["NotificationLevel"], "OrderItemLevel");
            let items = change["Summary"]["OrderItems"].as_array().unwrap();
            assert_eq!(items.len(), 1);
            (items[0]["SellerSKU"].clone(), items[0]["QuantityShipped"].clone())
        })
        .collect();
    let expected = [("SKU-1", 0), ("SKU-2", 0), ("SKU-1", 0), ("SKU-2", 0), ("SKU-1", 1)];
    assert_eq!(told, expected.map(|(sku, shipped)| (json!(sku), json!(shipped))));
}

/// The same notification in another envelope is the same notification.
#[tokio::test]
async fn a_topic_wraps_what_goes_through_it() {
    let faults = Faults { topic: 1.0, ..Faults::default() };
    let topic = Some(sns::topic());
    let (account, queue) = start(Options { faults, topic, ..seller() }).await;
    account.sell(&[("SKU-1", 1)]).unwrap();
    let bodies = drain(&queue).await;
    assert!(bodies.iter().all(|body| body["Signature"].is_string()), "{bodies:?}");
    let kinds: Vec<Value> =
        bodies.into_iter().map(|body| unwrapped(body)["NotificationType"].clone()).collect();
    assert_eq!(kinds, [Kind::OrderChange.as_str(), Kind::QuantityChange.as_str()]);
}

/// A copy is a copy, id and all; what is dropped is nowhere in the queue, and the account knows.
#[tokio::test]
async fn notifications_are_doubled_delayed_and_dropped() {
    let (account, queue) = start(seller()).await;
    let faults = |duplicate, delay, dropped| {
        let delay_max = Duration::from_secs(600);
        Faults { duplicate, delay, delay_max, dropped, ..Faults::default() }
    };
    account.set_faults(faults(1.0, 0.0, 0.0));
    let order = account.sell(&[("SKU-1", 1)]).unwrap();
    let bodies = drain(&queue).await;
    assert_eq!((bodies.len(), &bodies[0]), (4, &bodies[1]));
    account.set_faults(faults(0.0, 1.0, 0.0));
    account.confirm(order).unwrap();
    assert_eq!(queue.counts().delayed, 1);
    account.set_faults(faults(0.0, 0.0, 1.0));
    account.cancel(order).unwrap();
    assert_eq!(queue.counts().visible, 0);
    let copies: Vec<usize> = account.history().into_iter().map(|told| told.copies).collect();
    assert_eq!(copies, [2, 2, 1, 0]);
    let ids: BTreeSet<String> =
        account.history().into_iter().map(|told| told.notification_id).collect();
    assert_eq!(ids.len(), 4);
    assert_eq!(account.expected()["SKU-1"].cancelled, 1);
}

/// A ledger in its simplest form: of each item of an order the newest word.
fn ledger(bodies: &[Value]) -> ExpectedBySku {
    let mut newest: BTreeMap<String, (String, Value, bool)> = BTreeMap::new();
    for body in order_changes(bodies) {
        let summary = &change(&body)["Summary"];
        if summary["FulfillmentType"] == "AFN" {
            continue;
        }
        let at = body["EventTime"].as_str().unwrap().to_owned();
        for item in summary["OrderItems"].as_array().unwrap() {
            let id = item["OrderItemId"].as_str().unwrap().to_owned();
            if newest.get(&id).is_none_or(|(before, ..)| *before <= at) {
                let canceled = summary["OrderStatus"] == "Canceled";
                newest.insert(id, (at.clone(), item.clone(), canceled));
            }
        }
    }
    let mut ledger = ExpectedBySku::new();
    for (_, item, canceled) in newest.into_values() {
        let sku = ledger.entry(item["SellerSKU"].as_str().unwrap().to_owned()).or_default();
        let quantity = item["Quantity"].as_i64().unwrap();
        sku.sold += quantity;
        sku.cancelled += if canceled { quantity } else { 0 };
        sku.fulfilled += item["QuantityShipped"].as_i64().unwrap();
    }
    ledger
}

pub(crate) fn busy() -> Options {
    let faults = Faults {
        duplicate: 0.2,
        delay: 0.5,
        delay_max: Duration::from_millis(30),
        item_level: 0.3,
        topic: 0.3,
        amazon_fulfilled: 0.2,
        cancel: 0.2,
        cancel_request: 0.2,
        ship: 0.6,
        partial: 0.5,
        step_after_max: Duration::from_millis(20),
        feed: 0.1,
        ..Faults::default()
    };
    let topic = Some(sns::topic());
    Options { items: items(20, 30), orders_per_second: 2000.0, topic, faults, ..seller() }
}

/// Late, doubled, reordered, wrapped and split: what the account says a ledger must hold is what its
/// notifications add up to, and never more than there was to sell.
#[tokio::test]
async fn notifications_add_up_to_what_is_expected() {
    let queue = open(sqs::Options {
        faults: sqs::Faults { twice: 0.2, shuffle: 10, ..sqs::Faults::default() },
        ..crate::support::options()
    })
    .await;
    let account = Account::start(busy(), queue.clone()).await.unwrap();
    soon(account.wait_until(|stats| stats.orders >= 150)).await;
    account.stop_selling();
    soon(account.wait_until(|stats| stats.changes_due == 0)).await;
    assert!(account.is_idle());
    let bodies = soon(drain(&queue)).await;
    let (stats, expected) = (account.stats(), account.expected());
    assert!(stats.duplicates > 0 && stats.amazon_fulfilled > 0, "{stats:?}");
    let all = expected.values().copied().reduce(|a, b| Expected {
        sold: a.sold + b.sold,
        cancelled: a.cancelled + b.cancelled,
        fulfilled: a.fulfilled + b.fulfilled,
    });
    let all = all.unwrap();
    assert!(all.cancelled > 0 && all.fulfilled > 0 && all.committed() > 0, "{all:?}");
    assert!(expected.values().all(|sku| sku.sold <= 30), "{expected:?}");
    let mut sold = expected.clone();
    sold.retain(|_, sku| sku.sold > 0);
    assert_eq!(ledger(&bodies), sold);
    let missed = queue.history().iter().filter(|event| event.what == What::DeleteMissed).count();
    assert!(missed > 0);
    soon(account.shutdown()).await;
}

/// The same seed must ask for the same orders, or no failure can be looked at twice.
#[tokio::test]
async fn the_same_seed_brings_the_same_buyers() {
    let run = async |seed: u64| {
        let (account, queue) = start(Options { seed, faults: Faults::default(), ..busy() }).await;
        soon(account.wait_until(|stats| stats.orders >= 50)).await;
        account.stop_selling();
        let bodies = drain(&queue).await;
        let changes = order_changes(&bodies);
        let items = changes.iter().take(50).map(|body| {
            let items = change(body)["Summary"]["OrderItems"].as_array().unwrap();
            let item = |item: &Value| (item["SellerSKU"].clone(), item["Quantity"].clone());
            items.iter().map(item).collect::<Vec<_>>()
        });
        items.collect::<Vec<_>>()
    };
    assert_eq!(run(7).await, run(7).await);
    assert_ne!(run(7).await, run(8).await);
}
