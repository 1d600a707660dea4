//! What is looked at all the time: agreed time, and digests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use stockraft::clock;
use tokio::task::JoinHandle;

use crate::support::TOKEN;
use crate::support::http::{Doors, Http};
use crate::world::{OPENED, World};

const PACE: Duration = Duration::from_millis(100);
/// How far a clock may be off that stamps, and how long an answer may be under way after it was made.
const AHEAD_MS_MAX: u64 = cluster::CLOCK_SKEW_MS_MAX;

pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    watcher: JoinHandle<Watched>,
}

/// By log index: the agreed time of its command, and the digest after it.
#[derive(Default)]
pub(crate) struct Watched {
    times: BTreeMap<u64, u64>,
    digests: BTreeMap<u64, String>,
    /// What two nodes said of one index, or what no node may say.
    faults: Vec<String>,
    /// Indexes of which more than one said something.
    compared: usize,
}

impl Watch {
    pub(crate) fn start(world: &World, http: &Http) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let watcher = watch(world.apis.clone(), http.clone(), Arc::clone(&stop));
        Self { stop, watcher: tokio::spawn(watcher) }
    }

    pub(crate) async fn stop(self) -> Watched {
        self.stop.store(true, Ordering::Relaxed);
        self.watcher.await.unwrap()
    }
}

async fn watch(apis: Doors, http: Http, stop: Arc<AtomicBool>) -> Watched {
    let (mut watched, mut random) = (Watched::default(), 1);
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    while !stop.load(Ordering::Relaxed) {
        for path in [&format!("/v1/stock/{OPENED}"), "/cluster/status"] {
            let door = *apis.one(&mut random).await;
            let answer = http.request(door, "GET", path, &headers, Bytes::new()).await;
            if let Some(answer) = answer.ok().filter(|answer| answer.status == 200) {
                watched.note(&answer.json());
            }
        }
        tokio::time::sleep(PACE).await;
    }
    watched
}

impl Watched {
    fn note(&mut self, answer: &Value) {
        if let Some(digest) = answer["digest"].as_str() {
            let index = answer["index"].as_u64().unwrap();
            let known = self.digests.entry(index).or_insert_with(|| digest.into());
            self.compared += 1;
            if known != digest {
                self.faults.push(format!("two digests at index {index}: {answer}"));
            }
        }
        if let Some(time) = answer["as_of"]["time"].as_str() {
            let (index, now) = (answer["as_of"]["index"].as_u64().unwrap(), clock::now_ms());
            let time = clock::parse_rfc3339(time).unwrap();
            if *self.times.entry(index).or_insert(time) != time {
                self.faults.push(format!("two times at index {index}: {answer}"));
            }
            if time > now + AHEAD_MS_MAX {
                self.faults.push(format!("agreed time is {} ms ahead: {answer}", time - now));
            }
        }
    }

    /// One digest and one time at each index, and no time before the one before.
    pub(crate) fn check(&self) -> String {
        let first: Vec<&String> = self.faults.iter().take(3).collect();
        assert!(first.is_empty(), "{} faults, such as {first:#?}", self.faults.len());
        for ((one, before), (other, after)) in self.times.iter().zip(self.times.iter().skip(1)) {
            assert!(before <= after, "agreed time goes back from {one} to {other}");
        }
        let again = self.compared - self.digests.len();
        format!("{} times in order, {again} digests compared on the way", self.times.len())
    }
}
