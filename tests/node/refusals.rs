//! Promise: whatever is wrong with a webhook of any kind, it is refused as a whole, in one known way.

use crate::support::http::Answer;
use crate::support::issuer::Issuer;
use crate::support::senders::{self, SENDERS, Scheme, Sender, Sent};
use crate::support::{Cluster, Node, raw};

/// A node that every sender knows, its limits low enough to be reached, and who gives out eBay's key.
async fn start() -> (Cluster, Issuer) {
    let issuer = Issuer::start().await;
    let channels = senders::config(&issuer);
    let cluster = Cluster::start(1, |node| {
        node.more =
            format!("{channels}\n[ingest]\nmax_body = \"64KiB\"\nrequest_timeout = \"500ms\"\n");
    })
    .await;
    (cluster, issuer)
}

/// A body that every kind keeps, if only as a dead letter.
const BODY: &[u8] = br#"{"what": "this is, nobody knows"}"#;

/// How many deliveries the node has taken.
async fn accepted(node: &Node) -> u64 {
    node.get("/cluster/status").await["accepted"].as_u64().unwrap()
}

/// What an answer shows to whoever guesses: everything but the time.
fn shown(answer: &Answer) -> (u16, Vec<(String, String)>, String) {
    let headers = answer.headers.iter().filter(|(name, _)| *name != "date");
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()));
    (answer.status, headers.collect(), answer.text())
}

/// Requests of one sender that each have one fault of the proof, with its name.
fn forged(sender: &Sender) -> Vec<(String, Sent)> {
    let right = sender.sign(&[], BODY);
    let wrong = sender.sign_with("another-secret-of-the-same-sort", &[], BODY);
    let mut all = vec![("another secret".to_string(), wrong.clone())];
    let other_body = [&BODY[..BODY.len() - 1], b" "].concat();
    if sender.signs() {
        all.push(("another body".into(), Sent { body: other_body, ..right.clone() }));
    }
    if sender.scheme == Scheme::Path {
        let at = |path: String| Sent { path, ..right.clone() };
        let secret = right.path.rsplit('/').next().unwrap();
        let escaped = format!("%{:02x}{}", secret.as_bytes()[0], &secret[1..]);
        all.push(("no secret".into(), at("/webhooks/odoo".into())));
        all.push(("an empty secret".into(), at("/webhooks/odoo/".into())));
        all.push(("a truncated secret".into(), at(right.path[..right.path.len() - 1].into())));
        all.push(("a longer secret".into(), at(format!("{}x", right.path))));
        all.push(("a slash after it".into(), at(format!("{}/", right.path))));
        all.push(("an escaped secret".into(), at(format!("/webhooks/odoo/{escaped}"))));
        all.push(("in the query".into(), at(format!("/webhooks/odoo?secret={secret}"))));
    }
    let Some(name) = sender.proof() else { return all };
    let proof = right.header(name).unwrap().to_string();
    let with = |proof: &str| {
        let mut sent = right.clone();
        sent.set(name, proof);
        sent
    };
    let mut missing = right.clone();
    missing.drop(name);
    all.push(("no proof".into(), missing));
    let twice = |first: &Sent, second: &Sent| {
        let mut sent = first.clone();
        sent.headers.push((name.into(), second.header(name).unwrap().into()));
        sent
    };
    all.push(("two proofs, the right one first".into(), twice(&right, &wrong)));
    all.push(("two proofs, the right one last".into(), twice(&wrong, &right)));
    for (fault, proof) in [
        ("an empty proof", String::new()),
        ("no base64", "?".repeat(44)),
        ("a truncated proof", proof[..proof.len() - 1].into()),
        ("half of it", proof[..proof.len() / 2].into()),
        ("more after it", format!("{proof}A")),
        ("a long proof", "A".repeat(5000)),
        ("bytes beyond ASCII", "ü".into()),
    ] {
        all.push((fault.into(), with(&proof)));
    }
    all
}

/// Requests of eBay's whose claim can be read, and stands for nothing.
fn forged_claims(ebay: &Sender) -> Vec<(String, Sent)> {
    let keys = ["no-such-key", "../token", "", "a b"];
    let claim = |key: &str| {
        let mut sent = ebay.sign(&[], BODY);
        sent.set("x-ebay-signature", &Issuer::claim(key, "AAAA"));
        (format!("a claim under {key:?}"), sent)
    };
    keys.into_iter().map(claim).collect()
}

// Whoever guesses must not learn from an answer which channel there is, how it signs, or how near a guess
// was; and a proof that is right for one channel must not open another.
#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_every_proof_is_answered_the_same() {
    let (cluster, issuer) = start().await;
    let node = &cluster.nodes[0];
    let reference = SENDERS[0].sign_with("another-secret-of-the-same-sort", &[], BODY);
    let reference = shown(&reference.to(node).await);
    assert_eq!(reference.0, 401, "{reference:?}");
    let mut tried = 0;
    for sender in &SENDERS {
        let mut all = forged(sender);
        if sender.scheme == Scheme::Ebay {
            all.extend(forged_claims(sender));
        }
        // What every other channel takes.
        for other in SENDERS.iter().filter(|other| other.name != sender.name) {
            let other = other.sign(&[], BODY);
            let path = format!("/webhooks/{}", sender.name);
            let to_here = Sent { path, ..other };
            // Two schemes may share header and form; the same secret then proves the same.
            let same = sender.sign(&[], BODY);
            if sender.proof().is_none_or(|name| to_here.header(name) != same.header(name)) {
                all.push(("the proof of another channel".into(), to_here));
            }
        }
        for (fault, sent) in all {
            let answer = shown(&sent.to(node).await);
            assert_eq!(answer, reference, "{}: {fault}", sender.name);
            tried += 1;
        }
    }
    assert!(tried > 200, "only {tried} were tried");
    assert_eq!(accepted(node).await, 0);
    // A token, the key, and one name that stands for nothing: what else was named is not asked for.
    assert!(issuer.asked() <= 3, "strangers made the node ask {} times", issuer.asked());
    // The other way round: what is right is taken, or nothing above was proved.
    let genuine = SENDERS.iter().filter(|sender| sender.scheme != Scheme::Sns);
    for sender in genuine {
        let answer = sender.sign(&[], BODY).to(node).await;
        assert_eq!(answer.status, 202, "{}: {}", sender.name, answer.text());
    }
}

// A sender stops, retries or disables its webhook depending on the status: which of several faults is
// answered must not depend on its kind, and nothing may be looked at before the fault that comes first.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_come_in_one_order_for_every_kind() {
    let (cluster, issuer) = start().await;
    let node = &cluster.nodes[0];
    let (large, long) = (vec![b'['; (64 << 10) + 1], "y".repeat(70_000));
    let gzip = ("content-encoding", "gzip".to_string());
    for sender in &SENDERS {
        let right = sender.sign(&[], &large);
        let unsigned = Sent { headers: Vec::new(), ..right.clone() };
        let length = |body: &[u8]| ("content-length", body.len().to_string());
        let chunked = ("transfer-encoding", "chunked".to_string());
        let elsewhere = Sent { path: "/webhooks/nowhere".into(), ..right.clone() };
        let too_long = ("x-long", long.clone());
        let body = raw::chunked(&large);
        let wrong = sender.sign_with("another-secret-of-the-same-sort", &[], b"[]");
        let wrong = if sender.scheme == Scheme::Sns { unsigned.clone() } else { wrong };
        // Each request has what is refused later as well.
        let plain = ("content-encoding", "identity".to_string());
        let faults: [(u16, Vec<u8>, &[u8]); 11] = [
            (431, unsigned.head("POST", &[too_long, gzip.clone(), length(&large)]), &large),
            (405, unsigned.head("PUT", &[gzip.clone(), length(&large)]), &large),
            (405, elsewhere.head("DELETE", &[gzip.clone(), length(&large)]), &large),
            (404, elsewhere.head("POST", &[gzip.clone(), length(&large)]), &large),
            (413, unsigned.head("POST", &[gzip.clone(), length(&large)]), b""),
            (413, right.head("POST", &[length(&large)]), b""),
            (413, right.head("POST", std::slice::from_ref(&chunked)), &body),
            (415, unsigned.head("POST", &[gzip.clone(), length(b"[]")]), b"[]"),
            (415, sender.sign(&[], b"[]").head("POST", &[gzip.clone(), length(b"[]")]), b"[]"),
            (415, unsigned.head("POST", &[plain, gzip.clone(), length(b"[]")]), b"[]"),
            (401, wrong.head("POST", &[length(b"[]")]), b"[]"),
        ];
        for (status, head, body) in faults {
            let request = [head.as_slice(), body].concat();
            let (answered, said) = raw::send(node.ports[0], &request).await;
            let head = String::from_utf8_lossy(&head[..head.len().min(80)]).into_owned();
            assert_eq!(answered, status, "{}: {head:?}: {said}", sender.name);
        }
    }
    assert_eq!(accepted(node).await, 0);
    assert_eq!(issuer.asked(), 2, "one forged claim was looked at: a token and the key");
}

// A body that came in part would be half an order, or none at all if it were refused for good by a sender
// that tries again; one that comes in many pieces is as whole as another.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_kept_whole_or_not_at_all() {
    let (cluster, _issuer) = start().await;
    let node = &cluster.nodes[0];
    let mut kept = 0;
    for sender in &SENDERS {
        let body = format!("{{\"text\": \"{}\"}}", "x".repeat(3000)).into_bytes();
        let right = sender.sign(&[], &body);
        let length = ("content-length", body.len().to_string());
        let head = right.head("POST", std::slice::from_ref(&length));
        let half = &body[..body.len() / 2];
        let is_sns = sender.scheme == Scheme::Sns;
        let pieces = |head: &[u8], body: &[u8]| -> Vec<Vec<u8>> {
            std::iter::once(head.to_vec()).chain(body.chunks(700).map(<[u8]>::to_vec)).collect()
        };
        let whole = 202;
        let old = String::from_utf8(head.clone()).unwrap().replace("HTTP/1.1", "HTTP/1.0");
        let chunked = right.head("POST", &[("transfer-encoding", "chunked".into())]);
        let unfinished = [b"bb8\r\n", half].concat();
        for (what, pieces, ends, status) in [
            ("in pieces", pieces(&head, &body), false, whole),
            ("in chunks", pieces(&chunked, &raw::chunked(&body)), false, whole),
            ("as HTTP/1.0", pieces(old.as_bytes(), &body), false, whole),
            ("too slow", pieces(&head, half), false, 408),
            ("broken off", pieces(&head, half), true, 400),
            ("a chunk broken off", pieces(&chunked, &unfinished), true, 400),
            ("broken off after the head", pieces(&head, b""), true, 400),
        ] {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let (answered, said) = raw::exchange(node.ports[0], &pieces, ends).await;
            // SNS takes any 4xx for its final answer: what may go well later is a 503. Here it signs
            // nothing, so what is whole is not accepted.
            let expected = match status {
                408 | 400 if is_sns => 503,
                202 if is_sns => 401,
                status => status,
            };
            // The connection may be gone before the answer is.
            let gone = ends && answered == 0;
            assert!(gone || answered == expected, "{} {what}: {said}", sender.name);
            kept += u64::from(answered == whole);
        }
    }
    assert_eq!(accepted(node).await, kept);
    let letters = crate::support::until("every whole body is listed", async || {
        let letters = node.list("/v1/topics/deliveries/dead", 100).await;
        // The same body again is the same delivery, where the body is its key.
        (letters.len() >= SENDERS.len() - 1).then_some(letters)
    })
    .await;
    for letter in letters {
        assert_eq!(letter["body"].as_str().map(str::len), Some(3012), "{}", letter["delivery"]);
    }
}

// A node that cannot keep a webhook must not say that it is at fault: SNS drops what is answered 4xx, and
// others give up earlier.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_keep_anything_tells_all_to_come_back() {
    let (mut cluster, _issuer) = start().await;
    let node = &mut cluster.nodes[0];
    node.stop().await;
    node.more += "min_free_disk = \"1000PiB\"\n";
    node.start().await;
    let node = &cluster.nodes[0];
    let stranger = SENDERS[0].sign_with("another-secret-of-the-same-sort", &[], BODY);
    crate::support::until_true("the node knows its channels again", async || {
        stranger.to(node).await.status == 401
    })
    .await;
    for sender in SENDERS.iter().filter(|sender| sender.scheme != Scheme::Sns) {
        let answer = sender.sign(&[], BODY).to(node).await;
        assert_eq!(answer.status, 503, "{}: {}", sender.name, answer.text());
        assert!(answer.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0));
        // Also then, a stranger is told no more than ever.
        let wrong = sender.sign_with("another-secret-of-the-same-sort", &[], BODY);
        assert_eq!(wrong.to(node).await.status, 401, "{}", sender.name);
    }
    assert_eq!(accepted(node).await, 0);
}
