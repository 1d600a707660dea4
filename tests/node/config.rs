//! Promise: a config with faults is refused at once, with every fault on a line of its own.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use crate::support::{Node, stockraft, write_private};

fn check(text: &str) -> (Option<i32>, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    write_private(&path, text);
    checked(&path)
}

fn checked(path: &Path) -> (Option<i32>, Vec<String>) {
    let output = stockraft().arg("check").arg("--config").arg(path).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let file = path.display().to_string();
    let lines = said.lines().map(|line| line.replace(&file, "FILE")).collect();
    (output.status.code(), lines)
}

const NODE: &str = "[node]\nid = 1\nregion = \"eu\"\ndata_dir = \"data\"\n";

// A fault that names no line costs an hour; one at a time costs a deploy each.
#[test]
fn every_fault_is_said_with_its_line_and_the_nearest_key() {
    let (code, lines) = check(NODE);
    assert_eq!((code, lines), (Some(0), vec!["FILE: no faults".to_string()]));
    for (more, expected) in [
        ("regoin = \"us\"\n", "FILE:5: unknown key `regoin`; did you mean `region`?"),
        ("[ingset]\nack = \"local\"\n", "FILE:5: unknown key `ingset`; did you mean `ingest`?"),
        ("[ingest]\nack = \"locl\"\n", "FILE:6: unknown value `locl`; did you mean `local`?"),
        (
            "[ingest]\ndedup_windw = \"7d\"\n",
            "FILE:6: unknown key `dedup_windw`; did you mean `dedup_window`?",
        ),
    ] {
        let (code, lines) = check(&format!("{NODE}{more}"));
        assert_eq!((code, lines), (Some(2), vec![expected.to_string()]), "{more}");
    }
}

// The first fault must not hide the others.
#[test]
fn several_faults_are_said_at_once() {
    let text = format!(
        "{NODE}colour = \"red\"\n\n[listen]\npubic = \"127.0.0.1:1\"\nadmin = \"somewhere\"\n\n\
         [raft]\nheartbeat = \"5 parsecs\"\n\n[ingest]\nmax_body = \"1 mouthful\"\n"
    );
    let (code, lines) = check(&text);
    assert_eq!(code, Some(2));
    let starts = ["FILE:5: ", "FILE:8: ", "FILE:9: ", "FILE:12: ", "FILE:15: "];
    let found: Vec<bool> =
        starts.iter().map(|start| lines.iter().any(|line| line.starts_with(start))).collect();
    assert_eq!(found, [true; 5], "{lines:#?}");
    assert_eq!(lines.len(), 5, "one line each: {lines:#?}");
}

// What is well written can still be meant wrongly; a mention in a comment is not where the fault is.
#[test]
fn what_makes_no_sense_is_said_too() {
    let text = "# The id of a node, its peer and the election: see the manual.\n\
         [node]\nid = 0\nregion = \"eu\"\ndata_dir = \"data\"\n\n\
         [listen]\npeer = \"0.0.0.0:8082\"\n\n\
         [raft]\nheartbeat = \"1s\"\nelection = \"1s\"\n\n\
         [[channel]]\nname = \"a\"\nkind = \"shopifi\"\nsecrets = [\"long-enough-secret\"]\n\n\
         [[channel]]\nname = \"b\"\nkind = \"ebay\"\nsecrets = [\"short\"]\n\n\
         [[channel]]\nname = \"c\"\nkind = \"shopify\"\nsecrets = [\"env:THERE_IS_NO_SUCH_NAME\"]\n\
         api = { base_url = \"http://example.com\", token = \"long-enough-token\" }\n\n\
         [[channel]]\nname = \"c\"\nkind = \"shopify\"\nrate = { per_second = 0, burst = 1 }\n";
    let (code, lines) = check(text);
    assert_eq!(code, Some(2));
    for expected in [
        "FILE:3: node.id",
        "FILE:8: listen.peer",
        "FILE:12: raft.election",
        "FILE:15: channel \"a\": there is no kind \"shopifi\"; did you mean \"shopify\"?",
        "FILE:20: channel \"b\": needs api: the keys that eBay signs with",
        "FILE:20: channel \"b\": a secret has at least 8 characters",
        "FILE:25: channel \"c\": the environment has no THERE_IS_NO_SUCH_NAME",
        "FILE:25: channel \"c\": api.base_url: ",
        "channel \"c\": there are two of this name",
        "channel \"c\": needs secrets",
        "channel \"c\": rate.per_second",
    ] {
        assert!(lines.iter().any(|line| line.contains(expected)), "{expected}: {lines:#?}");
    }
    assert!(
        !lines.iter().any(|line| line.contains("long-enough")),
        "a secret is shown: {lines:#?}"
    );
}

// A secret in a file that everybody on the machine can read is none.
#[test]
fn a_literal_secret_needs_a_private_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    let text = format!(
        "{NODE}[[channel]]\nname = \"eu\"\nkind = \"shopify\"\nsecrets = [\"a literal secret\"]\n"
    );
    write_private(&path, &text);
    assert_eq!(checked(&path).0, Some(0));
    for mode in [0o644, 0o640, 0o604] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let (code, lines) = checked(&path);
        assert_eq!(code, Some(2), "{mode:o}");
        assert!(lines[0].contains("only its owner"), "{lines:?}");
        assert!(!lines[0].contains("a literal secret\""), "{lines:?}");
    }
    // From elsewhere it may come whoever can read the config.
    let elsewhere = text.replace("a literal secret", "file:the-secret");
    fs::write(dir.path().join("the-secret"), "a literal secret\n").unwrap();
    fs::write(&path, elsewhere).unwrap();
    assert_eq!(checked(&path).0, Some(0));
}

// A script must be able to tell a wrong call from one that failed.
#[test]
fn a_missing_file_and_wrong_usage_are_exit_code_two() {
    let (code, lines) = checked(Path::new("/nowhere/node.toml"));
    assert_eq!((code, lines.len()), (Some(2), 1), "{lines:?}");
    let output = stockraft().arg("fly").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.default.toml");
    assert_eq!(checked(&path).0, Some(0), "{:?}", checked(&path).1);
}

/// Runs a node that cannot start, until it has said why.
fn refuse_to_start(node: &Node) -> String {
    let path = node.dir.join("node.toml");
    write_private(&path, &node.config());
    let Output { status, stderr, .. } =
        stockraft().args(["serve", "--config"]).arg(path).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("stockraft: ")).collect();
    assert_eq!(status.code(), Some(1), "{said}");
    assert_eq!(lines.len(), 1, "one line that says what to look at: {said}");
    assert!(!said.contains("panicked"), "{said}");
    lines[0].to_string()
}

// An operator reads one line at three in the morning: it must name what is in the way.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_start_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let node = |id| Node::new(id, dir.path().join("node"));
    let mut running = node(1);
    running.start().await;

    let mut other = Node::new(1, dir.path().join("other"));
    for n in 0..3 {
        other.ports = crate::support::ports();
        let taken = TcpListener::bind(("127.0.0.1", other.ports[n])).unwrap();
        let said = refuse_to_start(&other);
        assert!(said.contains(&taken.local_addr().unwrap().to_string()), "{said}");
    }
    // The same directory for two processes.
    let said = refuse_to_start(&node(1));
    assert!(said.contains("in use"), "{said}");
    running.stop().await;

    let said = refuse_to_start(&node(2));
    assert!(said.contains("it belongs to node 1") && said.contains("this is node 2"), "{said}");
    let stolen = node(1);
    let text = stolen.config().replace("cluster = \"tests\"", "cluster = \"others\"");
    let path = dir.path().join("stolen.toml");
    write_private(&path, &text);
    let output = stockraft().args(["serve", "--config"]).arg(&path).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("\"tests\"") && said.contains("\"others\""), "{said}");

    // Not even root can make a directory below a file.
    let mut nowhere = Node::new(1, dir.path().join("nowhere"));
    let file = dir.path().join("a-file");
    fs::write(&file, "x").unwrap();
    nowhere.data_dir = file.join("data");
    let said = refuse_to_start(&nowhere);
    assert!(said.contains(&nowhere.data_dir.display().to_string()), "{said}");
}

// A process that is killed while it makes its files must not leave any behind that the next one stumbles
// over: nothing was promised in them yet, and nobody should have to remove them by hand.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_cut_short_can_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let mut node = Node::new(1, dir.path().join(format!("node-{round}")));
        for cut in 0..12 {
            node.spawn();
            tokio::time::sleep(Duration::from_millis(cut * 4 + round)).await;
            node.kill();
        }
        node.start().await;
    }
}
