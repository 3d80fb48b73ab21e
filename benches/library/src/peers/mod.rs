//! The libraries, each with the glue that its documentation asks a user for.

pub mod floor;
pub mod jangada;
pub mod omnipaxos;
pub mod openraft;
pub mod raft_rs;
