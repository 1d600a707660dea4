//! An API of eBay's that gives out the key with which its senders sign here, and nothing else.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

use super::SECRET;

/// The name of the only key.
const KEY: &str = "11111111-2222-3333-4444-555555555555";

/// It runs as long as the test's runtime.
pub struct Issuer {
    port: u16,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                let service = service_fn(move |request| {
                    count.fetch_add(1, Ordering::Relaxed);
                    async move { Ok::<_, Infallible>(answer(&request)) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { port, asked }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Requests so far.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// What `X-EBAY-SIGNATURE` holds: only [`SECRET`] makes one under the key that is given out.
    pub fn signature(secret: &str, body: &[u8]) -> String {
        let signature: Signature = signing_key(secret).sign(body);
        Self::claim(KEY, &STANDARD.encode(signature.to_der()))
    }

    /// The same of any signature, under the key of any name.
    pub fn claim(key: &str, signature: &str) -> String {
        let claim =
            json!({ "alg": "ecdsa", "kid": key, "signature": signature, "digest": "SHA256" });
        STANDARD.encode(claim.to_string())
    }
}

fn signing_key(secret: &str) -> SigningKey {
    SigningKey::from_slice(&Sha256::digest(secret)).unwrap()
}

fn answer(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let (status, body): (u16, Value) = match path.rsplit('/').next() {
        Some("token") => (200, json!({ "access_token": "t", "expires_in": 7200 })),
        Some(KEY) => {
            let key = signing_key(SECRET);
            let pem = key.verifying_key().to_public_key_pem(LineEnding::LF).unwrap();
            let pem = pem.replace('\n', "");
            (200, json!({ "key": pem, "algorithm": "ECDSA", "digest": "SHA256" }))
        }
        _ => (404, json!({ "errors": [{ "errorId": 195_001 }] })),
    };
    let body = Full::from(body.to_string());
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(body)
        .unwrap()
}
