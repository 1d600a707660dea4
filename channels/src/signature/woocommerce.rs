//! `WooCommerce`: `X-WC-Webhook-Signature`, and the ping that carries none.
//!
//! Source: `WooCommerce`'s `class-wc-webhook.php`; `WordPress`'s `formatting.php`.

use super::claim::{base64_mac, header};
use super::keys::{self, MacKeys};
use super::{Refused, Request};

/// Keys of secrets as the store shows them. `WooCommerce` keys with
/// `wp_specialchars_decode(secret, ENT_QUOTES)`, so the decoded form alone is a key; the form with
/// entities never signs, and accepting it too would only be one more way in.
pub(super) fn keys<S: AsRef<str>>(secrets: &[S]) -> Result<MacKeys, String> {
    MacKeys::of_bytes(keys::texts(secrets)?.into_iter().map(specialchars_decoded).collect())
}

/// The padded base64 of HMAC-SHA256 over the raw body.
pub(super) fn verify(keys: &MacKeys, request: &Request<'_>) -> Result<(), Refused> {
    let claim = header(request.headers, &[SIGNATURE])?;
    keys.verify(&[request.body], &[base64_mac(claim)?])
}

/// Whether this is the ping that a store sends when a webhook is made or switched on: a form of one
/// number, without a topic and without a signature. It proves nothing and changes nothing, but the
/// store wants exactly 200 for it.
pub(super) fn is_ping(request: &Request<'_>) -> bool {
    let absent = |name: &str| !request.headers.contains_key(name);
    let form = header(request.headers, &["content-type"]).is_ok_and(|value| {
        let kind = value.split(|c| *c == b';').next().unwrap_or_default();
        kind.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
    });
    let number = request.body.strip_prefix(b"webhook_id=").unwrap_or_default();
    let numbered = (1..=20).contains(&number.len()) && number.iter().all(u8::is_ascii_digit);
    form && numbered && absent("x-wc-webhook-topic") && absent(SIGNATURE)
}

const SIGNATURE: &str = "x-wc-webhook-signature";

/// What `wp_specialchars_decode` with `ENT_QUOTES` makes of a text: one pass, so that `&amp;lt;`
/// becomes `&lt;`; names in lower case alone; numbers with any zeros before them; and no others.
fn specialchars_decoded(text: &str) -> String {
    let mut parts = text.split('&');
    let mut decoded = String::from(parts.next().unwrap_or_default());
    for part in parts {
        let entity = part.split_once(';').and_then(|(name, rest)| Some((character(name)?, rest)));
        let (character, rest) = entity.unwrap_or(('&', part));
        decoded.push(character);
        decoded.push_str(rest);
    }
    decoded
}

/// The character that `WordPress` knows by this name, between `&` and `;`.
fn character(name: &str) -> Option<char> {
    let number = |digits: &str, base| match (digits.trim_start_matches('0'), base) {
        ("39", 10) | ("27", 16) => Some('\''),
        ("34", 10) | ("22", 16) => Some('"'),
        ("38", 10) | ("26", 16) => Some('&'),
        // Not in hexadecimal: the function has a gap there, and the sender's keys have it too.
        ("60", 10) => Some('<'),
        ("62", 10) => Some('>'),
        _ => None,
    };
    match name {
        "amp" => Some('&'),
        "quot" => Some('"'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        _ => {
            let digits = name.strip_prefix('#')?;
            match digits.strip_prefix(['x', 'X']) {
                Some(digits) => number(digits, 16),
                None => number(digits, 10),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::specialchars_decoded;

    // A decoder of HTML at large knows more entities than the sender: its keys would differ.
    #[test]
    fn decodes_what_wordpress_decodes_and_no_more() {
        for (shown, key) in [
            ("plain", "plain"),
            ("a&amp;b&quot;c&#039;d&lt;e&gt;", "a&b\"c'd<e>"),
            ("&#39;&#00039;&#x27;&#X0027;", "''''"),
            ("&#34;&#034;&#x22;&#60;&#062;&#38;&#x26;", "\"\"\"<>&&"),
            ("&amp;lt;&amp;#039;", "&lt;&#039;"),
            (
                "&apos;&nbsp;&AMP;&#x3c;&#x3E;&#65;&#;&#x;&;",
                "&apos;&nbsp;&AMP;&#x3c;&#x3E;&#65;&#;&#x;&;",
            ),
            ("&amp&lt;&", "&amp<&"),
        ] {
            assert_eq!(specialchars_decoded(shown), key, "{shown}");
        }
    }
}
