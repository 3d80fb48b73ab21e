//! What of this member's state is durable (figure 2, "persistent state").
//!
//! Responsible for numbering the writes, and for saying which term, vote and entries a completed
//! write has made safe. Not responsible for writing.
//!
//! Storage is asynchronous: writes are completed later and in order, and by then the log may have
//! changed again. The trap is called ABA:
//!
//! ```text
//! write 1   appends  5 6 7 of term 2
//! write 2   replaces them by 5 of term 3
//! write 3   replaces that by 5 of term 2 and 6 of term 4
//! "write 1 is durable, and the log ended in (7, term 2)"
//! ```
//!
//! Neither 7 nor even 5 may be counted, though the log holds (5, term 2) once more: write 2 is still
//! under way, and a crash right after it leaves 5 of term 3 on the disk. A completion therefore
//! counts only below the lowest place that a later write overwrites.
//!
//! A log that is begun anew behind a snapshot (§7) is the same once more, with all entries replaced.
//! Until that write is done the disk holds what it held, of which all up to the snapshot is as good as
//! before; a completion of any earlier write makes nothing of the new log durable, be it that of an
//! earlier snapshot.
//!
//! Invariants:
//!
//! 1. `durable <= newest`; `holding <= newest`.
//! 2. The entries up to `durable_index` are on the disk, whatever of the writes under way is done.

use crate::contract::{HardState, Index, Position, WriteNumber};
use crate::log::Log;

/// The writes of one life of the process, and what they have made durable.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Stable {
    /// The last write that was asked for.
    newest: WriteNumber,
    /// The last write that is known to be durable.
    durable: WriteNumber,
    /// The term and vote in the newest write.
    hard_state: HardState,
    /// The first write that held them.
    holding: WriteNumber,
    /// The last entry that is durable and not overwritten.
    durable_index: Index,
    /// The newest write under way that dropped entries, and the last entry that all such writes
    /// under way have left alone.
    overwritten: Option<(WriteNumber, Index)>,
}

impl Stable {
    /// The state after a restart: everything that was read back is durable.
    pub(crate) fn new(hard_state: HardState, last: Index) -> Stable {
        let none = WriteNumber(0);
        Stable {
            newest: none,
            durable: none,
            hard_state,
            holding: none,
            durable_index: last,
            overwritten: None,
        }
    }

    /// Takes down a write: the term and vote it holds and, if it changes the log, the entry after
    /// which it does so. Returns its number.
    pub(crate) fn write(&mut self, hard_state: HardState, spliced: Option<Splice>) -> WriteNumber {
        self.newest = WriteNumber(self.newest.0 + 1);
        if self.hard_state != hard_state {
            self.hard_state = hard_state;
            self.holding = self.newest;
        }
        if let Some(splice) = spliced.filter(|splice| splice.after < splice.last_before) {
            let kept = self.overwritten.map_or(splice.after, |(_, kept)| kept.min(splice.after));
            self.overwritten = Some((self.newest, kept));
            self.durable_index = self.durable_index.min(splice.after);
        }
        self.newest
    }

    /// Takes down a write that begins the log anew behind `last`. Returns its number.
    pub(crate) fn write_anew(&mut self, hard_state: HardState, last: Index) -> WriteNumber {
        let number = self.write(hard_state, None);
        if canon!(log_begun_anew_counts_at_once) {
            self.durable_index = last;
            return number;
        }
        self.durable_index = self.durable_index.min(last.previous());
        self.overwritten = Some((number, self.durable_index));
        number
    }

    /// Takes note that every write up to `write` is durable, after which the log ended in `last`.
    pub(crate) fn persisted(&mut self, write: WriteNumber, last: Position, log: &Log) {
        if canon!(merged_completion_is_dropped) && write.0 != self.durable.0 + 1 {
            return;
        }
        if write <= self.durable && !canon!(late_completion_is_taken) {
            mark!(late_completion_ignored);
            return;
        }
        assert!(write <= self.newest, "stable invariant 1: a completed write was asked for");
        self.durable = write;
        let index = match self.overwritten {
            _ if canon!(completion_names_no_term) => last.index.min(log.last_index()),
            Some((number, kept))
                if write < number
                    && kept < last.index
                    && !canon!(completion_of_overwritten_entries_counts) =>
            {
                mark!(aba_persisted_after_overwrite);
                kept
            }
            _ => last.index,
        };
        if self.overwritten.is_some_and(|(number, _)| number <= write) {
            self.overwritten = None;
        }
        if index <= self.durable_index {
            return;
        }
        let is_cut = last.index < log.start().index;
        let is_held = index < last.index || is_cut || log.holds(last);
        assert!(is_held, "stable invariant 2: what became durable is in the log");
        self.durable_index = index;
    }

    /// The last entry of the present log that is durable together with all before it.
    pub(crate) fn durable_index(&self) -> Index {
        self.durable_index
    }

    /// The term and vote in the newest write.
    pub(crate) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The last write that was asked for.
    pub(crate) fn newest(&self) -> WriteNumber {
        self.newest
    }

    /// The write to wait for before anything may leave that rests on term and vote.
    pub(crate) fn holding(&self) -> WriteNumber {
        self.holding
    }

    /// Whether the term and vote of the newest write are durable.
    pub(crate) fn is_hard_state_durable(&self) -> bool {
        self.holding <= self.durable
    }

    /// The same writes, the newest of which holds `hard_state` instead.
    pub(crate) fn with_hard_state(&self, hard_state: HardState) -> Stable {
        Stable { hard_state, ..self.clone() }
    }

    /// Lowers all numbers so that the newest durable write is number 0; by how much. What was first
    /// held by an earlier write is as durable as what number 0 holds.
    pub(crate) fn renumber(&mut self) -> u64 {
        let shift = self.durable.0;
        let lower = |number: WriteNumber| WriteNumber(number.0.saturating_sub(shift));
        self.newest = lower(self.newest);
        self.durable = lower(self.durable);
        self.holding = lower(self.holding);
        self.overwritten = self.overwritten.map(|(number, kept)| (lower(number), kept));
        shift
    }

    /// Whether the invariants above hold as far as they can be seen from here.
    pub(crate) fn is_well_formed(&self, last: Index) -> bool {
        self.durable <= self.newest && self.holding <= self.newest && self.durable_index <= last
    }
}

/// How a write changes the log: it drops what lies after `after` and appends there.
#[derive(Clone, Copy)]
pub(crate) struct Splice {
    /// The last entry that is kept.
    pub(crate) after: Index,
    /// The last entry before the change.
    pub(crate) last_before: Index,
}

#[cfg(test)]
#[path = "stable_tests.rs"]
mod tests;
