//! Builds a store from rows: at a restart, and from what another member has sent.
//!
//! Responsible for checking on the way: each row by its checksum, all of them by their order, their
//! number and the sum of their checksums, and the newest revision against the notes.

use crate::bulk::Bulk;
use crate::engine::{EngineError, Meta};
use crate::history::History;
use crate::record::Name;
use crate::row::{Revision, RowKey, decode_message, unseal};
use crate::store::Store;
use crate::tally::Tally;

/// A store that is being built.
pub(crate) struct Rebuild {
    store: Store,
    bulk: Bulk,
    last: Revision,
    tally: Tally,
}

impl Rebuild {
    /// A store without rows.
    pub(crate) fn new(history: History) -> Rebuild {
        Rebuild {
            store: Store::new(history),
            bulk: Bulk::default(),
            last: Revision::default(),
            tally: Tally::default(),
        }
    }

    /// Takes the next row.
    pub(crate) fn row(&mut self, row_key: &[u8], sealed: &[u8]) -> Result<(), EngineError> {
        let (revision, tombstone) =
            RowKey::decode(row_key).map_err(|error| EngineError::damaged(self.last, error))?;
        let row = unseal(row_key, sealed).and_then(decode_message);
        let row = row.map_err(|error| EngineError::damaged(revision, error))?;
        if revision <= self.last {
            let reason = "it stands out of order".to_owned();
            return Err(EngineError::Damaged { revision, reason });
        }
        self.store.restore_row(&mut self.bulk, Name { revision, tombstone }, &row);
        self.tally.add(sealed);
        self.last = revision;
        Ok(())
    }

    /// Whether the rows come to what is noted of them.
    pub(crate) fn check_tally(&self, noted: Tally) -> Result<(), EngineError> {
        self.tally.check(noted)
    }

    /// The store, with what stands beside rows.
    pub(crate) fn finish(self, meta: &Meta) -> Result<Store, EngineError> {
        let Rebuild { mut store, bulk, .. } = self;
        store.restore_rest(bulk, meta).map_err(|lease| {
            EngineError::Meta(format!("a key holds lease {lease:x}, which is not among them"))
        })?;
        if store.revision() != meta.revision && !canon!(revision_falls_after_a_compaction) {
            return Err(EngineError::Meta(format!(
                "they name revision {}, the rows end at {}",
                meta.revision,
                store.revision()
            )));
        }
        Ok(store)
    }

    /// The store of an engine that has noted nothing yet.
    pub(crate) fn finish_empty(self) -> Result<Store, EngineError> {
        if self.tally != Tally::default() {
            return Err(EngineError::Meta("there are rows and no notes".to_owned()));
        }
        Ok(self.store)
    }
}
