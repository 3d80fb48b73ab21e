//! Machines that keep nothing durable: their state as bytes, which the node keeps for them.
//!
//! Responsible for when such a state is saved, and for sending and taking one as a whole. Not
//! responsible for the file, which is the driver's ([`crate::SavedState::save`]).
//!
//! Where the machine offers a view its state is written by the driver, away from the member's thread:
//! when it is saved, and when the first chunk is read of what is sent.

use bytes::{BufMut, Bytes, BytesMut};
use jangada_raft::Index;

use super::super::{Effect, Member};
use crate::machine::StateMachine;
use crate::saved::{StateSaved, UnsavedState};
use crate::snapshot::{Chunk, SnapshotError, SnapshotReader, Snapshots, WholeState};

/// The most bytes of such a state: it is held in memory as a whole while it is sent and taken.
pub(super) const WHOLE_BYTES_MAX: usize = 1 << 30;

/// What is saved for a machine that keeps nothing durable.
#[derive(Debug, Default)]
pub(in crate::member) struct Keeping {
    /// The last entry that is covered by what is saved, durably.
    pub(in crate::member) saved: Index,
    /// Whether the driver is saving a state.
    saving: bool,
    /// The bytes of entries applied since the last state was saved.
    since_bytes: u64,
    /// The size of that state.
    state_bytes: u64,
}

impl Keeping {
    pub(in crate::member) fn new(StateSaved { applied, bytes }: StateSaved) -> Keeping {
        Keeping { saved: applied, saving: false, since_bytes: 0, state_bytes: bytes }
    }

    pub(in crate::member) fn applied(&mut self, bytes: u64) {
        self.since_bytes += bytes;
    }
}

impl<M: StateMachine> Member<M> {
    /// The last index that the machine holds durably, by itself or by what is saved for it.
    pub(in crate::member) fn machine_durable(&self) -> Index {
        match self.machine.snapshots() {
            Snapshots::Whole => self.snapshots.keeping.saved,
            Snapshots::None | Snapshots::Streamed => self.machine.durable_index(),
        }
    }

    /// Saves the machine's state once more has been applied than it is large, so that the disk writes
    /// no more than twice what the log does.
    pub(super) fn save_when_due(&mut self) {
        if self.machine.snapshots() != Snapshots::Whole {
            return;
        }
        let keeping = &self.snapshots.keeping;
        let due_bytes = self.options.save_after_bytes.max(keeping.state_bytes);
        // As for an engine: what is not committed and durable here may not be in the log any more
        // after a crash.
        let safe = self.record.applied.index <= self.log_safe;
        if keeping.saving || keeping.since_bytes < due_bytes || !safe || self.is_paused() {
            return;
        }
        self.save();
    }

    fn save(&mut self) {
        let keeping = &mut self.snapshots.keeping;
        keeping.saving = true;
        keeping.since_bytes = 0;
        let (applied, record) = (self.record.applied.index, self.record.encode());
        let state = WholeState::of(&self.machine);
        self.effects.push(Effect::SaveState(UnsavedState { applied, record, state }));
    }

    /// What was to be saved is durable.
    pub(in crate::member) fn state_saved(&mut self, StateSaved { applied, bytes }: StateSaved) {
        let keeping = &mut self.snapshots.keeping;
        keeping.saving = false;
        keeping.saved = keeping.saved.max(applied);
        keeping.state_bytes = bytes;
        self.taken_state_saved(applied);
    }

    pub(super) fn is_saving(&self) -> bool {
        self.snapshots.keeping.saving
    }
}

/// Reads a state as a whole.
pub(super) struct WholeReader {
    record: Bytes,
    state: Reading,
    resumes: bool,
}

enum Reading {
    /// Nothing was read yet; the token to resume from, if there is one.
    Unwritten(WholeState, Option<Bytes>),
    /// From where on it is to be read.
    At(WrittenState, usize),
}

/// A state as bytes, and what names it in tokens.
struct WrittenState {
    state: Bytes,
    name: u32,
}

impl WrittenState {
    /// The place behind the chunk of this token, if that was of the same state.
    fn behind(&self, token: &[u8]) -> Option<usize> {
        let (length, at) = token.split_first_chunk::<8>()?;
        let (at, named) = at.split_first_chunk::<8>()?;
        let same = u64::from_le_bytes(*length) == self.state.len() as u64
            && named == self.name.to_le_bytes().as_slice();
        let at = usize::try_from(u64::from_le_bytes(*at)).ok()?;
        (same && at < self.state.len()).then_some(at)
    }

    fn token(&self, at: usize) -> Bytes {
        let mut token = BytesMut::with_capacity(20);
        token.put_u64_le(self.state.len() as u64);
        token.put_u64_le(at as u64);
        token.put_u32_le(self.name);
        token.freeze()
    }
}

impl WholeReader {
    /// Starts behind the chunk of `resume` if that was of the same state.
    pub(super) fn new(record: Bytes, state: WholeState, resume: Option<&[u8]>) -> WholeReader {
        let resume = resume.map(Bytes::copy_from_slice);
        WholeReader { record, state: Reading::Unwritten(state, resume), resumes: false }
    }
}

impl SnapshotReader for WholeReader {
    fn record(&self) -> Bytes {
        self.record.clone()
    }

    fn resumes(&self) -> bool {
        self.resumes
    }

    fn next(&mut self, bytes_max: usize) -> Result<Chunk, SnapshotError> {
        let empty = Reading::Unwritten(WholeState::from(Bytes::new()), None);
        let (written, at) = match std::mem::replace(&mut self.state, empty) {
            Reading::At(written, at) => (written, at),
            Reading::Unwritten(state, resume) => {
                let state = state.into_bytes();
                let written = WrittenState { name: crc32c::crc32c(&state), state };
                let behind = resume.and_then(|token| written.behind(&token));
                self.resumes = behind.is_some();
                (written, behind.unwrap_or(0))
            }
        };
        let end = written.state.len().min(at + bytes_max);
        let chunk = Chunk {
            bytes: written.state.slice(at..end),
            resume: written.token(end),
            is_last: end == written.state.len(),
        };
        self.state = Reading::At(written, end);
        Ok(chunk)
    }
}
