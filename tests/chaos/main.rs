//! Promise: whatever fails, and in whatever order, what was promised is kept.
//!
//! Three regions, each a real process in a network and on a disk of its own, take signed webhooks, hold
//! units, push to simulated stores; meanwhile a plan of faults is carried out, which follows from one seed.
//! The seed repeats the plan, not the moments at which machines and networks do what they do.
//!
//! `make chaos MINUTES=5` for longer, `make chaos SEED=7` for that plan. It takes root.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]
#![expect(clippy::print_stdout, reason = "what was done when is told as it happens")]

#[path = "../support/mod.rs"]
mod support;

mod clients;
mod faults;
mod plan;
mod shops;
mod stores;
mod verdict;
mod watch;
mod world;

use std::time::Duration;

use plan::Plan;
use support::book::{Book, Traffic};
use support::holders::Holders;
use support::http::Http;
use support::power::skipped;
use tokio::time::Instant;
use world::World;

/// How long faults go on if nobody says: no longer, as this is one of many tests.
const USUALLY: Duration = Duration::from_secs(80);
/// How long everything before and after may take.
const AROUND: Duration = Duration::from_secs(240);
/// A sender's patience, as Shopify's.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two orders of one sender.
const PACE: Duration = Duration::from_millis(120);
/// Between two faults.
const CALM: Duration = Duration::from_secs(1);
const SENDERS: u64 = 4;
const HOLDERS: u64 = 5;
/// Units of each SKU that is held, and operations on one.
const UNITS: i64 = 9;
const OPERATIONS: usize = 150;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn every_promise_is_kept_whatever_fails() {
    let seed = number("SEED").unwrap_or_else(|| stockraft::clock::now_ms() % 1_000_000);
    let lasts = number("MINUTES").map_or(USUALLY, |minutes| Duration::from_secs(60 * minutes));
    println!("the plan of SEED={seed}, for {lasts:?}");
    let world = match World::new(seed) {
        Ok(world) => world,
        Err(why) => return skipped(&why),
    };
    // Clients and stores are in a network of their own too.
    let here = world.wan.places[0].clone();
    here.run(|| {
        let all = async { tokio::time::timeout(lasts + AROUND, chaos(world, seed, lasts)).await };
        let kept = here.runtime().block_on(all);
        let broken = kept.expect("it must end in time");
        assert!(broken.is_empty(), "SEED={seed}: {broken:#?}");
    });
}

/// What of it was broken.
async fn chaos(mut world: World, seed: u64, lasts: Duration) -> Vec<String> {
    let skus: Vec<String> = (0..4 + lasts.as_secs() / 8).map(|n| format!("CUP-{n}")).collect();
    stores::open(&mut world, seed).await;
    world.found().await;
    clients::receive(&world, &skus, UNITS).await;
    stores::sell(&world).await;

    let (book, http) = (Book::default(), Http::patient(PATIENCE));
    let traffic = Traffic::paced(&book, &world.webhooks, SENDERS, PACE, &http);
    let holders = Holders::start(HOLDERS, &skus, OPERATIONS, &world.apis, &http);
    let movers = clients::Movers::start(&world, seed, &http);
    let intruder = clients::Intruder::start(&world, &http).await;
    let watch = watch::Watch::start(&world, &http);
    traffic.more(40).await;
    world.say("traffic flows; now the plan");

    let ends = Instant::now() + lasts;
    let mut plan = Plan::new(seed);
    while Instant::now() < ends {
        world.carry_out(plan.next().unwrap()).await;
        tokio::time::sleep(CALM).await;
        let told = (book.promised(), holders.done());
        world.say(&format!("  {} orders taken, {} operations done", told.0, told.1));
    }

    world.calm();
    world.say("no more faults; everything comes to rest");
    stores::close(&world).await;
    traffic.stop().await;
    let all = verdict::Seen {
        book,
        held: holders.stop().await,
        moved: movers.stop().await,
        intruder: intruder.stop().await,
        watched: watch.stop().await,
    };
    verdict::give(&world, &all).await
}
