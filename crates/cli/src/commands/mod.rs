//! The commands that ask a cluster or read a log.

pub(crate) mod bench;
mod compare;
pub(crate) mod kv;
pub(crate) mod log;
pub(crate) mod member;
pub(crate) mod status;
pub(crate) mod txn;
mod txn_text;
