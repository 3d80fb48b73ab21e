//! Replicate any state machine with Raft.

mod machine;

pub use machine::{Outcome, StateMachine};
