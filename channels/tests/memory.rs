//! Promise: a body takes memory as it is long, whatever it repeats.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod common;

use channels::{Understood, shopify};
use common::parsed;
use serde_json::json;

/// The most memory that this process ever held, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

// Each refund repeats the SKU of its line: with one as long as half of the body, one delivery would fill
// the memory of every node that it is sent to, again with each repetition.
#[test]
fn a_long_sku_is_not_multiplied() {
    let refunded = vec![json!({"line_item_id": 1, "quantity": 0, "restock_type": "cancel"}); 4_000];
    let at = "2026-11-20T15:00:00Z";
    let order = json!({
        "id": 1,
        "updated_at": at,
        "line_items": [{"id": 1, "quantity": 1, "sku": "x".repeat(256 << 10)}],
        "refunds": [{"id": 1, "created_at": at, "refund_line_items": refunded}],
    });
    let headers = [("x-shopify-topic", "orders/create")];
    let body = order.to_string().into_bytes();
    let before = peak();
    let understood = parsed(shopify::parse, &headers, &body).understood;
    assert!(matches!(understood, Understood::Dead(_)), "{understood:?}");
    let more = peak() - before;
    assert!(more < 32 << 10, "{} KiB took {more} KiB", body.len() >> 10);
}
