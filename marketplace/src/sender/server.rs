//! The door of a sender's API.

use std::{io, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Limited};
use hyper::{
    Request, body::Incoming, header::HeaderValue, server::conn::http1, service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::sleep,
};

use super::{
    call::{self, Answer, Call},
    state::{Inner, State},
};
use crate::clock;

const BODY_BYTES_MAX: usize = 1024 * 1024;
const HEADER_READ_MAX: Duration = Duration::from_secs(30);
const CONNECTIONS_MAX: usize = 256;
/// How soon an accept that failed is tried again.
const ACCEPT_RETRY: Duration = Duration::from_millis(5);

/// Accepts connections until the sender closes.
pub(super) async fn serve(inner: Arc<Inner>, listener: TcpListener) {
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            biased;
            () = inner.stop.cancelled() => return,
            accepted = async {
                let permit = Arc::clone(&free).acquire_owned().await;
                (listener.accept().await, permit)
            } => accepted,
        };
        match accepted {
            (Ok((stream, _)), permit) => {
                let inner = Arc::clone(&inner);
                inner.clone().tasks.spawn(async move {
                    let _permit = permit;
                    connection(inner, stream).await;
                });
            }
            (Err(error), _) => {
                tracing::warn!(%error, "the simulated sender could not accept a connection");
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn connection(inner: Arc<Inner>, stream: TcpStream) {
    // Without it answers wait for the peer's acknowledgement of the header; failing is harmless.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| handle(&inner, request));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        biased;
        () = inner.stop.cancelled() => {}
        ended = serving => if let Err(error) = ended {
            tracing::debug!(%error, "a connection of the simulated sender ended");
        },
    }
}

/// Answers one call; an error drops the connection without an answer.
async fn handle(inner: &Inner, request: Request<Incoming>) -> Result<Answer, io::Error> {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return Ok(call::json(413, &json!({"message": "Payload Too Large"})));
    };
    let call = Call::new(parts.method, &parts.uri, parts.headers, body.to_bytes());
    inner.act(|state| {
        let State { mishaps, faults, stats, dialect, book, .. } = state;
        let (broken, lost) =
            (mishaps.chance(faults.api_error), mishaps.chance(faults.api_answer_lost));
        stats.call_faults += u64::from(broken || lost);
        if broken {
            // A proxy in front of the channel says it, in a shape that is not the channel's.
            let mut answer = call::json(503, &json!({"message": "Service Unavailable"}));
            answer.headers_mut().insert("retry-after", HeaderValue::from_static("1"));
            return Ok(answer);
        }
        let answer = dialect.answer(book, &call, clock::now_ms());
        let refused = matches!(answer.status().as_u16(), 401 | 403);
        *(if refused { &mut stats.unauthorized } else { &mut stats.calls }) += 1;
        if lost {
            let what = "the answer is lost on order";
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, what));
        }
        Ok(answer)
    })
}
