//! A sender of each way of signing: its place in a node's config, and requests as it would send them.
//! What signs here is written by the definitions of the schemes, apart from what verifies.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use stockraft::channel::hex;
use stockraft::clock;

use super::http::{Answer, Http};
use super::issuer::Issuer;
use super::raw;
use super::{Node, SECRET};

/// What proves an eBay endpoint to be ours, and the URL under which it is registered.
pub const EBAY_TOKEN: &str = "a-verification-token-of-at-least-32-characters";
pub const EBAY_ENDPOINT: &str = "https://eu.example/webhooks/ebay";
/// The topic of SNS that may deliver.
pub const SNS_TOPIC: &str = "arn:aws:sns:us-east-1:123456789012:spapi";

/// The key of [`SECRET`] where the scheme wants base64.
fn standard_secret() -> String {
    format!("whsec_{}", STANDARD.encode(SECRET))
}

/// How a sender signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Shopify,
    WooCommerce,
    Ebay,
    Sns,
    Basic,
    Token,
    WalmartSignature,
    Path,
    StandardWebhooks,
    Stripe,
    GitHub,
    Described,
}

/// One channel.
#[derive(Clone, Copy, Debug)]
pub struct Sender {
    /// The channel's name.
    pub name: &'static str,
    pub kind: &'static str,
    pub scheme: Scheme,
}

const fn sender(name: &'static str, kind: &'static str, scheme: Scheme) -> Sender {
    Sender { name, kind, scheme }
}

/// Every kind, in every way in which it signs.
pub const SENDERS: [Sender; 13] = [
    sender("north", "shopify", Scheme::Shopify),
    sender("woo", "woocommerce", Scheme::WooCommerce),
    sender("ebay", "ebay", Scheme::Ebay),
    sender("sns", "amazon", Scheme::Sns),
    sender("walmart", "walmart", Scheme::Basic),
    sender("walmart-token", "walmart", Scheme::Token),
    sender("walmart-signed", "walmart", Scheme::WalmartSignature),
    sender("odoo", "odoo", Scheme::Path),
    sender("wms", "generic", Scheme::StandardWebhooks),
    sender("wms-stripe", "generic", Scheme::Stripe),
    sender("wms-github", "generic", Scheme::GitHub),
    sender("wms-basic", "generic", Scheme::Basic),
    sender("wms-described", "generic", Scheme::Described),
];

/// The sender of this name.
pub fn named(name: &str) -> Sender {
    SENDERS.into_iter().find(|sender| sender.name == name).unwrap()
}

/// All of them, as tables of a config that has the first already. eBay's keys are those of the issuer.
pub fn config(issuer: &Issuer) -> String {
    let mut text = String::from("\n");
    for Sender { name, kind, scheme } in &SENDERS[1..] {
        let secret = match scheme {
            Scheme::Ebay => EBAY_TOKEN.into(),
            Scheme::StandardWebhooks => standard_secret(),
            _ => SECRET.to_string(),
        };
        let secrets = match scheme {
            Scheme::Sns => String::new(),
            _ => format!("secrets = [\"{secret}\"]\n"),
        };
        let more = match scheme {
            Scheme::Ebay => format!(
                "endpoint = \"{EBAY_ENDPOINT}\"\napi = {{ base_url = \"{}\", client_id = \"app\", \
                 client_secret = \"{SECRET}\" }}\n",
                issuer.url()
            ),
            Scheme::Sns => format!("sns = {{ topics = [\"{SNS_TOPIC}\"] }}\n"),
            Scheme::Path => "odoo = { locations = { 8 = \"main\" }, customers = [5] }\n".into(),
            Scheme::Basic => "verify = { scheme = \"basic\", user = \"wm\" }\n".into(),
            Scheme::Token => "verify = { scheme = \"token\", header = \"authorization\", \
                              prefix = \"Bearer \" }\n"
                .into(),
            Scheme::WalmartSignature => "verify = { scheme = \"signature\" }\n".into(),
            Scheme::Stripe => "verify = { scheme = \"stripe\" }\n".into(),
            Scheme::GitHub => "verify = { scheme = \"github\" }\n".into(),
            Scheme::Described => "verify = { scheme = \"described\", header = \"x-signature\", \
                 encoding = \"base64\", signed = \"{method}\\n{path}\\n{body}\" }\n"
                .into(),
            _ => String::new(),
        };
        let head = format!("\n[[channel]]\nname = \"{name}\"\nkind = \"{kind}\"\n");
        text.extend([head, secrets, more]);
    }
    text
}

/// A request as it goes out.
#[derive(Clone, Debug)]
pub struct Sent {
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Sender {
    /// The header that proves who sent it; none where that is elsewhere.
    pub fn proof(&self) -> Option<&'static str> {
        match self.scheme {
            Scheme::Shopify => Some("x-shopify-hmac-sha256"),
            Scheme::WooCommerce => Some("x-wc-webhook-signature"),
            Scheme::Ebay => Some("x-ebay-signature"),
            Scheme::Basic | Scheme::Token => Some("authorization"),
            Scheme::WalmartSignature => Some("wm_sec.signature"),
            Scheme::StandardWebhooks => Some("webhook-signature"),
            Scheme::Stripe => Some("stripe-signature"),
            Scheme::GitHub => Some("x-hub-signature-256"),
            Scheme::Described => Some("x-signature"),
            Scheme::Path | Scheme::Sns => None,
        }
    }

    /// Whether the proof covers the body.
    pub fn signs(&self) -> bool {
        !matches!(self.scheme, Scheme::Basic | Scheme::Token | Scheme::Path)
    }

    /// A request of this body, under its topic's headers, signed with the channel's own secret.
    pub fn sign(&self, headers: &[(&str, &str)], body: &[u8]) -> Sent {
        self.sign_with(SECRET, headers, body)
    }

    /// The same with some secret.
    pub fn sign_with(&self, secret: &str, headers: &[(&str, &str)], body: &[u8]) -> Sent {
        self.signed(secret, clock::now_ms() / 1000, headers, body)
    }

    /// The same with the channel's own secret at a time, in seconds, where one is signed.
    pub fn sign_at(&self, now_s: u64, headers: &[(&str, &str)], body: &[u8]) -> Sent {
        self.signed(SECRET, now_s, headers, body)
    }

    fn signed(&self, secret: &str, now_s: u64, headers: &[(&str, &str)], body: &[u8]) -> Sent {
        let path = match self.scheme {
            Scheme::Path => format!("/webhooks/{}/{secret}", self.name),
            _ => format!("/webhooks/{}", self.name),
        };
        let own = |(name, value): &(&str, &str)| ((*name).to_string(), (*value).to_string());
        let mut sent = Sent { path, headers: headers.iter().map(own).collect(), body: body.into() };
        let now_s = now_s.to_string();
        let mac = |parts: &[&[u8]]| mac(secret.as_bytes(), parts);
        let proof = match self.scheme {
            Scheme::Shopify | Scheme::WooCommerce => STANDARD.encode(mac(&[body])),
            Scheme::Ebay => Issuer::signature(secret, body),
            Scheme::Basic => format!("Basic {}", STANDARD.encode(format!("wm:{secret}"))),
            Scheme::Token => format!("Bearer {secret}"),
            Scheme::WalmartSignature => {
                sent.set("wm_sec.timestamp", &now_s);
                let digest = hex(&Sha256::digest(body));
                let text = format!("POST\n{}\n{now_s}\n{digest}", sent.path);
                STANDARD.encode(mac(&[text.as_bytes()]))
            }
            Scheme::StandardWebhooks => {
                if sent.header("webhook-id").is_none() {
                    sent.set("webhook-id", &hex(&Sha256::digest(body)));
                }
                sent.set("webhook-timestamp", &now_s);
                let id = sent.header("webhook-id").unwrap_or_default();
                let text = format!("{id}.{now_s}.");
                format!("v1,{}", STANDARD.encode(mac(&[text.as_bytes(), body])))
            }
            Scheme::Stripe => {
                let code = hex(&mac(&[now_s.as_bytes(), b".", body]));
                format!("t={now_s},v1={code}")
            }
            Scheme::GitHub => format!("sha256={}", hex(&mac(&[body]))),
            Scheme::Described => {
                let text = format!("POST\n{}\n", sent.path);
                STANDARD.encode(mac(&[text.as_bytes(), body]))
            }
            Scheme::Path | Scheme::Sns => return sent,
        };
        self.proof().into_iter().for_each(|name| sent.set(name, &proof));
        sent
    }
}

impl Sent {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Gives a header this one value.
    pub fn set(&mut self, name: &str, value: &str) {
        self.drop(name);
        self.headers.push((name.into(), value.into()));
    }

    /// Takes a header out.
    pub fn drop(&mut self, name: &str) {
        self.headers.retain(|(known, _)| known != name);
    }

    /// Sends it to a node's public port.
    pub async fn to(&self, node: &Node) -> Answer {
        let headers: Vec<_> = self.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let body = Bytes::from(self.body.clone());
        let answer = Http::new().request(node.ports[0], "POST", &self.path, &headers, body).await;
        answer.unwrap_or_else(|error| panic!("{} {:?}: {error}", self.path, self.headers))
    }

    /// Its head on the wire, after which the connection is closed; `more` are further headers.
    pub fn head(&self, method: &str, more: &[(&str, String)]) -> Vec<u8> {
        let own = self.headers.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let headers: Vec<_> = own.chain(more.iter().cloned()).collect();
        raw::request(method, &self.path, &headers, "").into_bytes()
    }
}

/// The answer to eBay's challenge.
pub fn challenge(code: &str) -> String {
    hex(&Sha256::digest(format!("{code}{EBAY_TOKEN}{EBAY_ENDPOINT}")))
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    let mac = parts.iter().fold(mac, Hmac::<Sha256>::chain_update);
    mac.finalize().into_bytes().to_vec()
}
