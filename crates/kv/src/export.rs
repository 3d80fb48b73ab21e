//! One state of the store as etcd would hold it: for a snapshot that etcd's tools read.
//!
//! Responsible for one consistent state and for the rows without what is ours. Not responsible for the
//! file that they are written to.
//!
//! Invariants:
//! 1. All of it is as of one applied index: one read transaction of the engine.
//! 2. Each row passes its checksum before it is handed out.

use bytes::Bytes;

use crate::KvError;
use crate::auth::Auth;
use crate::command::{Alarm, Member};
use crate::engine::{EngineError, Meta, Next, Snapshot, Table};
use crate::history::History;
use crate::lease::Lease;
use crate::row::{Revision, RowKey, unseal};
use crate::shared::Shared;
use crate::snapshot::MemoryRow;

/// One state of the store.
///
/// While it lives the engine's file keeps the pages of that state, and grows by what is changed
/// meanwhile.
pub struct Export {
    meta: Meta,
    rows: Rows,
}

enum Rows {
    Engine(Box<dyn Snapshot>),
    /// Of a store without an engine: keys and messages.
    Memory(Vec<(RowKey, Vec<u8>)>),
}

impl Shared {
    /// The state that the engine holds durably; without an engine the present one. Whoever wants to
    /// have an entry in it waits for [`Shared::durable_index`], and may hasten that
    /// ([`Shared::commit_soon`]).
    ///
    /// # Errors
    /// [`KvError::Corrupt`] if the engine cannot be read; [`KvError::NoSpace`] while it waits for
    /// space and cannot be read meanwhile.
    pub fn export(&self) -> Result<Export, KvError> {
        self.export_state().map_err(|error| self.fail(error))
    }

    fn export_state(&self) -> Result<Export, EngineError> {
        let view = self.read();
        let store = view.store();
        match store.history() {
            History::Engine { engine, .. } => {
                let engine = std::sync::Arc::clone(engine);
                drop(view);
                let snapshot = engine.snapshot()?;
                let meta = snapshot.meta()?.unwrap_or_default();
                Ok(Export { meta, rows: Rows::Engine(snapshot) })
            }
            History::Memory(contents) => {
                let compacted = Some(store.compact_revision()).filter(|revision| 0 < *revision);
                let meta = Meta {
                    revision: store.revision(),
                    compact_scheduled: compacted,
                    members: view.members(),
                    alarms: view.alarms(),
                    leases: view.leases(),
                    auth: view.auth().clone(),
                    ..Meta::default()
                };
                let rows = store.memory_rows(contents).into_iter().map(|row| {
                    let MemoryRow { name, key, content } = row;
                    let mut message = Vec::new();
                    content.row(&key, name).encode(&mut message);
                    (RowKey::new(name.revision, name.tombstone), message)
                });
                Ok(Export { meta, rows: Rows::Memory(rows.collect()) })
            }
        }
    }
}

/// Is shown each row's key and value.
type Visit<'a, E> = dyn FnMut(&[u8], &[u8]) -> Result<(), E> + 'a;

impl Export {
    /// The log index as of which the state is; 0 where nothing is noted.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.meta.applied
    }

    /// The node's record as of that index; nothing where nothing is noted.
    #[must_use]
    pub fn record(&self) -> &Bytes {
        &self.meta.record
    }

    /// The store's revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.meta.revision
    }

    /// The last compaction asked for, and whether its rows are all removed.
    #[must_use]
    pub fn compaction(&self) -> Option<(i64, bool)> {
        let Meta { compact_scheduled, compact_finished, .. } = &self.meta;
        compact_scheduled.map(|revision| (revision, *compact_finished == Some(revision)))
    }

    /// What the members publish.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.meta.members
    }

    /// The alarms that are raised.
    #[must_use]
    pub fn alarms(&self) -> &[Alarm] {
        &self.meta.alarms
    }

    /// The leases, in the order of their ids.
    #[must_use]
    pub fn leases(&self) -> &[Lease] {
        &self.meta.leases
    }

    /// Users, roles and whether they are in use.
    #[must_use]
    pub fn auth(&self) -> &Auth {
        &self.meta.auth
    }

    /// Goes over all rows in the order of their revisions: etcd's row key, and its `mvccpb.KeyValue`.
    ///
    /// # Errors
    /// The engine cannot be read or is damaged; or what `visit` says.
    pub fn rows<E: From<EngineError>>(&self, visit: &mut Visit<'_, E>) -> Result<(), E> {
        let snapshot = match &self.rows {
            Rows::Engine(snapshot) => snapshot,
            Rows::Memory(rows) => {
                return rows.iter().try_for_each(|(key, message)| visit(key.as_bytes(), message));
            }
        };
        if self.meta.applied == 0 {
            return Ok(());
        }
        let mut refused = None;
        snapshot.rows_after(Table::Rows, None, &mut |row_key, sealed| {
            let (revision, _) = RowKey::decode(row_key)
                .map_err(|error| EngineError::damaged(Revision::default(), error))?;
            let message = unseal(row_key, sealed);
            let message = message.map_err(|error| EngineError::damaged(revision, error))?;
            match visit(row_key, message) {
                Ok(()) => Ok(Next::Go),
                Err(error) => {
                    refused = Some(error);
                    Ok(Next::Stop)
                }
            }
        })?;
        refused.map_or(Ok(()), Err)
    }
}
