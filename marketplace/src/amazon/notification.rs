//! Notifications as Amazon words them, and the envelopes that they come in.
//!
//! Sources: the JSON schemas of `ORDER_CHANGE` 1.0, `LISTINGS_ITEM_MFN_QUANTITY_CHANGE` 1.0 and
//! `FEED_PROCESSING_FINISHED` 2020-09-04 in Amazon's published models.

use serde_json::{Value, json};

use super::{
    book::{Change, Order, Reason, Status, order_id},
    options::Options,
};
use crate::clock::{self, Millis};

/// What a notification tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An order, or one item of it.
    OrderChange,
    /// The quantity that a listing shows, the seller's own updates included.
    QuantityChange,
    /// A feed was worked through.
    FeedFinished,
}

impl Kind {
    /// Amazon's name for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OrderChange => "ORDER_CHANGE",
            Self::QuantityChange => "LISTINGS_ITEM_MFN_QUANTITY_CHANGE",
            Self::FeedFinished => "FEED_PROCESSING_FINISHED",
        }
    }
}

/// Whose notification it is, and under which id.
pub(crate) struct Writer<'a> {
    pub(crate) options: &'a Options,
    pub(crate) id: &'a str,
    pub(crate) published_ms: Millis,
}

impl Writer<'_> {
    /// An `ORDER_CHANGE` with these lines of the order: all of them at the order's level, or one at an
    /// item's.
    pub(crate) fn order_change(&self, change: &Change, item: Option<usize>) -> Value {
        let Change { order, reason, .. } = change;
        let (kind, why) = match reason {
            Reason::Status => ("OrderStatusChange", "Order Status Change"),
            Reason::BuyerRequest => ("BuyerRequestedChange", "Buyer Requested Cancel"),
        };
        let level = if item.is_some() { "OrderItemLevel" } else { "OrderLevel" };
        let payload = json!({"OrderChangeNotification": {
            "NotificationLevel": level,
            "SellerId": self.options.seller_id,
            "AmazonOrderId": order_id(order.number),
            "OrderChangeType": kind,
            "OrderChangeTrigger": {
                "TimeOfOrderChange": clock::utc_time(order.updated_ms),
                "ChangeReason": why,
            },
            "Summary": self.summary(order, item),
        }});
        self.pascal(Kind::OrderChange, order.updated_ms, &payload)
    }

    fn summary(&self, order: &Order, item: Option<usize>) -> Value {
        let canceled = order.status == Status::Canceled;
        let unshipped = if canceled { 0 } else { order.units() - order.shipped() };
        let lines = order.lines.iter().enumerate();
        let lines = lines.filter(|(index, _)| item.is_none_or(|item| item == *index));
        let items = lines.map(|(_, line)| {
            let mut item = json!({
                "OrderItemId": line.item_id.to_string(),
                "SellerSKU": line.sku,
                "SupplySourceId": null,
                "Quantity": line.quantity,
                "QuantityShipped": line.shipped,
            });
            if let (Some(item), true) = (item.as_object_mut(), line.cancel_requested) {
                item.insert("IsBuyerRequestedCancel".to_owned(), true.into());
            }
            item
        });
        json!({
            "MarketplaceId": self.options.marketplace_id,
            "OrderStatus": match order.status {
                Status::Pending => "Pending",
                Status::Unshipped => "Unshipped",
                Status::PartiallyShipped => "PartiallyShipped",
                Status::Shipped => "Shipped",
                Status::Canceled => "Canceled",
            },
            "PurchaseDate": clock::utc_time(order.created_ms),
            "DestinationPostalCode": null,
            "FulfillmentType": if order.amazon_fulfilled { "AFN" } else { "MFN" },
            "OrderType": "StandardOrder",
            "NumberOfItemsShipped": order.shipped(),
            "NumberOfItemsUnshipped": unshipped,
            "OrderItems": items.collect::<Vec<_>>(),
        })
    }

    /// A `LISTINGS_ITEM_MFN_QUANTITY_CHANGE`.
    pub(crate) fn quantity_change(&self, sku: &str, quantity: i64, at: Millis) -> Value {
        let payload = json!({
            "SellerId": self.options.seller_id,
            "FulfillmentChannelCode": "DEFAULT",
            "Sku": sku,
            "Quantity": quantity,
        });
        self.pascal(Kind::QuantityChange, at, &payload)
    }

    /// A `FEED_PROCESSING_FINISHED`, the one that is written in camel case.
    pub(crate) fn feed_finished(&self, feed_id: &str, status: &str, at: Millis) -> Value {
        let seller = &self.options.seller_id;
        let mut finished = json!({
            "sellerId": seller,
            "accountId": format!("amzn1.merchant.o.{seller}"),
            "feedId": feed_id,
            "feedType": "JSON_LISTINGS_FEED",
            "processingStatus": status,
        });
        // A feed that was cancelled or went wrong may have no report.
        if let (Some(finished), "DONE") = (finished.as_object_mut(), status) {
            let document = format!("amzn1.tortuga.4.na.{feed_id}");
            finished.insert("resultFeedDocumentId".to_owned(), document.into());
        }
        json!({
            "notificationVersion": "2020-09-04",
            "notificationType": Kind::FeedFinished.as_str(),
            "payloadVersion": "2020-09-04",
            "eventTime": clock::utc_time(at),
            "payload": {"feedProcessingFinishedNotification": finished},
            "notificationMetadata": {
                "applicationId": self.options.application_id,
                "subscriptionId": subscription(Kind::FeedFinished),
                "publishTime": clock::utc_time(self.published_ms),
                "notificationId": self.id,
            },
        })
    }

    fn pascal(&self, kind: Kind, at: Millis, payload: &Value) -> Value {
        json!({
            "NotificationVersion": "1.0",
            "NotificationType": kind.as_str(),
            "PayloadVersion": "1.0",
            "EventTime": clock::utc_time(at),
            "Payload": payload,
            "NotificationMetadata": {
                "ApplicationId": self.options.application_id,
                "SubscriptionId": subscription(kind),
                "PublishTime": clock::utc_time(self.published_ms),
                "NotificationId": self.id,
            },
        })
    }

    /// The envelope of `EventBridge`, by which alone some kinds come.
    pub(crate) fn event_bridge(&self, kind: Kind, event_id: &str, detail: &Value) -> Value {
        let account = "123456789012";
        let application = &self.options.application_id;
        json!({
            "version": "0",
            "id": event_id,
            "detail-type": kind.as_str(),
            "source": format!("aws.partner/sellingpartnerapi.amazon.com/{account}/{application}"),
            "account": account,
            "time": clock::utc_seconds(self.published_ms),
            "region": "us-east-1",
            "resources": [],
            "detail": detail,
        })
    }
}

fn subscription(kind: Kind) -> &'static str {
    match kind {
        Kind::OrderChange => "5b7c1b1e-6d0a-4b7e-9f9b-000000000001",
        Kind::QuantityChange => "5b7c1b1e-6d0a-4b7e-9f9b-000000000002",
        Kind::FeedFinished => "5b7c1b1e-6d0a-4b7e-9f9b-000000000003",
    }
}
