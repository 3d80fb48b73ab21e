//! The API through a real socket, over a member that lives in memory.

mod auth;
mod cluster;
mod connections;
mod health;
mod http;
mod kv;
mod lease;
mod limits;
mod locks;
mod maintenance;
mod membership;
mod metrics;
mod range_stream;
#[path = "../../../../tests/support/raw.rs"]
#[allow(dead_code, reason = "every test uses another part of this")]
mod raw;
mod serving;
mod snapshot;
mod support;
mod watch;
mod watch_support;
