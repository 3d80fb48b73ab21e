//! The API through a real socket, over a member that lives in memory.

mod auth;
mod cluster;
mod connections;
mod health;
mod http;
mod kv;
mod lease;
mod locks;
mod maintenance;
mod membership;
mod metrics;
mod range_stream;
mod snapshot;
mod support;
mod watch;
mod watch_support;
