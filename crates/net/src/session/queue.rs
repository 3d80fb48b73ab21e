//! What waits to be sent on one connection: heads and small payloads copied together, large
//! payloads by reference, all of it handed to a vectored write.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use super::PushError;
use crate::PeerMessage;
use crate::wire::{self, EncodeError};

/// Payloads up to this size are copied behind the head instead of becoming a slice of their own:
/// below it, the copy costs less than a reference count and a slice for the kernel to walk.
const COPY_BYTES_MAX: usize = 1 << 10;

/// The least memory that is taken for heads at a time: some fifty of them.
const HEADS_BYTES: usize = 4 << 10;

/// Where copied bytes become a slice of their own, so that a long queue is no single, ever larger,
/// ever moving buffer.
const TAIL_BYTES_MAX: usize = 64 << 10;

/// Bytes that wait to be sent, in order.
#[derive(Debug)]
pub struct SendQueue {
    /// Before `tail`; no slice is empty.
    slices: VecDeque<Bytes>,
    /// Copied bytes; those before `tail_start` are sent.
    tail: BytesMut,
    tail_start: usize,
    bytes: usize,
    bytes_max: usize,
}

impl SendQueue {
    /// An empty queue for at most `bytes_max` bytes of messages. A message that finds the queue
    /// empty is taken whatever its size, so that no message is too large for every queue.
    #[must_use]
    pub fn new(bytes_max: usize) -> SendQueue {
        let tail = BytesMut::with_capacity(HEADS_BYTES);
        SendQueue { slices: VecDeque::new(), tail, tail_start: 0, bytes: 0, bytes_max }
    }

    /// The bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Puts a message of `group` at the end, in the version that was agreed on.
    ///
    /// # Errors
    /// The message is not taken, and nothing of it will be sent.
    pub fn push(
        &mut self,
        version: u16,
        group: u64,
        message: &PeerMessage,
    ) -> Result<(), PushError> {
        let size = wire::measure(message).map_err(PushError::Message)?;
        if 0 < self.bytes && self.bytes_max < self.bytes + size.total() {
            return Err(PushError::Full);
        }
        let start = self.tail.len();
        wire::encode_head(group, message, size, &mut self.tail);
        wire::put_in_version(version, &mut self.tail[start..]);
        for payload in wire::payloads(message) {
            self.push_payload(payload);
        }
        self.bytes += size.total();
        Ok(())
    }

    /// Puts bytes that are no message at the end, by copying them.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.bytes += bytes.len();
    }

    /// Fills `slices` from the front of what waits; gives how many it filled.
    pub fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail = &self.tail[self.tail_start..];
        let waiting = self.slices.iter().map(|slice| &slice[..]);
        let waiting = waiting.chain((!tail.is_empty()).then_some(tail));
        let mut filled = 0;
        for (place, bytes) in slices.iter_mut().zip(waiting) {
            *place = IoSlice::new(bytes);
            filled += 1;
        }
        filled
    }

    /// Takes the first `count` bytes off: they are sent.
    ///
    /// # Panics
    /// If fewer bytes wait.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.bytes, "no more is sent than waits");
        self.bytes -= count;
        let mut left = count;
        while 0 < left {
            let Some(first) = self.slices.front_mut() else {
                break;
            };
            let taken = left.min(first.len());
            first.advance(taken);
            left -= taken;
            if first.is_empty() {
                self.slices.pop_front();
            }
        }
        self.tail_start += left;
        if self.tail_start == self.tail.len() {
            // Everything is sent, and the memory serves for what comes next.
            self.tail.clear();
            self.tail_start = 0;
        }
    }

    fn push_payload(&mut self, payload: &Bytes) {
        if payload.len() <= COPY_BYTES_MAX {
            self.tail.extend_from_slice(payload);
            if TAIL_BYTES_MAX <= self.tail.len() - self.tail_start {
                self.close_tail();
            }
            return;
        }
        self.close_tail();
        self.slices.push_back(payload.clone());
    }

    /// Makes the copied bytes a slice, behind which others can stand.
    fn close_tail(&mut self) {
        let mut slice = self.tail.split().freeze();
        slice.advance(self.tail_start);
        self.tail_start = 0;
        if !slice.is_empty() {
            self.slices.push_back(slice);
        }
    }
}

impl From<EncodeError> for PushError {
    fn from(error: EncodeError) -> PushError {
        PushError::Message(error)
    }
}

impl std::fmt::Display for PushError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PushError::NotOpen => write!(f, "the connection is not open yet: wait for its welcome"),
            PushError::Full => write!(f, "too much waits to be sent: send again later"),
            PushError::Message(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PushError {}
