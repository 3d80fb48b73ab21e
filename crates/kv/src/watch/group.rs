//! Watchers that stand at the same revision.
//!
//! Responsible for finding which of them an event is for. Those that watch one key are found by the
//! key, the others by their spans.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::spans::Spans;

/// What a watcher watches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Watched {
    /// One key.
    One(Bytes),
    /// From a key on, up to one past the last; no end if `None`.
    Span(Bytes, Option<Bytes>),
}

/// Watchers at the same revision, named by their places in the stream.
#[derive(Default, Debug)]
pub(super) struct Group {
    ones: BTreeMap<Bytes, Vec<usize>>,
    spans: Spans,
    len: usize,
    id: u64,
}

impl Group {
    /// A group without watchers, of this name.
    pub(super) fn new(id: u64) -> Group {
        Group { id, ..Group::default() }
    }

    /// What tells it from others, wherever it stands.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// The watchers in it.
    pub(super) fn watchers(&self) -> impl Iterator<Item = usize> + '_ {
        self.ones.values().flatten().copied().chain(self.spans.watchers())
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn add(&mut self, watched: &Watched, watcher: usize) {
        self.len += 1;
        match watched {
            Watched::One(key) => self.ones.entry(key.clone()).or_default().push(watcher),
            Watched::Span(start, end) => self.spans.add(start.clone(), end.clone(), watcher),
        }
    }

    pub(super) fn remove(&mut self, watched: &Watched, watcher: usize) {
        self.len -= 1;
        match watched {
            Watched::One(key) => {
                let watchers = self.ones.get_mut(key).expect("group: a watcher stands in its own");
                watchers.retain(|other| *other != watcher);
                if watchers.is_empty() {
                    self.ones.remove(key);
                }
            }
            Watched::Span(..) => self.spans.remove(watcher),
        }
    }

    /// Takes in a smaller group that has come to the same revision.
    pub(super) fn merge(&mut self, mut other: Group) {
        self.len += other.len;
        for (key, mut watchers) in other.ones {
            self.ones.entry(key).or_default().append(&mut watchers);
        }
        self.spans.append(&mut other.spans);
    }

    /// Makes the group ready for [`Group::find`].
    pub(super) fn prepare(&mut self) {
        self.spans.sort();
    }

    /// Calls `hit` with each watcher that watches a key.
    pub(super) fn find(&self, key: &[u8], hit: &mut impl FnMut(usize)) {
        if let Some(watchers) = self.ones.get(key) {
            watchers.iter().copied().for_each(&mut *hit);
        }
        if !self.spans.is_empty() {
            self.spans.find(key, hit);
        }
    }
}
