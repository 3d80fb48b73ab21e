//! Which bytes a message is in which version of the protocol.
//!
//! There is one version so far. So that what comes with a second one is tried before there is one,
//! tests (and simulations, with the feature `next-wire`) have another that differs: its type numbers
//! lie 64 higher and the group's bytes stand in the other order, so that neither version's decoder
//! takes the other's bytes. No build speaks it by itself: whoever makes an
//! [`Identity`](crate::handshake::Identity) says which versions are spoken.

use bytes::{Bytes, BytesMut};

use super::{DecodeError, EncodeError, HEADER_BYTES, decode, encode};
use crate::PeerMessage;

/// The version that comes next.
#[cfg(any(test, feature = "next-wire"))]
pub const NEXT_VERSION: u16 = crate::handshake::NEWEST_VERSION + 1;

/// A whole message as bytes of `version`, one that both sides speak.
///
/// # Errors
/// The message exceeds a limit or contradicts itself.
pub fn encode_as(version: u16, group: u64, message: &PeerMessage) -> Result<Bytes, EncodeError> {
    let encoded = encode(group, message)?;
    let mut bytes = BytesMut::from(&encoded.head[..]);
    put_in_version(version, &mut bytes);
    encoded.slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
    Ok(bytes.freeze())
}

/// Reads one whole message of `version`.
///
/// # Errors
/// What is wrong with the bytes.
pub fn decode_as(version: u16, group: u64, bytes: Bytes) -> Result<PeerMessage, DecodeError> {
    let mut bytes = BytesMut::from(bytes);
    take_from_version(version, &mut bytes)?;
    decode(group, bytes.freeze())
}

/// Turns a head of the newest version, header and fixed part, into one of `version`.
pub(crate) fn put_in_version(version: u16, head: &mut [u8]) {
    #[cfg(any(test, feature = "next-wire"))]
    if version == NEXT_VERSION {
        next::turn(head);
    }
    debug_assert!(HEADER_BYTES <= head.len() && 0 < version, "a head of some version");
}

/// Turns a message of `version` into one of the newest version.
pub(crate) fn take_from_version(version: u16, message: &mut [u8]) -> Result<(), DecodeError> {
    #[cfg(any(test, feature = "next-wire"))]
    if version == NEXT_VERSION {
        return next::take(message);
    }
    debug_assert!(0 < version && HEADER_BYTES <= message.len(), "a message of some version");
    Ok(())
}

#[cfg(any(test, feature = "next-wire"))]
mod next {
    use super::super::decode::head_crc;
    use super::{DecodeError, HEADER_BYTES};

    /// What sets the type numbers apart.
    const KIND_BIT: u8 = 64;

    /// From the newest version to the next one, or back.
    pub(super) fn turn(head: &mut [u8]) {
        head[4] ^= KIND_BIT;
        head[8..16].reverse();
        let crc = head_crc(head);
        head[20..24].copy_from_slice(&crc.to_le_bytes());
    }

    pub(super) fn take(message: &mut [u8]) -> Result<(), DecodeError> {
        let Some(header) = message.first_chunk::<HEADER_BYTES>() else {
            return Err(DecodeError::Short);
        };
        let kind = header[4];
        let fixed = u32::from_le_bytes([header[16], header[17], header[18], header[19]]) as usize;
        let crc = [header[20], header[21], header[22], header[23]];
        let head = message.get_mut(..HEADER_BYTES + fixed).ok_or(DecodeError::Short)?;
        // Turning makes the checksum anew, so damage has to be seen before.
        if head_crc(head).to_le_bytes() != crc {
            return Err(DecodeError::Checksum);
        }
        if kind & KIND_BIT == 0 {
            return Err(DecodeError::Kind(kind));
        }
        turn(head);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;
    use jangada_raft::{Heartbeat, Index, Message, NodeId, ReadRound, Term};

    use super::*;
    use crate::Lane;
    use crate::handshake::{Identity, Known, NEWEST_VERSION, OLDEST_VERSION};
    use crate::session::{Incoming, Judged, Outgoing};

    const GROUP: u64 = 0x0102;

    fn heartbeat() -> PeerMessage {
        let (term, commit, round) = (Term(3), Index(9), ReadRound(4));
        PeerMessage::Raft(Message::Heartbeat(Heartbeat { term, commit, round, recover_to: None }))
    }

    fn identity(member: u64, newest: u16) -> Identity {
        Identity {
            cluster: 1,
            member: NodeId(member),
            incarnation: member,
            process: member,
            oldest: OLDEST_VERSION,
            newest,
            level: 1,
        }
    }

    /// What a member that speaks up to `dialer` says to one that speaks up to `acceptor`; gives the
    /// version they agreed on and the bytes.
    fn spoken(dialer: u16, acceptor: u16) -> (u16, Vec<u8>) {
        let (one, two) = (identity(1, dialer), identity(2, acceptor));
        let mut outgoing = Outgoing::dial(one, NodeId(2), None, Lane::Control, GROUP, 1 << 20, &[]);
        let mut incoming = Incoming::accept(two, GROUP);
        let hello = take(&mut outgoing);
        incoming.buffer().put_slice(&hello);
        let judged = incoming.judge(|_| Known::Member(None)).expect("it is a hello");
        let Some(Judged::Welcome { met, reply, .. }) = judged else { panic!("{judged:?}") };
        outgoing.receive(&reply).expect("it is a welcome");
        outgoing.push(&heartbeat()).expect("the lane is open");
        let bytes = take(&mut outgoing);
        incoming.buffer().put_slice(&bytes);
        let arrived = incoming.next_message().expect("it is a message").expect("it is whole");
        assert_eq!(arrived, (heartbeat(), bytes.len()));
        (met.version, bytes)
    }

    fn take(outgoing: &mut Outgoing) -> Vec<u8> {
        let mut slices = [std::io::IoSlice::new(&[]); 4];
        let filled = outgoing.queue().fill(&mut slices);
        let bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
        outgoing.queue_mut().advance(bytes.len());
        bytes
    }

    #[test]
    fn members_of_two_versions_speak_the_older_one_and_two_of_the_next_the_next() {
        let (old, new) = (NEWEST_VERSION, NEXT_VERSION);
        let (version, plain) = spoken(old, old);
        assert_eq!(version, old);
        assert_eq!(spoken(old, new), (old, plain.clone()));
        assert_eq!(spoken(new, old), (old, plain.clone()));
        let (version, other) = spoken(new, new);
        assert_eq!((version, other.len()), (new, plain.len()));
        assert!(decode(GROUP, other.clone().into()).is_err());
        assert!(decode_as(new, GROUP, plain.into()).is_err());
        assert_eq!(decode_as(new, GROUP, other.clone().into()), Ok(heartbeat()));
        assert_eq!(encode_as(new, GROUP, &heartbeat()), Ok(other.into()));
    }

    #[test]
    fn damage_is_seen_in_either_version() {
        for version in [NEWEST_VERSION, NEXT_VERSION] {
            let bytes = encode_as(version, GROUP, &heartbeat()).expect("it is sound");
            for at in 0..bytes.len() {
                let mut damaged = bytes.to_vec();
                damaged[at] ^= 1;
                assert!(decode_as(version, GROUP, damaged.into()).is_err(), "{version} {at}");
            }
        }
    }
}
