//! Snapshots (§7), as the members carry them from one to another.
//!
//! Responsible for the transfers: offering, sending and resuming on the leader, staging and installing
//! on the receiver; and for having the state saved of a machine that keeps nothing durable. Not
//! responsible for who needs a snapshot and what one means for the log, which is the consensus
//! module's, nor for what is in one, which is the machine's.

mod counts;
mod sending;
mod taking;
mod whole;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;

use jangada_net::SnapshotMessage;
use jangada_raft::{Index, NodeId};

use super::Member;
use crate::machine::StateMachine;

pub use counts::PeerSnapshots;
use sending::{Sending, Wanted};
use taking::{Kept, Stage, Taking};
pub(super) use whole::Keeping;
pub use work::SnapshotWork;
use work::Task;

/// About how large a chunk is: large enough that a message's overhead does not count, small enough
/// that reading or staging one holds nobody up for long.
const CHUNK_BYTES: usize = 256 << 10;

/// The most bytes that are sent and not staged yet, unless a single chunk is larger: four chunks keep
/// a disk and a network busy at once.
const WINDOW_BYTES: u64 = 4 * CHUNK_BYTES as u64;

/// The most snapshots that a leader sends at a time: each takes a view of the machine, and what is
/// applied meanwhile makes that view dearer to keep.
const TRANSFERS_MAX: usize = 2;

/// The most chunks that wait to be staged: far more than a leader's window holds, save where chunks
/// are tiny.
const QUEUED_CHUNKS_MAX: usize = 1024;

/// How long one side waits to hear from the other before it gives a transfer up (microseconds): ten
/// times what a sign of life takes.
const SILENCE_US: u64 = 10 * ALIVE_US;

/// How often the receiver says that it lives while it works (microseconds).
const ALIVE_US: u64 = 1_000_000;

/// How long after a failure a transfer is offered again at the earliest, and how often a member asks
/// for one (microseconds).
const RETRY_US: u64 = 500_000;

/// How long what is staged is kept for another transfer to go on from (microseconds). A leader that
/// can be reached offers one within seconds.
const STAGE_KEPT_US: u64 = 120_000_000;

/// What a member knows of its transfers.
pub(super) struct Snapshots {
    /// As the leader: to whom, what is under way, and when the last one failed.
    wanted: BTreeMap<NodeId, Wanted>,
    sending: BTreeMap<NodeId, Sending>,
    failed_us: BTreeMap<NodeId, u64>,
    transfer_last: u64,
    /// From when on the next chunk may go, for the rate's sake.
    free_us: u64,
    /// What was delivered lately, and until when that matters.
    delivered: BTreeMap<NodeId, (Index, u64)>,
    pub(super) sent: u64,

    /// As the receiver.
    taking: Option<Taking>,
    kept: Option<Kept>,
    /// A transfer that was given up while its stage was worked on.
    returning: Option<(NodeId, u64)>,
    pub(super) installed: u64,
    /// What a snapshot must cover at least before this member can apply anything.
    pub(super) needed: Option<Index>,
    ask_us: u64,

    pub(super) keeping: Keeping,

    /// What was sent to each peer and taken from it; of members and of those removed a moment ago.
    pub(super) by_peer: Arc<BTreeMap<NodeId, PeerSnapshots>>,
}

impl Snapshots {
    pub(super) fn new(keeping: Keeping, needed: Option<Index>) -> Snapshots {
        Snapshots {
            wanted: BTreeMap::new(),
            sending: BTreeMap::new(),
            failed_us: BTreeMap::new(),
            transfer_last: 0,
            free_us: 0,
            delivered: BTreeMap::new(),
            sent: 0,
            taking: None,
            kept: None,
            returning: None,
            installed: 0,
            needed,
            ask_us: 0,
            keeping,
            by_peer: Arc::default(),
        }
    }

    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.wanted.is_empty()
            && self.sending.is_empty()
            && self.taking.is_none()
            && self.returning.is_none()
            && self.needed.is_none()
    }
}

impl<M: StateMachine> Member<M> {
    /// What a peer says about snapshots.
    pub(super) fn snapshot_message(&mut self, from: NodeId, message: SnapshotMessage) {
        match message {
            SnapshotMessage::Wanted { at_least } => self.snapshot_wanted(from, at_least),
            SnapshotMessage::Offer { .. } | SnapshotMessage::Chunk(_) => {
                self.heard_from_sender(from, message);
            }
            SnapshotMessage::Accept { .. }
            | SnapshotMessage::Staged { .. }
            | SnapshotMessage::Installed { .. }
            | SnapshotMessage::Refused { .. } => self.heard_of_sending(from, message),
        }
    }

    /// What was sent to the peer about snapshots may be lost.
    pub(super) fn snapshots_lost(&mut self, peer: NodeId) {
        self.sending_failed(peer);
    }

    /// Work that was handed out is done.
    pub(super) fn snapshot_worked(&mut self, SnapshotWork { peer, transfer, task }: SnapshotWork) {
        match task {
            Task::Read { reader, outcome } => self.chunk_read(peer, transfer, reader, outcome),
            Task::Stage { stage, order, outcome } => {
                let outcome = outcome.expect("work that is handed back is done");
                self.staged(peer, transfer, Stage::Streamed(stage), order, outcome);
            }
        }
    }

    /// Goes on with every transfer.
    pub(super) fn tend_snapshots(&mut self) {
        self.tend_sending();
        self.tend_taking();
        self.save_when_due();
    }

    /// When there is something to do next for a snapshot.
    pub(super) fn snapshots_next_us(&self) -> Option<u64> {
        let next = [self.sending_next_us(), self.taking_next_us()];
        next.into_iter().flatten().min().map(|at| at.max(self.now.monotonic_us))
    }
}
