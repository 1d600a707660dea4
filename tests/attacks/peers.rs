//! Who talks to the port that is for members.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::certificates::certify;
use crate::support::{Cluster, Node, PATIENCE, orders, unique};

fn certified(node: &mut Node) {
    let dir = node.dir.join("authority");
    certify(&dir, &[node.id]).unwrap();
    let path = |file: String| dir.join(file).display().to_string();
    node.more = format!(
        "[peer_tls]\nca = \"{}\"\ncert = \"{}\"\nkey = \"{}\"\n",
        path("ca.pem".into()),
        path(format!("node-{}.pem", node.id)),
        path(format!("node-{}.key", node.id)),
    );
}

/// Sends bytes and closes; everything that comes back.
async fn say(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    // It may be closed before all was sent.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    answer
}

// Whoever appends to the log decides what stock there is: without a certificate of the cluster's authority
// nobody may get so far as to be asked what he wants.
#[tokio::test(flavor = "multi_thread")]
async fn the_peer_port_says_nothing_to_strangers() {
    let mut cluster = Cluster::start(1, certified).await;
    // Of another cluster, and quite sure that it is a member of this one.
    let dir = tempfile::tempdir().unwrap();
    let mut stranger = Node::new(2, dir.path().join("stranger"));
    certified(&mut stranger);
    stranger.start().await;
    let node = &cluster.nodes[0];
    let before = node.get("/cluster/status").await;

    let upgrade =
        "GET /peer HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: stockraft-peer\r\n\r\n";
    for bytes in [
        b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(),
        [upgrade.as_bytes(), &[0, 0, 0, 5, 1, 1, 0, 0, 0]].concat(),
        // A record of TLS that claims to be longer than it is, and one of an old version.
        b"\x16\x03\x01\xff\xff\x01\x00".repeat(100),
        b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x01\x00\x80".to_vec(),
        vec![0xff; 1 << 16],
    ] {
        let answer = say(node.ports[2], &bytes).await;
        // An alert of TLS at the most.
        assert!(answer.len() <= 7 && !answer.starts_with(b"HTTP"), "{answer:?}");
    }
    let silent: Vec<TcpStream> = {
        let connects = (0..200).map(|_| TcpStream::connect(("127.0.0.1", node.ports[2])));
        futures::future::try_join_all(connects).await.unwrap()
    };
    let founding = serde_json::json!({ "members": [node.member(), stranger.member()] });
    let founded = stranger.post("/cluster/init", &founding);
    let _ = tokio::time::timeout(Duration::from_secs(2), founded).await;

    let webhook = orders::create(7_200_000_000_000 + 10 * unique(), "MUG", 1);
    assert_eq!(node.webhook(&webhook).await.unwrap().status, 200);
    cluster.settle().await;
    let after = cluster.nodes[0].get("/cluster/status").await;
    for same in ["/term", "/role", "/members/0/addresses", "/members/1"] {
        assert_eq!(before.pointer(same), after.pointer(same), "{same}: {after}");
    }
    assert_eq!(stranger.get("/cluster/status").await["leader"], Value::Null);
    drop(silent);
    stranger.stop().await;
    assert_eq!(cluster.nodes[0].stop().await.code(), Some(0));
}
