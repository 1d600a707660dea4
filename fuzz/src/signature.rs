//! Signatures: no headers, keys or bodies make a scheme panic, show a secret, accept what nobody signed,
//! or refuse what was signed.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use channels::signature::described::{Encoding, KeyForm, Timestamp, Unit};
use channels::signature::{Description, EbayKey, Judged, Key, Scheme, Wanted, wanted};
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::EncodePublicKey;
use ring::digest;

use crate::sent::Sent;
use crate::signing::{Way, code, hex};

/// Every scheme but those of SNS and of descriptions: as the input says it, then signed here, then with
/// one bit changed.
pub(crate) fn known(input: &[u8]) {
    let sent = Sent::read(input);
    let secrets = sent.settings("secret");
    match sent.setting("scheme").unwrap_or_default() {
        "ebay" => ebay(sent),
        "path" => path(sent, &secrets),
        "token" | "basic" => token(sent, &secrets),
        name => {
            if let Some(way) = Way::named(name) {
                coded(way, sent, &secrets);
            }
        }
    }
}

/// Whether it is genuine; its bytes must then be the body's, and a second look must say the same.
fn accepted(sent: &Sent<'_>, scheme: &Scheme, key: Option<&Key>) -> bool {
    let judged = sent.judged(scheme, key).ok();
    match judged {
        Some(Judged::Genuine(verified)) => assert_eq!(verified.bytes(), &*sent.body),
        Some(Judged::Ping) => assert!(sent.body.starts_with(b"webhook_id=")),
        None => {}
    }
    let genuine = |judged| matches!(judged, Some(Judged::Genuine(_)));
    assert_eq!(genuine(judged), genuine(sent.judged(scheme, key).ok()));
    genuine(judged)
}

/// The scheme of some secrets. Neither it nor the reason why there is none may show them.
fn hidden(scheme: Result<Scheme, String>, sent: &Sent<'_>) -> Option<Scheme> {
    // Any text may stand in what is shown, and be a secret too; but this one stands in nothing of ours.
    const MARK: &str = "hush";
    let marked = |(name, value): &(&str, &str)| *name != "secret" && value.contains(MARK);
    if !sent.settings.iter().any(marked) {
        assert!(!format!("{scheme:?}").contains(MARK), "a secret is shown");
    }
    scheme.ok()
}

/// The body with one bit changed, or one byte more where there is none.
fn tampered<'a>(sent: &Sent<'a>) -> Sent<'a> {
    let mut tampered = sent.clone();
    let body = tampered.body.to_mut();
    let middle = body.len() / 2;
    match body.get_mut(middle) {
        Some(byte) => *byte ^= 1,
        None => body.push(0),
    }
    tampered
}

fn coded(way: Way, mut sent: Sent<'_>, secrets: &[&str]) {
    let Some(scheme) = hidden(way.scheme(secrets), &sent) else { return };
    assert_eq!(wanted(&scheme, &sent.request()), Ok(None), "its keys are secrets");
    let keys: Option<Vec<Vec<u8>>> = secrets.iter().map(|secret| way.key(secret)).collect();
    let genuine = accepted(&sent, &scheme, None);
    let Some(keys) = keys else { return };
    if genuine {
        let mut claims = keys.iter().filter_map(|key| way.claim(&sent, key));
        let carries = |claim: String| {
            let values = way.headers().iter().flat_map(|name| sent.headers.get_all(*name));
            let mut values = values.map(http::HeaderValue::as_bytes);
            values.any(|value| value.windows(claim.len()).any(|part| part == claim.as_bytes()))
        };
        assert!(claims.any(carries), "accepted, and nobody signed it");
    }
    let Some(key) = keys.last() else { return };
    if !way.sign(&mut sent, key) {
        return;
    }
    // Shopify's own library refuses an empty body too.
    let empty = way == Way::Shopify && sent.body.is_empty();
    assert_eq!(accepted(&sent, &scheme, None), !empty, "what was signed is refused");
    assert!(!accepted(&tampered(&sent), &scheme, None), "another body is accepted");
    let other = secrets.last().map(|secret| format!("{secret}x"));
    if let Some(Ok(other)) = other.map(|other| way.scheme(&[&other])) {
        assert!(!accepted(&sent, &other, None), "accepted under another secret");
    }
}

fn path(mut sent: Sent<'_>, secrets: &[&str]) {
    let scheme = hidden(Scheme::path_secret(secrets), &sent);
    let (Some(scheme), Some(secret)) = (scheme, secrets.last()) else { return };
    if accepted(&sent, &scheme, None) {
        let path = sent.target.split('?').next().unwrap_or_default();
        assert!(secrets.iter().any(|secret| path.ends_with(&format!("/{secret}"))));
    }
    sent.target = format!("/webhooks/x/{secret}?a=/b").into();
    assert!(accepted(&sent, &scheme, None), "the secret is refused");
    let longer = format!("{secret}x");
    if !secrets.contains(&longer.as_str()) {
        sent.target = format!("/webhooks/x/{longer}").into();
        assert!(!accepted(&sent, &scheme, None), "another secret is accepted");
    }
}

fn token(mut sent: Sent<'_>, secrets: &[&str]) {
    let header = sent.setting("header").unwrap_or("authorization");
    let user = sent.setting("user");
    let prefix = user.map_or_else(|| sent.setting("prefix").unwrap_or("Bearer "), |_| "Basic ");
    let scheme = match user {
        Some(user) => Scheme::basic(Some(header), user, secrets),
        None => Scheme::token(header, prefix, secrets),
    };
    let token = |secret: &&str| match user {
        Some(user) => STANDARD.encode(format!("{user}:{secret}")),
        None => (*secret).to_string(),
    };
    let tokens: Vec<String> = secrets.iter().map(token).collect();
    let Some(scheme) = hidden(scheme, &sent) else { return };
    if accepted(&sent, &scheme, None) {
        let value = sent.headers.get(header).map(http::HeaderValue::as_bytes).unwrap_or_default();
        let is_it = |token: &String| value.ends_with(token.as_bytes());
        assert!(value.len() >= prefix.len() && tokens.iter().any(is_it));
    }
    let Some(token) = tokens.last() else { return };
    if prefix.len() + token.len() > 4000 || !sent.set(header, &format!("{prefix}{token}")) {
        return;
    }
    assert!(accepted(&sent, &scheme, None), "the secret is refused");
    let longer = format!("{token}x");
    if !tokens.contains(&longer) && sent.set(header, &format!("{prefix}{longer}")) {
        assert!(!accepted(&sent, &scheme, None), "another secret is accepted");
    }
}

/// A key that only this file knows, and so signs nothing but what is signed here.
static EBAY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::from_slice(&[7; 32]).expect("it is below the order"));

fn ebay_key(digest: &str) -> Key {
    let pem = EBAY.verifying_key().to_public_key_pem(p256::pkcs8::LineEnding::LF);
    let pem = pem.expect("a key can be written");
    let record = serde_json::json!({ "key": pem, "algorithm": "ECDSA", "digest": digest });
    Key::Ebay(EbayKey::parse(record.to_string().as_bytes()).expect("it is a record"))
}

fn ebay(mut sent: Sent<'_>) {
    static KEYS: LazyLock<[Key; 2]> = LazyLock::new(|| ["SHA1", "SHA256"].map(ebay_key));
    let [sha1, sha256] = &*KEYS;
    let scheme = Scheme::ebay();
    match wanted(&scheme, &sent.request()) {
        Ok(Some(Wanted::Ebay(id))) => {
            let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
            assert!((1..=64).contains(&id.len()) && id.bytes().all(plain), "{id:?} in a URL");
        }
        other => assert!(other.is_err(), "{other:?}"),
    }
    for key in [sha1, sha256] {
        assert!(!accepted(&sent, &scheme, Some(key)), "accepted, and nobody signed it");
    }
    let (name, key, other, algorithm) = match sent.setting("digest") {
        Some("SHA256") => ("SHA256", sha256, sha1, &digest::SHA256),
        _ => ("sha-1", sha1, sha256, &digest::SHA1_FOR_LEGACY_USE_ONLY),
    };
    let hash = digest::digest(algorithm, &sent.body);
    let signature: Signature = EBAY.sign_prehash(hash.as_ref()).expect("a digest can be signed");
    let signature = STANDARD.encode(signature.to_der());
    let claim =
        serde_json::json!({ "alg": "ecdsa", "kid": "k-1", "signature": signature, "digest": name });
    assert!(sent.set("x-ebay-signature", &STANDARD.encode(claim.to_string())));
    assert!(accepted(&sent, &scheme, Some(key)), "what was signed is refused");
    assert!(!accepted(&sent, &scheme, Some(other)), "accepted with another digest");
    assert!(!accepted(&sent, &scheme, None), "accepted without a key");
    assert!(!accepted(&tampered(&sent), &scheme, Some(key)), "another body is accepted");
}

/// A description and a request under it.
pub(crate) fn described(input: &[u8]) {
    let mut sent = Sent::read(input);
    let secrets = sent.settings("secret");
    let description = description(&sent);
    let scheme = hidden(Scheme::described(&description, &secrets), &sent);
    let (Some(scheme), Some(secret)) = (scheme, secrets.last()) else { return };
    if accepted(&sent, &scheme, None) {
        let mut claims = secrets.iter().filter_map(|secret| claim(&description, secret, &sent));
        let values = || sent.headers.get_all(&description.header).iter();
        let carries = |claim: String| {
            values().any(|value| {
                let value = value.as_bytes().to_ascii_lowercase();
                let claim = claim.to_ascii_lowercase();
                value.windows(claim.len()).any(|part| part == claim.as_bytes())
            })
        };
        assert!(claims.any(carries), "accepted, and nobody signed it");
    }
    if !sign(&mut sent, &description, secret) {
        return;
    }
    assert!(accepted(&sent, &scheme, None), "what was signed is refused");
    assert!(!accepted(&tampered(&sent), &scheme, None), "another body is accepted");
}

fn description(sent: &Sent<'_>) -> Description {
    let text = |name: &str| sent.setting(name).map(String::from);
    let timestamp = text("timestamp").map(|header| Timestamp {
        header,
        unit: if sent.setting("unit") == Some("ms") { Unit::Ms } else { Unit::S },
        tolerance_ms: text("tolerance").and_then(|text| text.parse().ok()).unwrap_or(300_000),
    });
    Description {
        header: text("header").unwrap_or_else(|| "x-signature".into()),
        prefix: text("prefix").unwrap_or_default(),
        encoding: match sent.setting("encoding") {
            Some("base64") => Encoding::Base64,
            _ => Encoding::Hex,
        },
        key: match sent.setting("key") {
            Some("hex") => KeyForm::Hex,
            Some("base64") => KeyForm::Base64,
            _ => KeyForm::Text,
        },
        signed: text("signed").unwrap_or_else(|| "{body}".into()),
        separator: text("separator"),
        timestamp,
        id_header: text("id"),
    }
}

/// The signature that such a request must carry, of what it says of its time and id.
fn claim(description: &Description, secret: &str, sent: &Sent<'_>) -> Option<String> {
    let key = match description.key {
        KeyForm::Text => secret.as_bytes().to_vec(),
        KeyForm::Base64 => STANDARD.decode(secret).ok()?,
        KeyForm::Hex => (0..secret.len() / 2)
            .map(|n| u8::from_str_radix(secret.get(n * 2..n * 2 + 2)?, 16).ok())
            .collect::<Option<_>>()?,
    };
    let header = |name: &str| sent.headers.get(name).map(|value| value.as_bytes().to_vec());
    let mut message = Vec::new();
    let mut rest = description.signed.as_str();
    while let Some((text, after)) = rest.split_once('{') {
        let (variable, after) = after.split_once('}')?;
        message.extend(text.replace("\\n", "\n").into_bytes());
        message.extend(match variable {
            "body" => sent.body.to_vec(),
            "body_sha256" => hex(digest::digest(&digest::SHA256, &sent.body).as_ref()).into(),
            "timestamp" => header(&description.timestamp.as_ref()?.header)?,
            "id" => header(description.id_header.as_ref()?)?,
            "method" => sent.method.as_str().into(),
            "path" => sent.target.as_bytes().into(),
            _ => return None,
        });
        rest = after;
    }
    message.extend(rest.replace("\\n", "\n").into_bytes());
    let code = code(&key, &[&message]);
    let code = match description.encoding {
        Encoding::Hex => hex(&code),
        Encoding::Base64 => STANDARD.encode(code),
    };
    Some(format!("{}{code}", description.prefix))
}

/// Signs as described, now. False where that cannot be sent or cannot be read unambiguously.
fn sign(sent: &mut Sent<'_>, description: &Description, secret: &str) -> bool {
    // Whole seconds, so that no tolerance is too small.
    sent.now_ms -= sent.now_ms % 1000;
    let timestamp = description.timestamp.as_ref();
    let names = [
        Some(&description.header),
        timestamp.map(|timestamp| &timestamp.header),
        description.id_header.as_ref(),
    ];
    let mut names: Vec<String> = names.into_iter().flatten().map(|n| n.to_lowercase()).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    let timed = timestamp.is_none_or(|timestamp| {
        let unit = if timestamp.unit == Unit::S { 1000 } else { 1 };
        sent.set(&timestamp.header, &(sent.now_ms / unit).to_string())
    });
    let id = "0";
    let has_id = description.id_header.as_ref().is_none_or(|header| sent.set(header, id));
    // An id that what follows it is a part of would end early.
    let ends_early = description.signed.contains("{id}0");
    let Some(claim) = claim(description, secret, sent) else { return false };
    let split = description.separator.as_ref().is_some_and(|separator| claim.contains(separator));
    names.len() == count
        && timed
        && has_id
        && !ends_early
        && !split
        && claim.len() <= 4096
        && sent.set(&description.header, &claim)
}
