//! openraft's own suite, on the real log and the real snapshots. It lies here rather than under
//! `tests/` because openraft's types do not leave this crate.

use std::io::{Read, Write};
use std::sync::{Arc, RwLock};

use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;
use tokio::sync::watch;

use super::Log;
use crate::machine::adapter::Adapter;
use crate::machine::files::Files;
use crate::machine::{Entry, Halt, Snapshot, StateMachine, Swap, Transfer};
use crate::types::TypeConfig;

struct Nothing;

impl StateMachine for Nothing {
    fn apply(&mut self, entries: &[Entry<'_>]) -> Result<Vec<Vec<u8>>, Halt> {
        Ok(vec![Vec::new(); entries.len()])
    }

    fn snapshot(&self) -> Box<dyn Snapshot> {
        Box::new(Self)
    }

    fn restore(&self, _: &mut dyn Read) -> Result<Swap<Self>, Halt> {
        Ok(Box::new(|_: &mut Self| ()))
    }

    fn transfer(&self) -> Arc<dyn Transfer> {
        Arc::new(Self)
    }
}

impl Snapshot for Nothing {
    fn write(self: Box<Self>, to: &mut dyn Write) -> Result<(), Halt> {
        Ok(to.write_all(b"nothing")?)
    }
}

impl Transfer for Nothing {
    fn export(&self, local: &mut dyn Read, to: &mut dyn Write) -> Result<(), Halt> {
        Ok(std::io::copy(local, to).map(drop)?)
    }

    fn import(&self, from: &mut dyn Read, local: &mut dyn Write) -> Result<(), Halt> {
        Ok(std::io::copy(from, local).map(drop)?)
    }
}

struct Builder;

impl StoreBuilder<TypeConfig, Log, Adapter, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, Log, Adapter), openraft::StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(&dir.path().join("log"), 1).unwrap();
        let files = Arc::new(Files::open(&dir.path().join("snapshots")).unwrap());
        let (progress, _) = watch::channel(crate::machine::adapter::Progress::default());
        let adapter = Adapter::new(Arc::new(RwLock::new(Nothing)), files, progress);
        Ok((dir, log, adapter))
    }
}

// A log that keeps what was truncated, forgets a vote or leaves a hole breaks raft's promises, and
// does so long after the call that was wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_of_openraft_passes() {
    Suite::test_all(Builder).await.unwrap();
}

// A node that starts in another node's directory would vote with its voice.
#[tokio::test]
async fn a_directory_of_another_node_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (log, closed) = Log::open(dir.path(), 1).unwrap();
    drop(log);
    closed.wait().await;
    let error = Log::open(dir.path(), 2).unwrap_err();
    assert!(matches!(error, crate::Error::OtherNode { found: 1, wanted: 2, .. }), "{error}");
    let (_log, _) = Log::open(dir.path(), 1).unwrap();
}
