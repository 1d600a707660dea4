//! `stockraft cluster …`
#![expect(clippy::indexing_slicing, reason = "JSON indexed by name is null where nothing is")]

use std::time::Duration;

use clap::Subcommand;
use hyper::Method;
use serde_json::{Value, json};

use super::ask::{ask, ask_patiently, cell, show};
use super::{Failure, Target};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Shows a node's view of the cluster.
    #[command(after_help = "Example:\n  stockraft cluster status --output json")]
    Status {
        #[command(flatten)]
        target: Target,
    },
    /// Founds a cluster of this node, or with the nodes named.
    #[command(
        after_help = "Example:\n  stockraft cluster init --member 2,us,127.0.0.1:8092,127.0.0.1:8091"
    )]
    Init {
        /// Another node that votes from the start: ID,REGION,PEER,ADMIN.
        #[arg(long = "member", value_parser = member)]
        members: Vec<Value>,
        #[command(flatten)]
        target: Target,
    },
    /// Adds a node, which learns the log and does not vote yet.
    #[command(after_help = "Example:\n  stockraft cluster join 4,us2,10.0.0.4:8082,10.0.0.4:8081")]
    Join {
        /// ID,REGION,PEER,ADMIN.
        #[arg(value_parser = member)]
        member: Value,
        #[command(flatten)]
        target: Target,
    },
    /// Gives a learner its vote.
    #[command(after_help = "Example:\n  stockraft cluster promote 4")]
    Promote {
        /// The node's id.
        id: u64,
        #[command(flatten)]
        target: Target,
    },
    /// Takes a voter's vote.
    #[command(after_help = "Example:\n  stockraft cluster demote 4")]
    Demote {
        /// The node's id.
        id: u64,
        #[command(flatten)]
        target: Target,
    },
    /// Removes a node for good.
    #[command(
        after_help = "Example:\n  stockraft cluster remove 4\n  stockraft cluster remove 4 --destroyed"
    )]
    Remove {
        /// The node's id.
        id: u64,
        /// It is destroyed, with its disk: what it held in escrow is available to all again. May be said
        /// after it was removed.
        #[arg(long)]
        destroyed: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Asks the leader to hand over to a voter.
    #[command(after_help = "Example:\n  stockraft cluster transfer-leader 2")]
    TransferLeader {
        /// The node that shall lead.
        to: u64,
        #[command(flatten)]
        target: Target,
    },
    /// Has all nodes look their replicas over, and compares them. Exit code 1 if anything is wrong.
    #[command(after_help = "Example:\n  stockraft cluster verify --wait-s 600")]
    Verify {
        /// Seconds to wait for the nodes.
        #[arg(long, default_value_t = 60)]
        wait_s: u64,
        #[command(flatten)]
        target: Target,
    },
    /// Builds a snapshot on the node now.
    #[command(after_help = "Example:\n  stockraft cluster snapshot")]
    Snapshot {
        #[command(flatten)]
        target: Target,
    },
}

fn member(text: &str) -> Result<Value, String> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let [id, region, peer, admin] = parts.as_slice() else {
        return Err("write ID,REGION,PEER,ADMIN, as in 2,us,127.0.0.1:8092,127.0.0.1:8091".into());
    };
    let id: u64 = id.parse().map_err(|_| format!("{id:?} is no node id"))?;
    Ok(json!({ "id": id, "region": region, "peer": peer, "admin": admin }))
}

pub(super) async fn run(command: Command) -> Result<(), Failure> {
    let (target, method, path, body) = match command {
        Command::Status { target } => {
            let status = ask(&target, Method::GET, "/cluster/status", None).await?;
            show(&target, &status, table);
            return Ok(());
        }
        Command::Verify { wait_s, target } => return verify(&target, wait_s).await,
        Command::Init { members, target } => {
            (target, Method::POST, "/cluster/init".into(), Some(json!({ "members": members })))
        }
        Command::Join { member, target } => {
            (target, Method::POST, "/cluster/members".into(), Some(member))
        }
        Command::Promote { id, target } => {
            (target, Method::POST, format!("/cluster/members/{id}/promote"), None)
        }
        Command::Demote { id, target } => {
            (target, Method::POST, format!("/cluster/members/{id}/demote"), None)
        }
        Command::Remove { id, destroyed, target } => {
            let destroyed = if destroyed { "?destroyed=true" } else { "" };
            (target, Method::DELETE, format!("/cluster/members/{id}{destroyed}"), None)
        }
        Command::TransferLeader { to, target } => {
            let body = Some(json!({ "to": to }));
            (target, Method::POST, "/cluster/transfer-leadership".into(), body)
        }
        Command::Snapshot { target } => (target, Method::POST, "/cluster/snapshot".into(), None),
    };
    let answer = ask(&target, method, &path, body.as_ref()).await?;
    show(&target, &answer, |_| vec![vec!["done".into()]]);
    Ok(())
}

async fn verify(target: &Target, wait_s: u64) -> Result<(), Failure> {
    let path = format!("/cluster/verify?wait_s={wait_s}");
    let longer = Duration::from_secs(wait_s);
    let verdict = ask_patiently(target, Method::GET, &path, None, longer).await?;
    show(target, &verdict, |verdict| {
        let header = ["id", "region", "reported", "movements", "chain", "differs", "fault"];
        let mut rows = vec![header.map(Into::into).into()];
        for node in verdict["nodes"].as_array().into_iter().flatten() {
            let differs = node["differs"].as_array().into_iter().flatten().map(cell);
            let differs = differs.collect::<Vec<_>>().join(" ");
            let mut row: Vec<String> = header.iter().map(|name| cell(&node[name])).collect();
            row.splice(5..6, [differs]);
            rows.push(row);
        }
        rows
    });
    if verdict["ok"] == true {
        return Ok(());
    }
    Err(Failure::Operation("the nodes do not all hold the same, or not what happened".into()))
}

fn table(status: &Value) -> Vec<Vec<String>> {
    let leader = &status["leader"];
    let mut rows = vec![
        vec![
            format!("node {} ({})", cell(&status["id"]), cell(&status["region"])),
            cell(&status["role"]),
        ],
        vec!["leader".into(), cell(leader)],
        vec!["term".into(), cell(&status["term"])],
        vec!["applied".into(), cell(&status["applied"])],
        vec!["digest".into(), format!("{} at {}", cell(&status["digest"]), cell(&status["index"]))],
        vec![],
    ];
    rows.push(
        ["id", "region", "votes", "match", "lag", "reachable", "peer"].map(Into::into).into(),
    );
    for member in status["members"].as_array().into_iter().flatten() {
        let columns = ["id", "region", "voter", "match", "lag", "reachable"];
        let mut row: Vec<String> = columns.iter().map(|name| cell(&member[name])).collect();
        row.push(cell(&member["addresses"]["peer"]));
        rows.push(row);
    }
    rows
}
