//! The key-value state machine: etcd's semantics, deterministic, in memory, with an engine behind.
//!
//! Commands come in through a [`Machine`], in the order of the log; readers on any thread look
//! through [`Shared`]. The crate knows neither consensus nor network nor wire formats.
//!
//! ```text
//!  Entry ─ command.rs: decode ─ apply.rs: meaning ─ store.rs: keys ─┬─ Outcome (reply, digest)
//!                                                                   └─ effects.rs: batch of rows
//!  Shared ─ range.rs, hash.rs: reads ─ history.rs: older versions        │
//!                                                     ▲                  ▼
//!                             redb_engine.rs: rows on disk ◄── writer.rs: slices, commits
//! ```
//!
//! The key's newest version lies in memory whole. Of a superseded one memory keeps twelve bytes;
//! its content is read back from the engine by revision once the engine holds it durably.
//!
//! The formats of commands and rows are documented in `docs/store-format.md`.

#[macro_use]
pub mod canon;
mod api;
mod apply;
mod aside;
pub mod auth;
mod bulk;
mod chunk;
mod command;
mod compare;
mod digest;
mod effects;
mod engine;
mod export;
mod file;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod guard;
mod hash;
mod hints;
mod history;
mod import;
mod interval;
mod keys;
mod lease;
mod machine;
mod quota;
mod range;
mod rebuild;
mod record;
mod redb_engine;
mod restore;
mod restoring;
mod row;
mod runtime;
mod scrub;
mod shared;
mod signal;
mod slices;
mod snapshot;
mod stage;
mod staging;
mod store;
mod tally;
mod validate;
mod versions;
mod watch;
mod writer;

pub use api::*;
pub use apply::{Answer, Outcome, Reply};
pub use chunk::ChunkError;
pub use command::{
    Alarm, AlarmAction, AlarmKind, COMMAND_VERSION, Command, DecodeError, Member, PutFlags,
    encode_put, put_bytes_max,
};
pub use engine::EngineError;
pub use export::Export;
pub use file::{open_file, set_aside};
pub use hash::HashKv;
pub use import::{Import, ImportError, ImportRest, Imported};
pub use lease::{
    LEASE_BYTES, LEASE_TTL_MAX, Lease, LeaseAnswer, LeaseChange, LeaseCommand, LeaseName,
};
pub use machine::{ApplyError, Entry, Machine, Options};
pub use quota::{Quota, RELIEVED_AFTER_MS, RELIEVED_PERCENT};
pub use redb::StorageBackend;
pub use restore::{RestoreError, RestoreState};
pub use restoring::Restoration;
pub use row::Revision;
pub use runtime::{EngineThread, Reopen};
pub use scrub::{Scrub, Scrubbed};
pub use shared::{Shared, View};
pub use slices::RangeSlices;
pub use snapshot::{CHUNK_BYTES, SnapshotStream};
pub use validate::{
    TXN_DEPTH_MAX, check_delete, check_put, check_range, check_txn, cost, is_read_only, put_cost,
};
pub use versions::{CLUSTER_VERSION, COMMAND_VERSIONS, command_version_max};
pub use watch::{
    Changes, Delivery, EVENT_LOG_BYTES_MAX, EventKind, Events, WATCHERS_MAX, WatchError,
    WatchFigures, WatchOutput, WatchRefusal, WatchRequest, WatchResponse, WatchStep, WatchStream,
};
pub use writer::{EngineWriter, Turn};
