//! What happens to a member, what it asks for, and what its clients are told when a proposal fails.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jangada_entry::{Draft, Frame};
use jangada_net::{Basis, ConsultRefusal, PeerMessage};
use jangada_raft::{Configuration, Index, MemberChange, NodeId, Position, Standing, Term};

use super::{
    ChangeError, ConsultError, Consultation, Consulter, LogBatch, LogCut, LogRead, LogReader,
    LogWritten, Mend, Mended, Quarantine, ReadBatch, SnapshotWork, TransferError,
};
use crate::record::Membership;
use crate::saved::{StateSaved, UnsavedState};

/// What can happen to a member.
#[derive(Debug)]
pub enum Event {
    /// A message of a peer arrived. A handshake with that peer was told of before.
    Received {
        /// The sender.
        from: NodeId,
        /// The message.
        message: PeerMessage,
    },
    /// A handshake with a peer, in either direction, showed this incarnation.
    Hello {
        /// The peer.
        peer: NodeId,
        /// Names the life of the peer's data directory.
        incarnation: u64,
        /// The highest feature level that the peer's program speaks; 0 when it did not say.
        level: u16,
    },
    /// A peer turned this member away at the handshake.
    TurnedAway {
        /// The peer.
        by: NodeId,
        /// Why.
        reason: TurnedAway,
    },
    /// The control lane to the peer stands.
    PeerUp(NodeId),
    /// The control lane to the peer broke and could not be mended at once.
    PeerDown(NodeId),
    /// What was sent to the peer on the lane of entries may be lost.
    LaneLost(NodeId),
    /// The lane of entries to the peer is open: what is sent from here on travels.
    LaneUp(NodeId),
    /// What was sent to the peer on the lane of snapshots may be lost.
    SnapshotsLost(NodeId),
    /// The outstanding batch is durable.
    LogWritten(LogWritten),
    /// Entries that were asked for, in order, from the first one asked for on.
    LogRead {
        /// For whom they were read.
        reader: LogReader,
        /// The entries.
        frames: Vec<Frame>,
    },
    /// The log wants space: what it has left is its reserve, or nothing. Told once until
    /// [`Event::LogHasSpace`]; the batch under way is tried again until it is written.
    LogFull,
    /// The log has space again.
    LogHasSpace,
    /// The log now begins after this entry.
    LogBegins(Position),
    /// Work on a snapshot is done.
    SnapshotWorked(SnapshotWork),
    /// The log has done what it was asked about its damage.
    Mended(Mended),
    /// The state that was to be saved is durable.
    StateSaved(StateSaved),
    /// A client of this member proposes a command.
    Propose(Draft),
    /// This member's application proposes a command that is for its own leadership in this term alone:
    /// it is refused elsewhere, and never forwarded.
    ProposeInTerm {
        /// The command.
        draft: Draft,
        /// The term.
        term: Term,
    },
    /// This member's application asks the leader's. Answered by [`Effect::Counselled`].
    Consult {
        /// Names the question.
        ticket: Ticket,
        /// What is asked.
        bytes: Bytes,
    },
    /// This member's application answers an [`Effect::Consulted`].
    Counsel {
        /// Who asked.
        to: Consulter,
        /// The answer, or why there is none.
        outcome: Result<Bytes, ConsultRefusal>,
    },
    /// Clients of this member wait for a linearizable read. Answered by [`Effect::ReadReady`] or
    /// [`Effect::ReadExpired`].
    Read(ReadBatch),
    /// An operator of this member wants another membership. Answered by [`Effect::ChangeAnswered`].
    ChangeMembers {
        /// Names the question.
        ticket: Ticket,
        /// What is wanted.
        change: MemberChange,
        /// The configuration from which it was made out.
        basis: Basis,
    },
    /// An operator of this member wants another leader. Answered by [`Effect::TransferAnswered`].
    TransferLeadership {
        /// Names the question.
        ticket: Ticket,
        /// Who is to lead; whoever has most of the log when not given.
        to: Option<NodeId>,
    },
    /// The member is about to stop and should lead no more. Answered by [`Effect::HandedOver`], within
    /// an election timeout.
    HandOver,
}

/// Names a question of an operator; given by whoever hands the question to the member, and never
/// used twice within one life of the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// Why a peer does not take this member for a member.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TurnedAway {
    /// It knows that this member was removed.
    Removed,
    /// It has met this member with another data directory.
    Wiped,
}

/// What a member asks of its driver, in order.
#[derive(Debug)]
pub enum Effect<R> {
    /// Make this batch durable and report [`Event::LogWritten`]. The next batch comes after that.
    Write(LogBatch),
    /// Read entries back and report [`Event::LogRead`].
    Read(LogRead),
    /// Cut the log and report [`Event::LogBegins`].
    Cut(LogCut),
    /// Do this about the log's damage and report [`Event::Mended`].
    Mend(Mend),
    /// Give this work its turns and report [`Event::SnapshotWorked`]. Several pieces may be under way
    /// at a time; they may be worked on in any order, and away from the member's thread.
    SnapshotWork(SnapshotWork),
    /// Write and save the state of a machine that keeps nothing durable ([`UnsavedState::write`],
    /// [`SavedState::save`](crate::SavedState::save)), and report [`Event::StateSaved`]. One at a time, in
    /// order. Both may take long, and belong on another thread than the member's.
    SaveState(UnsavedState),
    /// Send to a peer. If it cannot be sent, report [`Event::LaneLost`], or
    /// [`Event::SnapshotsLost`] on the lane of snapshots.
    Send {
        /// The receiver.
        to: NodeId,
        /// The message.
        message: PeerMessage,
    },
    /// A command of one of this member's clients was applied here.
    Reply {
        /// The number the command was proposed under.
        sequence: u64,
        /// The state machine's answer.
        reply: R,
    },
    /// A command of one of this member's clients will not happen.
    Refuse {
        /// The number the command was proposed under.
        sequence: u64,
        /// Why.
        reason: ProposeError,
    },
    /// The commands of this member's clients with numbers up to this one that are not answered by
    /// now may or may not happen.
    Doubt {
        /// The highest number concerned.
        sequence_max: u64,
    },
    /// Everything committed before the batch came is applied here.
    ReadReady(ReadBatch),
    /// No leader confirmed itself in time for this batch.
    ReadExpired(ReadBatch),
    /// This member is quarantined and serves no reads.
    ReadRefused(ReadBatch),
    /// Role, term or leader changed.
    Changed(Standing),
    /// The log's disk has been stuck in one write for so long (microseconds) that the process is to
    /// stop, as after a failed sync.
    Abort {
        /// For how long.
        stalled_us: u64,
    },
    /// This member's state is not what a majority has. It serves nobody until its machine is replaced
    /// by a snapshot.
    Quarantined(Quarantine),
    /// The members' states differ, and no majority holds one of them: nobody can tell who is right.
    HashesDiffer {
        /// Where.
        index: Index,
        /// What each member holds there that has said so.
        hashes: BTreeMap<NodeId, u64>,
    },
    /// A peer shows an incarnation other than the one it was first met under; nothing of it counts.
    Stranger {
        /// The peer.
        peer: NodeId,
        /// The incarnation it was met under.
        met: u64,
        /// The incarnation it shows.
        shown: u64,
    },
    /// A change of the membership that an operator of this member wanted.
    ChangeAnswered {
        /// The question.
        ticket: Ticket,
        /// The configuration by which it is done.
        outcome: Result<Configuration, ChangeError>,
    },
    /// A transfer of leadership that an operator of this member wanted.
    TransferAnswered {
        /// The question.
        ticket: Ticket,
        /// Who leads instead.
        outcome: Result<NodeId, TransferError>,
    },
    /// This member leads, and its application is asked. Answered by [`Event::Counsel`].
    Consulted(Consultation),
    /// What the leader's application says to a question of this member's.
    Counselled {
        /// The question.
        ticket: Ticket,
        /// The answer.
        outcome: Result<Bytes, ConsultError>,
    },
    /// Whom to be connected to has changed.
    Peers(Peers),
    /// This member does not lead, or could not hand over in time: it may be stopped.
    HandedOver,
    /// This member is none any more and is to be stopped: nothing it could do is of use.
    Ends(Ended),
}

/// Whom a member is connected to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Peers {
    /// The peers, and where they are found. Where nothing stands, they are where they were.
    pub addresses: BTreeMap<NodeId, Vec<String>>,
    /// Who was removed, and is to be turned away.
    pub removed: Vec<NodeId>,
    /// Who the members are, as of the last entry applied: what new servers are told.
    pub membership: Arc<Membership>,
    /// The cluster's version.
    pub version: u16,
}

/// Why a member ends by itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ended {
    /// It was removed from the cluster.
    Removed(NodeId),
    /// Its data directory is not the one that it had.
    Wiped {
        /// This member.
        id: NodeId,
        /// Who has met it with another data directory.
        witness: NodeId,
    },
    /// The cluster was raised to a version that this program does not speak.
    Version {
        /// The cluster's version.
        cluster: u16,
        /// The highest that this program speaks.
        own: u16,
    },
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ended::Removed(id) => write!(
                f,
                "member {id} was removed from the cluster and has stopped; to bring this machine \
                 back, empty its data directory, add it as a new member (jangada member add) and \
                 start it with the initial cluster state \"existing\""
            ),
            Ended::Wiped { id, witness } => write!(
                f,
                "member {id} lost its data directory: member {witness} has met it with another one, \
                 and what it voted and acknowledged then is gone, so it must not come back as the \
                 same member; remove it (jangada member remove {id}), add it as a new member \
                 (jangada member add) and start it with an empty data directory and the initial \
                 cluster state \"existing\""
            ),
            Ended::Version { cluster, own } => write!(
                f,
                "the cluster's version was raised to {cluster}, and this program speaks no version \
                 above {own}: it has stopped; start the program that the other members run"
            ),
        }
    }
}

impl std::error::Error for Ended {}

/// Why a proposal got no answer from the state machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ProposeError {
    /// No leader was found in time. The command did not happen.
    NoLeader,
    /// Too much is under way. The command did not happen; try again after a while.
    Busy,
    /// The leader changed, the connection to it broke, or no answer came in time, while the command
    /// was under way. It may or may not happen.
    InDoubt,
    /// The command is larger than an entry may be. It did not happen.
    TooLarge,
    /// Not every member speaks the version of the command. It did not happen.
    TooNew,
    /// The disk of the leader's log is nearly full, and the command is not one that frees space
    /// ([`StateMachine::is_essential`](crate::StateMachine::is_essential)). It did not happen.
    NoSpace,
    /// This member's state is not what a majority has. The command did not happen here; another member
    /// takes it.
    Quarantined,
    /// The member is stopping. The command may or may not happen.
    Stopped,
}

impl std::fmt::Display for ProposeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ProposeError::NoLeader => "no leader was found in time; the command did not happen",
            ProposeError::Busy => {
                "too much is under way; the command did not happen, try again after a while"
            }
            ProposeError::InDoubt => {
                "the leader changed or was silent while the command was under way; it may or may \
                 not happen"
            }
            ProposeError::TooLarge => {
                "the command is larger than an entry may be; it did not happen"
            }
            ProposeError::TooNew => {
                "the command is of a version that not all members speak; it did not happen, upgrade \
                 them first"
            }
            ProposeError::NoSpace => {
                "the disk of the leader's log is nearly full; the command did not happen, free some \
                 space"
            }
            ProposeError::Quarantined => {
                "this member's state differs from what a majority of the members has, so it serves \
                 nobody until it is replaced; the command did not happen, ask another member"
            }
            ProposeError::Stopped => "the member is stopping; the command may or may not happen",
        })
    }
}

impl std::error::Error for ProposeError {}
