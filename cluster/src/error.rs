//! What can go wrong, for whoever calls this crate.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::durable;

/// Why a node does not start. Each says, in one line, what an operator has to look at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting is out of its bounds.
    #[error("{0}")]
    Config(String),
    /// The peer address cannot be listened on.
    #[error("cannot listen for peers on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said; "in use" when another process has it.
        source: io::Error,
    },
    /// Without certificates only loopback is allowed.
    #[error(
        "{0} is not a loopback address, and peers are only spoken to over mutual TLS elsewhere"
    )]
    NotLoopback(String),
    /// The certificates cannot be used.
    #[error("the peer certificates cannot be used: {0}")]
    Tls(String),
    /// The directory of the log cannot be used.
    #[error(transparent)]
    Durable(#[from] durable::Error),
    /// The directory belongs to another node.
    #[error("{} belongs to node {found}, this is node {wanted}", dir.display())]
    OtherNode {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        found: u64,
        /// Who wants it.
        wanted: u64,
    },
    /// The log was damaged.
    #[error("the raft log is damaged: {0}")]
    Log(String),
    /// The newest snapshot was damaged, or this release cannot read it.
    #[error("the snapshot {} cannot be used: {what}", path.display())]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A file or thread that a node needs was refused by the system.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The log or the snapshot could not be brought back into the machine.
    #[error("the state cannot be restored: {0}")]
    Restore(String),
}

/// Why the cluster was not founded.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// This node already belongs to a cluster.
    #[error("this node already belongs to a cluster")]
    AlreadyInitialised,
    /// The members make no cluster.
    #[error("these members cannot found a cluster: {0}")]
    Members(String),
    /// The node has stopped.
    #[error("the node has stopped: {0}")]
    Stopped(String),
}

/// Why a proposal or a barrier has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// It was certainly not proposed: nobody leads, or the leader does not take proposals. Trying
    /// again later is safe for everyone.
    #[error("not proposed: {0}")]
    Unavailable(String),
    /// It was certainly not proposed, and never will be: the command is too large.
    #[error("a command of {bytes} bytes is above the limit of {bytes_max}")]
    TooLarge {
        /// What was asked.
        bytes: usize,
        /// What is allowed.
        bytes_max: usize,
    },
    /// It may or may not come to be applied: the answer was lost, or did not come in time. Only a
    /// caller whose command does the same twice as once may try again.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

/// Why the members did not change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The change makes no sense: such a node is not there, or is already what it should become, or
    /// nobody would be left to vote.
    #[error("refused: {0}")]
    Refused(String),
    /// Nobody leads, or another change is under way. It was certainly not begun.
    #[error("not begun: {0}")]
    Unavailable(String),
    /// It may have been begun; `status` tells.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}
