//! Judges whether a history could have come from one store that does one thing after the other.
//!
//! Two methods that share nothing but the history, and the first of them once more while the run goes
//! on ([`online`]):
//!
//! * [`by_revision`] uses what this store tells for free: a write's answer names its revision, so
//!   the total order is known and needs only to be compared with real time and replayed. Linear in
//!   the history but for sorting.
//! * [`search`] looks at values alone and searches for any order that fits (Wing and Gong, with the
//!   memo and the just-in-time linearization of Lowe). Exponential at worst, so it has a limit.
//!
//! The first finds more (it also judges revisions, versions and serializable reads); the second
//! does not believe the store's own numbers. [`check`] wants both to agree.

pub mod by_revision;
pub mod online;
pub mod search;

#[cfg(test)]
mod agreement_tests;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::history::History;
use by_revision::{Summary, Violation};
use search::Verdict;

/// How many steps [`check`] lets the search take for each group of keys: some seconds of work, and
/// a thousand times what a history without a violation needs.
pub const SEARCH_STEPS_MAX: u64 = 10_000_000;

/// What both methods say about a history that is in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Approval {
    /// What the first method counted.
    pub summary: Summary,
    /// Groups of keys for which the search found an order.
    pub groups: usize,
    /// Groups of keys for which the search reached its limit.
    pub undecided: usize,
}

/// What is wrong with a history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Found by the order of revisions.
    ByRevision(Violation),
    /// Found by the search: no order of these operations explains their answers.
    BySearch {
        /// The operations of the group, as positions in the history.
        operations: Vec<usize>,
        /// An operation that the longest explanation could not contain.
        stuck_at: usize,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::ByRevision(violation) => violation.fmt(f),
            Fault::BySearch { operations, stuck_at } => write!(
                f,
                "no order of the {} operations on one group of keys explains their answers; the \
                 longest one cannot go past operation {stuck_at}",
                operations.len()
            ),
        }
    }
}

impl std::error::Error for Fault {}

/// Judges `history` by both methods.
pub fn check(history: &History) -> Result<Approval, Fault> {
    let summary = by_revision::check(history).map_err(Fault::ByRevision)?;
    let (mut groups, mut undecided) = (0, 0);
    for (operations, verdict) in search::check(history, SEARCH_STEPS_MAX) {
        match verdict {
            Verdict::Linearizable => groups += 1,
            Verdict::Undecided => undecided += 1,
            Verdict::NotLinearizable { stuck_at } => {
                return Err(Fault::BySearch { operations, stuck_at });
            }
        }
    }
    Ok(Approval { summary, groups, undecided })
}
