//! Replicate any state machine with Raft.
//!
//! You bring a [`StateMachine`]: something that applies commands, deterministically. A cluster of
//! members agrees on one order of all commands, survives the loss of any minority of its members,
//! and answers each client once its command is durable on a majority and applied where it asked.
//!
//! ```
//! use jangada::{Frame, LocalCluster, Options, Outcome, StateMachine};
//!
//! #[derive(Default)]
//! struct Counter(u64);
//!
//! impl StateMachine for Counter {
//!     type Reply = u64;
//!     fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<u64>>) {
//!         for command in commands {
//!             self.0 += u64::from(command.payload()[0]);
//!             outcomes.push(Outcome { reply: self.0, digest: self.0 });
//!         }
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = LocalCluster::start(3, Options::default(), |_| Counter::default())?;
//! assert_eq!(cluster.handles()[0].propose(&[40]).wait()?, 40);
//! assert_eq!(cluster.handles()[2].propose(&[2]).wait()?, 42);
//! assert_eq!(cluster.handles()[1].read(|counter| counter.0).wait()?, 42);
//! # Ok(())
//! # }
//! ```
//!
//! # Three ways to run it
//!
//! - [`LocalCluster`]: all members in this process, on one thread, with logs in memory. For tests,
//!   and where only the replicated code path matters. [`LocalMembers`] are the same as a task of an
//!   event loop of yours.
//! - [`Node`]: one member of a cluster over the network, with its log on disk, on threads of its own.
//! - [`open`] and [`Opened::run`]: the same member on an event loop of yours, beside your connections,
//!   so that a request is not handed from thread to thread.
//!
//! Whichever it is, a [`Handle`] proposes and reads; it is cheap to clone and works with any async
//! runtime, or with none ([`Proposed::wait`]).
//!
//! # What you may rely on
//!
//! - A proposal that is answered is durable on a majority, in one place of one order, and applied on
//!   the member that answered. It is never lost.
//! - A proposal that is refused with [`ProposeError::Busy`], [`ProposeError::NoLeader`] or
//!   [`ProposeError::TooLarge`] will not happen. One that ends with [`ProposeError::InDoubt`] or
//!   [`ProposeError::Stopped`] may or may not; it is never put into a log twice, but if *you* propose
//!   it again, it may be applied twice, unless you do so in a session.
//! - A read ([`Handle::read`], [`Handle::read_barrier`]) sees everything that was answered anywhere
//!   before it began (linearizable). It costs a round of heartbeats, shared by all reads that wait.
//! - A machine that keeps its state on disk gets the node's record with every batch, to store in the
//!   same transaction; after a restart only the log's tail is applied anew.
//!
//! # Exactly once
//!
//! Wrapped in [`Sessions`], a state machine remembers what it answered: a [`Session`] proposes a
//! command again, through changes of leader and lost answers, until it has the one answer, and the
//! command is applied once (thesis section 6.3). What is remembered is bounded, travels in snapshots,
//! and is forgotten by the time that stands in the log, alike on every member.
//!
//! ```
//! # use jangada::{Frame, LocalCluster, Options, Outcome, StateMachine};
//! use jangada::{Session, Sessions};
//! # #[derive(Default)]
//! # struct Counter(u64);
//! # impl StateMachine for Counter {
//! #     type Reply = u64;
//! #     fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<u64>>) {
//! #         for _ in commands {
//! #             self.0 += 1;
//! #             outcomes.push(Outcome { reply: self.0, digest: self.0 });
//! #         }
//! #     }
//! # }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let machine = |_| Sessions::new(Counter::default()).expect("it starts empty");
//! let cluster = LocalCluster::start(3, Options::default(), machine)?;
//! let session = Session::open(cluster.handles().to_vec()).wait()?;
//! assert_eq!(session.propose(b"increment").wait()?, 1);
//! assert_eq!(session.propose(b"increment").wait()?, 2);
//! # Ok(())
//! # }
//! ```
//!
//! # The parts
//!
//! Consensus module ([`raft`]), log ([`wal`], behind [`Log`]), state machine ([`StateMachine`]) and
//! transport ([`net`]) are separate; [`Member`] joins them as a stepped part, without thread, clock
//! or socket, and can be driven by a runtime of yours, as the simulator does.

mod clock;
mod consults;
mod driver;
mod handle;
mod local;
mod log;
mod machine;
mod member;
mod node;
mod notes;
mod questions;
mod record;
mod saved;
mod sessions;
mod snapshot;
mod snapshot_thread;
mod tail;
mod waiters;

pub use consults::Consultations;
pub use handle::{Handle, Proposed, Read, ReadBarrier, ReadError};
pub use local::{LocalCluster, LocalMembers};
pub use log::{Log, MemoryLog, last_time_ms};
pub use machine::{Outcome, StateMachine};
pub use member::{
    Bound, ChangeError, Concern, ConsultError, Consultation, Consulter, Effect, Ended, Event,
    FEATURE_LEVEL, LogBatch, LogCut, LogRead, LogReader, LogWritten, Member, MemberStart, Mend,
    Mended, Now, Options, PeerSnapshots, Peers, Piece, ProposeError, Quarantine, ReadBatch,
    SnapshotWork, StartError, Status, Ticket, TransferError, TurnedAway,
};
pub use node::{
    Beginning, Config, Figures, ForceError, MemberAddress, Node, NodeError, Opened, SyncObserver,
    open,
};
pub use notes::Notes;
pub use questions::{Asked, MembershipWatch};
pub use record::{Acquaintances, Membership, NotesError, REMOVED_MAX, Record};
pub use saved::{SavedError, SavedState, StateSaved, UnsavedState};
pub use sessions::{
    Session, SessionAnswer, SessionCommand, SessionError, SessionId, SessionLimits, SessionRefusal,
    SessionReply, Sessions, SessionsError, StoredReply,
};
pub use snapshot::{
    CHUNK_BYTES_MAX, Chunk, RESUME_BYTES_MAX, SnapshotError, SnapshotReader, SnapshotStage,
    Snapshots, StateView, Turn, WholeState,
};
pub use waiters::Waiters;

pub use jangada_entry::Frame;
pub use jangada_raft::{CatchUp, Configuration, Index, MemberChange, NodeId};

/// The parts a member is made of, for those who drive or replace them.
pub use {jangada_entry as entry, jangada_net as net, jangada_raft as raft, jangada_wal as wal};
