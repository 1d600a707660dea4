//! How a value of any length becomes records of bounded length, and a value again.
//!
//! A record's key is the caller's key and the chunk's number, big-endian, so that the chunks of a
//! value lie side by side and in order. A record's value begins with one byte:
//!
//! ```text
//! MORE  bytes                                    another chunk follows
//! LAST  count: u32 LE  crc32: u32 LE  bytes      count of chunks, checksum of the whole value
//! ```

/// First byte of a chunk that another follows. Both bytes also say the format: a new one takes new
/// bytes.
const MORE: u8 = 1;
/// First byte of the last chunk.
const LAST: u8 = 2;
const NUMBER_BYTES: usize = 4;
const LAST_HEADER_BYTES: usize = 1 + 4 + 4;

/// The record key of chunk `number` of `key`.
pub(crate) fn row(key: &[u8], number: u32) -> Vec<u8> {
    let mut row = Vec::with_capacity(key.len() + NUMBER_BYTES);
    row.extend_from_slice(key);
    row.extend_from_slice(&number.to_be_bytes());
    row
}

/// The key and the chunk number that a record key was made of.
pub(crate) fn split_row(row: &[u8]) -> Option<(&[u8], u32)> {
    let (key, number) = row.split_last_chunk::<NUMBER_BYTES>()?;
    Some((key, u32::from_be_bytes(*number)))
}

/// The records of a value, each at most `record_bytes_max` with its key; `None` when the key leaves
/// no room.
pub(crate) fn split(
    key: &[u8],
    value: &[u8],
    record_bytes_max: usize,
) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let room = record_bytes_max.checked_sub(key.len() + NUMBER_BYTES + LAST_HEADER_BYTES)?;
    if room == 0 {
        return None;
    }
    let count = u32::try_from(value.len().div_ceil(room).max(1)).ok()?;
    let mut rest = value;
    let mut records = Vec::new();
    for number in 0..count {
        let (part, behind) = rest.split_at_checked(room).unwrap_or((rest, &[]));
        rest = behind;
        let mut bytes = Vec::with_capacity(part.len() + LAST_HEADER_BYTES);
        if number + 1 == count {
            bytes.push(LAST);
            bytes.extend_from_slice(&count.to_le_bytes());
            bytes.extend_from_slice(&crc32fast::hash(value).to_le_bytes());
        } else {
            bytes.push(MORE);
        }
        bytes.extend_from_slice(part);
        records.push((row(key, number), bytes));
    }
    Some(records)
}

/// Puts the chunks of one value together again, in order.
#[derive(Debug, Default)]
pub(crate) struct Joiner {
    value: Vec<u8>,
    next: u32,
}

impl Joiner {
    /// Takes the next chunk. The whole value once it was the last, or what is wrong.
    pub(crate) fn push(
        &mut self,
        number: u32,
        chunk: &[u8],
    ) -> Result<Option<Vec<u8>>, &'static str> {
        if number != self.next {
            return Err("lacks a chunk");
        }
        self.next += 1;
        match chunk.split_first() {
            Some((&MORE, part)) => {
                self.value.extend_from_slice(part);
                Ok(None)
            }
            Some((&LAST, rest)) => self.finish(rest).map(Some),
            Some(_) => Err("has a chunk of a format that this release does not know"),
            None => Err("has an empty chunk"),
        }
    }

    fn finish(&mut self, rest: &[u8]) -> Result<Vec<u8>, &'static str> {
        let cut = "has a last chunk that is cut short";
        let (count, rest) = rest.split_first_chunk().ok_or(cut)?;
        let (checksum, part) = rest.split_first_chunk().ok_or(cut)?;
        self.value.extend_from_slice(part);
        if u32::from_le_bytes(*count) != self.next {
            return Err("does not have as many chunks as it was written with");
        }
        if u32::from_le_bytes(*checksum) != crc32fast::hash(&self.value) {
            return Err("does not match its checksum");
        }
        Ok(std::mem::take(&mut self.value))
    }
}
