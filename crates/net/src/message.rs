//! What members say to one another: the consensus module's messages, the entries that travel with
//! them, and what members ask of the leader for their clients.

use bytes::Bytes;
use jangada_entry::{Frame, Kind, Origin};
use jangada_raft::{AppendRequest, Index, Message, Position};

use crate::ask::{Answer, Ask};
use crate::snapshot::SnapshotMessage;

/// A lane is a connection of its own, so that nothing on it waits behind another lane.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Lane {
    /// Votes, heartbeats, read indexes: small and urgent.
    Control = 0,
    /// Entries, their acknowledgements, and forwarded proposals.
    Entries = 1,
    /// Snapshots, and what is said about them: bulk that entries do not wait behind.
    Snapshots = 2,
}

/// One message between members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerMessage {
    /// A message of the consensus module without payloads; never an [`Message::AppendRequest`].
    Raft(Message),
    /// AppendEntries with its payloads: one frame for each entry of the range, in order.
    Append {
        /// What the consensus module says.
        request: AppendRequest,
        /// The entries.
        frames: Vec<Frame>,
    },
    /// Proposals of this member's clients, for the leader to put into the log. Answered by
    /// [`PeerMessage::ForwardRefused`] or, once committed, by the entry itself in the log.
    Forward(Vec<Proposal>),
    /// The leader did not take these proposals; they will not happen.
    ForwardRefused {
        /// The process that the proposals name as their origin. A refusal may outlive the process
        /// that it is for, and the next one uses the same numbers for other proposals.
        process: u64,
        /// The proposals' sequence numbers.
        sequences: Vec<u64>,
        /// Why.
        reason: ForwardRefusal,
    },
    /// A follower asks for a read index for all reads that wait there.
    ReadIndexRequest {
        /// The asker's number for this round; echoed.
        number: u64,
    },
    /// The leader has confirmed its leadership after the request arrived.
    ReadIndexResponse {
        /// The asker's number.
        number: u64,
        /// The read index; `None` when this member does not lead.
        index: Option<Index>,
    },
    /// What members say about snapshots.
    Snapshot(SnapshotMessage),
    /// A member whose log is damaged asks any other for entries that it knows by name. Answered by
    /// [`PeerMessage::FramesResponse`].
    FramesRequest {
        /// The first entry.
        first: Position,
        /// The last entry.
        last: Index,
    },
    /// The entries asked for that the sender's log holds, from the first one on: none of them if it
    /// does not hold that one, and perhaps not all.
    FramesResponse {
        /// The first entry asked for.
        first: Position,
        /// The entry before the first that the sender's log retains.
        begins: Index,
        /// The entries.
        frames: Vec<Frame>,
    },
    /// The leader asks for the running hash as of this entry. Answered by
    /// [`PeerMessage::HashAnswer`] once it is applied, or not at all.
    HashQuestion {
        /// The entry.
        index: Index,
    },
    /// The sender's running hash.
    HashAnswer {
        /// As of this entry.
        index: Index,
        /// The hash.
        hash: u64,
    },
    /// The leader tells a member that a majority holds another hash than it does.
    HashDiffers {
        /// As of this entry.
        index: Index,
        /// The majority's hash.
        hash: u64,
    },
    /// An operator of this member asks something of the leader. Answered by
    /// [`PeerMessage::Answer`].
    Ask {
        /// The life of the asker's process; echoed.
        process: u64,
        /// The asker's number for this question; echoed.
        number: u64,
        /// What is asked.
        ask: Ask,
    },
    /// The leader answers a [`PeerMessage::Ask`].
    Answer {
        /// The life of the asker's process.
        process: u64,
        /// The asker's number.
        number: u64,
        /// The answer.
        answer: Answer,
    },
    /// The application of this member asks something of the leader's. Answered by
    /// [`PeerMessage::Counsel`].
    Consult {
        /// The life of the asker's process; echoed.
        process: u64,
        /// The asker's number for this question; echoed.
        number: u64,
        /// What is asked, as the applications understand it.
        bytes: Bytes,
    },
    /// The leader's application answers a [`PeerMessage::Consult`].
    Counsel {
        /// The life of the asker's process.
        process: u64,
        /// The asker's number.
        number: u64,
        /// The answer, or why there is none.
        outcome: Result<Bytes, ConsultRefusal>,
    },
}

/// Why the leader's application was not asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum ConsultRefusal {
    /// The member asked does not lead.
    NotLeader = 0,
    /// Too many questions wait there, or nobody answers any.
    Busy = 1,
    /// The application did not answer.
    Unanswered = 2,
}

impl ConsultRefusal {
    /// All reasons, by their number.
    pub const ALL: [ConsultRefusal; 3] =
        [ConsultRefusal::NotLeader, ConsultRefusal::Busy, ConsultRefusal::Unanswered];

    /// The reason of this number.
    #[must_use]
    pub fn of(number: u8) -> Option<ConsultRefusal> {
        ConsultRefusal::ALL.into_iter().find(|reason| *reason as u8 == number)
    }
}

/// A proposal on its way to the leader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal {
    /// What the entry is for.
    pub kind: Kind,
    /// The version of the command's encoding.
    pub version: u16,
    /// Who waits for it.
    pub origin: Origin,
    /// The command.
    pub payload: Bytes,
}

/// Why a leader did not take forwarded proposals.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum ForwardRefusal {
    /// The member asked does not lead.
    NotLeader = 0,
    /// Too much is proposed and not committed yet.
    Busy = 1,
    /// The leader's log is short of space, and the proposals are not essential.
    NoSpace = 2,
}

impl PeerMessage {
    /// The lane the message travels on.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match self {
            PeerMessage::Raft(Message::AppendResponse(_))
            | PeerMessage::Append { .. }
            | PeerMessage::Forward(_)
            | PeerMessage::ForwardRefused { .. }
            | PeerMessage::FramesRequest { .. }
            | PeerMessage::FramesResponse { .. }
            | PeerMessage::Ask { .. }
            | PeerMessage::Answer { .. }
            | PeerMessage::Consult { .. }
            | PeerMessage::Counsel { .. } => Lane::Entries,
            PeerMessage::Snapshot(_) => Lane::Snapshots,
            PeerMessage::Raft(_)
            | PeerMessage::ReadIndexRequest { .. }
            | PeerMessage::ReadIndexResponse { .. }
            | PeerMessage::HashQuestion { .. }
            | PeerMessage::HashAnswer { .. }
            | PeerMessage::HashDiffers { .. } => Lane::Control,
        }
    }
}
