//! The watchers of one stream: the part that decides what is sent, and when.
//!
//! A stepped part: it has no thread, clock, socket or queue of events. [`WatchStream::step`] says what
//! is to be sent next; nothing is looked for before the last was taken, so one that is not stepped
//! costs its watchers' cursors and nothing else.
//!
//! Watchers stand in groups, one for each revision that any of them waits for. A step reads a part of
//! the history for one group, hands out what it holds for each of its watchers, and moves the group
//! behind it; groups that meet become one. Whoever is new waits in turn with those that catch up.
//!
//! Invariants:
//! 1. A watcher is sent each event that it watches for once, in the order of revisions.
//! 2. Progress up to a revision is said only once everything up to it was handed out, and not of a
//!    watcher that begins behind it.
//! 3. A watcher is said to be ended, for a compaction, before its id is free for another.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;

use super::delivery::Delivery;
use super::events::{EventKind, Events};
use super::group::{Group, Watched};
use super::log::{Absent, WatchError};
use super::watching::Watcher as Place;
use crate::interval::Interval;
use crate::shared::Shared;

/// The most watchers of one stream. Each takes a few hundred bytes; a client that wants more than this
/// opens another stream.
pub const WATCHERS_MAX: usize = 1 << 16;

/// What is to be watched.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WatchRequest {
    /// The watcher's id; 0 to have one chosen.
    pub id: i64,
    /// The first key; empty for the smallest.
    pub key: Bytes,
    /// One past the last key, empty for `key` alone, a zero byte for no end.
    pub range_end: Bytes,
    /// The first revision; 0 for what happens from now on.
    pub start_revision: i64,
    /// Whether events show what they replaced.
    pub replaced: bool,
    /// Whether progress is to be said at intervals.
    pub progress: bool,
    /// Whether large responses may be split.
    pub fragments: bool,
    /// Whether puts are left out.
    pub without_puts: bool,
    /// Whether deletions are left out.
    pub without_deletes: bool,
}

/// Why there is no watcher.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WatchRefusal {
    /// The start is below zero.
    Negative,
    /// No key lies in the range.
    EmptyRange,
    /// The id is in use.
    DuplicateId,
    /// The stream has [`WATCHERS_MAX`] already.
    TooMany,
}

/// What is to be sent.
#[derive(Debug)]
pub enum WatchOutput {
    /// Events for a watcher.
    Events(Delivery),
    /// A watcher is ended: what it waits for is compacted.
    Compacted {
        /// The watcher.
        id: i64,
        /// The oldest revision that there is.
        compact_revision: i64,
    },
    /// All events up to a revision were sent: for a watcher, or for all of them.
    Progress {
        /// The watcher; `None` for all of the stream.
        id: Option<i64>,
        /// The revision.
        revision: i64,
    },
}

/// What a step came to.
#[derive(Debug)]
pub enum WatchStep {
    /// This is to be sent.
    Send(WatchOutput),
    /// Nothing yet; there is more to look at.
    More,
    /// Nothing until there is a newer revision than the stream has seen, or it is asked for something.
    Idle,
}

/// The watchers of one stream.
pub struct WatchStream {
    shared: Shared,
    place: Place,
    ids: BTreeMap<i64, usize>,
    watchers: Vec<Option<Watcher>>,
    free: Vec<usize>,
    next_id: i64,
    /// Watchers that are ended and have not been told (invariant 3).
    ending: BTreeSet<i64>,
    /// By the revision that they wait for.
    groups: BTreeMap<i64, Group>,
    /// Where each group stands.
    standing: BTreeMap<u64, i64>,
    next_group: u64,
    /// Everything up to here was there when it was last looked for.
    seen: i64,
    /// Whether the group that is furthest has its turn.
    newest_next: bool,
    outbox: VecDeque<WatchOutput>,
    /// Watchers that have got events in the present step.
    touched: Vec<usize>,
    progress_asked: bool,
    progress_due: VecDeque<i64>,
    /// Whether it waits to be woken.
    asleep: bool,
}

struct Watcher {
    id: i64,
    watched: Watched,
    group: u64,
    start_revision: i64,
    /// The first event that may show what it replaced.
    full_from: Option<i64>,
    fragments: bool,
    without_puts: bool,
    without_deletes: bool,
    progress: Option<Quiet>,
    /// Events for it in the present step.
    places: Vec<Range<usize>>,
}

/// What a watcher has got since progress was last due.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quiet {
    Nothing,
    /// Nothing, and progress is to be said.
    Due,
    Events,
}

impl WatchStream {
    /// A stream without watchers over a store.
    #[must_use]
    pub fn new(shared: &Shared) -> WatchStream {
        let place = Place::new(shared.clone());
        WatchStream {
            seen: shared.watching().sealed(),
            shared: shared.clone(),
            place,
            ids: BTreeMap::new(),
            watchers: Vec::new(),
            free: Vec::new(),
            next_id: 0,
            ending: BTreeSet::new(),
            groups: BTreeMap::new(),
            standing: BTreeMap::new(),
            next_group: 0,
            newest_next: true,
            outbox: VecDeque::new(),
            touched: Vec::new(),
            progress_asked: false,
            progress_due: VecDeque::new(),
            asleep: false,
        }
    }

    /// The newest revision that there are events of.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.shared.watching().sealed()
    }

    /// The number of watchers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no watchers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Adds a watcher and answers its id. Say so before the next step: its events may be in it.
    ///
    /// # Errors
    /// There is none: see [`WatchRefusal`].
    pub fn create(&mut self, request: WatchRequest) -> Result<i64, WatchRefusal> {
        if request.start_revision < 0 {
            return Err(WatchRefusal::Negative);
        }
        let watched = watched(&request)?;
        // What did not concern the others may concern this one.
        self.awake();
        if WATCHERS_MAX <= self.ids.len() {
            return Err(WatchRefusal::TooMany);
        }
        let id = self.choose_id(request.id)?;
        let (sealed, compacted) = {
            let view = self.shared.read();
            (view.store().sealed(), view.compact_revision())
        };
        let start_revision = request.start_revision;
        if 0 < start_revision && start_revision < compacted {
            let compact_revision = compacted;
            self.end(id, compact_revision);
            return Ok(id);
        }
        if request.replaced {
            self.place.want_replaced();
        }
        let next = if start_revision == 0 { sealed + 1 } else { start_revision };
        let group = self.group_at(next);
        let watcher = Watcher {
            id,
            watched,
            group,
            start_revision,
            full_from: request.replaced.then_some(compacted + 1),
            fragments: request.fragments,
            without_puts: request.without_puts,
            without_deletes: request.without_deletes,
            progress: request.progress.then_some(Quiet::Nothing),
            places: Vec::new(),
        };
        self.place.watch(&watcher.watched);
        let place = self.free.pop().unwrap_or(self.watchers.len());
        let group = self.groups.get_mut(&next).expect("watch: the group is there");
        group.add(&watcher.watched, place);
        if place == self.watchers.len() {
            self.watchers.push(Some(watcher));
        } else {
            self.watchers[place] = Some(watcher);
        }
        self.ids.insert(id, place);
        Ok(id)
    }

    /// The group that waits for a revision.
    fn group_at(&mut self, next: i64) -> u64 {
        let WatchStream { groups, standing, next_group, .. } = self;
        let group = groups.entry(next).or_insert_with(|| {
            *next_group += 1;
            standing.insert(*next_group, next);
            Group::new(*next_group)
        });
        group.id()
    }

    fn choose_id(&mut self, wanted: i64) -> Result<i64, WatchRefusal> {
        let used = |id| self.ids.contains_key(&id) || self.ending.contains(&id);
        if wanted != 0 {
            return if used(wanted) { Err(WatchRefusal::DuplicateId) } else { Ok(wanted) };
        }
        while used(self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Ok(self.next_id - 1)
    }

    /// Ends a watcher; answers whether there was one. What was handed out for it and not taken yet is
    /// dropped.
    pub fn cancel(&mut self, id: i64) -> bool {
        let Some(place) = self.ids.remove(&id) else {
            return false;
        };
        let watcher = self.watchers[place].take().expect("watch: an id names a watcher");
        self.place.unwatch([&watcher.watched]);
        self.free.push(place);
        let next = self.standing[&watcher.group];
        let group = self.groups.get_mut(&next).expect("watch: a watcher is in its group");
        group.remove(&watcher.watched, place);
        if group.len() == 0 {
            self.groups.remove(&next);
            self.standing.remove(&watcher.group);
        }
        self.outbox.retain(|output| match output {
            WatchOutput::Events(delivery) => delivery.watcher() != id,
            WatchOutput::Progress { id: about, .. } => *about != Some(id),
            WatchOutput::Compacted { .. } => true,
        });
        true
    }

    /// Has progress said of all watchers, as soon as all have seen everything. Nothing is said of a
    /// stream without watchers, or with one that begins in the future.
    pub fn ask_progress(&mut self) {
        self.progress_asked |= !self.is_empty();
    }

    /// An interval has passed: progress is to be said of the watchers that want it and have got nothing
    /// since the last one.
    pub fn interval_passed(&mut self) {
        for watcher in self.watchers.iter_mut().flatten() {
            match watcher.progress {
                Some(Quiet::Nothing) => {
                    watcher.progress = Some(Quiet::Due);
                    self.progress_due.push_back(watcher.id);
                }
                Some(Quiet::Events) => watcher.progress = Some(Quiet::Nothing),
                Some(Quiet::Due) | None => {}
            }
        }
    }

    /// Goes on to what is to be sent next, a bounded piece of work at a time.
    ///
    /// # Errors
    /// The stream cannot go on; see [`WatchError`].
    pub fn step(&mut self) -> Result<WatchStep, WatchError> {
        self.awake();
        if canon!(watch_progress_overtakes_events)
            && let Some(output) = self.progress(self.revision())
        {
            return Ok(WatchStep::Send(output));
        }
        if let Some(step) = self.pop() {
            return Ok(step);
        }
        if self.read()? {
            return Ok(self.pop().unwrap_or(WatchStep::More));
        }
        Ok(self.progress(self.seen).map_or(WatchStep::Idle, WatchStep::Send))
    }

    /// Whether there are revisions that the stream has not seen.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.seen != self.revision()
    }

    /// Says how the stream stands, for [`Shared::watch_figures`]. To be called when what a step hands out
    /// cannot be sent for now.
    pub fn report(&self) {
        let next = self.groups.first_key_value().map_or(i64::MAX, |(next, _)| *next);
        let behind: usize = self.groups.range(..=self.seen).map(|(_, group)| group.len()).sum();
        self.place.report(next, self.len(), behind);
    }

    /// Has the waker woken when something happens that one of the watchers may watch. To be called when a
    /// step had nothing to do; look at [`WatchStream::has_news`] once more after it.
    pub fn arm(&mut self, waker: &Waker) {
        self.asleep = self.place.sleep(waker, self.seen);
        self.report();
    }

    /// Is awake: passes over what did not concern it while it slept.
    fn awake(&mut self) {
        if !std::mem::take(&mut self.asleep) {
            return;
        }
        let clear = self.place.awake();
        self.seen = self.seen.max(clear);
        while let Some(first) = self.groups.first_entry().filter(|first| *first.key() <= clear) {
            let group = first.remove();
            self.put_group(clear + 1, group);
        }
    }

    /// Reads a part of the history for one group; answers whether there was any to read.
    fn read(&mut self) -> Result<bool, WatchError> {
        let sealed = self.revision();
        if sealed < self.seen {
            return Err(WatchError::Replaced);
        }
        self.seen = sealed;
        let mut active = self.groups.range(..=sealed).map(|(next, _)| *next);
        let (oldest, newest) = (active.next(), active.next_back());
        let Some(oldest) = oldest else { return Ok(false) };
        let chosen = newest.filter(|_| self.newest_next).unwrap_or(oldest);
        self.newest_next = !self.newest_next;
        let bound = self.groups.range(chosen + 1..).next().map_or(i64::MAX, |(next, _)| next - 1);
        match self.shared.event_log().read(&self.shared, chosen) {
            Ok(Some(events)) => {
                let through = events.last().min(bound);
                let mut group = self.groups.remove(&chosen).expect("watch: the group was found");
                let handed = self.hand_out(&mut group, &events, chosen, through);
                let next = if handed.is_ok() { through + 1 } else { chosen };
                self.put_group(next, group);
                handed.map(|()| true)
            }
            // The state was replaced in between by one that is behind.
            Ok(None) => Err(WatchError::Replaced),
            Err(Absent::Compacted(compact_revision)) => {
                self.end_compacted(chosen, compact_revision);
                Ok(true)
            }
            Err(Absent::Error(error)) => Err(WatchError::Store(error)),
        }
    }

    /// Puts a group where it now stands; one that stands there already becomes one with it.
    fn put_group(&mut self, next: i64, mut group: Group) {
        if let Some(mut other) = self.groups.remove(&next) {
            if group.len() < other.len() {
                std::mem::swap(&mut group, &mut other);
            }
            for place in other.watchers() {
                let watcher = self.watchers[place].as_mut();
                watcher.expect("watch: a group holds watchers").group = group.id();
            }
            self.standing.remove(&other.id());
            group.merge(other);
        }
        self.standing.insert(group.id(), next);
        self.groups.insert(next, group);
    }

    /// Hands out the events of the revisions from `from` to `through` to the watchers of a group.
    fn hand_out(
        &mut self,
        group: &mut Group,
        events: &Arc<Events>,
        from: i64,
        through: i64,
    ) -> Result<(), WatchError> {
        let (start, end) = (events.place_of(from), events.place_of(through + 1));
        let WatchStream { watchers, touched, .. } = self;
        group.prepare();
        let mut full_wanted = false;
        for at in start..end {
            let kind = events.kind(at);
            group.find(events.key(at), &mut |place| {
                let watcher = watchers[place].as_mut().expect("watch: a group holds watchers");
                let left_out = match kind {
                    EventKind::Put => watcher.without_puts,
                    EventKind::Delete => watcher.without_deletes,
                };
                if left_out {
                    return;
                }
                full_wanted |= watcher.full_from.is_some();
                match watcher.places.last_mut() {
                    Some(last) if last.end == at => last.end = at + 1,
                    last => {
                        if last.is_none() {
                            touched.push(place);
                        }
                        watcher.places.push(at..at + 1);
                    }
                }
            });
        }
        let prepared = if full_wanted { events.prepare_full(&self.shared) } else { Ok(()) };
        for place in self.touched.drain(..) {
            let watcher = self.watchers[place].as_mut().expect("watch: it was just found");
            let places = std::mem::take(&mut watcher.places);
            if prepared.is_err() {
                continue;
            }
            if let Some(quiet) = &mut watcher.progress {
                *quiet = Quiet::Events;
            }
            let full_from = watcher.full_from.map_or(usize::MAX, |from| events.place_of(from));
            let (id, fragments) = (watcher.id, watcher.fragments);
            let delivery =
                Delivery::new(id, Arc::clone(events), through, fragments, full_from, places);
            self.outbox.push_back(WatchOutput::Events(delivery));
        }
        prepared.map_err(WatchError::Store)
    }

    /// What a group waits for is compacted.
    fn end_compacted(&mut self, next: i64, compact_revision: i64) {
        let group = self.groups.remove(&next).expect("watch: the group was found");
        self.standing.remove(&group.id());
        for place in group.watchers() {
            let ended = self.watchers[place].take().expect("watch: a group holds watchers");
            self.place.unwatch([&ended.watched]);
            self.ids.remove(&ended.id);
            self.free.push(place);
            self.end(ended.id, compact_revision);
        }
    }

    fn end(&mut self, id: i64, compact_revision: i64) {
        self.ending.insert(id);
        self.outbox.push_back(WatchOutput::Compacted { id, compact_revision });
    }

    /// Takes the next of what is handed out.
    fn pop(&mut self) -> Option<WatchStep> {
        let output = self.outbox.pop_front()?;
        if let WatchOutput::Compacted { id, .. } = &output {
            self.ending.remove(id);
        }
        Some(WatchStep::Send(output))
    }

    /// The progress that is to be said, everything up to a revision having been handed out.
    fn progress(&mut self, revision: i64) -> Option<WatchOutput> {
        // Invariant 2.
        let early = canon!(watch_progress_before_its_start);
        let begun = |watcher: &Watcher| watcher.start_revision <= revision || early;
        if std::mem::take(&mut self.progress_asked)
            && !self.is_empty()
            && self.watchers.iter().flatten().all(begun)
        {
            return Some(WatchOutput::Progress { id: None, revision });
        }
        while let Some(id) = self.progress_due.pop_front() {
            let Some(place) = self.ids.get(&id) else { continue };
            let watcher = self.watchers[*place].as_mut().expect("watch: an id names a watcher");
            if watcher.progress != Some(Quiet::Due) {
                continue;
            }
            watcher.progress = Some(Quiet::Nothing);
            if watcher.start_revision <= revision || early {
                return Some(WatchOutput::Progress { id: Some(id), revision });
            }
        }
        None
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.place.unwatch(self.watchers.iter().flatten().map(|watcher| &watcher.watched));
    }
}

/// What a request names. An empty key stands for the smallest one.
fn watched(request: &WatchRequest) -> Result<Watched, WatchRefusal> {
    let key = if request.key.is_empty() { Bytes::from_static(b"\0") } else { request.key.clone() };
    match Interval::new(&key, &request.range_end) {
        Interval::Empty => Err(WatchRefusal::EmptyRange),
        Interval::One(_) => Ok(Watched::One(copy(&key))),
        Interval::Span(_, None) => Ok(Watched::Span(copy(&key), None)),
        Interval::Span(_, Some(end)) => {
            let end = Bytes::copy_from_slice(end);
            Ok(Watched::Span(copy(&key), Some(end)))
        }
    }
}

/// A small slice must not keep a receive buffer.
fn copy(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
