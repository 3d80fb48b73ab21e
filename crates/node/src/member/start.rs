//! What a member starts from, its bounds, and how it stands.

use std::collections::BTreeMap;
use std::sync::Arc;

use jangada_raft::{Configuration, HardState, Index, Limits, NodeId, Position, Range, Standing};

use super::{Ended, PeerSnapshots, Quarantine};
use crate::record::{NotesError, Record};
use crate::saved::SavedState;
use crate::snapshot::SnapshotError;

/// The bounds and intervals of a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// How often the leader makes itself heard.
    pub heartbeat_interval_us: u64,
    /// How long a follower waits for word from the leader at least.
    pub election_timeout_us: u64,
    /// How long a proposal or a read waits for a leader to be found, and how long a proposal that
    /// was handed to one waits for its answer.
    pub leader_wait_us: u64,
    /// The consensus module's bounds.
    pub limits: Limits,
    /// The most bytes of settled entries (durable and applied) that are kept in memory for followers
    /// that lag.
    pub tail_bytes_max: u64,
    /// The most bytes of proposals that wait for a leader to be found.
    pub held_bytes_max: u64,
    /// The most bytes of entries that are applied in one step, so that heartbeats are not held up.
    pub apply_bytes_max: u64,
    /// The most bytes of entries that the log retains although the machine holds them durably, for
    /// followers that lag. Whoever is further behind is sent a snapshot.
    pub trailing_bytes_max: u64,
    /// The most bytes that the log grows to for the sake of a snapshot that is being sent: what was
    /// committed meanwhile must be there when it has arrived.
    pub transfer_log_bytes_max: u64,
    /// The most bytes of snapshots that are sent in a second.
    pub snapshot_bytes_per_second: u64,
    /// The state of a machine that keeps nothing durable is saved once so many bytes of entries have
    /// been applied since the last time, and more than the state is large.
    pub save_after_bytes: u64,
    /// After so long in one write of the log the process stops ([`Effect::Abort`](crate::Effect)).
    pub stall_abort_us: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            // etcd's defaults.
            heartbeat_interval_us: 100_000,
            election_timeout_us: 1_000_000,
            // etcd's request timeout: five seconds and two election timeouts.
            leader_wait_us: 7_000_000,
            limits: Limits::default(),
            // A follower that is further behind than this reads from disk anyway.
            tail_bytes_max: 8 << 20,
            // As much as a leader would take uncommitted from all of its clients.
            held_bytes_max: 16 << 20,
            // A few milliseconds of work.
            apply_bytes_max: 4 << 20,
            // A restart of a member, or a network that is gone for a minute, at a megabyte a second.
            trailing_bytes_max: 64 << 20,
            // Ten minutes of a transfer, at as much.
            transfer_log_bytes_max: 1 << 30,
            // Less than a network of a gigabit carries: what is urgent goes on beside it.
            snapshot_bytes_per_second: 100 << 20,
            // As much as the log retains anyway.
            save_after_bytes: 64 << 20,
            // Far longer than a disk that works takes, and than a storage system needs to fail over.
            stall_abort_us: 60_000_000,
        }
    }
}

/// What a member starts from.
#[derive(Debug)]
pub struct MemberStart {
    /// This member.
    pub id: NodeId,
    /// The group whose log this is.
    pub group: u64,
    /// Names this life of the process, never used before: stamps the proposals of its clients.
    pub process: u64,
    /// The durable term and vote.
    pub hard_state: HardState,
    /// The configuration in force where the log begins.
    pub configuration: Configuration,
    /// The configurations among the log's entries, by index.
    pub configurations: Vec<(Index, Configuration)>,
    /// The durable log's names.
    pub log: Range,
    /// The time stamped on the log's last entry, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The notes that the log gave back.
    pub note: bytes::Bytes,
    /// The highest feature level that this program speaks: [`FEATURE_LEVEL`](crate::FEATURE_LEVEL).
    pub level: u16,
    /// The entries of the log whose names alone are known: their payloads are damaged.
    pub faulty: Vec<Position>,
    /// Whether the log is marked: entries that this member had acknowledged may be lost.
    pub recovering: bool,
    /// The state that was saved last for a machine that keeps nothing durable, if there is one.
    pub saved: Option<SavedState>,
    /// Bounds and intervals.
    pub options: Options,
    /// Decides everything random.
    pub seed: u64,
}

/// Why a member cannot start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StartError {
    /// The log ends before, or begins after, what the state machine has applied.
    Gap {
        /// The last entry applied by the state machine.
        applied: Position,
        /// The entry before the log's first one.
        begins: Position,
        /// The log's last entry.
        ends: Position,
    },
    /// Stored notes cannot be read.
    Notes(NotesError),
    /// The cluster has been raised to a version that this program does not speak.
    Version {
        /// The cluster's version.
        cluster: u16,
        /// The highest that this program speaks.
        own: u16,
    },
    /// This member was removed from the cluster.
    Removed(NodeId),
    /// The log has lost entries, and there is no other member to get them from.
    Alone {
        /// The log's last entry.
        ends: Position,
    },
    /// The machine does not take the state that was saved for it.
    Saved(SnapshotError),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Gap { applied, begins, ends } => write!(
                f,
                "the state machine has applied entry {} of term {}, but the log holds the entries \
                 after {} of term {} up to {} of term {}: the two do not belong together; restore \
                 both from one backup, or remove the member and add it anew",
                applied.index, applied.term, begins.index, begins.term, ends.index, ends.term
            ),
            StartError::Notes(error) => error.fmt(f),
            StartError::Version { cluster, own } => write!(
                f,
                "the cluster's version is {cluster}, and this program speaks no version above {own}; \
                 start the program that the other members run (there is no way back behind a version \
                 that the cluster has reached)"
            ),
            StartError::Removed(id) => Ended::Removed(*id).fmt(f),
            StartError::Alone { ends } => write!(
                f,
                "the log, which ends with entry {}, is damaged in what the state machine does not \
                 hold, and no other member has it: restore a backup, and check the disk",
                ends.index
            ),
            StartError::Saved(error) => {
                write!(f, "the state that was saved for the state machine is of no use: {error}")
            }
        }
    }
}

impl std::error::Error for StartError {}

impl From<NotesError> for StartError {
    fn from(error: NotesError) -> StartError {
        StartError::Notes(error)
    }
}

/// What is wrong with a member that runs all the same: told to whoever starts it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Concern {
    /// The machine is durable and offers no snapshots: the log is never cut, and should it ever lose its
    /// beginning, to damage or to a backup, no new member can be brought up to date.
    NoSnapshots,
    /// That has happened.
    StrandsNewMembers {
        /// The entry behind which the log begins.
        begins: Index,
    },
}

impl std::fmt::Display for Concern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Concern::NoSnapshots => write!(
                f,
                "the state machine keeps its state durably and offers no snapshots: the log is never \
                 cut, and a member that joins once it has lost its beginning cannot be brought up to \
                 date; let the machine offer snapshots (StateMachine::snapshots)"
            ),
            Concern::StrandsNewMembers { begins } => write!(
                f,
                "the log begins behind entry {begins} and the state machine offers no snapshots: while \
                 this member leads, members that lack those entries are never brought up to date; have \
                 another lead, or let the machine offer snapshots (StateMachine::snapshots)"
            ),
        }
    }
}

/// How a member stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// Role, term and leader.
    pub standing: Standing,
    /// The highest index known to be committed.
    pub commit: Index,
    /// The last entry applied here, and the cluster's time, the running hash, the members and the
    /// cluster's version as of it.
    pub record: Record,
    /// The configuration in force here; not committed, perhaps.
    pub configuration: Arc<Configuration>,
    /// The log's last entry.
    pub last: Index,
    /// The entry before the first one that the log retains.
    pub log_begins: Position,
    /// The last index that the state machine holds durably.
    pub machine_durable: Index,
    /// How many leaders have come since the member started.
    pub leader_changes: u64,
    /// How many snapshots this member has sent since it started, to their end.
    pub snapshots_sent: u64,
    /// How many it has installed.
    pub snapshots_installed: u64,
    /// The same by peer, and what is under way.
    pub snapshots_by_peer: Arc<BTreeMap<NodeId, PeerSnapshots>>,
    /// Whether its machine lacks what no log holds any more: it serves nothing until it has been sent
    /// a snapshot.
    pub needs_snapshot: bool,
    /// Whether the log wants space.
    pub log_full: bool,
    /// For how long the log's oldest unfinished write has been under way (microseconds).
    pub log_stalled_us: u64,
    /// Why this member serves nobody, if its state is not what a majority has.
    pub quarantine: Option<Quarantine>,
    /// As the leader: where the members' states differ without a majority for one of them.
    pub hashes_differ: Option<Index>,
}
