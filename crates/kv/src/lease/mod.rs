//! Leases: keys that live as long as somebody keeps them alive.
//!
//! Responsible for what the replicated state knows of leases and for what their commands mean. Not
//! responsible for time: no clock is looked at here. Whoever leads counts, and proposes what is due
//! (the lessor, in the server); the state keeps what a new leader has to count from.
//!
//! A lease has the time that it was granted for and a *remainder*, which is all of that time unless a
//! checkpoint has said less. It is named by its id and by the log index of the entry that granted it:
//! what a lessor proposes about a lease must not meet another one that was granted under the same id
//! meanwhile.
//!
//! ```text
//!   lessor: lease 7 is over; proposes its end        client: revokes 7, grants 7 anew
//!   log:    ... revoke 7 | grant 7 | end of 7 ...    the new lease 7 must not end
//! ```
//!
//! Invariants:
//! 1. A key that exists holds at most one lease, and that one exists; a lease knows its keys.
//! 2. `0 < remaining <= ttl`.
//! 3. What a lessor has proposed takes effect only in the term in which it led.

mod command;
mod follow;
mod table;

use bytes::Bytes;

pub use command::LeaseCommand;
pub(crate) use command::{LEASE_TAGS, decode_lease, encode_lease};
pub use follow::LeaseChange;
pub(crate) use table::Leases;

use crate::interval::Interval;
use crate::machine::Entry;
use crate::store::{Changes, Store};
use crate::{Answer, KvError};

/// What a lease counts toward the size that the quota is held against, in bytes; as etcd's.
pub const LEASE_BYTES: u64 = 64;

/// The most seconds that a lease is granted for, as etcd's.
pub const LEASE_TTL_MAX: i64 = 9_000_000_000;

/// Names one lease for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LeaseName {
    /// The id that clients use.
    pub id: i64,
    /// The log index of the entry that granted it: an id may be granted again.
    pub granted: u64,
}

/// A lease, without its keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    /// Its name.
    pub name: LeaseName,
    /// The seconds that it was granted for.
    pub ttl: i64,
    /// The seconds that a new leader counts from.
    pub remaining: i64,
}

/// The answer to a [`LeaseCommand`] that was not refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeaseAnswer {
    /// The lease exists.
    Granted(Lease),
    /// It is gone, and its keys with it.
    Revoked,
    /// So many of the leases named were still there.
    Counted(u64),
}

impl Store {
    /// Applies a command about leases.
    pub(crate) fn apply_lease(
        &mut self,
        changes: &mut Changes,
        command: LeaseCommand,
        entry: &Entry<'_>,
    ) -> Result<Answer, KvError> {
        let answer = match command {
            LeaseCommand::Grant { id, ttl } => {
                let name = LeaseName { id, granted: entry.index };
                self.grant(Lease { name, ttl, remaining: ttl })?
            }
            LeaseCommand::Revoke { id } => self.revoke_known(changes, id)?,
            LeaseCommand::Expire { term, leases } => {
                let due = if self.in_term(term, entry) { leases } else { Default::default() };
                let ended = due.into_iter().filter(|name| self.end_lease(changes, *name)).count();
                LeaseAnswer::Counted(ended as u64)
            }
            LeaseCommand::Checkpoint { term, leases } => {
                let due = if self.in_term(term, entry) { leases } else { Default::default() };
                let mut counted = 0;
                for (name, remaining) in due {
                    if self.set_remaining(name, remaining) {
                        changes.digest.mix(name.id as u64);
                        changes.digest.mix(remaining as u64);
                        counted += 1;
                    }
                }
                LeaseAnswer::Counted(counted)
            }
        };
        Ok(Answer::Lease(answer))
    }

    /// Whether what a lessor proposed in a term is in the log under that term (invariant 3).
    fn in_term(&self, term: u64, entry: &Entry<'_>) -> bool {
        term == entry.term || canon!(deposed_lessor_ends_leases)
    }

    fn grant(&mut self, lease: Lease) -> Result<LeaseAnswer, KvError> {
        if lease.name.id == 0 {
            return Err(KvError::LeaseNotFound);
        }
        if lease.ttl <= 0 || LEASE_TTL_MAX < lease.ttl {
            return Err(KvError::LeaseTtlTooLarge);
        }
        if !self.add_lease(lease) {
            return Err(KvError::LeaseExists);
        }
        Ok(LeaseAnswer::Granted(lease))
    }

    fn revoke_known(&mut self, changes: &mut Changes, id: i64) -> Result<LeaseAnswer, KvError> {
        let lease = self.leases().get(id).ok_or(KvError::LeaseNotFound)?;
        self.end_lease(changes, lease.name);
        Ok(LeaseAnswer::Revoked)
    }

    /// Ends a lease and deletes its keys in their order, as one revision; answers whether there was
    /// such a lease.
    fn end_lease(&mut self, changes: &mut Changes, name: LeaseName) -> bool {
        let Some(keys) = self.remove_lease(name) else {
            return false;
        };
        changes.digest.mix(name.id as u64);
        for key in keys {
            self.delete(changes, Interval::One(&key), false);
        }
        self.end_part(changes);
        true
    }
}

/// The keys of a lease, in order.
pub(crate) type LeaseKeys = std::collections::BTreeSet<Bytes>;
