//! Histories with watchers, decided by a seed: a store that is changed, compacted, restarted and given
//! the state of another, while watchers of all kinds begin anywhere and read now and then. Each is held
//! to what was done.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use bytes::Bytes;
use jangada_kv::{
    Command, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, WatchOutput, WatchRequest,
    WatchStep, WatchStream,
};

use super::Subject;
use super::disk::Disk;

/// How many steps a history has.
const STEPS: usize = 120;

/// What an event shows of a key: create revision, mod revision, version and value.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) key: Bytes,
    pub(crate) create: i64,
    pub(crate) revision: i64,
    pub(crate) version: i64,
    pub(crate) value: Bytes,
    pub(crate) lease: i64,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Event {
    pub(crate) is_delete: bool,
    pub(crate) kv: Seen,
    pub(crate) previous: Option<Seen>,
}

/// What was done, kept in the simplest way.
#[derive(Clone, Default)]
struct Model {
    keys: BTreeMap<Bytes, Seen>,
    revision: i64,
    events: Vec<Event>,
}

impl Model {
    fn put(&mut self, key: &Bytes, value: &Bytes) {
        let before = self.keys.get(key).cloned();
        let (create, version) =
            before.as_ref().map_or((self.revision, 1), |b| (b.create, b.version + 1));
        let (key, value) = (key.clone(), value.clone());
        let kv = Seen { key, create, revision: self.revision, version, value, lease: 0 };
        self.keys.insert(kv.key.clone(), kv.clone());
        self.events.push(Event { is_delete: false, kv, previous: before });
    }

    fn delete(&mut self, from: &Bytes, to: &Bytes) {
        let bounds = (Bound::Included(from.clone()), Bound::Excluded(to.clone()));
        let gone: Vec<Bytes> = self.keys.range(bounds).map(|(key, _)| key.clone()).collect();
        for key in gone {
            let previous = self.keys.remove(&key);
            let kv = Seen { key, revision: self.revision, ..Seen::default() };
            self.events.push(Event { is_delete: true, kv, previous });
        }
    }
}

/// A watcher, and what it was sent.
struct Watcher {
    request: WatchRequest,
    /// The first revision that it may see.
    from: i64,
    /// What was compacted when it began.
    compacted: i64,
    received: Vec<Event>,
    through: i64,
    /// The revision below which everything was compacted when it was ended.
    ended: Option<i64>,
}

struct Run {
    subject: Subject,
    disk: Disk,
    model: Model,
    stream: WatchStream,
    watchers: BTreeMap<i64, Watcher>,
    ended: Vec<Watcher>,
    /// Set while the stream sleeps; what it holds is set when the stream is woken.
    asleep: Option<Arc<Woken>>,
}

/// Notes that somebody was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Woken>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs the history of a seed, on a store with an engine or without one.
///
/// # Panics
/// If a watcher sees what was not done, or does not see what was.
pub(crate) fn run(seed: u64, with_engine: bool) {
    let disk = Disk::default();
    let mut subject = Subject::open(with_engine.then_some(&disk));
    subject.dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let stream = WatchStream::new(&subject.machine.shared());
    let model = Model { revision: 1, ..Model::default() };
    let (watchers, ended, asleep) = Default::default();
    let mut run = Run { subject, disk, model, stream, watchers, ended, asleep };
    for _ in 0..STEPS {
        match run.subject.roll(16) {
            0..=5 => run.change(),
            6..=7 => run.create(),
            8 => run.cancel(),
            9 => run.compact(),
            10 => run.stream.ask_progress(),
            11 => run.stream.interval_passed(),
            12 if with_engine => run.subject.settle(),
            12 => {}
            13 if run.subject.roll(4) == 0 => run.overtaken(with_engine),
            14 if with_engine && run.subject.roll(4) == 0 => run.restart(),
            _ => {
                let steps = run.subject.roll(12);
                run.read(steps);
            }
        }
    }
    run.read(u64::MAX);
    // There is nothing left to send, so this is all.
    run.watchers.values_mut().for_each(|watcher| watcher.through = run.model.revision);
    let watchers = run.watchers.into_values().chain(run.ended);
    watchers.for_each(|watcher| judge(&watcher, &run.model.events));
}

impl Run {
    fn change(&mut self) {
        for _ in 0..=self.subject.roll(6) {
            self.model.revision += 1;
            let before = self.model.events.len();
            let key = key(self.subject.roll(8));
            match self.subject.roll(8) {
                0..=4 => {
                    let value = Bytes::from(vec![b'v'; self.subject.roll(300) as usize]);
                    self.subject.put(std::str::from_utf8(&key).expect("text"), &value);
                    self.model.put(&key, &value);
                }
                5 => {
                    let range_end = Bytes::from_static(b"key 5");
                    let delete = DeleteRangeRequest { key: key.clone(), range_end, prev_kv: false };
                    self.subject.apply(&Command::DeleteRange(delete.clone()));
                    if delete.key < delete.range_end {
                        self.model.delete(&delete.key, &delete.range_end);
                    }
                }
                _ => {
                    let puts: Vec<Bytes> = (0..=self.subject.roll(4)).map(self::key).collect();
                    let value = Bytes::from_static(b"all at once");
                    let put = |key: &Bytes| {
                        let (key, value) = (key.clone(), value.clone());
                        RequestOp::Put(PutRequest { key, value, ..PutRequest::default() })
                    };
                    let success = puts.iter().map(put).collect();
                    let txn = TxnRequest { success, ..TxnRequest::default() };
                    self.subject.apply(&Command::Txn(txn));
                    puts.iter().for_each(|key| self.model.put(key, &value));
                }
            }
            if self.model.events.len() == before {
                self.model.revision -= 1;
            }
            if self.subject.roll(3) == 0 && self.subject.machine.has_engine() {
                self.subject.turn();
            }
        }
        assert_eq!(self.subject.revision(), self.model.revision);
    }

    fn compacted(&self) -> i64 {
        self.subject.machine.shared().read().compact_revision()
    }

    fn create(&mut self) {
        let revision = self.model.revision;
        let range_end = match self.subject.roll(4) {
            0 => Bytes::new(),
            1 => Bytes::from_static(b"\0"),
            _ => key(self.subject.roll(8)),
        };
        let flags = self.subject.roll(64);
        let request = WatchRequest {
            id: if self.subject.roll(4) == 0 { self.subject.roll(20) as i64 } else { 0 },
            key: key(self.subject.roll(8)),
            range_end,
            start_revision: match self.subject.roll(4) {
                0 => 0,
                1 => revision + self.subject.roll(4) as i64,
                2 => self.compacted().max(0),
                _ => self.subject.roll(revision as u64 + 1) as i64,
            },
            replaced: flags & 1 != 0,
            progress: flags & 2 != 0,
            fragments: flags & 4 != 0,
            without_puts: flags & 24 == 8,
            without_deletes: flags & 24 == 16,
        };
        let compacted = self.compacted();
        self.asleep = None; // a request wakes it
        let Ok(id) = self.stream.create(request.clone()) else { return };
        let from = if request.start_revision == 0 { revision + 1 } else { request.start_revision };
        let (received, through) = (Vec::new(), 0);
        let watcher = Watcher { request, from, compacted, received, through, ended: None };
        assert!(self.watchers.insert(id, watcher).is_none(), "an id is in use once");
    }

    fn cancel(&mut self) {
        let at = self.subject.roll(8) as usize;
        let Some(id) = self.watchers.keys().nth(at).copied() else { return };
        let told = self.stream.cancel(id);
        let watcher = self.watchers.remove(&id).expect("it was found");
        // One that a compaction has ended may not have been told yet.
        assert!(told || watcher.from < self.compacted() || watcher.through < self.compacted());
        self.ended.push(watcher);
    }

    fn compact(&mut self) {
        let (low, high) = (self.compacted().max(0), self.model.revision);
        if low < high && self.subject.roll(2) == 0 {
            let above = 1 + self.subject.roll((high - low) as u64) as i64;
            self.subject.compact(low + above);
        }
    }

    /// The store is given the state of another that has gone on without it.
    fn overtaken(&mut self, with_engine: bool) {
        let disk = Disk::default();
        let mut other = Subject::open(with_engine.then_some(&disk));
        let payloads = self.subject.payloads.clone();
        payloads.iter().for_each(|payload| other.apply_payload(payload));
        other.dice = self.subject.dice;
        let own = std::mem::replace(&mut self.subject, other);
        self.change();
        self.compact();
        let mut other = std::mem::replace(&mut self.subject, own);
        if with_engine {
            other.settle();
        }
        let chunks = other.chunks(b"");
        self.subject.restore(&chunks);
        (self.subject.dice, self.subject.payloads) = (other.dice, other.payloads);
    }

    /// Streams end with the process; whoever watched goes on where it was.
    fn restart(&mut self) {
        self.subject.settle();
        self.disk = self.disk.crashed();
        let (dice, payloads) = (self.subject.dice, std::mem::take(&mut self.subject.payloads));
        self.subject = Subject::open(Some(&self.disk));
        (self.subject.dice, self.subject.payloads) = (dice, payloads);
        self.stream = WatchStream::new(&self.subject.machine.shared());
        self.asleep = None;
        let mut resumed = std::mem::take(&mut self.watchers);
        for (id, watcher) in &mut resumed {
            let from = (watcher.through + 1).max(watcher.from);
            let id = if *id == 0 { return } else { *id };
            let request = WatchRequest { id, start_revision: from, ..watcher.request.clone() };
            assert_eq!(self.stream.create(request), Ok(id));
        }
        self.watchers = resumed;
    }

    fn read(&mut self, steps: u64) {
        for _ in 0..steps {
            match self.stream.step().expect("the disk is well") {
                WatchStep::Idle => return self.sleep(),
                WatchStep::More => {}
                WatchStep::Send(output) => {
                    if let (WatchOutput::Events(_), Some(woken)) = (&output, self.asleep.take()) {
                        assert!(woken.0.load(Ordering::Relaxed), "nobody woke it for {output:?}");
                    }
                    self.take(output);
                }
            }
        }
        if 0 < steps {
            self.asleep = None;
        }
    }

    fn sleep(&mut self) {
        let woken = Arc::new(Woken::default());
        self.stream.arm(&Waker::from(Arc::clone(&woken)));
        self.asleep = (!self.stream.has_news()).then_some(woken);
    }

    fn take(&mut self, output: WatchOutput) {
        match output {
            WatchOutput::Events(mut delivery) => {
                let watcher = self.watchers.get_mut(&delivery.watcher()).expect("it is not ended");
                let (mut last, mut split) = (watcher.through, false);
                let sizes = [(1, 1), (300, 200), (1 << 20, 1 << 20)];
                let (enough, limit) = sizes[self.subject.dice as usize % sizes.len()];
                while let Some(response) = delivery.next_response(enough, limit) {
                    let bytes: Vec<u8> = response.slices.iter().flatten().copied().collect();
                    assert_eq!(bytes.len(), response.bytes);
                    let events = decode(&bytes);
                    assert_eq!(events.len(), response.events);
                    let first = events.first().expect("a response has events").kv.revision;
                    let end = events.last().expect("a response has events").kv.revision;
                    assert!(last < first || split, "a revision is not split unasked for");
                    assert!(end <= response.revision);
                    assert!(!response.fragment || watcher.request.fragments);
                    (last, split) = (end, response.fragment);
                    watcher.through = response.revision;
                    watcher.received.extend(events);
                }
                assert!(!split, "the last of the fragments says that it is the last");
            }
            WatchOutput::Compacted { id, compact_revision } => {
                let mut watcher = self.watchers.remove(&id).expect("it is not ended");
                assert!(compact_revision <= self.compacted());
                assert!((watcher.through + 1).max(watcher.from) <= compact_revision);
                watcher.ended = Some(compact_revision);
                self.ended.push(watcher);
            }
            WatchOutput::Progress { id, revision } => {
                assert!(revision <= self.model.revision);
                let about =
                    self.watchers.iter_mut().filter(|(each, _)| id.is_none_or(|id| id == **each));
                for (_, watcher) in about {
                    assert!(watcher.request.start_revision <= revision, "it has not begun");
                    assert!(id.is_none() || watcher.request.progress, "it asked for it");
                    watcher.through = watcher.through.max(revision);
                    // What was promised is checked at once, before more comes.
                    judge(watcher, &self.model.events);
                }
            }
        }
    }
}

/// Holds what a watcher was sent, up to where it was told that this is all, to what was done.
fn judge(watcher: &Watcher, events: &[Event]) {
    let request = &watcher.request;
    let wanted = |event: &&Event| {
        let key = &event.kv.key;
        let within = match &request.range_end[..] {
            [] => *key == request.key,
            [0] => request.key <= *key,
            end => request.key <= *key && key[..] < *end,
        };
        let kept = if event.is_delete { !request.without_deletes } else { !request.without_puts };
        within && kept && (watcher.from..=watcher.through).contains(&event.kv.revision)
    };
    let expected: Vec<&Event> = events.iter().filter(wanted).collect();
    let received: Vec<&Event> = watcher.received.iter().collect();
    assert_eq!(
        received.iter().map(|event| (&event.kv, event.is_delete)).collect::<Vec<_>>(),
        expected.iter().map(|event| (&event.kv, event.is_delete)).collect::<Vec<_>>(),
        "{request:?} from {} through {}",
        watcher.from,
        watcher.through
    );
    for (received, expected) in received.into_iter().zip(expected) {
        if !request.replaced {
            assert_eq!(received.previous, None);
        } else if received.previous != expected.previous {
            // It may be compacted by the time at which it is looked for.
            assert_eq!(received.previous, None, "{received:?} {expected:?}");
        }
        if expected.kv.revision <= watcher.compacted {
            assert_eq!(received.previous, None, "it was compacted when the watcher began");
        }
    }
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("key {number}"))
}

/// Reads events as etcd's clients do.
pub(crate) fn decode(mut bytes: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some((field, _, body)) = next_field(&mut bytes) {
        assert_eq!(field, 11);
        let (mut body, mut event) = (body, Event::default());
        while let Some((field, number, message)) = next_field(&mut body) {
            match field {
                1 => event.is_delete = number == 1,
                2 => event.kv = decode_seen(message),
                3 => event.previous = Some(decode_seen(message)),
                _ => panic!("an event has no field {field}"),
            }
        }
        events.push(event);
    }
    events
}

fn decode_seen(mut bytes: &[u8]) -> Seen {
    let mut seen = Seen::default();
    while let Some((field, number, value)) = next_field(&mut bytes) {
        match field {
            1 => seen.key = Bytes::copy_from_slice(value),
            2 => seen.create = number as i64,
            3 => seen.revision = number as i64,
            4 => seen.version = number as i64,
            5 => seen.value = Bytes::copy_from_slice(value),
            6 => seen.lease = number as i64,
            _ => panic!("a key-value has no field {field}"),
        }
    }
    seen
}

/// The next field: its number, and its value as a number or as bytes.
fn next_field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, u64, &'a [u8])> {
    if bytes.is_empty() {
        return None;
    }
    let tag = varint(bytes);
    let number = varint(bytes);
    if tag & 7 == 0 {
        return Some((tag >> 3, number, &[]));
    }
    assert_eq!(tag & 7, 2);
    let (value, rest) = bytes.split_at(number as usize);
    *bytes = rest;
    Some((tag >> 3, 0, value))
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().expect("a number ends");
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    number
}
