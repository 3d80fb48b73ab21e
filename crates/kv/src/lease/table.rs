//! The table of leases and the index from a lease to its keys.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::follow::Following;
use super::{LEASE_BYTES, Lease, LeaseChange, LeaseKeys, LeaseName};
use crate::effects::Note;
use crate::store::Store;

/// All leases.
#[derive(Default)]
pub(crate) struct Leases {
    by_id: BTreeMap<i64, Held>,
    following: Following,
}

struct Held {
    lease: Lease,
    keys: LeaseKeys,
}

impl Leases {
    /// The leases that a state has noted; keys are attached one by one.
    pub(crate) fn restored(leases: &[Lease]) -> Leases {
        let held = |lease: &Lease| Held { lease: *lease, keys: LeaseKeys::new() };
        let by_id = leases.iter().map(|lease| (lease.name.id, held(lease))).collect();
        Leases { by_id, following: Following::Nobody }
    }

    pub(crate) fn get(&self, id: i64) -> Option<Lease> {
        self.by_id.get(&id).map(|held| held.lease)
    }

    pub(crate) fn keys(&self, id: i64) -> Option<&LeaseKeys> {
        self.by_id.get(&id).map(|held| &held.keys)
    }

    pub(crate) fn contains(&self, id: i64) -> bool {
        self.by_id.contains_key(&id)
    }

    /// In the order of their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Lease> {
        self.by_id.values().map(|held| held.lease)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// What they count toward the size in use.
    pub(crate) fn bytes(&self) -> u64 {
        self.by_id.len() as u64 * LEASE_BYTES
    }

    pub(super) fn following(&mut self) -> &mut Following {
        &mut self.following
    }

    /// A key holds another lease than before; 0 stands for none.
    pub(crate) fn moved(&mut self, key: &Bytes, from: i64, to: i64) {
        self.detach(key, from);
        if to != 0 {
            assert!(self.attach(key.clone(), to), "lease invariant 1");
        }
    }

    /// A key holds a lease; answers whether there is such a lease.
    pub(crate) fn attach(&mut self, key: Bytes, id: i64) -> bool {
        let held = self.by_id.get_mut(&id);
        held.map(|held| held.keys.insert(key)).is_some()
    }

    /// A key holds a lease no longer. A lease that ends is gone before its keys.
    pub(crate) fn detach(&mut self, key: &Bytes, id: i64) {
        if canon!(deleted_key_stays_with_its_lease) {
            return;
        }
        if id != 0
            && let Some(held) = self.by_id.get_mut(&id)
        {
            assert!(held.keys.remove(key), "lease invariant 1");
        }
    }
}

impl Store {
    /// Adds a lease, unless its id is taken.
    pub(super) fn add_lease(&mut self, lease: Lease) -> bool {
        if self.leases().contains(lease.name.id) {
            return false;
        }
        let leases = self.leases_mut();
        leases.by_id.insert(lease.name.id, Held { lease, keys: LeaseKeys::new() });
        leases.following.note(LeaseChange::Is(lease));
        self.open_mut().notes.push(Note::Lease(lease));
        true
    }

    /// Takes a lease out; answers its keys.
    pub(super) fn remove_lease(&mut self, name: LeaseName) -> Option<LeaseKeys> {
        let leases = self.leases_mut();
        let held = leases.by_id.get(&name.id);
        let known = held.is_some_and(|held| held.lease.name == name);
        if !known {
            return None;
        }
        let held = leases.by_id.remove(&name.id)?;
        leases.following.note(LeaseChange::Gone(held.lease));
        self.open_mut().notes.push(Note::LeaseGone(name.id));
        Some(held.keys)
    }

    /// Notes what remains of a lease; answers whether that changes anything.
    pub(super) fn set_remaining(&mut self, name: LeaseName, remaining: i64) -> bool {
        let leases = self.leases_mut();
        let Some(held) = leases.by_id.get_mut(&name.id).filter(|held| held.lease.name == name)
        else {
            return false;
        };
        let remaining = remaining.clamp(1, held.lease.ttl); // lease invariant 2
        if remaining == held.lease.remaining {
            return false;
        }
        held.lease.remaining = remaining;
        let lease = held.lease;
        leases.following.note(LeaseChange::Is(lease));
        self.open_mut().notes.push(Note::Lease(lease));
        true
    }
}
