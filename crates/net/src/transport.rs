//! Sockets, tasks and reconnection: what turns sessions into a transport.
//!
//! Everything runs on one current-thread runtime, within a `LocalSet`. Each lane to each peer has a
//! task that dials it, watches it and dials it again; each connection that others opened has a task
//! that reads it. Sending does not go through a task: [`Transport::send`] queues,
//! [`Transport::flush`] writes on the caller's turn, and only what the socket does not take is left
//! to the lane's task.
//!
//! Not here: bytes ([`crate::wire`]), decisions about a connection ([`crate::handshake`]) and their
//! order ([`crate::session`]).
//!
//! Invariants:
//! 1. Events reach the sink in the order in which they happened, and never from within a call of
//!    the transport, so the sink may call the transport.
//! 2. [`TransportEvent::Up`] and [`TransportEvent::Down`] alternate for each peer, `Up` first, until
//!    it is let go.
//! 3. No message is delivered from a peer whose handshake failed, nor after [`Transport::stop`].
//! 4. A peer's connection of a lane is read only until the peer opens a newer one for that lane.

mod accept;
mod backoff;
mod dial;
mod event;
mod limits;
mod link;
mod refusals;
mod socket;
mod state;

use std::borrow::Borrow;
use std::rc::Rc;
use std::sync::Arc;

use jangada_raft::NodeId;

use crate::handshake::{Identity, NEWEST_VERSION, OLDEST_VERSION};
use crate::{PeerListener, PeerMessage, Roster, Security};

pub use event::{DownReason, PeerStats, SendError, TransportEvent};
pub use limits::TransportLimits;
use state::Shared;

/// Takes what the transport has to say. It is called on the transport's own turns, one event at a
/// time, and should only note the event and wake whoever works on it.
pub type Sink = Rc<dyn Fn(TransportEvent)>;

/// Another member, and where it is to be found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// The member.
    pub id: NodeId,
    /// Its addresses, each `host:port`, resolved anew at each dial and tried in order. One that begins
    /// with `https://` is dialled over TLS.
    pub addresses: Vec<String>,
}

/// Who this member is and whom it talks to.
#[derive(Clone)]
pub struct TransportConfig {
    /// The cluster's id. Members of other clusters are refused.
    pub cluster: u64,
    /// The group whose messages are exchanged.
    pub group: u64,
    /// This member.
    pub member: NodeId,
    /// Names the life of this member's data directory.
    pub incarnation: u64,
    /// Where this member is found, told to every peer that it dials.
    pub addresses: Vec<String>,
    /// The highest feature level that this program speaks.
    pub level: u16,
    /// The other members. An entry for this member itself is ignored.
    pub peers: Vec<Peer>,
    /// The bounds.
    pub limits: TransportLimits,
    /// What secures connections; without it none can be.
    pub security: Option<Arc<dyn Security>>,
}

/// The transport of one member. Clones are handles to the same one; it stops when the last of them
/// is dropped, or by [`Transport::stop`]. A sink that holds a handle keeps the transport alive
/// until it is stopped.
#[derive(Clone)]
pub struct Transport {
    handle: Rc<Handle>,
}

/// Stops the transport when dropped; tasks hold the state, not this.
struct Handle {
    shared: Rc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl Transport {
    /// Starts to accept connections from `listeners` and to dial every peer.
    ///
    /// # Errors
    /// A listener cannot be used by the runtime.
    ///
    /// # Panics
    /// If called outside a `LocalSet` on a tokio runtime with I/O and time enabled.
    pub fn start(
        config: TransportConfig,
        listeners: impl IntoIterator<Item = impl Into<PeerListener>>,
        sink: Sink,
    ) -> std::io::Result<Transport> {
        let identity = Identity {
            cluster: config.cluster,
            member: config.member,
            incarnation: config.incarnation,
            // Zero is left for "none", should a later version need that.
            process: fastrand::u64(1..),
            oldest: OLDEST_VERSION,
            newest: NEWEST_VERSION,
            level: config.level,
        };
        let listeners = listeners
            .into_iter()
            .map(|listener| listener.into().into_async())
            .collect::<std::io::Result<Vec<_>>>()?;
        let own: Rc<[String]> = config.addresses.into();
        let shared =
            Rc::new(Shared::new(identity, config.group, own, config.limits, config.security, sink));
        for (listener, secured) in listeners {
            shared.add_listener(accept::listen(Rc::clone(&shared), listener, secured));
        }
        for peer in config.peers {
            shared.add_peer(peer);
        }
        Ok(Transport { handle: Rc::new(Handle { shared }) })
    }

    /// Queues a message for `to`, on the message's lane. It leaves with the next
    /// [`Transport::flush`]; messages queued between two flushes leave in one write.
    ///
    /// # Errors
    /// The message is not taken, and nothing of it will be sent. Nothing is promised of a message
    /// that is taken, either: it may be lost with its connection.
    pub fn send(&self, to: NodeId, message: impl Borrow<PeerMessage>) -> Result<(), SendError> {
        self.handle.shared.send(to, message.borrow())
    }

    /// Writes what is queued, as far as the sockets take it. To be called at the end of each turn
    /// in which something was sent; it costs nothing when nothing was.
    pub fn flush(&self) {
        self.handle.shared.flush();
    }

    /// Says which incarnation of `peer` was met first, from the member's own log; another one is
    /// refused. `None` forgets it. Without this call the first one met since the start counts.
    /// Connections that are open stay so.
    pub fn expect_incarnation(&self, peer: NodeId, incarnation: Option<u64>) {
        self.handle.shared.expect_incarnation(peer, incarnation);
    }

    /// From here on these are the peers, and `removed` are turned away. A peer that is new is dialled;
    /// one that has moved is dialled where it is the next time; one that is not named any more is let
    /// go. A peer without addresses stays where it was. An entry for this member itself is ignored.
    pub fn set_peers(&self, peers: Vec<Peer>, removed: Vec<NodeId>) {
        self.handle.shared.set_peers(peers, removed);
    }

    /// What a new server is told that asks who it is (see [`crate::inquire`]). Until this is called
    /// nobody is told anything.
    pub fn set_roster(&self, roster: Roster) {
        self.handle.shared.set_roster(roster);
    }

    /// The figures of every peer, in the order of their ids.
    #[must_use]
    pub fn stats(&self) -> Vec<PeerStats> {
        self.handle.shared.stats()
    }

    /// Closes all connections and listeners. No event is delivered from here on. Their sockets are
    /// released when the runtime next runs.
    pub fn stop(&self) {
        self.handle.shared.stop();
    }
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("member", &self.handle.shared.identity.member).finish()
    }
}
