use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use clap::Parser as _;

use super::*;
use crate::cli::channel::read;
use crate::cli::sim_marketplace::items;
use crate::config::Config;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

async fn start(kind: Kind, more: &[&str]) -> Running {
    let line = ["x", "--kind", kind.name()].into_iter().chain(more.iter().copied());
    let options = Line::parse_from(line).options;
    Running::start(&options, items(&options).unwrap()).await.unwrap()
}

/// Whoever pastes what is printed must not be told that it is wrong.
#[tokio::test]
async fn what_it_prints_connects_a_node() {
    for kind in Kind::value_variants() {
        let running = start(*kind, &["--items", "3", "--name", "my-shop"]).await;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        let mut file = std::fs::File::options();
        let mut file = file.create_new(true).write(true).mode(0o600).open(&path).unwrap();
        let channel = running.config("http://127.0.0.1:8080/webhooks");
        write!(file, "[node]\nid = 1\nregion = \"eu\"\ndata_dir = \"d\"\n[[channel]]\n{channel}")
            .unwrap();
        let config = Config::load(&path).unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(
            (config.channels[0].name.as_str(), &*config.channels[0].kind),
            ("my-shop", kind.name())
        );
        let listings = dir.path().join("listings.csv");
        std::fs::write(&listings, running.listings()).unwrap();
        let rows = read(&listings, Some(&["my-shop".to_owned()].into())).unwrap();
        assert_eq!(rows.len(), 3, "{kind:?}");
        assert!(rows.iter().all(|row| row["id"] != ""), "{rows:?}");
        let target = running.targets(&["http://127.0.0.1:8080/webhooks".into()]);
        let by_webhook = target[0].starts_with("http://127.0.0.1:8080/webhooks/my-shop");
        assert_eq!(by_webhook, *kind != Kind::Amazon, "{target:?}");
        running.shutdown().await;
    }
}

/// A word that does nothing would make a test of nothing.
#[tokio::test]
async fn it_does_as_it_is_told() {
    for kind in [Kind::Shopify, Kind::Amazon, Kind::Odoo] {
        let running = start(kind, &["--items", "1", "--quantity", "5"]).await;
        let obey = |line: &str| Order::parse(line).and_then(|order| running.obey(order));
        assert_eq!(obey("sell SIM-001 2"), Ok(Vec::new()));
        assert!(obey("sell SIM-001 9").is_err() && obey("sell MUG 1").is_err());
        assert_eq!(obey("show"), Ok(vec!["SIM-001 3".to_owned()]));
        assert_eq!(
            obey("set SIM-001 8").and_then(|_| obey("show")),
            Ok(vec!["SIM-001 8".to_owned()])
        );
        assert!(obey("fault nothing 1").unwrap_err().contains("api-error"));
        assert!(obey("fault api-error 1").is_ok() && obey("outage slow 1").is_ok());
        assert!(running.summary().starts_with("1 orders"), "{}", running.summary());
        running.shutdown().await;
    }
}
