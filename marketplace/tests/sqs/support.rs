//! A queue to test, and a client of it whose requests the AWS crate signs.

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, Response, body::Incoming};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use marketplace::{clock, sqs};
use serde_json::{Value, json};

/// Longest wait of any test: one that hangs must fail, not stop the run.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

pub(crate) fn options() -> sqs::Options {
    sqs::Options::new("orders")
}

pub(crate) async fn open(options: sqs::Options) -> sqs::Queue {
    sqs::Queue::start(options).await.unwrap()
}

/// An answer of a service.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answered {
    /// The error's shape without its namespace.
    pub(crate) fn error(&self) -> &str {
        self.body["__type"].as_str().unwrap().rsplit('#').next().unwrap()
    }

    pub(crate) fn messages(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{self:?}");
        self.body["Messages"].as_array().cloned().unwrap_or_default()
    }
}

/// What a call is signed with; a test changes one of them to see it refused.
pub(crate) struct Signer {
    pub(crate) key_id: String,
    pub(crate) secret: String,
    pub(crate) token: Option<String>,
    pub(crate) region: String,
    pub(crate) service: &'static str,
    pub(crate) at_ms: i64,
}

impl Signer {
    pub(crate) fn of(options: &sqs::Options) -> Self {
        let sqs::Credentials { access_key_id, secret_access_key, session_token } =
            options.credentials.clone();
        Self {
            key_id: access_key_id,
            secret: secret_access_key,
            token: session_token,
            region: options.region.clone(),
            service: "sqs",
            at_ms: clock::now_ms(),
        }
    }

    /// A signed call.
    pub(crate) fn request(&self, url: &str, action: &str, body: &[u8]) -> Request<Full<Bytes>> {
        let (secret, token) = (self.secret.clone(), self.token.clone());
        let identity = Credentials::new(&self.key_id, secret, token, None, "test").into();
        let at = UNIX_EPOCH + Duration::from_millis(self.at_ms.try_into().unwrap());
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(self.service)
            .time(at)
            .settings(SigningSettings::default())
            .build()
            .unwrap()
            .into();
        let target = format!("AmazonSQS.{action}");
        let headers =
            [("content-type", "application/x-amz-json-1.0"), ("x-amz-target", target.as_str())];
        let signable =
            SignableRequest::new("POST", url, headers.into_iter(), SignableBody::Bytes(body));
        let (instructions, _) = sign(signable.unwrap(), &params).unwrap().into_parts();
        let signed = instructions.headers().chain(headers);
        let request = signed.fold(Request::post(url), |request, (k, v)| request.header(k, v));
        request.body(Full::new(Bytes::copy_from_slice(body))).unwrap()
    }
}

/// Sends a request; an error is a broken or refused connection.
pub(crate) async fn send(request: Request<Full<Bytes>>) -> Result<Answered, String> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let response: Response<Incoming> =
        soon(client.request(request)).await.map_err(|e| e.to_string())?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
    let body = serde_json::from_slice(&body).expect("JSON");
    Ok(Answered { status: parts.status.as_u16(), headers: parts.headers, body })
}

/// A correct call of an action, on this queue.
pub(crate) fn request(queue: &sqs::Queue, action: &str, mut body: Value) -> Request<Full<Bytes>> {
    body["QueueUrl"] = json!(queue.url());
    let root = format!("http://{}/", queue.address());
    Signer::of(queue.options()).request(&root, action, body.to_string().as_bytes())
}

pub(crate) async fn call(queue: &sqs::Queue, action: &str, body: Value) -> Answered {
    send(request(queue, action, body)).await.expect("an answer")
}

/// Everything that one receive of ten brings at once.
pub(crate) async fn receive(queue: &sqs::Queue) -> Vec<Value> {
    let ask = json!({"MaxNumberOfMessages": 10, "MessageSystemAttributeNames": ["All"]});
    call(queue, "ReceiveMessage", ask).await.messages()
}

/// Deletes a message by what a receive said of it.
pub(crate) async fn delete(queue: &sqs::Queue, message: &Value) -> Answered {
    call(queue, "DeleteMessage", json!({"ReceiptHandle": message["ReceiptHandle"]})).await
}
