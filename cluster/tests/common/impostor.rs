//! A node of the cluster that answers everything wrongly.

use std::io;

use cluster::codec;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::stranger::framed;

/// What it answers on a connection: made of the frame that came.
pub(crate) type Answer = fn(purpose: u8, frame: &[u8]) -> Vec<u8>;

/// Takes the connections of peers at `address` and answers each frame.
pub(crate) async fn serve(address: &str, answer: Answer) -> tokio::task::JoinHandle<()> {
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let _ = connection(tcp, answer).await;
            });
        }
    })
}

async fn connection(mut tcp: TcpStream, answer: Answer) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await?);
    }
    let upgrade = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                   upgrade: stockraft-peer\r\n\r\n";
    tcp.write_all(upgrade.as_bytes()).await?;
    let hello = frame(&mut tcp).await?;
    let purpose = *hello.last().unwrap();
    tcp.write_all(&framed(&codec::encode(&0_u32))).await?;
    loop {
        let asked = frame(&mut tcp).await?;
        tcp.write_all(&answer(purpose, &asked)).await?;
    }
}

async fn frame(tcp: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = tcp.read_u32().await?;
    let mut bytes = vec![0; usize::try_from(length).unwrap()];
    tcp.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// The id of a call, and which it is.
pub(crate) fn call(frame: &[u8]) -> (u64, u8) {
    match frame[1] {
        251 => (u64::from(u16::from_le_bytes([frame[2], frame[3]])), frame[4]),
        id => (u64::from(id), frame[2]),
    }
}
