//! What each kind tells of an order at one moment: by webhooks, and when its API is asked.

use channels::poll::{Page, Told};
use channels::{Parsed, Verified};
use channels::{amazon, ebay, generic, odoo, shopify, walmart, woocommerce};
use hyper::HeaderMap;
use serde_json::{Value, json};
use stockraft::clock::rfc3339;

use crate::life::{Done, Fate, Line, Manner, Order, Parcel, Part, Returns, SKUS};

/// One kind.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) manner: Manner,
    /// The channel's id of what is sold: what its payloads name beside the SKU, or in its place.
    pub(crate) listing: fn(usize) -> String,
    pub(crate) webhooks: fn(&Order) -> Vec<Webhook>,
    /// Whether these alone tell all of this step.
    pub(crate) tells: fn(&Order) -> bool,
    /// What the API answers then; nothing where there is none.
    pub(crate) polled: Option<fn(&Order) -> Vec<Told>>,
    pub(crate) parse: fn(&HeaderMap, Verified<'_>) -> Parsed,
}

/// A webhook: its topic, where that is a header, and its body.
#[derive(Clone, Debug)]
pub(crate) struct Webhook {
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Value,
}

const UNITS: Manner = Manner {
    cancel: Part::Units,
    ship: Part::Units,
    edits: false,
    returns: Returns::Restocked,
    late_cancel: true,
};

pub(crate) const KINDS: [Kind; 7] = [
    Kind {
        name: "shopify",
        manner: Manner { edits: true, returns: Returns::Either, ..UNITS },
        listing: |item| format!("gid://shopify/ProductVariant/{}", variant(item)),
        webhooks: shopify_webhooks,
        tells: |_| true,
        polled: Some(shopify_polled),
        parse: shopify::parse,
    },
    Kind {
        name: "woocommerce",
        manner: Manner { ship: Part::Order, returns: Returns::Either, late_cancel: false, ..UNITS },
        listing: |item| variant(item).to_string(),
        webhooks: |order| {
            let topic = if order.done == Done::Placed { "order.created" } else { "order.updated" };
            let headers = vec![("x-wc-webhook-topic", topic.to_string())];
            vec![Webhook { headers, body: woocommerce_order(order) }]
        },
        tells: |_| true,
        polled: Some(|order| {
            told(woocommerce::poll::orders(
                json!([woocommerce_order(order)]).to_string().as_bytes(),
            ))
        }),
        parse: woocommerce::parse,
    },
    Kind {
        name: "amazon",
        manner: Manner { cancel: Part::Nothing, returns: Returns::Never, ..UNITS },
        listing: |item| SKUS[item].into(),
        webhooks: |order| vec![bare(amazon_notification(order))],
        tells: |_| true,
        polled: Some(amazon_polled),
        parse: |_, body| amazon::notification(body.bytes()),
    },
    Kind {
        name: "ebay",
        manner: Manner {
            cancel: Part::Nothing,
            ship: Part::Lines,
            returns: Returns::Never,
            late_cancel: false,
            ..UNITS
        },
        listing: |item| variant(item).to_string(),
        webhooks: ebay_webhooks,
        tells: |_| false,
        polled: Some(ebay_polled),
        parse: ebay::parse,
    },
    Kind {
        name: "walmart",
        manner: Manner { cancel: Part::Lines, ship: Part::Lines, returns: Returns::Never, ..UNITS },
        listing: |item| SKUS[item].into(),
        webhooks: walmart_webhooks,
        tells: |order| order.done != Done::Shipped,
        polled: Some(walmart_polled),
        parse: walmart::parse,
    },
    Kind {
        name: "odoo",
        manner: Manner { late_cancel: false, ..UNITS },
        listing: |item| variant(item).to_string(),
        webhooks: odoo_webhooks,
        tells: |_| false,
        polled: Some(odoo_polled),
        parse: |headers, body| odoo::parse(headers, body, &odoo_settings()),
    },
    Kind {
        name: "generic",
        manner: Manner { edits: true, returns: Returns::Either, ..UNITS },
        listing: |item| variant(item).to_string(),
        webhooks: generic_webhooks,
        tells: |_| true,
        polled: None,
        parse: |headers, body| generic::parse(headers, body, &generic::Settings::default()),
    },
];

fn variant(item: usize) -> usize {
    40_001 + item
}

fn bare(body: Value) -> Webhook {
    Webhook { headers: Vec::new(), body }
}

fn told(page: Result<Page, String>) -> Vec<Told> {
    page.unwrap().told
}

fn at(ms: u64) -> String {
    rfc3339(ms)
}

/// A time in UTC that does not say so.
fn naive(ms: u64, between: &str) -> String {
    at(ms)[..19].replace('T', between)
}

fn each(order: &Order, line: impl Fn(&Line) -> Value) -> Vec<Value> {
    order.lines.iter().map(line).collect()
}

fn shopify_line(order: &Order, line: &Line, quantity: i64) -> Value {
    let current = line.open() + line.shipped - line.returned - line.kept;
    let place = order.lines.iter().position(|known| known.id == line.id).unwrap();
    json!({
        "id": line.id, "sku": line.named_sku(), "variant_id": variant(order.lines[place].item),
        "quantity": quantity, "current_quantity": current,
        "variant_inventory_management": "shopify",
    })
}

fn shopify_refund(order: &Order, refund: &Parcel, fate: Fate) -> Value {
    let row = |(place, units): &(usize, i64)| {
        let line = &order.lines[*place];
        json!({ "line_item_id": line.id, "quantity": units, "restock_type": restock_type(fate),
            "line_item": shopify_line(order, line, line.ordered) })
    };
    let rows: Vec<Value> = refund.rows.iter().map(row).collect();
    json!({ "id": refund.id, "order_id": order.id, "created_at": at(refund.at_ms),
        "refund_line_items": rows })
}

fn restock_type(fate: Fate) -> &'static str {
    match fate {
        Fate::Cancelled => "cancel",
        Fate::Returned => "return",
        Fate::Kept => "no_restock",
    }
}

fn shopify_shipment(order: &Order, shipment: &Parcel) -> Value {
    let row = |(place, units): &(usize, i64)| shopify_line(order, &order.lines[*place], *units);
    let rows: Vec<Value> = shipment.rows.iter().map(row).collect();
    json!({ "id": shipment.id, "order_id": order.id, "status": "success",
        "created_at": at(shipment.at_ms), "line_items": rows })
}

fn shopify_webhooks(order: &Order) -> Vec<Webhook> {
    let refunds: Vec<Value> =
        order.refunds().map(|(refund, fate)| shopify_refund(order, refund, fate)).collect();
    let shipments: Vec<Value> =
        order.shipments().map(|shipment| shopify_shipment(order, shipment)).collect();
    let body = json!({
        "id": order.id, "updated_at": at(order.at_ms),
        "line_items": each(order, |line| shopify_line(order, line, line.ordered)),
        "refunds": refunds, "fulfillments": shipments,
    });
    let edit = json!({ "order_edit": { "order_id": order.id, "committed_at": at(order.at_ms) } });
    let named = |topic: &str, body: Value| {
        let id = format!("{topic} {} {}", order.id, order.at_ms);
        let headers = vec![
            ("x-shopify-topic", topic.to_string()),
            ("x-shopify-webhook-id", id.replace(' ', "-")),
        ];
        Webhook { headers, body }
    };
    match order.done {
        Done::Placed => vec![named("orders/create", body)],
        Done::Edited => vec![named("orders/edited", edit), named("orders/updated", body)],
        Done::Shipped => vec![
            named("fulfillments/create", shipments.last().unwrap().clone()),
            named("orders/updated", body),
        ],
        Done::Refunded => vec![
            named("refunds/create", refunds.last().unwrap().clone()),
            named("orders/updated", body),
        ],
        Done::Void => vec![
            named("orders/cancelled", body),
            named("refunds/create", refunds.last().unwrap().clone()),
        ],
    }
}

fn shopify_polled(order: &Order) -> Vec<Told> {
    let gid = |kind: &str, id: u64| format!("gid://shopify/{kind}/{id}");
    let list = |nodes: Vec<Value>| json!({ "nodes": nodes, "pageInfo": { "hasNextPage": false } });
    let rows = |parcel: &Parcel| {
        let row = |(place, units): &(usize, i64)| {
            json!({ "lineItem": { "id": gid("LineItem", order.lines[*place].id) }, "quantity": units,
                "restockType": parcel.fate.map(|fate| restock_type(fate).to_uppercase()) })
        };
        list(parcel.rows.iter().map(row).collect())
    };
    let lines = each(order, |line| {
        let variant = u64::try_from(variant(line.item)).unwrap();
        json!({
            "id": gid("LineItem", line.id), "sku": line.named_sku(), "quantity": line.ordered,
            "currentQuantity": line.open() + line.shipped - line.returned - line.kept,
            "isGiftCard": false,
            "variant": { "id": gid("ProductVariant", variant), "inventoryItem": { "tracked": true } },
        })
    });
    let refunds = order.refunds().map(|(refund, _)| {
        json!({ "id": gid("Refund", refund.id), "createdAt": at(refund.at_ms),
            "refundLineItems": rows(refund) })
    });
    let shipments = order.shipments().map(|shipment| {
        json!({ "id": gid("Fulfillment", shipment.id), "createdAt": at(shipment.at_ms),
            "status": "SUCCESS", "fulfillmentLineItems": rows(shipment) })
    });
    let order = json!({ "data": { "order": {
        "id": gid("Order", order.id), "updatedAt": at(order.at_ms), "test": false,
        "lineItems": list(lines),
        "refunds": refunds.collect::<Vec<_>>(), "fulfillments": shipments.collect::<Vec<_>>(),
    } } });
    shopify::poll::order(order.to_string().as_bytes()).unwrap().into_iter().collect()
}

fn woocommerce_order(order: &Order) -> Value {
    let status = match (order.void, order.any_shipped()) {
        (true, _) => "cancelled",
        (_, true) => "completed",
        _ => "processing",
    };
    // A cancelled order gives back the rest by its status, not by a refund.
    let refunded = |place: usize| -> i64 {
        let closing = usize::from(order.void);
        let refunds: Vec<_> = order.refunds().filter(|(_, fate)| *fate != Fate::Kept).collect();
        let counted = refunds.len() - closing;
        let rows = refunds[..counted].iter().flat_map(|(refund, _)| &refund.rows);
        rows.filter(|(row, _)| *row == place).map(|(_, units)| units).sum()
    };
    let lines = order.lines.iter().enumerate().map(|(place, line)| {
        let count = refunded(place);
        let meta = json!({ "key": "_restock_refunded_items", "value": count.to_string() });
        let meta = if count > 0 { vec![meta] } else { Vec::new() };
        json!({ "id": line.id, "product_id": variant(line.item), "variation_id": 0,
            "sku": line.named_sku().unwrap_or(""), "quantity": line.ordered, "meta_data": meta })
    });
    json!({ "id": order.id, "status": status, "date_modified_gmt": naive(order.at_ms, "T"),
        "line_items": lines.collect::<Vec<_>>() })
}

fn amazon_notification(order: &Order) -> Value {
    let items = each(order, |line| {
        json!({ "OrderItemId": line.id.to_string(), "SellerSKU": line.sku(),
            "Quantity": line.ordered, "QuantityShipped": line.shipped })
    });
    let status = if order.void { "Canceled" } else { "Unshipped" };
    json!({
        "NotificationType": "ORDER_CHANGE", "EventTime": at(order.at_ms),
        "NotificationMetadata": { "NotificationId": format!("{}-{}", order.id, order.at_ms) },
        "Payload": { "OrderChangeNotification": {
            "AmazonOrderId": order.id.to_string(),
            "Summary": { "OrderStatus": status, "FulfillmentType": "MFN", "OrderItems": items },
        } },
    })
}

fn amazon_polled(order: &Order) -> Vec<Told> {
    let items = each(order, |line| {
        json!({ "orderItemId": line.id.to_string(), "quantityOrdered": line.ordered,
            "product": { "sellerSku": line.sku() },
            "fulfillment": { "quantityFulfilled": line.shipped, "quantityUnfulfilled": line.open() } })
    });
    let status = if order.void { "CANCELLED" } else { "UNSHIPPED" };
    let order = json!({ "orders": [{
        "orderId": order.id.to_string(), "lastUpdatedTime": at(order.at_ms),
        "fulfillment": { "fulfillmentStatus": status, "fulfilledBy": "MERCHANT" },
        "orderItems": items,
    }] });
    told(amazon::poll::orders(order.to_string().as_bytes()))
}

fn ebay_webhooks(order: &Order) -> Vec<Webhook> {
    if order.done != Done::Placed {
        return Vec::new();
    }
    let notice = |line: &Line| {
        bare(json!({
            "metadata": { "topic": "ORDER_CONFIRMATION" },
            "notification": { "notificationId": format!("n-{}", line.id),
                "eventDate": at(order.at_ms), "data": { "orderId": order.id.to_string() } },
        }))
    };
    order.lines.iter().map(notice).collect()
}

fn ebay_polled(order: &Order) -> Vec<Told> {
    let lines = each(order, |line| {
        let status = if line.shipped > 0 { "FULFILLED" } else { "NOT_STARTED" };
        json!({ "lineItemId": line.id.to_string(), "legacyItemId": variant(line.item).to_string(),
            "legacyVariationId": "0", "sku": line.named_sku(), "quantity": line.ordered,
            "lineItemFulfillmentStatus": status })
    });
    let cancel = if order.void { "CANCELED" } else { "NONE_REQUESTED" };
    let order = json!({ "orderId": order.id.to_string(), "lastModifiedDate": at(order.at_ms),
        "orderPaymentStatus": "PAID", "cancelStatus": { "cancelState": cancel }, "lineItems": lines });
    vec![ebay::poll::order(order.to_string().as_bytes()).unwrap()]
}

fn walmart_webhooks(order: &Order) -> Vec<Webhook> {
    let event = match order.done {
        Done::Placed => "PO_CREATED",
        Done::Refunded | Done::Void => "PO_LINE_AUTOCANCELLED",
        Done::Shipped | Done::Edited => return Vec::new(),
    };
    let lines = each(order, |line| {
        let status = match line {
            Line { shipped: 1.., .. } => "SHIPPED",
            Line { cancelled: 1.., .. } => "CANCELLED",
            _ => "CREATED",
        };
        json!({ "lineNumber": line.id.to_string(), "sku": line.sku(), "status": status,
            "quantity": { "measurementValue": line.ordered.to_string() },
            "statusDate": at(line.at_ms) })
    });
    let payload = json!({ "purchaseOrderId": order.id.to_string(), "orderLines": lines });
    let source = |event: &str| {
        let id = format!("{event}-{}-{}", order.id, order.at_ms);
        json!({ "eventType": event, "eventTime": at(order.at_ms), "eventId": id })
    };
    // Until the older events end, a seller may have subscribed to both.
    vec![
        bare(json!({ "source": source(event), "payload": payload })),
        bare(json!({ "source": source("ORDER_UPDATES"),
            "payload": { "subEventType": event, "order": payload } })),
    ]
}

fn walmart_polled(order: &Order) -> Vec<Told> {
    let lines = each(order, |line| {
        let part = |(status, units): (&str, i64)| json!({ "status": status, "statusQuantity": { "amount": units.to_string() } });
        let parts =
            [("Created", line.open()), ("Shipped", line.shipped), ("Cancelled", line.cancelled)];
        let parts: Vec<Value> = parts.into_iter().filter(|part| part.1 > 0).map(part).collect();
        json!({ "lineNumber": line.id.to_string(), "item": { "sku": line.sku() },
            "orderLineQuantity": { "amount": line.ordered.to_string() }, "statusDate": line.at_ms,
            "orderLineStatuses": { "orderLineStatus": parts } })
    });
    let order = json!({ "order": { "purchaseOrderId": order.id.to_string(),
        "shipNode": { "type": "SellerFulfilled" }, "orderLines": { "orderLine": lines } } });
    vec![walmart::poll::order(order.to_string().as_bytes()).unwrap()]
}

fn odoo_settings() -> odoo::Settings {
    odoo::Settings { locations: [(8, "main".into())].into(), customers: [5].into() }
}

/// The moves that shipped or brought back units, newest last. `product` says how a product is named.
fn odoo_moves(order: &Order, product: impl Fn(&Line) -> Value) -> Vec<Value> {
    let parcels = order.parcels.iter().filter(|parcel| parcel.fate != Some(Fate::Cancelled));
    let rows = parcels.flat_map(|parcel| parcel.rows.iter().map(move |row| (parcel, row)));
    let one = |(parcel, (place, units)): (&Parcel, &(usize, i64))| {
        let (from, to) = if parcel.fate.is_none() { (8, 5) } else { (5, 8) };
        let when = naive(parcel.at_ms, " ");
        json!({ "id": parcel.id * 10 + u64::try_from(*place).unwrap(), "state": "done",
            "product_id": product(&order.lines[*place]), "quantity": units, "location_id": from,
            "location_dest_id": to, "origin": format!("S{}", order.id), "date": when,
            "write_date": when })
    };
    rows.map(one).collect()
}

fn odoo_webhooks(order: &Order) -> Vec<Webhook> {
    let model = |mut record: Value, model: &str| {
        record["_model"] = json!(model);
        record["_id"] = record["id"].clone();
        bare(record)
    };
    if order.parcels.last().is_some_and(|parcel| parcel.fate != Some(Fate::Cancelled)) {
        let moves = odoo_moves(order, |line| json!(variant(line.item)));
        return moves.into_iter().map(|record| model(record, "stock.move")).collect();
    }
    let record = json!({ "id": order.id, "write_date": naive(order.at_ms, " ") });
    vec![model(record, "sale.order")]
}

fn odoo_polled(order: &Order) -> Vec<Told> {
    let state = if order.void { "cancel" } else { "sale" };
    let ids: Vec<u64> = order.lines.iter().map(|line| line.id).collect();
    let sale = json!([{ "id": order.id, "state": state, "client_order_ref": false,
        "order_line": ids, "write_date": naive(order.at_ms, " ") }]);
    let lines = each(order, |line| {
        json!({ "id": line.id, "order_id": [order.id, "S"], "product_id": [variant(line.item), "x"],
            "product_uom_qty": line.ordered - if order.void { 0 } else { line.cancelled } })
    });
    let (sale, lines) = (sale.to_string(), json!(lines).to_string());
    let sale = odoo::poll::sale(sale.as_bytes(), lines.as_bytes()).unwrap();
    let moves =
        odoo_moves(order, |line| json!([variant(line.item), format!("[{0}] {0}", line.sku())]));
    let moves = odoo::poll::moves(json!(moves).to_string().as_bytes(), &odoo_settings());
    sale.into_iter().chain(told(moves)).collect()
}

fn generic_webhooks(order: &Order) -> Vec<Webhook> {
    let hook = |kind: &str, data: Value| {
        let id = format!("{kind}-{}-{}", order.id, order.at_ms);
        let body = json!({ "type": kind, "timestamp": at(order.at_ms), "data": data });
        Webhook { headers: vec![("webhook-id", id)], body }
    };
    let image = || {
        let lines = each(order, |line| {
            json!({ "id": line.id, "sku": line.named_sku(), "listing": variant(line.item),
                "quantity": line.ordered - line.edited, "fulfilled": line.shipped,
                "returned": line.returned })
        });
        json!({ "order": order.id, "lines": lines })
    };
    let removed = || {
        let parcel = order.parcels.last().unwrap();
        let rows = parcel.rows.iter().map(|(place, units)| {
            let line = &order.lines[*place];
            let restock = parcel.fate.map(|fate| match fate {
                Fate::Cancelled => "cancelled",
                Fate::Returned => "returned",
                Fate::Kept => "none",
            });
            json!({ "id": format!("{}/{place}", parcel.id), "line": line.id,
                "listing": variant(line.item), "quantity": units, "restock": restock })
        });
        json!({ "order": order.id, "lines": rows.collect::<Vec<_>>() })
    };
    match order.done {
        Done::Placed => vec![hook("order.created", image())],
        Done::Edited => vec![hook("order.updated", image())],
        Done::Shipped => vec![hook("order.fulfilled", removed()), hook("order.updated", image())],
        Done::Void if !order.any_shipped() => vec![hook("order.cancelled", image())],
        Done::Refunded | Done::Void => vec![hook("order.refunded", removed())],
    }
}
