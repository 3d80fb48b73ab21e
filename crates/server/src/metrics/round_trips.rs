//! How far the other members are, under etcd's name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::{Exposition, Histogram, Kind};

/// The times of questions to other members, by member.
#[derive(Debug, Default)]
pub struct RoundTrips {
    peers: Mutex<BTreeMap<u64, Histogram>>,
}

impl RoundTrips {
    /// Notes how long a member took to answer.
    ///
    /// # Panics
    /// If another thread has panicked while it counted.
    pub fn observe(&self, peer: u64, took: Duration) {
        // etcd's buckets: 0.1 ms, doubled 15 times.
        let histogram = || Histogram::doubling(Duration::from_micros(100), 16);
        self.peers().entry(peer).or_insert_with(histogram).observe(took);
    }

    /// Forgets those that are no members any more.
    ///
    /// # Panics
    /// If another thread has panicked while it counted.
    pub fn retain(&self, members: &BTreeSet<u64>) {
        self.peers().retain(|peer, _| members.contains(peer));
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<u64, Histogram>> {
        self.peers.lock().expect("counting does not panic")
    }

    pub(super) fn expose(&self, exposition: &mut Exposition) {
        let mut family = exposition.family(
            "etcd_network_peer_round_trip_time_seconds",
            Kind::Histogram,
            "Round-Trip-Time histogram between peers",
        );
        for (peer, histogram) in self.peers().iter() {
            family.histogram(&[("To", &format!("{peer:x}"))], histogram);
        }
    }
}
