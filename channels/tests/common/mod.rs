//! What the tests of all channels need: a body that is authentic, and answers kept in files.
#![allow(dead_code, clippy::unwrap_used, reason = "shared by tests, which fail by panicking")]

use std::path::{Path, PathBuf};
use std::{env, fs};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use channels::{Parsed, Verified, signature};
use hmac::{Hmac, KeyInit, Mac};
use http::header::{HeaderMap, HeaderName};
use sha2::Sha256;

/// What a parser makes of an authentic delivery with these headers.
pub fn parsed(
    parse: impl Fn(&HeaderMap, Verified<'_>) -> Parsed,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Parsed {
    let secret = b"a secret of some length";
    let mac = Hmac::<Sha256>::new_from_slice(secret).unwrap().chain_update(body).finalize();
    let mut signed = HeaderMap::new();
    let claim = STANDARD.encode(mac.into_bytes());
    signed.insert("shopify-hmac-sha256", claim.parse().unwrap());
    let verified = signature::shopify::verify(&signed, body, [&secret[..]].into_iter()).unwrap();
    let mut named = HeaderMap::new();
    for (name, value) in headers {
        named.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    parse(&named, verified)
}

/// Compares with `tests/golden/<channel>/<sample>.txt`, which the environment's `UPDATE=1` writes.
pub fn golden(channel: &str, sample: &str, shown: &str) {
    let path = tests().join("golden").join(channel).join(format!("{sample}.txt"));
    if env::var_os("UPDATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("{shown}\n")).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(kept.trim_end(), shown, "{} differs; UPDATE=1 writes it", path.display());
}

/// The bytes of `tests/samples/<channel>/<sample>`.
pub fn sample(channel: &str, sample: &str) -> Vec<u8> {
    fs::read(tests().join("samples").join(channel).join(sample)).unwrap()
}

/// The names of all samples of a channel, in order.
pub fn samples(channel: &str) -> Vec<String> {
    let folder = fs::read_dir(tests().join("samples").join(channel)).unwrap();
    let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}
