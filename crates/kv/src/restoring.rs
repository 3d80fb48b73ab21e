//! The machine's part in bringing one member's state to another.
//!
//! Responsible for the two borders: the stream that a member reads of its store, and the chunks that
//! another is given. What they hold is `chunk.rs`, what may be taken `restore.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::chunk::Place;
use crate::engine::{EngineError, Meta};
use crate::history::History;
use crate::machine::{Forgetting, Keeping, Machine};
use crate::rebuild::Rebuild;
use crate::restore::{Incoming, RestoreError, RestoreState};
use crate::shared::Shared;
use crate::signal::Signal;
use crate::snapshot::SnapshotStream;
use crate::staging::Order;
use crate::tally::Tally;

impl Machine {
    /// The store's state as a stream of chunks, for a member that takes it by
    /// [`Machine::restore`]: the state that the engine holds durably, or without an engine the
    /// present one. `resume` is what the receiver's [`Restoration::place`] says, or empty; the
    /// stream goes on there if its state is not older than what the receiver has and no compaction
    /// beyond it came between, and otherwise [begins](SnapshotStream::is_at_beginning) at the first
    /// row. `None` if nothing is durable yet.
    ///
    /// The stream can be read on any thread. Commands go on meanwhile.
    ///
    /// # Errors
    /// The engine cannot be read.
    ///
    /// # Panics
    /// Without an engine: if a batch has begun and not ended.
    pub fn snapshot(&self, resume: &[u8]) -> Result<Option<SnapshotStream>, EngineError> {
        let resume = Place::decode(resume).unwrap_or_default();
        let view = self.shared.read();
        let store = view.store();
        if let Some(engine) = store.history().engine().map(Arc::clone) {
            drop(view);
            return SnapshotStream::of_engine(engine, resume);
        }
        let (Keeping::Memory { forgetting, record, ended }, History::Memory(contents)) =
            (&self.keeping, store.history())
        else {
            unreachable!("machine: without an engine all is kept in memory");
        };
        assert!(self.applied == *ended, "a snapshot is taken between batches");
        if self.applied == 0 {
            return Ok(None);
        }
        let compacted = Some(store.compact_revision()).filter(|revision| 0 <= *revision);
        let meta = Meta {
            commits: 0,
            applied: self.applied,
            record: record.clone(),
            revision: store.revision(),
            compact_scheduled: compacted,
            compact_finished: compacted.filter(|_| matches!(forgetting, Forgetting::Nothing)),
            tally: Tally::default(),
            members: store.members().values().cloned().collect(),
            alarms: store.alarms().iter().copied().collect(),
            leases: store.leases().iter().collect(),
            auth: store.auth().clone(),
        };
        let rows = store.memory_rows(contents);
        drop(view);
        Ok(Some(SnapshotStream::of_memory(meta, rows, resume)))
    }

    /// A place for the state of another member, beside the machine's own. There is one: what an
    /// earlier one was given counts no more.
    ///
    /// # Panics
    /// While an earlier one is being put in force.
    pub fn restore(&mut self) -> Restoration {
        let staging = self.shared.staging();
        assert!(!staging.is_finishing(), "machine invariant 3");
        let rebuild = match self.keeping {
            Keeping::Memory { .. } => Some(Rebuild::new(History::Memory(BTreeMap::new()))),
            Keeping::Engine => None,
        };
        let number = staging.restart(rebuild.is_none().then_some(Order::Begin));
        self.signal.wake();
        let (shared, signal) = (self.shared.clone(), self.signal());
        Restoration { shared, signal, number, incoming: Incoming::default(), rebuild }
    }

    /// The restoration that was begun last is [done](RestoreState::Done): the machine goes on from
    /// its state.
    ///
    /// # Panics
    /// If it is not.
    pub fn installed(&mut self) {
        let meta = self.shared.staging().take_installed();
        let meta = meta.expect("machine: what is installed was put in force before");
        if let Keeping::Memory { forgetting, record, ended } = &mut self.keeping {
            *forgetting = Forgetting::due(&meta);
            (*record, *ended) = (meta.record.clone(), meta.applied);
        }
        self.applied = meta.applied;
        self.recovered = Some(meta.record);
    }
}

/// The state of another member, taken chunk by chunk, until it is put in force in place of a
/// machine's own. Dropped before that, it leaves nothing.
pub struct Restoration {
    shared: Shared,
    signal: Arc<Signal>,
    number: u64,
    incoming: Incoming,
    /// What is built for a machine without an engine.
    rebuild: Option<Rebuild>,
}

impl Restoration {
    /// Takes the next chunk. The engine stages it in the background; see [`Restoration::has_room`].
    ///
    /// # Errors
    /// The chunk is damaged or does not follow: nothing of it is taken, and the restoration goes on
    /// as if it had not come.
    pub fn push(&mut self, chunk: &Bytes) -> Result<(), RestoreError> {
        let Some(rows) = self.incoming.take(chunk)? else {
            return Ok(());
        };
        let Some(rebuild) = &mut self.rebuild else {
            self.shared.staging().push(self.number, Order::Rows(rows));
            self.signal.wake();
            return Ok(());
        };
        for (row_key, sealed) in rows.iter() {
            rebuild.row(row_key.as_bytes(), sealed).map_err(RestoreError::Engine)?;
        }
        Ok(())
    }

    /// Whether the engine keeps up with the chunks. While it does not, give it no more.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.shared.staging().has_room()
    }

    /// What a sender is to be told for it to go on: where the last chunk that was taken ends. Empty
    /// at the beginning.
    #[must_use]
    pub fn place(&self) -> Bytes {
        self.incoming.place().encode()
    }

    /// The log index that the state is as of and the node's record then, once the end has come.
    #[must_use]
    pub fn end(&self) -> Option<(u64, Bytes)> {
        self.incoming.end()
    }

    /// Puts what was taken in force, now that all of it is there, with the node's record as of its
    /// index. With an engine this happens in the background. Until [`Restoration::state`] says that it
    /// is over no command may be applied and no batch ended. The caller has seen to it that the state
    /// is newer than the machine's own, or that its own is worth nothing: it is replaced whatever it
    /// is.
    ///
    /// # Errors
    /// The end has not come, rows are missing, or the state is of another index.
    pub fn finish(&mut self, applied: u64, record: Bytes) -> Result<(), RestoreError> {
        let meta = self.incoming.finish(applied, record)?;
        let staging = self.shared.staging();
        let Some(rebuild) = self.rebuild.take() else {
            staging.push(self.number, Order::Finish(Box::new(meta)));
            self.signal.wake();
            return Ok(());
        };
        let store = rebuild.finish(&meta).map_err(RestoreError::Engine)?;
        // What is freed here is much, and is freed without the lock.
        let before = {
            let mut present = self.shared.write();
            let before = self.shared.replace(&mut present, store);
            self.shared.gauge_auth(&present);
            before
        };
        self.shared.watching().wake();
        drop(before);
        staging.end(self.number, Ok(meta));
        Ok(())
    }

    /// How far it has come.
    #[must_use]
    pub fn state(&self) -> RestoreState {
        self.shared.staging().state(self.number)
    }
}

impl Drop for Restoration {
    fn drop(&mut self) {
        if self.rebuild.is_none() && self.state() == RestoreState::Taking {
            self.shared.staging().push(self.number, Order::Abandon);
            self.signal.wake();
        }
    }
}
