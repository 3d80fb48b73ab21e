//! The log as the consensus module sees it: which term each index has, and nothing more.
//!
//! Responsible for answering every question about the names of entries. Not responsible for
//! payloads, for what is durable (see `stable.rs`) or for what is committed.
//!
//! Terms never fall along a log, so a log is a row of *runs*, one for each term that left an entry
//! in it. A log of a million entries written under one leader is one run:
//!
//! ```text
//! index   3  4  5  6  7  8  9          start = (3, term 1)
//! term    1  2  2  2  2  5  5          runs  = [2 from 4] [5 from 8]
//! ```
//!
//! Invariants:
//!
//! 1. The first run starts right after `start`; each run holds at least one entry.
//! 2. Terms and first indexes rise strictly from run to run, and no term is below `start.term`.
//! 3. There is a run exactly when there is an entry after `start`.

use crate::contract::{Index, Position, Range, Run, Term};

/// The names of the entries from `start` (exclusive) to `last`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Log {
    start: Position,
    runs: Vec<Run>,
    last: Index,
}

impl Log {
    /// The log with the given names.
    pub(crate) fn new(range: &Range) -> Log {
        let mut log = Log { start: range.prev, runs: Vec::new(), last: range.prev.index };
        log.append(range);
        log
    }

    /// The entry before the first that is retained: its term is known, its content is not.
    pub(crate) fn start(&self) -> Position {
        self.start
    }

    pub(crate) fn last_index(&self) -> Index {
        self.last
    }

    pub(crate) fn last_position(&self) -> Position {
        let term = self.runs.last().map_or(self.start.term, |run| run.term);
        Position { index: self.last, term }
    }

    /// The term of the entry at `index`; `None` where the log does not reach.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index < self.start.index || self.last < index {
            return None;
        }
        let later = self.runs.partition_point(|run| run.first <= index);
        Some(if later == 0 { self.start.term } else { self.runs[later - 1].term })
    }

    /// Whether the log holds this very entry and so, by Log Matching, all before it (§5.3).
    pub(crate) fn holds(&self, position: Position) -> bool {
        self.term_at(position.index) == Some(position.term)
    }

    /// Whether a log that ends in `other` is at least as up to date as this one: the later last
    /// term wins, and within one term the longer log (§5.4.1).
    pub(crate) fn is_no_newer_than(&self, other: Position) -> bool {
        let own = self.last_position();
        if canon!(longer_log_is_newer) {
            return (own.index, own.term) <= (other.index, other.term);
        }
        (own.term, own.index) <= (other.term, other.index)
    }

    /// The first index of `range` at which this log has another entry or none; `None` when it holds
    /// them all. The caller has checked that the log holds `range.prev`.
    pub(crate) fn first_difference(&self, range: &Range) -> Option<Index> {
        assert!(self.holds(range.prev), "a range is compared where it joins the log");
        let mut first = range.first();
        while first <= range.last {
            let term = range.term_at(first).expect("first lies within the range");
            if self.term_at(first) != Some(term) {
                return Some(first);
            }
            // Both logs have an entry of this term here, so they agree as far as either has it.
            let theirs = range.more.iter().map(|run| run.first).find(|next| first < *next);
            let theirs = theirs.map_or(range.last, Index::previous);
            first = theirs.min(self.end_of_run_at(first)).next();
        }
        None
    }

    /// The last entry at or below `limit.index` whose term is not above `limit.term`: the best guess
    /// at where two logs part, from either side (see `replication.rs`). The log's start when there is
    /// none.
    pub(crate) fn last_not_above(&self, limit: Position) -> Position {
        let mut index = limit.index.min(self.last);
        while self.start.index < index {
            let at = self.runs.partition_point(|run| run.first <= index) - 1;
            if self.runs[at].term <= limit.term {
                return Position { index, term: self.runs[at].term };
            }
            index = self.runs[at].first.previous();
        }
        self.start
    }

    /// The names of the entries after `prev` up to `last`, or of as many as `runs_max` terms hold.
    pub(crate) fn range(&self, prev: Index, last: Index, runs_max: usize) -> Range {
        let term = self.term_at(prev).expect("a range starts within the log");
        let prev = Position { index: prev, term };
        if last <= prev.index {
            return Range::empty(prev);
        }
        let first = prev.index.next();
        let at = self.runs.partition_point(|run| run.first <= first);
        let later = &self.runs[at..];
        let more = later.iter().copied().take_while(|run| run.first <= last).take(runs_max);
        let last = later.get(runs_max).map_or(last, |run| last.min(run.first.previous()));
        Range { prev, last, first_term: self.runs[at - 1].term, more: more.collect() }
    }

    /// Drops everything after `range.prev`, which the log holds, and appends the range.
    pub(crate) fn splice(&mut self, range: &Range) {
        assert!(self.holds(range.prev), "a range is spliced where it joins the log");
        self.last = range.prev.index;
        self.runs.retain(|run| run.first <= range.prev.index);
        self.append(range);
    }

    /// Forgets the names before `up_to`, which becomes the log's start.
    pub(crate) fn compact(&mut self, up_to: Position) {
        assert!(self.holds(up_to), "a log is cut at an entry that it holds");
        if up_to.index == self.start.index {
            return;
        }
        let at = self.runs.partition_point(|run| run.first <= up_to.index) - 1;
        if self.end_of_run_at(up_to.index) == up_to.index {
            self.runs.drain(..=at);
        } else {
            self.runs[at].first = up_to.index.next();
            self.runs.drain(..at);
        }
        self.start = up_to;
    }

    /// Whether the invariants above hold; asked by `invariants.rs`.
    pub(crate) fn is_well_formed(&self) -> bool {
        let starts = self.runs.first().is_none_or(|run| run.first == self.start.index.next());
        let rises = |pair: &[Run]| pair[0].term < pair[1].term && pair[0].first < pair[1].first;
        let ends =
            self.runs.last().map_or(self.last == self.start.index, |run| run.first <= self.last);
        let terms = self.runs.first().is_none_or(|run| self.start.term <= run.term);
        starts && terms && ends && self.runs.windows(2).all(rises)
    }

    fn append(&mut self, range: &Range) {
        if range.is_empty() {
            return;
        }
        self.open_run(Run { term: range.first_term, first: range.first() });
        for run in &range.more {
            self.open_run(*run);
        }
        self.last = range.last;
    }

    fn open_run(&mut self, run: Run) {
        let before = self.runs.last().map(|last| last.term);
        assert!(before.unwrap_or(self.start.term) <= run.term, "log invariant 2");
        if before != Some(run.term) {
            self.runs.push(run);
        }
    }

    fn end_of_run_at(&self, index: Index) -> Index {
        let later = self.runs.partition_point(|run| run.first <= index);
        self.runs.get(later).map_or(self.last, |run| run.first.previous())
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
