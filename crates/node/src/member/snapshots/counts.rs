//! Snapshots counted by peer, for whoever watches.

use std::sync::Arc;

use jangada_raft::NodeId;

use super::Snapshots;

/// The snapshots between this member and a peer, since this member started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PeerSnapshots {
    /// Whether one is being sent to the peer.
    pub sending: bool,
    /// How many were sent to it, to their end.
    pub sent: u64,
    /// How many were begun to be sent and came to no end.
    pub send_failures: u64,
    /// Whether one is being taken from the peer.
    pub taking: bool,
    /// How many of its snapshots were installed.
    pub installed: u64,
    /// How many of them were begun to be taken and not installed.
    pub take_failures: u64,
}

impl Snapshots {
    fn of(&mut self, peer: NodeId) -> &mut PeerSnapshots {
        Arc::make_mut(&mut self.by_peer).entry(peer).or_default()
    }

    /// A snapshot begins to be sent to the peer.
    pub(super) fn send_begins(&mut self, peer: NodeId) {
        self.of(peer).sending = true;
    }

    /// It has come to its end.
    pub(super) fn send_succeeded(&mut self, peer: NodeId) {
        let counts = self.of(peer);
        counts.sending = false;
        counts.sent += 1;
    }

    /// It has not, if it was begun.
    pub(super) fn send_failed(&mut self, peer: NodeId) {
        if self.by_peer.get(&peer).is_some_and(|counts| counts.sending) {
            let counts = self.of(peer);
            counts.sending = false;
            counts.send_failures += 1;
        }
    }

    /// A snapshot begins to be taken from the peer.
    pub(super) fn take_begins(&mut self, peer: NodeId) {
        self.of(peer).taking = true;
    }

    /// It is installed.
    pub(super) fn take_succeeded(&mut self, peer: NodeId) {
        let counts = self.of(peer);
        counts.taking = false;
        counts.installed += 1;
    }

    /// What it brings is there already.
    pub(super) fn take_is_needless(&mut self, peer: NodeId) {
        if let Some(counts) = Arc::make_mut(&mut self.by_peer).get_mut(&peer) {
            counts.taking = false;
        }
    }

    /// It is given up, if it was begun.
    pub(super) fn take_failed(&mut self, peer: NodeId) {
        if self.by_peer.get(&peer).is_some_and(|counts| counts.taking) {
            let counts = self.of(peer);
            counts.taking = false;
            counts.take_failures += 1;
        }
    }

    /// These are members no more.
    pub(in crate::member) fn forget(&mut self, removed: &[NodeId]) {
        if removed.iter().any(|peer| self.by_peer.contains_key(peer)) {
            Arc::make_mut(&mut self.by_peer).retain(|peer, _| !removed.contains(peer));
        }
    }
}
