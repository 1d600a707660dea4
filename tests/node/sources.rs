//! Promise: each channel's API, asked for all that changed, tells of every order, however many pages they
//! fill; asked for one order it tells of that one, and of none where there is none.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use channels::Understood;
use channels::poll::Told;
use marketplace::amazon::{self, Account};
use marketplace::sender::{Item, Kind, Options, Sender};
use marketplace::{Store, Warehouse, sqs};
use state::command::Fact;
use stockraft::channel::Orders;
use stockraft::channel::api::ApiError;
use stockraft::channel::source::Source;
use stockraft::clock;
use stockraft::config::Config;

/// More orders than any channel puts on one page.
const ORDERS: usize = 205;
const HOUR_MS: u64 = 3_600_000;

/// The API of the one channel of a config.
fn source(channel: &str) -> Source {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    let node = "[node]\nid = 1\nregion = \"eu\"\ndata_dir = \"data\"\n";
    std::fs::write(&path, format!("{node}[[channel]]\nname = \"a\"\n{channel}")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let config = Config::load(&path).unwrap_or_else(|faults| panic!("{:?}", faults.all()));
    Source::new(&config.channels[0]).unwrap()
}

/// The orders that something told is about.
fn orders(told: &Told) -> Vec<String> {
    let Understood::Facts(facts) = &told.understood else { panic!("{told:?}") };
    let order = |fact: &Fact| match fact {
        Fact::Image { order, .. } | Fact::Reload { order, .. } => Some(order.clone()),
        _ => None,
    };
    facts.iter().filter_map(order).collect()
}

/// Walks all pages, waiting where the channel limits the rate.
async fn all_changed(source: &Source) -> (BTreeSet<String>, usize) {
    let (mut seen, mut page, mut pages) = (BTreeSet::new(), None, 0);
    let since = clock::now_ms() - HOUR_MS;
    loop {
        let read = match source.changes(since, page.as_deref()).await {
            Err(ApiError::Limited { wait_ms }) => {
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                continue;
            }
            read => read.unwrap(),
        };
        if !read.told.is_empty() {
            pages += 1;
            assert!(read.newest_ms.is_some_and(|newest| newest > since), "{:?}", read.newest_ms);
        }
        seen.extend(read.told.iter().flat_map(orders));
        page = read.next;
        if page.is_none() {
            return (seen, pages);
        }
    }
}

async fn tells_all(source: &Source, expected: BTreeSet<String>, unknown: &str) {
    let (seen, pages) = all_changed(source).await;
    assert_eq!(seen, expected);
    assert!(pages > 1, "all on one page: nothing is shown of those after it");
    let one = expected.first().unwrap();
    let told = source.order(one).await.unwrap().unwrap();
    assert_eq!(orders(&told), std::slice::from_ref(one));
    assert_eq!(source.order(unknown).await, Ok(None));
}

async fn sender(kind: Kind) -> (Sender, BTreeSet<String>) {
    let item = Item { sku: "MUG".into(), listing: 93, units: 1_000 };
    let sender = Sender::start(Options { items: vec![item], ..Options::new("a", kind) }).await;
    let sender = sender.unwrap();
    let sold = (0..ORDERS).map(|_| sender.sell(&[("MUG", 1)]).unwrap());
    let names = sold.map(|order| sender.order_name(order).unwrap()).collect();
    (sender, names)
}

// An order that only a poll would have told of is sold twice if its page is skipped: all these orders
// changed within a second or two, which is all that the store's times can say.
#[tokio::test]
async fn woocommerce_tells_of_every_order() {
    let (sender, expected) = sender(Kind::WooCommerce).await;
    let of = sender.options();
    let source = source(&format!(
        "kind = \"woocommerce\"\nsecrets = [\"{}\"]\napi = {{ base_url = \"{}\", consumer_key = \"{}\", \
         consumer_secret = \"{}\" }}\n",
        of.secret,
        sender.url(),
        of.api_id,
        of.api_secret
    ));
    tells_all(&source, expected, "1").await;
    sender.shutdown().await;
}

// The next page is named by a whole URL, and only the seller's token may read it: taken amiss, all orders
// after the first page are lost.
#[tokio::test]
async fn ebay_tells_of_every_order() {
    let (sender, expected) = sender(Kind::Ebay).await;
    let of = sender.options();
    let source = source(&format!(
        "kind = \"ebay\"\nsecrets = [\"{}\"]\nendpoint = \"https://a.example/webhooks/a\"\n\
         api = {{ base_url = \"{}\", client_id = \"{}\", client_secret = \"{}\", \
         refresh_token = \"{}\" }}\n",
        of.verification_token,
        sender.url(),
        of.api_id,
        of.api_secret,
        of.refresh_token
    ));
    tells_all(&source, expected, "26-00000-00000").await;
    sender.shutdown().await;
}

// The next page is a query of its own, without the filters of the first: taken amiss, it never ends, or ends
// too soon.
#[tokio::test]
async fn walmart_tells_of_every_order() {
    let (sender, expected) = sender(Kind::Walmart).await;
    let of = sender.options();
    let source = source(&format!(
        "kind = \"walmart\"\nsecrets = [\"{}\"]\nverify = {{ scheme = \"basic\", user = \"wm\" }}\n\
         api = {{ base_url = \"{}\", client_id = \"{}\", client_secret = \"{}\" }}\n",
        of.secret,
        sender.url(),
        of.api_id,
        of.api_secret
    ));
    tells_all(&source, expected, "1").await;
    sender.shutdown().await;
}

// Moves, sales and stock come one after the other: a page that ends one kind must not end the poll.
#[tokio::test]
async fn odoo_tells_of_every_sale() {
    let (sender, expected) = sender(Kind::Odoo).await;
    let of = sender.options();
    let source = source(&format!(
        "kind = \"odoo\"\nsecrets = [\"{}\"]\nodoo = {{ locations = {{ 8 = \"main\" }}, customers = [5] }}\n\
         api = {{ base_url = \"{}\", token = \"{}\" }}\n",
        of.secret,
        sender.url(),
        of.api_secret
    ));
    tells_all(&source, expected, "999999999").await;
    sender.shutdown().await;
}

// A page's token without the filters of the first page is refused, and an order without its fulfillment is
// not understood.
#[tokio::test]
async fn amazon_tells_of_every_order() {
    let queue = sqs::Queue::start(sqs::Options::new("orders")).await.unwrap();
    let options = amazon::Options {
        items: vec![amazon::Item { sku: "MUG".into(), units: 1_000 }],
        search_lag: Duration::ZERO,
        whole_seconds: false,
        ..amazon::Options::new("A0SELLER")
    };
    let account = Account::start(options, queue.clone()).await.unwrap();
    let sold: Vec<u64> = (0..ORDERS).map(|_| account.sell(&[("MUG", 1)]).unwrap()).collect();
    for order in &sold {
        account.confirm(*order).unwrap();
    }
    let expected = sold.into_iter().map(amazon::order_id).collect();
    let of = account.options();
    let source = source(&format!(
        "kind = \"amazon\"\nsns = {{ topics = [\"arn:aws:sns:us-east-1:123456789012:a\"] }}\n\
         api = {{ base_url = \"{0}\", token_url = \"{0}/auth/o2/token\", client_id = \"{1}\", \
         client_secret = \"{2}\", refresh_token = \"{3}\", marketplaces = [\"{4}\"], seller_id = \"A0SELLER\" }}\n",
        account.endpoint(),
        of.client_id,
        of.client_secret,
        of.refresh_token,
        of.marketplace_id
    ));
    tells_all(&source, expected, "000-0000000-0000000").await;
    account.shutdown().await;
    queue.shutdown().await;
}

// A page costs almost all that a store allows at once: one that is throttled must come later, not never.
#[tokio::test]
async fn shopify_tells_of_every_order() {
    let item = marketplace::Item {
        sku: "MUG".into(),
        variant_id: 40_001,
        inventory_item_id: 50_001,
        available: 1_000,
    };
    let options = marketplace::Options { items: vec![item], ..marketplace::Options::new("north") };
    let warehouse = Warehouse::open([("MUG", 1_000)]);
    let store = Store::start(options, warehouse).await.unwrap();
    let expected = (0..30).map(|_| store.sell_one("MUG", 1).unwrap().to_string()).collect();
    let of = store.options();
    let source = source(&format!(
        "kind = \"shopify\"\nsecrets = [\"{}\"]\napi = {{ base_url = \"http://{}\", token = \"{}\" }}\n",
        of.secret,
        store.address(),
        of.access_token
    ));
    tells_all(&source, expected, "1").await;
    store.shutdown().await;
}
