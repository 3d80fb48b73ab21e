//! Takes the state of another member, chunk by chunk, in place of one's own.
//!
//! Responsible for the order and the wholeness of what comes; how it is kept until it is whole is the
//! engine's writer's (`writer.rs`) business, or a second store in memory. Not responsible for
//! deciding whose state to take and whether it is newer: the caller's.
//!
//! Until the end the state in force is the machine's own, for readers, for a restart and for
//! commands. The change itself is one transaction of the engine, and one moment for readers.
//!
//! Invariants:
//! 1. Each chunk follows the last one that was taken, in the same state or one in which that goes
//!    on ([`Place::goes_on_in`]).
//! 2. A state is put in force only when all its rows are there: as many, and with such a sum of
//!    checksums, as its sender counts, if all came from one state of it.

use bytes::Bytes;

use crate::chunk::{Chunk, ChunkError, Content, Place, Rows, decode};
use crate::engine::{EngineError, Meta};
use crate::lease::Lease;
use crate::tally::Tally;

/// Why a state is not taken. What is in force stays as it is; the caller can begin anew.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RestoreError {
    /// The bytes are not a chunk.
    Chunk(ChunkError),
    /// The chunk does not follow the last one that was taken.
    Gap,
    /// The chunk is of an older state than what was taken before, or a compaction stands between
    /// the two.
    Apart,
    /// The chunks do not end yet, or do not come to what their end says.
    Incomplete,
    /// Another restoration was begun.
    Replaced,
    /// The engine has no space, or what was staged in it cannot be read back.
    Engine(EngineError),
}

impl std::fmt::Display for RestoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RestoreError::Chunk(error) => error.fmt(f),
            RestoreError::Gap => {
                write!(f, "the chunk does not follow the last one; go on from where that ends")
            }
            RestoreError::Apart => {
                write!(f, "the chunk is of a state in which those before do not go on; begin anew")
            }
            RestoreError::Incomplete => {
                write!(f, "the snapshot is not whole; begin anew")
            }
            RestoreError::Replaced => write!(f, "another snapshot is taken in place of this one"),
            RestoreError::Engine(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RestoreError {}

impl From<ChunkError> for RestoreError {
    fn from(error: ChunkError) -> RestoreError {
        RestoreError::Chunk(error)
    }
}

/// How far a restoration has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RestoreState {
    /// Chunks are taken.
    Taking,
    /// All chunks are there and are being put in force. No command may be applied.
    Finishing,
    /// The new state is in force, and durable if the machine has an engine.
    Done,
    /// It came to nothing; the state in force is the one before.
    Failed(RestoreError),
}

/// What has been taken so far.
#[derive(Default)]
pub(crate) struct Incoming {
    place: Place,
    tally: Tally,
    sources: Sources,
    /// Of the present state alone.
    leases: Vec<Lease>,
    end: Option<Meta>,
}

/// Whether all chunks are of one state.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Sources {
    #[default]
    One,
    Several,
}

impl Incoming {
    /// The index of the state and the node's record then, once the end has come.
    pub(crate) fn end(&self) -> Option<(u64, Bytes)> {
        self.end.as_ref().map(|meta| (meta.applied, meta.record.clone()))
    }

    /// Where the next chunk must begin.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// Takes a chunk; answers the rows in it.
    pub(crate) fn take(&mut self, bytes: &Bytes) -> Result<Option<Rows>, RestoreError> {
        let Chunk { state, after, content } = decode(bytes)?;
        let another = state != self.place.state;
        if another && !self.place.goes_on_in(&state) {
            return Err(RestoreError::Apart);
        }
        let follows = after == self.place.after && self.end.is_none();
        if !follows && !canon!(restore_is_put_in_force_with_rows_missing) {
            return Err(RestoreError::Gap);
        }
        let have = if another { 0 } else { self.leases.len() };
        match &content {
            // Leases come anew whenever the stream does.
            Content::Leases { before: 0, .. } => self.leases.clear(),
            Content::Leases { before, leases } => {
                let last = self.leases.last().map(|lease| lease.name.id);
                let ascends = last < leases.first().map(|lease| lease.name.id);
                if *before != have || !ascends {
                    return Err(RestoreError::Gap);
                }
            }
            Content::Rows(_) => self.leases.clear(),
            Content::End { leases, .. } if *leases != have => return Err(RestoreError::Gap),
            Content::End { .. } => {}
        }
        if another && self.place.after.is_some() {
            self.sources = Sources::Several;
        }
        self.place.state = state;
        match content {
            Content::Rows(rows) => {
                rows.iter().for_each(|(_, sealed)| self.tally.add(sealed));
                self.place.after = Some(rows.last());
                Ok(Some(rows))
            }
            Content::Leases { leases, .. } => {
                self.leases.extend(leases);
                Ok(None)
            }
            Content::End { meta, .. } => {
                let leases = std::mem::take(&mut self.leases);
                self.end = Some(Meta { leases, ..*meta });
                Ok(None)
            }
        }
    }

    /// The rest of the state, now that it is whole (invariant 2).
    pub(crate) fn finish(&self, applied: u64, record: Bytes) -> Result<Meta, RestoreError> {
        let mut meta = self.end.clone().ok_or(RestoreError::Incomplete)?;
        if meta.applied != applied {
            return Err(RestoreError::Incomplete);
        }
        meta.record = record;
        match self.sources {
            Sources::One => {
                let whole = meta.tally == self.tally;
                if !whole && !canon!(restore_is_put_in_force_with_rows_missing) {
                    return Err(RestoreError::Incomplete);
                }
            }
            // What the newest of the states has removed already may be among the rows.
            Sources::Several => meta.compact_finished = None,
        }
        meta.tally = self.tally;
        Ok(meta)
    }
}
