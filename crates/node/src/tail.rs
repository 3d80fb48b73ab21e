//! The newest entries of the log, in memory.
//!
//! Responsible for: holding each entry from the moment it is appended until it is durable here,
//! applied, and no longer worth its memory. Not responsible for: older entries, which are read back
//! from the log.
//!
//! Invariants:
//! 1. The entries are contiguous, and terms never fall along them.
//! 2. An entry that is not yet durable or not yet applied is never let go.

use std::collections::VecDeque;

use jangada_entry::Frame;
use jangada_raft::{Index, Position};

/// The newest entries of the log.
#[derive(Debug)]
pub(crate) struct Tail {
    /// The entry before the first one held.
    before: Position,
    frames: VecDeque<Frame>,
    bytes: u64,
}

impl Tail {
    /// An empty tail of a log whose last entry is `last`.
    pub(crate) fn new(last: Position) -> Tail {
        Tail { before: last, frames: VecDeque::new(), bytes: 0 }
    }

    pub(crate) fn last(&self) -> Position {
        self.frames.back().map_or(self.before, Frame::position)
    }

    /// The entry before the first one held. Everything up to it is durable (invariant 2), so it can
    /// be read back from the log.
    pub(crate) fn before(&self) -> Position {
        self.before
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the entry at `index` is held.
    pub(crate) fn holds(&self, index: Index) -> bool {
        self.before.index < index && index <= self.last().index
    }

    /// Drops everything after `index`.
    ///
    /// `position` names the entry at `index`; it is needed when nothing held remains.
    pub(crate) fn truncate_after(&mut self, position: Position) {
        while position.index < self.last().index {
            match self.frames.pop_back() {
                Some(frame) => self.bytes -= frame.bytes().len() as u64,
                None => {
                    self.before = position;
                    return;
                }
            }
        }
    }

    pub(crate) fn push(&mut self, frame: Frame) {
        let last = self.last();
        assert!(frame.position().index == last.index.next(), "tail invariant 1: contiguous");
        assert!(last.term <= frame.position().term, "tail invariant 1: terms never fall");
        self.bytes += frame.bytes().len() as u64;
        self.frames.push_back(frame);
    }

    /// The entries from `from` to `last`, as many as fit into `bytes_max`, but at least one. `from`
    /// must be held.
    pub(crate) fn read(&self, from: Index, last: Index, bytes_max: u64) -> Vec<Frame> {
        assert!(self.holds(from) && last <= self.last().index, "the range is held");
        let skip = usize::try_from(from.0 - self.before.index.0 - 1).expect("held in memory");
        let count = usize::try_from(last.0 - from.0 + 1).expect("held in memory");
        let mut frames = Vec::with_capacity(count.min(1024));
        let mut bytes = 0;
        for frame in self.frames.range(skip..skip + count) {
            bytes += frame.bytes().len() as u64;
            if bytes_max < bytes && !frames.is_empty() {
                break;
            }
            frames.push(frame.clone());
        }
        frames
    }

    /// Lets the oldest entries go while more than `bytes_max` are held, up to `settled`: the last
    /// index that is both durable here and applied.
    pub(crate) fn shrink(&mut self, bytes_max: u64, settled: Index) {
        while bytes_max < self.bytes {
            let Some(front) = self.frames.front() else { return };
            if settled < front.position().index {
                return; // tail invariant 2
            }
            self.bytes -= front.bytes().len() as u64;
            self.before = front.position();
            self.frames.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use jangada_entry::{Draft, Kind, Origin};
    use jangada_raft::Term;

    use super::*;

    fn at(index: u64, term: u64) -> Position {
        Position { index: Index(index), term: Term(term) }
    }

    fn frame(index: u64, term: u64) -> Frame {
        Draft::new(Draft::buffer(0), Kind::Command, 1, 0, Origin::default())
            .stamp(at(index, term), 0)
    }

    #[test]
    fn reads_what_was_pushed_and_nothing_else() {
        let mut tail = Tail::new(at(4, 1));
        for index in 5..=9 {
            tail.push(frame(index, 2));
        }
        assert!(!tail.holds(Index(4)) && tail.holds(Index(5)) && !tail.holds(Index(10)));
        let read = tail.read(Index(6), Index(9), u64::MAX);
        assert_eq!(read.iter().map(|f| f.position().index.0).collect::<Vec<_>>(), [6, 7, 8, 9]);
        assert_eq!(tail.read(Index(6), Index(9), 1).len(), 1, "one entry always passes");
    }

    #[test]
    fn truncation_may_reach_below_what_is_held() {
        let mut tail = Tail::new(at(4, 1));
        tail.push(frame(5, 1));
        tail.truncate_after(at(3, 1));
        assert_eq!(tail.last(), at(3, 1));
        tail.push(frame(4, 2));
        assert_eq!(tail.last(), at(4, 2));
    }

    #[test]
    fn unsettled_entries_stay_whatever_their_size() {
        let mut tail = Tail::new(at(0, 0));
        for index in 1..=4 {
            tail.push(frame(index, 1));
        }
        tail.shrink(0, Index(2));
        assert!(!tail.holds(Index(2)) && tail.holds(Index(3)));
        assert_eq!(tail.bytes(), 128);
    }
}
