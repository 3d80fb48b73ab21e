//! The Raft consensus module.

mod contract;

pub use contract::*;
