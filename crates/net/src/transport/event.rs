//! What the transport tells its owner.

use jangada_raft::NodeId;

use crate::handshake::RefusalCode;
use crate::wire::EncodeError;
use crate::{Lane, PeerMessage};

/// What the transport tells its owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TransportEvent {
    /// A message arrived. Those of one lane arrive in the order of sending.
    Received {
        /// The member that sent it.
        from: NodeId,
        /// What it sent.
        message: PeerMessage,
    },
    /// This member's own control lane to the peer is open; takes [`TransportEvent::Down`] back.
    Up {
        /// The peer.
        peer: NodeId,
        /// The life of the peer's data directory.
        incarnation: u64,
        /// The highest feature level that the peer's program speaks; 0 when it did not say.
        level: u16,
    },
    /// A peer does not take this member for one, whoever else may: the code is
    /// [`RefusalCode::Removed`] or [`RefusalCode::Wiped`].
    TurnedAway {
        /// The peer.
        by: NodeId,
        /// Why.
        code: RefusalCode,
    },
    /// The peer is probably gone: the control lane to it broke, and one immediate attempt to
    /// reconnect got no handshake. A hint, never proof.
    Down {
        /// The peer.
        peer: NodeId,
        /// What became of the attempt.
        reason: DownReason,
    },
    /// A lane to the peer is open: what is sent from here on travels.
    LaneUp {
        /// The peer.
        peer: NodeId,
        /// The lane.
        lane: Lane,
    },
    /// A lane to the peer broke: what was sent on it may be lost.
    LaneLost {
        /// The peer.
        peer: NodeId,
        /// The lane.
        lane: Lane,
    },
    /// A connection was refused, by this member or by the other side, or a peer has been out of
    /// reach for a while. Meant for the log; the same is told again only after a while.
    Refused {
        /// The peer, where it is one.
        peer: Option<NodeId>,
        /// What was wrong and what to do.
        sentence: String,
    },
}

/// Why a peer counts as down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DownReason {
    /// The attempt to reconnect failed: nobody listens there.
    Unreachable(std::io::ErrorKind),
    /// The connection was made, and closed before the handshake.
    Closed,
    /// The handshake was refused.
    Refused,
    /// No handshake came in time.
    Silent,
    /// The handshake was given by another life of the peer's process.
    Restarted,
}

impl std::fmt::Display for DownReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DownReason::Unreachable(kind) => write!(f, "it cannot be reached ({kind})"),
            DownReason::Closed => write!(f, "it closes connections before the handshake"),
            DownReason::Refused => write!(f, "it refuses the handshake"),
            DownReason::Silent => write!(f, "it does not answer the handshake"),
            DownReason::Restarted => write!(f, "it has been restarted"),
        }
    }
}

/// Why a message was not taken for sending.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendError {
    /// No peer has that id.
    UnknownPeer,
    /// The message's lane to the peer is not open.
    NotConnected,
    /// Too much waits on the message's lane.
    Full,
    /// The message cannot be sent at all.
    Message(EncodeError),
}

impl std::fmt::Display for SendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SendError::UnknownPeer => write!(f, "no peer has that id: add it first"),
            SendError::NotConnected => {
                write!(f, "the peer is not connected: send again once its lane is up")
            }
            SendError::Full => write!(f, "too much waits for the peer: send again later"),
            SendError::Message(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SendError {}

/// The figures of one peer since the transport's start.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PeerStats {
    /// The peer.
    pub peer: NodeId,
    /// Whether the control lane to it is open, or is being reopened before the peer counts as down.
    pub up: bool,
    /// The lanes to it that are open.
    pub lanes_open: usize,
    /// Incoming connections from it that are open.
    pub incoming_open: usize,
    /// Messages taken for sending.
    pub sent_messages: u64,
    /// Bytes the sockets took, messages only.
    pub sent_bytes: u64,
    /// Messages delivered.
    pub received_messages: u64,
    /// Bytes of the messages delivered.
    pub received_bytes: u64,
    /// Bytes that wait to be sent.
    pub queued_bytes: usize,
    /// Messages not taken, because a lane was not open or its queue was full.
    pub send_failures: u64,
    /// Incoming connections that ended with something other than a message.
    pub receive_failures: u64,
    /// Lanes that broke.
    pub lanes_lost: u64,
    /// Attempts to connect that failed.
    pub dial_failures: u64,
    /// Handshakes that were refused, on either side.
    pub refusals: u64,
}
