//! What happens next: simulated time, and the events that wait for theirs.
//!
//! 1. Events happen in the order of their times; those of one time in the order in which they were
//!    pushed.
//! 2. Time never goes back.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Events by time, and the present time in microseconds.
#[derive(Clone, Debug)]
pub struct Queue<E> {
    now_us: u64,
    pushed: u64,
    /// The time, the number and the place of each event: events stay where they are while the heap
    /// moves their names.
    times: BinaryHeap<Reverse<(u64, u64, usize)>>,
    places: Vec<Option<E>>,
    free: Vec<usize>,
}

impl<E> Default for Queue<E> {
    fn default() -> Queue<E> {
        Queue {
            now_us: 0,
            pushed: 0,
            times: BinaryHeap::new(),
            places: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<E> Queue<E> {
    /// An empty queue at time 0.
    #[must_use]
    pub fn new() -> Queue<E> {
        Queue::default()
    }

    /// The present time in microseconds.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// How many events wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Lets an event happen at a time; at once if that time has passed.
    pub fn push(&mut self, at_us: u64, event: E) {
        self.pushed += 1;
        let place = self.free.pop().unwrap_or(self.places.len());
        if place == self.places.len() {
            self.places.push(None);
        }
        self.places[place] = Some(event);
        self.times.push(Reverse((at_us.max(self.now_us), self.pushed, place)));
    }

    /// The next event, if it happens by `end_us`; time moves to it. Otherwise time moves to
    /// `end_us`.
    pub fn pop_until(&mut self, end_us: u64) -> Option<E> {
        let next = self.times.peek().filter(|Reverse((at_us, ..))| *at_us <= end_us);
        let Some(Reverse((at_us, _, place))) = next.copied() else {
            self.now_us = self.now_us.max(end_us);
            return None;
        };
        self.times.pop();
        assert!(self.now_us <= at_us, "queue rule 2");
        self.now_us = at_us;
        self.free.push(place);
        Some(self.places[place].take().expect("every time has its event"))
    }
}

/// Takes the first of a row, if it is due.
pub(crate) fn take_first<T>(row: &mut VecDeque<T>, is_due: impl FnOnce(&T) -> bool) -> Option<T> {
    if row.front().is_some_and(is_due) { row.pop_front() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_by_order() {
        let mut queue = Queue::new();
        for (at, event) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b'), (9, 'e')] {
            queue.push(at, event);
        }
        let mut seen = String::new();
        while let Some(event) = queue.pop_until(6) {
            seen.push(event);
        }
        assert_eq!((seen.as_str(), queue.now_us(), queue.len()), ("abcd", 6, 1));
        queue.push(0, 'f');
        assert_eq!((queue.pop_until(20), queue.now_us()), (Some('f'), 6));
    }
}
