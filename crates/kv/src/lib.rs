//! The key-value state machine.

mod api;

pub use api::*;
