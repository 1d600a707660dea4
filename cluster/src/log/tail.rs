//! The newest entries, in memory: those that the disk does not have yet, and as many before them as
//! followers are likely to ask for.

use std::collections::VecDeque;

use crate::types::{Entry, Payload};

/// How much is kept that the disk already has.
const TAIL_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What an entry costs besides its bytes.
const ENTRY_BYTES: usize = 64;

#[derive(Debug)]
pub(super) struct Tail {
    first: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Entries below this index are on disk and may be forgotten here.
    written: u64,
    /// Raised by every truncation. What the disk has of an older epoch is not what the tail has.
    epoch: u64,
}

impl Tail {
    pub(super) fn starting_at(first: u64) -> Self {
        Self { first, entries: VecDeque::new(), bytes: 0, written: first, epoch: 0 }
    }

    /// The least index that it holds, or would.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Takes entries that follow the last one. After a purge beyond the end they may begin later.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(begin) = entries.first().map(|entry| entry.log_id.index) else { return };
        if begin != self.end() {
            *self = Self { epoch: self.epoch, ..Self::starting_at(begin) };
        }
        self.bytes += entries.iter().map(size).sum::<usize>();
        self.entries.extend(entries.iter().cloned());
    }

    /// Forgets entries from `index` on.
    pub(super) fn truncate(&mut self, index: u64) {
        self.epoch += 1;
        while self.end() > index.max(self.first) {
            self.bytes -= self.entries.pop_back().as_ref().map_or(0, size);
        }
        self.first = self.first.min(index);
        self.written = self.written.min(index);
    }

    /// Forgets entries below `index`.
    pub(super) fn purge(&mut self, index: u64) {
        while self.first < index {
            let Some(entry) = self.entries.pop_front() else { break };
            self.bytes -= size(&entry);
            self.first += 1;
        }
        if self.entries.is_empty() {
            self.first = self.first.max(index);
        }
    }

    /// Hears that entries of `epoch` below `index` are on disk, and makes room.
    pub(super) fn written(&mut self, epoch: u64, index: u64) {
        if epoch == self.epoch {
            self.written = self.written.max(index);
        }
        while self.bytes > TAIL_BYTES_MAX && self.first < self.written {
            let Some(entry) = self.entries.pop_front() else { break };
            self.bytes -= size(&entry);
            self.first += 1;
        }
    }

    /// Entries from `from` up to but without `to`: at least one if there is one, and then no more than
    /// `bytes_max`.
    pub(super) fn read(&self, from: u64, to: u64, bytes_max: usize) -> Vec<Entry> {
        let skip = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let take = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let mut read = Vec::new();
        for entry in self.entries.iter().skip(skip).take(take) {
            bytes += size(entry);
            if bytes > bytes_max && !read.is_empty() {
                break;
            }
            read.push(entry.clone());
        }
        read
    }

    fn end(&self) -> u64 {
        self.entries.back().map_or(self.first, |entry| entry.log_id.index + 1)
    }
}

fn size(entry: &Entry) -> usize {
    ENTRY_BYTES
        + match &entry.payload {
            Payload::Normal(command) => command.bytes.0.len(),
            Payload::Blank | Payload::Membership(_) => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Command, LogId};

    fn entry(term: u64, index: u64, bytes: usize) -> Entry {
        let command = Command { at_ms: 0, bytes: vec![0; bytes].into() };
        Entry { log_id: LogId::new(term.into(), index), payload: Payload::Normal(command) }
    }

    fn indexes(read: &[Entry]) -> Vec<(u64, u64)> {
        read.iter().map(|entry| (entry.log_id.leader_id.term, entry.log_id.index)).collect()
    }

    // An entry that is not on disk yet and forgotten here would be a hole in the log.
    #[test]
    fn forgets_only_what_the_disk_has() {
        let mut tail = Tail::starting_at(1);
        let large = TAIL_BYTES_MAX / 2;
        tail.append(&[entry(1, 1, large), entry(1, 2, large), entry(1, 3, large)]);
        tail.written(tail.epoch(), 1);
        assert_eq!(tail.first(), 1);
        tail.written(tail.epoch(), 2);
        assert_eq!(tail.first(), 2, "one is on disk, and there was too much");
        assert_eq!(indexes(&tail.read(2, 9, 1)), [(1, 2)], "at least one, whatever the limit");
    }

    // The writer reports entries that were since truncated and replaced: the replacement is not on
    // disk, and reading the disk instead would bring the old entry back.
    #[test]
    fn a_late_report_of_truncated_entries_does_not_count() {
        let mut tail = Tail::starting_at(1);
        let large = TAIL_BYTES_MAX / 2;
        tail.append(&[entry(1, 1, 0), entry(1, 2, large), entry(1, 3, large)]);
        let old = tail.epoch();
        tail.truncate(2);
        tail.append(&[entry(2, 2, large), entry(2, 3, large), entry(2, 4, large)]);
        tail.written(old, 4);
        assert_eq!(indexes(&tail.read(2, 5, usize::MAX)), [(2, 2), (2, 3), (2, 4)]);
    }

    // Indexes and positions part ways after a purge; off by one reads another entry.
    #[test]
    fn reads_by_index_after_purge_and_truncation() {
        let mut tail = Tail::starting_at(5);
        tail.append(&(5..10).map(|index| entry(1, index, 1)).collect::<Vec<_>>());
        tail.purge(7);
        assert_eq!(indexes(&tail.read(7, 9, usize::MAX)), [(1, 7), (1, 8)]);
        tail.truncate(6);
        assert_eq!(tail.first(), 6);
        tail.append(&[entry(2, 6, 1)]);
        assert_eq!(indexes(&tail.read(6, 99, usize::MAX)), [(2, 6)]);
        tail.purge(100);
        assert_eq!(tail.first(), 100);
        tail.append(&[entry(2, 100, 1)]);
        assert_eq!(indexes(&tail.read(100, 101, usize::MAX)), [(2, 100)]);
    }
}
