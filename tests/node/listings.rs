//! Promise: a file of listings is imported as a whole or not at all, and what waited for one moves by
//! itself.

use std::path::{Path, PathBuf};

use crate::support::issuer::Issuer;
use crate::support::orders::Webhook;
use crate::support::payloads::{CARRIERS, Line};
use crate::support::{
    Cluster, Node, READER, TOKEN, WRITER, senders, stockraft, unique, until, until_true,
};
use serde_json::{Value, json};

/// Writes a file of listings and imports it by the program: its exit code and what it said.
fn import(node: &Node, text: &[u8]) -> (Option<i32>, String) {
    let path = node.dir.join("listings.csv");
    std::fs::write(&path, text).unwrap();
    import_file(node, &path)
}

fn import_file(node: &Node, path: &Path) -> (Option<i32>, String) {
    import_as(node, path, TOKEN)
}

fn import_as(node: &Node, path: &Path, token: &str) -> (Option<i32>, String) {
    let url = format!("http://127.0.0.1:{}", node.ports[1]);
    let output = stockraft()
        .args(["channel", "map"])
        .arg(path)
        .args(["--node", &url, "--token", token])
        .output()
        .unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code(), said.replace(&path.display().to_string(), "FILE"))
}

/// All listings, as channel, id and SKU.
async fn listings(node: &Node) -> Vec<[String; 3]> {
    let items = node.list("/v1/listings", 1000).await;
    let text = |item: &Value, name: &str| item[name].as_str().unwrap().to_string();
    items.iter().map(|item| ["channel", "id", "sku"].map(|name| text(item, name))).collect()
}

fn gid(item: &str) -> String {
    format!("gid://shopify/InventoryItem/{item}")
}

// A merchant maps ten thousand listings from a spreadsheet: a file that is taken in part, or whose fault is
// not named by its line, costs a day; one that says two things costs stock.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_a_fault_changes_nothing_and_says_its_line() {
    let cluster = Cluster::start(1, |_| ()).await;
    let node = &cluster.nodes[0];
    let good = "sku,channel,id\nMUG,north,1\nCUP,north,2\n";
    let long = "X".repeat(257);
    let faults: [(&str, Vec<u8>, &str); 18] = [
        (
            "old line ends",
            "sku,channel,id\rC,north,3\r".into(),
            "FILE:1: the lines end in CR alone",
        ),
        ("an empty cell", format!("{good},north,3\n").into(), "FILE:4: sku is empty"),
        ("an empty channel", format!("{good}TEE,,3\n").into(), "FILE:4: channel is empty"),
        ("blanks for an id", format!("{good}TEE,north,  \n").into(), "FILE:4: id is empty"),
        ("a cell too few", format!("{good}TEE,north\n").into(), "FILE:4: "),
        ("a cell too many", format!("{good}TEE,north,3,4\n").into(), "FILE:4: "),
        ("after an empty line", format!("{good}\nTEE,north\n").into(), "FILE:5: "),
        (
            "after a cell of two lines",
            "sku,channel,id\n\"M\nUG\",north,1\n,north,2\n".into(),
            "FILE:4: sku is empty",
        ),
        (
            "a SKU that is too long",
            format!("{good}{long},north,3\n").into(),
            "FILE:4: sku is longer than 256 bytes",
        ),
        ("Latin-1", [good.as_bytes(), b"SCH\xd6N,north,3\n"].concat(), "FILE:4: "),
        (
            "Latin-1 in the header",
            b"sku,channel,id,gr\xf6\xdfe\nMUG,north,1,L\n".to_vec(),
            "FILE:1: ",
        ),
        ("UTF-16", good.encode_utf16().flat_map(u16::to_le_bytes).collect(), "FILE:1: "),
        (
            "no header",
            "MUG,north,1\nCUP,north,2\n".into(),
            "FILE:1: the header names no sku, no channel, no id",
        ),
        (
            "a header without ids",
            "sku,channel,ID\nMUG,north,1\n".into(),
            "FILE:1: the header names no id",
        ),
        (
            "a column twice",
            "sku,channel,id,id\nMUG,north,1,2\n".into(),
            "FILE:1: the header names \"id\" twice",
        ),
        (
            "semicolons",
            "sku;channel;id\nMUG;north;1\n".into(),
            "FILE:1: separate the columns by commas",
        ),
        ("an empty file", Vec::new(), "FILE:1: nothing is in this file"),
        ("nothing but a mark", "\u{feff}".into(), "FILE:1: nothing is in this file"),
    ];
    for (what, text, expected) in faults {
        let (code, said) = import(node, &text);
        assert_eq!(code, Some(2), "{what}: {said}");
        assert!(said.starts_with(expected), "{what}: {said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{what}: {said}");
    }
    // Who may not look at the channels has the node judge.
    let path = node.dir.join("listings.csv");
    std::fs::write(&path, format!("{good}TEE,nowhere,3\n")).unwrap();
    let (code, said) = import_as(node, &path, WRITER);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("there is no channel \"nowhere\""), "{said}");
    assert_eq!(import_as(node, &path, READER).0, Some(2));
    assert_nothing_is_mapped(node).await;
}

async fn assert_nothing_is_mapped(node: &Node) {
    assert_eq!(listings(node).await, Vec::<[String; 3]>::new());
    assert_eq!(node.list("/v1/stock", 10).await, Vec::<Value>::new());
}

// Of two rows that contradict each other one would win in silence, and another product's stock be shown.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_makes_no_sense_changes_nothing() {
    let cluster = Cluster::start(1, |_| ()).await;
    let node = &cluster.nodes[0];
    let good = "sku,channel,id\nMUG,north,1\nCUP,north,2\n";
    for (what, rows, expected) in [
        (
            "two ids of one listing",
            "MUG,north,3\n",
            "FILE:4: MUG has another id in north in line 2",
        ),
        (
            "one id of two SKUs",
            "TEE,north,2\n",
            "FILE:4: 2 in north stands for another SKU in line 3",
        ),
    ] {
        let (code, said) = import(node, format!("{good}{rows}").as_bytes());
        assert_eq!((code, said.trim_end()), (Some(2), expected), "{what}");
    }
    // More rows than one request carries, the fault in the last of them.
    let rows: Vec<String> = (0..1201).map(|n| format!("SKU-{n},north,{}", 1000 + n)).collect();
    let text = format!("{good}{}\nTEE,nowhere,3\n", rows.join("\n"));
    let (code, said) = import(node, text.as_bytes());
    let expected = "FILE:1205: there is no channel \"nowhere\"";
    assert_eq!((code, said.trim_end()), (Some(2), expected));
    let (code, said) = import_file(node, &PathBuf::from("/nowhere/listings.csv"));
    assert_eq!(code, Some(2), "{said}");
    assert_nothing_is_mapped(node).await;
}

// Spreadsheets write marks, line ends and quotes of their own, and people send a file twice.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_any_spreadsheet_are_read() {
    let cluster = Cluster::start(1, |_| ()).await;
    let node = &cluster.nodes[0];
    let all: [(&str, &str, usize); 8] = [
        ("plain", "sku,channel,id\nA,north,1\n", 1),
        ("a mark and Windows' line ends", "\u{feff}sku,channel,id\r\nB,north,2\r\n", 1),
        ("empty cells at the end", "sku,channel,id,note\nC,north,3,\n", 1),
        ("no last line end", "sku,channel,id\nD,north,4", 1),
        ("quotes and blanks", "\"sku\" , channel,\"id\"\n\"E \"\"x\"\", y\", north ,\" 5\"\n", 1),
        ("another order, more columns", "id,note_id,sku,channel\n6,77,F,north\n", 1),
        ("empty lines", "sku,channel,id\n\nG,north,7\n\n\n", 1),
        ("a row twice", "sku,channel,id\nSCHÖN,north,8\nSCHÖN,north,8\n", 2),
    ];
    for _ in 0..2 {
        for (what, text, rows) in all {
            let (code, said) = import(node, text.as_bytes());
            let expected = format!("{rows} listings mapped");
            assert_eq!((code, said.trim_end()), (Some(0), expected.as_str()), "{what}");
        }
    }
    let mut expected: Vec<_> = [
        ("1", "A"),
        ("2", "B"),
        ("3", "C"),
        ("4", "D"),
        ("5", "E \"x\", y"),
        ("6", "F"),
        ("7", "G"),
        ("8", "SCHÖN"),
    ]
    .map(|(id, sku)| ["north".to_string(), gid(id), sku.to_string()])
    .into();
    expected.push(["north".into(), "77".into(), "F".into()]);
    expected.sort();
    assert_eq!(listings(node).await, expected);
    // More rows than one request carries.
    let rows: Vec<String> = (0..1201).map(|n| format!("SKU-{n},north,{}", 1000 + n)).collect();
    let (code, said) = import(node, format!("sku,channel,id\n{}", rows.join("\n")).as_bytes());
    assert_eq!((code, said.trim_end()), (Some(0), "1201 listings mapped"));
    assert_eq!(listings(node).await.len(), expected.len() + 1201);
}

// The API is what the program asks, and others may ask it too: a request that is taken in part leaves
// nobody knowing which.
#[tokio::test(flavor = "multi_thread")]
async fn the_api_takes_all_listings_of_a_request_or_none() {
    let cluster = Cluster::start(1, |_| ()).await;
    let node = &cluster.nodes[0];
    let row =
        |sku: &str, channel: &str, id: &str| json!({ "sku": sku, "channel": channel, "id": id });
    let good = row("MUG", "north", "1");
    let long = "X".repeat(257);
    let many: Vec<Value> = (0..1001).map(|n| row("MUG", "north", &n.to_string())).collect();
    for (listings, status) in [
        (json!([good, row("CUP", "nowhere", "2")]), 422),
        (json!([good, row("", "north", "2")]), 422),
        (json!([good, row("CUP", "north", "")]), 422),
        (json!([good, row(&long, "north", "2")]), 422),
        (json!([good, row("CUP", "north", &long)]), 422),
        (json!([good, { "sku": "CUP", "channel": "north" }]), 422),
        (json!([good, { "sku": "CUP", "channel": "north", "id": 2 }]), 422),
        (json!([good, null]), 422),
        (json!(good), 422),
        (json!(many), 422),
    ] {
        let answer = node.post("/v1/listings", &json!({ "listings": listings })).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    let unknown = json!({ "listings": [], "listing": [] });
    assert_eq!(node.post("/v1/listings", &unknown).await.status, 422);
    assert_eq!(listings(node).await, Vec::<[String; 3]>::new());
    let answer = node.post("/v1/listings", &json!({ "listings": [good, good] })).await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "listings": 2 })));
    assert_eq!(listings(node).await, [["north".to_string(), gid("1"), "MUG".into()]]);
}

/// An order of Shopify's for a variant without a SKU.
fn unnamed(order: u64, variant: u64, quantity: u32) -> Webhook {
    let now = stockraft::clock::rfc3339(stockraft::clock::now_ms());
    let line = |id: u64, sku: Value, variant: u64, quantity: u32| {
        json!({ "id": id, "sku": sku, "variant_id": variant, "quantity": quantity,
            "variant_inventory_management": "shopify" })
    };
    let lines = [line(1, Value::Null, variant, quantity), line(2, json!("CUP"), 2, 1)];
    let body = json!({ "id": order, "updated_at": now, "line_items": lines });
    Webhook::new("orders/create", format!("unnamed-{order}"), body.to_string())
}

async fn committed(node: &Node, sku: &str) -> Option<i64> {
    let path = format!("/v1/stock/{sku}?consistency=linearizable");
    node.try_get(&path).await?["committed"].as_i64()
}

async fn waiting(node: &Node) -> usize {
    let letters = node.list("/v1/topics/deliveries/dead", 100).await;
    letters.iter().filter(|l| l["reason"].as_str().unwrap().starts_with("pending")).count()
}

// A line that waits and is forgotten is a sale that never leaves the other channels' stock; one that moves
// twice when its mapping comes is sold twice.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_mapping_moves_by_itself() {
    let issuer = Issuer::start().await;
    let channels = senders::config(&issuer);
    let cluster = Cluster::start(1, |node| node.more.clone_from(&channels)).await;
    let node = &cluster.nodes[0];
    let odoo = CARRIERS.iter().find(|carrier| carrier.sender == "odoo").unwrap();
    let orders: Vec<Webhook> = (0..300).map(|n| unnamed(7_000 + n, 40_001, 2)).collect();
    for webhook in &orders {
        assert_eq!(node.webhook(webhook).await.unwrap().status, 200);
    }
    for n in 0..3 {
        let body = odoo.body("", 900 + n, &[Line::new(1, "", "4")]);
        let answer = odoo.sender().sign(&[], body.as_bytes()).to(node).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    until_true("all of them wait", async || waiting(node).await == 303).await;
    assert_eq!(committed(node, "CUP").await, Some(300), "other lines do not wait");
    let body = until("the body is kept", async || {
        let letters = node.list("/v1/topics/deliveries/dead", 100).await;
        letters.into_iter().find(|l| l["delivery"] == format!("north:{}", orders[0].id))
    })
    .await;
    assert_eq!(body["body"].as_str().unwrap().as_bytes(), orders[0].body);

    let (code, said) =
        import(node, b"sku,channel,id,variant_id\nTEE,north,1,40001\nMUG,odoo,33,\n");
    assert_eq!(code, Some(0), "{said}");
    until_true("nothing waits any more", async || waiting(node).await == 0).await;
    assert_eq!(committed(node, "TEE").await, Some(600));
    // The movement left the shelf; what it shipped was never promised through this channel.
    let stock = node.get("/v1/stock/MUG?consistency=linearizable").await;
    assert_eq!(stock["on_hand"], -12, "{stock}");
    // The same again, before and after: nothing moves twice.
    for webhook in &orders[..10] {
        assert_eq!(node.webhook(webhook).await.unwrap().status, 200);
        let again = Webhook { id: format!("again-{}", unique()), ..webhook.clone() };
        assert_eq!(node.webhook(&again).await.unwrap().status, 200);
    }
    assert_eq!(import(node, b"sku,channel,id,variant_id\nTEE,north,1,40001\n").0, Some(0));
    cluster.settle().await;
    assert_eq!(committed(node, "TEE").await, Some(600));
    assert_eq!(committed(node, "CUP").await, Some(300));
    // Whoever comes later finds the mapping.
    assert_eq!(node.webhook(&unnamed(9_000, 40_001, 5)).await.unwrap().status, 200);
    until_true("a later order moves at once", async || committed(node, "TEE").await == Some(605))
        .await;
    assert_eq!(waiting(node).await, 0);
}

async fn send(node: &Node, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    let answer = node.api(method, path, &headers, body.to_string()).await.unwrap();
    (answer.status, answer.json())
}

// A policy that is not what was said, or a number that nobody can trace, and the seller goes back to a spreadsheet;
// a channel that vanishes with what it shows sells what is not there.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_channel_gets_is_said_explained_and_ended() {
    let cluster = Cluster::start(1, |_| ()).await;
    let node = &cluster.nodes[0];
    let channel = json!({
        "kind": "shopify", "location": "main", "home": null, "pushes": true, "dedup_window_ms": 600_000,
        "rate_milli": 1000, "burst": 1,
    });
    assert_eq!(send(node, "PUT", "/v1/channels/apart", &channel).await.0, 200);
    let receipt =
        json!({ "movements": [{ "id": "m", "kind": "receipt", "sku": "MUG", "quantity": 100 }] });
    assert_eq!(send(node, "POST", "/v1/movements", &receipt).await.0, 200);
    let listed = json!({ "listings": { "apart": { "id": "1" }, "north": { "id": "2" } } });
    assert_eq!(send(node, "PUT", "/v1/skus/MUG", &listed).await.0, 200);
    policies(node).await;
    explained(node).await;
    taken_out(node).await;
    asked_twice(node).await;
    removed(node).await;
}

// What is read is what was said, and can be said again; by whoever comes late it cannot.
async fn policies(node: &Node) {
    let said = json!([
        { "sku": "NONE-*", "mode": "shared", "weights": {}, "buffers": {} },
        {
            "sku": "*", "mode": "split", "weights": { "apart": 60, "north": 60 }, "half_life": "36h", "floor": "5%",
            "buffers": { "apart": "10%", "north": 80 }, "risk": "0.05%", "max": { "apart": 30 }, "end_at": 2,
        },
    ]);
    let (status, first) = send(node, "PUT", "/v1/policies", &json!({ "policies": said })).await;
    assert_eq!((status, &first["policies"]), (200, &said), "{first}");
    let warnings = first["warnings"].to_string();
    assert!(warnings.contains("matches no SKU") && warnings.contains("80 of 50"), "{warnings}");
    let read = node.get("/v1/policies").await;
    assert_eq!(read, first);
    let (status, again) = send(node, "PUT", "/v1/policies", &read).await;
    assert_eq!((status, &again["policies"]), (200, &said));
    assert!(again["version"].as_u64() > read["version"].as_u64(), "{again}");
    assert_eq!(send(node, "PUT", "/v1/policies", &read).await.0, 409);
    for (wrong, why) in [
        (json!({ "weights": { "apart": -1 } }), "-1 of apart"),
        (json!({ "weights": { "apart": 0 } }), "add up to 0"),
        (json!({ "weights": { "aprat": 1 } }), "there is no channel \\\"aprat\\\""),
        (json!({ "buffers": { "apart": "a lot" } }), "\\\"a lot\\\" of apart"),
        (json!({ "buffer": 1 }), "unknown field `buffer`"),
    ] {
        let mut policy = json!({ "sku": "*", "mode": "split" });
        policy.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        let (status, said) =
            send(node, "PUT", "/v1/policies", &json!({ "policies": [policy] })).await;
        assert!(status == 422 && said.to_string().contains(why), "{wrong}: {said}");
    }
    assert_eq!(node.get("/v1/policies").await, again);
}

// The sum behind the number, and why it is not shown yet.
async fn explained(node: &Node) {
    let explained = node.get("/v1/explain/apart/MUG").await;
    let step = |what: &str| {
        let steps = explained["steps"].as_array().unwrap().iter();
        steps.clone().find(|step| step["what"] == what).unwrap()["units"].as_i64()
    };
    let steps = ["available", "target", "allocated", "buffer", "available_to_sell"].map(step);
    assert_eq!(steps, [100, 50, 50, 5, 30].map(Some), "{explained}");
    assert_eq!(explained["policy"]["place"], 1);
    let version = &node.get("/v1/policies").await["version"];
    assert_eq!(&explained["policy"]["version"], version);
    assert_eq!(explained["movements"][0]["quantity"], 100);
    assert!(explained["not_raised"].as_str().unwrap().contains("no node pushes"), "{explained}");
    for (path, status) in [("apart/CUP", 404), ("nowhere/MUG", 404)] {
        assert_eq!(send(node, "GET", &format!("/v1/explain/{path}"), &json!(null)).await.0, status);
    }
    let url = format!("http://127.0.0.1:{}", node.ports[1]);
    let run = |args: &[&str]| {
        let done =
            stockraft().args(args).args(["--node", &url, "--token", TOKEN]).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let told = run(&["stock", "explain", "apart", "MUG"]);
    assert!(
        told.contains("no node pushes to it yet") && told.contains("10% of the share"),
        "{told}"
    );
    let told = run(&["plan", "--sku", "MUG", "--lag", "15m"]);
    assert!(told.contains("apart") && told.contains("oversells a year"), "{told}");
    let told = run(&["plan", "--velocity", "8", "--lag", "15m", "--stock", "100"]);
    assert!(told.contains("700.8"), "{told}");
}

// Shares come to their targets, also because a channel goes.
async fn removed(node: &Node) {
    let (status, done) = send(node, "POST", "/v1/allocations/rebalance", &json!({})).await;
    assert_eq!((status, &done["pending"]), (200, &json!(false)));
    let unknown = json!({ "skus": ["CUP"] });
    assert_eq!(send(node, "POST", "/v1/allocations/rebalance", &unknown).await.0, 422);
    assert_eq!(send(node, "DELETE", "/v1/channels/nowhere", &json!(null)).await.0, 404);
    let (status, left) = send(node, "DELETE", "/v1/channels/apart", &json!(null)).await;
    assert_eq!((status, &left["removed"], &left["listings_left"]), (200, &json!(false), &json!(1)));
    assert_eq!(node.get("/v1/channels/apart").await["listings_left"], 1);
    let (status, gone) =
        send(node, "DELETE", "/v1/channels/apart?abandon=true", &json!(null)).await;
    assert_eq!((status, &gone["removed"]), (200, &json!(true)), "{gone}");
    let stock = node.get("/v1/stock/MUG").await;
    assert_eq!(stock["channels"]["north"]["allocated"], 100, "{stock}");
    assert!(stock["channels"]["apart"].is_null() && stock["overlap"].is_number(), "{stock}");
    // What its policies say of it stays, and can be sent back.
    let read = node.get("/v1/policies").await;
    assert_eq!(send(node, "PUT", "/v1/policies", &read).await.0, 200);
}

// A listing that is left out goes on selling what it shows; where nothing is pushed to it, for ever.
async fn taken_out(node: &Node) {
    let path = "/v1/skus/MUG";
    let without_north = json!({ "listings": { "apart": { "id": "1" } } });
    let (status, why) = send(node, "PUT", path, &without_north).await;
    assert!(status == 422 && why.to_string().contains("abandon=true"), "{why}");
    let without_apart = json!({ "listings": { "north": { "id": "2" } } });
    let (status, left) = send(node, "PUT", path, &without_apart).await;
    assert_eq!((status, &left["leaving"]), (200, &json!(["apart"])), "{left}");
    let leaves = &node.get("/v1/stock/MUG").await["channels"]["apart"];
    assert_eq!((&leaves["leaves"], &leaves["desired"]), (&json!(true), &json!(0)), "{leaves}");
    // What is read can be said again, and changes nothing.
    let mut read = node.get(path).await;
    assert_eq!(send(node, "PUT", path, &read).await, (200, left));
    read["listings"]["apart"] = json!({ "id": "1" });
    let (status, back) = send(node, "PUT", path, &read).await;
    assert_eq!((status, &back["leaving"]), (200, &json!(null)), "{back}");
    let (status, gone) = send(node, "PUT", &format!("{path}?abandon=true"), &without_north).await;
    assert!(status == 200 && gone["listings"]["north"].is_null(), "{gone}");
    let all = json!({ "listings": { "apart": { "id": "1" }, "north": { "id": "2" } } });
    assert_eq!(send(node, "PUT", path, &all).await.0, 200);
}

// An answer may be lost. Who asks again must not undo what was done since.
async fn asked_twice(node: &Node) {
    let authorization = format!("Bearer {TOKEN}");
    let post = async |path: &str, key: &str, body: &Value| {
        let headers = [("authorization", authorization.as_str()), ("idempotency-key", key)];
        let answer = node.api("POST", path, &headers, body.to_string()).await.unwrap();
        (answer.status, answer.json())
    };
    let (pause, why) = ("/v1/channels/apart/pause", json!({ "why": "stock take" }));
    assert_eq!(post(pause, "p", &why).await.1["paused"]["why"], "stock take");
    assert_eq!(post("/v1/channels/apart/resume", "r", &json!({})).await.0, 200);
    let (status, again) = post(pause, "p", &why).await;
    assert!(status == 200 && again["paused"].is_null(), "{again}");
    for (path, key, body) in [
        (pause, "p", json!({ "why": "another" })),
        ("/v1/channels/north/pause", "p", why.clone()),
        ("/v1/channels/apart/resume", "p", json!({})),
        ("/cluster/snapshot", "p", json!({})),
    ] {
        let (status, refused) = post(path, key, &body).await;
        assert_eq!((status, &refused["type"]), (422, &json!("idempotency_key_reused")), "{path}");
    }
    let listing = json!({ "listings": [{ "sku": "PEN", "channel": "north", "id": "3" }] });
    for _ in 0..2 {
        for (path, key, body) in [
            ("/v1/listings", "l", &listing),
            ("/v1/allocations/rebalance", "b", &json!({})),
            ("/v1/channels/apart/push", "u", &json!({ "sku": "MUG" })),
            ("/cluster/snapshot", "s", &json!({})),
            ("/cluster/members/1/promote", "m", &json!({})),
        ] {
            let (status, answer) = post(path, key, body).await;
            assert_eq!(status, 200, "{path}: {answer}");
        }
    }
    // And a list is read page by page.
    let names = |items: &[Value]| items.iter().map(|one| one["name"].clone()).collect::<Vec<_>>();
    let whole = node.get("/v1/channels").await;
    let whole = names(whole["items"].as_array().unwrap());
    assert!(whole.len() > 1 && whole == names(&node.list("/v1/channels", 1).await), "{whole:?}");
}
