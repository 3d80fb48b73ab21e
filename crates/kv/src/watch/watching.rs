//! Who watches, and how they are woken.
//!
//! Responsible for one wake-up of each stream that watches something of what a batch has changed, however
//! many commands it is of, and for telling the store what watchers want to be kept. While nobody watches,
//! or all of them are awake, a batch costs one store and one load.
//!
//! A stream that sleeps on passes over what it does not watch: it is told, when it is awake again, up to
//! which revision nothing concerned it.
//!
//! Invariants:
//! 1. Whoever sleeps is woken by the next batch that changes what it watches.
//! 2. Every batch behind the revision at which a stream fell asleep was looked at for it, or has woken it.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::group::Watched;
use super::wakeup::Wakeup;
use crate::row::decode_message;
use crate::shared::Shared;
use crate::store::{Interest, Store};

/// A batch is looked through for those who sleep if it has no more rows than this for each of them: to look
/// a key up costs about a tenth of what it costs to wake a stream and have it look itself.
const ROWS_FOR_EACH: usize = 16;

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
    /// Who watches what.
    wakeup: Wakeup,
    /// How many sleep.
    asleep: usize,
    /// The revision up to which batches were looked through for those who sleep.
    looked: i64,
    /// How often a batch was looked through.
    looks: u64,
}

/// One stream, as others see it.
#[derive(Default)]
struct Place {
    /// Of one who sleeps.
    waker: Option<Waker>,
    /// Up to here nothing concerns it that it has not seen.
    clear: i64,
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

    /// A batch ends at this revision: wakes those who watch something of it.
    pub(crate) fn moved(&self, shared: &Shared, sealed: i64) {
        let since = self.sealed.swap(sealed, Ordering::SeqCst);
        if since == sealed || !self.armed.load(Ordering::SeqCst) {
            return;
        }
        let woken = {
            // The store's lock first, as where another state comes in.
            let view = shared.read();
            let mut places = self.places();
            // If one has come in between, whoever has brought it wakes all.
            if self.sealed() == sealed {
                places.look(view.store(), since, sealed);
            }
            self.take_woken(&mut places)
        };
        self.wake_them(woken);
    }

    /// Another state is in place of the one that was watched. Wakes nobody.
    pub(crate) fn replaced(&self, sealed: i64) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.sealed.store(sealed, Ordering::SeqCst);
        let mut places = self.places();
        let looked = std::mem::replace(&mut places.looked, i64::MIN);
        for place in places.places.iter_mut().flatten().filter(|place| place.waker.is_some()) {
            place.clear = place.clear.max(looked);
        }
    }

    /// Wakes all who sleep.
    pub(crate) fn wake(&self) {
        if self.armed.load(Ordering::SeqCst) {
            let woken = {
                let mut places = self.places();
                places.wake_all(i64::MIN);
                self.take_woken(&mut places)
            };
            self.wake_them(woken);
        }
    }

    fn take_woken(&self, places: &mut Places) -> Vec<Waker> {
        if places.asleep == 0 {
            self.armed.store(false, Ordering::SeqCst);
        }
        std::mem::take(&mut places.woken)
    }

    /// No lock is held: whoever is woken may give its place back at once.
    fn wake_them(&self, mut woken: Vec<Waker>) {
        woken.drain(..).for_each(Waker::wake);
        self.places().woken = woken;
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
            // A stream that has nothing to watch looks at nothing, and one that sleeps has nothing to see.
            if place.watchers != 0 && place.waker.is_none() {
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

impl Places {
    /// Finds out who watches something of the batches behind a revision, and has them woken.
    fn look(&mut self, store: &Store, since: i64, sealed: i64) {
        let batches = store.sealed_batches();
        let start = batches.partition_point(|batch| batch.revision <= since);
        let here = batches.get(start).is_some_and(|first| first.since <= since);
        let rows = batches.iter().skip(start).map(|batch| batch.len() - batch.place_behind(since));
        if !here || self.asleep.saturating_mul(ROWS_FOR_EACH) < rows.sum() {
            return self.wake_all(since);
        }
        self.looks += 1;
        let Places { places, wakeup, woken, asleep, looks, looked, .. } = self;
        for batch in batches.iter().skip(start) {
            for at in batch.place_behind(since)..batch.len() {
                if *asleep == 0 {
                    return;
                }
                let row = decode_message(batch.message(at).1);
                let key = row.expect("effects: a row is what it was encoded as").key;
                wakeup.find(*looks, key, &mut |place| {
                    let place = places[place].as_mut().expect("watching: a stream has its place");
                    if let Some(waker) = place.waker.take() {
                        place.clear = place.clear.max(since);
                        woken.push(waker);
                        *asleep -= 1;
                    }
                });
            }
        }
        *looked = sealed;
    }

    /// Has all woken who sleep, nothing having concerned them up to a revision.
    fn wake_all(&mut self, clear: i64) {
        for place in self.places.iter_mut().flatten() {
            if let Some(waker) = place.waker.take() {
                place.clear = place.clear.max(clear);
                self.woken.push(waker);
            }
        }
        self.asleep = 0;
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

    /// The stream watches this, too.
    pub(crate) fn watch(&self, watched: &Watched) {
        self.shared.watching().places().wakeup.add(watched, self.place);
    }

    /// It does no longer.
    pub(crate) fn unwatch<'w>(&self, watched: impl IntoIterator<Item = &'w Watched>) {
        let mut places = self.shared.watching().places();
        for watched in watched {
            places.wakeup.remove(watched, self.place);
        }
    }

    /// Falls asleep: the waker is woken by the next batch that changes something of what the stream
    /// watches. Answers whether it sleeps; it does not if there are revisions behind the one up to which
    /// it has seen everything.
    pub(crate) fn sleep(&self, waker: &Waker, seen: i64) -> bool {
        self.fall_asleep(waker, Some(seen))
    }

    /// The same, for one who looks by itself whether there is anything new, once it sleeps.
    pub(crate) fn sleep_anyhow(&self, waker: &Waker) {
        self.fall_asleep(waker, None);
    }

    fn fall_asleep(&self, waker: &Waker, seen: Option<i64>) -> bool {
        let watching = self.shared.watching();
        let mut places = watching.places();
        // Before the revision is looked at: a batch that ends after that finds it set.
        watching.armed.store(true, Ordering::SeqCst);
        let sealed = watching.sealed();
        let Places { places, asleep, .. } = &mut *places;
        let place = places[self.place].as_mut().expect("watching: a stream has its place");
        if seen.is_some_and(|seen| seen != sealed) {
            return false;
        }
        match &mut place.waker {
            Some(present) => present.clone_from(waker),
            absent => {
                *absent = Some(waker.clone());
                *asleep += 1;
                place.clear = sealed;
            }
        }
        true
    }

    /// Is awake again. Answers up to which revision nothing concerns the stream that it has not seen.
    pub(crate) fn awake(&self) -> i64 {
        let mut places = self.shared.watching().places();
        let Places { places, asleep, looked, .. } = &mut *places;
        let place = places[self.place].as_mut().expect("watching: a stream has its place");
        if place.waker.take().is_some() {
            *asleep -= 1;
            place.clear = place.clear.max(*looked);
        }
        place.clear
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
            let gone = places.places[self.place].take();
            places.asleep -= usize::from(gone.is_some_and(|place| place.waker.is_some()));
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
