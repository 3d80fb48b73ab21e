//! etcd's metrics of snapshots between members.

use std::collections::BTreeMap;

use jangada::{NodeId, PeerSnapshots};

use crate::metrics::{Exposition, Kind};

/// etcd's metrics of snapshots, each sample with the peer's id.
pub(super) fn write(peers: &BTreeMap<NodeId, PeerSnapshots>, exposition: &mut Exposition) {
    type Value = fn(&PeerSnapshots) -> u64;
    let families: [(&str, Kind, &str, &str, Value); 6] = [
        (
            "etcd_network_snapshot_send_inflights_total",
            Kind::Gauge,
            "The snapshots that are being sent to the peer.",
            "To",
            |peer| u64::from(peer.sending),
        ),
        (
            "etcd_network_snapshot_send_success",
            Kind::Counter,
            "The snapshots sent to the peer, to their end.",
            "To",
            |peer| peer.sent,
        ),
        (
            "etcd_network_snapshot_send_failures",
            Kind::Counter,
            "The snapshots that were begun to be sent to the peer and came to no end.",
            "To",
            |peer| peer.send_failures,
        ),
        (
            "etcd_network_snapshot_receive_inflights_total",
            Kind::Gauge,
            "The snapshots that are being taken from the peer.",
            "From",
            |peer| u64::from(peer.taking),
        ),
        (
            "etcd_network_snapshot_receive_success",
            Kind::Counter,
            "The peer's snapshots that were installed.",
            "From",
            |peer| peer.installed,
        ),
        (
            "etcd_network_snapshot_receive_failures",
            Kind::Counter,
            "The peer's snapshots that were begun to be taken and not installed.",
            "From",
            |peer| peer.take_failures,
        ),
    ];
    for (name, kind, help, label, value) in families {
        let mut family = exposition.family(name, kind, help);
        for (id, peer) in peers {
            family.sample(&[(label, &id.to_string())], value(peer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_has_its_own_samples() {
        let one = PeerSnapshots { sending: true, sent: 2, ..PeerSnapshots::default() };
        let other = PeerSnapshots { installed: 3, take_failures: 1, ..PeerSnapshots::default() };
        let mut exposition = Exposition::default();
        write(&[(NodeId(0xa1), one), (NodeId(0xb2), other)].into(), &mut exposition);
        let text = exposition.finish();
        for line in [
            "etcd_network_snapshot_send_inflights_total{To=\"a1\"} 1",
            "etcd_network_snapshot_send_success{To=\"a1\"} 2",
            "etcd_network_snapshot_send_failures{To=\"b2\"} 0",
            "etcd_network_snapshot_receive_inflights_total{From=\"b2\"} 0",
            "etcd_network_snapshot_receive_success{From=\"b2\"} 3",
            "etcd_network_snapshot_receive_failures{From=\"b2\"} 1",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} in:\n{text}");
        }
    }
}
