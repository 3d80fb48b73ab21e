//! Who watches, and how they are woken.
//!
//! Responsible for one wake-up when the newest revision moves, however many commands moved it, and
//! for telling the store what watchers want to be kept. While nobody watches, or all of them are
//! awake, a batch costs one store and one load.
//!
//! Invariants:
//! 1. Whoever arms and then finds nothing new is woken by the next batch.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::shared::Shared;
use crate::store::Interest;

/// Who watches this store.
pub(crate) struct Watching {
    /// The revision up to which there are events.
    sealed: AtomicI64,
    /// Counts the states that were put in place of another.
    generation: AtomicU64,
    /// Whether anybody sleeps.
    armed: AtomicBool,
    streams: AtomicUsize,
    wanting_replaced: AtomicUsize,
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    places: Vec<Option<Place>>,
    free: Vec<usize>,
    /// Empty; kept for its memory.
    woken: Vec<Waker>,
}

/// One stream, as others see it.
#[derive(Default)]
struct Place {
    waker: Option<Waker>,
    /// The lowest revision that it has yet to look at.
    next: i64,
    watchers: usize,
    /// Of its watchers, those that are not at the newest revision even when it is read out.
    behind: usize,
}

/// How watching stands, for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WatchFigures {
    /// Streams.
    pub streams: u64,
    /// Watchers on them.
    pub watchers: u64,
    /// Watchers that have yet to look at a revision that there is.
    pub slow_watchers: u64,
    /// The revisions that streams have yet to look at, all streams together.
    pub pending: u64,
}

/// A stream's place among those who watch; given back when dropped.
pub(crate) struct Watcher {
    shared: Shared,
    place: usize,
    wants_replaced: bool,
}

impl Watching {
    pub(crate) fn new(sealed: i64) -> Watching {
        Watching {
            sealed: AtomicI64::new(sealed),
            generation: AtomicU64::new(0),
            armed: AtomicBool::new(false),
            streams: AtomicUsize::new(0),
            wanting_replaced: AtomicUsize::new(0),
            places: Mutex::default(),
        }
    }

    /// The revision up to which there are events.
    pub(crate) fn sealed(&self) -> i64 {
        self.sealed.load(Ordering::SeqCst)
    }

    /// Which state it is that is watched.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// A batch ends at this revision.
    pub(crate) fn moved(&self, sealed: i64) {
        self.sealed.store(sealed, Ordering::SeqCst);
        self.wake();
    }

    /// Another state is in place of the one that was watched. Wakes nobody.
    pub(crate) fn replaced(&self, sealed: i64) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.sealed.store(sealed, Ordering::SeqCst);
    }

    /// Wakes all who sleep.
    pub(crate) fn wake(&self) {
        if self.armed.load(Ordering::SeqCst) && self.armed.swap(false, Ordering::SeqCst) {
            let mut woken = {
                let Places { places, woken, .. } = &mut *self.places();
                woken.extend(places.iter_mut().flatten().filter_map(|place| place.waker.take()));
                std::mem::take(woken)
            };
            // Whoever is woken may give its place back at once, so the lock is not held.
            woken.drain(..).for_each(Waker::wake);
            self.places().woken = woken;
        }
    }

    /// What watchers want to be kept.
    pub(crate) fn interest(&self) -> Interest {
        Interest {
            events: 0 < self.streams.load(Ordering::SeqCst),
            replaced: 0 < self.wanting_replaced.load(Ordering::SeqCst),
        }
    }

    pub(crate) fn figures(&self) -> WatchFigures {
        let sealed = self.sealed();
        let mut figures = WatchFigures::default();
        for place in self.places().places.iter().flatten() {
            figures.streams += 1;
            figures.watchers += place.watchers as u64;
            // A stream that has nothing to watch looks at nothing.
            if place.watchers != 0 {
                let is_behind = place.next <= sealed;
                let behind = if is_behind { place.watchers } else { place.behind };
                figures.slow_watchers += behind as u64;
                figures.pending += u64::try_from(sealed + 1 - place.next).unwrap_or(0);
            }
        }
        figures
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    pub(crate) fn new(shared: Shared) -> Watcher {
        let place = {
            let mut places = shared.watching().places();
            let free = places.free.pop();
            let place = free.unwrap_or(places.places.len());
            if free.is_none() {
                places.places.push(None);
            }
            places.places[place] = Some(Place::default());
            place
        };
        if shared.watching().streams.fetch_add(1, Ordering::SeqCst) == 0 {
            tell_store(&shared);
        }
        Watcher { shared, place, wants_replaced: false }
    }

    /// Has what is replaced kept, from now on and for as long as the stream is there.
    pub(crate) fn want_replaced(&mut self) {
        if !std::mem::replace(&mut self.wants_replaced, true)
            && self.shared.watching().wanting_replaced.fetch_add(1, Ordering::SeqCst) == 0
        {
            tell_store(&self.shared);
        }
    }

    /// Says where the stream stands.
    pub(crate) fn report(&self, next: i64, watchers: usize, behind: usize) {
        self.with_place(|place| {
            place.next = next;
            place.watchers = watchers;
            place.behind = behind;
        });
    }

    /// Has the waker woken by the next batch. What came before must be looked for once more.
    pub(crate) fn arm(&self, waker: &Waker) {
        self.with_place(|place| match &mut place.waker {
            Some(present) => present.clone_from(waker),
            absent => *absent = Some(waker.clone()),
        });
        self.shared.watching().armed.store(true, Ordering::SeqCst);
    }

    fn with_place(&self, change: impl FnOnce(&mut Place)) {
        let mut places = self.shared.watching().places();
        change(places.places[self.place].as_mut().expect("watching: a stream has its place"));
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let watching = self.shared.watching();
        {
            let mut places = watching.places();
            places.places[self.place] = None;
            places.free.push(self.place);
        }
        let last = watching.streams.fetch_sub(1, Ordering::SeqCst) == 1;
        let last_wanting =
            self.wants_replaced && watching.wanting_replaced.fetch_sub(1, Ordering::SeqCst) == 1;
        if last {
            self.shared.event_log().clear();
        }
        if last || last_wanting {
            tell_store(&self.shared);
        }
    }
}

/// Tells the store what watchers want. Two who do so at a time both say, under the store's lock, what
/// is so by then.
fn tell_store(shared: &Shared) {
    let mut store = shared.write();
    store.set_interest(shared.watching().interest());
}
