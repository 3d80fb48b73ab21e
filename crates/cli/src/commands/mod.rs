//! The commands that ask a cluster, read a log or simulate.

mod advice;
pub(crate) mod alarm;
pub(crate) mod auth;
pub(crate) mod bench;
mod bench_watch;
mod catch_up;
pub(crate) mod check;
mod compare;
pub(crate) mod completion;
pub(crate) mod endpoint;
pub(crate) mod kv;
pub(crate) mod leader;
pub(crate) mod lease;
pub(crate) mod lock;
pub(crate) mod log;
pub(crate) mod member;
pub(crate) mod mirror;
pub(crate) mod role;
pub(crate) mod sim;
pub(crate) mod snapshot;
pub(crate) mod status;
pub(crate) mod txn;
mod txn_text;
pub(crate) mod user;
pub(crate) mod watch;
