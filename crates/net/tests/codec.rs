//! The codec: what is encoded comes back, what is damaged is refused, and nothing panics.

#[path = "codec/asks.rs"]
mod asks;
mod common;
#[path = "codec/consults.rs"]
mod consults;

use bytes::{BufMut, Bytes, BytesMut};
use common::{GROUP, append, frame, heartbeat};
use jangada_entry::{Draft, Frame, FrameError, Kind, Origin};
use jangada_net::wire::{self, DecodeError, EncodeError};
use jangada_net::{
    ForwardRefusal, PeerMessage, Proposal, SnapshotChunk, SnapshotHead, SnapshotMessage,
    SnapshotRefusal,
};
use jangada_raft::{
    AppendOutcome, AppendRequest, AppendResponse, Heartbeat, HeartbeatResponse, Index, Message,
    Position, PreVoteRequest, PreVoteResponse, Range, ReadRound, Term, TimeoutNow, VoteRequest,
    VoteResponse,
};
use proptest::prelude::*;

fn whole(group: u64, message: &PeerMessage) -> Bytes {
    let encoded = wire::encode(group, message).expect("the message is sound");
    let mut out = BytesMut::from(&encoded.head[..]);
    encoded.slices.iter().for_each(|slice| out.extend_from_slice(slice));
    out.freeze()
}

/// The same bytes with their fixed part changed and the checksum made good again.
fn reseal(message: &[u8], change: impl FnOnce(&mut [u8])) -> Bytes {
    let mut bytes = message.to_vec();
    let fixed = u32::from_le_bytes(bytes[16..20].try_into().expect("four bytes")) as usize;
    change(&mut bytes);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..20]), &bytes[24..24 + fixed]);
    bytes[20..24].copy_from_slice(&crc.to_le_bytes());
    bytes.into()
}

prop_compose! {
    fn position()(index in 0..1_u64 << 40, term in 0..1_u64 << 40) -> Position {
        Position { index: Index(index), term: Term(term) }
    }
}

prop_compose! {
    /// Entries after some place, in terms that rise now and then.
    fn entries()(
        prev in position(),
        steps in prop::collection::vec(
            (0..3_u64, prop::collection::vec(any::<u8>(), 0..40)),
            0..20,
        ),
        commit in 0..1_u64 << 40,
        above in 0..5_u64,
    ) -> PeerMessage {
        let mut range = Range::empty(prev);
        let mut frames: Vec<Frame> = Vec::new();
        let mut term = prev.term.0;
        for (step, payload) in steps {
            term += step / 2;
            range.push(Term(term));
            let mut buffer = Draft::buffer(payload.len());
            buffer.extend_from_slice(&payload);
            let origin = Origin { incarnation: step, sequence: term };
            let draft = Draft::new(buffer, Kind::Command, 1, GROUP, origin);
            frames.push(draft.stamp(range.last_position(), 5));
        }
        let request = AppendRequest { term: Term(term + above), range, commit: Index(commit), configurations: Vec::new() };
        PeerMessage::Append { request, frames }
    }
}

prop_compose! {
    fn proposal()(
        kind in 0..3_u8,
        version in any::<u16>(),
        incarnation in any::<u64>(),
        sequence in any::<u64>(),
        payload in prop::collection::vec(any::<u8>(), 0..60),
    ) -> Proposal {
        Proposal {
            kind: Kind::of(kind).expect("a known kind"),
            version,
            origin: Origin { incarnation, sequence },
            payload: payload.into(),
        }
    }
}

fn raft() -> impl Strategy<Value = Message> {
    let number = 0..1_u64 << 62;
    prop_oneof![
        (number.clone(), position()).prop_map(|(term, last)| {
            Message::PreVoteRequest(PreVoteRequest { term: Term(term), last })
        }),
        (number.clone(), any::<bool>()).prop_map(|(term, granted)| {
            Message::PreVoteResponse(PreVoteResponse { term: Term(term), granted })
        }),
        (number.clone(), position(), any::<bool>()).prop_map(|(term, last, transfer)| {
            Message::VoteRequest(VoteRequest { term: Term(term), last, transfer })
        }),
        number.clone().prop_map(|term| Message::TimeoutNow(TimeoutNow { term: Term(term) })),
        (number.clone(), any::<bool>()).prop_map(|(term, granted)| {
            Message::VoteResponse(VoteResponse { term: Term(term), granted })
        }),
        (number.clone(), number.clone()).prop_map(|(term, index)| {
            let outcome = AppendOutcome::Match(Index(index));
            Message::AppendResponse(AppendResponse { term: Term(term), outcome, recovering: None })
        }),
        (number.clone(), position(), 1..9_u64).prop_map(|(term, hint, beyond)| {
            let probe = Index(hint.index.0 + beyond);
            let outcome = AppendOutcome::Conflict { probe, hint };
            Message::AppendResponse(AppendResponse { term: Term(term), outcome, recovering: None })
        }),
        (number.clone(), number.clone(), number.clone()).prop_map(|(term, commit, round)| {
            let (term, commit, round) = (Term(term), Index(commit), ReadRound(round));
            Message::Heartbeat(Heartbeat { term, commit, round, recover_to: None })
        }),
        (number.clone(), number).prop_map(|(term, round)| {
            let (term, round) = (Term(term), ReadRound(round));
            Message::HeartbeatResponse(HeartbeatResponse { term, round, recovering: None })
        }),
    ]
}

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn snapshot() -> impl Strategy<Value = SnapshotMessage> {
    let number = || 0..1_u64 << 62;
    let reason = prop_oneof![
        Just(SnapshotRefusal::Stale),
        Just(SnapshotRefusal::Busy),
        Just(SnapshotRefusal::Unfit)
    ];
    let head = (position(), bytes(60), any::<bool>())
        .prop_map(|(last, record, resumes)| SnapshotHead { last, record, resumes });
    let chunk = (number(), number(), number(), prop::option::of(head), any::<bool>());
    let chunk = (chunk, bytes(20), bytes(3000)).prop_map(|(fields, resume, bytes)| {
        let (transfer, term, number, head, is_last) = fields;
        let term = Term(term);
        SnapshotChunk { transfer, term, number, head, is_last, resume, bytes }
    });
    prop_oneof![
        number().prop_map(|index| SnapshotMessage::Wanted { at_least: Index(index) }),
        (number(), number())
            .prop_map(|(transfer, term)| SnapshotMessage::Offer { transfer, term: Term(term) }),
        (number(), prop::option::of(bytes(20)))
            .prop_map(|(transfer, resume)| SnapshotMessage::Accept { transfer, resume }),
        chunk.prop_map(SnapshotMessage::Chunk),
        (number(), number())
            .prop_map(|(transfer, number)| SnapshotMessage::Staged { transfer, number }),
        (number(), number()).prop_map(|(transfer, last)| SnapshotMessage::Installed {
            transfer,
            last: Index(last)
        }),
        (number(), reason)
            .prop_map(|(transfer, reason)| SnapshotMessage::Refused { transfer, reason }),
    ]
}

fn any_message() -> impl Strategy<Value = PeerMessage> {
    let reason = prop_oneof![
        Just(ForwardRefusal::NotLeader),
        Just(ForwardRefusal::Busy),
        Just(ForwardRefusal::NoSpace)
    ];
    let sequences = prop::collection::vec(any::<u64>(), 0..20);
    prop_oneof![
        4 => raft().prop_map(PeerMessage::Raft),
        3 => entries(),
        3 => prop::collection::vec(proposal(), 0..10).prop_map(PeerMessage::Forward),
        1 => (any::<u64>(), sequences, reason).prop_map(|(process, sequences, reason)| {
            PeerMessage::ForwardRefused { process, sequences, reason }
        }),
        1 => any::<u64>().prop_map(|number| PeerMessage::ReadIndexRequest { number }),
        1 => (any::<u64>(), prop::option::of(0..1_u64 << 62)).prop_map(|(number, index)| {
            PeerMessage::ReadIndexResponse { number, index: index.map(Index) }
        }),
        2 => asks::ask(),
        2 => asks::answer(),
        2 => consults::consult(),
        2 => consults::counsel(),
        3 => snapshot().prop_map(PeerMessage::Snapshot),
        1 => (position(), 0..1_u64 << 62).prop_map(|(first, last)| {
            PeerMessage::FramesRequest { first, last: Index(last) }
        }),
        1 => entries().prop_map(|message| {
            let PeerMessage::Append { frames, .. } = message else { unreachable!("entries") };
            let first = frames.first().map_or(Position::default(), Frame::position);
            PeerMessage::FramesResponse { first, begins: Index(3), frames }
        }),
        1 => (0..1_u64 << 62).prop_map(|index| PeerMessage::HashQuestion { index: Index(index) }),
        1 => (0..1_u64 << 62, any::<u64>())
            .prop_map(|(index, hash)| PeerMessage::HashAnswer { index: Index(index), hash }),
        1 => (0..1_u64 << 62, any::<u64>())
            .prop_map(|(index, hash)| PeerMessage::HashDiffers { index: Index(index), hash }),
    ]
}

proptest! {
    /// Wire invariant 1.
    #[test]
    fn what_is_encoded_comes_back(message in any_message()) {
        let bytes = whole(GROUP, &message);
        prop_assert_eq!(bytes.len(), wire::measure(&message).expect("sound").total());
        prop_assert_eq!(wire::decode(GROUP, bytes), Ok(message));
    }

    /// The checksums together cover every byte.
    #[test]
    fn every_changed_bit_is_noticed(
        message in any_message(),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let mut bytes = whole(GROUP, &message).to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(wire::decode(GROUP, bytes.into()).is_err());
    }

    #[test]
    fn every_cut_is_noticed(message in any_message(), at in any::<prop::sample::Index>()) {
        let bytes = whole(GROUP, &message);
        let cut = bytes.slice(..at.index(bytes.len()));
        prop_assert_eq!(wire::decode(GROUP, cut), Err(DecodeError::Short));
        let mut longer = bytes.to_vec();
        longer.push(0);
        prop_assert_eq!(wire::decode(GROUP, longer.into()), Err(DecodeError::Long));
    }

    /// Wire invariant 2. A checksum made good lets any field through to its own check; whatever is
    /// believed then is exactly what its sender would have written.
    #[test]
    fn hostile_fields_are_refused_or_mean_what_they_say(
        message in any_message(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let bytes = whole(GROUP, &message);
        let fixed = wire::Header::decode(&bytes).expect("sound").fixed as usize;
        let hostile = reseal(&bytes, |bytes| {
            for (at, value) in changes {
                // The lengths stay: they are tested by cuts and by random bytes.
                let at = 4 + at.index(20 + fixed);
                if !(16..24).contains(&at) {
                    bytes[at] = value;
                }
            }
        });
        if let Ok(message) = wire::decode(GROUP, hostile.clone()) {
            prop_assert_eq!(whole(GROUP, &message), hostile);
        }
    }

    #[test]
    fn random_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let refused = wire::decode(GROUP, bytes.clone().into()).is_err();
        prop_assert!(refused, "{bytes:?}");
    }

    #[test]
    fn random_fixed_parts_do_not_panic(
        kind in 0..16_u8,
        fixed in prop::collection::vec(any::<u8>(), 0..200),
        payload in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes = raw(kind, &fixed, &payload);
        if let Ok(message) = wire::decode(GROUP, bytes.clone()) {
            prop_assert_eq!(whole(GROUP, &message), bytes);
        }
    }
}

/// A message of any type number with good lengths and a good checksum.
fn raw(kind: u8, fixed: &[u8], payload: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    let length = wire::HEADER_BYTES + fixed.len() + payload.len();
    bytes.put_u32_le(u32::try_from(length).expect("small"));
    bytes.put_u8(kind);
    bytes.put_bytes(0, 3);
    bytes.put_u64_le(GROUP);
    bytes.put_u32_le(u32::try_from(fixed.len()).expect("small"));
    bytes.put_u32_le(0);
    bytes.extend_from_slice(fixed);
    bytes.extend_from_slice(payload);
    reseal(&bytes, |_| {})
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn entries_share_the_memory_they_arrived_in() {
    let bytes = whole(GROUP, &append(4, &[vec![1; 2000], vec![2; 3000]]));
    let memory = bytes.as_ptr_range();
    let Ok(PeerMessage::Append { frames, .. }) = wire::decode(GROUP, bytes.clone()) else {
        panic!("the message is sound");
    };
    for frame in frames {
        assert!(memory.contains(&frame.bytes().as_ptr()), "an entry was copied");
    }
}

#[test]
fn entries_are_sent_from_the_memory_they_are_in() {
    let message = append(4, &[vec![1; 10], vec![2; 3000]]);
    let PeerMessage::Append { frames, .. } = &message else { panic!("it is an append") };
    let encoded = wire::encode(GROUP, &message).expect("the message is sound");
    assert_eq!(encoded.slices.len(), 2);
    for (frame, slice) in frames.iter().zip(&encoded.slices) {
        assert_eq!(frame.bytes().as_ptr(), slice.as_ptr(), "an entry was copied");
    }
}

/// Each way in which a message can be wrong, and what is said of it.
#[test]
fn every_fault_has_its_name() {
    let beat = whole(GROUP, &heartbeat(1));
    let two = whole(GROUP, &append(4, &[vec![1], vec![2]]));
    let at = |bytes: &Bytes, at: usize, value: u8| reseal(bytes, |bytes| bytes[at] = value);
    let plain = |bytes: &Bytes, at: usize, value: u8| {
        let mut bytes = bytes.to_vec();
        bytes[at] = value;
        Bytes::from(bytes)
    };
    let number = u64::MAX;
    let cases = [
        (beat.slice(..20), DecodeError::Short),
        (plain(&beat, 0, 3), DecodeError::Length(3)),
        (plain(&beat, 3, 0x7F), DecodeError::Length(0x7F00_0030)),
        (plain(&beat, 18, 0xFF), DecodeError::FixedLength(0x00FF_0018)),
        (plain(&beat, 30, 9), DecodeError::Checksum),
        (at(&beat, 4, 99), DecodeError::Kind(99)),
        (at(&beat, 5, 1), DecodeError::Reserved),
        (at(&beat, 6, 1), DecodeError::Reserved),
        (at(&beat, 8, 9), DecodeError::Group { ours: GROUP, theirs: 9 }),
        (raw(7, &words(&[1, number, 1]), &[]), DecodeError::Number(number)),
        (raw(7, &words(&[1, 1]), &[]), DecodeError::Short),
        (raw(7, &words(&[1, 1, 1, 1]), &[]), DecodeError::Short),
        (raw(7, &words(&[1, 1, 1, 1, 1, 1]), &[]), DecodeError::Long),
        (raw(7, &words(&[1, 1, 1]), &[1]), DecodeError::Long),
        (raw(4, &words(&[1, 2]), &[]), DecodeError::Choice(2)),
        (raw(4, &words(&[1, 1 << 8]), &[]), DecodeError::Reserved),
        (raw(6, &words(&[1, 1, 5, 5, 1]), &[]), DecodeError::Hint),
        (raw(6, &words(&[1, 0, 5, 4, 1]), &[]), DecodeError::Reserved),
        (raw(9, &words(&[16_385]), &[]), DecodeError::Count(16_385)),
        (raw(9, &words(&[1, 10 << 32, 0, 0, 0]), &[0; 9]), DecodeError::Short),
        (raw(9, &words(&[1, 1 << 32, 0, 0, 0]), &[7]), DecodeError::ProposalChecksum),
        (raw(9, &words(&[1, 9, 0, 0, 0]), &[]), DecodeError::Frame(FrameError::Kind(9))),
        (raw(10, &words(&[3]), &[]), DecodeError::Choice(3)),
        (raw(10, &words(&[9 << 32]), &[]), DecodeError::Short),
        (raw(12, &words(&[1, 9, 0]), &[]), DecodeError::Reserved),
        // Term, commit, prev index and term, last, first term, number of later terms.
        (raw(5, &words(&[3, 0, 5, 1, 4, 0, 0]), &[]), DecodeError::Range),
        (raw(5, &words(&[3, 0, 5, 1, 5, 1, 0]), &[]), DecodeError::Range),
        (raw(5, &words(&[3, 0, 5, 2, 6, 1, 0]), &[]), DecodeError::Range),
        (raw(5, &words(&[3, 0, 5, 1, 6, 4, 0]), &[0; 64]), DecodeError::Range),
        (raw(5, &words(&[3, 0, 5, 1, 7, 1, 1, 2, 6]), &[]), DecodeError::Range),
        (raw(5, &words(&[3, 0, 5, 1, 7, 1, 1, 1, 7]), &[]), DecodeError::Range),
        (raw(5, &words(&[3, 0, 5, 1, 7, 1, 1, 2, 8]), &[]), DecodeError::Range),
        (raw(5, &words(&[3, 0, 5, 1, 7, 1, u64::from(u32::MAX)]), &[]), DecodeError::Short),
        (raw(5, &words(&[3, 0, 0, 0, 1 << 20, 1, 0]), &[]), DecodeError::Count(1 << 20)),
        (raw(5, &words(&[3, 0, 5, 1, 6, 1, 0]), &[]), DecodeError::Frame(FrameError::Short)),
        (plain(&two, two.len() - 1, 7), DecodeError::Frame(FrameError::PayloadChecksum)),
    ];
    for (bytes, expected) in cases {
        assert_eq!(wire::decode(GROUP, bytes), Err(expected), "{expected}");
        let sentence = expected.to_string();
        assert!(sentence.is_ascii() && 10 < sentence.len(), "{sentence}");
    }
}

/// Wire invariant 3.
#[test]
fn entries_under_other_names_are_refused_on_both_sides() {
    let sound = append(4, &[vec![1], vec![2]]);
    let PeerMessage::Append { request, frames } = sound.clone() else {
        panic!("it is an append");
    };
    let swapped = vec![frames[1].clone(), frames[0].clone()];
    for frames in [swapped, frames[..1].to_vec(), vec![]] {
        let message = PeerMessage::Append { request: request.clone(), frames };
        assert_eq!(wire::measure(&message), Err(EncodeError::Frames));
    }

    let PeerMessage::Append { request: moved, .. } = append(5, &[vec![1], vec![2]]) else {
        panic!("it is an append");
    };
    let bytes = whole(GROUP, &sound);
    let renamed = reseal(&bytes, |bytes| {
        bytes[40..48].copy_from_slice(&moved.range.prev.index.0.to_le_bytes());
        bytes[56..64].copy_from_slice(&moved.range.last.0.to_le_bytes());
    });
    let position = |index| Position { index: Index(index), term: Term(3) };
    let (expected, found) = (position(6), position(5));
    assert_eq!(wire::decode(GROUP, renamed), Err(DecodeError::FrameName { expected, found }));
}

#[test]
fn entries_of_another_group_are_refused() {
    let bytes = whole(2, &append(4, &[vec![1]]));
    let theirs = DecodeError::Group { ours: 2, theirs: GROUP };
    assert_eq!(wire::decode(2, bytes), Err(theirs));
}

#[test]
fn what_exceeds_a_limit_is_not_sent() {
    let many = PeerMessage::ForwardRefused {
        process: 1,
        sequences: vec![1; wire::PROPOSALS_MAX + 1],
        reason: ForwardRefusal::Busy,
    };
    assert_eq!(wire::measure(&many), Err(EncodeError::Proposals(wire::PROPOSALS_MAX + 1)));
    let entries = append(0, &vec![vec![]; wire::ENTRIES_MAX + 1]);
    assert_eq!(wire::measure(&entries), Err(EncodeError::Entries(wire::ENTRIES_MAX + 1)));
    let payload = Bytes::from(vec![0; wire::PAYLOAD_BYTES_MAX / 2 + 1]);
    let proposal = Proposal { kind: Kind::Command, version: 1, origin: Origin::default(), payload };
    let large = PeerMessage::Forward(vec![proposal.clone(), proposal]);
    assert_eq!(wire::measure(&large), Err(EncodeError::Payload(wire::PAYLOAD_BYTES_MAX + 2)));
}

#[test]
fn the_largest_messages_are_sent_and_taken() {
    let mut range = Range::empty(Position::default());
    let mut frames = Vec::new();
    for term in 1..=wire::ENTRIES_MAX as u64 {
        range.push(Term(term));
        let draft = Draft::new(Draft::buffer(0), Kind::NoOp, 0, GROUP, Origin::default());
        frames.push(draft.stamp(range.last_position(), 0));
    }
    let term = range.last_position().term;
    let request = AppendRequest { term, range, commit: Index(0), configurations: Vec::new() };
    let message = PeerMessage::Append { request, frames };
    assert!(wire::measure(&message).expect("within limits").fixed <= wire::FIXED_BYTES_MAX);
    assert_eq!(wire::decode(GROUP, whole(GROUP, &message)), Ok(message));

    let room = jangada_entry::FRAME_BYTES_MAX - jangada_entry::HEADER_BYTES;
    let message = append(0, &[vec![3; room]]);
    assert_eq!(wire::decode(GROUP, whole(GROUP, &message)), Ok(message));
}

/// The bytes as `docs/wire-format.md` gives them: a change here breaks running clusters.
#[test]
fn the_bytes_are_the_documented_ones() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(
        hex(&whole(0x0102, &heartbeat(0x0A0B))),
        "30000000\
         07\
         00\
         0000\
         0201000000000000\
         18000000\
         3bedf2af\
         0300000000000000\
         0900000000000000\
         0b0a000000000000"
    );
    let message = append(4, &[vec![0xEE; 3]]);
    let entry = frame(5, &[0xEE; 3]);
    assert_eq!(
        hex(&whole(GROUP, &message)),
        "93000000\
         05\
         00\
         0000\
         0100000000000000\
         38000000\
         a6fd4f81\
         0300000000000000\
         0400000000000000\
         0400000000000000\
         0300000000000000\
         0500000000000000\
         0300000000000000\
         00000000\
         00000000"
            .to_owned()
            + &hex(entry.bytes())
    );
}
