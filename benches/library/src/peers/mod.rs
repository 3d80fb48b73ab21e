//! The libraries, each with the glue that its documentation asks a user for.

pub mod floor;
pub mod jangada;
mod nodes;
pub mod omnipaxos;
pub mod openraft;
pub mod raft_rs;
