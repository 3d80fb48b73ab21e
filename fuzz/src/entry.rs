//! The codec of entries (`jangada_entry`): frames, their headers, and configurations.

use bytes::{Bytes, BytesMut};
use jangada_entry::{
    Draft, Frame, HEADER_BYTES, Header, Kind, Origin, decode_configuration, encode_configuration,
};
use jangada_raft::{Configuration, Index, NodeId, Position, Term};

use crate::{Input, sentence};

/// Reads the input as frames, as it is and with its checksums made good, as a configuration, and as
/// the fields of an entry that is to be made.
///
/// # Panics
/// At the first thing that is wrong.
pub(crate) fn check(data: &[u8]) {
    frames(data);
    let mut sealed = data.to_vec();
    seal(&mut sealed);
    frames(&sealed);
    configuration(data);
    made(data);
}

/// Makes the checksums of the frames in `bytes` good, one behind the other, as far as their lengths
/// make sense.
pub(crate) fn seal(bytes: &mut [u8]) {
    let mut rest = bytes;
    while HEADER_BYTES <= rest.len() {
        let length = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        let end = if (HEADER_BYTES..=rest.len()).contains(&length) { length } else { rest.len() };
        let payload = crc32c::crc32c(&rest[HEADER_BYTES..end]);
        rest[8..12].copy_from_slice(&payload.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&rest[..4]), &rest[8..HEADER_BYTES]);
        rest[4..8].copy_from_slice(&crc.to_le_bytes());
        rest = &mut rest[end..];
    }
}

/// Whatever decodes is the bytes that it came from, and is read in place.
fn frames(data: &[u8]) {
    let whole = Bytes::copy_from_slice(data);
    let mut bytes = whole.clone();
    loop {
        let before = bytes.clone();
        let frame = match Frame::decode(&mut bytes) {
            Ok(frame) => frame,
            Err(error) => {
                sentence(&error);
                assert_eq!(bytes, before, "bytes that are no frame are left as they were");
                return;
            }
        };
        let header = frame.header();
        assert_eq!(Ok(header), Header::decode(&before));
        assert_eq!(header.encode()[..], frame.bytes()[..HEADER_BYTES], "a header has one encoding");
        assert_eq!(header.length as usize, frame.bytes().len());
        assert_eq!(frame.position(), header.position);
        assert_eq!(frame.payload(), &frame.bytes()[HEADER_BYTES..]);
        assert_eq!(frame.bytes().as_ptr(), before.as_ptr(), "nothing is copied");
        assert_eq!(before.len() - bytes.len(), frame.bytes().len(), "no byte is skipped");
        if header.kind == Kind::Configuration {
            configuration(frame.payload());
        }
    }
}

/// Whatever decodes as a configuration encodes to the same bytes.
fn configuration(data: &[u8]) {
    match decode_configuration(data) {
        Ok(configuration) => assert_eq!(encode_configuration(&configuration), data),
        Err(error) => sentence(&error),
    }
}

/// Whatever is encoded decodes to what it was.
fn made(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = Kind::of(input.byte() % 3).expect("there are three kinds");
    let version = input.word();
    let group = input.number();
    let position = Position { index: Index(input.number()), term: Term(input.number()) };
    let time_ms = input.number();
    let origin = Origin { incarnation: input.number(), sequence: input.number() };
    let payload = input.rest();
    let mut buffer = Draft::buffer(payload.len());
    buffer.extend_from_slice(payload);
    let draft = Draft::new(buffer, kind, version, group, origin);
    assert_eq!(draft.payload(), payload);
    let bytes_expected = draft.frame_bytes();
    let frame = draft.stamp(position, time_ms);
    assert_eq!(frame.bytes().len(), bytes_expected);
    let mut twice = BytesMut::from(&frame.bytes()[..]);
    twice.extend_from_slice(frame.bytes());
    let mut twice = twice.freeze();
    for _ in 0..2 {
        let decoded = Frame::decode(&mut twice).expect("what was encoded decodes");
        let header = decoded.header();
        assert_eq!((header.kind, header.version, header.group), (kind, version, group));
        assert_eq!((header.position, header.time_ms), (position, time_ms));
        assert_eq!(header.origin, origin);
        assert_eq!(decoded.payload(), payload);
    }
    assert!(twice.is_empty());
}

/// A frame as bytes.
pub(crate) fn frame(kind: Kind, index: u64, term: u64, payload: &[u8]) -> Frame {
    let mut buffer = Draft::buffer(payload.len());
    buffer.extend_from_slice(payload);
    let origin = Origin { incarnation: 5, sequence: index };
    let position = Position { index: Index(index), term: Term(term) };
    Draft::new(buffer, kind, 1, GROUP, origin).stamp(position, 1_700_000_000_000 + index)
}

/// The group of all seeds.
pub(crate) const GROUP: u64 = 7;

/// A configuration in every form.
pub(crate) fn configurations() -> [Configuration; 4] {
    let members = |ids: &[u64]| ids.iter().copied().map(NodeId).collect();
    [
        Configuration::default(),
        Configuration::of_voters([NodeId(1), NodeId(2), NodeId(3)]),
        Configuration {
            voters: members(&[1, 2, 3]),
            outgoing: members(&[3, 4, u64::MAX]),
            learners: members(&[9]),
            ..Configuration::default()
        },
        Configuration { forced: true, ..Configuration::of_voters([NodeId(3)]) },
    ]
}

/// Frames of each kind, alone and together, and configurations.
#[must_use]
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![
        frame(Kind::NoOp, 1, 1, &[]).bytes().to_vec(),
        frame(Kind::Command, 2, 1, b"a command").bytes().to_vec(),
    ];
    for configuration in configurations() {
        let bytes = encode_configuration(&configuration);
        seeds.push(frame(Kind::Configuration, 3, 2, &bytes).bytes().to_vec());
        seeds.push(bytes);
    }
    seeds.push(seeds[..3].concat());
    seeds
}
