//! The durable log: segments on disk, group commit, recovery.
//!
//! Responsible for: what a member must find again after a crash (figure 2, "persistent state"):
//! term, vote, the log, the configuration its base stands on, and a small opaque note. **Not**
//! responsible for what the entries mean, for when to write, or for threads: [`Wal`] is stepped by
//! its owner. The bytes, the disk model and the argument for every crash point stand in
//! `docs/log-format.md`.
//!
//! Invariants of the log, asserted under these numbers:
//!
//! 1. One batch is outstanding: a batch is written only when the one before it is durable.
//! 2. Indexes are contiguous from the base on, terms never fall, and no entry's term is above the
//!    term in force in its batch (so that an entry of a term is never durable before the term).
//! 3. Term and vote never go back, and a vote is not changed within a term.
//! 4. Only the first batch of a segment drops entries: the segment's `start` says behind which one.
//! 5. Nothing durable is written over, ever, until [`Wal::cut`] has released the whole segment.
//! 6. What rot has taken and the machine lacks is known by name, or the log is marked as recovering.
//! 7. After a failed sync or write nothing more is done: the log is poisoned.

mod batch;
mod disk;
mod error;
mod file;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod inspect;
mod judge;
mod layout;
mod machine;
mod memory;
mod options;
mod owner;
mod prepare;
mod reader;
mod recover;
mod segment;
mod state;
mod table;
mod wal;
mod window;

pub use batch::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX};
pub use disk::{Disk, File};
pub use error::{OpenError, WalError};
pub use file::{FileDisk, FileDiskFile};
pub use layout::Place;
pub use machine::Machine;
pub use memory::{MemoryDisk, MemoryFile};
pub use options::{Identity, Options};
pub use owner::owner;
pub use prepare::{Preparation, Prepared};
pub use recover::{Lost, Recovered, Report, RotCut};
pub use segment::NOTE_BYTES_MAX;
pub use wal::{Anew, Batch, Space, Wal, Weight};
