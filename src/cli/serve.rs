//! `stockraft serve`: one node, until it is told to stop.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cluster::{InitError, Role};
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, say};
use crate::channel::hex;
use crate::config::Config;
use crate::node::Node;

/// Where a newcomer's node keeps everything, its config included.
const NEWCOMER_DIR: &str = "stockraft-data";

pub(super) async fn run(path: Option<PathBuf>, stop_with_stdin: bool) -> Result<(), Failure> {
    let newcomer = path.is_none();
    let path = match path {
        Some(path) => path,
        None => newcomer_config().map_err(|error| {
            Failure::Operation(format!("cannot write {NEWCOMER_DIR}/config.toml: {error}"))
        })?,
    };
    let config = Config::load(&path).map_err(|faults| Failure::Usage(faults.to_string()))?;
    for note in config.notes() {
        tracing::warn!("{note}");
    }
    let member = config.member();
    let failed = |error: &dyn std::error::Error| Failure::Operation(error.to_string());
    let node = Box::pin(Node::start(config)).await.map_err(|error| failed(&error))?;
    tracing::info!(id = member.id, region = member.region, public = %node.public,
        admin = %node.admin, peer = member.peer, "listening");
    if newcomer && node.raft().status().role == Role::Uninitialised {
        match node.raft().init(vec![member]).await {
            Ok(()) | Err(InitError::AlreadyInitialised) => {}
            Err(error) => return Err(failed(&error)),
        }
    }
    let stop = async {
        tokio::select! {
            () = shutdown() => {}
            () = stdin_closed(), if stop_with_stdin => {}
        }
        tracing::info!("stopping");
    };
    node.run(stop).await.map_err(Failure::Operation)
}

async fn stdin_closed() {
    // Whatever it says is ignored; only its end counts.
    let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await;
}

/// SIGTERM or SIGINT.
pub(crate) async fn shutdown() {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        // Without handlers the default action ends the process, which is what was asked for.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// A config for a cluster of one on loopback, with secrets of its own; made once.
fn newcomer_config() -> std::io::Result<PathBuf> {
    let dir = Path::new(NEWCOMER_DIR);
    let path = dir.join("config.toml");
    if path.is_file() {
        say(&format!("token and webhook secret are in {}", path.display()));
        return Ok(path);
    }
    let random = || {
        let mut bytes = [0; 24];
        getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
        Ok::<_, std::io::Error>(hex(&bytes))
    };
    let (token, secret) = (random()?, random()?);
    let text = format!(
        "# A cluster of one on loopback. config.default.toml explains every setting.\n\
         [node]\nid = 1\nregion = \"local\"\ndata_dir = \"{NEWCOMER_DIR}\"\n\n\
         [raft]\nheartbeat = \"100ms\"\nelection = \"300ms\"\n\n\
         [admin]\ntokens = [{{ name = \"me\", secret = \"{token}\", \
         scopes = [\"read\", \"write\", \"admin\"] }}]\n\n\
         [[channel]]\nname = \"demo\"\nkind = \"shopify\"\nsecrets = [\"{secret}\"]\n"
    );
    std::fs::create_dir_all(dir)?;
    // Whole or not at all: half a config would be a fault at every later start.
    let new = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, &path)?;
    say(&format!(
        "A cluster of one, on loopback. This is printed once; {} keeps it.\n\n\
         export STOCKRAFT_TOKEN={token}\n\
         export STOCKRAFT_DEMO_SECRET={secret}\n\n\
         webhooks   http://127.0.0.1:8080/webhooks/demo\n\
         dashboard  http://127.0.0.1:8081/\n",
        path.display()
    ));
    Ok(path)
}
