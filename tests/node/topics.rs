//! Promise: a message is worked on by one worker at a time until somebody has finished it, whoever dies
//! meanwhile, and the API says what it did.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::support::orders::{self, Webhook};
use crate::support::{Cluster, Node, TOKEN, unique, until};
use serde_json::{Value, json};

/// Asks with the token of all scopes; nothing if no answer came.
async fn ask(node: &Node, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    let answer = node.api(method, path, &headers, body.to_string()).await.ok()?;
    Some((answer.status, answer.json()))
}

async fn post(node: &Node, path: &str, body: &Value) -> (u16, Value) {
    ask(node, "POST", path, body).await.unwrap()
}

/// The same under an `Idempotency-Key`.
async fn post_once(node: &Node, path: &str, key: &str, body: &Value) -> (u16, Value) {
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str()), ("idempotency-key", key)];
    let answer = node.api("POST", path, &headers, body.to_string()).await.unwrap();
    (answer.status, answer.json())
}

async fn put(node: &Node, path: &str, body: &Value) -> (u16, Value) {
    ask(node, "PUT", path, body).await.unwrap()
}

fn texts(answer: &Value) -> Vec<&str> {
    answer["messages"].as_array().unwrap().iter().map(|m| m["body"].as_str().unwrap()).collect()
}

fn leases(answer: &Value) -> Vec<&str> {
    answer["messages"].as_array().unwrap().iter().map(|m| m["lease"].as_str().unwrap()).collect()
}

fn outcomes(answer: &Value) -> Vec<&str> {
    answer["results"].as_array().unwrap().iter().map(|r| r["outcome"].as_str().unwrap()).collect()
}

// What a worker's author tries first must do what it says, on any node.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_its_way() {
    let cluster = Cluster::start(3, |_| ()).await;
    let topic = format!("jobs.{}", unique());
    let path = |verb: &str| format!("/v1/topics/{topic}{verb}");
    let [a, b, c] = &cluster.nodes[..] else { panic!() };
    assert_eq!(post(a, &path("/lease"), &json!({"consumer": "w"})).await.0, 404);
    let messages = json!({"messages": [
        {"body": {"n": 9_007_199_254_740_993u64, "text": "é"}, "key": "k", "dedup_id": "1"},
        {"body": "second", "key": "k"},
        {"body": "urgent", "priority": "urgent"},
        {"body": "later", "delay_s": 1.5},
    ]});
    let (status, answer) = post(a, &path("/messages"), &messages).await;
    assert_eq!(
        (status, outcomes(&answer)),
        (200, vec!["published", "published", "published", "delayed"])
    );
    let again = json!({"messages": [{"body": 1, "dedup_id": "1"}]});
    let (_, answer) = post(b, &path("/messages"), &again).await;
    assert_eq!(answer["results"][0], json!({"id": "n1", "outcome": "duplicate"}));

    // Another node has them at once, the urgent one first, and of one key only the first.
    let wanted = json!({"consumer": "w", "max": 10, "lease_s": 60});
    let (_, first) = post(b, &path("/lease"), &wanted).await;
    let bodies: Vec<&Value> =
        first["messages"].as_array().unwrap().iter().map(|m| &m["body"]).collect();
    assert_eq!(bodies, [&json!("urgent"), &json!({"n": 9_007_199_254_740_993u64, "text": "é"})]);
    assert_eq!(first["messages"][1]["attempts"], 1);
    let (_, done) = post(c, &path("/ack"), &json!({"leases": leases(&first)})).await;
    assert_eq!(outcomes(&done), ["done", "done"]);
    let strange = json!({"leases": [leases(&first)[0], "1.1.n1.1", "nonsense"]});
    assert_eq!(outcomes(&post(c, &path("/ack"), &strange).await.1), ["gone", "gone", "gone"]);

    // A long poll ends when there is something.
    let (_, second) = post(c, &path("/lease"), &wanted).await;
    assert_eq!(texts(&second), ["second"]);
    let patient = json!({"consumer": "w", "wait_s": 30});
    let (_, later) = post(a, &path("/lease"), &patient).await;
    assert_eq!(texts(&later), ["later"]);
    let (_, failed) =
        post(a, &path("/nack"), &json!({"leases": leases(&later), "delay_s": 0, "reason": "r"}))
            .await;
    assert_eq!(outcomes(&failed), ["done"]);
    let (_, again) = post(b, &path("/lease"), &patient).await;
    assert_eq!((texts(&again), &again["messages"][0]["attempts"]), (vec!["later"], &json!(2)));

    // Another group sees everything; a group can begin again.
    let group = json!({"consumer": "x", "group": "audit", "max": 10});
    let seen = post(b, &path("/lease"), &group).await.1["messages"].as_array().unwrap().len();
    assert_eq!(seen, 3, "one of a key waits");
    let topic_now = a.get(&path("")).await;
    assert_eq!(
        topic_now["groups"]["audit"]["depth"],
        json!({"ready": 1, "delayed": 0, "leased": 3, "dead": 0})
    );
    assert_eq!(topic_now["groups"]["default"]["finished"], 2);
    assert_eq!(topic_now["published"], 4);
    assert_eq!(put(a, &path("/groups/audit"), &json!({"from": "earliest"})).await.0, 200);
    let seen = post(b, &path("/lease"), &group).await.1["messages"].as_array().unwrap().len();
    assert_eq!(seen, 3);
}

// A worker whose connection broke would wait until what it was given runs out, or be given as much again.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_asked_for_again() {
    let cluster = Cluster::start(1, |_| ()).await;
    let (node, path) = (&cluster.nodes[0], |verb: &str| format!("/v1/topics/jobs{verb}"));
    put(node, &path(""), &json!({})).await;
    let wanted = json!({"max": 2});
    let lease = async |key: &str| post_once(node, &path("/lease"), key, &wanted).await;
    // That there was nothing is no answer to be repeated.
    assert_eq!(texts(&lease("a").await.1), [""; 0]);
    let bodies = ["1", "2", "3"].map(|body| json!({"body": body}));
    post(node, &path("/messages"), &json!({"messages": bodies})).await;
    let first = lease("a").await;
    assert_eq!((first.0, texts(&first.1)), (200, vec!["1", "2"]));
    assert_eq!(lease("a").await, first);
    assert_eq!(texts(&lease("b").await.1), ["3"]);
    // Also when there is nothing else to be had.
    assert_eq!(lease("a").await, first);
    let more = post_once(node, &path("/lease"), "a", &json!({"max": 3})).await;
    assert_eq!(more.0, 422, "{}", more.1);
    let done = post(node, &path("/ack"), &json!({"leases": leases(&first.1)})).await;
    assert_eq!(outcomes(&done.1), ["done", "done"]);
    // What was given and is gone is not waited for, nor asked for again and again, though there is something else.
    let patient = json!({"max": 1, "wait_s": 20});
    let lease = async || post_once(node, &path("/lease"), "c", &patient).await;
    let publish = async |body| post(node, &path("/messages"), &json!({"messages": [body]})).await;
    publish(json!({"body": "4"})).await;
    let id = lease().await.1["messages"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(
        ask(node, "DELETE", &path(&format!("/messages/{id}")), &json!({})).await.unwrap().0,
        200
    );
    publish(json!({"body": "5"})).await;
    let answered = tokio::time::timeout(Duration::from_secs(10), lease()).await;
    assert_eq!(texts(&answered.expect("it waits").1), [""; 0]);
}

// A job that always fails would be tried for ever; one that was given up could not be found again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_is_found_and_tried_again() {
    let cluster = Cluster::start(1, |_| ()).await;
    let (node, path) = (&cluster.nodes[0], |verb: &str| format!("/v1/topics/jobs{verb}"));
    let (status, answer) = put(node, &path(""), &json!({"attempts": 2, "backoff_ms": 0})).await;
    assert_eq!(status, 200, "{answer}");
    let bodies = ["A-1", "A-2", "B-1"]
        .map(|order| json!({"body": {"order": order, "lines": [{"sku": "MUG"}]}}));
    post(node, &path("/messages"), &json!({"messages": bodies})).await;
    for attempt in 1..=2 {
        let (_, leased) = post(node, &path("/lease"), &json!({"max": 10})).await;
        assert_eq!(leased["messages"].as_array().unwrap().len(), 3, "attempt {attempt}");
        let failed = json!({"leases": leases(&leased), "reason": "the ERP is down"});
        assert_eq!(outcomes(&post(node, &path("/nack"), &failed).await.1), ["done"; 3]);
    }
    let dead = node.get(&path("/dead?order=A-2&reason=ERP")).await;
    assert_eq!(dead["items"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&dead["items"][0]["attempts"], &dead["items"][0]["body"]["order"]),
        (&json!(2), &json!("A-2"))
    );
    // Whoever heard no answer asks again, and hears the first one; what was given up since stays.
    let redrive = async |body: Value| post_once(node, &path("/dead/redrive"), "once", &body).await;
    assert_eq!(redrive(json!({"order": "A-2"})).await.1, json!({"messages": 1}));
    for _ in 0..2 {
        let (_, leased) = post(node, &path("/lease"), &json!({"max": 10})).await;
        assert_eq!(leased["messages"][0]["body"]["order"], "A-2");
        post(node, &path("/nack"), &json!({"leases": leases(&leased)})).await;
    }
    assert_eq!(redrive(json!({"order": "A-2"})).await.1, json!({"messages": 1}));
    assert_eq!(node.get(&path("/dead?order=A-2")).await["items"].as_array().unwrap().len(), 1);
    assert_eq!(redrive(json!({})).await.0, 422);
    let (status, problem) = post(node, &path("/dead/redrive"), &json!({"group": "typo"})).await;
    assert!(status == 404 && problem.to_string().contains("typo"), "{problem}");
    // One key with one body, for two verbs: the second is not the first one repeated.
    let verb = async |verb: &str| post_once(node, &path(verb), "verb", &json!({})).await.0;
    assert_eq!(
        (verb("/pause").await, verb("/resume").await, verb("/pause").await),
        (200, 422, 200)
    );
    assert_eq!(post(node, &path("/resume"), &json!({})).await.0, 200);
    let (_, redriven) = post(node, &path("/dead/redrive"), &json!({"order": "A-2"})).await;
    assert_eq!(redriven, json!({"messages": 1}));
    let forgotten = async || ask(node, "DELETE", &path("/dead/n1"), &json!({})).await.unwrap().0;
    assert_eq!((forgotten().await, forgotten().await), (200, 404));
    let (_, redriven) = post(node, &path("/dead/redrive"), &json!({})).await;
    assert_eq!(redriven, json!({"messages": 1}));
    let found = node.get(&path("/messages?sku=MUG&text=B-1")).await;
    assert_eq!(found["items"][0]["id"], "n3");
}

// Each mistake must say what it is, and change nothing.
#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_named() {
    let cluster = Cluster::start(1, |_| ()).await;
    let node = &cluster.nodes[0];
    let big = "x".repeat(256 * 1024);
    post(node, "/v1/topics/t/messages", &json!({"messages": [{"body": 1}]})).await;
    put(node, "/v1/topics/small", &json!({"messages_max": 1})).await;
    let two = json!({"messages": [{"body": 1}, {"body": 2}]});
    for (path, body, status, word) in [
        ("t/messages", json!({"messages": [{"body": 1, "delay_s": -1}]}), 422, "delay_s"),
        ("t/messages", json!({"messages": [{"body": 1, "delay_s": 1e9}]}), 422, "delay_s"),
        ("t/messages", json!({"messages": [{"body": 1, "priority": "high"}]}), 422, "priority"),
        ("t/messages", json!({"messages": [{"body": 1, "at": "soon"}]}), 422, "at"),
        ("t/messages", json!({"messages": [{"body": big}]}), 422, "body"),
        ("t/messages", json!({"messages": [{"body": 1, "dedup_id": ""}]}), 422, "dedup_id"),
        ("t/dead/redrive", json!({"reson": "the ERP is down"}), 422, "reson"),
        ("t/messages", json!({"messages": [{"bodi": 1}]}), 422, "bodi"),
        ("t/messages", json!({"messages": vec![json!({"body": 1}); 1001]}), 422, "messages"),
        ("not a name/messages", two.clone(), 422, "topic"),
        ("small/messages", two, 409, "topic_full"),
        ("t/lease", json!({"lease_s": 315_360_000}), 422, "lease_s"),
        ("t/lease", json!({"lease_s": 0}), 422, "lease_s"),
        ("t/lease", json!({"max": 0}), 422, "max"),
        ("t/lease", json!({"wait_s": 3600}), 422, "wait_s"),
        ("t/lease", json!({"group": ""}), 422, "group"),
        ("nowhere/ack", json!({"leases": ["1.1.n1.1"]}), 404, "nowhere"),
        ("t/ack", json!({"leases": []}), 422, "leases"),
        ("t/nack", json!({"leases": ["1.1.n1.1"], "delay_s": 1e300}), 422, "delay_s"),
    ] {
        let path = format!("/v1/topics/{}", path.replace(' ', "%20"));
        let (answered, problem) = post(node, &path, &body).await;
        assert_eq!(answered, status, "{path}: {problem}");
        assert!(problem.to_string().contains(word), "{path}: {problem}");
    }
    for (body, word) in [
        (json!({"attempts": 0}), "attempts"),
        (json!({"retention_s": 1, "replay_s": 5}), "replay_ms"),
        (json!({"colour": 1}), "colour"),
    ] {
        let (status, problem) = put(node, "/v1/topics/t", &body).await;
        assert_eq!(status, 422);
        assert!(problem.to_string().contains(word), "{problem}");
    }
    let topic = node.get("/v1/topics/t").await;
    assert_eq!((&topic["published"], &topic["depth"]["ready"]), (&json!(1), &json!(1)));
}

/// What workers were told of numbered messages whose key is their number modulo 20.
#[derive(Default)]
struct Told {
    finished: BTreeSet<u64>,
    /// Answered by nobody: finished or not.
    unsure: BTreeSet<u64>,
    newest: BTreeMap<u64, u64>,
}

impl Told {
    fn leased(&self, numbers: &[u64]) {
        for n in numbers {
            assert!(!self.finished.contains(n), "{n} was finished and came again");
            let before = self.newest.get(&(n % 20));
            assert!(before.is_none_or(|before| before <= n), "{n} after {before:?} of its key");
        }
    }

    fn acked(&mut self, numbers: &[u64], answer: Option<(u16, Value)>) {
        let Some((200, answer)) = answer else {
            self.unsure.extend(numbers);
            return;
        };
        for (n, outcome) in numbers.iter().zip(outcomes(&answer)) {
            if outcome == "done" {
                self.finished.insert(*n);
                self.newest.insert(n % 20, *n);
            }
        }
    }
}

// A worker that dies in the middle of its work, or a node under it, must cost no message, and no finished
// message may come again.
#[tokio::test(flavor = "multi_thread")]
async fn killed_workers_and_nodes_lose_nothing() {
    const COUNT: u64 = 300;
    let mut cluster = Cluster::start(3, |_| ()).await;
    let topic = "/v1/topics/work";
    put(&cluster.nodes[0], topic, &json!({"attempts": 100, "backoff_ms": 0})).await;
    for some in (0..COUNT).collect::<Vec<_>>().chunks(50) {
        let message = |n: &u64| json!({"body": n, "key": format!("k{}", n % 20)});
        let messages: Vec<Value> = some.iter().map(message).collect();
        let path = format!("{topic}/messages");
        assert_eq!(post(&cluster.nodes[0], &path, &json!({"messages": messages})).await.0, 200);
    }
    let mut told = Told::default();
    let mut round = 0;
    let finished = until("everything is finished", async || {
        round += 1;
        if round == 5 {
            let leader = cluster.leader().await;
            cluster.nodes[leader].kill();
            cluster.nodes[leader].start().await;
        }
        let node = &cluster.nodes[round % 3];
        let wanted = json!({"max": 7, "lease_s": 1, "wait_s": 1});
        let leased = ask(node, "POST", &format!("{topic}/lease"), &wanted).await;
        let (_, leased) = leased.filter(|(status, _)| *status == 200)?;
        let messages = leased["messages"].as_array().unwrap().iter();
        let numbers: Vec<u64> = messages.map(|m| m["body"].as_u64().unwrap()).collect();
        told.leased(&numbers);
        // Every third worker dies with what it has.
        if round % 3 > 0 && !numbers.is_empty() {
            let ack = json!({"leases": leases(&leased)});
            told.acked(&numbers, ask(node, "POST", &format!("{topic}/ack"), &ack).await);
        }
        let group = &node.try_get(topic).await?["groups"]["default"];
        let empty = json!({"ready": 0, "delayed": 0, "leased": 0, "dead": 0});
        (group["depth"] == empty).then(|| group["finished"].as_u64())
    });
    assert_eq!(finished.await, Some(COUNT));
    let all: BTreeSet<u64> = told.finished.union(&told.unsure).copied().collect();
    assert!(all.into_iter().eq(0..COUNT), "the topic says finished, no worker does");
    cluster.settle().await;
}

// A nightly job that is not started, or a mistake in it that nobody hears of.
#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_kept_and_checked() {
    let cluster = Cluster::start(1, |_| ()).await;
    let node = &cluster.nodes[0];
    put(node, "/v1/topics/t", &json!({})).await;
    let path = "/v1/topics/t/schedules/nightly";
    for (body, word) in [
        (json!({"cron": "soon", "body": 1}), "cron"),
        (json!({"cron": "0 0 30 2 *", "body": 1}), "cron"),
        (json!({"cron": "* * * * *", "body": 1, "dedup_id": "x"}), "dedup_id"),
        (json!({"cron": "* * * * *", "body": 1, "prioritty": "urgent"}), "prioritty"),
    ] {
        let (status, problem) = put(node, path, &body).await;
        assert!(status == 422 && problem.to_string().contains(word), "{problem}");
    }
    let (status, topic) = put(node, path, &json!({"cron": "0 3 * * *", "body": "go"})).await;
    assert_eq!(status, 200, "{topic}");
    let next = topic["schedules"]["nightly"]["next"].as_str().unwrap();
    assert!(next.ends_with("T03:00:00.000Z"), "{next}");
    let delete = async || ask(node, "DELETE", path, &json!({})).await.unwrap().0;
    assert_eq!((delete().await, delete().await), (200, 404));
}

// A webhook that came before its channel was known, and nobody can apply it any more: a sale is lost.
#[tokio::test(flavor = "multi_thread")]
async fn dead_deliveries_are_applied_again_or_forgotten() {
    let cluster = Cluster::start(1, |_| ()).await;
    let node = &cluster.nodes[0];
    let place = "/v1/topics/deliveries/dead";
    let sku = format!("MUG-{}", unique());
    let order = |id: u64, quantity| orders::create(id * 10, &sku, quantity);
    // The same id with another body: a person has to say what is true.
    let (first, second) = (order(1, 2), order(2, 3));
    let second = Webhook { id: first.id.clone(), ..second };
    for webhook in [&first, &second] {
        assert_eq!(node.webhook(webhook).await.unwrap().status, 200);
    }
    let letter = until("the conflict is listed", async || {
        let dead = node.try_get(place).await?;
        dead["items"].get(0).cloned()
    });
    let letter = letter.await;
    assert!(letter["reason"].as_str().unwrap().starts_with("conflict"), "{letter}");
    assert_eq!(letter["attempts"], 1, "{letter}");
    // Whoever searches and is shown everything takes one sale for another.
    let of = |member: &str| format!("{member}={}", letter[member].as_str().unwrap());
    for (query, found) in [
        (of("reason"), 1),
        (of("channel"), 1),
        (of("delivery"), 1),
        ("reason=else".into(), 0),
        ("channel=else".into(), 0),
        ("delivery=else".into(), 0),
        ("older_than_s=3600".into(), 0),
        ("sku=MUG".into(), 0),
    ] {
        let dead = node.get(&format!("{place}?{}", query.replace(' ', "%20"))).await;
        assert_eq!(dead["items"].as_array().unwrap().len(), found, "{query}");
    }
    let (_, nothing) = post(node, &format!("{place}/redrive"), &json!({"reason": "else"})).await;
    assert_eq!(nothing, json!({"messages": 0}));
    // Whoever gets no answer asks again, and must not have done twice what was done.
    let redrive = async |body| post_once(node, &format!("{place}/redrive"), "again", &body).await;
    for _ in 0..2 {
        assert_eq!(redrive(json!({"reason": "conflict"})).await, (200, json!({"messages": 1})));
        assert_eq!(node.get(&format!("/v1/stock/{sku}")).await["committed"], 5);
    }
    assert_eq!(redrive(json!({"reason": "else"})).await.0, 422);
    assert_eq!(node.get(place).await["items"], json!([]));
    let unreadable = Webhook { body: "{".into(), ..order(3, 1) };
    assert_eq!(node.webhook(&unreadable).await.unwrap().status, 202);
    // What nobody understands now either stays.
    let (_, redriven) = post(node, &format!("{place}/redrive"), &json!({})).await;
    assert_eq!(redriven, json!({"messages": 0}));
    let id = until("it is listed", async || {
        let dead = node.try_get(place).await?;
        dead["items"].get(0)?["id"].as_str().map(ToString::to_string)
    });
    let id = id.await;
    let forget =
        async || ask(node, "DELETE", &format!("{place}/{id}"), &json!({})).await.unwrap().0;
    assert_eq!((forget().await, forget().await), (200, 404));
}
