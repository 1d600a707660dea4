//! The demo's screen: once a second, what each node and each channel is doing.
#![expect(clippy::indexing_slicing, reason = "JSON indexed by name is null where nothing is")]

use std::fmt::Write as _;
use std::time::Duration;

use hyper::Method;
use marketplace::Store;
use serde_json::Value;

use super::nodes::Nodes;
use super::others::Others;
use crate::cli::say;

/// Without a terminal, a line is printed as often as this.
const PLAIN_EVERY: u64 = 5;

pub(super) struct Screen {
    terminal: bool,
    told: usize,
}

impl Screen {
    pub(super) const fn new(terminal: bool) -> Self {
        Self { terminal, told: 0 }
    }

    pub(super) async fn show(
        &mut self,
        elapsed: Duration,
        nodes: &Nodes,
        (stores, others): (&[Store], &Others),
        story: &[String],
    ) {
        for event in story.get(self.told..).unwrap_or_default() {
            if !self.terminal {
                say(&format!("[{:>4} s] {event}", elapsed.as_secs()));
            }
        }
        self.told = story.len();
        if !self.terminal && !elapsed.as_secs().is_multiple_of(PLAIN_EVERY) {
            return;
        }
        let mut lines = vec![format!("stockraft demo, {} s", elapsed.as_secs()), String::new()];
        lines.extend(node_lines(nodes).await);
        lines.push(String::new());
        lines.extend(channel_lines(nodes, (stores, others)).await);
        if self.terminal {
            lines.push(String::new());
            lines.extend(story.iter().cloned());
            lines.push("Ctrl-C ends it with a verdict".into());
            // Home, then each line cleared to its end, then everything below.
            let cleared: Vec<String> = lines.iter().map(|line| format!("{line}\x1b[K")).collect();
            say(&format!("\x1b[H{}\x1b[J", cleared.join("\n")));
        } else {
            say(&lines.join("\n"));
        }
    }
}

fn number(value: &Value) -> String {
    value.as_i64().map_or_else(|| "-".into(), |n| n.to_string())
}

async fn node_lines(nodes: &Nodes) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<8}{:<12}{:>10}{:>11}{:>10}{:>9}  digest",
        "node", "role", "accepted", "committed", "applied", "backlog"
    )];
    for n in 0..nodes.count() {
        let region = nodes.region(n);
        let Some(status) = nodes.status(n).await else {
            lines.push(format!("{region:<8}down"));
            continue;
        };
        let digest: String = status["digest"].as_str().unwrap_or("").chars().take(12).collect();
        lines.push(format!(
            "{:<8}{:<12}{:>10}{:>11}{:>10}{:>9}  {digest} at {}",
            region,
            status["role"].as_str().unwrap_or("-"),
            number(&status["accepted"]),
            number(&status["committed"]),
            number(&status["applied"]),
            number(&status["backlog"]),
            number(&status["index"]),
        ));
    }
    lines
}

async fn channel_lines(nodes: &Nodes, (stores, others): (&[Store], &Others)) -> Vec<String> {
    let stores = (0..).zip(stores).map(|(home, store)| {
        let stats = store.stats();
        (store.options().name.clone(), stats.orders, stats.webhooks, Some(home))
    });
    let others = others.tallies().map(|of| (of.name, of.orders, of.sent, of.home));
    let mut lines = vec![format!(
        "{:<16}{:>8}{:>9}{:>8}{:>11}{:>11}{:>9}",
        "channel", "orders", "webhooks", "pushed", "median ms", "worst ms", "waiting"
    )];
    for (name, orders, sent, home) in stores.chain(others) {
        let mut line = format!("{name:<16}{orders:>8}{sent:>9}");
        // The node that pushes to it has measured its windows.
        if let Some(home) = home {
            let path = format!("/v1/channels/{name}");
            let seen = nodes.api(home % nodes.count()).call(Method::GET, &path, None).await;
            let seen = seen.unwrap_or(Value::Null);
            let (pushed, waiting) = (number(&seen["pushed"]), number(&seen["backlog"]));
            let window = ["p50_ms", "max_ms"].map(|name| number(&seen["window"][name]));
            let _ = write!(line, "{pushed:>8}{:>11}{:>11}{waiting:>9}", window[0], window[1]);
        }
        lines.push(line);
    }
    lines
}
