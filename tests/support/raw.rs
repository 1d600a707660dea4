//! Requests that no client library would send.

use std::fmt::Write as _;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::PATIENCE;

/// Between two pieces: long enough that they are not read as one.
const BETWEEN: Duration = Duration::from_millis(5);

/// Sends these bytes and reads until the end; the status and everything that came.
pub async fn send(port: u16, bytes: &[u8]) -> (u16, String) {
    exchange(port, &[bytes], false).await
}

/// Sends these pieces one by one, each in a packet of its own, and then closes its side if `ends`.
pub async fn exchange(port: u16, pieces: &[&[u8]], ends: bool) -> (u16, String) {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut answers, mut requests) = stream.into_split();
    let read = async {
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        // An answer may come before all was sent, and the connection may break after it.
        while let Ok(count @ 1..) = answers.read(&mut piece).await {
            answer.extend_from_slice(&piece[..count]);
        }
        String::from_utf8_lossy(&answer).into_owned()
    };
    let write = async {
        for piece in pieces {
            // A refusal may have closed the connection already.
            let _ = requests.write_all(piece).await;
            tokio::time::sleep(BETWEEN).await;
        }
        if ends {
            let _ = requests.shutdown().await;
        }
    };
    let exchange = async { tokio::join!(read, write).0 };
    let answer = tokio::time::timeout(PATIENCE, exchange).await.unwrap();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or(0), answer)
}

/// A request as it goes over the wire, after which the connection is closed.
pub fn request(method: &str, path: &str, headers: &[(&str, String)], body: &str) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
    for (name, value) in headers {
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    text + "\r\n" + body
}

/// A body in chunks, without its length.
pub fn chunked(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in body.chunks(60_000) {
        bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}
