//! Cutting the log: its beginning goes, whole segments at a time.

use jangada_raft::{Configuration, Index, Position};

use super::{Batch, Pending, Wal};
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
            self.restart_behind(up_to, configuration)?;
        }
        let Some((keep, base)) = self.cut_point(up_to.index) else {
            return Ok(self.state.base);
        };
        let released: Vec<SegmentPlace> = self.segments.drain(..keep).collect();
        if self.state.base.index < base.index {
            self.state.advance_base(base);
        }
        for segment in released {
            if let Err(error) = self.release(segment_name(segment.number)) {
                return Err(self.poison(error));
            }
        }
        match self.disk.sync_directory() {
            Ok(()) => Ok(self.state.base),
            Err(error) => Err(self.poison(error)),
        }
    }

    /// The first segment to keep and what the log then begins behind, when something can go.
    ///
    /// It is the newest that starts at or before `up_to`. Where entries were dropped a segment may
    /// start before the one it follows, but none behind this one starts before it.
    fn cut_point(&self, up_to: Index) -> Option<(usize, Position)> {
        let keep = self.segments.iter().rposition(|segment| segment.start.index <= up_to)?;
        (0 < keep).then(|| (keep, self.segments[keep].start))
    }

    /// Drops every entry: the log goes on behind `position`.
    fn restart_behind(
        &mut self,
        position: Position,
        configuration: &Configuration,
    ) -> Result<(), WalError> {
        let before = self.state.clone();
        self.state.reset(position, configuration.clone());
        let batch = Batch {
            hard_state: self.state.hard_state,
            note: None,
            after: position.index,
            entries: &[],
        };
        if let Err(error) = self.roll(&batch) {
            self.state = before;
            return Err(error);
        }
        self.sync()
    }
}
