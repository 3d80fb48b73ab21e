//! Since when this member is connected to which other.
//!
//! Responsible for telling a connection that lasts from one that comes and goes, as etcd's checks of
//! changes of the membership want it. Looks at the transport's counters now and then; what happens
//! between two looks shows in them.

use std::collections::BTreeMap;
use std::time::Duration;

use jangada::net::PeerStats;

use crate::backend::Connection;
use crate::membership::HEALTHY_AFTER;

/// One peer, as it was when it was last looked at.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// When it was first seen connected without a break since.
    since: Duration,
    /// How often its lanes had been lost by then.
    lanes_lost: u64,
}

/// Who is connected, and since when.
#[derive(Debug, Default)]
pub(super) struct Connections {
    connected: BTreeMap<u64, Seen>,
    now: Duration,
}

impl Connections {
    /// Takes a look.
    pub(super) fn observe(&mut self, now: Duration, peers: &[PeerStats]) {
        self.now = now;
        let before = std::mem::take(&mut self.connected);
        for stats in peers.iter().filter(|stats| stats.up) {
            let unbroken = before.get(&stats.peer.0).filter(|b| b.lanes_lost == stats.lanes_lost);
            let fresh = Seen { since: now, lanes_lost: stats.lanes_lost };
            self.connected.insert(stats.peer.0, unbroken.copied().unwrap_or(fresh));
        }
    }

    /// How this member is connected to another.
    pub(super) fn of(&self, peer: u64) -> Connection {
        match self.connected.get(&peer) {
            None => Connection::None,
            Some(seen) if self.now.saturating_sub(seen.since) < HEALTHY_AFTER => Connection::Fresh,
            Some(_) => Connection::Lasting,
        }
    }
}

#[cfg(test)]
mod tests {
    use jangada::NodeId;

    use super::*;

    fn stats(peer: u64, up: bool, lanes_lost: u64) -> PeerStats {
        PeerStats { peer: NodeId(peer), up, lanes_lost, ..PeerStats::default() }
    }

    #[test]
    fn a_connection_lasts_once_it_has_been_there_for_five_seconds() {
        let mut connections = Connections::default();
        let mut check = |seconds: u64, up: bool, lanes_lost: u64, expect: Connection| {
            connections.observe(Duration::from_secs(seconds), &[stats(7, up, lanes_lost)]);
            assert_eq!(connections.of(7), expect, "after {seconds} s");
            assert_eq!(connections.of(8), Connection::None);
        };
        check(0, false, 0, Connection::None);
        check(1, true, 0, Connection::Fresh);
        check(5, true, 0, Connection::Fresh);
        check(6, true, 0, Connection::Lasting);
        // It broke and came back between two looks.
        check(7, true, 1, Connection::Fresh);
        check(12, true, 1, Connection::Lasting);
        check(13, false, 2, Connection::None);
        check(14, true, 2, Connection::Fresh);
    }
}
