//! What is counted of leases, under etcd's names.

use std::time::Duration;

use super::{Counter, Exposition, Histogram};

/// What is counted of leases. Granted and revoked are counted where it was asked; renewed and over by
/// the member that leads.
#[derive(Debug)]
pub struct Leases {
    /// Leases granted.
    pub granted: Counter,
    /// Leases that clients have ended.
    pub revoked: Counter,
    /// Renewals.
    pub renewed: Counter,
    /// Leases that have ended because their time was over.
    pub expired: Counter,
    /// The times that leases were granted for.
    pub ttl: Histogram,
}

impl Default for Leases {
    fn default() -> Leases {
        Leases {
            granted: Counter::default(),
            revoked: Counter::default(),
            renewed: Counter::default(),
            expired: Counter::default(),
            // etcd's buckets.
            ttl: Histogram::doubling(Duration::from_secs(1), 24),
        }
    }
}

impl Leases {
    pub(super) fn expose(&self, exposition: &mut Exposition) {
        let counters = [
            (
                "etcd_debugging_lease_granted_total",
                "The total number of granted leases.",
                &self.granted,
            ),
            (
                "etcd_debugging_lease_revoked_total",
                "The total number of revoked leases.",
                &self.revoked,
            ),
            (
                "etcd_debugging_lease_renewed_total",
                "The number of renewed leases seen by the leader.",
                &self.renewed,
            ),
            (
                "etcd_debugging_server_lease_expired_total",
                "The total number of expired leases.",
                &self.expired,
            ),
            (
                "etcd_server_lease_expired_total",
                "The total number of leases that have ended because their time was over.",
                &self.expired,
            ),
        ];
        for (name, help, counter) in counters {
            exposition.counter(name, help, counter);
        }
        exposition.histogram(
            "etcd_debugging_lease_ttl_total",
            "Bucketed histogram of lease TTLs.",
            &self.ttl,
        );
    }
}
