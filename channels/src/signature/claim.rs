//! What a request claims: its headers, the texts of its codes, its timestamps. Everything is bounded
//! before it is decoded, and whatever is not as it must be is [`Refused`].

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;

use super::Refused;

/// No header that makes a claim is longer.
const CLAIM_LEN_MAX: usize = 4096;

/// No list of signatures in one header is longer: each is compared under each secret.
pub(super) const ENTRIES_MAX: usize = 32;

/// How far a sender's clock may be off where the scheme says five minutes, in milliseconds.
pub(super) const TOLERANCE_MS: u64 = 300_000;

/// The one value of a header that may be spelt in several ways. Two that differ: neither is believed.
pub(super) fn header<'a>(headers: &'a HeaderMap, names: &[&str]) -> Result<&'a [u8], Refused> {
    let mut values = names.iter().flat_map(|name| headers.get_all(*name));
    let value = values.next().ok_or(Refused)?.as_bytes();
    let agreed = values.all(|other| other.as_bytes() == value);
    if agreed && value.len() <= CLAIM_LEN_MAX { Ok(value) } else { Err(Refused) }
}

/// The same, where it must be text.
pub(super) fn text<'a>(headers: &'a HeaderMap, names: &[&str]) -> Result<&'a str, Refused> {
    str::from_utf8(header(headers, names)?).map_err(|_| Refused)
}

/// A code in standard base64 with its padding: 44 characters, no other writing of the same bytes.
pub(super) fn base64_mac(text: &[u8]) -> Result<[u8; 32], Refused> {
    let decoded = if text.len() == 44 { STANDARD.decode(text).ok() } else { None };
    decoded.and_then(|bytes| bytes.try_into().ok()).ok_or(Refused)
}

/// A code in lower-case hex: 64 characters.
pub(super) fn hex_mac(text: &[u8]) -> Result<[u8; 32], Refused> {
    if text.iter().any(u8::is_ascii_uppercase) {
        return Err(Refused);
    }
    unhex(text).and_then(|bytes| bytes.try_into().ok()).ok_or(Refused)
}

/// The bytes that a hex text of either case writes.
pub(super) fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_chunks::<2>();
    let bytes = pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?));
    if rest.is_empty() { bytes.collect() } else { None }
}

/// Bytes in lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A whole number of at most this many digits, and nothing else: no sign, no space.
pub(super) fn number(text: &[u8], digits_max: usize) -> Result<u64, Refused> {
    let plain = text.len() <= digits_max && text.iter().all(u8::is_ascii_digit);
    let text = str::from_utf8(text).map_err(|_| Refused)?;
    if plain { text.parse().map_err(|_| Refused) } else { Err(Refused) }
}

/// A Unix time in seconds, as milliseconds: at most twelve digits.
pub(super) fn seconds(text: &[u8]) -> Result<u64, Refused> {
    number(text, 12).map(|seconds| seconds * 1000)
}

/// Whether a time is within a tolerance of now, both ways, the edges included.
pub(super) fn fresh(now_ms: u64, at_ms: u64, tolerance_ms: u64) -> Result<(), Refused> {
    if now_ms.abs_diff(at_ms) <= tolerance_ms { Ok(()) } else { Err(Refused) }
}

/// An id as a header may carry it: printable, without spaces, at most 256 bytes.
pub(super) fn id<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, Refused> {
    let id = text(headers, &[name])?;
    let plain = !id.is_empty() && id.len() <= 256 && id.bytes().all(|c| c.is_ascii_graphic());
    if plain { Ok(id) } else { Err(Refused) }
}
