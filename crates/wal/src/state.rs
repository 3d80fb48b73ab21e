//! What is known of the log in memory: which entries it holds and where, what is in force.
//!
//! The index has one item per batch, not per entry; the terms one item per term.

use std::collections::VecDeque;

use bytes::Bytes;
use jangada_raft::{Configuration, HardState, Index, Position, Range, Run, Term};

use crate::batch::BatchHeader;

/// Where a batch's entries stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BatchPlace {
    /// The first entry of the batch, whether still in the log or not.
    pub(crate) first: Index,
    /// The last entry of the batch that is in the log.
    pub(crate) last: Index,
    pub(crate) segment: u64,
    /// Where a sound copy of the batch's header stands.
    pub(crate) list_at: u64,
    pub(crate) header_bytes: u32,
    /// Where the first frame stands.
    pub(crate) frames_at: u64,
    /// The bytes of all frames.
    pub(crate) frames_bytes: u64,
}

/// The log as it stands.
#[derive(Clone, Debug)]
pub(crate) struct LogState {
    pub(crate) base: Position,
    pub(crate) last: Index,
    /// Where terms start behind the base.
    runs: VecDeque<Run>,
    pub(crate) batches: VecDeque<BatchPlace>,
    base_configuration: Configuration,
    /// The log's own configurations, by the index of their entry.
    configurations: VecDeque<(Index, Configuration)>,
    /// The entries whose payloads are damaged, by index.
    faulty: VecDeque<Index>,
    pub(crate) hard_state: HardState,
    pub(crate) note: Bytes,
    /// Entries that were durable may be gone without a trace.
    pub(crate) recovering: bool,
}

impl LogState {
    pub(crate) fn new(
        base: Position,
        configuration: Configuration,
        hard_state: HardState,
        note: Bytes,
    ) -> LogState {
        LogState {
            base,
            last: base.index,
            runs: VecDeque::new(),
            batches: VecDeque::new(),
            base_configuration: configuration,
            configurations: VecDeque::new(),
            faulty: VecDeque::new(),
            hard_state,
            note,
            recovering: false,
        }
    }

    /// Forgets every entry; the log goes on behind `base`.
    pub(crate) fn reset(&mut self, base: Position, configuration: Configuration) {
        self.base = base;
        self.last = base.index;
        self.runs.clear();
        self.batches.clear();
        self.base_configuration = configuration;
        self.configurations.clear();
        self.faulty.clear();
    }

    /// Some entries of the log are damaged; called in the order of the entries.
    pub(crate) fn keep_faulty(&mut self, bad: &[Position]) {
        self.faulty.extend(bad.iter().map(|position| position.index));
    }

    /// The entries whose payloads are damaged, by index.
    pub(crate) fn faulty(&self) -> &VecDeque<Index> {
        &self.faulty
    }

    /// The first damaged entry from `from` on.
    pub(crate) fn first_faulty_from(&self, from: Index) -> Option<Index> {
        self.faulty.get(self.faulty.partition_point(|index| *index < from)).copied()
    }

    /// The term of the entry at `index`, or of the base; `None` outside the log.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        if index < self.base.index || self.last < index {
            return None;
        }
        let after = self.runs.partition_point(|run| run.first <= index);
        Some(self.runs[after - 1].term)
    }

    /// Whether an entry of this name is in the log, or is the base.
    pub(crate) fn holds(&self, position: Position) -> bool {
        self.term_at(position.index) == Some(position.term)
    }

    /// The name of the entry at `index`, which is in the log or is the base.
    pub(crate) fn position_at(&self, index: Index) -> Position {
        let term = self.term_at(index).expect("the index lies within the log");
        Position { index, term }
    }

    pub(crate) fn last_position(&self) -> Position {
        self.position_at(self.last)
    }

    /// The configuration in force once the log has the entry at `index` (§6).
    pub(crate) fn configuration_at(&self, index: Index) -> &Configuration {
        let after = self.configurations.partition_point(|(at, _)| *at <= index);
        match after.checked_sub(1) {
            Some(newest) => &self.configurations[newest].1,
            None => &self.base_configuration,
        }
    }

    /// Drops every entry behind `after`.
    pub(crate) fn truncate(&mut self, after: Index) {
        assert!(self.base.index <= after && after <= self.last, "log invariant 4");
        self.last = after;
        while self.runs.back().is_some_and(|run| after < run.first) {
            self.runs.pop_back();
        }
        while self.batches.back().is_some_and(|batch| after < batch.first) {
            self.batches.pop_back();
        }
        if let Some(batch) = self.batches.back_mut() {
            batch.last = batch.last.min(after);
        }
        while self.configurations.back().is_some_and(|(at, _)| after < *at) {
            self.configurations.pop_back();
        }
        while self.faulty.back().is_some_and(|index| after < *index) {
            self.faulty.pop_back();
        }
    }

    /// Appends a batch's entries, of which a sound header stands at `list_at`.
    pub(crate) fn append(
        &mut self,
        header: &BatchHeader,
        list_at: u64,
        configurations: Vec<(Index, Configuration)>,
    ) {
        assert!(header.after == self.last_position(), "log invariant 2");
        self.hard_state = header.hard_state;
        if let Some(note) = &header.note {
            self.note = note.clone();
        }
        if header.entries.is_empty() {
            return;
        }
        let mut term = header.after.term;
        let mut index = header.after.index;
        for summary in &header.entries {
            index = index.next();
            assert!(term <= summary.term, "log invariant 2");
            if term < summary.term || self.runs.is_empty() {
                self.runs.push_back(Run { term: summary.term, first: index });
            }
            term = summary.term;
        }
        self.batches.push_back(BatchPlace {
            first: header.after.index.next(),
            last: index,
            segment: header.place.segment,
            list_at,
            header_bytes: u32::try_from(header.header_bytes()).expect("headers are bounded"),
            frames_at: header.place.offset + header.frames_at(),
            frames_bytes: header.frames_bytes(),
        });
        self.last = index;
        self.configurations.extend(configurations);
    }

    /// Forgets the entries up to `base`, which is in the log. `configuration` is in force there.
    pub(crate) fn advance_base(&mut self, base: Position) {
        assert!(self.term_at(base.index) == Some(base.term), "the new base lies within the log");
        self.base_configuration = self.configuration_at(base.index).clone();
        while self.configurations.front().is_some_and(|(at, _)| *at <= base.index) {
            self.configurations.pop_front();
        }
        while self.faulty.front().is_some_and(|index| *index <= base.index) {
            self.faulty.pop_front();
        }
        while self.batches.front().is_some_and(|batch| batch.last <= base.index) {
            self.batches.pop_front();
        }
        while 1 < self.runs.len() && self.runs[1].first <= base.index.next() {
            self.runs.pop_front();
        }
        if self.last == base.index {
            self.runs.clear();
        } else if let Some(run) = self.runs.front_mut() {
            run.first = run.first.max(base.index.next());
        }
        self.base = base;
    }

    pub(crate) fn base_configuration(&self) -> &Configuration {
        &self.base_configuration
    }

    /// The configurations among the log's entries, by the index of their entry.
    pub(crate) fn configurations(&self) -> impl Iterator<Item = &(Index, Configuration)> {
        self.configurations.iter()
    }

    /// The names of all entries.
    pub(crate) fn range(&self) -> Range {
        let Some(first) = self.runs.front() else { return Range::empty(self.base) };
        Range {
            prev: self.base,
            last: self.last,
            first_term: first.term,
            more: self.runs.iter().skip(1).copied().collect(),
        }
    }

    /// The batches that hold entries from `from` on.
    pub(crate) fn batches_from(&self, from: Index) -> impl Iterator<Item = &BatchPlace> {
        let first = self.batches.partition_point(|batch| batch.last < from);
        self.batches.range(first..)
    }
}
