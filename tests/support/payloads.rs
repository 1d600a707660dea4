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
    /// Whether an order can be told with its lines.
    pub lines: bool,
    /// Whether it counts units at all.
    pub counts: bool,
}

const fn carrier(sender: &'static str, lines: bool, counts: bool) -> Carrier {
    Carrier { sender, topic: None, id_header: None, lines, counts }
}

/// One of each kind. Amazon's comes by its queue.
pub const CARRIERS: [Carrier; 7] = [
    Carrier {
        topic: Some(("x-shopify-topic", "orders/create")),
        id_header: Some("x-shopify-webhook-id"),
        ..carrier("north", true, true)
    },
    Carrier { topic: Some(("x-wc-webhook-topic", "order.created")), ..carrier("woo", true, true) },
    carrier("amazon", true, true),
    carrier("ebay", false, false),
    carrier("walmart", true, true),
    carrier("odoo", false, true),
    Carrier { id_header: Some("webhook-id"), ..carrier("wms", true, true) },
];

impl Carrier {
    pub fn sender(&self) -> Sender {
        named(self.sender)
    }

    /// The body of an order with these lines; of what counts no lines, of the first. `id` tells the
    /// delivery from others where the body does.
    pub fn body(&self, id: &str, order: u64, lines: &[Line]) -> String {
        let now = clock::rfc3339(clock::now_ms());
        let naive = now.get(..19).unwrap_or_default();
        let all =
            |line: &dyn Fn(&Line) -> String| lines.iter().map(line).collect::<Vec<_>>().join(",");
        let keyed = |key: &str, line: &Line| {
            line.id.as_ref().map_or(String::new(), |id| format!("\"{key}\":{id},"))
        };
        match self.sender {
            "north" => {
                let lines = all(&|line| {
                    let (id, Line { sku, quantity, .. }) = (keyed("id", line), line);
                    format!(
                        "{{{id}\"sku\":{sku},\"quantity\":{quantity},\"variant_inventory_management\":\"shopify\"}}"
                    )
                });
                format!("{{\"id\":{order},\"updated_at\":\"{now}\",\"line_items\":[{lines}]}}")
            }
            "woo" => {
                let lines = all(&|line| {
                    let (id, Line { sku, quantity, .. }) = (keyed("id", line), line);
                    format!("{{{id}\"product_id\":93,\"sku\":{sku},\"quantity\":{quantity}}}")
                });
                format!(
                    "{{\"id\":{order},\"status\":\"processing\",\"date_modified_gmt\":\"{naive}\",\
                     \"line_items\":[{lines}]}}"
                )
            }
            "amazon" => {
                let lines = all(&|line| {
                    let (id, Line { sku, quantity, .. }) = (keyed("OrderItemId", line), line);
                    format!("{{{id}\"SellerSKU\":{sku},\"Quantity\":{quantity}}}")
                });
                format!(
                    "{{\"NotificationType\":\"ORDER_CHANGE\",\"EventTime\":\"{now}\",\
                     \"NotificationMetadata\":{{\"NotificationId\":\"{id}\"}},\"Payload\":\
                     {{\"OrderChangeNotification\":{{\"AmazonOrderId\":\"{order}\",\"Summary\":\
                     {{\"OrderStatus\":\"Unshipped\",\"OrderItems\":[{lines}]}}}}}}}}"
                )
            }
            "ebay" => {
                let named = lines.first().is_none_or(|line| line.id.is_some());
                let order = if named { format!("\"orderId\":\"{order}\"") } else { String::new() };
                format!(
                    "{{\"metadata\":{{\"topic\":\"ORDER_CONFIRMATION\"}},\"notification\":\
                     {{\"notificationId\":\"{id}\",\"eventDate\":\"{now}\",\"data\":{{{order}}}}}}}"
                )
            }
            "walmart" => {
                let lines = all(&|line| {
                    let (id, Line { sku, quantity, .. }) = (keyed("lineNumber", line), line);
                    format!(
                        "{{{id}\"sku\":{sku},\"quantity\":{{\"measurementValue\":{quantity}}},\
                         \"status\":\"CREATED\"}}"
                    )
                });
                format!(
                    "{{\"source\":{{\"eventType\":\"PO_CREATED\",\"eventTime\":\"{now}\",\
                     \"eventId\":\"{id}\"}},\"payload\":{{\"purchaseOrderId\":\"{order}\",\
                     \"orderLines\":[{lines}]}}}}"
                )
            }
            "odoo" => {
                let line = lines.first().cloned().unwrap_or(Line::new(1, "", "1"));
                let named = line.id.map_or(String::new(), |_| format!("\"_id\":{order},"));
                format!(
                    "{{{named}\"_model\":\"stock.move\",\"state\":\"done\",\"product_id\":33,\
                     \"quantity\":{},\"location_id\":8,\"location_dest_id\":5,\"date\":\"{}\"}}",
                    line.quantity,
                    naive.replace('T', " ")
                )
            }
            _ => {
                let lines = all(&|line| {
                    let (id, Line { sku, quantity, .. }) = (keyed("id", line), line);
                    format!("{{{id}\"sku\":{sku},\"quantity\":{quantity}}}")
                });
                format!(
                    "{{\"type\":\"order.created\",\"timestamp\":\"{now}\",\
                     \"data\":{{\"order\":\"{order}\",\"lines\":[{lines}]}}}}"
                )
            }
        }
    }

    /// The headers of a delivery of this id.
    pub fn headers<'a>(&self, id: &'a str) -> Vec<(&'static str, &'a str)> {
        let topic = self.topic.into_iter();
        topic.chain(self.id_header.map(|name| (name, id))).collect()
    }
}
