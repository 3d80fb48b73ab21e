//! The store as a stream of chunks, for a member that cannot be brought up to date from the log.
//!
//! Responsible for reading one state of the store, the one as of one log index, while the store goes
//! on. The state of a machine with an engine is the one that the engine holds durably, behind which
//! alone the log is cut. The stream is read row by row, so what it takes of memory is a chunk.
//!
//! A stream that broke off goes on behind the last row that came, also in a newer state, if no
//! compaction beyond that row was made between the two ([`Place::goes_on_in`] says why). What the
//! receiver then holds beyond the newer state are rows that a compaction has removed since, which the
//! receiver's own compaction finds and removes.
//!
//! Invariants:
//! 1. All chunks of a stream are of one state.
//! 2. Each row passes its checksum before it is sent.

use std::sync::Arc;

use bytes::Bytes;

use crate::chunk::{self, Filling, Place, State};
use crate::engine::{Engine, EngineError, Meta, Next, Snapshot, Table};
use crate::record::{Content, Name};
use crate::row::{Revision, RowKey, unseal};

/// What a chunk is filled up to unless a caller says otherwise. 256 KiB: a few milliseconds of a
/// gigabit link, so that what is more urgent does not wait behind it for long.
pub const CHUNK_BYTES: usize = 256 << 10;

/// One state of the store, read as a stream of chunks.
///
/// While it lives the engine's file keeps the pages of that state, and grows by what is changed
/// meanwhile. One who sends slowly can drop it and go on with a new one from the same place.
pub struct SnapshotStream {
    meta: Meta,
    source: Source,
    place: Place,
    /// How many leases were given.
    leases: usize,
    ended: bool,
}

/// Where the rows come from.
enum Source {
    Engine {
        snapshot: Box<dyn Snapshot>,
        engine: Arc<dyn Engine>,
    },
    /// All rows that are left, from the oldest on.
    Memory(std::vec::IntoIter<MemoryRow>),
}

/// A row of a store without an engine.
pub(crate) struct MemoryRow {
    pub(crate) name: Name,
    pub(crate) key: Bytes,
    pub(crate) content: Content,
}

impl MemoryRow {
    /// The row as an engine would hold it.
    fn seal(&self, sealed: &mut Vec<u8>) -> RowKey {
        let row_key = RowKey::new(self.name.revision, self.name.tombstone);
        sealed.clear();
        self.content.row(&self.key, self.name).encode_sealed(&row_key, sealed);
        row_key
    }
}

impl SnapshotStream {
    /// The engine's present state behind a place; from the beginning, if what was read up to that
    /// place does not go on in it. `None` if the engine holds nothing yet.
    pub(crate) fn of_engine(
        engine: Arc<dyn Engine>,
        resume: Place,
    ) -> Result<Option<SnapshotStream>, EngineError> {
        let snapshot = engine.snapshot()?;
        let Some(meta) = snapshot.meta()? else {
            return Ok(None);
        };
        let place = from(resume, &meta);
        let source = Source::Engine { snapshot, engine };
        Ok(Some(SnapshotStream { meta, source, place, leases: 0, ended: false }))
    }

    /// A state in memory, whose rows come from the oldest on.
    pub(crate) fn of_memory(
        mut meta: Meta,
        mut rows: Vec<MemoryRow>,
        resume: Place,
    ) -> SnapshotStream {
        let mut sealed = Vec::new();
        for row in &rows {
            row.seal(&mut sealed);
            meta.tally.add(&sealed);
        }
        let place = from(resume, &meta);
        if let Some(after) = place.after {
            let (after, _) = RowKey::decode(after.as_bytes()).expect("a row key is one");
            rows.retain(|row| after < row.name.revision);
        }
        let source = Source::Memory(rows.into_iter());
        SnapshotStream { meta, source, place, leases: 0, ended: false }
    }

    /// The log index as of which the state is.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.meta.applied
    }

    /// The node's record as of that index.
    #[must_use]
    pub fn record(&self) -> &Bytes {
        &self.meta.record
    }

    /// Whether the stream begins at the first row: what a receiver has got before is of no use.
    #[must_use]
    pub fn is_at_beginning(&self) -> bool {
        self.place.after.is_none()
    }

    /// Where the stream stands, for one who asks for another to [go on](crate::Machine::snapshot).
    #[must_use]
    pub fn place(&self) -> Bytes {
        self.place.encode()
    }

    /// Whether the last chunk was given.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// The next chunk, of `bytes_max` bytes at most, or one row where a row is longer than that. The
    /// last chunk holds what stands beside rows, and may be longer. `None` behind the last.
    ///
    /// # Errors
    /// The engine cannot be read or is damaged.
    pub fn next_chunk(&mut self, bytes_max: usize) -> Result<Option<Bytes>, EngineError> {
        if self.ended {
            return Ok(None);
        }
        let mut filling = Filling::new(self.place);
        let mut last = self.place.after;
        match &mut self.source {
            Source::Engine { snapshot, engine } => {
                if canon!(snapshot_is_read_from_two_transactions) {
                    *snapshot = engine.snapshot()?;
                }
                snapshot.rows_after(
                    Table::Rows,
                    self.place.after.as_ref(),
                    &mut |key, sealed| {
                        if !filling.has_room_for(key, sealed, bytes_max) {
                            return Ok(Next::Stop);
                        }
                        last = Some(checked(key, sealed)?);
                        filling.push(key, sealed);
                        Ok(Next::Go)
                    },
                )?;
            }
            Source::Memory(rows) => {
                let mut sealed = Vec::new();
                while let Some(row) = rows.as_slice().first() {
                    let row_key = row.seal(&mut sealed);
                    if !filling.has_room_for(row_key.as_bytes(), &sealed, bytes_max) {
                        break;
                    }
                    filling.push(row_key.as_bytes(), &sealed);
                    last = Some(row_key);
                    rows.next();
                }
            }
        }
        if filling.is_empty() {
            let left = &self.meta.leases[self.leases..];
            if !left.is_empty() {
                let part = &left[..left.len().min(chunk::leases_max(bytes_max))];
                let bytes = chunk::leases(self.place, self.leases, part);
                self.leases += part.len();
                return Ok(Some(bytes));
            }
            self.ended = true;
            return Ok(Some(chunk::end(&self.meta, self.place.after)));
        }
        self.place.after = last;
        Ok(Some(filling.finish()))
    }
}

/// Where a stream of a state begins that is asked to go on from a place.
fn from(resume: Place, meta: &Meta) -> Place {
    let state = State::of(meta);
    Place { state, after: resume.after.filter(|_| resume.goes_on_in(&state)) }
}

/// The key of a row that passes its checksum.
fn checked(key: &[u8], sealed: &[u8]) -> Result<RowKey, EngineError> {
    let (revision, tombstone) =
        RowKey::decode(key).map_err(|error| EngineError::damaged(Revision::default(), error))?;
    unseal(key, sealed).map_err(|error| EngineError::damaged(revision, error))?;
    Ok(RowKey::new(revision, tombstone))
}
