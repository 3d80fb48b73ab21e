//! The file format of bbolt, the database that etcd keeps its state in, as far as a snapshot needs it.
//!
//! Responsible for pages: [`plan`] and [`write()`] make a whole file from buckets of sorted entries,
//! front to back, in memory of a few pages; [`Reader`] walks such a file, whoever wrote it, and
//! believes none of its numbers. **Not** responsible for what the buckets are called or hold, nor for
//! changing a file that is there.
//!
//! The bytes stand in `docs/snapshot-file.md`. All numbers are little-endian, as on every machine that
//! etcd runs on.

mod format;
mod read;
mod write;

pub use format::PAGE_BYTES;
pub use read::{Item, ReadError, Reader, Source, WalkError};
pub use write::{Content, Plan, plan, write};
