//! Messages on their way out.
//!
//! Responsible for putting small pieces together, so that many responses leave in one write, and for
//! passing large ones on without a copy.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use tonic::Status;

use crate::grpc::framing::{self, PREFIX_BYTES};
use crate::proto::etcdserverpb as pb;

/// From here on a piece is passed on as it is: to copy it would cost more than a write of its own.
const SHARED_BYTES: usize = 4 << 10;

/// The pieces that wait to be written.
#[derive(Default)]
pub(super) struct Outgoing {
    whole: VecDeque<Bytes>,
    tail: BytesMut,
    bytes: usize,
}

impl Outgoing {
    /// The bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a message: a head, and behind it fields that are encoded already. Answers its length.
    ///
    /// # Errors
    /// It is larger than a prefix can say.
    pub(super) fn add(
        &mut self,
        head: &pb::WatchResponse,
        slices: Vec<Bytes>,
        slices_bytes: usize,
    ) -> Result<usize, Status> {
        let length = head.encoded_len() + slices_bytes;
        let prefix = framing::prefix(length)?;
        self.tail.reserve(PREFIX_BYTES + length.min(SHARED_BYTES));
        self.tail.put_slice(&prefix);
        head.encode(&mut self.tail).expect("a buffer grows");
        for slice in slices {
            if slice.len() < SHARED_BYTES {
                self.tail.extend_from_slice(&slice);
            } else {
                self.end_tail();
                self.whole.push_back(slice);
            }
        }
        self.bytes += PREFIX_BYTES + length;
        Ok(length)
    }

    /// Takes the next piece.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        if self.whole.is_empty() {
            self.end_tail();
        }
        let piece = self.whole.pop_front()?;
        self.bytes -= piece.len();
        Some(piece)
    }

    /// Gives back memory: nothing is to be written for now.
    pub(super) fn rest(&mut self) {
        if self.bytes == 0 {
            *self = Outgoing::default();
        }
    }

    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            self.whole.push_back(self.tail.split().freeze());
        }
    }
}
