//! Logs as the specification sees them: which term each index has, from the very first entry.
//!
//! Responsible for comparing logs and for changing them. Written apart from the module's own log on
//! purpose: a fault there must not be repeated here.

use jangada_raft::{Index, Position, Range, Term};

/// An entry's name. The order is that of §5.4.1: the later term is more up to date, and within a
/// term the higher index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Name {
    /// The entry's term.
    pub term: Term,
    /// The entry's place.
    pub index: Index,
}

/// A stretch of entries, and the entry before it: what a write or an append is about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Splice {
    /// The entry before the first one.
    pub prev: Name,
    /// The last entry's place; `prev.index` when there is none.
    pub last: Index,
    first_term: Term,
    /// Where later terms start.
    more: Vec<(Term, Index)>,
}

/// A log by its terms, never cut: for each run of entries of one term, the term and the last index.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) struct Names {
    runs: Vec<(Term, Index)>,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of term {}", self.index, self.term)
    }
}

impl From<Position> for Name {
    fn from(position: Position) -> Name {
        Name { term: position.term, index: position.index }
    }
}

impl From<&Range> for Splice {
    fn from(range: &Range) -> Splice {
        let more = range.more.iter().map(|run| (run.term, run.first)).collect();
        Splice { prev: range.prev.into(), last: range.last, first_term: range.first_term, more }
    }
}

impl Splice {
    /// The first entry; `None` when there is none.
    pub(crate) fn first(&self) -> Option<Name> {
        let name = Name { term: self.first_term, index: self.prev.index.next() };
        (self.prev.index < self.last).then_some(name)
    }

    /// The runs: the term, the first and the last index of each.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (Term, Index, Index)> + '_ {
        let first = self.first().map(|first| (first.term, first.index));
        let starts = first.into_iter().chain(self.more.iter().copied());
        starts.enumerate().map(|(place, (term, first))| {
            let last = self.more.get(place).map_or(self.last, |(_, next)| next.previous());
            (term, first, last)
        })
    }
}

impl Names {
    /// The last entry's name; place 0 of an empty log.
    pub(crate) fn last(&self) -> Name {
        let last = self.runs.last().copied().unwrap_or_default();
        Name { term: last.0, index: last.1 }
    }

    /// The runs after `start`: the term, the first and the last index of each.
    pub(crate) fn runs_after(
        &self,
        start: Index,
    ) -> impl Iterator<Item = (Term, Index, Index)> + '_ {
        let mut before = start;
        self.runs[self.run_of(start.next())..].iter().map(move |(term, last)| {
            let first = before.next();
            before = *last;
            (*term, first, *last)
        })
    }

    /// The term of the entry at `index`, 0 at place 0; `None` past the end.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == Index(0) {
            return Some(Term(0));
        }
        self.runs.get(self.run_of(index)).map(|(term, _)| *term)
    }

    /// Whether the log has an entry of this name.
    pub(crate) fn holds(&self, name: Name) -> bool {
        self.term_at(name.index) == Some(name.term)
    }

    /// Whether the log has all these entries, and the one before them.
    pub(crate) fn holds_all(&self, splice: &Splice) -> bool {
        // Terms never fall along a log, so a run is held if its ends are.
        let held = |(term, first, last)| {
            self.holds(Name { term, index: first }) && self.holds(Name { term, index: last })
        };
        self.holds(splice.prev) && splice.runs().all(held)
    }

    /// Whether both logs reach to `index` and are equal up to there.
    pub(crate) fn agrees(&self, other: &Names, index: Index) -> bool {
        let run = self.run_of(index);
        index == Index(0)
            || (self.term_at(index).is_some()
                && self.term_at(index) == other.term_at(index)
                && run == other.run_of(index)
                && self.runs[..run] == other.runs[..run])
    }

    /// Drops what lies after `splice.prev`, then appends.
    pub(crate) fn splice(&mut self, splice: &Splice) {
        self.truncate(splice.prev.index);
        for (term, _, last) in splice.runs() {
            match self.runs.last_mut() {
                Some(run) if run.0 == term => run.1 = last,
                _ => self.runs.push((term, last)),
            }
        }
    }

    /// Drops what lies after `index`.
    pub(crate) fn truncate(&mut self, index: Index) {
        if self.last().index <= index {
            return;
        }
        let run = self.run_of(index);
        self.runs.truncate(run + 1);
        if let Some(last) = self.runs.last_mut().filter(|_| index != Index(0)) {
            last.1 = index;
        } else {
            self.runs.clear();
        }
    }

    fn run_of(&self, index: Index) -> usize {
        self.runs.partition_point(|(_, last)| *last < index)
    }
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
