//! Answers that their clients have not taken yet.
//!
//! A client may ask for much and read nothing. Its answers lie in memory until it does, so a connection
//! that has a lot of them waits with further reads until it has taken some. Other connections do not
//! notice.
//!
//! Responsible for counting large answers from when they are made until their last byte has left, and for
//! the wait before another read. Not responsible for what the protocol's own windows hold back.
//!
//! Invariants:
//! 1. A connection that has nothing waiting may always read.
//! 2. One answer of many parts is made at a time, and it waits for none that is only begun.
//! 3. What is counted is counted until its memory is given back, whoever holds the last piece of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::{Mutex, MutexGuard, Notify};

use crate::grpc::Frame;

/// What a connection may have waiting before it has to take some of it: enough for a client that reads to
/// be given everything without a pause.
pub(crate) const CONNECTION_BYTES_MAX: usize = 32 << 20;

/// What all connections may have waiting together before those that have something wait: a small part of
/// the memory of a machine that holds as much as an answer may be large.
pub(crate) const TOTAL_BYTES_MAX: usize = 512 << 20;

/// Smaller answers are not counted; a thousand of them are no more than a large one.
const COUNTED_BYTES: usize = 32 << 10;

/// What waits of all connections.
#[derive(Debug, Default)]
struct Total {
    bytes: AtomicUsize,
    taken: Notify,
}

/// What waits of one connection. A clone is another handle of the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backlog {
    own: Arc<Own>,
}

#[derive(Debug, Default)]
struct Own {
    bytes: AtomicUsize,
    /// Of answers whose first part is made and that wait for their turn to be made whole.
    begun: AtomicUsize,
    total: Arc<Total>,
    /// Held while an answer of many parts is made: one at a time.
    making: Mutex<()>,
}

/// A turn at making an answer of many parts.
pub(crate) struct Turn<'a> {
    backlog: &'a Backlog,
    /// What was there when it was waited for.
    begun: usize,
    making: Option<MutexGuard<'a, ()>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.making = None;
        self.backlog.own.begun.fetch_sub(self.begun, Ordering::SeqCst);
        self.backlog.own.total.taken.notify_waiters();
    }
}

/// A part of an answer, counted until it is dropped.
struct Counted {
    own: Arc<Own>,
    bytes: usize,
    part: Bytes,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.part
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // The memory first, so that what is let go of is not there any more.
        self.part = Bytes::new();
        self.own.bytes.fetch_sub(self.bytes, Ordering::SeqCst);
        self.own.total.bytes.fetch_sub(self.bytes, Ordering::SeqCst);
        self.own.total.taken.notify_waiters();
    }
}

impl Backlog {
    /// That of another connection.
    pub(crate) fn of_another(&self) -> Backlog {
        let own = Own { total: Arc::clone(&self.own.total), ..Own::default() };
        Backlog { own: Arc::new(own) }
    }

    /// Whether there is room beside so much that is begun.
    fn has_room(&self, begun: usize) -> bool {
        let own = self.own.bytes.load(Ordering::SeqCst) + begun;
        let total = self.own.total.bytes.load(Ordering::SeqCst);
        own == 0 || (own < CONNECTION_BYTES_MAX && total < TOTAL_BYTES_MAX) // invariant 1
    }

    /// Waits until the client has taken enough of what it has asked for.
    pub(crate) async fn room(&self) {
        self.wait(|| self.has_room(self.own.begun.load(Ordering::SeqCst))).await;
    }

    /// The same for an answer of many parts, of which so many bytes are there (invariant 2).
    pub(crate) async fn turn(&self, begun: usize) -> Turn<'_> {
        self.own.begun.fetch_add(begun, Ordering::SeqCst);
        let mut turn = Turn { backlog: self, begun, making: None };
        turn.making = Some(self.own.making.lock().await);
        self.wait(|| self.has_room(0)).await;
        turn
    }

    async fn wait(&self, has_room: impl Fn() -> bool) {
        while !has_room() {
            let taken = self.own.total.taken.notified();
            if !has_room() {
                taken.await;
            }
        }
    }

    /// Counts an answer.
    pub(crate) fn count(&self, frame: Frame) -> Frame {
        if frame.message_bytes() < COUNTED_BYTES {
            return frame;
        }
        match frame {
            Frame::Whole(part) => Frame::Whole(self.counted(part)),
            Frame::Pieces(parts) => {
                Frame::Pieces(parts.into_iter().map(|part| self.counted(part)).collect())
            }
        }
    }

    fn counted(&self, part: Bytes) -> Bytes {
        let bytes = part.len();
        self.own.bytes.fetch_add(bytes, Ordering::SeqCst);
        self.own.total.bytes.fetch_add(bytes, Ordering::SeqCst);
        Bytes::from_owner(Counted { own: Arc::clone(&self.own), bytes, part })
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn is_ready(future: impl Future<Output = ()>) -> bool {
        let future = std::pin::pin!(future);
        future.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    fn answer(bytes: usize) -> Frame {
        Frame::Whole(vec![0; bytes].into())
    }

    fn bytes_of(frame: Frame) -> Bytes {
        match frame {
            Frame::Whole(bytes) => bytes,
            Frame::Pieces(_) => panic!("it was whole"),
        }
    }

    #[tokio::test]
    async fn a_connection_waits_for_its_own_answers_and_for_no_others() {
        let first = Backlog::default();
        let second = first.of_another();
        let small = first.count(answer(COUNTED_BYTES / 2));
        assert_eq!(first.own.bytes.load(Ordering::SeqCst), 0, "small ones are not counted");
        let large = bytes_of(first.count(answer(CONNECTION_BYTES_MAX)));
        assert!(!is_ready(first.room()) && is_ready(second.room()));
        let waiting = tokio::spawn({
            let first = first.clone();
            async move { first.room().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        // A piece of it keeps all of it in memory.
        let piece = large.slice(..10);
        drop(large);
        assert!(!is_ready(first.room()));
        drop(piece);
        waiting.await.expect("it does not panic");
        assert!(is_ready(first.room()));
        drop(small);
    }

    #[tokio::test]
    async fn answers_that_are_begun_hold_up_others_but_not_one_another() {
        let backlog = Backlog::default();
        let first = backlog.turn(CONNECTION_BYTES_MAX).await;
        assert!(!is_ready(backlog.room()), "nothing more is begun");
        let second = tokio::spawn({
            let backlog = backlog.clone();
            async move { drop(backlog.turn(1).await) }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished(), "one at a time");
        drop(first);
        second.await.expect("it does not panic");
        assert!(is_ready(backlog.room()));
    }

    #[test]
    fn together_connections_have_no_more_than_a_bound_and_one_answer_each() {
        let backlogs: Vec<Backlog> = {
            let first = Backlog::default();
            (0..3).map(|_| first.of_another()).collect()
        };
        // As if: so much need not be there to be counted.
        backlogs[0].own.total.bytes.store(TOTAL_BYTES_MAX, Ordering::SeqCst);
        let held = backlogs[1].count(answer(COUNTED_BYTES + 5));
        assert!(is_ready(backlogs[0].room()), "it has nothing waiting");
        assert!(!is_ready(backlogs[1].room()), "it has");
        drop(held);
        assert!(is_ready(backlogs[1].room()));
    }
}
