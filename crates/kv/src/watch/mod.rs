//! Watching: what happened, in the order in which it happened, from any revision that is not
//! compacted.
//!
//! ```text
//!  store.rs: put, delete ─ effects.rs: batch ─ seal ─┬─ engine
//!                                                    └─ wake whom it concerns (watching.rs, wakeup.rs)
//!  stream.rs: cursors ─ read ─► log.rs: recent events in memory ─ older: waiting batches, engine
//!       │
//!       └─► group.rs: which watcher wants which event ─► delivery.rs: bytes, shared by all
//! ```
//!
//! Applying does nothing for watchers but to wake them: they read, by cursor, a history that all of
//! them share. One that does not read costs its cursor and nothing else.
//!
//! Responsible for which events go to which watcher, and for when it may be said that a watcher has
//! seen everything. Not responsible for messages of the wire, for time and for permissions.

mod changes;
mod delivery;
mod events;
mod group;
mod log;
mod spans;
mod stream;
mod wakeup;
mod watching;

pub use changes::Changes;
pub use delivery::{Delivery, WatchResponse};
pub use events::{EventKind, Events};
pub(crate) use log::EventLog;
pub use log::{EVENT_LOG_BYTES_MAX, WatchError};
pub use stream::{WATCHERS_MAX, WatchOutput, WatchRefusal, WatchRequest, WatchStep, WatchStream};
pub use watching::WatchFigures;
pub(crate) use watching::Watching;
