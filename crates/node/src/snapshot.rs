//! What a state machine offers of snapshots (§7): a consistent view of its state, read chunk by chunk
//! while applying goes on, and a place where another member's snapshot is staged.
//!
//! Both are objects that live beside the machine, so that a runtime may work on them on another
//! thread, and a simulation by turns. Not here: how chunks travel, and when a snapshot is taken or
//! sent; those are the member's.
//!
//! Invariants of whoever implements them:
//! 1. A view is of one applied index, whatever is applied while it is read.
//! 2. Until a stage has been told to finish, nothing of it is seen; once it says that it is done, all of
//!    it is durable. A crash in between leaves the old state or the new one.

use bytes::Bytes;
use jangada_raft::Index;

/// What a state machine offers of snapshots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Snapshots {
    /// None. The log is never cut, for it is all there is to build the machine anew from: fit for
    /// machines that are built anew at each start. One that keeps its state durably is warned of
    /// ([`crate::Concern`]): if its log ever loses its beginning, to damage or to a backup of the state
    /// alone, nothing brings a new member up to date.
    None,
    /// The machine keeps nothing durable, and its state can be written as bytes as a whole:
    /// [`crate::StateMachine::save`], or [`crate::StateMachine::view`] for a large one, and
    /// [`crate::StateMachine::load`]. The node keeps them in a file
    /// and cuts the log behind it.
    Whole,
    /// The machine is durable itself, reads views chunk by chunk and stages what it is sent:
    /// [`crate::StateMachine::snapshot`], [`crate::StateMachine::stage`] and
    /// [`crate::StateMachine::installed`].
    Streamed,
}

/// A view of the whole state of a machine: writes it as bytes, once, perhaps on another thread and
/// while the machine goes on applying. See [`crate::StateMachine::view`].
pub type StateView = Box<dyn FnOnce(&mut Vec<u8>) + Send>;

/// The whole state of a machine, written as bytes or still to be.
pub struct WholeState(Written);

enum Written {
    Bytes(Bytes),
    View(StateView),
}

impl WholeState {
    /// The machine's state as it is now: a view, if it offers one, and bytes if not.
    pub fn of<M: crate::StateMachine>(machine: &M) -> WholeState {
        WholeState(match machine.view() {
            Some(view) => Written::View(view),
            None => {
                let mut state = Vec::new();
                machine.save(&mut state);
                Written::Bytes(state.into())
            }
        })
    }

    /// The state's bytes. This may take long where there was a view.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Written::Bytes(bytes) => bytes,
            Written::View(write) => {
                let mut state = Vec::new();
                write(&mut state);
                state.into()
            }
        }
    }
}

impl From<Bytes> for WholeState {
    fn from(bytes: Bytes) -> WholeState {
        WholeState(Written::Bytes(bytes))
    }
}

impl std::fmt::Debug for WholeState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Written::Bytes(bytes) => write!(f, "WholeState({} bytes)", bytes.len()),
            Written::View(_) => write!(f, "WholeState(a view)"),
        }
    }
}

/// The state of a machine as of one applied index, read chunk by chunk.
pub trait SnapshotReader: Send {
    /// The node's record of that index: what was given with the batch that ended there
    /// ([`crate::StateMachine::end_batch`]).
    fn record(&self) -> Bytes;

    /// Whether the first chunk follows on the token that was given to
    /// [`crate::StateMachine::snapshot`]; if not, it starts from nothing. Asked once that chunk is read.
    fn resumes(&self) -> bool;

    /// The next chunk, of about `bytes_max` bytes: what cannot be divided may go beyond, up to
    /// [`CHUNK_BYTES_MAX`]. Not called again after the last one.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn next(&mut self, bytes_max: usize) -> Result<Chunk, SnapshotError>;
}

/// A part of a snapshot. It arrives whole, and exactly as it was cut.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// The machine's own bytes; none only in a last chunk.
    pub bytes: Bytes,
    /// From where a transfer that breaks after this chunk may go on: the machine's own, at most
    /// [`RESUME_BYTES_MAX`] bytes.
    pub resume: Bytes,
    /// Whether the snapshot ends here.
    pub is_last: bool,
}

/// The most bytes of one chunk: the largest single thing that a command can hold, and some room.
pub const CHUNK_BYTES_MAX: usize = 63 << 20;

/// The most bytes of a token to resume from: a few numbers and a key.
pub const RESUME_BYTES_MAX: usize = 4 << 10;

/// Where a snapshot is put together beside the machine's present state. Dropped before it is done, it
/// leaves nothing that counts.
///
/// After each order ([`SnapshotStage::push`], [`SnapshotStage::finish`]) it is given turns until it
/// says [`Turn::Done`]; then the next order may follow.
pub trait SnapshotStage: Send {
    /// Takes the next chunk, in the order in which the reader gave them.
    fn push(&mut self, chunk: Bytes);

    /// All chunks are there: makes what is staged the machine's durable state, in one step, with the
    /// node's record as of `applied`. Nothing is applied meanwhile.
    fn finish(&mut self, applied: Index, record: Bytes);

    /// Does a part of the work.
    ///
    /// # Errors
    /// Why it cannot be done.
    fn turn(&mut self) -> Result<Turn, SnapshotError>;
}

/// What came of a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// There is more to do at once.
    More,
    /// There is more to do, but not before so many microseconds have passed.
    Wait(u64),
    /// The order is carried out: the chunk is staged, or all is durable.
    Done,
}

/// Why a snapshot cannot be read or taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SnapshotError {
    /// The machine has none to give at the moment. Asked again after a while.
    Unavailable,
    /// What came is no snapshot that this machine understands, in a sentence. The transfer is given
    /// up.
    Unfit(String),
    /// There is no space. The transfer is given up and tried again after a while.
    Full,
    /// What the machine keeps is broken, in a sentence: the process has to stop.
    Broken(String),
}

impl std::fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SnapshotError::Unavailable => {
                write!(f, "the state machine has no snapshot to give at the moment")
            }
            SnapshotError::Unfit(sentence) => {
                write!(f, "the state machine does not take the snapshot: {sentence}")
            }
            SnapshotError::Full => {
                write!(f, "there is no space for the snapshot; free some space on the disk")
            }
            SnapshotError::Broken(sentence) => f.write_str(sentence),
        }
    }
}

impl std::error::Error for SnapshotError {}
