//! Promise: what Shopify's API answers about an order is what its webhooks say of it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod common;
#[path = "common/payloads.rs"]
mod payloads;

use std::collections::BTreeMap;

use channels::Understood;
use channels::poll::Page;
use channels::shopify::{parse, poll};
use common::parsed;
use payloads::{assert_dead, assert_sound, facts};
use proptest::prelude::*;
use serde_json::{Value, json};
use state::command::Fact;
use state::order::Removal;

const KINDS: [(&str, Removal); 4] = [
    ("cancel", Removal::Cancelled),
    ("return", Removal::Returned),
    ("legacy_restock", Removal::Returned),
    ("no_restock", Removal::NoRestock),
];
const STATUSES: [&str; 4] = ["success", "cancelled", "error", "pending"];
const UPDATED: &str = "2026-11-20T10:05:00-05:00";
const UPDATED_MS: u64 = 1_795_187_100_000;

/// An order as it is at one moment.
#[derive(Clone, Debug)]
struct Order {
    lines: Vec<Line>,
    refunds: Vec<Refund>,
    shipments: Vec<Shipment>,
}

/// The place of a line, its units and their kind.
type Refund = Vec<(usize, i64, usize)>;
/// A status, and the places of lines and their units.
type Shipment = (usize, Vec<(usize, i64)>);

#[derive(Clone, Debug)]
struct Line {
    edited_out: i64,
    rest: i64,
    variant: bool,
    tracked: bool,
    gift_card: bool,
    sku: Option<String>,
}

impl Order {
    fn refunded(&self, line: usize) -> i64 {
        self.refunds.iter().flatten().filter(|row| row.0 == line).map(|row| row.1).sum()
    }

    /// Units ordered, and those that are left.
    fn quantities(&self, line: usize) -> (i64, i64) {
        let Line { edited_out, rest, .. } = self.lines[line];
        (edited_out + self.refunded(line) + rest, rest)
    }

    fn line_body(&self, n: usize, quantity: i64) -> Value {
        let line = &self.lines[n];
        json!({
            "id": 11_000 + n, "sku": line.sku, "gift_card": line.gift_card,
            "variant_id": line.variant.then_some(40_000 + n),
            "variant_inventory_management": (line.variant && line.tracked).then_some("shopify"),
            "quantity": quantity, "current_quantity": self.quantities(n).1,
        })
    }

    fn webhook(&self) -> Value {
        let lines = 0..self.lines.len();
        let refund = |(n, rows): (usize, &Refund)| {
            let rows = rows.iter().enumerate().map(|(row, &(line, units, kind))| {
                json!({"id": 500 + row, "line_item_id": 11_000 + line, "quantity": units,
                    "restock_type": KINDS[kind].0, "line_item": self.line_body(line, 9)})
            });
            json!({"id": 900 + n, "order_id": 57, "created_at": "2026-11-20T10:04:00-05:00",
                "refund_line_items": rows.collect::<Vec<_>>()})
        };
        let shipment = |(n, (status, rows)): (usize, &Shipment)| {
            let rows = rows.iter().map(|&(line, units)| self.line_body(line, units));
            json!({"id": 700 + n, "order_id": 57, "created_at": "2026-11-20T10:03:00-05:00",
                "status": STATUSES[*status], "line_items": rows.collect::<Vec<_>>()})
        };
        json!({
            "id": 57, "updated_at": UPDATED, "test": false,
            "line_items": lines.map(|n| self.line_body(n, self.quantities(n).0)).collect::<Vec<_>>(),
            "refunds": self.refunds.iter().enumerate().map(refund).collect::<Vec<_>>(),
            "fulfillments": self.shipments.iter().enumerate().map(shipment).collect::<Vec<_>>(),
        })
    }

    /// The same through the API: other names, times in UTC, and lists in another order.
    fn answer(&self) -> Value {
        let gid = |kind: &str, id: usize| format!("gid://shopify/{kind}/{id}");
        let nodes = |nodes: Vec<Value>| json!({"nodes": nodes, "pageInfo": {"hasNextPage": false}});
        let line = |(n, line): (usize, &Line)| {
            let (ordered, current) = self.quantities(n);
            let variant = json!({"id": gid("ProductVariant", 40_000 + n),
                "inventoryItem": {"tracked": line.tracked}});
            json!({"id": gid("LineItem", 11_000 + n), "sku": line.sku, "quantity": ordered,
                "currentQuantity": current, "isGiftCard": line.gift_card,
                "variant": line.variant.then_some(variant)})
        };
        let refund = |(n, rows): (usize, &Refund)| {
            let rows = rows.iter().rev().map(|&(line, units, kind)| {
                json!({"lineItem": {"id": gid("LineItem", 11_000 + line)}, "quantity": units,
                    "restockType": KINDS[kind].0.to_uppercase()})
            });
            json!({"id": gid("Refund", 900 + n), "createdAt": "2026-11-20T15:04:00Z",
                "refundLineItems": nodes(rows.collect())})
        };
        let shipment = |(n, (status, rows)): (usize, &Shipment)| {
            let rows = rows.iter().rev().map(|&(line, units)| {
                json!({"lineItem": {"id": gid("LineItem", 11_000 + line)}, "quantity": units})
            });
            json!({"id": gid("Fulfillment", 700 + n), "createdAt": "2026-11-20T15:03:00Z",
                "status": STATUSES[*status].to_uppercase(),
                "fulfillmentLineItems": nodes(rows.collect())})
        };
        json!({
            "id": gid("Order", 57), "updatedAt": "2026-11-20T15:05:00Z", "test": false,
            "lineItems": nodes(self.lines.iter().enumerate().map(line).collect()),
            "refunds": self.refunds.iter().enumerate().rev().map(refund).collect::<Vec<_>>(),
            "fulfillments":
                self.shipments.iter().enumerate().rev().map(shipment).collect::<Vec<_>>(),
        })
    }
}

fn any_order() -> impl Strategy<Value = Order> {
    let weighted = prop::bool::weighted;
    let sku = prop::option::weighted(0.9, "[A-Z]{1,4}");
    let line = (0..3_i64, 0..4_i64, weighted(0.9), weighted(0.9), weighted(0.1), sku).prop_map(
        |(edited_out, rest, variant, tracked, gift_card, sku)| Line {
            edited_out,
            rest,
            variant,
            tracked,
            gift_card,
            sku,
        },
    );
    prop::collection::vec(line, 1..5).prop_flat_map(|lines| {
        let row = (0..lines.len(), 1..3_i64, 0..KINDS.len());
        let refunds = prop::collection::vec(prop::collection::vec(row, 0..4), 0..4);
        let row = (0..lines.len(), 1..3_i64);
        let shipment = (0..STATUSES.len(), prop::collection::vec(row, 0..4));
        let shipments = prop::collection::vec(shipment, 0..4);
        (Just(lines), refunds, shipments).prop_map(|(lines, refunds, shipments)| Order {
            lines,
            refunds,
            shipments,
        })
    })
}

fn by_webhook(order: &Order) -> Understood {
    let body = order.webhook().to_string();
    parsed(parse, &[("X-Shopify-Topic", "orders/updated")], body.as_bytes()).understood
}

fn one(order: &Value) -> Understood {
    let body = json!({"data": {"order": order}}).to_string();
    poll::order(body.as_bytes()).unwrap().unwrap().understood
}

fn page(orders: &[Value], cursor: Option<&str>) -> Value {
    let info = json!({"hasNextPage": cursor.is_some(), "endCursor": cursor});
    json!({"data": {"orders": {"nodes": orders, "pageInfo": info}}})
}

fn two_lines() -> Order {
    let line = |sku: &str| Line {
        edited_out: 0,
        rest: 2,
        variant: true,
        tracked: true,
        gift_card: false,
        sku: Some(sku.into()),
    };
    Order { lines: vec![line("TEE-M"), line("MUG")], refunds: vec![], shipments: vec![] }
}

proptest! {
    #![proptest_config(payloads::cases())]

    // A lost webhook is made good by a poll; if both said different things of the same moment, whichever
    // came second would move stock again.
    #[test]
    fn both_roads_say_the_same(order in any_order()) {
        let webhook = facts(by_webhook(&order));
        prop_assert_eq!(&webhook, &facts(one(&order.answer())));
        let body = page(&[order.answer()], None).to_string();
        let told = poll::orders(body.as_bytes()).unwrap().told;
        prop_assert!(told.len() == 1 && told[0].topic == "poll/order");
    }

    // What is wanted is what was ordered and not edited out, and what was taken out is what refunds say:
    // both by a count that knows nothing of how Shopify writes them down.
    #[test]
    fn facts_say_what_happened(order in any_order()) {
        let facts = facts(by_webhook(&order));
        let stands = |n: usize| {
            let line = &order.lines[n];
            line.variant && line.tracked && !line.gift_card
        };
        let Fact::Image { whole, lines, version, .. } = &facts[0] else { panic!("{facts:?}") };
        prop_assert_eq!((*whole, *version), ((0..order.lines.len()).all(stands), UPDATED_MS));
        let wanted = lines.iter().map(|line| (line.id.clone(), line.quantity));
        let ordered = |n: usize| (n + 11_000, order.quantities(n).0 - order.lines[n].edited_out);
        let expected = (0..order.lines.len()).filter(|n| stands(*n)).map(ordered);
        prop_assert!(wanted.eq(expected.map(|(id, units)| (id.to_string(), units))));

        let mut removed = BTreeMap::<(String, Removal), i64>::new();
        let mut ids = Vec::new();
        for fact in &facts[1..] {
            let Fact::Removals { lines, .. } = fact else { panic!("{fact:?}") };
            for line in lines {
                *removed.entry((line.line.clone(), line.removal)).or_default() += line.quantity;
                ids.push(line.id.clone());
            }
        }
        let refunded = order.refunds.iter().flatten().map(|&(n, units, kind)| (n, units, KINDS[kind].1));
        let shipped = order.shipments.iter().filter(|shipment| shipment.0 == 0);
        let shipped = shipped.flat_map(|shipment| &shipment.1);
        let shipped = shipped.map(|&(n, units)| (n, units, Removal::Fulfilled));
        let mut expected = BTreeMap::<(String, Removal), i64>::new();
        for (n, units, removal) in refunded.chain(shipped).filter(|row| stands(row.0)) {
            *expected.entry(((n + 11_000).to_string(), removal)).or_default() += units;
        }
        prop_assert_eq!(removed, expected);
        let all = ids.len();
        ids.sort();
        ids.dedup();
        prop_assert_eq!(ids.len(), all, "two removals of one name: the second would not count");
    }

    // The API is trusted, and still no answer may stop the node.
    #[test]
    fn any_answer_is_survived(
        body in any_order().prop_flat_map(|order| payloads::spoilt(page(&[order.answer()], Some("c")))),
        bytes: Vec<u8>,
    ) {
        if let Ok(page) = poll::orders(body.to_string().as_bytes()) {
            page.told.iter().for_each(|told| assert_sound(&told.understood));
        }
        if let Some(order) = body.pointer("/data/orders/nodes/0") {
            let body = json!({"data": {"order": order}}).to_string();
            if let Ok(Some(told)) = poll::order(body.as_bytes()) {
                assert_sound(&told.understood);
            }
        }
        let _ = (poll::orders(&bytes), poll::order(&bytes));
    }
}

/// What comes after `name(first: ` in a query.
fn asked_for(query: &str, name: &str) -> usize {
    let (_, rest) = query.split_once(&format!("{name}(first: ")).unwrap();
    rest.split([',', ')']).next().unwrap().parse().unwrap()
}

// An answer has no more lines than were asked for, and refunds and shipments no sign that there are more:
// taken for all of them, an order would lose lines, or units that a refund explains.
#[test]
fn an_order_that_goes_on_is_fetched_by_itself() {
    let reload = Fact::Reload { order: "57".into(), version: UPDATED_MS };
    let judge = |order: &Value, is_larger: bool, in_page: bool| {
        let body = page(std::slice::from_ref(order), None).to_string();
        let told = poll::orders(body.as_bytes()).unwrap().told.remove(0).understood;
        assert_eq!(facts(told) == std::slice::from_ref(&reload), in_page, "{order}");
        if is_larger {
            assert_dead(&one(order), "larger than one answer");
        } else {
            assert!(matches!(facts(one(order))[0], Fact::Image { .. }));
        }
    };
    judge(&two_lines().answer(), false, false);
    let mut more = two_lines();
    more.refunds = vec![vec![(0, 1, 0)]];
    more.shipments = vec![(0, vec![(0, 1)])];
    for place in [
        "/lineItems/pageInfo/hasNextPage",
        "/refunds/0/refundLineItems/pageInfo/hasNextPage",
        "/fulfillments/0/fulfillmentLineItems/pageInfo/hasNextPage",
    ] {
        let mut answer = more.answer();
        *answer.pointer_mut(place).unwrap() = true.into();
        judge(&answer, true, true);
    }
    for (query, is_page) in [(poll::ORDERS_QUERY, true), (poll::ORDER_QUERY, false)] {
        for list in ["refunds", "fulfillments"] {
            let asked = asked_for(query, list);
            let with = |count: usize| {
                let mut answer = more.answer();
                answer[list] = vec![answer[list][0].clone(); count].into();
                answer
            };
            judge(&with(asked), !is_page, true);
            judge(&with(asked - 1), false, !is_page);
        }
    }
}

/// The plainest count of what a selection costs: an object one point, a connection two and its objects, and
/// what may come several times as often.
fn cost<'q>(tokens: &mut impl Iterator<Item = &'q str>) -> u64 {
    let (mut sum, mut name, mut times) = (0, "", None);
    while let Some(token) = tokens.next() {
        match token {
            "{" => {
                let inner = cost(tokens);
                sum += match (name, times.take()) {
                    ("pageInfo", _) => 0,
                    ("nodes", _) => inner,
                    (_, None) => 1 + inner,
                    (_, Some(times)) => 2 + times * (1 + inner),
                };
            }
            "}" => return sum,
            number if name == "first:" => (name, times) = ("", number.parse::<u64>().ok()),
            other => name = other,
        }
    }
    sum
}

// A query that may cost more than 1,000 points is refused whatever it would have cost: no order would ever
// be polled.
#[test]
fn queries_cost_less_than_a_query_may() {
    for query in [poll::ORDER_QUERY, poll::ORDERS_QUERY] {
        let query = query.replace("$first,", &format!("{},", poll::ORDERS_MAX));
        let (_, selection) = query.split_once(") {").unwrap();
        let tokens =
            selection.replace(['(', ')', ','], " ").replace('{', " { ").replace('}', " } ");
        let cost = cost(&mut tokens.split_whitespace());
        println!("{cost} points: {query}");
        assert!((100..=1_000).contains(&cost), "{cost} points: {query}");
    }
}

// Errors come with status 200 and sometimes beside data that they made incomplete.
#[test]
fn an_answer_with_errors_is_none() {
    let good = page(&[two_lines().answer()], Some("cursor"));
    let told = poll::orders(good.to_string().as_bytes()).unwrap();
    assert_eq!((told.next.as_deref(), told.newest_ms), (Some("cursor"), Some(UPDATED_MS)));
    assert_eq!(poll::orders(page(&[], None).to_string().as_bytes()), Ok(Page::default()));
    let mut throttled = good;
    throttled["errors"] = json!([{"message": "Throttled", "extensions": {"code": "THROTTLED"}}]);
    let why = poll::orders(throttled.to_string().as_bytes()).unwrap_err();
    assert!(why.contains("Throttled"), "{why}");
    for body in [&b"{\"data\": null}"[..], b"{}", b"[]", b"", b"{\"data\": {\"orders\": null}}"] {
        assert!(poll::orders(body).is_err() && poll::order(body).is_err());
    }
    let unknown = poll::order(b"{\"data\": {\"order\": null}}");
    assert_eq!(unknown, Ok(None));
}

// One order that is not understood must not keep the rest of its page from being told, nor hold the place
// where polling goes on.
#[test]
fn one_bad_order_does_not_spoil_its_page() {
    let (good, mut bad) = (two_lines().answer(), two_lines().answer());
    bad["lineItems"]["nodes"][0]["quantity"] = (-1).into();
    bad["updatedAt"] = "2026-11-20T16:05:00Z".into();
    let mut test = two_lines().answer();
    test["test"] = true.into();
    let body = page(&[bad, good, test], None).to_string();
    let page = poll::orders(body.as_bytes()).unwrap();
    assert_dead(&page.told[0].understood, "out of range");
    assert_eq!(facts(page.told[1].understood.clone()), facts(by_webhook(&two_lines())));
    assert!(matches!(page.told[2].understood, Understood::Ignored(_)));
    assert_eq!(page.newest_ms, Some(UPDATED_MS + 3_600_000));
}

// A custom line and one whose variant was deleted look alike through the API. Neither may be sold as stock,
// nor be given back because it is not named.
#[test]
fn a_line_without_a_variant_moves_nothing() {
    let mut order = two_lines();
    order.lines[1].variant = false;
    let facts = facts(one(&order.answer()));
    let [Fact::Image { whole, lines, .. }] = &facts[..] else { panic!("{facts:?}") };
    assert_eq!((*whole, lines.len(), lines[0].id.as_str()), (false, 1, "11000"));
}
