//! The engine writer's part in taking another member's state: rows into a table of their own, read
//! back into a second store, and the change from one to the other.
//!
//! ```text
//!  chunks ─ rows ─► table "staged" ─ several commits ─► read back ─► a second store in memory
//!                                                                        │ under the lock of readers:
//!                            one commit: "staged" becomes "key" ◄────────┘ this, then the stores change
//! ```
//!
//! Reading back comes first, so that what is put in force can be read, and so that memory and engine
//! change in one moment: a reader finds the versions that its store names.
//!
//! What is left in the staging tables, of a restoration that failed or of the state that was replaced,
//! is dropped by a later transaction, or when the engine is opened.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::engine::{EngineError, Meta, Next, Snapshot, Table};
use crate::guard::guarded;
use crate::history::History;
use crate::rebuild::Rebuild;
use crate::restore::RestoreError;
use crate::row::RowKey;
use crate::staging::Order;
use crate::store::Store;
use crate::tally::Tally;
use crate::writer::EngineWriter;

/// How many rows a turn reads back at most, so that whoever shares the processor is not held up for
/// long.
const SLICE_ROWS: usize = 2048;

/// What the writer does about a state from another member.
pub(crate) enum Stage {
    /// Nothing.
    Nothing,
    /// The staging tables may hold something that is to be dropped.
    Leftover,
    /// A call of the engine is under way; what that left behind, if it failed.
    Lost { number: u64 },
    /// Rows are being staged.
    Filling { number: u64, tally: Tally },
    /// All rows are staged durably, and are read back.
    ReadingBack(Box<ReadingBack>),
    /// The transaction that changes the states is being committed.
    Changing { number: u64, store: Box<Store>, meta: Box<Meta> },
}

/// A second store that is being built from the staged rows.
pub(crate) struct ReadingBack {
    number: u64,
    snapshot: Box<dyn Snapshot>,
    after: Option<RowKey>,
    rebuild: Rebuild,
    meta: Meta,
}

impl EngineWriter {
    /// Does a piece of work about a state from another member; answers whether there was any.
    pub(crate) fn stage_slice(&mut self) -> Result<bool, EngineError> {
        if let Some((number, order)) = self.shared.staging().pop() {
            self.follow(number, order)?;
            return Ok(true);
        }
        match std::mem::replace(&mut self.stage, Stage::Nothing) {
            Stage::Leftover => {
                // Once this fails, opening the file anew drops them.
                self.drop_staged()?;
                Ok(true)
            }
            Stage::ReadingBack(reading) => {
                self.read_back(*reading)?;
                Ok(true)
            }
            other => {
                self.stage = other;
                Ok(false)
            }
        }
    }

    fn follow(&mut self, number: u64, order: Order) -> Result<(), EngineError> {
        let stage = std::mem::replace(&mut self.stage, Stage::Lost { number });
        match (order, stage) {
            (Order::Begin, _) => {
                self.drop_staged()?;
                self.stage = Stage::Filling { number, tally: Tally::default() };
            }
            (Order::Rows(rows), Stage::Filling { number, mut tally }) => {
                let open = self.open()?;
                open.bytes += rows.bytes();
                open.live()?.append(Table::Staged, &mut rows.iter())?;
                rows.iter().for_each(|(_, sealed)| tally.add(sealed));
                self.stage = Stage::Filling { number, tally };
                if self.is_full() {
                    self.commit()?;
                }
            }
            (Order::Finish(meta), Stage::Filling { number, tally }) => {
                assert!(tally == meta.tally, "stage: what was taken is what was staged");
                if self.is_open() {
                    self.commit()?;
                }
                let engine = Arc::clone(&self.engine);
                let snapshot = engine.snapshot()?;
                let rebuild = Rebuild::new(History::Engine { engine, queue: VecDeque::new() });
                let (after, meta) = (None, *meta);
                self.stage = Stage::ReadingBack(Box::new(ReadingBack {
                    number,
                    snapshot,
                    after,
                    rebuild,
                    meta,
                }));
            }
            (Order::Abandon, _) => self.stage = Stage::Leftover,
            // What it belongs to has failed already.
            (Order::Rows(_) | Order::Finish(_), stage) => self.stage = stage,
        }
        Ok(())
    }

    fn drop_staged(&mut self) -> Result<(), EngineError> {
        self.open()?.live()?.drop_staged()
    }

    /// Reads back a slice of what is staged; behind the last, changes the states.
    fn read_back(&mut self, mut reading: ReadingBack) -> Result<(), EngineError> {
        self.stage = Stage::Lost { number: reading.number };
        let mut left = SLICE_ROWS;
        let ReadingBack { snapshot, after, rebuild, .. } = &mut reading;
        let mut last = None;
        guarded(|| {
            snapshot.rows_after(Table::Staged, after.as_ref(), &mut |row_key, sealed| {
                rebuild.row(row_key, sealed)?;
                last = RowKey::decode(row_key).ok();
                left -= 1;
                Ok(if left == 0 { Next::Stop } else { Next::Go })
            })
        })?;
        if let Some((revision, tombstone)) = last {
            *after = Some(RowKey::new(revision, tombstone));
        }
        if left == 0 {
            self.stage = Stage::ReadingBack(Box::new(reading));
            return Ok(());
        }
        // Damage here is of this member's own disk.
        reading.rebuild.check_tally(reading.meta.tally)?;
        let ReadingBack { number, rebuild, meta, .. } = reading;
        match guarded(|| rebuild.finish(&meta)) {
            Ok(store) => self.change(number, store, meta),
            Err(error) => {
                self.stage = Stage::Leftover;
                self.shared.staging().end(number, Err(RestoreError::Engine(error)));
                Ok(())
            }
        }
    }

    /// Changes the states, in the engine and in memory, while no reader looks.
    fn change(&mut self, number: u64, store: Store, mut meta: Meta) -> Result<(), EngineError> {
        meta.commits = self.durable.commits + 1;
        self.open()?.live()?.put_staged_in_force(&meta)?;
        let (store, meta) = (Box::new(store), Box::new(meta));
        self.stage = Stage::Changing { number, store, meta };
        let shared = self.shared.clone();
        let mut present = shared.write();
        self.commit_open()?;
        let replaced = self.changed(&mut present);
        drop(present);
        self.shared.watching().wake();
        drop(replaced);
        Ok(())
    }

    /// The engine holds the new state: takes it over, and hands out the one before.
    fn changed(&mut self, present: &mut Store) -> Option<Store> {
        let stage = std::mem::replace(&mut self.stage, Stage::Leftover);
        let Stage::Changing { number, mut store, meta } = stage else {
            self.stage = stage;
            return None;
        };
        if let History::Engine { engine, .. } = store.history_mut() {
            *engine = Arc::clone(&self.engine);
        }
        let replaced = self.shared.replace(present, *store);
        self.shared.gauge_auth(present);
        self.begin_from(&meta);
        let gauges = self.shared.gauges();
        gauges.lag_bytes.store(0, Ordering::Relaxed);
        gauges.durable.store(meta.applied, Ordering::Release);
        self.shared.staging().end(number, Ok(*meta));
        Some(replaced)
    }

    /// The file was opened anew, which has dropped what was staged. A transaction that was under way
    /// has happened or not; answers whether it has changed the states.
    pub(crate) fn stage_reopened(&mut self, happened: bool) -> bool {
        match &self.stage {
            Stage::Changing { .. } if happened => {
                let shared = self.shared.clone();
                let replaced = self.changed(&mut shared.write());
                shared.watching().wake();
                replaced.is_some()
            }
            Stage::Lost { number }
            | Stage::Filling { number, .. }
            | Stage::Changing { number, .. } => self.stage_failed(*number),
            Stage::ReadingBack(reading) => self.stage_failed(reading.number),
            Stage::Nothing | Stage::Leftover => false,
        }
    }

    fn stage_failed(&mut self, number: u64) -> bool {
        self.stage = Stage::Nothing;
        let error = EngineError::NoSpace("the snapshot does not fit".to_owned());
        self.shared.staging().end(number, Err(RestoreError::Engine(error)));
        false
    }
}
