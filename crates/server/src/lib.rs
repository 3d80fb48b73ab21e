//! The etcd v3 API over a replicated key-value store.
//!
//! Responsible for the wire: accepting connections, telling gRPC from HTTP, checking requests,
//! turning them into commands and reads, and answering in etcd's words. **Not** responsible for
//! replication (the node) or for what a command does (`jangada_kv`).

#[macro_use]
mod canon;

pub mod auth;
pub mod backend;
mod backlog;
pub mod body;
pub mod config;
pub mod connection;
mod convert;
pub mod discovery;
pub mod edge;
pub mod errors;
pub mod etcd_file;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod gateway;
pub mod grpc;
mod http_api;
pub mod lease;
pub mod machine;
mod member;
pub mod membership;
pub mod metrics;
mod patience;
pub mod proto;
pub mod serving;
pub mod settings;

pub use backend::Backend;
pub use edge::Edge;
pub use member::{
    Beside, LessorDesk, RunError, Served, ServedMember, Sight, Space, Timer, TokioTimer, run,
};
pub use metrics::Metrics;
pub use settings::{Settings, WatchCuts};
