//! Beginning the log anew behind a snapshot (§7): nothing of it is kept.
//!
//! Invariant: at any crash point the folder holds the old log or the new one, whole. The new one is
//! a segment that restates all that is in force; only when it is durable, name included, are the old
//! segments released.

use bytes::Bytes;
use jangada_raft::{Configuration, HardState, Position, canon};

use super::{Batch, Pending, Wal, Weight};
use crate::disk::Disk;
use crate::error::WalError;

/// A log that is begun anew behind a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Anew {
    /// The last entry that the snapshot covers. The state machine holds it durably.
    pub position: Position,
    /// The configuration in force there.
    pub configuration: Configuration,
    /// The term and vote in force; the term is not below the position's.
    pub hard_state: HardState,
    /// The member's own note, if another one than the log has is in force from here on.
    pub note: Option<Bytes>,
}

impl<D: Disk> Wal<D> {
    /// Drops every entry: the log goes on behind the snapshot's last entry, durable on return. The
    /// snapshot must be installed, durably, before; the next opening expects the machine to be at or
    /// beyond that entry.
    ///
    /// # Errors
    /// [`WalError::Full`] if there is no space for a segment, and [`WalError::NoteTooLarge`]: the log
    /// is as it was. [`WalError::Io`] if the disk fails.
    ///
    /// # Panics
    /// If the batch before is not durable yet (log invariant 1), the position lies before the log or
    /// in a later term than `hard_state` (2), or term or vote go back (3).
    pub fn begin_anew(&mut self, anew: &Anew) -> Result<(), WalError> {
        self.usable()?;
        assert!(self.pending == Pending::Nothing, "log invariant 1");
        let Anew { position, configuration, hard_state, note } = anew;
        assert!(self.state.base.index <= position.index, "log invariant 2: behind the base");
        assert!(position.term <= hard_state.term, "log invariant 2: the term in force");
        self.check_hard_state(*hard_state);
        self.check_note(note.as_ref())?;
        let before = self.state.clone();
        self.state.reset(*position, configuration.clone());
        let batch = Batch {
            hard_state: *hard_state,
            note: note.clone(),
            after: position.index,
            entries: &[],
        };
        if let Err(error) = self.roll(&batch, Weight::Essential) {
            self.state = before;
            return Err(error);
        }
        if !canon!(old_log_is_released_before_the_new_one_is_durable) {
            self.sync()?;
        }
        self.release_first(self.segments.len() - 1)?;
        self.sync()
    }
}
