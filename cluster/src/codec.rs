//! Bytes for disk and for peers. This is the only file that names bincode.
//!
//! Every encoded value begins with [`FORMAT`]. A release that changes how values are laid out raises
//! the number, and goes on reading the one before; a byte that it does not know is refused, never
//! guessed at.

use std::io::{Read, Write};

use bincode::config::{Configuration, Limit, standard};
use bincode::de::read::Reader;
use bincode::error::{DecodeError, EncodeError};
use bincode::serde::{self as binary, OwnedSerdeDecoder};
use serde::Serialize;
use serde::de::DeserializeOwned;

// Said in full: the fuzz targets take this file in from elsewhere.
#[path = "codec/bounded.rs"]
mod bounded;

use bounded::{Bounded, Tap};

/// The first byte of every encoded value.
pub const FORMAT: u8 = 1;

/// The most bytes that one value given to [`decode`] may claim to hold, counted as it lies in memory.
///
/// A claim is checked before anything is allocated for it, so that a few hostile bytes cannot ask
/// for all of the memory.
pub const LIMIT: usize = 64 * 1024 * 1024;

/// Why bytes were not a value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There was not even a format byte.
    #[error("the value is empty, it lacks its format byte")]
    Empty,
    /// The value was written by a release that this one does not know.
    #[error("format {found} is not known to this release, which reads format {FORMAT}")]
    Format {
        /// The byte that was there.
        found: u8,
    },
    /// More bytes followed than the value needs, so it is not what it seemed.
    #[error("{count} bytes follow the end of the value")]
    Trailing {
        /// How many.
        count: usize,
    },
    /// The bytes do not spell a value of this type, or claim more than [`LIMIT`].
    #[error("the value cannot be decoded: {0}")]
    Malformed(#[source] DecodeError),
    /// The value has no encoding (a map of unknown length, say).
    #[error("the value cannot be encoded: {0}")]
    Unencodable(#[source] EncodeError),
    /// Reading or writing the stream failed.
    #[error("the stream failed: {0}")]
    Io(#[from] std::io::Error),
}

/// Encodes a value, format byte first.
///
/// # Panics
/// When the type has no encoding: a sequence whose length serde does not know beforehand, or a
/// `Serialize` that fails by itself. Derived types never do; so it is a mistake in the program, and
/// found by the first test that encodes the type.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    encode_into(value, &mut bytes)
        .expect("derived types can be encoded, and memory takes the bytes");
    bytes
}

/// Decodes what [`encode`] made: the whole of `bytes`, and nothing that claims more than [`LIMIT`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let (&format, rest) = bytes.split_first().ok_or(Error::Empty)?;
    check_format(format)?;
    let (value, used) = binary::decode_from_slice(rest, bounded()).map_err(Error::Malformed)?;
    match rest.len().saturating_sub(used) {
        0 => Ok(value),
        count => Err(Error::Trailing { count }),
    }
}

/// Encodes a value into a stream, format byte first. What is written has no limit.
pub fn encode_into<T: Serialize + ?Sized>(value: &T, to: &mut dyn Write) -> Result<(), Error> {
    let mut to = to;
    to.write_all(&[FORMAT])?;
    match binary::encode_into_std_write(value, &mut to, standard()) {
        Ok(_) => Ok(()),
        Err(EncodeError::Io { inner, .. }) => Err(Error::Io(inner)),
        Err(error) => Err(Error::Unencodable(error)),
    }
}

/// Decodes one value from a stream and leaves the stream behind it.
///
/// There is no limit here, because a snapshot may be larger than any. What is allocated has come from the
/// stream, whatever it claims; bounding the stream is the caller's.
pub fn decode_from<T: DeserializeOwned>(from: &mut dyn Read) -> Result<T, Error> {
    let mut format = [0];
    from.read_exact(&mut format)?;
    let [format] = format;
    check_format(format)?;
    let tap = Tap::new(from);
    let mut decoder = OwnedSerdeDecoder::from_reader(&tap, standard());
    match T::deserialize(Bounded { inner: decoder.as_deserializer(), tap: &tap }) {
        Ok(value) => Ok(value),
        Err(DecodeError::Io { inner, .. }) => Err(Error::Io(inner)),
        Err(error) => Err(Error::Malformed(error)),
    }
}

impl Reader for &Tap<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> Result<(), DecodeError> {
        let additional = bytes.len();
        self.exact(bytes).map_err(|inner| DecodeError::Io { inner, additional })
    }
}

fn check_format(found: u8) -> Result<(), Error> {
    if found == FORMAT { Ok(()) } else { Err(Error::Format { found }) }
}

fn bounded() -> Configuration<bincode::config::LittleEndian, bincode::config::Varint, Limit<LIMIT>>
{
    standard().with_limit::<LIMIT>()
}

#[cfg(test)]
mod tests {
    use super::*;

    // A decoder that guesses reads tomorrow's format as today's, or a longer value as a shorter one.
    #[test]
    fn refuses_what_it_did_not_write() {
        let bytes = encode(&(7_u64, "seven".to_owned()));
        assert_eq!(bytes.first(), Some(&FORMAT));
        assert_eq!(decode::<(u64, String)>(&bytes).unwrap(), (7, "seven".to_owned()));

        assert!(matches!(decode::<u64>(&[]), Err(Error::Empty)));
        let mut newer = bytes.clone();
        newer[0] = FORMAT + 1;
        assert!(matches!(decode::<(u64, String)>(&newer), Err(Error::Format { found: 2 })));
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(matches!(decode::<(u64, String)>(&longer), Err(Error::Trailing { count: 1 })));
        for end in 1..bytes.len() {
            assert!(decode::<(u64, String)>(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    // Ten bytes that claim a string of 2^60 must not make the node allocate it.
    #[test]
    fn refuses_a_claim_above_the_limit() {
        let mut bytes = vec![FORMAT, 253];
        bytes.extend_from_slice(&(1_u64 << 60).to_le_bytes());
        assert!(matches!(decode::<Vec<u8>>(&bytes), Err(Error::Malformed(_))));
        assert!(matches!(decode::<String>(&bytes), Err(Error::Malformed(_))));
    }

    // A snapshot from a peer has a checksum of that peer's making: its lengths are as good as the peer. The
    // process would end at the allocation, before anything could be refused.
    #[test]
    fn a_stream_is_not_believed_what_it_claims() {
        #[derive(Debug, serde::Deserialize)]
        enum Deep {
            Unit,
            Held { _texts: std::collections::BTreeMap<String, Option<Text>> },
        }
        #[derive(Debug, serde::Deserialize)]
        struct Text(#[expect(dead_code, reason = "decoding it is all")] Vec<(u8, String)>);

        let claims = |before: &[u8], claimed: u64| {
            let mut bytes = [&[FORMAT][..], before, &[253]].concat();
            bytes.extend_from_slice(&claimed.to_le_bytes());
            bytes.extend_from_slice(&[b'x'; 100]);
            bytes
        };
        for claimed in [1 << 40, 1 << 60, u64::MAX] {
            let bytes = claims(&[], claimed);
            assert!(decode_from::<String>(&mut bytes.as_slice()).is_err());
            assert!(decode_from::<Vec<u64>>(&mut bytes.as_slice()).is_err());
            // Variant 1, one key "k", Some, one item (7, ...).
            let bytes = claims(&[1, 1, 1, b'k', 1, 1, 7], claimed);
            assert!(decode_from::<Deep>(&mut bytes.as_slice()).is_err());
        }
        assert!(matches!(decode_from::<Deep>(&mut [FORMAT, 0].as_slice()), Ok(Deep::Unit)));
        let long = "x".repeat(300_000);
        let read: String = decode_from(&mut encode(&long).as_slice()).unwrap();
        assert!(read == long, "a long string is read in pieces");
        let mut cut = encode(&long);
        cut.pop();
        assert!(decode_from::<String>(&mut cut.as_slice()).is_err());
    }

    // A snapshot is written as a row of values; each must stop exactly where the next begins.
    #[test]
    fn streams_values_one_after_another() {
        let mut stream = Vec::new();
        encode_into(&"one", &mut stream).unwrap();
        encode_into(&vec![2_u64; 100], &mut stream).unwrap();
        let mut from = stream.as_slice();
        assert_eq!(decode_from::<String>(&mut from).unwrap(), "one");
        assert_eq!(decode_from::<Vec<u64>>(&mut from).unwrap(), vec![2; 100]);
        assert!(matches!(decode_from::<u64>(&mut from), Err(Error::Io(_))));
    }

    // Old data must stay readable: these bytes were written by the first release.
    #[test]
    fn golden_bytes_do_not_change() {
        let bytes = encode(&(1_u8, 300_u64, Some("a"), vec![0_u8, 255]));
        assert_eq!(bytes, [1, 1, 251, 44, 1, 1, 1, 97, 2, 0, 255]);
    }
}
