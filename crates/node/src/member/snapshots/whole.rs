//! Machines that keep nothing durable: their state as bytes, which the node keeps for them.
//!
//! Responsible for when such a state is saved, and for sending and taking one as a whole. Not
//! responsible for the file, which is the driver's ([`crate::SavedState::save`]).

use bytes::{BufMut, Bytes, BytesMut};
use jangada_raft::Index;

use super::super::{Effect, Member};
use crate::machine::StateMachine;
use crate::saved::SavedState;
use crate::snapshot::{Chunk, SnapshotError, SnapshotReader, Snapshots};

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
    pub(in crate::member) fn new(saved: Index, state_bytes: u64) -> Keeping {
        Keeping { saved, saving: false, since_bytes: 0, state_bytes }
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
        let state = self.whole_state();
        self.save(state);
    }

    pub(super) fn save(&mut self, state: Bytes) {
        let keeping = &mut self.snapshots.keeping;
        keeping.saving = true;
        keeping.since_bytes = 0;
        keeping.state_bytes = state.len() as u64;
        let applied = self.record.applied.index;
        let saved = SavedState { applied, record: self.record.encode(), state };
        self.effects.push(Effect::SaveState(saved));
    }

    /// The machine's state as bytes.
    pub(super) fn whole_state(&self) -> Bytes {
        let mut state = Vec::new();
        self.machine.save(&mut state);
        state.into()
    }

    /// What was to be saved is durable.
    pub(in crate::member) fn state_saved(&mut self, applied: Index) {
        let keeping = &mut self.snapshots.keeping;
        keeping.saving = false;
        keeping.saved = keeping.saved.max(applied);
        self.taken_state_saved(applied);
    }

    pub(super) fn is_saving(&self) -> bool {
        self.snapshots.keeping.saving
    }
}

/// Reads a state that is held in memory.
pub(super) struct WholeReader {
    record: Bytes,
    state: Bytes,
    /// Names the state in tokens.
    name: u32,
    at: usize,
    resumes: bool,
}

impl WholeReader {
    /// Starts behind the chunk of `resume` if that was of the same state.
    pub(super) fn new(record: Bytes, state: Bytes, resume: Option<&[u8]>) -> WholeReader {
        let name = crc32c::crc32c(&state);
        let behind = resume.and_then(|token| {
            let (length, at) = token.split_first_chunk::<8>()?;
            let (at, named) = at.split_first_chunk::<8>()?;
            let same = u64::from_le_bytes(*length) == state.len() as u64
                && named == name.to_le_bytes().as_slice();
            let at = usize::try_from(u64::from_le_bytes(*at)).ok()?;
            (same && at < state.len()).then_some(at)
        });
        WholeReader { record, state, name, at: behind.unwrap_or(0), resumes: behind.is_some() }
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
        let end = self.state.len().min(self.at + bytes_max);
        let bytes = self.state.slice(self.at..end);
        self.at = end;
        let mut resume = BytesMut::with_capacity(20);
        resume.put_u64_le(self.state.len() as u64);
        resume.put_u64_le(end as u64);
        resume.put_u32_le(self.name);
        let is_last = end == self.state.len();
        Ok(Chunk { bytes, resume: resume.freeze(), is_last })
    }
}
