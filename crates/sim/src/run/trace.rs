//! What happened in a run, as one number and as the last lines before a failure.
//!
//! Every event and every effect is chained into the hash in the order in which it happened; so two
//! runs with the same hash did the same, and a run that differs from its repetition has read a
//! clock, a hash map's order or an uninitialised value.

use std::collections::VecDeque;
use std::fmt;
use std::hash::Hasher;

use crate::world::fingerprint::Fingerprint;

/// The running hash over everything that happened, and the newest lines of it.
#[derive(Clone, Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    kept_max: usize,
    kept: VecDeque<String>,
}

impl Trace {
    /// An empty trace that keeps the newest `kept_max` lines as text; 0 for none, which is faster.
    #[must_use]
    pub fn new(kept_max: usize) -> Trace {
        Trace { hash: 0, events: 0, kept_max, kept: VecDeque::new() }
    }

    /// Chains one event, as its text says it.
    pub fn note(&mut self, event: fmt::Arguments<'_>) {
        self.chain(|into| into.text(event), event);
    }

    /// Chains one event, as `fill` says it; `line` says the same for a reader, and is only formatted
    /// when lines are kept. Formatting is dearer than all else that a simulation does.
    pub(crate) fn chain(&mut self, fill: impl FnOnce(&mut Fingerprint), line: fmt::Arguments<'_>) {
        self.events += 1;
        let mut fingerprint = Fingerprint::from(self.hash.wrapping_add(self.events));
        fill(&mut fingerprint);
        self.hash = fingerprint.finish();
        if self.kept_max == 0 {
            return;
        }
        if self.kept.len() == self.kept_max {
            self.kept.pop_front();
        }
        self.kept.push_back(line.to_string());
    }

    /// The hash over all events so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The number of events so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The newest lines, oldest first.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.kept.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of(lines: &[&str]) -> u64 {
        let mut trace = Trace::new(0);
        for line in lines {
            trace.note(format_args!("{line}"));
        }
        trace.hash()
    }

    #[test]
    fn order_content_and_boundaries_count() {
        assert_eq!(hash_of(&["a", "b"]), hash_of(&["a", "b"]));
        assert_ne!(hash_of(&["a", "b"]), hash_of(&["b", "a"]));
        assert_ne!(hash_of(&["a", "b"]), hash_of(&["ab"]));
        assert_ne!(hash_of(&["a"]), hash_of(&["a", ""]));
        assert_ne!(hash_of(&["a\0"]), hash_of(&["a"]));
    }

    #[test]
    fn only_the_newest_lines_are_kept() {
        let mut trace = Trace::new(2);
        for number in 0..5 {
            trace.note(format_args!("{number}"));
        }
        assert_eq!(trace.lines(), ["3", "4"]);
        assert_eq!(trace.events(), 5);
    }
}
