//! The transport between members.

mod message;

pub use message::*;
