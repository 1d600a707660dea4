//! How the nodes agree: commands, as bytes, in one order, on every node's disk, applied by every
//! node's machine. This crate orders them and does not understand them.
//!
//! # What it promises
//!
//! * A command whose [`Raft::propose`] returned `Ok` is on the disks of a majority, synced, and is
//!   applied exactly once by every node, at the same place in the same order.
//! * [`ProposeError::Unavailable`] and [`ProposeError::TooLarge`] mean that it never will be.
//!   [`ProposeError::Unknown`] means that nobody can say.
//! * After [`Raft::barrier`] the node's own machine shows everything that was answered anywhere before.
//! * The time that entries carry never goes back, across leaders, restarts and restored snapshots.
//! * What was promised as durable survives a power loss, or the node does not start and says why.
//!   Nothing found damaged is repaired by guessing.
//! * Only a peer that proves by its certificate which node it is can vote, append or propose.
//!
//! # What the caller must do
//!
//! * Make commands idempotent: `Unknown` is answered by proposing again.
//! * Keep [`StateMachine::apply`] deterministic and bounded. It runs under the machine's lock; readers
//!   wait for one batch at most.
//! * In [`Snapshot::write`], make durable first what lies beside the state. The log is purged up to a
//!   snapshot only after `write` has returned and the file is synced, so whatever the snapshot leans on
//!   must by then survive too.
//! * End the process when [`Raft::fatal`] resolves. The durable path ends it by itself
//!   ([`durable::halt`]).
//! * Give each node an id that was never used before, and set [`Timing`] above the round-trip time.
//!   A member that lost its disk is brought up to date again, but it has forgotten its vote; the safe
//!   way is to remove it and to add a new one.
//!
//! # The picture
//!
//! ```text
//!  propose ─▶ route ─▶ leader: stamp, batch ─▶ openraft ─▶ log ─▶ tail (memory) ─▶ transport::append ─▶ peers
//!              │ not the leader                  │          └───▶ writer thread ─▶ durable: sled
//!              └─▶ transport::mux ─▶ the leader  │                 one flush for all that waits
//!                                                ▼ committed
//!                               machine::adapter ─▶ StateMachine::apply ─▶ replies, barriers
//!                                                └▶ machine::files ─▶ transport::snapshot ─▶ peers
//! ```
//!
//! | to change | open |
//! | --- | --- |
//! | what "durable" means | `durable` |
//! | how values are encoded | `codec`; the shapes themselves are in `form` (disk) and `transport::message` (peers) |
//! | the log, what is kept of it in memory | `log` |
//! | when the log is purged | `purge` |
//! | how snapshots lie on disk | `machine::files` |
//! | who may connect, and with what | `transport::serve`, `transport::tls` |
//! | stamping, membership, leadership | `leader`, `clock` |
//! | how a node learns that it was removed | `removal` |
//!
//! # Why not the obvious way
//!
//! *Why a thread for the log, rather than a flush in each append?* A flush costs the same for one entry
//! as for a thousand. What arrives while one is under way is the next batch; meanwhile entries are
//! already on their way to the followers, who flush at the same time.
//!
//! *Why snapshots as files, when there is a database?* Hundreds of megabytes are what it is bad at. A
//! file is written once, synced, renamed, and read from one end to the other.
//!
//! *Why two forms of a snapshot?* On its own disk a node needs only what lies in memory; a peer needs
//! all that it stands for. Were there one form, either every snapshot would copy the side data or no
//! transfer would be whole.
//!
//! *Why structs of our own on disk and between peers?* openraft is at an alpha release and changes its
//! types as it should. A cluster in service must not notice.
//!
//! *Why connections by purpose?* The time in which a heartbeat must be answered is the pause between
//! heartbeats. Behind a megabyte of entries it would be late, and the leader deposed for being busy.
//!
//! *Why does a proposal fail when its connection is lost?* The entry may be in the leader's log. To try
//! again here would be to apply it twice, and only the caller knows whether that matters.
#![forbid(unsafe_code)]

mod clock;
pub mod codec;
mod config;
pub mod durable;
mod error;
mod form;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod leader;
mod log;
mod machine;
mod purge;
mod raft;
mod removal;
mod route;
mod status;
mod transport;
mod types;

pub use config::{CLOCK_SKEW_MS_MAX, COMMAND_BYTES_MAX, Clock, Config, PeerTls, Timing};
pub use error::{ChangeError, Error, InitError, ProposeError};
pub use machine::{Entry, Halt, Snapshot, StateMachine, Swap, Transfer};
pub use raft::{Raft, Reply};
pub use status::{MemberStatus, Role, Status};
pub use types::Member;
