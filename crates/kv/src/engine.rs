//! The engine's border: what the store asks of whatever keeps its rows.
//!
//! Seven calls: a snapshot to read from, a transaction to write in, a way to go on reading when
//! there is no space to write, the size; a snapshot reads one row, walks all rows and gives the meta data back; a transaction appends, removes and notes.

use std::sync::Arc;

use bytes::Bytes;

use crate::command::{Alarm, Member};
use crate::row::{Revision, RowError, RowKey};

/// What the engine notes beside rows, as of the last commit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Meta {
    /// The number of commits: tells whether a commit that failed has happened after all.
    pub(crate) commits: u64,
    /// The last log index whose effects are in.
    pub(crate) applied: u64,
    /// The node's record as of that index.
    pub(crate) record: Bytes,
    /// The store's revision as of that index.
    pub(crate) revision: i64,
    /// The last compaction asked for.
    pub(crate) compact_scheduled: Option<i64>,
    /// The last compaction whose rows are all removed.
    pub(crate) compact_finished: Option<i64>,
    /// What the members publish.
    pub(crate) members: Vec<Member>,
    /// The alarms that are raised.
    pub(crate) alarms: Vec<Alarm>,
}

/// Keeps rows durably.
pub(crate) trait Engine: Send + Sync {
    /// The engine's present state, which later commits do not change.
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, EngineError>;
    /// Starts a transaction. There is at most one.
    fn begin(&self) -> Result<Box<dyn Transaction>, EngineError>;
    /// The same file for reading alone, for when this engine failed for lack of space. What was
    /// durable can be read; the file is not written.
    fn aside(&self) -> Result<Arc<dyn Engine>, EngineError>;
    /// The bytes that the engine occupies on disk.
    fn size(&self) -> u64;
}

/// What a walk over rows calls with each row's key and sealed value.
pub(crate) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), EngineError> + 'a;

/// The engine's state at one moment.
pub(crate) trait Snapshot: Send {
    /// One row's sealed value.
    fn row(&self, row_key: &RowKey) -> Result<Option<Bytes>, EngineError>;
    /// All rows in the order of their revisions.
    fn rows(&self, visit: &mut Visit<'_>) -> Result<(), EngineError>;
    /// What stands beside rows; `None` in an engine that is new.
    fn meta(&self) -> Result<Option<Meta>, EngineError>;
}

/// Writes that become durable together.
pub(crate) trait Transaction: Send {
    /// Adds rows, which come in the order of their revisions, from one transaction to the next too.
    fn append(
        &mut self,
        rows: &mut dyn Iterator<Item = (RowKey, &[u8])>,
    ) -> Result<(), EngineError>;
    /// Removes rows and answers the bytes that they counted. A row that is not there is damage.
    fn remove(&mut self, rows: &[RowKey]) -> Result<u64, EngineError>;
    /// Notes what a member publishes.
    fn set_member(&mut self, member: &Member) -> Result<(), EngineError>;
    /// Notes that an alarm is raised, or that it is not.
    fn set_alarm(&mut self, alarm: Alarm, raised: bool) -> Result<(), EngineError>;
    /// Notes the rest of the meta data; members and alarms have calls of their own.
    fn set_meta(&mut self, meta: &Meta) -> Result<(), EngineError>;
    /// Makes the transaction durable.
    fn commit(self: Box<Self>) -> Result<(), EngineError>;
}

/// Why the engine failed. None of these is an answer to a client: the member must stop, save for
/// [`EngineError::NoSpace`], after which the engine can be opened again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EngineError {
    /// The disk is full. What was not committed is still in memory.
    NoSpace(String),
    /// Reading or writing failed.
    Io(String),
    /// The engine was given up after an earlier failure, and is not open again yet.
    Unavailable,
    /// The engine's own structure is damaged.
    Corrupted(String),
    /// A row does not pass its check.
    Damaged {
        /// The row.
        revision: Revision,
        /// What is wrong with it.
        reason: String,
    },
    /// A row that must be there is not.
    Missing(Revision),
    /// The notes beside the rows contradict them.
    Meta(String),
    /// The file was written in a format that this build does not know.
    Format(u64),
}

impl EngineError {
    pub(crate) fn damaged(revision: Revision, error: RowError) -> EngineError {
        EngineError::Damaged { revision, reason: error.to_string() }
    }
}

impl std::fmt::Display for EngineError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            EngineError::NoSpace(error) => {
                write!(f, "the store's disk is full ({error}); free some space")
            }
            EngineError::Io(error) => {
                write!(f, "the store's file cannot be read or written ({error}); check the disk")
            }
            EngineError::Unavailable => {
                write!(f, "the store's file failed before and is not open; see the first failure")
            }
            EngineError::Corrupted(error) => write!(
                f,
                "the store's file is damaged ({error}); replace this member's data by a copy from \
                 the others"
            ),
            EngineError::Damaged { revision: Revision { main, sub }, reason } => write!(
                f,
                "the store's row {main}.{sub} is damaged ({reason}); replace this member's data by \
                 a copy from the others"
            ),
            EngineError::Missing(Revision { main, sub }) => write!(
                f,
                "the store's row {main}.{sub} is missing; replace this member's data by a copy \
                 from the others"
            ),
            EngineError::Meta(what) => write!(
                f,
                "the store's notes contradict its rows ({what}); replace this member's data by a \
                 copy from the others"
            ),
            EngineError::Format(version) => write!(
                f,
                "the store's file has format {version}, this build knows {}; run a build that \
                 knows it",
                crate::redb_engine::FORMAT_VERSION
            ),
        }
    }
}

impl std::error::Error for EngineError {}

/// Stands for an engine that failed and cannot even be read, until it is open again.
pub(crate) struct Unavailable;

impl Engine for Unavailable {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, EngineError> {
        Err(EngineError::Unavailable)
    }

    fn begin(&self) -> Result<Box<dyn Transaction>, EngineError> {
        Err(EngineError::Unavailable)
    }

    fn aside(&self) -> Result<Arc<dyn Engine>, EngineError> {
        Err(EngineError::Unavailable)
    }

    fn size(&self) -> u64 {
        0
    }
}
