//! What the tests of every channel need: a verified body, and golden files.
#![allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use channels::signature::shopify;
use channels::{Parsed, Verified};
use hmac::{Hmac, KeyInit, Mac};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use sha2::Sha256;

/// What a parser makes of a body. Only a signature makes a body [`Verified`], and which one does not
/// matter to a parser: all are signed as Shopify signs, here alone. The body must not be empty.
pub fn parsed(
    parse: impl Fn(&HeaderMap, Verified<'_>) -> Parsed,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Parsed {
    const SECRET: &[u8] = b"a secret of some length";
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        map.append(name, HeaderValue::from_str(value).unwrap());
    }
    let mac = Hmac::<Sha256>::new_from_slice(SECRET).unwrap().chain_update(body);
    let claim = STANDARD.encode(mac.finalize().into_bytes());
    let mut signed = HeaderMap::new();
    signed.insert("x-shopify-hmac-sha256", HeaderValue::from_str(&claim).unwrap());
    let verified = shopify::verify(&signed, body, [SECRET].into_iter()).unwrap();
    parse(&map, verified)
}

/// Compares with `tests/golden/<channel>/<sample>.txt`. `UPDATE=1` writes it anew; one that is missing
/// is a fault.
pub fn golden(channel: &str, sample: &str, shown: &str) {
    let folder = format!("{}/tests/golden/{channel}", env!("CARGO_MANIFEST_DIR"));
    let path = format!("{folder}/{sample}.txt");
    let shown = format!("{}\n", shown.trim_end());
    if std::env::var_os("UPDATE").is_some_and(|update| update == "1") {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(&path, shown).unwrap();
        return;
    }
    let golden = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{path}: {error}; UPDATE=1 writes it"));
    assert_eq!(shown, golden, "{path}; UPDATE=1 writes it anew");
}
