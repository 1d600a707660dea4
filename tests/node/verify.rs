//! Promise: all replicas are the same, provably: `verify` finds what is not, and names it.

use crate::support::{Cluster, TOKEN, stockraft, until};
use cluster::durable::Batch;
use serde_json::json;
use stockraft::history::{self, History};

/// The command and its exit code.
fn verify(cluster: &Cluster, n: usize) -> (Option<i32>, String) {
    let node = format!("http://127.0.0.1:{}", cluster.nodes[n].ports[1]);
    let arguments = ["cluster", "verify", "--node", &node, "--token", TOKEN];
    let done = stockraft().args(arguments).output().unwrap();
    (done.status.code(), String::from_utf8(done.stdout).unwrap())
}

// A line that somebody put into one node's history, by a bug or by hand, explains numbers that never
// were; a check that trusts what was summed up before, or the node that is asked, does not see it.
#[tokio::test(flavor = "multi_thread")]
async fn a_planted_movement_is_found_and_its_node_named() {
    let mut cluster = Cluster::start(3, |_| ()).await;
    for n in 0..5 {
        let receipt = json!({ "movements": [
            { "id": format!("r{n}"), "kind": "receipt", "sku": format!("SKU-{}", n % 2), "quantity": 3 },
        ] });
        assert_eq!(cluster.nodes[n % 3].post("/v1/movements", &receipt).await.status, 200);
    }
    cluster.settle().await;
    let (code, said) = verify(&cluster, 0);
    assert_eq!(code, Some(0), "{said}");
    let verdict = cluster.nodes[1].get("/cluster/verify").await;
    assert_eq!(verdict["ok"], true, "{verdict}");
    for node in verdict["nodes"].as_array().unwrap() {
        assert_eq!((&node["movements"], &node["fault"]), (&json!(5), &json!(null)), "{verdict}");
    }

    // Behind a snapshot: what the log still holds is written again at the next start.
    assert_eq!(cluster.nodes[1].post("/cluster/snapshot", &json!({})).await.status, 200);
    until("a snapshot", async || {
        cluster.nodes[1].get("/cluster/status").await["snapshot"].as_u64()
    })
    .await;
    cluster.nodes[1].stop().await;
    let index = plant(&cluster.nodes[1].data_dir.join("state/history.1"));
    cluster.nodes[1].start().await;
    cluster.settle().await;
    let verdict = until("all nodes report", async || {
        let verdict = cluster.nodes[2].try_get("/cluster/verify?wait_s=20").await?;
        let nodes = verdict["nodes"].as_array().unwrap();
        nodes.iter().all(|node| node["reported"] == true).then_some(verdict)
    })
    .await;
    assert_eq!(verdict["ok"], false, "{verdict}");
    for node in verdict["nodes"].as_array().unwrap() {
        let fault = node["fault"].as_str().unwrap_or_default();
        let is_named =
            fault.contains(&format!("log index {index}, line 1: receipt 3 of \"SKU-0\""));
        assert_eq!(is_named, node["id"] == 2, "{verdict}");
        assert!(is_named || fault.is_empty(), "{verdict}");
    }
    let (code, said) = verify(&cluster, 0);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the history is broken"), "{said}");
}

/// Repeats the first movement of a history behind itself; its log index.
fn plant(dir: &std::path::Path) -> u64 {
    let history = History::open(dir).unwrap();
    let (index, ..) = history.all(u64::MAX).next().unwrap().unwrap();
    let mut lines = history.lines(index).unwrap().unwrap();
    lines.0.push(lines.0[0].clone());
    let mut batch = Batch::default();
    history::put_lines(&mut batch, index, &lines);
    history.write(batch).unwrap();
    history.make_durable().unwrap();
    index
}
