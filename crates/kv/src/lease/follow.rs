//! What becomes of leases, told to whoever counts their time. It is no part of the replicated state.

use super::Lease;
use crate::shared::Shared;

/// The most changes that are kept for one who does not take them; one who comes later than that is
/// given all leases anew. Some megabytes, and more than are granted between two looks.
const CHANGES_MAX: usize = 1 << 16;

/// What has become of a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeaseChange {
    /// It was granted, or its remainder is another one.
    Is(Lease),
    /// It is gone.
    Gone(Lease),
}

/// The changes since somebody last looked.
#[derive(Debug, Default)]
pub(super) enum Following {
    /// Nobody looks.
    #[default]
    Nobody,
    Since(Vec<LeaseChange>),
}

impl Following {
    pub(super) fn note(&mut self, change: LeaseChange) {
        let Following::Since(changes) = self else {
            return;
        };
        if changes.len() < CHANGES_MAX {
            changes.push(change);
        } else {
            *self = Following::Nobody;
        }
    }

    fn take(&mut self) -> Option<Vec<LeaseChange>> {
        match self {
            Following::Nobody => None,
            Following::Since(changes) => Some(std::mem::take(changes)),
        }
    }
}

impl Shared {
    /// All leases, in the order of their ids. From here on their changes are kept for
    /// [`Shared::lease_changes`].
    #[must_use]
    pub fn follow_leases(&self) -> Vec<Lease> {
        let mut store = self.write();
        let leases = store.leases_mut();
        *leases.following() = Following::Since(Vec::new());
        leases.iter().collect()
    }

    /// What has changed since the last look, in order. `None` if that is not known: nobody
    /// [follows](Shared::follow_leases), or it was too much, or the whole state was replaced.
    #[must_use]
    pub fn lease_changes(&self) -> Option<Vec<LeaseChange>> {
        self.write().leases_mut().following().take()
    }

    /// Nobody looks any more.
    pub fn unfollow_leases(&self) {
        *self.write().leases_mut().following() = Following::Nobody;
    }
}
