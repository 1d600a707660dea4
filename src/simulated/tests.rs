//! The clients of channels' APIs against simulated channels, over real sockets, as a config connects them.

mod nodes;
mod older;
mod paced;
mod wrong;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use marketplace::sender::{Faults, Options, Rate};
use marketplace::{Outage, Warehouse};

use super::*;
use crate::channel::{Place, PushError, Quantities as _, Row, RowOutcome, Target};
use crate::config::{Channel, Config};

const KINDS: [Kind; 3] = [Kind::WooCommerce, Kind::Ebay, Kind::Odoo];
/// And one whose other ways are tested beside its client.
const ALL: [Kind; 4] = [Kind::WooCommerce, Kind::Ebay, Kind::Odoo, Kind::Walmart];
const SKUS: [&str; 3] = ["CAP", "MUG", "TEE"];

/// A seller who shows five of each of three SKUs, one of which is a variation.
async fn open(kind: Kind, change: impl FnOnce(&mut Options)) -> Sender {
    let items =
        SKUS.iter().zip(101..).map(|(sku, listing)| Item { sku: (*sku).into(), listing, units: 5 });
    let mut options = Options::new("shop", kind);
    options.items = items.collect();
    options.parents = [(103, 100)].into();
    change(&mut options);
    Sender::start(options).await.unwrap()
}

/// The client that a node has of a channel, by a config with this part.
fn target(config: &str) -> Target {
    let channel = channel(config);
    assert!(channel.pushes());
    Target::new(&channel).expect("its API can be asked")
}

/// A channel of a config with this part.
fn channel(channel: &str) -> Channel {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    let mut file = std::fs::File::options();
    let mut file = file.create_new(true).write(true).mode(0o600).open(&path).unwrap();
    write!(file, "[node]\nid = 1\nregion = \"eu\"\ndata_dir = \"data\"\n\n[[channel]]\n{channel}")
        .unwrap();
    let config = Config::load(&path).unwrap_or_else(|faults| panic!("{faults}\n{channel}"));
    config.channels[0].clone()
}

fn connect(sender: &Sender) -> Target {
    target(&sender_config(sender, "http://127.0.0.1:1/webhooks/"))
}

fn place(sender: &Sender, sku: &str) -> Place {
    let item = sender.options().items.iter().find(|item| item.sku == sku).unwrap();
    let (listing, settings) = sender_listing(sender, item);
    let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let location =
        if sender.options().kind == Kind::Odoo { odoo::STOCK.to_string() } else { String::new() };
    Place { sku: sku.into(), listing, location, settings }
}

/// Rows that shall show `quantity`, where `from` is believed to be shown.
fn rows(sender: &Sender, from: i64, quantity: i64) -> Vec<Row> {
    SKUS.iter().map(|sku| Row { place: place(sender, sku), quantity, from }).collect()
}

async fn set(client: &Target, rows: &[Row], key: &str) -> Result<Vec<RowOutcome>, PushError> {
    client.set(rows, key).await.map(|answered| answered.value)
}

fn shown(sender: &Sender) -> BTreeSet<i64> {
    sender.shown().into_values().collect()
}

/// What the channel was told and took, one SKU after another.
fn told(sender: &Sender, sku: &str) -> Vec<i64> {
    let pushes = sender.pushes().into_iter();
    pushes.filter(|push| push.sku == sku && push.applied).map(|push| push.to).collect()
}

/// A channel that is not meant to be told anything must not be, and its share not wait for a push.
#[tokio::test]
async fn who_is_told_is_a_setting() {
    let sender = open(Kind::Ebay, |_| {}).await;
    let config = sender_config(&sender, "http://127.0.0.1:1/webhooks/");
    let told = |config: &str| {
        let channel = channel(config);
        (channel.pushes(), channel.definition(0).pushes)
    };
    assert_eq!(told(&config), (true, true));
    assert_eq!(told(&format!("push = false\n{config}")), (false, false));
    let keys_alone = config.replace(", refresh_token = \"simulated-refresh-token\"", "");
    assert_eq!(told(&keys_alone), (false, false));
    sender.shutdown().await;
}

/// A field that is named otherwise than the channel names it sets nothing, and reads as nothing.
#[tokio::test]
async fn quantities_are_set_and_read() {
    for kind in ALL {
        let sender = open(kind, |_| {}).await;
        let client = connect(&sender);
        let places: Vec<Place> = SKUS.iter().map(|sku| place(&sender, sku)).collect();
        assert_eq!(client.read(&places).await.unwrap().value, [Some(5); 3], "{kind:?}");
        let outcomes = set(&client, &rows(&sender, 5, 17), "a").await.unwrap();
        assert_eq!(outcomes, vec![RowOutcome::Confirmed; 3], "{kind:?}");
        assert_eq!(shown(&sender), [17].into(), "{kind:?}");
        assert_eq!(set(&client, &rows(&sender, 17, 0), "b").await.unwrap().len(), 3);
        assert_eq!(client.read(&places).await.unwrap().value, [Some(0); 3], "{kind:?}");
        assert_eq!(told(&sender, "TEE"), [17, 0], "{kind:?}");
        assert!(sender.sell(&[("MUG", 1)]).is_err(), "nothing is shown, and nothing is sold");
        sender.shutdown().await;
    }
}

/// What the customer bought a moment ago must not be put on sale again.
#[tokio::test]
async fn a_sale_that_was_not_heard_of_is_not_set_over() {
    for kind in ALL {
        let sender = open(kind, |_| {}).await;
        let client = connect(&sender);
        sender.sell(&[("MUG", 2)]).unwrap();
        let outcomes = set(&client, &rows(&sender, 5, 9), "a").await.unwrap();
        let expected = [RowOutcome::Confirmed, RowOutcome::Stale, RowOutcome::Confirmed];
        assert_eq!((outcomes, sender.available("MUG")), (expected.into(), Some(3)), "{kind:?}");
        // What was shipped meanwhile is no longer on the shelf, and no more is for sale for that.
        let order = sender.sell(&[("MUG", 1)]).unwrap();
        sender.ship(order).unwrap();
        let read = client.read(&[place(&sender, "MUG")]).await.unwrap().value;
        assert_eq!(read, [Some(2)], "{kind:?}");
        sender.shutdown().await;
    }
}

/// A call that was carried out and not answered is repeated. A client that took it for a stranger's edit, or
/// set it once more over what was sold since, would be wrong.
#[tokio::test]
async fn a_call_without_an_answer_is_found_to_be_carried_out() {
    for kind in KINDS {
        let sender = open(kind, |_| {}).await;
        let client = connect(&sender);
        let rows = rows(&sender, 5, 17);
        sender.set_faults(Faults { push_answer_lost: 1.0, ..Faults::default() });
        let lost = set(&client, &rows, "a").await;
        assert!(matches!(lost, Err(PushError::Unknown(_))), "{kind:?}: {lost:?}");
        sender.set_faults(Faults::default());
        let again = set(&client, &rows, "a").await.unwrap();
        // WooCommerce's variation goes in a second batch, which was not sent the first time.
        assert_eq!(again, vec![RowOutcome::Confirmed; 3], "{kind:?}");
        assert_eq!(shown(&sender), [17].into(), "{kind:?}");
        for sku in SKUS {
            assert_eq!(told(&sender, sku), [17], "{kind:?}: told once");
        }
        sender.shutdown().await;
    }
}

/// Success with rows that failed: what is taken for confirmed is never told again.
#[tokio::test]
async fn rows_that_fail_in_a_success_are_not_confirmed() {
    for kind in [Kind::WooCommerce, Kind::Ebay] {
        let faults = Faults { row_error: 1.0, ..Faults::default() };
        let sender = open(kind, |options| options.faults = faults).await;
        let client = connect(&sender);
        let outcomes = set(&client, &rows(&sender, 5, 17), "a").await.unwrap();
        assert_eq!(outcomes, vec![RowOutcome::Unknown; 3], "{kind:?}");
        assert_eq!((shown(&sender), sender.stats().rows_refused), ([5].into(), 3), "{kind:?}");
        sender.shutdown().await;
    }
}

/// The conflict comes with 200, and nothing was applied.
#[tokio::test]
async fn a_conflict_of_odoo_is_not_applied() {
    let faults = Faults { conflict: 1.0, ..Faults::default() };
    let sender = open(Kind::Odoo, |options| options.faults = faults).await;
    let client = connect(&sender);
    let outcomes = set(&client, &rows(&sender, 5, 17), "a").await.unwrap();
    assert_eq!(outcomes, [RowOutcome::Stale, RowOutcome::Untouched, RowOutcome::Untouched]);
    assert_eq!(shown(&sender), [5].into());
    sender.set_faults(Faults::default());
    let outcomes = set(&client, &rows(&sender, 5, 17), "b").await.unwrap();
    assert_eq!(outcomes, vec![RowOutcome::Confirmed; 3]);
    sender.shutdown().await;
}

/// What is told while it is down, limited or broken must not be believed to be shown.
#[tokio::test]
async fn a_channel_that_is_down_took_nothing() {
    for kind in KINDS {
        let sender =
            open(kind, |options| options.rate = Some(Rate { per_second: 1000, burst: 100 })).await;
        let client = connect(&sender);
        let rows = rows(&sender, 5, 17);
        sender.set_outage(Outage::TooManyRequests { retry_after: 7 });
        let limited = set(&client, &rows, "a").await;
        let wait = if kind == Kind::Ebay { 2_000 } else { 7_000 };
        if kind == Kind::Ebay {
            // Its token is asked for first, and limited as well.
            assert!(matches!(limited, Err(PushError::Limited { .. })), "{limited:?}");
        } else {
            assert_eq!(limited, Err(PushError::Limited { wait_ms: wait }), "{kind:?}");
        }
        for outage in [Outage::ServerError(502), Outage::DropAfterApply] {
            sender.set_outage(outage);
            let refused = set(&client, &rows, "a").await;
            assert!(refused.is_err(), "{kind:?}: {refused:?}");
        }
        assert_eq!(shown(&sender), [5].into(), "{kind:?}");
        sender.shutdown().await;
    }
}

/// A token that has expired is renewed without a push lost; a key that is wrong is said to be.
#[tokio::test]
async fn tokens_and_keys() {
    let sender =
        open(Kind::Ebay, |options| options.token_life = Some(Duration::from_secs(3600))).await;
    let client = connect(&sender);
    assert!(set(&client, &rows(&sender, 5, 17), "a").await.is_ok());
    sender.expire_tokens();
    // A token as young as this one is not believed to be at fault.
    let refused = set(&client, &rows(&sender, 17, 3), "b").await;
    assert!(matches!(refused, Err(PushError::Unauthorised(_))), "{refused:?}");
    let fresh = connect(&sender);
    assert!(set(&fresh, &rows(&sender, 17, 3), "b").await.is_ok());
    sender.shutdown().await;
    for kind in [Kind::WooCommerce, Kind::Odoo] {
        let sender = open(kind, |_| {}).await;
        let config = sender_config(&sender, "http://127.0.0.1:1/webhooks/");
        let wrong = config.replace(&sender.options().api_secret, "another-long-secret");
        let refused = set(&target(&wrong), &rows(&sender, 5, 17), "a").await;
        assert!(matches!(refused, Err(PushError::Unauthorised(_))), "{kind:?}: {refused:?}");
        assert_eq!(sender.stats().unauthorized, 1);
        sender.shutdown().await;
    }
}

/// The channel itself says whose fault it is: a row that never will be set must name its cure.
#[tokio::test]
async fn faults_of_the_mapping_name_their_cure() {
    let woo = open(Kind::WooCommerce, |options| options.unmanaged = [102].into()).await;
    let outcomes = set(&connect(&woo), &rows(&woo, 5, 17), "a").await.unwrap();
    assert!(matches!(&outcomes[1], RowOutcome::Failed(why) if why.contains("Stock management")));
    assert_eq!((outcomes[0].clone(), woo.available("MUG")), (RowOutcome::Confirmed, Some(5)));
    woo.shutdown().await;
    let ebay = open(Kind::Ebay, |_| {}).await;
    let mut wrong = rows(&ebay, 5, 17);
    wrong[0].place.settings.insert("offer_id".into(), "1".into());
    let outcomes = set(&connect(&ebay), &wrong, "a").await.unwrap();
    assert!(matches!(&outcomes[0], RowOutcome::Failed(why) if why.contains("offer_id")));
    // The item has more, and the listing shows no more than its offer.
    wrong[1].place.settings.clear();
    (wrong[1].from, wrong[1].quantity) = (17, 20);
    let outcomes = set(&connect(&ebay), &wrong[1..2], "b").await.unwrap();
    assert_eq!((outcomes, ebay.available("MUG")), (vec![RowOutcome::Confirmed], Some(17)));
    ebay.shutdown().await;
    let odoo = open(Kind::Odoo, |_| {}).await;
    let mut unknown = rows(&odoo, 0, 17);
    unknown[0].place.listing = "999".into();
    let refused = set(&connect(&odoo), &unknown[..1], "a").await;
    assert!(matches!(refused, Err(PushError::Suspect(why)) if why.contains("999")));
    odoo.shutdown().await;
}

/// What was sold beyond what is there is seen, and by whom.
#[tokio::test]
async fn an_oversell_is_seen() {
    for kind in ALL {
        let warehouse = Warehouse::open(SKUS.map(|sku| (sku, 3)));
        let truth = warehouse.clone();
        let sender = open(kind, |options| options.warehouse = Some(truth)).await;
        sender.sell(&[("MUG", 4)]).unwrap();
        assert_eq!(warehouse.oversold_units(), 1, "{kind:?}");
        let order = sender.sell(&[("TEE", 2)]).unwrap();
        sender.cancel(order).unwrap();
        assert_eq!((warehouse.units("TEE"), warehouse.units("MUG")), (3, -1), "{kind:?}");
        sender.shutdown().await;
    }
}
