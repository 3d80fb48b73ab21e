//! Cutting the log: its beginning goes, whole segments at a time.

use jangada_raft::{Configuration, HardState, Index, Position};

use super::{Anew, Pending, Wal};
use crate::disk::Disk;
use crate::error::WalError;
use crate::layout::segment_name;
use crate::recover::SegmentPlace;

impl<D: Disk> Wal<D> {
    /// Releases entries at or before `up_to`, whole segments at a time, and tells what is now the
    /// entry before the log's first.
    ///
    /// When the log does not hold `up_to` (a snapshot that reaches further was restored, §7), all
    /// entries go, and the log starts anew behind it with `configuration` in force, durable on
    /// return.
    ///
    /// # Errors
    /// [`WalError::Full`] if a segment is needed and there is no space; nothing has changed then.
    /// [`WalError::Io`] if the disk fails.
    pub fn cut(
        &mut self,
        up_to: Position,
        configuration: &Configuration,
    ) -> Result<Position, WalError> {
        self.usable()?;
        assert!(self.pending == Pending::Nothing, "log invariant 1");
        if up_to.index <= self.state.base.index {
            return Ok(self.state.base);
        }
        if self.state.term_at(up_to.index) != Some(up_to.term) {
            let HardState { term, vote } = self.state.hard_state;
            let raised = HardState { term: up_to.term, vote: None };
            let hard_state = if term < up_to.term { raised } else { HardState { term, vote } };
            let configuration = configuration.clone();
            self.begin_anew(&Anew { position: up_to, configuration, hard_state, note: None })?;
            return Ok(self.state.base);
        }
        let Some((keep, base)) = self.cut_point(up_to.index) else {
            return Ok(self.state.base);
        };
        if self.state.base.index < base.index {
            self.state.advance_base(base);
        }
        self.release_first(keep)?;
        Ok(self.state.base)
    }

    /// Releases the oldest segments, so many of them, durably.
    pub(super) fn release_first(&mut self, count: usize) -> Result<(), WalError> {
        let released: Vec<SegmentPlace> = self.segments.drain(..count).collect();
        if released.is_empty() {
            return Ok(());
        }
        for segment in released {
            if let Err(error) = self.release(segment_name(segment.number)) {
                return Err(self.poison(error));
            }
        }
        // Their files can be used again, whatever the disk had no space for.
        self.retry_space();
        self.disk.sync_directory().map_err(|error| self.poison(error))
    }

    /// The first segment to keep and what the log then begins behind, when something can go.
    ///
    /// It is the newest that starts at or before `up_to`. Where entries were dropped a segment may
    /// start before the one it follows, but none behind this one starts before it.
    fn cut_point(&self, up_to: Index) -> Option<(usize, Position)> {
        let keep = self.segments.iter().rposition(|segment| segment.start.index <= up_to)?;
        (0 < keep).then(|| (keep, self.segments[keep].start))
    }
}
