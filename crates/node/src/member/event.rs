//! What happens to a member, what it asks for, and what its clients are told when a proposal fails.

use jangada_entry::{Draft, Frame};
use jangada_net::PeerMessage;
use jangada_raft::{NodeId, Position, Standing};

use super::{LogBatch, LogCut, LogRead, LogReader, LogWritten, ReadBatch};

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
    /// The log now begins after this entry.
    LogBegins(Position),
    /// A client of this member proposes a command.
    Propose(Draft),
    /// Clients of this member wait for a linearizable read. Answered by [`Effect::ReadReady`] or
    /// [`Effect::ReadExpired`].
    Read(ReadBatch),
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
    /// Send to a peer. If it cannot be sent, report [`Event::LaneLost`].
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
    /// Role, term or leader changed.
    Changed(Standing),
    /// A peer shows an incarnation other than the one it was first met under; nothing of it counts.
    Stranger {
        /// The peer.
        peer: NodeId,
        /// The incarnation it was met under.
        met: u64,
        /// The incarnation it shows.
        shown: u64,
    },
}

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
            ProposeError::Stopped => "the member is stopping; the command may or may not happen",
        })
    }
}

impl std::error::Error for ProposeError {}
