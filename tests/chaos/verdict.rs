//! What was promised, held against what the nodes and the stores say, invariant by invariant.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;

use crate::UNITS;
use crate::clients::{self, Intrusion, Moved};
use crate::stores;
use crate::support::agree;
use crate::support::book::{Book, ledger};
use crate::support::holders::Report;
use crate::support::wan::Link;
use crate::watch::Watched;
use crate::world::World;

/// When nothing can be on its way any more that was ever sent to a store.
const LATER_S: i64 = 31 * 60;
const _: () = assert!(LATER_S.unsigned_abs() * 1000 > state::limits::FEED_KEEP_MS);

/// What clients and stores know.
pub(crate) struct Seen {
    pub(crate) book: Book,
    pub(crate) held: Report,
    pub(crate) moved: Vec<Moved>,
    pub(crate) intruder: Intrusion,
    pub(crate) watched: Watched,
}

#[derive(Default)]
struct Verdict(Vec<String>);

impl Verdict {
    /// Takes a checker's word, or what it died of.
    async fn judge(&mut self, promise: &str, check: impl Future<Output = String>) {
        match AssertUnwindSafe(check).catch_unwind().await {
            Ok(found) => println!("  kept    {promise}: {found}"),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| Some((*panic.downcast_ref::<&str>()?).to_string()));
                let why = format!("{promise}: {}", text.unwrap_or_default());
                println!("  BROKEN  {why}");
                self.0.push(why);
            }
        }
    }
}

/// Judges everything, and tells. Returns what was broken.
pub(crate) async fn give(world: &World, seen: &Seen) -> Vec<String> {
    let node = &world.nodes[world.members[0]];
    // Only the answers are of interest now.
    world.wan.change(|_, link| *link = Link::default());
    let counts = &world.wan.counts;
    println!("faults: {:?}; packets: {counts:?}", world.done);
    let mut verdict = Verdict::default();
    judge_stores(world, &mut verdict).await;
    judge_owners(world, &mut verdict).await;
    verdict
        .judge("replicas: one digest at one index", async {
            agree(&world.member_nodes()).await;
            seen.watched.check()
        })
        .await;
    verdict
        .judge("replicas: verified", async {
            let verified = node.get("/cluster/verify?wait_s=60").await;
            assert_eq!(verified["ok"], true, "{verified}");
            format!("{} movements a node", verified["nodes"][0]["movements"])
        })
        .await;
    verdict
        .judge("webhooks: each 200 applied once, each 4xx never", async {
            seen.book.check(node).await;
            format!("{:?}", seen.book.totals())
        })
        .await;
    verdict
        .judge("levels: the sums of their movements", async {
            let lines = ledger(node).await.len();
            clients::check_moved(&seen.moved, node).await;
            format!("{lines} lines, {} receipts once each", seen.moved.len())
        })
        .await;
    verdict
        .judge("reservations: linearizable, and kept", async {
            assert_eq!(seen.held.is_linearizable(UNITS), Ok(()));
            seen.held.check(node, UNITS).await;
            format!("{} operations, {} asked again", seen.held.count(|_| true), seen.held.repeated)
        })
        .await;
    verdict.judge("forgery: nothing comes of it", seen.intruder.check(world, node)).await;
    judge_later(world, &mut verdict).await;
    verdict.0
}

/// What the stores sold and show.
async fn judge_stores(world: &World, verdict: &mut Verdict) {
    let node = &world.nodes[world.members[0]];
    verdict
        .judge("stores: each order line is in the ledger, once", async {
            format!("{} lines that still count", stores::check_lines(world, node).await)
        })
        .await;
    verdict
        .judge("stores: no oversell", async {
            assert_eq!(world.warehouse.oversells(), []);
            let sold = world.stores.iter().map(|store| (store.name(), store.orders()));
            format!("orders: {:?}", sold.collect::<Vec<_>>())
        })
        .await;
    stores::tell_all(world).await;
    verdict
        .judge("pushes: no store shows more than the ledger says", async {
            format!("{} units held back", stores::check_shown(world, node, false).await)
        })
        .await;
}

/// Who pushed, as the stores saw it: nothing of an owner came after something of the next one, so no older quantity
/// came after a newer one.
async fn judge_owners(world: &World, verdict: &mut Verdict) {
    verdict
        .judge("pushes: no owner sends after the next one", async {
            let owners = world.stores.iter().map(|store| {
                let epochs = store.epochs();
                assert!(epochs.is_sorted(), "{}: {epochs:?}", store.name());
                let owners: BTreeSet<u64> = epochs.iter().copied().collect();
                assert!(owners.len() > 1, "{} had one owner alone", store.name());
                format!("{} {} by {}", store.name(), epochs.len(), owners.len())
            });
            let owners = owners.collect::<Vec<_>>().join(", ");
            check_rates(world).await;
            format!("calls by owners: {owners}")
        })
        .await;
}

/// Whoever pushes to a store tells its rate and when it took a quantity last.
async fn check_rates(world: &World) {
    for node in world.member_nodes() {
        let channels = node.get("/v1/channels").await["items"].clone();
        for store in &world.stores {
            let known = channels.as_array().unwrap().iter();
            let known = known.clone().find(|known| known["name"] == store.name()).unwrap();
            assert!(known["last_push"].is_string(), "{known}");
            let pushes = known["owner"] == node.id;
            assert_eq!(known["rate"]["available"].is_number(), pushes, "{known}");
        }
    }
}

/// What the stores show when nothing can be on its way any more.
async fn judge_later(world: &World, verdict: &mut Verdict) {
    let node = &world.nodes[world.members[0]];
    if world.faketime.is_some() {
        verdict
            .judge("pushes: in the end each store shows just that", async {
                for n in &world.members {
                    world.set_clock(*n, LATER_S);
                }
                world.recover().await;
                assert_eq!(stores::check_shown(world, node, true).await, 0);
                format!("{} min later", LATER_S / 60)
            })
            .await;
    }
}
