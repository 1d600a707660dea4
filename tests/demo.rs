//! The demo keeps its promises, the pushes to the stores among them: it is what a newcomer sees first.

use std::net::TcpListener;
use std::process::Command;

/// Three ports a node from a base that is free now.
fn base_port() -> u16 {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let start = 21_000 + u16::try_from(std::process::id() % 300).unwrap_or(0) * 30;
    let mut bases = (start..32_000).step_by(30);
    let free = |base: &u16| (0..3).all(|node| (0..3).all(|port| is_free(base + node * 10 + port)));
    bases.find(free).expect("nine free ports")
}

#[test]
fn the_demo_kills_a_node_and_keeps_every_promise() {
    // A delivery lost or doubled in the kill, replicas that differ, a unit sold twice, or stores that are
    // told nothing at all: any of them ends the demo with another exit code or another verdict.
    let demo = Command::new(env!("CARGO_BIN_EXE_stockraft"))
        .args(["demo", "--seconds", "12", "--rate", "25", "--base-port", &base_port().to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&demo.stdout);
    let wrong = format!("{said}\n{}", String::from_utf8_lossy(&demo.stderr));
    assert!(demo.status.success(), "{wrong}");
    assert!(said.contains("SIGKILL to "), "{wrong}");
    assert!(said.contains("every promise was kept"), "{wrong}");
    let told = said.lines().find_map(|line| line.trim().strip_prefix("quantities told"));
    let told: Vec<&str> = told.unwrap_or_default().trim().split(", ").collect();
    let stores = ["shopify-eu", "shopify-us", "shopify-apac"];
    let others = ["woocommerce", "amazon", "ebay", "walmart", "odoo"];
    for channel in stores.into_iter().chain(others) {
        let rows =
            told.iter().find_map(|told| told.strip_prefix(channel)?.trim().parse::<u64>().ok());
        assert!(rows.unwrap_or(0) > 0, "{channel} was told nothing: {wrong}");
    }
    let count = |what: &str| {
        let line = said.lines().find_map(|line| line.trim().strip_prefix(what));
        line.and_then(|rest| rest.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    assert_eq!(count("listings checked"), 24 * 8, "{wrong}");
    assert!(count("never sent") > 0, "nothing had to be asked for: {wrong}");
    assert!(count("order lines checked") > 100, "hardly anything was sold: {wrong}");
}
