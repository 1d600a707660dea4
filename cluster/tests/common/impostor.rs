//! A node of the cluster that answers everything wrongly.

use std::io;

use cluster::codec;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::PATIENCE;
use super::stranger::framed;

/// What it answers on a connection: made of the frame that came.
pub(crate) type Answer = fn(purpose: u8, frame: &[u8]) -> Vec<u8>;

/// It takes the connections of peers until this goes.
pub(crate) struct Impostor {
    answered: watch::Receiver<[u64; 2]>,
    serves: AbortOnDropHandle<()>,
}

impl Impostor {
    /// At that address, and it answers each frame.
    pub(crate) async fn start(address: &str, answer: Answer) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let (answers, answered) = watch::channel([0; 2]);
        let serves = tokio::spawn(async move {
            let mut served = tokio::task::JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let answers = answers.clone();
                served.spawn(async move {
                    let _ = connection(tcp, answer, &answers).await;
                });
            }
        });
        Self { answered, serves: AbortOnDropHandle::new(serves) }
    }

    /// Waits until it has answered so often, for control and for entries.
    pub(crate) async fn has_answered(&mut self, times: u64) {
        let enough = self.answered.wait_for(|answered| answered.iter().all(|all| *all >= times));
        let done = tokio::time::timeout(PATIENCE, enough).await.is_ok();
        assert!(done, "it was not asked: {:?}", *self.answered.borrow());
    }

    /// Hangs up, and frees its address.
    pub(crate) async fn stop(self) {
        self.serves.abort();
        let _ = self.serves.await;
    }
}

async fn connection(
    mut tcp: TcpStream,
    answer: Answer,
    answers: &watch::Sender<[u64; 2]>,
) -> io::Result<()> {
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
        answers.send_modify(|all| all[usize::from(purpose.min(1))] += 1);
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
