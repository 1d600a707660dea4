//! Promise: what Amazon says is understood in every envelope, and alike in notifications and answers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod common;
#[path = "common/payloads.rs"]
mod payloads;

use channels::amazon::{self, poll};
use channels::{Parsed, Understood};
use common::{golden, parsed};
use payloads::{assert_dead, assert_sound, facts, sample, sample_json};
use proptest::prelude::*;
use serde_json::{Value, json};
use state::command::Fact;
use state::order::LineImage;

const NOTIFICATIONS: [&str; 6] = [
    "FBA_INVENTORY_AVAILABILITY_CHANGES.json",
    "FEED_PROCESSING_FINISHED.json",
    "LISTINGS_ITEM_MFN_QUANTITY_CHANGE.json",
    "ORDER_CHANGE.json",
    "ORDER_CHANGE_canceled.json",
    "envelope_eventbridge.json",
];
/// What a queue answers; a message of it is read.
const RECEIVED: &str = "envelope_sqs_ReceiveMessage.json";

const NOT_PARSED: [(&str, &str); 4] = [
    ("createDestination_sqs_request.json", "what we ask for, not what we are told"),
    ("createFeed_request.json", "what we ask for, not what we are told"),
    ("createSubscription_ORDER_CHANGE_request.json", "what we ask for, not what we are told"),
    ("error_429.json", "an error of the API, read by whoever called it"),
];

const ARN: &str = "arn:aws:sns:us-east-1:123456789012:orders";

fn of_queue(message: &Value) -> Parsed {
    amazon::notification(message.to_string().as_bytes())
}

fn of_topic(envelope: &Value) -> Parsed {
    parsed(|_, body| amazon::parse(body), &[], envelope.to_string().as_bytes())
}

/// An envelope of SNS around this text.
fn envelope(kind: &str, message: &str) -> Value {
    json!({
        "Type": kind, "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324", "TopicArn": ARN,
        "Message": message, "Timestamp": "2026-11-20T15:00:06.000Z", "SignatureVersion": "2",
        "Signature": "c2lnbmF0dXJl", "Token": "2336412f37",
        "SigningCertURL": "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem",
        "SubscribeURL": format!("https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={ARN}&Token=2336412f37"),
    })
}

fn event(notification: &Value) -> Value {
    json!({"version": "0", "id": "6a7e8feb", "detail-type": "ORDER_CHANGE", "resources": [],
        "detail": notification})
}

/// The sample `ORDER_CHANGE` with this done to its summary.
fn change_with(change: impl FnOnce(&mut Value)) -> Value {
    let mut told = sample_json("amazon", "ORDER_CHANGE.json");
    change(&mut told["Payload"]["OrderChangeNotification"]["Summary"]);
    told
}

/// A notification for a golden file: what is hashed is JSON again.
fn shown(parsed: Parsed) -> String {
    let essence = parsed.essence.as_deref().map(serde_json::from_slice::<Value>);
    let essence = essence.transpose().unwrap().unwrap_or_default();
    format!("{:#?}\n{essence:#}", Parsed { essence: None, ..parsed })
}

fn lines(understood: Understood) -> Vec<LineImage> {
    match facts(understood).remove(0) {
        Fact::Image { whole: false, lines, .. } => lines,
        other => panic!("{other:?}"),
    }
}

/// An order of the API 2026-01-01.
fn api_order(status: &str, items: &[Value]) -> Value {
    json!({
        "orderId": "114-1234567-1234567", "createdTime": "2026-11-20T14:58:00Z",
        "lastUpdatedTime": "2026-11-20T15:00:04.500Z", "salesChannel": {"channelName": "AMAZON"},
        "fulfillment": {"fulfillmentStatus": status, "fulfilledBy": "MERCHANT"},
        "orderItems": items,
    })
}

fn by_api(order: &Value) -> Understood {
    poll::order(json!({"order": order}).to_string().as_bytes()).unwrap().understood
}

// A change of a parser that nobody meant would move other stock than yesterday.
#[test]
fn samples_mean_what_they_meant() {
    for file in NOTIFICATIONS {
        golden("amazon", file, &shown(amazon::notification(&sample("amazon", file))));
    }
    let answer = sample_json("amazon", RECEIVED);
    let message = answer["Messages"][0]["Body"].as_str().unwrap();
    golden("amazon", RECEIVED, &shown(amazon::notification(message.as_bytes())));
    let parsed: Vec<&str> = NOTIFICATIONS.into_iter().chain([RECEIVED]).collect();
    payloads::assert_all_named("amazon", &parsed, &NOT_PARSED);
}

// A notification may come through a queue and through a topic, by itself or in an event. Under two ids, or
// as two bodies of one id, it would count twice or be called a conflict.
#[test]
fn a_notification_is_the_same_in_every_envelope() {
    for file in NOTIFICATIONS.into_iter().filter(|file| !file.starts_with("envelope")) {
        let told = sample_json("amazon", file);
        let plain = of_queue(&told);
        assert!(plain.id.is_some() && plain.essence.is_some(), "{file}");
        assert_eq!(of_queue(&event(&told)), plain, "{file} in an event");
        for inner in [&told, &event(&told)] {
            let wrapped = envelope("Notification", &inner.to_string());
            assert_eq!(of_topic(&wrapped), plain, "{file} through a topic");
            assert_eq!(of_queue(&wrapped), plain, "{file} through a topic into a queue");
        }
    }
    let mut nameless = sample_json("amazon", "ORDER_CHANGE.json");
    nameless.as_object_mut().unwrap().remove("NotificationMetadata");
    let wrapped = of_topic(&envelope("Notification", &nameless.to_string()));
    assert_eq!(wrapped.id.as_deref(), Some("22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324"));
    assert_eq!(of_queue(&nameless).id, None);
}

// A visit of a URL that somebody else chose is a request on his behalf.
#[test]
fn only_a_subscription_is_confirmed_and_only_at_sns() {
    let asked = envelope("SubscriptionConfirmation", "You have chosen to subscribe.");
    let url = asked["SubscribeURL"].as_str().unwrap();
    assert_eq!(of_topic(&asked).understood, Understood::Confirm(url.into()));
    for other in [
        "http://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription",
        "https://sns.us-east-1.amazonaws.com.example.com/?Action=ConfirmSubscription",
        "https://sns.us-east-1.amazonaws.com@example.com/?Action=ConfirmSubscription",
        "https://sns.us-east-1.amazonaws.com:8443/?Action=ConfirmSubscription",
        "https://sns.us-east-1.amazonaws.com/?Action=DeleteTopic",
        "https://sns.us-east-1.amazonaws.com/path?Action=ConfirmSubscription",
        "https://169.254.169.254/?Action=ConfirmSubscription",
    ] {
        let mut asked = asked.clone();
        asked["SubscribeURL"] = other.into();
        assert_dead(&of_topic(&asked).understood, "SubscribeURL");
    }
    let ended = of_topic(&envelope("UnsubscribeConfirmation", "You have chosen to leave."));
    assert!(matches!(ended.understood, Understood::Ignored(_)), "{ended:?}");
    // In a queue nothing vouches for the URL but that somebody could write there.
    assert!(matches!(of_queue(&asked).understood, Understood::Dead(_)));
}

// Amazon lowers its own quantity when an order is placed: one that is pending and not counted is sold
// again elsewhere.
#[test]
fn every_order_that_is_not_cancelled_holds_its_units() {
    for status in [
        "Pending",
        "Unshipped",
        "PartiallyShipped",
        "Shipped",
        "Unfulfillable",
        "InvoiceUnconfirmed",
        "PendingAvailability",
        "SomethingNew",
    ] {
        let told = change_with(|summary| summary["OrderStatus"] = status.into());
        assert_eq!(lines(of_queue(&told).understood)[0].quantity, 2, "{status}");
    }
    for status in ["Canceled", "Cancelled", "CANCELLED"] {
        let told = change_with(|summary| summary["OrderStatus"] = status.into());
        assert_eq!(lines(of_queue(&told).understood)[0].quantity, 0, "{status}");
        // What has left cannot be sold again, whatever becomes of the order.
        let told = change_with(|summary| {
            summary["OrderStatus"] = status.into();
            summary["OrderItems"][0]["QuantityShipped"] = 1.into();
        });
        let line = &lines(of_queue(&told).understood)[0];
        assert_eq!((line.quantity, line.fulfilled), (1, 1), "{status}");
    }
}

// A buyer's wish to cancel is no cancellation: the merchant may have shipped already.
#[test]
fn a_wish_to_cancel_frees_nothing() {
    let told = change_with(|summary| {
        summary["OrderItems"][0]["IsBuyerRequestedCancel"] = true.into();
    });
    assert_eq!(lines(of_queue(&told).understood)[0].quantity, 2);
    let item = json!({"orderItemId": "1", "quantityOrdered": 2, "product": {"sellerSku": "TEE-M"},
        "fulfillment": {"quantityFulfilled": 0, "quantityUnfulfilled": 2},
        "cancellation": {"cancellationRequest": {"requester": "BUYER"}}});
    assert_eq!(lines(by_api(&api_order("UNSHIPPED", &[item])))[0].quantity, 2);
}

// An item cancelled by itself leaves the order's status as it is: its units would be held for good.
#[test]
fn an_item_that_was_cancelled_alone_wants_what_is_shipped_or_to_be_shipped() {
    let quantity = |fulfillment: Value| {
        let item = json!({"orderItemId": "1", "quantityOrdered": 5, "fulfillment": fulfillment,
            "product": {"sellerSku": "TEE-M"},
            "cancellation": {"cancellationExecution": {"cancelledBy": "MERCHANT"}}});
        lines(by_api(&api_order("PARTIALLY_SHIPPED", &[item])))[0].quantity
    };
    assert_eq!(quantity(json!({"quantityFulfilled": 0, "quantityUnfulfilled": 0})), 0);
    assert_eq!(quantity(json!({"quantityFulfilled": 2, "quantityUnfulfilled": 1})), 3);
    assert_eq!(quantity(json!({"quantityFulfilled": 2, "quantityUnfulfilled": 9})), 5);
    assert_eq!(quantity(json!({"quantityFulfilled": 2})), 5, "not told, so held");
}

// Amazon's own warehouses are not the merchant's stock; counted, they would be sold twice.
#[test]
fn what_amazon_ships_is_not_counted() {
    let told = change_with(|summary| summary["FulfillmentType"] = "AFN".into());
    assert!(matches!(of_queue(&told).understood, Understood::Ignored(_)));
    let mut order = api_order("UNSHIPPED", &[]);
    order["fulfillment"]["fulfilledBy"] = "AMAZON".into();
    assert!(matches!(by_api(&order), Understood::Ignored(_)));
    // Without this member nobody could tell.
    order.as_object_mut().unwrap().remove("fulfillment");
    assert_dead(&by_api(&order), "includedData=FULFILLMENT");
    let mut shown = sample_json("amazon", "LISTINGS_ITEM_MFN_QUANTITY_CHANGE.json");
    shown["Payload"]["FulfillmentChannelCode"] = "AMAZON_NA".into();
    assert!(matches!(of_queue(&shown).understood, Understood::Ignored(_)));
}

// A quantity that is shown is an answer to what we said, under the SKU that we said it of.
#[test]
fn a_quantity_that_is_shown_moves_nothing() {
    let told = sample_json("amazon", "LISTINGS_ITEM_MFN_QUANTITY_CHANGE.json");
    let expected = Fact::Shown {
        listing: "TEE-M".into(),
        sku: Some("TEE-M".into()),
        location: None,
        quantity: 17,
        version: 1_795_186_804_500,
    };
    assert_eq!(facts(of_queue(&told).understood), [expected]);
}

// A type that is not known may be one of orders: dropped, its sales would be lost without a trace.
#[test]
fn what_cannot_be_understood_is_kept() {
    for kind in ["MFN_ORDER_STATUS_CHANGE", "ORDER_STATUS_CHANGE", "order_change", ""] {
        let mut told = sample_json("amazon", "ORDER_CHANGE.json");
        told["NotificationType"] = kind.into();
        assert_dead(&of_queue(&told).understood, "is unknown");
    }
    let mut offer = sample_json("amazon", "ORDER_CHANGE.json");
    offer["NotificationType"] = "ANY_OFFER_CHANGED".into();
    assert!(matches!(of_queue(&offer).understood, Understood::Ignored(_)));
    let many = change_with(|summary| {
        let item = summary["OrderItems"][0].clone();
        summary["OrderItems"] = vec![item; 1_001].into();
    });
    assert_dead(&of_queue(&many).understood, "more than 1000 lines");
    let long =
        change_with(|summary| summary["OrderItems"][0]["SellerSKU"] = "x".repeat(257).into());
    assert_dead(&of_queue(&long).understood, "a SKU is longer");
    for body in [&b""[..], b"[]", b"null", b"{}", b"{\"detail\": 5}", b"\xff"] {
        let understood = amazon::notification(body).understood;
        assert!(matches!(understood, Understood::Dead(_)), "{understood:?}");
    }
    for body in [&sample("amazon", "error_429.json")[..], b"[]", b"{}", b""] {
        assert!(poll::orders(body).is_err() && poll::order(body).is_err());
    }
}

// One order that is not understood must not keep the rest of its page from being told.
#[test]
fn a_page_says_how_it_goes_on() {
    let mut bad = api_order("UNSHIPPED", &[json!({"orderItemId": "1", "quantityOrdered": -1})]);
    bad["lastUpdatedTime"] = "2026-11-20T16:00:04.500Z".into();
    let good = api_order("UNSHIPPED", &[json!({"orderItemId": "1", "quantityOrdered": 1})]);
    let answer = json!({"orders": [bad, good], "pagination": {"nextToken": "token"}});
    let page = poll::orders(answer.to_string().as_bytes()).unwrap();
    assert_dead(&page.told[0].understood, "out of range");
    assert_eq!(lines(page.told[1].understood.clone())[0].quantity, 1);
    assert_eq!((page.next.as_deref(), page.newest_ms), (Some("token"), Some(1_795_190_404_500)));
    let last = json!({"orders": []}).to_string();
    assert_eq!(poll::orders(last.as_bytes()).unwrap().next, None);
}

const STATUSES: [(&str, &str); 7] = [
    ("Pending", "PENDING"),
    ("PendingAvailability", "PENDING_AVAILABILITY"),
    ("Unshipped", "UNSHIPPED"),
    ("PartiallyShipped", "PARTIALLY_SHIPPED"),
    ("Shipped", "SHIPPED"),
    ("Canceled", "CANCELLED"),
    ("Unfulfillable", "UNFULFILLABLE"),
];

fn any_body() -> impl Strategy<Value = Value> {
    let bodies = NOTIFICATIONS.iter().map(|file| sample_json("amazon", file));
    let order = sample_json("amazon", "ORDER_CHANGE.json").to_string();
    let wrapped = ["Notification", "SubscriptionConfirmation"].map(|kind| envelope(kind, &order));
    let item = json!({"orderItemId": "1", "quantityOrdered": 2, "product": {"sellerSku": "TEE-M"},
        "fulfillment": {"quantityFulfilled": 0, "quantityUnfulfilled": 2},
        "cancellation": {"cancellationExecution": {}}});
    let page = json!({"orders": [api_order("SHIPPED", &[item])], "pagination": {"nextToken": "t"}});
    let bodies: Vec<Value> = bodies.chain(wrapped).chain([page]).collect();
    prop::sample::select(bodies).prop_flat_map(payloads::spoilt)
}

proptest! {
    #![proptest_config(payloads::cases())]

    // A lost notification is made good by a poll; if both said different things of the same moment,
    // whichever came second would move stock again.
    #[test]
    fn both_roads_say_the_same(
        (status, items) in (
            prop::sample::select(&STATUSES[..]),
            prop::collection::vec(("[A-Z]{0,3}", 0..5_i64, 0..5_i64), 0..5),
        ),
    ) {
        let items: Vec<_> = items.iter().map(|(sku, shipped, more)| (sku, *shipped, shipped + more)).collect();
        let told = change_with(|summary| {
            summary["OrderStatus"] = status.0.into();
            let items = items.iter().enumerate().map(|(n, (sku, shipped, ordered))| {
                json!({"OrderItemId": n.to_string(), "SellerSKU": sku, "SupplySourceId": null,
                    "Quantity": ordered, "QuantityShipped": shipped})
            });
            summary["OrderItems"] = items.collect::<Vec<_>>().into();
        });
        let by_item = items.iter().enumerate().map(|(n, (sku, shipped, ordered))| {
            json!({"orderItemId": n.to_string(), "quantityOrdered": ordered,
                "product": {"sellerSku": sku},
                "fulfillment": {"quantityFulfilled": shipped, "quantityUnfulfilled": ordered - shipped}})
        });
        let by_item: Vec<Value> = by_item.collect();
        let by_notification = of_queue(&told).understood;
        prop_assert_eq!(&by_notification, &by_api(&api_order(status.1, &by_item)));
        let images = lines(by_notification).into_iter();
        let counted = images.map(|line| (line.quantity, line.fulfilled));
        let cancelled = status.0 == "Canceled";
        let expected = items.iter().map(|(_, shipped, ordered)| (if cancelled { *shipped } else { *ordered }, *shipped));
        prop_assert!(counted.eq(expected));
    }

    // Whoever may write to a queue or a topic must not be able to stop the node.
    #[test]
    fn any_body_is_survived(body in any_body(), bytes: Vec<u8>) {
        let text = body.to_string();
        assert_sound(&of_queue(&body).understood);
        assert_sound(&of_topic(&body).understood);
        assert_sound(&of_topic(&envelope("Notification", &text)).understood);
        if let Ok(page) = poll::orders(text.as_bytes()) {
            page.told.iter().for_each(|told| assert_sound(&told.understood));
        }
        if let Ok(told) = poll::order(text.as_bytes()) {
            assert_sound(&told.understood);
        }
        assert_sound(&amazon::notification(&bytes).understood);
        let _ = (poll::orders(&bytes), poll::order(&bytes));
    }
}
