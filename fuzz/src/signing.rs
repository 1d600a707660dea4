//! The sender's side of each scheme, written apart from `channels` and with another HMAC: what judges it
//! must not be what is judged.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use channels::signature::Scheme;
use ring::{digest, hmac};

use crate::sent::Sent;

/// How far Walmart's timestamps may be off here.
const TOLERANCE_MS: u64 = 300_000;

/// A way of signing with a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Shopify,
    WooCommerce,
    Walmart,
    StandardWebhooks,
    Stripe,
    GitHub,
}

impl Way {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "shopify" => Some(Self::Shopify),
            "woocommerce" => Some(Self::WooCommerce),
            "walmart_performance" => Some(Self::Walmart),
            "standard_webhooks" => Some(Self::StandardWebhooks),
            "stripe_style" => Some(Self::Stripe),
            "github_style" => Some(Self::GitHub),
            _ => None,
        }
    }

    pub(crate) fn scheme(self, secrets: &[&str]) -> Result<Scheme, String> {
        match self {
            Self::Shopify => Scheme::shopify(secrets),
            Self::WooCommerce => Scheme::woocommerce(secrets),
            Self::Walmart => Scheme::walmart_performance(secrets, TOLERANCE_MS),
            Self::StandardWebhooks => Scheme::standard_webhooks(secrets),
            Self::Stripe => Scheme::stripe(secrets),
            Self::GitHub => Scheme::github(secrets),
        }
    }

    /// The headers that may carry the signature, the one that a sender uses first.
    pub(crate) const fn headers(self) -> &'static [&'static str] {
        match self {
            Self::Shopify => &["x-shopify-hmac-sha256", "shopify-hmac-sha256"],
            Self::WooCommerce => &["x-wc-webhook-signature"],
            Self::Walmart => &["wm_sec.signature"],
            Self::StandardWebhooks => &["webhook-signature"],
            Self::Stripe => &["stripe-signature"],
            Self::GitHub => &["x-hub-signature-256"],
        }
    }

    /// The key that a secret stands for, if this side knows.
    pub(crate) fn key(self, secret: &str) -> Option<Vec<u8>> {
        match self {
            // What WordPress makes of entities is tested where it is written.
            Self::WooCommerce if secret.contains('&') => None,
            Self::StandardWebhooks if secret.starts_with("whpk_") => None,
            Self::StandardWebhooks => {
                STANDARD.decode(secret.strip_prefix("whsec_").unwrap_or(secret)).ok()
            }
            _ => Some(secret.into()),
        }
    }

    /// The text that a header must hold for the request to be genuine, of what it says of its time and id.
    pub(crate) fn claim(self, sent: &Sent<'_>, key: &[u8]) -> Option<String> {
        let header = |name: &str| sent.headers.get(name).map(http::HeaderValue::as_bytes);
        let body = &*sent.body;
        Some(match self {
            Self::Shopify | Self::WooCommerce => STANDARD.encode(code(key, &[body])),
            Self::GitHub => format!("sha256={}", hex(&code(key, &[body]))),
            Self::Walmart => {
                let digest = hex(digest::digest(&digest::SHA256, body).as_ref());
                let (method, target) = (sent.method.as_str(), sent.target.as_bytes());
                let time = header("wm_sec.timestamp")?;
                let parts = [method.as_bytes(), target, time, digest.as_bytes()];
                STANDARD.encode(code(key, &[&parts.join(&b"\n"[..])]))
            }
            Self::StandardWebhooks => {
                let parts = [header("webhook-id")?, header("webhook-timestamp")?, body];
                format!("v1,{}", STANDARD.encode(code(key, &[&parts.join(&b"."[..])])))
            }
            Self::Stripe => {
                let entries = header("stripe-signature")?.split(|byte| *byte == b',');
                let time = entries.into_iter().find_map(|entry| entry.strip_prefix(b"t="))?;
                format!("v1={}", hex(&code(key, &[time, b".", body])))
            }
        })
    }

    /// Signs as the sender does, now. False where HTTP could not carry it.
    pub(crate) fn sign(self, sent: &mut Sent<'_>, key: &[u8]) -> bool {
        let [header, others @ ..] = self.headers() else { return false };
        for other in others {
            sent.headers.remove(*other);
        }
        let seconds = (sent.now_ms / 1000).to_string();
        let timed = match self {
            Self::Walmart => sent.set("wm_sec.timestamp", &seconds),
            Self::Stripe => sent.set(header, &format!("t={seconds}")),
            Self::StandardWebhooks => {
                sent.set("webhook-id", "msg_1") && sent.set("webhook-timestamp", &seconds)
            }
            Self::Shopify | Self::WooCommerce | Self::GitHub => true,
        };
        let Some(claim) = self.claim(sent, key).filter(|_| timed) else { return false };
        match self {
            Self::Stripe => sent.set(header, &format!("t={seconds},v0=00,{claim}")),
            _ => sent.set(header, &claim),
        }
    }
}

/// HMAC-SHA256 of a message in parts.
pub(crate) fn code(key: &[u8], message: &[&[u8]]) -> Vec<u8> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in message {
        context.update(part);
    }
    context.sign().as_ref().to_vec()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
