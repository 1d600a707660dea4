//! What no channel should do, and what no seller should ask for: each kind's client against it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::header::LOCATION;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::nodes::Shop;
use super::*;
use crate::channel::api::fake::{Fake, said};

/// More than any answer may be.
const GIGANTIC: usize = 17 << 20;

/// One of each kind.
async fn shops() -> Vec<(&'static str, Shop)> {
    vec![
        ("shopify", Shop::shopify(&SKUS).await),
        ("woocommerce", Shop::open(Kind::WooCommerce, &SKUS).await),
        ("amazon", Shop::amazon(&SKUS).await),
        ("ebay", Shop::open(Kind::Ebay, &SKUS).await),
        ("walmart", Shop::open(Kind::Walmart, &SKUS).await),
        ("odoo", Shop::open(Kind::Odoo, &SKUS).await),
    ]
}

/// The client of a kind, which finds all of the channel at another URL.
fn client_at(shop: &Shop, url: &str) -> Target {
    let own = format!("http://{}", shop.address());
    target(&shop.config().replace(&format!("\"{own}"), &format!("\"{url}")))
}

fn row(shop: &Shop, sku: &str, from: i64, quantity: i64) -> Row {
    let mut place = shop.place(sku);
    if let Some(location) = place.settings.get("location_id") {
        place.location.clone_from(location);
    }
    Row { place, quantity, from }
}

/// Whoever asks is not told that a quantity is shown, by setting it, by a feed or by reading.
async fn nothing_is_believed(kind: &str, shop: &Shop, client: &Target) {
    let rows = [row(shop, "MUG", 5, 9)];
    let set = client.set(&rows, "a").await;
    let confirmed = |set: &Result<crate::channel::Answered<Vec<RowOutcome>>, PushError>| {
        set.as_ref().is_ok_and(|answered| answered.value.contains(&RowOutcome::Confirmed))
    };
    assert!(!confirmed(&set), "{kind}: {set:?}");
    let fed = client.feed(&rows, "b").await;
    assert!(!confirmed(&fed), "{kind}: {fed:?}");
    let read = client.read(&[rows[0].place.clone()]).await;
    let shown = read.as_ref().is_ok_and(|answered| answered.value.iter().any(Option::is_some));
    assert!(!shown, "{kind}: {read:?}");
}

/// A page of a proxy, an endless answer, or one that leads elsewhere would be taken for the channel's word; and
/// a credential be sent to wherever it leads.
#[tokio::test]
async fn an_answer_that_is_none_proves_nothing() {
    let elsewhere = Fake::always(200, "{}").await;
    let to = elsewhere.url.clone();
    let fakes = [
        Fake::always(200, "<html>We are down for maintenance</html>").await,
        Fake::always(200, "").await,
        Fake::start(|_| async { said(200, vec![b' '; GIGANTIC]) }).await,
        Fake::start(move |_| {
            let mut answer = said(307, "");
            answer.headers_mut().insert(LOCATION, to.parse().unwrap());
            async move { answer }
        })
        .await,
    ];
    for (kind, shop) in shops().await {
        for fake in &fakes {
            nothing_is_believed(kind, &shop, &client_at(&shop, &fake.url)).await;
            assert!(!fake.asked().is_empty(), "{kind} was not asked");
        }
        shop.shutdown().await;
    }
    assert!(elsewhere.asked().is_empty(), "a redirect was followed");
}

/// Somebody in between who has a certificate of his own would be given the credentials.
#[tokio::test]
async fn a_certificate_of_ones_own_making_is_not_believed() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(ring).with_safe_default_protocol_versions();
    let config = config.unwrap().with_no_client_auth();
    let config = config.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let (came, heard) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (noted, bytes) = (Arc::clone(&came), Arc::clone(&heard));
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            noted.fetch_add(1, Ordering::Relaxed);
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let read = stream.read(&mut [0; 1024]).await.unwrap_or(0);
                bytes.fetch_add(read, Ordering::Relaxed);
            }
        }
    });
    for (kind, shop) in shops().await {
        let before = came.load(Ordering::Relaxed);
        let client = client_at(&shop, &url);
        let set = set(&client, &[row(&shop, "MUG", 5, 9)], "a").await;
        assert!(matches!(&set, Err(PushError::Refused(_))), "{kind}: {set:?}");
        nothing_is_believed(kind, &shop, &client).await;
        assert!(came.load(Ordering::Relaxed) > before, "{kind} was not called");
        shop.shutdown().await;
    }
    assert_eq!(heard.load(Ordering::Relaxed), 0, "something was said to whoever it was");
    server.abort();
}

/// What the channel does not know would be pushed for ever, and hold back the others; nor is it known to show none.
#[tokio::test]
async fn a_listing_that_is_unknown_is_said_to_be() {
    for (kind, shop) in shops().await {
        let client = target(&shop.config());
        let mut unknown = row(&shop, "MUG", 5, 9);
        unknown.place.listing = match kind {
            "shopify" => "gid://shopify/InventoryItem/1".into(),
            "woocommerce" | "odoo" => "999".into(),
            _ => "NO-SUCH-SKU".into(),
        };
        let read = client.read(&[unknown.place.clone()]).await;
        let none = matches!(&read, Ok(answered) if answered.value == [None]);
        // Odoo has no record where nothing lies, of whatever product.
        assert!(none || kind == "odoo", "{kind}: {read:?}");
        unknown.from = if kind == "odoo" { 0 } else { 5 };
        let outcome = set(&client, &[unknown], "a").await;
        let said = match &outcome {
            Ok(outcomes) => matches!(outcomes.as_slice(), [RowOutcome::Failed(_)]),
            Err(error) => matches!(error, PushError::Suspect(_)),
        };
        assert!(said, "{kind}: {outcome:?}");
        assert_eq!(shop.shown()["MUG"], 5, "{kind}");
        shop.shutdown().await;
    }
}

/// Wrong credentials that are taken for an outage are tried again and again, until the channel locks the account.
#[tokio::test]
async fn wrong_credentials_are_told_from_an_outage() {
    for (kind, shop) in shops().await {
        let (right, wrong) = (shop.secret(), "another-long-secret-of-somebody");
        let client = target(&shop.config().replace(&right, wrong));
        let refused = set(&client, &[row(&shop, "MUG", 5, 9)], "a").await;
        assert!(matches!(refused, Err(PushError::Unauthorised(_))), "{kind}: {refused:?}");
        let refused = client.read(&[row(&shop, "MUG", 5, 9).place]).await;
        assert!(matches!(refused, Err(PushError::Unauthorised(_))), "{kind}: {refused:?}");
        assert_eq!(shop.shown()["MUG"], 5, "{kind}");
        shop.shutdown().await;
    }
}

/// A quantity beyond what a channel takes would be tried for ever, or hold back the rows beside it.
#[tokio::test]
async fn a_quantity_that_is_too_high_fails_alone() {
    let shop = Shop::shopify(&SKUS).await;
    let client = target(&shop.config());
    let rows = [row(&shop, "MUG", 5, 1_000_000_001), row(&shop, "TEE", 5, 9)];
    let outcomes = set(&client, &rows, "a").await.unwrap();
    assert!(
        matches!(outcomes.as_slice(), [RowOutcome::Failed(why), RowOutcome::Untouched]
            if why.contains("INVALID_QUANTITY_TOO_HIGH")),
        "{outcomes:?}"
    );
    shop.shutdown().await;
}
