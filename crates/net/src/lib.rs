//! The transport between members: framed TCP in lanes.
//!
//! Each member dials each of its peers, once for each [`Lane`], and sends on what it dialled;
//! connections that others dialled are for receiving. So a lane has one writer and one reader, and
//! a connection that breaks concerns one direction of one lane.
//!
//! The parts, from pure to impure:
//!
//! - [`PeerMessage`]: what members say, and on which lane.
//! - [`wire`]: the codec of those messages. Entries travel as the log's own bytes.
//! - [`handshake`]: who talks to whom, in which version; and the refusals, told in sentences.
//! - [`session`]: one connection as a stepped part, without a socket. Simulations begin here.
//! - [`Security`]: what secures connections, if anything does.
//! - [`transport`]: sockets, tasks, reconnection, and the judgement that a peer is gone.
//!
//! The bytes are documented in `docs/wire-format.md`.
//!
//! What is not here: which message to send when (the consensus module and the node), round trip
//! times, and any retry of a message. A message may be lost, with the connection that carried it;
//! it is never repeated, and those that arrive on one lane arrive in the order of sending.

mod ask;
pub mod handshake;
mod inquiry;
mod message;
mod security;
pub mod session;
mod snapshot;
pub mod transport;
pub mod wire;

pub use ask::*;
pub use inquiry::{InquireError, Roster, RosterMember, host_port, inquire, round_trip};
pub use message::*;
pub use security::{Accepting, Duplex, PeerListener, Secured, Security, host_of, is_secured};
pub use snapshot::*;
pub use transport::{
    DownReason, Peer, PeerStats, SendError, Transport, TransportConfig, TransportEvent,
    TransportLimits,
};
