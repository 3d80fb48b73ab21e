//! The Raft consensus module.

#[macro_use]
pub mod marks;
mod contract;
mod election;
pub mod invariants;
mod log;
mod progress;
pub mod quorum;
mod raft;
mod reads;
mod replication;
mod role;
mod stable;
mod step;
mod uncommitted;

pub use contract::*;
pub use quorum::Tally;
pub use raft::Raft;
