//! Promise: a region that is cut off goes on answering 200, and loses nothing when it comes back.

use std::time::Instant;

use crate::support::book::{Book, Traffic};
use crate::support::links::{Cut, Links};
use crate::support::{CHANNEL, Cluster, orders, unique, until, until_true};

async fn cluster_with_links() -> (Cluster, Links) {
    let mut cluster = Cluster::plan(3, |_| ());
    let links = Links::before(&mut cluster).await;
    for node in &mut cluster.nodes {
        node.start().await;
    }
    links.know(&cluster.nodes);
    crate::support::found(&cluster.nodes.iter().collect::<Vec<_>>()).await;
    (cluster, links)
}

async fn is_at_rest(cluster: &Cluster, n: usize) -> bool {
    let status = cluster.nodes[n].get("/cluster/status").await;
    status["backlog"] == 0
}

// A node that waits for the others would send its region's webhooks back, and senders disable a webhook
// that fails for long. What it kept meanwhile could be proposed twice, or in another's place, afterwards;
// and as a former leader it could believe its own tail of the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_cut_off_goes_on_answering() {
    let (cluster, links) = cluster_with_links().await;
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.ports[0]).collect();
    let book = Book::default();
    let everywhere = Traffic::start(&book, &ports, 4);
    everywhere.more(60).await;
    // First a follower, then whoever leads.
    for turn in 0..2 {
        let leader = cluster.leader().await;
        let alone = if turn == 0 { (leader + 1) % 3 } else { leader };
        links.set(Cut::Around(cluster.nodes[alone].id));
        let meanwhile = Book::default();
        let there = Traffic::start(&meanwhile, &[ports[alone]], 2);
        there.more(60).await;
        let before = cluster.nodes[alone].get("/cluster/status").await;
        let waiting = before["backlog"].as_i64().unwrap();
        assert!(waiting > 0, "it is not cut off: {before}");
        let cut = Instant::now();
        until_true("the others agree without it", async || {
            let others: Vec<usize> = (0..3).filter(|n| *n != alone).collect();
            let status = cluster.nodes[others[0]].get("/cluster/status").await;
            status["index"].as_u64() > before["index"].as_u64().map(|index| index + 20)
        })
        .await;
        println!("the others went on {:?} after the cut", cut.elapsed());
        there.stop().await;
        links.set(Cut::Nothing);
        let healed = Instant::now();
        let other = &cluster.nodes[(alone + 1) % 3];
        until_true("what was kept is agreed on", async || {
            meanwhile.missing(other).await.is_empty()
        })
        .await;
        println!("{waiting} deliveries waited, agreed on {:?} after healing", healed.elapsed());
        book.take_in(&meanwhile);
    }
    everywhere.stop().await;
    cluster.settle().await;
    for node in &cluster.nodes {
        book.check(node).await;
    }
    println!("{:?}", book.totals());
}

// With no majority anywhere nothing can be agreed on, and still every region must take its webhooks;
// one that dies meanwhile must bring along what it has on its disk.
#[tokio::test(flavor = "multi_thread")]
async fn regions_that_are_all_alone_go_on_answering() {
    let (mut cluster, links) = cluster_with_links().await;
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.ports[0]).collect();
    let book = Book::default();
    links.set(Cut::Everything);
    for (n, port) in ports.into_iter().enumerate() {
        let there = Traffic::start(&book, &[port], 2);
        there.more(40).await;
        there.stop().await;
        assert!(!is_at_rest(&cluster, n).await, "they are not cut off");
    }
    cluster.nodes[1].kill();
    cluster.nodes[1].start().await;
    links.know(&cluster.nodes);
    // The cluster's state is not known to a node that starts alone; its disk is.
    links.set(Cut::Nothing);
    cluster.settle().await;
    for node in &cluster.nodes {
        book.check(node).await;
    }
    assert_eq!(book.totals().uncertain, 0, "all of them were answered: {:?}", book.totals());
}

// A region that is alone and restarts has nobody to ask what the cluster is: it must know by itself, from
// its own disk, and take webhooks before anybody answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_restarts_alone_goes_on_answering() {
    let mut cluster = Cluster::start(3, |_| ()).await;
    let book = Book::default();
    // One whose log is all that it has, and one with a snapshot.
    for (n, snapshot) in [(1, false), (2, true)] {
        let everywhere = Traffic::start(&book, &[cluster.nodes[0].ports[0]], 2);
        everywhere.more(20).await;
        everywhere.stop().await;
        cluster.settle().await;
        if snapshot {
            let built = cluster.nodes[n].post("/cluster/snapshot", &serde_json::json!({})).await;
            assert_eq!(built.status, 200, "{}", built.text());
        }
        for other in (0..3).filter(|other| *other != n) {
            cluster.nodes[other].kill();
        }
        cluster.nodes[n].kill();
        cluster.nodes[n].start().await;
        let there = Traffic::start(&book, &[cluster.nodes[n].ports[0]], 2);
        there.more(20).await;
        there.stop().await;
        for other in (0..3).filter(|other| *other != n) {
            cluster.nodes[other].start().await;
        }
        cluster.settle().await;
    }
    book.check(&cluster.nodes[0]).await;
}

// An operator asks where a sale is: one that waits here and one that was shown everywhere look the same, or a
// delivery that only waits is said to be unknown.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_says_how_far_it_came() {
    let (cluster, links) = cluster_with_links().await;
    let alone = (cluster.leader().await + 1) % 3;
    let node = &cluster.nodes[alone];
    links.set(Cut::Around(node.id));
    let webhook = orders::create(unique(), "MUG", 2);
    assert_eq!(node.webhook(&webhook).await.unwrap().status, 200);
    let path = format!("/v1/deliveries/{CHANNEL}:{}", webhook.id);
    let waits = node.get(&path).await;
    assert!(waits["received"].as_str() <= waits["durable"].as_str(), "{waits}");
    assert!(waits["durable"].is_string() && waits["committed"].is_null(), "{waits}");
    let other = &cluster.nodes[(alone + 1) % 3];
    assert_eq!(other.try_get(&path).await, None, "it is known where it never came");
    links.set(Cut::Nothing);
    for node in &cluster.nodes {
        let known = until("everybody knows it", async || node.try_get(&path).await).await;
        if known["committed"].is_null() {
            until_true("it is agreed on", async || !node.get(&path).await["committed"].is_null())
                .await;
        }
        let known = node.get(&path).await;
        for same in ["received", "durable"] {
            assert_eq!(known[same], waits[same], "{known}");
        }
        let line = &known["movements"][0];
        assert_eq!((&line["kind"], &line["quantity"]), (&"sale".into(), &2.into()), "{known}");
        assert_eq!(known["dead"], serde_json::json!([]));
    }
}
