//! What the tests of every channel need: a verified body, and golden files.
#![allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]

use channels::signature::{self, Judged, Request, Scheme};
use channels::{Parsed, Verified};
use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// What a parser makes of a body. Only a scheme makes a body [`Verified`], and which one does not matter
/// to a parser: here it is a secret in the path, which lets any body through.
pub fn parsed(
    parse: impl Fn(&HeaderMap, Verified<'_>) -> Parsed,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Parsed {
    const SECRET: &str = "a-secret-of-some-length";
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        map.append(name, HeaderValue::from_str(value).unwrap());
    }
    let target = format!("/webhooks/test/{SECRET}");
    let request =
        Request { method: &Method::POST, target: &target, headers: &map, body, now_ms: 0 };
    let scheme = Scheme::path_secret(&[SECRET]).unwrap();
    match signature::verify(&scheme, &request, None).unwrap() {
        Judged::Genuine(verified) => parse(&map, verified),
        Judged::Ping => panic!("a ping has no body to parse"),
    }
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
