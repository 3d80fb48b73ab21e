//! The answer to a read, as it goes out: whole, or in pieces.
//!
//! Responsible for encoding the keys of a range as they are read. An answer of hundreds of megabytes
//! is never copied, nor moved from one buffer to a larger one.
//!
//! Invariants:
//! 1. The pieces, one behind the other, are the message as a whole would be encoded, behind its
//!    prefix.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use jangada_kv::KeyValue;
use prost::Message;
use tonic::Status;

use super::framing::{self, PREFIX_BYTES};
use crate::convert;
use crate::proto::etcdserverpb as pb;

/// The field `kvs` of a range's answer: number 2, with a length.
const KVS_TAG: u8 = 2 << 3 | 2;

/// The room that a header, the tail and a few small keys take.
const FIRST_BYTES: usize = 512;

/// A message with its prefix.
#[derive(Debug)]
pub(crate) enum Frame {
    /// In one piece.
    Whole(Bytes),
    /// In several.
    Pieces(VecDeque<Bytes>),
}

impl Frame {
    /// The length of the message, without the prefix.
    pub(crate) fn message_bytes(&self) -> usize {
        let bytes = match self {
            Frame::Whole(bytes) => bytes.len(),
            Frame::Pieces(pieces) => pieces.iter().map(Bytes::len).sum(),
        };
        bytes - PREFIX_BYTES
    }

    /// The message in one piece, without the prefix.
    pub(crate) fn into_message(self) -> Bytes {
        let mut message = match self {
            Frame::Whole(bytes) => bytes,
            Frame::Pieces(pieces) => {
                let mut all = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
                pieces.iter().for_each(|piece| all.put_slice(piece));
                all.freeze()
            }
        };
        message.split_off(PREFIX_BYTES)
    }
}

/// What a key's numbers and lengths take at most, its tag included.
const KEY_VALUE_BYTES: usize = 64;

/// Encodes a range's answer slice by slice.
pub(crate) struct RangeEncoder {
    /// The prefix and the header; with the keys of the first slice.
    first: BytesMut,
    rest: VecDeque<Bytes>,
    slices: usize,
    /// The length of the message so far.
    bytes: usize,
}

impl RangeEncoder {
    pub(crate) fn new(header: pb::ResponseHeader) -> RangeEncoder {
        let mut first = BytesMut::with_capacity(FIRST_BYTES);
        first.put_bytes(0, PREFIX_BYTES);
        let head = pb::RangeResponse { header: Some(header), ..Default::default() };
        head.encode(&mut first).expect("a buffer grows");
        let bytes = first.len() - PREFIX_BYTES;
        RangeEncoder { first, rest: VecDeque::new(), slices: 0, bytes }
    }

    /// The length of the message so far.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a slice.
    ///
    /// # Errors
    /// The message is larger than a prefix can say.
    pub(crate) fn add(&mut self, slice: Vec<KeyValue>) -> Result<(), Status> {
        let sizes = slice.iter().map(|kv| kv.key.len() + kv.value.len() + KEY_VALUE_BYTES);
        let room = sizes.sum();
        let mut own = BytesMut::new();
        let buffer = if self.slices == 0 { &mut self.first } else { &mut own };
        let before = buffer.len();
        buffer.reserve(room);
        for kv in slice {
            buffer.put_u8(KVS_TAG);
            convert::key_value(kv).encode_length_delimited(buffer).expect("a buffer grows");
        }
        self.bytes += buffer.len() - before;
        self.slices += 1;
        if !own.is_empty() {
            self.rest.push_back(own.freeze());
        }
        framing::prefix(self.bytes).map(drop)
    }

    /// Ends the message.
    ///
    /// # Errors
    /// As [`RangeEncoder::add`].
    pub(crate) fn finish(mut self, more: bool, count: i64) -> Result<Frame, Status> {
        let tail = pb::RangeResponse { more, count, ..Default::default() };
        let mut own = BytesMut::new();
        let buffer = if self.rest.is_empty() { &mut self.first } else { &mut own };
        tail.encode(buffer).expect("a buffer grows");
        self.bytes += tail.encoded_len();
        self.first[..PREFIX_BYTES].copy_from_slice(&framing::prefix(self.bytes)?);
        if self.rest.is_empty() {
            return Ok(Frame::Whole(self.first.freeze()));
        }
        self.rest.push_front(self.first.freeze());
        self.rest.push_back(own.freeze());
        Ok(Frame::Pieces(self.rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(at: usize) -> KeyValue {
        let number = at as i64;
        KeyValue {
            key: format!("key {at}").into(),
            create_revision: number,
            mod_revision: number << 40,
            version: 1,
            value: vec![at as u8; at * 100].into(),
            lease: -number,
        }
    }

    /// Invariant 1.
    #[test]
    fn the_pieces_are_the_message() {
        let header = pb::ResponseHeader { cluster_id: 1, member_id: 2, revision: 3, raft_term: 4 };
        for (sizes, more, count) in [
            (vec![0], false, 0),
            (vec![1], false, 1),
            (vec![3], true, 300),
            (vec![2, 0, 5], false, 7),
            (vec![0, 4, 1, 0], true, 1 << 40),
        ] {
            let all = || (0..sizes.iter().sum()).map(kv);
            let (mut keys, mut encoder) = (all(), RangeEncoder::new(header));
            for size in &sizes {
                encoder.add(keys.by_ref().take(*size).collect()).expect("it is small");
            }
            let frame = encoder.finish(more, count).expect("it is small");
            let message = pb::RangeResponse {
                header: Some(header),
                kvs: all().map(convert::key_value).collect(),
                more,
                count,
            };
            assert_eq!(frame.message_bytes(), message.encoded_len());
            let pieces = match frame {
                Frame::Whole(bytes) => VecDeque::from([bytes]),
                Frame::Pieces(pieces) => pieces,
            };
            let found: Vec<u8> = pieces.into_iter().flatten().collect();
            assert_eq!(found, framing::encode(&message).expect("it is small"));
            let decoded = pb::RangeResponse::decode(&found[PREFIX_BYTES..]);
            assert_eq!(decoded.expect("it is what was encoded"), message);
        }
    }
}
