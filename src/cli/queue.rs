//! `stockraft queue …`

use std::time::Duration;

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use super::ask::{ask, ask_all, ask_patiently, cell, encode, show, table};
use super::{Failure, Target};

/// The topic of webhooks that could not be applied.
const DELIVERIES: &str = "deliveries";
/// How long a redrive of everything may take.
const REDRIVE: Duration = Duration::from_secs(600);

#[derive(Subcommand)]
pub(super) enum Command {
    /// Lists the topics, and how deep each is.
    #[command(after_help = "Example:\n  stockraft queue topics")]
    Topics {
        #[command(flatten)]
        target: Target,
    },
    /// Shows messages of a topic, without leasing them.
    #[command(
        after_help = "Example:\n  stockraft queue peek orders.created --order 450789469 --limit 5"
    )]
    Peek {
        /// The topic.
        topic: String,
        #[command(flatten)]
        filter: Filter,
        /// How many, at the most.
        #[arg(long, default_value_t = 20)]
        limit: u64,
        #[command(flatten)]
        target: Target,
    },
    /// Shows what was given up, and why. The topic `deliveries` is that of webhooks that could not be applied.
    #[command(after_help = "Example:\n  stockraft queue dlq orders.created --reason timeout")]
    Dlq {
        /// The topic.
        topic: String,
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        filter: Filter,
        /// How many, at the most.
        #[arg(long, default_value_t = 20)]
        limit: u64,
        #[command(flatten)]
        target: Target,
    },
    /// Tries again what was given up: these ids, or all that the filters take.
    #[command(after_help = "Example:\n  stockraft queue redrive orders.created --reason timeout")]
    Redrive {
        /// The topic.
        topic: String,
        /// Ids, as `dlq` shows them.
        ids: Vec<String>,
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        target: Target,
    },
    /// Leases nothing of a topic, or of one key, until it is resumed.
    #[command(after_help = "Example:\n  stockraft queue pause orders.created --key 450789469")]
    Pause {
        /// The topic.
        topic: String,
        /// Only messages of this key.
        #[arg(long)]
        key: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Undoes a pause.
    #[command(after_help = "Example:\n  stockraft queue resume orders.created")]
    Resume {
        /// The topic.
        topic: String,
        /// Only messages of this key.
        #[arg(long)]
        key: Option<String>,
        #[command(flatten)]
        target: Target,
    },
}

/// What a message says.
#[derive(Args)]
pub(super) struct Filter {
    /// Text somewhere in the body.
    #[arg(long)]
    text: Option<String>,
    /// A member `order` of the body.
    #[arg(long)]
    order: Option<String>,
    /// A member `sku`.
    #[arg(long)]
    sku: Option<String>,
    /// A member `channel`.
    #[arg(long)]
    channel: Option<String>,
    /// A member `delivery`.
    #[arg(long)]
    delivery: Option<String>,
}

/// Which of what was given up.
#[derive(Args)]
pub(super) struct Which {
    /// The group that gave it up.
    #[arg(long, default_value = "default")]
    group: String,
    /// Text somewhere in the reason.
    #[arg(long)]
    reason: Option<String>,
    /// Given up at least so long ago.
    #[arg(long)]
    older_than: Option<humantime::Duration>,
}

impl Filter {
    fn members(&self) -> Vec<(&'static str, Value)> {
        let Self { text, order, sku, channel, delivery } = self;
        let all = [
            ("text", text),
            ("order", order),
            ("sku", sku),
            ("channel", channel),
            ("delivery", delivery),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, json!(value.as_ref()?)))).collect()
    }
}

impl Which {
    fn members(&self) -> Vec<(&'static str, Value)> {
        let mut members = vec![("group", json!(self.group))];
        members.extend(self.reason.as_ref().map(|reason| ("reason", json!(reason))));
        members.extend(self.older_than.map(|age| ("older_than_s", json!(age.as_secs()))));
        members
    }
}

pub(super) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Topics { target } => {
            let answer = ask_all(&target, "/v1/topics", u64::MAX).await?;
            show(&target, &answer, topics);
        }
        Command::Peek { topic, filter, limit, target } => {
            let path = query(&format!("/v1/topics/{}/messages", encode(&topic)), &filter.members());
            let answer = ask_all(&target, &path, limit).await?;
            show(&target, &answer, |answer| table(answer, &["id", "key", "enqueued_at", "body"]));
        }
        Command::Dlq { topic, which, filter, limit, target } => {
            let members: Vec<_> = which.members().into_iter().chain(filter.members()).collect();
            let path = query(&format!("/v1/topics/{}/dead", encode(&topic)), &members);
            let answer = ask_all(&target, &path, limit).await?;
            let columns: &[&str] = if topic == DELIVERIES {
                &["id", "reason", "attempts", "time", "channel", "topic", "delivery", "body"]
            } else {
                &["id", "reason", "attempts", "time", "key", "body"]
            };
            show(&target, &answer, |answer| table(answer, columns));
        }
        Command::Redrive { topic, ids, which, filter, target } => {
            let ids = (!ids.is_empty()).then(|| ("ids", json!(ids)));
            let members = which.members().into_iter().chain(filter.members()).chain(ids);
            let body = Value::Object(members.map(|(name, v)| (name.to_string(), v)).collect());
            let path = format!("/v1/topics/{}/dead/redrive", encode(&topic));
            let answer = ask_patiently(&target, Method::POST, &path, Some(&body), REDRIVE).await?;
            show(&target, &answer, |answer| {
                let messages = cell(member(answer, "/messages"));
                vec![vec![format!("{messages} messages are tried again")]]
            });
        }
        Command::Pause { topic, key, target } => hold(&target, &topic, "pause", key).await?,
        Command::Resume { topic, key, target } => hold(&target, &topic, "resume", key).await?,
    }
    Ok(())
}

async fn hold(
    target: &Target,
    topic: &str,
    verb: &str,
    key: Option<String>,
) -> Result<(), Failure> {
    let body = key.map_or_else(|| json!({}), |key| json!({ "key": key }));
    let path = format!("/v1/topics/{}/{verb}", encode(topic));
    let answer = ask(target, Method::POST, &path, Some(&body)).await?;
    show(target, &answer, |answer| topics(&json!({ "items": [answer] })));
    Ok(())
}

fn query(path: &str, members: &[(&str, Value)]) -> String {
    let text =
        |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToString::to_string);
    let parts = members.iter().map(|(name, value)| format!("{name}={}&", encode(&text(value))));
    format!("{path}?{}", parts.collect::<String>())
}

fn topics(answer: &Value) -> Vec<Vec<String>> {
    let columns = ["topic", "ready", "delayed", "leased", "dead", "oldest", "paused"];
    let items = answer.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    let row = |topic: &Value| {
        let age = member(topic, "/oldest_age_s").as_f64().map(f64::floor);
        let age = age.map(|age| humantime::format_duration(Duration::from_secs_f64(age)));
        let depth = ["/depth/ready", "/depth/delayed", "/depth/leased", "/depth/dead"];
        let mut row = vec![cell(member(topic, "/name"))];
        row.extend(depth.map(|place| cell(member(topic, place))));
        row.push(age.map_or_else(|| "-".into(), |age| age.to_string()));
        row.push(cell(member(topic, "/paused")));
        row
    };
    std::iter::once(columns.map(String::from).to_vec()).chain(items.iter().map(row)).collect()
}

fn member<'a>(value: &'a Value, place: &str) -> &'a Value {
    value.pointer(place).unwrap_or(&Value::Null)
}
