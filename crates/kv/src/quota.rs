//! The quota: how large the store may become, as its members see it.
//!
//! Not looked at when commands are applied: there the alarm alone counts, which is replicated. The
//! member that is asked holds the quota against [`View::size_in_use`](crate::View::size_in_use) and
//! [`cost`](crate::cost), and proposes the alarm; the leader proposes its end.

/// The alarm ends once the store has been below this part of the quota, in percent, for
/// [`RELIEVED_AFTER_MS`]. 90: so that it does not come and go with every write.
pub const RELIEVED_PERCENT: u64 = 90;

/// How long the store must have been below [`RELIEVED_PERCENT`] of the quota. A minute: clients that
/// write again at once should find room for a while.
pub const RELIEVED_AFTER_MS: u64 = 60_000;

/// How many bytes the store may take; `None` is no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quota {
    /// The limit, in bytes of rows.
    pub bytes: Option<u64>,
}

impl Quota {
    /// Whether a command of this [cost](crate::cost) may be proposed while the store has this size.
    /// A command that costs nothing always may.
    #[must_use]
    pub fn admits(self, size: u64, cost: u64) -> bool {
        cost == 0 || self.bytes.is_none_or(|bytes| size.saturating_add(cost) < bytes)
    }

    /// Whether a store of this size is so far below the quota that the alarm may end.
    #[must_use]
    pub fn is_relieved(self, size: u64) -> bool {
        self.bytes.is_none_or(|bytes| size < bytes / 100 * RELIEVED_PERCENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alarm_comes_at_the_quota_and_ends_well_below_it() {
        let quota = Quota { bytes: Some(1_000) };
        assert!(quota.admits(700, 299));
        assert!(!quota.admits(700, 300), "as etcd: the size with the cost stays below");
        assert!(quota.admits(5_000, 0), "deletions are always let through");
        assert!(!quota.admits(u64::MAX, 1));
        assert!(quota.is_relieved(899));
        assert!(!quota.is_relieved(900));
        assert!(Quota { bytes: None }.admits(u64::MAX, 1));
        assert!(Quota { bytes: None }.is_relieved(u64::MAX));
    }
}
