//! Promise: a file of stock is imported whole, once, or not at all; what was exported can be imported.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::{Cluster, Node, TOKEN, stockraft};
use serde_json::{Value, json};

/// What the command line said: exit code, standard output, standard error.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn command(node: &Node, arguments: &[&str]) -> Command {
    let mut command = stockraft();
    command.args(arguments).env("STOCKRAFT_TOKEN", TOKEN);
    command.env("STOCKRAFT_NODE", format!("http://127.0.0.1:{}", node.ports[1]));
    command
}

fn run(node: &Node, arguments: &[&str]) -> Said {
    let output = command(node, arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// The same, which must succeed; its answer as JSON.
fn done(node: &Node, arguments: &[&str]) -> Value {
    let said = run(node, &[arguments, &["--output", "json"]].concat());
    assert_eq!(said.code, Some(0), "{arguments:?}: {}{}", said.out, said.err);
    serde_json::from_str(&said.out).unwrap()
}

// A connection that breaks must not leave behind half a file that looks like the whole.
#[test]
fn an_export_that_breaks_off_leaves_no_file() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let node = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        let head = "HTTP/1.1 200 OK\r\nx-stockraft-index: 7\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(format!("{head}a\r\nsku,locati\r\n").as_bytes()).unwrap();
    });
    let dir = tempfile::tempdir().unwrap();
    let file = path(dir.path(), "levels.csv");
    let mut command = stockraft();
    command.args(["stock", "export", &file, "--token", TOKEN, "--node", &node]);
    let output = command.output().unwrap();
    server.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().unwrap().to_string()
}

/// On hand by SKU and location.
fn on_hand(node: &Node) -> Vec<(String, String, i64)> {
    let said = run(node, &["stock", "export", "-"]);
    let row = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| row[name].as_str().unwrap().to_string();
        (text("sku"), text("location"), row["on_hand"].as_i64().unwrap())
    };
    said.out.lines().map(row).filter(|(.., units)| *units != 0).collect()
}

fn imported(answer: &Value) -> [u64; 4] {
    ["imported", "repeated", "refused", "bad"].map(|name| answer[name].as_u64().unwrap())
}

// Whoever moves to another cluster, or makes good a mistake, does it with these files: names with commas,
// quotes and line breaks included.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_exported_can_be_imported_elsewhere() {
    let (here, there) = (Cluster::start(1, |_| ()).await, Cluster::start(1, |_| ()).await);
    let (here, there) = (&here.nodes[0], &there.nodes[0]);
    let odd = ["=1+1", "a,b", "a \"b\"", "a\nb", "Größe S", "a;b"];
    let movements: Vec<Value> = (0..1_500)
        .map(|n| {
            let sku = odd.get(n).map_or_else(|| format!("SKU-{n}"), ToString::to_string);
            let location = ["main", "outlet"][n % 2];
            json!({ "id": format!("r-{n}"), "kind": "receipt", "sku": sku,
                "quantity": n + 1, "location": location, "reference": "opening, all" })
        })
        .collect();
    for some in movements.chunks(1_000) {
        let answer = here.post("/v1/movements", &json!({ "movements": some })).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    done(here, &["stock", "transfer", "SKU-100", "1", "--to", "outlet", "--reference", "T"]);
    let expected = on_hand(here);
    assert_eq!(expected.len(), 1_500);
    let dir = tempfile::tempdir().unwrap();

    let levels = path(dir.path(), "levels.csv");
    let written = done(here, &["stock", "export", &levels]);
    assert_eq!(written["index"], here.get("/cluster/status").await["index"], "{written}");
    let text = fs::read_to_string(&levels).unwrap();
    let header = "sku,location,on_hand,committed,reserved,escrowed,incoming,available\r\n";
    assert!(text.starts_with(header) && text.contains("\r\n\"a \"\"b\"\"\",main,3,"), "{text}");
    let dry = done(there, &["stock", "import", &levels, "--dry-run"]);
    assert_eq!((&dry["rows"], on_hand(there).len()), (&json!(1_501), 0));
    // One level has nothing on hand: a transfer is on its way there.
    let first = done(there, &["stock", "import", &levels]);
    assert_eq!(imported(&first), [1_501, 0, 0, 0], "{first}");
    assert_eq!(on_hand(there), expected);

    // Again it changes nothing, though stock moved since; another file with the same rows is another count.
    done(there, &["stock", "adjust", "SKU-100", "5"]);
    let again = done(there, &["stock", "import", &levels]);
    assert_eq!(imported(&again), [0, 1_501, 0, 0], "{again}");
    assert_eq!(there.get("/v1/stock/SKU-100").await["on_hand"], 105);
    let other = path(dir.path(), "levels.jsonl");
    done(here, &["stock", "export", &other]);
    let counted = done(there, &["stock", "import", &other]);
    assert_eq!((imported(&counted), on_hand(there)), ([1_501, 0, 0, 0], expected.clone()));

    // The ledger itself, line by line, with the hashes that the API shows.
    let third = Cluster::start(1, |_| ()).await;
    let third = &third.nodes[0];
    for name in ["movements.csv", "movements.jsonl"] {
        let file = path(dir.path(), name);
        done(here, &["stock", "export", &file, "--what", "movements"]);
        let answer = done(third, &["stock", "import", &file]);
        assert_eq!(answer["rows"], 1_501, "{answer}");
    }
    let lines = fs::read_to_string(path(dir.path(), "movements.jsonl")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_sku: Vec<&Value> = lines.iter().rev().filter(|line| line["sku"] == "SKU-100").collect();
    let shown = here.list("/v1/stock/SKU-100/movements", 10).await;
    assert_eq!(of_sku, shown.iter().collect::<Vec<_>>());
    // Both files were imported: twice the stock, as they are two files.
    assert_eq!(third.get("/v1/stock/SKU-101").await["on_hand"], 204);
}

// A file of ten thousand rows with one typing error must be found out before, not after, half of it was
// booked; and the error must say where to look.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_file_is_told_before_any_of_it_counts() {
    let cluster = Cluster::start(1, |_| ()).await;
    let node = &cluster.nodes[0];
    let dir = tempfile::tempdir().unwrap();
    let long = format!("sku,on_hand\nGOOD,1\n{},2\n", "x".repeat(257));
    let open = format!("sku,on_hand\nGOOD,1\n\"{}", "x\n".repeat(600_000));
    for (text, line, why) in [
        (&b"sku,on_hnd\nGOOD,1\n"[..], 1, "levels need the columns sku and on_hand"),
        (b"sku,on_hand,locatoin\nGOOD,1,a\n", 1, "no column \"locatoin\"; is \"location\" meant?"),
        (b"kind,sku\nreceipt,GOOD\n", 1, "need a column quantity"),
        (b"sku;on_hand\nGOOD;1\n", 1, "by commas"),
        (b"sku,sku,on_hand\nGOOD,GOOD,1\n", 1, "twice"),
        (b"", 1, "nothing is in this file"),
        (b"\xff\xfes\0k\0u\0", 1, "UTF-16"),
        (b"PK\x03\x04", 1, "save it as CSV"),
        (b"[{\"sku\":\"GOOD\",\"on_hand\":1}]", 1, "one object a line"),
        (b"sku,on_hand\nGOOD,1\nBAD,\"1,000\"\n", 3, "not a whole number"),
        (b"sku,on_hand\nGOOD,1\nBAD,1.0\n", 3, "not a whole number"),
        (b"sku,on_hand\nGOOD,1\nBAD,99999999999999999999\n", 3, "too large"),
        (b"sku,on_hand\nGOOD,1\nBAD,9007199254740993\n", 3, "at the most"),
        (b"sku,on_hand\nGOOD,1\nBAD,-1\n", 3, "below zero"),
        (b"sku,on_hand\nGOOD,1\nBAD,\n", 3, "on_hand: nothing stands here"),
        (b"sku,on_hand\nGOOD,1\nBAD\n", 3, "1 cells, the header has 2 columns"),
        (b"sku,on_hand\nGOOD,1\nBAD,2,3\n", 3, "under no column"),
        (b"sku,on_hand\r\nGOOD,1\r\nGr\xf6\xdfe,2\r\n", 3, "not UTF-8"),
        (b"sku,on_hand,location\nGOOD,1,\nGOOD,2,main\n", 3, "in an earlier row too"),
        (b"sku,on_hand\rGOOD,1\r", 1, "CR alone"),
        (long.as_bytes(), 3, "sku: between 1 and 256 bytes"),
        (open.as_bytes(), 3, "is a quote not closed?"),
        (b"kind,sku,quantity\nreceipt,GOOD,1\nreceipt,BAD,0\n", 3, "zero"),
        (b"kind,sku,quantity\nreceipt,GOOD,1\nreceipt,BAD,-1\n", 3, "negative"),
        (b"kind,sku,quantity\nreceipt,GOOD,1\nreceipt,BAD,1000000001\n", 3, "at the most"),
        (b"kind,sku,quantity\nreceipt,GOOD,1\ngift,BAD,1\n", 3, "is none of sale"),
        (b"kind,sku,quantity\nreceipt,GOOD,1\ntransfer,GOOD,1\n", 3, "to_location"),
        (b"id,kind,sku,quantity\na,receipt,GOOD,1\na,receipt,BAD,1\n", 3, "this id"),
        (
            b"kind,sku,quantity,occurred_at\nreceipt,GOOD,1,\nreceipt,BAD,1,monday\n",
            3,
            "no RFC 3339 time",
        ),
        (
            b"{\"sku\":\"GOOD\",\"on_hand\":1}\n{\"sku\":\"BAD\",\"on_hand\":1.5}\n",
            2,
            "not a whole",
        ),
        (
            b"{\"sku\":\"GOOD\",\"on_hand\":1}\n{\"sku\":\"BAD\",\"onhand\":1}\n",
            2,
            "is \"on_hand\" meant?",
        ),
        (b"{\"sku\":\"GOOD\",\"on_hand\":1}\n{\"sku\":[],\"on_hand\":1}\n", 2, "sku: neither"),
        (b"{\"sku\":\"GOOD\",\"on_hand\":1}\nBAD\n", 2, "no JSON object"),
    ] {
        let file = path(dir.path(), "bad");
        fs::write(&file, text).unwrap();
        let begin = String::from_utf8_lossy(&text[..text.len().min(60)]);
        let said = run(node, &["stock", "import", &file]);
        assert_eq!(said.code, Some(1), "{begin}: {}", said.out);
        let place = format!("{file}:{line}: ");
        let told = said.err.lines().any(|told| told.contains(&place) && told.contains(why));
        assert!(told, "{begin}: expected {place}{why}, was told {}", said.err);
    }
    assert_eq!(node.list("/v1/stock", 10).await, Vec::<Value>::new(), "nothing was imported");

    // Asked to, it takes the rest.
    let file = path(dir.path(), "some");
    fs::write(&file, "\u{feff}sku,on_hand\r\nA,1\r\n\r\nBAD,x\r\n\"B\",\"2\"\r\n,\r\nA,9\r\n")
        .unwrap();
    let answer = done(node, &["stock", "import", &file, "--skip-bad"]);
    assert_eq!(imported(&answer), [2, 0, 0, 2], "{answer}");
    let found = [("A".into(), "main".into(), 1), ("B".into(), "main".into(), 2)];
    assert_eq!(on_hand(node), found);
}

// A level of zero is one too, and a SKU that nobody knew is known from then on; what the cluster refuses must
// be told with its line, and the rest must stand.
#[tokio::test(flavor = "multi_thread")]
async fn imports_meet_a_ledger_that_goes_on() {
    let cluster = Cluster::start(1, |_| ()).await;
    let node = &cluster.nodes[0];
    let dir = tempfile::tempdir().unwrap();
    done(node, &["stock", "receive", "MUG", "7"]);
    let file = path(dir.path(), "levels.csv");
    fs::write(&file, "location,on_hand,sku\n,0,MUG\n,0,NEW\noutlet,5,MUG\n").unwrap();
    assert_eq!(imported(&done(node, &["stock", "import", &file])), [3, 0, 0, 0]);
    assert_eq!(on_hand(node), [("MUG".into(), "outlet".into(), 5)]);
    assert_eq!(node.get("/v1/stock/NEW").await["on_hand"], 0, "known from now on");

    let kit = json!({ "components": [{ "sku": "MUG", "quantity": 2 }] });
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    let put = node.api("PUT", "/v1/skus/PAIR", &headers, kit.to_string()).await.unwrap();
    assert_eq!(put.status, 200);
    let file = path(dir.path(), "refused.csv");
    fs::write(
        &file,
        "id,kind,sku,quantity,location,reason\n\
         a,receipt,MUG,1,outlet,\"found, behind the shelf\"\n\
         b,receipt,PAIR,1,,\n\
         c,sale,UNKNOWN,1,,\n\
         d,adjustment,MUG,-2,outlet,\n",
    )
    .unwrap();
    let said = run(node, &["stock", "import", &file]);
    assert_eq!(said.code, Some(1), "{}", said.out);
    for told in [":3: a kit has no stock of its own", ":4: there is no SKU \"UNKNOWN\""] {
        assert!(said.err.contains(told), "{told}: {}", said.err);
    }
    assert_eq!(on_hand(node), [("MUG".into(), "outlet".into(), 4)]);
    let again = run(node, &["stock", "import", &file, "--output", "json"]);
    let answer: Value = serde_json::from_str(&again.out).unwrap();
    assert_eq!(imported(&answer), [0, 2, 2, 0], "{answer}");

    // By hand: counted against a reading, refused where something moved since.
    let index = node.get("/v1/stock/MUG").await["as_of"]["index"].to_string();
    done(node, &["stock", "count", "MUG", "9", "--location", "outlet"]);
    let stale =
        run(node, &["stock", "count", "MUG", "8", "--location", "outlet", "--as-of", &index]);
    assert!(stale.code == Some(1) && stale.err.contains("stale"), "{}", stale.err);
    assert_eq!(node.get("/v1/stock/MUG").await["on_hand"], 9);
    let short = run(node, &["stock", "shortfalls"]);
    assert_eq!((short.code, short.out.lines().count()), (Some(0), 1), "{}", short.out);
}

// Units that arrive while a file is imported must not be counted away: a level is set against what the
// importer knew, or told to be stale.
#[tokio::test(flavor = "multi_thread")]
async fn a_level_is_never_set_over_what_moved_meanwhile() {
    let cluster = Cluster::start(1, |_| ()).await;
    let node = &cluster.nodes[0];
    done(node, &["stock", "receive", "MUG", "7"]);
    let dir = tempfile::tempdir().unwrap();
    let ended = AtomicBool::new(false);
    let moving = async {
        let mut n = 0;
        while !ended.load(Ordering::Relaxed) {
            n += 1;
            let id = format!("moving-{n}");
            let receipt = json!({ "id": id, "kind": "receipt", "sku": "MUG", "quantity": 1 });
            node.post("/v1/movements", &json!({ "movements": [receipt] })).await;
        }
    };
    let importing = async {
        let (mut set, mut stale) = (0, 0);
        for units in 0..12 {
            let file = path(dir.path(), &format!("{units}.csv"));
            fs::write(&file, format!("sku,on_hand\nMUG,{units}\n")).unwrap();
            let arguments = ["stock", "import", &file, "--output", "json"];
            let import = tokio::process::Command::from(command(node, &arguments)).output();
            let output = import.await.unwrap();
            let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
            match imported(&answer) {
                [1, 0, 0, 0] => set += 1,
                [0, 0, 1, 0] => stale += 1,
                other => panic!("{other:?}"),
            }
            let told = String::from_utf8_lossy(&output.stderr).contains("stale");
            assert_eq!(
                (told, output.status.code()),
                (answer["refused"] == 1, Some(i32::from(told)))
            );
        }
        ended.store(true, Ordering::Relaxed);
        (set, stale)
    };
    let (set, stale) = tokio::join!(importing, moving).0;
    let lines = node.list("/v1/stock/MUG/movements", 1000).await;
    let is_import =
        |line: &&Value| line["delivery"].as_str().is_some_and(|id| id.starts_with("import:"));
    let counted: Vec<i64> =
        lines.iter().filter(is_import).map(|line| line["on_hand"].as_i64().unwrap()).collect();
    let written = counted.iter().all(|units| (0..12).contains(units));
    assert!(
        written && counted.is_sorted_by(|newer, older| newer > older),
        "what was written: {counted:?}"
    );
    assert!(counted.len() <= set && set + stale == 12, "{set} set, {stale} stale: {counted:?}");
}
