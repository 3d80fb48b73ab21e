//! Leases: who counts their time, and how the others ask.
//!
//! The store knows which leases there are, and what remains of each for a new leader to count from
//! ([`jangada_kv::Lease`]). The member that leads counts, by its own clock alone ([`Lessor`]). Every
//! other member asks it ([`Question`]): it is asked to renew leases, and how much remains.
//!
//! ```text
//!   client - any member: keep alive - question - leader: a round of leadership for all that wait -
//!     everything committed before is applied - the lessor counts from the full time - answer
//! ```
//!
//! Nothing is written for a renewal unless the store would have a new leader count from less.

mod lessor;
mod question;

use std::time::Duration;

pub use lessor::{
    CHECKPOINT_INTERVAL, CHECKPOINTS_MAX, KEYS_ENDED_MAX, LEASES_ENDED_MAX, Lessor, Order, Renewal,
};
pub use question::{Answer, LEASES_ASKED_MAX, Malformed, Question};

/// The shortest time that a lease is granted for, in seconds: one and a half election timeouts, as
/// etcd has it, so that a lease outlives a change of leader.
#[must_use]
pub fn ttl_min(heartbeat_interval: Duration, election_timeout: Duration) -> i64 {
    let heartbeat = heartbeat_interval.as_millis().max(1);
    let ticks = election_timeout.as_millis() / heartbeat;
    let least_ms = 3 * ticks / 2 * heartbeat;
    i64::try_from(least_ms.div_ceil(1000)).unwrap_or(i64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_time_is_etcds() {
        let least = |heartbeat, election| {
            ttl_min(Duration::from_millis(heartbeat), Duration::from_millis(election))
        };
        assert_eq!(least(100, 1000), 2);
        assert_eq!(least(10, 100), 1);
        assert_eq!(least(500, 5000), 8);
        assert_eq!(least(300, 1000), 2); // three ticks, times one and a half, rounded down
    }
}
