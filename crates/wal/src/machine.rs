//! What a log has to know of the state machine that stands beside it.

use jangada_raft::{Configuration, Position};

/// How far the state machine is, durably. Applied means committed, so its word counts more than the
/// log's: what it holds the log can do without.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Machine {
    /// The last entry that it has applied.
    pub applied: Position,
    /// The configuration in force there; before anything is applied, the one that the log was
    /// created with.
    pub configuration: Configuration,
}
