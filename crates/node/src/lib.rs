//! Replicate any state machine with Raft.

mod clock;
mod driver;
mod handle;
mod local;
mod log;
mod machine;
mod member;
mod node;
mod record;
mod tail;

pub use handle::{Handle, Proposed, Read, ReadBarrier, ReadError};
pub use local::LocalCluster;
pub use log::{Log, MemoryLog};
pub use machine::{Outcome, StateMachine};
pub use member::{
    Effect, Event, LogBatch, LogCut, LogRead, LogReader, LogWritten, Member, MemberStart, Now,
    Options, ProposeError, ReadBatch, StartError, Status,
};
pub use node::{Config, Figures, MemberAddress, Node, NodeError, Opened, SyncObserver, open};
pub use record::{Acquaintances, NotesError, Record};

pub use jangada_entry::Frame;
pub use jangada_raft::{Index, NodeId};

/// The parts a member is made of, for those who drive or replace them.
pub use {jangada_entry as entry, jangada_net as net, jangada_raft as raft, jangada_wal as wal};
