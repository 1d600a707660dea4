//! Four questions about the road of a webhook, and of a reservation, each answered by ratios from one run, since machines
//! differ and are noisy:
//!
//! 1. What does a promise cost? Webhooks a second that one node answers 200, each on disk and synced,
//!    against a bare hyper server that reads the body, verifies the HMAC and stores nothing.
//! 2. What does agreement cost? Events a second that three nodes have committed and applied, all of
//!    them, from the first webhook sent to the last replica done.
//! 3. What does asking nobody else save? Reservations a second that one of three nodes grants from its quota,
//!    next to those that the cluster agrees on.
//! 4. What do verifying and understanding cost? Nanoseconds a delivery, next to the HMAC alone.
//!
//! `make bench`. Each server is a process of its own; the load comes from this one and shares the
//! machine with them.

#![expect(clippy::indexing_slicing, reason = "a bench may end when something is not there")]

mod nodes;

use std::convert::Infallible;
use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use channels::signature::{Judged, Scheme, verify};
use channels::{Parsed, Verified};
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Collected, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use marketplace::load::{self, Plan, Report};
use marketplace::{Item, Options};
use nodes::{Fallible, Nodes, TOKEN};
use serde_json::json;
use sha2::Sha256;
use stockraft::channel;
use stockraft::config::Config;
use stockraft::route::Router;

const SECRET: &str = "hush_bench_0123456789abcdef";
const DELIVERIES: usize = 60_000;
const CONNECTIONS: usize = 64;
const ROUNDS: usize = 3;
/// Reservations a round.
const HOLDS: usize = 5_000;

#[expect(clippy::print_stdout, reason = "a bench prints what it measured")]
fn main() -> Fallible<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    if std::env::args().any(|arg| arg == "--bare") {
        return runtime.block_on(bare());
    }
    println!("{DELIVERIES} distinct signed orders a round, {CONNECTIONS} connections\n");
    runtime.block_on(promise())?;
    runtime.block_on(agreement())?;
    runtime.block_on(grants())?;
    understanding()
}

fn store() -> Options {
    let item = |n: u64| Item {
        sku: format!("TEE-{n:03}"),
        variant_id: 40_000_000_000_000 + n,
        inventory_item_id: 9_007_199_254_741_000 + n,
        available: 0,
    };
    Options { secret: SECRET.into(), items: (0..100).map(item).collect(), ..Options::new("bench") }
}

/// Sends distinct orders; `seed` makes them others than those of any other call.
async fn send(urls: &[String], seed: u64, count: usize) -> Fallible<Vec<Report>> {
    let mut sends = Vec::new();
    for (n, url) in (0_u64..).zip(urls) {
        let options = Options { seed: seed * 1000 + n, ..store() };
        let deliveries = load::prebuild(&options, count / urls.len())?;
        let requests = load::sign_all(&deliveries, url, SECRET)?;
        let plan = Plan { connections: CONNECTIONS / urls.len(), per_second: None };
        sends.push(load::send(url, requests, plan));
    }
    Ok(futures::future::try_join_all(sends).await?)
}

fn per_second(report: &Report) -> f64 {
    let accepted = u32::try_from(report.accepted()).map_or(0.0, f64::from);
    accepted / report.elapsed.as_secs_f64()
}

#[expect(clippy::print_stdout, reason = "a bench prints what it measured")]
fn line(what: &str, report: &Report) {
    let ms = |quantile| {
        let us = report.latency_us.value_at_quantile(quantile);
        u32::try_from(us).map_or(0.0, f64::from) / 1000.0
    };
    println!(
        "  {what:<34}{:>9.0}/s   p50 {:.2} ms   p99 {:.2} ms   refused or failed {}",
        per_second(report),
        ms(0.5),
        ms(0.99),
        report.failed + report.by_status.values().sum::<u64>() - report.accepted(),
    );
}

/// The first question.
#[expect(clippy::print_stdout, reason = "a bench prints what it measured")]
async fn promise() -> Fallible<()> {
    println!("1. accepted webhooks a second, one node");
    let dir = tempfile::tempdir()?;
    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        let mut bare = Command::new(std::env::current_exe()?)
            .arg("--bare")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = bare.stdout.take().ok_or("no stdout")?;
        let address = BufReader::new(stdout).lines().next().ok_or("no address")??;
        let url = format!("http://{address}/webhooks/bench");
        let seed = u64::try_from(round)? + 1;
        let nothing = send(&[url], seed, DELIVERIES).await?.remove(0);
        drop(bare.stdin.take());
        bare.wait()?;
        let node = start(dir.path(), &format!("one-{round}"), 1).await?;
        let kept = send(&webhooks(&node), seed, DELIVERIES).await?.remove(0);
        node.stop()?;
        line("bare hyper, HMAC, nothing stored", &nothing);
        line("stockraft, on disk and synced", &kept);
        ratios.push(per_second(&kept) / per_second(&nothing));
    }
    let shown: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
    println!("  ratio {}\n", shown.join(", "));
    Ok(())
}

/// The second question.
#[expect(clippy::print_stdout, reason = "a bench prints what it measured")]
async fn agreement() -> Fallible<()> {
    println!("2. committed and applied events a second, three nodes");
    let dir = tempfile::tempdir()?;
    for round in 0..ROUNDS {
        let nodes = start(dir.path(), &format!("three-{round}"), 3).await?;
        let began = Instant::now();
        let reports = send(&webhooks(&nodes), 100 + u64::try_from(round)?, DELIVERIES).await?;
        let accepted: u64 = reports.iter().map(Report::accepted).sum();
        let answered = began.elapsed();
        applied(&nodes, accepted).await?;
        let applied = began.elapsed();
        let rate = |elapsed: Duration| {
            u32::try_from(accepted).map_or(0.0, f64::from) / elapsed.as_secs_f64()
        };
        println!(
            "  {accepted} events: answered at {:.0}/s, applied on all three at {:.0}/s",
            rate(answered),
            rate(applied)
        );
        nodes.stop()?;
    }
    println!();
    Ok(())
}

/// The third question.
#[expect(clippy::print_stdout, reason = "a bench prints what it measured")]
async fn grants() -> Fallible<()> {
    println!("3. reservations a second at one of three nodes");
    let dir = tempfile::tempdir()?;
    let nodes = start(dir.path(), "holds", 3).await?;
    for (sku, max) in [("AGREED", 0), ("ESCROW", 300 * HOLDS)] {
        let receipt =
            json!({ "id": sku, "kind": "receipt", "sku": sku, "quantity": 1_000 * HOLDS });
        let movements = json!({ "movements": [receipt] });
        nodes.apis[0].call(Method::POST, "/v1/movements", Some(&movements)).await?;
        let escrow = json!({ "escrow": { "max": max } });
        nodes.apis[0].call(Method::PUT, &format!("/v1/skus/{sku}"), Some(&escrow)).await?;
        granted(&nodes, sku, max / 3).await?;
    }
    for (what, sku, connections) in [
        ("agreed, one at a time", "AGREED", 1),
        ("from the quota, one at a time", "ESCROW", 1),
        ("agreed", "AGREED", CONNECTIONS),
        ("from the quota", "ESCROW", CONNECTIONS),
    ] {
        let count = if connections == 1 { HOLDS / 10 } else { HOLDS };
        let requests: Result<_, _> = (0..count).map(|_| hold(sku)).collect();
        let url = format!("http://127.0.0.1:{}", nodes.ports[2][1]);
        let plan = Plan { connections, per_second: None };
        line(what, &load::send(&url, requests?, plan).await?);
    }
    nodes.stop()?;
    println!();
    Ok(())
}

/// Waits until the last node has so much of a SKU in its quota.
async fn granted(nodes: &Nodes, sku: &str, units: usize) -> Fallible<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let stock = nodes.apis[2].call(Method::GET, &format!("/v1/stock/{sku}"), None).await;
        let left = stock.ok().and_then(|stock| {
            stock["quotas"].as_object()?.values().find_map(|quotas| quotas["3"].as_u64())
        });
        if left.unwrap_or(0) >= u64::try_from(units)? {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("{left:?} of {units} {sku} were granted in time").into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn hold(sku: &str) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let body = json!({ "sku": sku, "quantity": 1, "ttl_s": 3600 }).to_string();
    Request::post("/v1/reservations")
        .header("host", "bench")
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
}

/// The fourth question.
#[expect(clippy::print_stdout, reason = "a bench prints what it measured")]
fn understanding() -> Fallible<()> {
    println!("4. nanoseconds a delivery of Shopify, one thread");
    let deliveries = load::prebuild(&store(), 2_000)?;
    let requests = load::sign_all(&deliveries, "http://127.0.0.1/webhooks/bench", SECRET)?;
    let scheme = Scheme::shopify(&[SECRET])?;
    let timed = |what: &str, work: &dyn Fn(usize)| {
        let began = Instant::now();
        for round in 0..20 * deliveries.len() {
            work(round % deliveries.len());
        }
        let ns = began.elapsed().as_nanos() / u128::try_from(20 * deliveries.len()).unwrap_or(1);
        println!("  {what:<34}{ns:>9}");
    };
    timed("HMAC-SHA256 alone", &|n| {
        let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes())
            .map(|mac| mac.chain_update(&deliveries[n].body).finalize().into_bytes());
        black_box(mac.is_ok());
    });
    timed("verified", &|n| {
        let request = asked(requests[n].headers(), &deliveries[n].body);
        black_box(verify(&scheme, &request, None).is_ok());
    });
    let node = "[node]\nid = 1\nregion = \"bench\"\ndata_dir = \"data\"\n";
    let config = Config::parse(node, Path::new("bench.toml"))?;
    let router = Router::new(&config, |_, _| None);
    timed("verified, understood and routed", &|n| {
        let (headers, body) = (requests[n].headers(), &deliveries[n].body);
        if let Ok(Judged::Genuine(verified)) = verify(&scheme, &asked(headers, body), None) {
            let parsed = channels::shopify::parse(headers, verified);
            black_box(channel::deliver(&router, "bench", parsed, body, 1));
        }
    });
    every_channel()
}

/// A request as the public listener sees it.
fn asked<'a>(headers: &'a HeaderMap, body: &'a [u8]) -> channels::Request<'a> {
    channels::Request { method: &Method::POST, target: "/webhooks/bench", headers, body, now_ms: 1 }
}

/// How a kind of channel understands a verified body.
type Understand = fn(&HeaderMap, Verified<'_>) -> Parsed;

/// One delivery of each kind, all under the same HMAC, so that what differs is the understanding.
#[expect(clippy::print_stdout, reason = "a bench prints what it measured")]
fn every_channel() -> Fallible<()> {
    println!("   each kind's sample: HMAC alone, then verified and understood");
    let kinds: [(&str, &str, (&str, &str), Understand); 5] = [
        (
            "shopify",
            "orders_create",
            ("x-shopify-topic", "orders/create"),
            channels::shopify::parse,
        ),
        (
            "woocommerce",
            "order.created",
            ("x-wc-webhook-topic", "order.created"),
            channels::woocommerce::parse,
        ),
        ("amazon", "ORDER_CHANGE", ("x-none", ""), |_, body| {
            channels::amazon::notification(body.bytes())
        }),
        ("ebay", "ORDER_CONFIRMATION", ("x-none", ""), channels::ebay::parse),
        ("walmart", "PO_CREATED", ("x-none", ""), channels::walmart::parse),
    ];
    let scheme = Scheme::github(&[SECRET])?;
    for (kind, sample, (name, topic), understand) in kinds {
        let root = env!("CARGO_MANIFEST_DIR");
        let body = std::fs::read(format!("{root}/channels/tests/samples/{kind}/{sample}.json"))?;
        let mac = || -> Fallible<_> {
            let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes())?;
            Ok(mac.chain_update(&body).finalize().into_bytes())
        };
        let mut headers = HeaderMap::new();
        headers.insert(hyper::header::HeaderName::from_static(name), topic.parse()?);
        let code = format!("sha256={}", channel::hex(&mac()?));
        headers.insert("x-hub-signature-256", code.parse()?);
        let ns = |work: &dyn Fn()| {
            let began = Instant::now();
            (0..20_000).for_each(|_| work());
            began.elapsed().as_nanos() / 20_000
        };
        let alone = ns(&|| {
            black_box(mac().is_ok());
        });
        let whole = ns(&|| {
            let judged = verify(&scheme, &asked(&headers, &body), None);
            if let Ok(Judged::Genuine(verified)) = judged {
                black_box(understand(&headers, verified));
            }
        });
        println!("  {kind:<34}{alone:>9}{whole:>9}   {} bytes", body.len());
    }
    Ok(())
}

/// What a handler costs that promises nothing: body read, HMAC verified, 200.
#[expect(clippy::print_stdout, reason = "the parent reads the address")]
async fn bare() -> Fallible<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let serve = async {
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                let service = service_fn(|request: Request<Incoming>| async {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
                    let scheme = Scheme::shopify(&[SECRET]);
                    let judged =
                        scheme.map(|scheme| verify(&scheme, &asked(&head.headers, &body), None));
                    let status = match judged {
                        Ok(Ok(_)) => StatusCode::OK,
                        _ => StatusCode::UNAUTHORIZED,
                    };
                    let mut response = Response::new(Full::new(Bytes::from_static(b"{}")));
                    *response.status_mut() = status;
                    Ok::<_, Infallible>(response)
                });
                let io = TokioIo::new(stream);
                // A client that hangs up is no error of the bench.
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
            });
        }
    };
    let (mut parent, mut nowhere) = (tokio::io::stdin(), tokio::io::sink());
    tokio::select! {
        failed = serve => failed,
        _ = tokio::io::copy(&mut parent, &mut nowhere) => Ok(()),
    }
}

async fn start(dir: &Path, name: &str, count: usize) -> Fallible<Nodes> {
    let channel =
        format!("[[channel]]\nname = \"bench\"\nkind = \"shopify\"\nsecrets = [\"{SECRET}\"]\n");
    Nodes::start(dir, name, count, &channel).await
}

fn webhooks(nodes: &Nodes) -> Vec<String> {
    let public = nodes.ports.iter().map(|[public, ..]| public);
    public.map(|port| format!("http://127.0.0.1:{port}/webhooks/bench")).collect()
}

/// Waits until every replica has applied so many deliveries.
async fn applied(nodes: &Nodes, count: u64) -> Fallible<()> {
    let deadline = Instant::now() + Duration::from_secs(120);
    for api in &nodes.apis {
        loop {
            let status = api.call(Method::GET, "/cluster/status", None).await?;
            if status["deliveries"].as_u64() >= Some(count) {
                break;
            }
            if Instant::now() > deadline {
                return Err(format!("not applied in time: {status}").into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}
