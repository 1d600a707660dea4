//! The log as openraft asks for it.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use futures::{Stream, StreamExt, TryStreamExt, stream};
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::{LogState, OptionalSend};
use tokio::sync::oneshot;

use super::writer::Write;
use super::{Log, READ_BYTES_MAX, next};
use crate::types::{Entry, LogId, TypeConfig, Vote};

impl RaftLogReader<TypeConfig> for Log {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = ends(&range);
        self.read_async(from, to, usize::MAX).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.state().vote)
    }

    /// Bounded in bytes too, so that what is sent to a follower fits a frame. Empty when `start` was
    /// purged meanwhile, never a range that begins later.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let entries = self.read_async(start, end, READ_BYTES_MAX).await?;
        let begins = entries.first().is_some_and(|entry| entry.log_id.index == start);
        Ok(if begins { entries } else { Vec::new() })
    }

    /// What is to be applied, read piece by piece: a node that comes back may have millions to apply.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = ends(&range);
        let to = to.min(next(self.state().last));
        let log = self.clone();
        let pieces = stream::try_unfold((log, from), move |(log, from)| async move {
            if from >= to {
                return Ok(None);
            }
            let entries = log.read_async(from, to, READ_BYTES_MAX).await?;
            let first = entries.first().map(|entry| entry.log_id.index);
            let Some(last) = entries.last().filter(|_| first == Some(from)) else {
                return Err(io::Error::other(format!("entry {from} is not in the log")));
            };
            let after = last.log_id.index + 1;
            Ok(Some((stream::iter(entries).map(Ok), (log, after))))
        });
        pieces.try_flatten().boxed()
    }
}

impl RaftLogStorage<TypeConfig> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let state = self.state();
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: state.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    /// Returns once the vote is durable: a vote that a crash forgets can be given twice.
    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (done, durable) = oneshot::channel();
        self.send(Write::Vote { vote: (*vote).into(), done })?;
        durable.await.map_err(io::Error::other)?;
        self.state().vote = Some(*vote);
        Ok(())
    }

    /// Not made durable: it only spares a node that starts from waiting for the leader.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.send(Write::Committed(committed.map(Into::into)))?;
        self.state().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.state().committed)
    }

    async fn append<I>(&mut self, entries: I, done: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        let epoch = {
            let mut state = self.state();
            state.tail.append(&entries);
            state.last = entries.last().map(|entry| entry.log_id).or(state.last);
            state.tail.epoch()
        };
        self.send(Write::Append { entries, epoch, done })
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = next(last);
        let to = {
            let mut state = self.state();
            let Some(to) = state.last.map(|id| id.index).filter(|to| *to >= from) else {
                return Ok(());
            };
            state.tail.truncate(from);
            state.last = last;
            to
        };
        self.send(Write::Truncate { from, to })
    }

    async fn purge(&mut self, to: LogId) -> io::Result<()> {
        let from = {
            let mut state = self.state();
            if Some(to) <= state.purged {
                return Ok(());
            }
            let from = next(state.purged);
            state.purged = Some(to);
            state.last = state.last.max(Some(to));
            state.tail.purge(to.index + 1);
            from
        };
        self.send(Write::Purge { to: to.into(), from })
    }
}

/// First index, and the one behind the last.
fn ends(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(&from) => from,
        Bound::Excluded(&before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(&last) => last.saturating_add(1),
        Bound::Excluded(&to) => to,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}
