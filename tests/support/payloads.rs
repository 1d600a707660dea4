//! What each kind sends when something is sold, as text: so that a test can put in what no library writes.

use stockraft::clock;

use super::senders::{Sender, named};

/// One line of an order, in JSON's own spelling.
#[derive(Clone, Debug)]
pub struct Line {
    /// Nothing: the line has no id.
    pub id: Option<String>,
    pub sku: String,
    pub quantity: String,
}

impl Line {
    pub fn new(id: u64, sku: &str, quantity: &str) -> Self {
        Self { id: Some(id.to_string()), sku: format!("\"{sku}\""), quantity: quantity.into() }
    }
}

/// A kind's webhook that says what was sold.
#[derive(Clone, Copy, Debug)]
pub struct Carrier {
    pub sender: &'static str,
    /// The header of the topic.
    pub topic: Option<(&'static str, &'static str)>,
    /// The header of the delivery's id.
    pub id_header: Option<&'static str>,
    /// Whether an order can be told with several lines and their SKUs.
    pub lines: bool,
    /// Whether it counts units at all.
    pub counts: bool,
    /// A line, with places for what a test puts in.
    line: &'static str,
    /// The id of a line, or of what is there instead.
    line_id: &'static str,
    order: &'static str,
}

const BARE: Carrier = Carrier {
    sender: "",
    topic: None,
    id_header: None,
    lines: true,
    counts: true,
    line: r#"{<line_id>"sku":<sku>,"quantity":<quantity>}"#,
    line_id: r#""id":<id>,"#,
    order: "",
};

/// One of each kind. Amazon's comes by its queue.
pub const CARRIERS: [Carrier; 7] = [
    Carrier {
        sender: "north",
        topic: Some(("x-shopify-topic", "orders/create")),
        id_header: Some("x-shopify-webhook-id"),
        order: r#"{"id":<order>,"updated_at":"<now>","line_items":[<lines>]}"#,
        ..BARE
    },
    Carrier {
        sender: "woo",
        topic: Some(("x-wc-webhook-topic", "order.created")),
        order: r#"{"id":<order>,"status":"processing","date_modified_gmt":"<naive>",
            "line_items":[<lines>]}"#,
        ..BARE
    },
    Carrier {
        sender: "amazon",
        line: r#"{<line_id>"SellerSKU":<sku>,"Quantity":<quantity>}"#,
        line_id: r#""OrderItemId":<id>,"#,
        order: r#"{"NotificationType":"ORDER_CHANGE","EventTime":"<now>",
            "NotificationMetadata":{"NotificationId":"<delivery>"},
            "Payload":{"OrderChangeNotification":{"AmazonOrderId":"<order>",
            "Summary":{"OrderStatus":"Unshipped","OrderItems":[<lines>]}}}}"#,
        ..BARE
    },
    Carrier {
        sender: "ebay",
        lines: false,
        counts: false,
        line: "<line_id>",
        line_id: r#""orderId":"<order>""#,
        order: r#"{"metadata":{"topic":"ORDER_CONFIRMATION"},"notification":
            {"notificationId":"<delivery>","eventDate":"<now>","data":{<lines>}}}"#,
        ..BARE
    },
    Carrier {
        sender: "walmart",
        line: r#"{<line_id>"sku":<sku>,"quantity":{"measurementValue":<quantity>},"status":"CREATED"}"#,
        line_id: r#""lineNumber":<id>,"#,
        order: r#"{"source":{"eventType":"PO_CREATED","eventTime":"<now>","eventId":"<delivery>"},
            "payload":{"purchaseOrderId":"<order>","orderLines":[<lines>]}}"#,
        ..BARE
    },
    Carrier {
        sender: "odoo",
        lines: false,
        line: r#"<line_id>"quantity":<quantity>,"#,
        line_id: r#""_id":<order>,"#,
        order: r#"{<lines>"_model":"stock.move","state":"done","product_id":33,"location_id":8,
            "location_dest_id":5,"date":"<naive>"}"#,
        ..BARE
    },
    Carrier {
        sender: "wms",
        id_header: Some("webhook-id"),
        order: r#"{"type":"order.created","timestamp":"<now>",
            "data":{"order":"<order>","lines":[<lines>]}}"#,
        ..BARE
    },
];

impl Carrier {
    pub fn sender(&self) -> Sender {
        named(self.sender)
    }

    /// The body of an order with these lines; one alone where it cannot have several. `delivery` tells it
    /// from others where the body does.
    pub fn body(&self, delivery: &str, order: u64, lines: &[Line]) -> String {
        let now = clock::rfc3339(clock::now_ms());
        let line = |line: &Line| {
            let id = line.id.as_ref().map(|id| self.line_id.replace("<id>", id));
            let filled = self.line.replace("<line_id>", &id.unwrap_or_default());
            filled.replace("<quantity>", &line.quantity).replace("<sku>", &line.sku)
        };
        let lines: Vec<String> = lines.iter().map(line).collect();
        self.order
            .replace("<naive>", now.get(..19).unwrap_or_default())
            .replace("<now>", &now)
            .replace("<delivery>", delivery)
            .replace("<lines>", &lines.join(","))
            .replace("<order>", &order.to_string())
    }

    /// The headers of a delivery of this id.
    pub fn headers<'a>(&self, delivery: &'a str) -> Vec<(&'static str, &'a str)> {
        let topic = self.topic.into_iter();
        topic.chain(self.id_header.map(|name| (name, delivery))).collect()
    }
}
