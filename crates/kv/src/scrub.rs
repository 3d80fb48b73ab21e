//! Looks for damage in the engine's rows while the member runs.
//!
//! Responsible for a walk over all rows of one state, a slice at a time: each row is held against its
//! checksum, and in the end their number and the sum of their checksums against what the engine has
//! noted of that state, so that a row that is gone is noticed too. Not responsible for the pace,
//! nor for what is done about damage: the caller's.
//!
//! What it reads may come from the system's memory and not from the disk, as with every check that
//! reads a file; rows that were not touched for long are the ones that are read from there.

use std::sync::Arc;

use crate::engine::{EngineError, Meta, Next, Snapshot, Table};
use crate::guard::guarded;
use crate::row::{Revision, RowKey, decode_message, unseal};
use crate::shared::Shared;
use crate::tally::Tally;

/// What a turn of the scrub came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scrubbed {
    /// There are more rows.
    More,
    /// A round is over: so many rows are sound, and complete. The next turn begins another.
    Round {
        /// The number of rows.
        rows: u64,
    },
    /// There is nothing to read: no engine, nothing durable, or an engine that waits for space.
    Nothing,
}

/// A walk over the engine's rows, round after round.
///
/// While a round lasts the engine's file keeps the pages of the state that it began with, and grows
/// by what is changed meanwhile; so a round should not take hours.
pub struct Scrub {
    shared: Shared,
    round: Option<Round>,
}

struct Round {
    snapshot: Box<dyn Snapshot>,
    meta: Meta,
    after: Option<RowKey>,
    tally: Tally,
}

impl Scrub {
    pub(crate) fn new(shared: Shared) -> Scrub {
        Scrub { shared, round: None }
    }

    /// Looks at `rows_max` rows at most.
    ///
    /// # Errors
    /// The first damage found, or that the file cannot be read. The round is over; what is served
    /// from memory is not concerned, but a version that memory has let go may be.
    pub fn turn(&mut self, rows_max: usize) -> Result<Scrubbed, EngineError> {
        let walked = guarded(|| self.walk(rows_max));
        if !matches!(walked, Ok(Scrubbed::More)) {
            self.round = None;
        }
        match walked {
            Err(EngineError::NoSpace(_) | EngineError::Unavailable) => Ok(Scrubbed::Nothing),
            other => other,
        }
    }

    fn walk(&mut self, rows_max: usize) -> Result<Scrubbed, EngineError> {
        let round = match &mut self.round {
            Some(round) => round,
            None => match self.begin()? {
                Some(round) => self.round.insert(round),
                None => return Ok(Scrubbed::Nothing),
            },
        };
        let Round { snapshot, meta, after, tally } = round;
        let mut last = after.map(|row_key| revision(row_key.as_bytes())).transpose()?;
        let (mut left, mut reached) = (rows_max.max(1), *after);
        snapshot.rows_after(Table::Rows, after.as_ref(), &mut |row_key, sealed| {
            let (revision, tombstone) = RowKey::decode(row_key)
                .map_err(|error| EngineError::damaged(last.unwrap_or_default(), error))?;
            let row = unseal(row_key, sealed).and_then(decode_message);
            row.map_err(|error| EngineError::damaged(revision, error))?;
            if last.is_some_and(|last| revision <= last) {
                let reason = "it stands out of order".to_owned();
                return Err(EngineError::Damaged { revision, reason });
            }
            tally.add(sealed);
            (last, reached) = (Some(revision), Some(RowKey::new(revision, tombstone)));
            left -= 1;
            Ok(if left == 0 { Next::Stop } else { Next::Go })
        })?;
        *after = reached;
        if left == 0 {
            return Ok(Scrubbed::More);
        }
        tally.check(meta.tally)?;
        Ok(Scrubbed::Round { rows: tally.rows })
    }

    /// The state that the engine holds now; `None` if there is none.
    fn begin(&self) -> Result<Option<Round>, EngineError> {
        let engine = self.shared.read().store().history().engine().map(Arc::clone);
        let Some(engine) = engine else {
            return Ok(None);
        };
        let snapshot = engine.snapshot()?;
        // Reading them checks what stands beside rows.
        let meta = snapshot.meta()?;
        Ok(meta.map(|meta| Round { snapshot, meta, after: None, tally: Tally::default() }))
    }
}

fn revision(row_key: &[u8]) -> Result<Revision, EngineError> {
    let decoded = RowKey::decode(row_key);
    Ok(decoded.map_err(|error| EngineError::damaged(Revision::default(), error))?.0)
}
