//! SKUs, orders and listings to fill a state with.

use state::command::{Asked, Command, Delivery, Fact, MovementRequest, Movements, Segment};
use state::ledger::Kind;
use state::limits::REQUEST_MOVEMENTS_MAX;
use state::order::LineImage;
use state::origin::{Lane, Origin};
use state::{Key, Millis};

/// Where every SKU lies.
pub(crate) const LOCATIONS: [&str; 4] = ["berlin", "austin", "leeds-north", "osaka"];
/// The channel that sells.
pub(crate) const SHOP: &str = "shop";

/// So many SKUs.
#[derive(Clone, Copy)]
pub(crate) struct Goods {
    pub(crate) skus: u64,
}

impl Goods {
    /// Puts a hundred units of every SKU into every location.
    pub(crate) fn receipts(self) -> impl Iterator<Item = Command> {
        let each = REQUEST_MOVEMENTS_MAX / LOCATIONS.len();
        let last = self.skus;
        (0..last).step_by(each).map(move |first| {
            let skus = (first..last).take(each);
            let places = |n| (0..).zip(LOCATIONS).map(move |place| receipt(n, place));
            let movements = skus.flat_map(places);
            let movements = Movements { atomic: false, movements: movements.collect() };
            Command::Request { idempotency: None, asked: Asked::Movements(movements) }
        })
    }

    /// A segment of distinct orders, the one of this number and those after it.
    pub(crate) fn segment(self, sequence: u64, first: u64, orders: u64, now: Millis) -> Command {
        let deliveries = (first..first + orders).map(|n| self.order(n, now)).collect();
        let origin = Origin { node: 1, incarnation: 1 };
        Command::Segment(Segment {
            origin,
            lane: Lane::Urgent,
            sequence,
            durable_ms: 0,
            deliveries,
        })
    }

    /// An order of one or two lines as Shopify tells of it, with ids of 13 and 14 digits.
    fn order(self, n: u64, now: Millis) -> Delivery {
        let line = |of: u64| {
            // In another order than that in which the SKUs were put in.
            let item = (n * 7_919 + of * 104_729) % self.skus;
            LineImage {
                id: (14_938_200_000_000 + 2 * n + of).to_string(),
                listing: Some(listing(item)),
                sku: Some(sku(item)),
                quantity: 1 + i64::try_from(of).unwrap_or(0),
                ..LineImage::default()
            }
        };
        let lines = (0..=n % 2).map(line).collect();
        let order = (5_811_000_000_000 + n).to_string();
        Delivery {
            key: key(n, 9),
            body: key(n, 10),
            id: format!("{SHOP}:{n}"),
            channel: SHOP.into(),
            topic: "orders/create".into(),
            received_ms: now,
            facts: vec![Fact::Image { order, version: now, whole: true, lines }],
            raw: Vec::new(),
            publish: Vec::new(),
        }
    }
}

fn receipt(n: u64, (place, location): (u64, &str)) -> MovementRequest {
    let key = key(n, place);
    MovementRequest::new(
        key,
        format!("receipt-{n}-{location}"),
        Kind::Receipt,
        sku(n),
        100,
        location,
    )
}

/// The name of a SKU.
pub(crate) fn sku(n: u64) -> String {
    format!("TEE-{n:09}")
}

/// The id that a channel has for it.
pub(crate) fn listing(n: u64) -> String {
    (49_300_000_000_000 + n).to_string()
}

/// Sixteen bytes as even as those of a hash.
fn key(n: u64, salt: u64) -> Key {
    let mixed = (n * 16 + salt).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
    let mixed = u128::from(mixed).wrapping_mul(0x2545_f491_4f6c_dd1d_8f3c_9d1b);
    mixed.rotate_left(17).to_le_bytes()
}
