//! What did not hold.

use std::fmt::{Display, Formatter, Result};

/// An invariant that a reached state, or the step to it, breaks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The invariant.
    pub invariant: String,
    /// What was seen instead.
    pub detail: String,
}

impl Violation {
    pub(crate) fn new(invariant: &str, detail: impl Into<String>) -> Violation {
        Violation { invariant: invariant.to_owned(), detail: detail.into() }
    }
}

impl Display for Violation {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}: {}", self.invariant, self.detail)
    }
}

impl std::error::Error for Violation {}
