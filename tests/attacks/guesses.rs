//! Who guesses tokens.

use std::time::{Duration, Instant};

use crate::support::http::{Answer, Http};
use crate::support::{Cluster, Node, TOKEN};

async fn ask(node: &Node, http: &Http, authorization: Option<&str>) -> Answer {
    let headers: Vec<_> = authorization.map(|value| ("authorization", value)).into_iter().collect();
    http.request(node.admin(), "GET", "/cluster/status", &headers, "".into()).await.unwrap()
}

/// What an answer shows: everything but the time.
fn shown(answer: &Answer) -> (u16, Vec<(String, String)>, String) {
    let headers = answer.headers.iter().filter(|(name, _)| *name != "date");
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()));
    (answer.status, headers.collect(), answer.text())
}

// An answer that differs tells how near a guess was; without a bound a short token is found by trying; and a
// bound that counts for all locks the operator out whenever somebody guesses.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_are_answered_the_same_and_slowly_and_keep_no_right_one_out() {
    let cluster = Cluster::start(1, |_| ()).await;
    let node = &cluster.nodes[0];
    let http = Http::new();
    let reference = shown(&ask(node, &http, None).await);
    assert_eq!(reference.0, 401, "{reference:?}");
    let near = &TOKEN[..TOKEN.len() - 1];
    let wrong = [
        format!("Bearer {near}"),
        format!("Bearer {TOKEN}x"),
        format!("Bearer {}", TOKEN.to_uppercase()),
        format!("Bearer {TOKEN} {TOKEN}"),
        format!("Basic {TOKEN}"),
        format!("Bearer{TOKEN}"),
        TOKEN.to_string(),
        "Bearer ".to_string(),
        format!("Bearer {}", "x".repeat(10_000)),
        "ü".to_string(),
    ];
    for guess in &wrong {
        let began = Instant::now();
        assert_eq!(shown(&ask(node, &http, Some(guess)).await), reference, "{guess:?}");
        assert!(began.elapsed() >= Duration::from_millis(100), "{guess:?} was answered at once");
    }
    assert!(reference.1.contains(&("connection".into(), "close".into())), "{reference:?}");

    let guesses: Vec<_> = (0..200)
        .map(|n| {
            let (http, door) = (Http::new(), node.admin());
            tokio::spawn(async move {
                let guess = format!("Bearer guess-{n}");
                let headers = [("authorization", guess.as_str())];
                for _ in 0..3 {
                    let answer = http.request(door, "GET", "/v1/stock", &headers, "".into()).await;
                    assert_eq!(answer.unwrap().status, 401);
                }
            })
        })
        .collect();
    let right = format!("Bearer {TOKEN}");
    let mut fastest = Duration::MAX;
    for _ in 0..20 {
        let began = Instant::now();
        assert_eq!(ask(node, &http, Some(&right)).await.status, 200);
        fastest = fastest.min(began.elapsed());
    }
    assert!(fastest < Duration::from_millis(100), "who is right is held up: {fastest:?}");
    for guess in guesses {
        guess.await.unwrap();
    }
}
