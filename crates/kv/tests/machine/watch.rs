//! Watchers: random histories of them, and the rules one by one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use bytes::Bytes;
use jangada_kv::{
    Changes, Command, DeleteRangeRequest, EVENT_LOG_BYTES_MAX, PutRequest, RequestOp, TxnRequest,
    WatchOutput, WatchRefusal, WatchRequest, WatchStep, WatchStream,
};

use crate::harness::Subject;
use crate::harness::disk::Disk;
use crate::harness::watching::{self, Event};

#[test]
fn watchers_see_what_was_done() {
    for seed in 1..=24 {
        watching::run(seed, true);
    }
}

#[test]
fn watchers_of_a_store_in_memory_see_what_was_done() {
    for seed in 1..=24 {
        watching::run(seed, false);
    }
}

/// What a stream has to send, in short.
#[derive(Debug, PartialEq)]
enum Sent {
    Events(i64, Vec<Event>),
    Compacted(i64, i64),
    Progress(Option<i64>, i64),
}

fn sent(stream: &mut WatchStream) -> Vec<Sent> {
    let mut all = Vec::new();
    loop {
        match stream.step().expect("the store is well") {
            WatchStep::Idle => return all,
            WatchStep::More => {}
            WatchStep::Send(WatchOutput::Events(mut delivery)) => {
                let id = delivery.watcher();
                while let Some(response) = delivery.next_response(usize::MAX, usize::MAX) {
                    let bytes: Vec<u8> = response.slices.into_iter().flatten().collect();
                    all.push(Sent::Events(id, watching::decode(&bytes)));
                }
            }
            WatchStep::Send(WatchOutput::Compacted { id, compact_revision }) => {
                all.push(Sent::Compacted(id, compact_revision));
            }
            WatchStep::Send(WatchOutput::Progress { id, revision }) => {
                all.push(Sent::Progress(id, revision));
            }
        }
    }
}

fn revisions(sent: &[Sent]) -> Vec<i64> {
    let events = sent.iter().flat_map(|sent| match sent {
        Sent::Events(_, events) => events.clone(),
        Sent::Compacted(..) | Sent::Progress(..) => Vec::new(),
    });
    events.map(|event| event.kv.revision).collect()
}

fn all(start_revision: i64) -> WatchRequest {
    let range_end = Bytes::from_static(b"\0");
    WatchRequest { range_end, start_revision, ..WatchRequest::default() }
}

#[test]
fn ids_are_chosen_upwards_and_never_twice() {
    let subject = Subject::open(None);
    let mut stream = WatchStream::new(&subject.machine.shared());
    let with_id = |id| WatchRequest { id, ..all(0) };
    assert_eq!(stream.create(with_id(0)), Ok(0));
    assert_eq!(stream.create(with_id(1)), Ok(1));
    assert_eq!(stream.create(with_id(0)), Ok(2));
    assert_eq!(stream.create(with_id(2)), Err(WatchRefusal::DuplicateId));
    assert!(stream.cancel(2) && !stream.cancel(2));
    assert_eq!(stream.create(with_id(2)), Ok(2));
    assert_eq!(stream.create(with_id(-7)), Ok(-7));
    assert_eq!(stream.create(all(-1)), Err(WatchRefusal::Negative));
    let key = Bytes::from_static(b"b");
    let range_end = Bytes::from_static(b"a");
    let empty = WatchRequest { key, range_end, ..WatchRequest::default() };
    assert_eq!(stream.create(empty), Err(WatchRefusal::EmptyRange));
    assert_eq!(stream.len(), 4);
}

#[test]
fn a_watch_begins_at_a_compaction_and_not_below_it() {
    for with_engine in [true, false] {
        let disk = Disk::default();
        let mut subject = Subject::open(with_engine.then_some(&disk));
        subject.put("a", b"1");
        subject.put("b", b"1");
        subject.delete("a");
        subject.put("b", b"2");
        // A deletion exactly at the compaction is still an event.
        subject.compact(4);
        if with_engine {
            subject.settle();
        }
        let mut stream = WatchStream::new(&subject.machine.shared());
        let below = stream.create(all(3)).expect("it is told later");
        assert_eq!(sent(&mut stream), [Sent::Compacted(below, 4)]);
        assert!(stream.is_empty());
        let request = WatchRequest { replaced: true, ..all(4) };
        stream.create(request).expect("the compaction itself is there");
        let seen = sent(&mut stream);
        assert_eq!(revisions(&seen), [4, 5]);
        let Sent::Events(_, events) = &seen[0] else { panic!("they are events") };
        assert_eq!(events[0].previous, None, "what stood before is compacted");
        assert!(events[0].is_delete && events[1].previous.is_some());
    }
}

#[test]
fn a_watch_that_begins_at_a_compaction_is_told_all_of_its_transaction() {
    for with_engine in [true, false] {
        let disk = Disk::default();
        let mut subject = Subject::open(with_engine.then_some(&disk));
        let key = Bytes::from_static(b"a");
        let put = PutRequest { key: key.clone(), value: key.clone(), ..PutRequest::default() };
        let delete = DeleteRangeRequest { key, ..DeleteRangeRequest::default() };
        let success = vec![RequestOp::Put(put), RequestOp::DeleteRange(delete)];
        subject.apply(&Command::Txn(TxnRequest { success, ..TxnRequest::default() }));
        subject.compact(2);
        if with_engine {
            subject.settle();
        }
        let mut stream = WatchStream::new(&subject.machine.shared());
        stream.create(all(2)).expect("the compaction itself is there");
        let seen = sent(&mut stream);
        let Sent::Events(_, events) = &seen[0] else { panic!("they are events") };
        let deletions = events.iter().map(|event| event.is_delete).collect::<Vec<_>>();
        assert_eq!(deletions, [false, true], "the put is an event of that revision too");
        // The next compaction forgets both.
        subject.put("b", b"1");
        let before = subject.machine.shared().read().size_in_use();
        subject.compact(3);
        if with_engine {
            subject.settle();
        }
        let after = subject.machine.shared().read().size_in_use();
        assert!(before > after, "{before} bytes before the next compaction, {after} after it");
    }
}

#[test]
fn what_a_transaction_has_put_itself_is_not_what_it_replaced() {
    for with_engine in [true, false] {
        let disk = Disk::default();
        let mut subject = Subject::open(with_engine.then_some(&disk));
        subject.put("a", b"1");
        let mut stream = WatchStream::new(&subject.machine.shared());
        stream.create(WatchRequest { replaced: true, ..all(0) }).expect("it is the first");
        let (key, range_end) = (Bytes::from_static(b"a"), Bytes::from_static(b"\0"));
        let put = PutRequest { key: key.clone(), value: key.clone(), ..PutRequest::default() };
        let delete = DeleteRangeRequest { key, range_end, ..DeleteRangeRequest::default() };
        let success = vec![RequestOp::Put(put), RequestOp::DeleteRange(delete)];
        subject.apply(&Command::Txn(TxnRequest { success, ..TxnRequest::default() }));
        let seen = sent(&mut stream);
        let Sent::Events(_, events) = &seen[0] else { panic!("they are events") };
        let replaced = events.iter().map(|event| event.previous.as_ref().map(|kv| kv.revision));
        // As etcd has it: the state of the revision before, however the events are come by.
        assert_eq!(replaced.collect::<Vec<_>>(), [Some(2), Some(2)]);
    }
}

#[test]
fn one_that_waits_is_ended_by_a_compaction_and_one_that_reads_is_not() {
    let disk = Disk::default();
    let mut subject = Subject::open(Some(&disk));
    let (mut reader, mut sleeper) =
        (WatchStream::new(&subject.machine.shared()), WatchStream::new(&subject.machine.shared()));
    reader.create(all(0)).expect("it is the first");
    let asleep = sleeper.create(all(0)).expect("it is the first");
    for _ in 0..100 {
        subject.put("a", b"value");
        assert_eq!(revisions(&sent(&mut reader)), [subject.revision()]);
        subject.settle();
    }
    // What the reader has read is still in memory for the other.
    subject.compact(50);
    subject.settle();
    assert_eq!(revisions(&sent(&mut sleeper)).len(), 100);
    // Nobody else reads: there is nothing in memory.
    drop(reader);
    for _ in 0..100 {
        subject.put("a", b"value");
        subject.settle();
    }
    subject.compact(190);
    subject.settle();
    assert_eq!(sent(&mut sleeper), [Sent::Compacted(asleep, 190)]);
}

#[test]
fn memory_for_events_is_bounded_and_what_left_it_comes_from_the_engine() {
    let disk = Disk::default();
    let mut subject = Subject::open(Some(&disk));
    let mut ahead = WatchStream::new(&subject.machine.shared());
    let mut behind = WatchStream::new(&subject.machine.shared());
    ahead.create(all(0)).expect("it is the first");
    behind.create(WatchRequest { replaced: true, ..all(0) }).expect("it is the first");
    let value = vec![7; 1 << 20];
    let count = 2 * (EVENT_LOG_BYTES_MAX >> 20);
    for _ in 0..count {
        subject.put("a", &value);
        assert_eq!(revisions(&sent(&mut ahead)).len(), 1);
        subject.settle();
    }
    let seen = sent(&mut behind);
    assert_eq!(revisions(&seen).len(), count);
    let previous = seen.iter().filter(|sent| match sent {
        Sent::Events(_, events) => events.iter().all(|event| event.previous.is_some()),
        _ => false,
    });
    assert_eq!(previous.count(), count - 1, "all but the first replaced something");
}

#[test]
fn progress_is_said_when_all_is_sent_and_not_of_the_future() {
    let mut subject = Subject::open(None);
    let mut stream = WatchStream::new(&subject.machine.shared());
    stream.ask_progress();
    assert_eq!(sent(&mut stream), [], "nobody watches");
    let first = stream.create(WatchRequest { progress: true, ..all(0) }).expect("it is new");
    subject.put("a", b"1");
    stream.ask_progress();
    stream.interval_passed();
    let seen = sent(&mut stream);
    assert_eq!(revisions(&seen), [2]);
    assert_eq!(seen[1..], [Sent::Progress(None, 2)], "events came in this interval");
    stream.interval_passed();
    assert_eq!(sent(&mut stream), []);
    stream.interval_passed();
    assert_eq!(sent(&mut stream), [Sent::Progress(Some(first), 2)]);
    stream.create(WatchRequest { progress: true, ..all(4) }).expect("it is new");
    stream.ask_progress();
    stream.interval_passed();
    assert_eq!(sent(&mut stream), [Sent::Progress(Some(first), 2)], "one has not begun");
    subject.put("a", b"2");
    subject.put("a", b"3");
    stream.ask_progress();
    let seen = sent(&mut stream);
    assert_eq!(revisions(&seen), [3, 4, 4]);
    assert_eq!(seen.last(), Some(&Sent::Progress(None, 4)));
}

/// Counts how often somebody is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Count>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Count {
    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[test]
fn whoever_watches_nothing_of_what_changes_sleeps_on() {
    for disk in [None, Some(Disk::default())] {
        let mut subject = Subject::open(disk.as_ref());
        let shared = subject.machine.shared();
        let mut stream = WatchStream::new(&shared);
        let of_b = |start_revision| WatchRequest {
            key: Bytes::from_static(b"b"),
            range_end: Bytes::from_static(b"c"),
            start_revision,
            ..WatchRequest::default()
        };
        stream.create(of_b(0)).expect("it is new");
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        stream.arm(&waker);
        for _ in 0..50 {
            subject.put("a", b"1");
        }
        subject.compact(40);
        assert_eq!(count.get(), 0);
        let figures = shared.watch_figures();
        assert_eq!((figures.watchers, figures.slow_watchers, figures.pending), (1, 0, 0));
        // It does not wait for what is compacted: nothing of that concerned it.
        subject.put("b", b"1");
        assert_eq!(count.get(), 1);
        assert_eq!(revisions(&sent(&mut stream)), [52]);
        stream.arm(&waker);
        subject.put("a", b"1");
        // One that is added while the stream sleeps begins where it is to begin.
        stream.create(of_b(45)).expect("it is new");
        assert_eq!(revisions(&sent(&mut stream)), [52]);
        stream.arm(&waker);
        subject.put("a", b"1");
        stream.ask_progress();
        assert_eq!(sent(&mut stream), [Sent::Progress(None, 54)]);
        stream.arm(&waker);
        subject.put("c", b"1");
        assert_eq!(count.get(), 1);
        subject.delete("b");
        assert_eq!(count.get(), 2);
        assert_eq!(revisions(&sent(&mut stream)), [56, 56]);
        // What nobody watches any more wakes nobody.
        let id = stream.create(WatchRequest { start_revision: 0, ..all(0) }).expect("it is new");
        assert!(stream.cancel(id));
        assert_eq!(sent(&mut stream), []);
        stream.arm(&waker);
        subject.put("a", b"1");
        assert_eq!(count.get(), 2);
    }
}

#[test]
fn one_who_waits_on_a_range_is_woken_by_what_changes_there() {
    let mut subject = Subject::open(None);
    let (start, end) = (Bytes::from_static(b"lock/"), Bytes::from_static(b"lock0"));
    let changes = Changes::new(&subject.machine.shared(), &start, &end);
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    changes.arm(&waker);
    subject.put("other", b"1");
    assert_eq!(count.get(), 0);
    subject.put("lock/1", b"1");
    subject.put("lock/2", b"1");
    assert_eq!(count.get(), 1);
    changes.arm(&waker);
    subject.delete("lock/1");
    assert_eq!(count.get(), 2);
    changes.arm(&waker);
    drop(changes);
    subject.put("lock/3", b"1");
    assert_eq!(count.get(), 2);
}

#[test]
fn whoever_sleeps_is_woken_once() {
    let mut subject = Subject::open(None);
    let mut stream = WatchStream::new(&subject.machine.shared());
    stream.create(all(0)).expect("it is new");
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    stream.arm(&waker);
    assert!(!stream.has_news());
    for _ in 0..5 {
        subject.put("a", b"1");
    }
    assert_eq!(count.get(), 1);
    assert!(stream.has_news());
    let figures = subject.machine.shared().watch_figures();
    assert_eq!((figures.streams, figures.watchers, figures.slow_watchers), (1, 1, 1));
    assert_eq!(figures.pending, 5);
    assert_eq!(revisions(&sent(&mut stream)), [2, 3, 4, 5, 6]);
    stream.arm(&waker);
    let figures = subject.machine.shared().watch_figures();
    assert_eq!((figures.slow_watchers, figures.pending), (0, 0));
    drop(stream);
    subject.put("a", b"1");
    assert_eq!(count.get(), 1);
    assert_eq!(subject.machine.shared().watch_figures().streams, 0);
}
