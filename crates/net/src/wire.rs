//! The codec of messages between members.
//!
//! A message is a header, a fixed part and payloads. The header's checksum covers the header and
//! the fixed part; payloads carry their own (an entry's frame has one in its header, a forwarded
//! proposal one in the fixed part), so that nothing is checked twice and entries leave and arrive
//! without a copy. All numbers are little-endian. The layout is documented in
//! `docs/wire-format.md`.
//!
//! Not here: connections and who is at their other end ([`crate::handshake`]), and buffering
//! ([`crate::session`]).
//!
//! Invariants:
//! 1. Whatever is encoded decodes to the same message.
//! 2. Decoding foreign bytes never panics, and never takes more memory than the bytes themselves
//!    and the list of what they hold.
//! 3. The frames of an append carry exactly the names that its range gives (§5.3); sender and
//!    receiver both compare.

mod ask;
mod consult;
mod decode;
mod encode;
mod error;
mod snapshot;
mod versions;

use bytes::Bytes;
use jangada_entry::FRAME_BYTES_MAX;

use crate::PeerMessage;

pub use ask::{MEMBERSHIP_BYTES_MAX, fits};
pub use consult::CONSULT_BYTES_MAX;
pub use decode::{Header, decode};
pub use encode::{Encoded, Size, encode, encode_head, measure};
pub use error::{DecodeError, EncodeError};
#[cfg(any(test, feature = "next-wire"))]
pub use versions::NEXT_VERSION;
pub use versions::{decode_as, encode_as};
pub(crate) use versions::{put_in_version, take_from_version};

/// The size of a message's header in bytes.
pub const HEADER_BYTES: usize = 24;

/// The most bytes of payloads in one message: one entry of the largest size fits, and the appends
/// that the consensus module grants are far smaller.
pub const PAYLOAD_BYTES_MAX: usize = FRAME_BYTES_MAX;

/// The most bytes of a fixed part. The largest is that of an append with [`ENTRIES_MAX`] terms.
pub const FIXED_BYTES_MAX: usize = 1 << 20;

/// The largest message, header included. A length beyond it is damage, not a message.
pub const MESSAGE_BYTES_MAX: usize = HEADER_BYTES + FIXED_BYTES_MAX + PAYLOAD_BYTES_MAX;

/// The most entries in one append. An append of 1 MiB, the consensus module's default, holds at
/// most half as many, since no frame is smaller than its header.
pub const ENTRIES_MAX: usize = 1 << 15;

/// The most proposals in one forwarding, and the most sequence numbers in one refusal of them:
/// several times as many clients as one member is expected to serve at once.
pub const PROPOSALS_MAX: usize = 1 << 14;

/// The most bytes of the token from which a transfer of a snapshot goes on: a few numbers and a key.
pub const RESUME_BYTES_MAX: usize = 4 << 10;

/// The most bytes of the node's record in a snapshot: the addresses of some hundred members, and of as
/// many that were removed.
pub const RECORD_BYTES_MAX: usize = 256 << 10;

/// The largest index, term, round or number that is believed. The ones in use count up from 1 and
/// never come near; above it, adding one could overflow.
pub const NUMBER_MAX: u64 = i64::MAX as u64;

/// The bytes of an append's fixed part before its list of terms.
const APPEND_BYTES: usize = 56;

/// The bytes of one later term in an append.
const RUN_BYTES: usize = 16;

/// The bytes of one forwarded proposal in the fixed part.
const PROPOSAL_BYTES: usize = 32;

/// The numbers by which messages are told apart.
mod kind {
    pub(super) const PRE_VOTE_REQUEST: u8 = 1;
    pub(super) const PRE_VOTE_RESPONSE: u8 = 2;
    pub(super) const VOTE_REQUEST: u8 = 3;
    pub(super) const VOTE_RESPONSE: u8 = 4;
    pub(super) const APPEND: u8 = 5;
    pub(super) const APPEND_RESPONSE: u8 = 6;
    pub(super) const HEARTBEAT: u8 = 7;
    pub(super) const HEARTBEAT_RESPONSE: u8 = 8;
    pub(super) const FORWARD: u8 = 9;
    pub(super) const FORWARD_REFUSED: u8 = 10;
    pub(super) const READ_INDEX_REQUEST: u8 = 11;
    pub(super) const READ_INDEX_RESPONSE: u8 = 12;
    pub(super) const TIMEOUT_NOW: u8 = 14;
    pub(super) const HASH_QUESTION: u8 = 17;
    pub(super) const HASH_ANSWER: u8 = 18;
    pub(super) const HASH_DIFFERS: u8 = 19;
    pub(super) const SNAPSHOT_WANTED: u8 = 20;
    pub(super) const SNAPSHOT_OFFER: u8 = 21;
    pub(super) const SNAPSHOT_ACCEPT: u8 = 22;
    pub(super) const SNAPSHOT_CHUNK: u8 = 23;
    pub(super) const SNAPSHOT_STAGED: u8 = 24;
    pub(super) const SNAPSHOT_INSTALLED: u8 = 25;
    pub(super) const SNAPSHOT_REFUSED: u8 = 26;
    pub(super) const FRAMES_REQUEST: u8 = 27;
    pub(super) const FRAMES_RESPONSE: u8 = 28;
    pub(super) const ASK: u8 = 15;
    pub(super) const ANSWER: u8 = 16;
    pub(super) const CONSULT: u8 = 29;
    pub(super) const COUNSEL: u8 = 30;
}

/// The payloads of a message, in the order in which they follow the fixed part.
pub fn payloads(message: &PeerMessage) -> impl Iterator<Item = &Bytes> {
    let frames = match message {
        PeerMessage::Append { frames, .. } | PeerMessage::FramesResponse { frames, .. } => {
            frames.as_slice()
        }
        _ => &[],
    };
    let proposals = match message {
        PeerMessage::Forward(proposals) => proposals.as_slice(),
        _ => &[],
    };
    let chunk = match message {
        PeerMessage::Snapshot(message) => message.payload(),
        _ => None,
    };
    frames
        .iter()
        .map(jangada_entry::Frame::bytes)
        .chain(proposals.iter().map(|proposal| &proposal.payload))
        .chain(chunk)
}
