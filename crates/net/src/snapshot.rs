//! What members say about snapshots (§7), on a lane of its own.
//!
//! ```text
//! leader                                   follower
//!   Offer     ------------------------->     is one wanted?
//!             <-------------------------   Accept, with the token of the last chunk it has staged
//!   Chunk 1   ------------------------->
//!   Chunk 2   ------------------------->     staged, in order
//!             <-------------------------   Staged 1, Staged 2, ...
//!   Chunk n, the last  ---------------->     finished: durable in the state machine
//!             <-------------------------   Installed
//! ```
//!
//! The leader has a few chunks outstanding and no more. Either side may end a transfer, the leader by
//! offering another one, the follower by [`SnapshotMessage::Refused`]; a lane that breaks ends it too.

use bytes::Bytes;
use jangada_raft::{Index, Position, Term};

/// What members say about snapshots.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum SnapshotMessage {
    /// A member whose state machine lacks what no log holds any more asks the leader for a snapshot.
    Wanted {
        /// What it must cover at least.
        at_least: Index,
    },
    /// The leader of `term` has a snapshot for the receiver.
    Offer {
        /// Numbers the transfers of one leader in one term.
        transfer: u64,
        /// The leader's term.
        term: Term,
    },
    /// The receiver takes it.
    Accept {
        /// The transfer.
        transfer: u64,
        /// The token of the last chunk that was staged in an earlier transfer, if there is one.
        resume: Option<Bytes>,
    },
    /// A part of the snapshot.
    Chunk(SnapshotChunk),
    /// A chunk is staged. Also said now and then while a long step goes on, as a sign of life.
    Staged {
        /// The transfer.
        transfer: u64,
        /// The last chunk that is staged; 0 before the first.
        number: u64,
    },
    /// The receiver holds the snapshot, or more.
    Installed {
        /// The transfer.
        transfer: u64,
        /// The last entry that is covered.
        last: Index,
    },
    /// The receiver does not take it, or not to its end.
    Refused {
        /// The transfer.
        transfer: u64,
        /// Why.
        reason: SnapshotRefusal,
    },
}

/// A part of a snapshot.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SnapshotChunk {
    /// The transfer.
    pub transfer: u64,
    /// The leader's term.
    pub term: Term,
    /// Numbers the chunks of a transfer, from 1.
    pub number: u64,
    /// What the snapshot is, in the first chunk and in no other.
    pub head: Option<SnapshotHead>,
    /// Whether the snapshot ends here.
    pub is_last: bool,
    /// From where a later transfer can go on once this chunk is staged: the state machine's own.
    pub resume: Bytes,
    /// The state machine's bytes.
    pub bytes: Bytes,
}

/// What a snapshot is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SnapshotHead {
    /// The last entry that it covers.
    pub last: Position,
    /// The node's record as of that entry, the configuration in force there among it.
    pub record: Bytes,
    /// Whether the chunks follow on what the receiver has staged. If not, it starts anew.
    pub resumes: bool,
}

/// Why a snapshot is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum SnapshotRefusal {
    /// The receiver knows of a later term, or takes another leader's snapshot.
    Stale = 0,
    /// It does not take one at the moment: it has no space, or something else to finish.
    Busy = 1,
    /// Its state machine takes none, or not this one.
    Unfit = 2,
}

impl SnapshotMessage {
    /// The payload that follows the fixed part.
    pub(crate) fn payload(&self) -> Option<&Bytes> {
        match self {
            SnapshotMessage::Chunk(chunk) => Some(&chunk.bytes),
            _ => None,
        }
    }
}
