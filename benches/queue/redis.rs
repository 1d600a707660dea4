//! The same work done by Redis Streams, which a node stands in for: every append synced before it is answered.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::nodes::{Fallible, Killed, free_ports};
use super::{BODY_BYTES, Queue};

const STREAM: &str = "bench";
const GROUP: &str = "default";

/// A server with its data on this machine's disk. Ends with this.
pub(crate) struct Server {
    _process: Killed,
    port: u16,
}

impl Server {
    /// Starts one; nothing if this machine has none.
    pub(crate) async fn start(dir: &Path) -> Fallible<Option<Self>> {
        let port = free_ports()?[0];
        // Without rewrites of its log: they would cost it some of its rate.
        let spawned = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always"])
            .args(["--auto-aof-rewrite-percentage", "0", "--dir"])
            .arg(dir)
            .stdout(Stdio::null())
            .spawn();
        let Ok(child) = spawned else { return Ok(None) };
        let server = Self { _process: Killed(child), port };
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Ok(Some(server));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Err("redis-server does not start".into())
    }

    /// So many connections to a stream of nothing.
    pub(crate) async fn connections(&self, count: usize) -> Fallible<Vec<Connection>> {
        let mut connections = Vec::new();
        for _ in 0..count {
            let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
            stream.set_nodelay(true)?;
            connections.push(Connection { stream: BufReader::new(stream) });
        }
        if let Some(first) = connections.first_mut() {
            first.ask(&["DEL", STREAM]).await?;
            first.ask(&["XGROUP", "CREATE", STREAM, GROUP, "0", "MKSTREAM"]).await?;
        }
        Ok(connections)
    }
}

/// A connection that speaks as much RESP as the work needs.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Queue for Connection {
    async fn publish(&mut self, count: usize) -> Fallible<()> {
        let body = "x".repeat(BODY_BYTES);
        let one = written(&["XADD", STREAM, "*", "body", &body]);
        self.stream.write_all(&one.repeat(count)).await?;
        for _ in 0..count {
            self.reply().await?;
        }
        Ok(())
    }

    async fn work(&mut self, most: usize) -> Fallible<usize> {
        let most = most.to_string();
        let group = ["XREADGROUP", "GROUP", GROUP, "w", "COUNT", &most, "STREAMS", STREAM, ">"];
        let read = self.ask(&group).await?;
        // The stream's name, then an id, a field and a value for each message.
        let ids = read.iter().skip(1).step_by(3).map(String::as_str);
        let ack: Vec<&str> = ["XACK", STREAM, GROUP].into_iter().chain(ids).collect();
        if ack.len() == 3 {
            return Ok(0);
        }
        Ok(self.ask(&ack).await?[0].parse()?)
    }
}

impl Connection {
    async fn ask(&mut self, words: &[&str]) -> Fallible<Vec<String>> {
        self.stream.write_all(&written(words)).await?;
        self.reply().await
    }

    /// All that one reply says, in its order, without the arrays around it.
    async fn reply(&mut self) -> Fallible<Vec<String>> {
        let mut said = Vec::new();
        let mut expected = 1_usize;
        while expected > 0 {
            expected -= 1;
            let mut line = String::new();
            self.stream.read_line(&mut line).await?;
            let (kind, rest) = line.trim_end().split_at_checked(1).ok_or("the server hung up")?;
            match (kind, rest) {
                ("$" | "*", "-1") => {}
                ("*", count) => expected += count.parse::<usize>()?,
                ("$", bytes) => {
                    let mut text = vec![0; bytes.parse::<usize>()? + 2];
                    self.stream.read_exact(&mut text).await?;
                    text.truncate(text.len() - 2);
                    said.push(String::from_utf8(text)?);
                }
                ("+" | ":", text) => said.push(text.into()),
                _ => return Err(line.into()),
            }
        }
        Ok(said)
    }
}

fn written(words: &[&str]) -> Vec<u8> {
    let word = |word: &&str| format!("${}\r\n{word}\r\n", word.len());
    let words: String =
        std::iter::once(format!("*{}\r\n", words.len())).chain(words.iter().map(word)).collect();
    words.into_bytes()
}
