//! The engine's border: what the store asks of whatever keeps its rows.
//!
//! A snapshot to read from, a transaction to write in, a way to go on reading when there is no space
//! to write, the size. A snapshot reads one row, walks rows and gives the meta data back. A
//! transaction appends, removes and notes; it also fills the table in which a state that comes from
//! another member is staged, and puts that in the place of the rows.

use std::sync::Arc;

use bytes::Bytes;

use crate::auth::{Auth, AuthNote};
use crate::command::{Alarm, Member};
use crate::lease::Lease;
use crate::row::{Revision, RowError, RowKey};
use crate::tally::Tally;

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
    /// What the rows come to.
    pub(crate) tally: Tally,
    /// What the members publish.
    pub(crate) members: Vec<Member>,
    /// The alarms that are raised.
    pub(crate) alarms: Vec<Alarm>,
    /// The leases, in the order of their ids. What the writer remembers between commits is without
    /// them.
    pub(crate) leases: Vec<Lease>,
    /// Users and roles, which the writer does not remember either.
    pub(crate) auth: Auth,
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
pub(crate) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<Next, EngineError> + 'a;

/// Whether a walk goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    Go,
    Stop,
}

/// Where rows stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Table {
    /// The rows in force.
    Rows,
    /// Those of a state that comes from another member and is not in force yet.
    Staged,
}

/// The engine's state at one moment.
pub(crate) trait Snapshot: Send {
    /// One row's sealed value.
    fn row(&self, row_key: &RowKey) -> Result<Option<Bytes>, EngineError>;
    /// The rows behind one, or all, in the order of their revisions, until the visitor has enough.
    fn rows_after(
        &self,
        table: Table,
        after: Option<&RowKey>,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError>;
    /// What stands beside rows; `None` in an engine that is new.
    fn meta(&self) -> Result<Option<Meta>, EngineError>;
    /// The number of commits, which an engine counts before it has any meta data.
    fn commits(&self) -> Result<u64, EngineError>;
}

/// Writes that become durable together.
pub(crate) trait Transaction: Send {
    /// Adds rows, which come in the order of their revisions, from one transaction to the next too.
    fn append(
        &mut self,
        table: Table,
        rows: &mut dyn Iterator<Item = (RowKey, &[u8])>,
    ) -> Result<(), EngineError>;
    /// Removes rows and answers what they were. A row that is not there is damage.
    fn remove(&mut self, rows: &[RowKey]) -> Result<Removed, EngineError>;
    /// Drops whatever is staged, and what a staged state has replaced.
    fn drop_staged(&mut self) -> Result<(), EngineError>;
    /// Puts what is staged in the place of the rows, and the rest of a state beside them.
    fn put_staged_in_force(&mut self, meta: &Meta) -> Result<(), EngineError>;
    /// Notes what a member publishes.
    fn set_member(&mut self, member: &Member) -> Result<(), EngineError>;
    /// Forgets what a member has published.
    fn remove_member(&mut self, id: u64) -> Result<(), EngineError>;
    /// Notes that an alarm is raised, or that it is not.
    fn set_alarm(&mut self, alarm: Alarm, raised: bool) -> Result<(), EngineError>;
    /// Notes leases as they stand, or that one is gone, in this order.
    fn set_leases(&mut self, leases: &[(i64, Option<Lease>)]) -> Result<(), EngineError>;
    /// Notes a changed row about users.
    fn set_auth(&mut self, note: &AuthNote) -> Result<(), EngineError>;
    /// Notes the rest of the meta data; members, alarms, leases and users have calls of their own. Before
    /// anything is applied that is the number of commits alone.
    fn set_meta(&mut self, meta: &Meta) -> Result<(), EngineError>;
    /// Makes the transaction durable.
    fn commit(self: Box<Self>) -> Result<(), EngineError>;
}

/// What rows were that have been removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Removed {
    /// The bytes that they counted.
    pub(crate) bytes: u64,
    /// What they came to.
    pub(crate) tally: Tally,
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

    /// Whether what the file holds is damaged: it can be read, and is not what was written. A member
    /// that has others to get a copy from can set the file aside, open a new one and be filled by a
    /// snapshot. After any other error that would help nothing: the disk fails, is full, or the file
    /// is of a newer build.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            EngineError::Corrupted(_)
            | EngineError::Damaged { .. }
            | EngineError::Missing(_)
            | EngineError::Meta(_) => true,
            EngineError::NoSpace(_)
            | EngineError::Io(_)
            | EngineError::Unavailable
            | EngineError::Format(_) => false,
        }
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
