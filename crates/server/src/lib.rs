//! The etcd v3 API over a replicated key-value store.
//!
//! Responsible for the wire: accepting connections, telling gRPC from HTTP, checking requests,
//! turning them into commands and reads, and answering in etcd's words. **Not** responsible for
//! replication (the node) or for what a command does (`jangada_kv`).

pub mod config;
pub mod proto;
