//! Nodes of the real binary, each a process of its own, with their data on this machine's disk.

use std::error::Error;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hyper::Method;
use stockraft::client::Client;

/// The token of all scopes.
pub(crate) const TOKEN: &str = "bench-token-0123456789abcdef";

/// What a bench comes to: there is nothing to do about a failure but to say it.
pub(crate) type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// A cluster on loopback. Its processes end with it.
pub(crate) struct Nodes {
    /// The processes, killed if nobody stops them.
    pub(crate) children: Vec<Killed>,
    /// Each node's API.
    pub(crate) apis: Vec<Client>,
    /// Each node's ports: public, admin, peer.
    pub(crate) ports: Vec<[u16; 3]>,
}

impl Nodes {
    /// Starts so many nodes and founds a cluster of them. `more` is added to the config of each.
    pub(crate) async fn start(dir: &Path, name: &str, count: usize, more: &str) -> Fallible<Self> {
        let mut nodes = Self { children: Vec::new(), apis: Vec::new(), ports: Vec::new() };
        let mut members = Vec::new();
        for n in 1..=count {
            let ports = free_ports()?;
            let home = dir.join(format!("{name}-{n}"));
            std::fs::create_dir_all(&home)?;
            let path = home.join("node.toml");
            let mut file =
                std::fs::File::options().create_new(true).write(true).mode(0o600).open(&path)?;
            write!(
                file,
                "[node]\nid = {n}\nregion = \"r{n}\"\ndata_dir = \"{}\"\n\
                 [listen]\npublic = \"127.0.0.1:{}\"\nadmin = \"127.0.0.1:{}\"\npeer = \"127.0.0.1:{}\"\n\
                 [raft]\nheartbeat = \"200ms\"\nelection = \"800ms\"\n\
                 [admin]\ntokens = [{{ name = \"b\", secret = \"{TOKEN}\", scopes = [\"read\", \"write\", \"admin\"] }}]\n\
                 {more}",
                home.join("data").display(),
                ports[0],
                ports[1],
                ports[2],
            )?;
            let child = Command::new(env!("CARGO_BIN_EXE_stockraft"))
                .args(["serve", "--stop-with-stdin", "--config"])
                .arg(&path)
                .stdin(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()?;
            nodes.children.push(Killed(child));
            nodes.apis.push(Client::new(&format!("http://127.0.0.1:{}", ports[1]), TOKEN)?);
            nodes.ports.push(ports);
            members.push(serde_json::json!({
                "id": n, "region": format!("r{n}"),
                "peer": format!("127.0.0.1:{}", ports[2]),
                "admin": format!("127.0.0.1:{}", ports[1]),
            }));
        }
        nodes.answer("/healthz").await?;
        let founding = serde_json::json!({ "members": members });
        nodes.apis[0].call(Method::POST, "/cluster/init", Some(&founding)).await?;
        nodes.answer("/readyz").await?;
        Ok(nodes)
    }

    async fn answer(&self, path: &str) -> Fallible<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        for api in &self.apis {
            while let Err(error) = api.call(Method::GET, path, None).await {
                if Instant::now() > deadline {
                    return Err(format!("a node does not start: {error}").into());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    /// Stops them as an operator would.
    pub(crate) fn stop(self) -> Fallible<()> {
        for mut child in self.children {
            drop(child.0.stdin.take());
            child.0.wait()?;
        }
        Ok(())
    }
}

/// A process that does not outlive its bench, also where that fails.
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may be over by now.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ports that nobody has for now.
pub(crate) fn free_ports() -> Fallible<[u16; 3]> {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0"));
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(listeners) {
        *port = listener?.local_addr()?.port();
    }
    Ok(ports)
}
