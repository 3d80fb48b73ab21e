//! The handshake: versions, every refusal on both sides, and foreign bytes.

use bytes::{BufMut, BytesMut};
use jangada_net::Lane;
use jangada_net::handshake::{
    Hello, Identity, Known, MAGIC, Met, RECORD_BYTES_MAX, RecordError, Refusal, RefusalCode, Reply,
    SENTENCE_BYTES_MAX, common_version, judge, judge_welcome,
};
use jangada_net::session::{Incoming, Judged, Outgoing};
use jangada_raft::NodeId;
use proptest::prelude::*;

fn identity(member: u64) -> Identity {
    Identity {
        cluster: 0xC1,
        member: NodeId(member),
        incarnation: 1000 + member,
        process: 2000 + member,
        oldest: 3,
        newest: 5,
        level: 0,
    }
}

/// Member 1 dials member 2, as changed by the three functions; both codes come back, the
/// acceptor's from its judgement and the dialer's from the bytes of the reply.
fn outcome(
    change_dialer: impl Fn(&mut Identity),
    change_hello: impl Fn(&mut Hello),
    known: Known,
) -> (Result<u16, RefusalCode>, Result<u16, RefusalCode>) {
    let mut dialer = identity(1);
    change_dialer(&mut dialer);
    let acceptor = identity(2);
    let mut hello = dialer.hello(NodeId(2), None, Lane::Entries);
    change_hello(&mut hello);
    let mut bytes = BytesMut::from(&hello.encode()[..]);
    let arrived = Hello::decode(&mut bytes).expect("a sound hello").expect("a whole hello");
    assert_eq!(arrived, hello);

    let judged = judge(&acceptor, &arrived, |_| known);
    let reply = match &judged {
        Ok(met) => acceptor.welcome(met.version),
        Err(refusal) => acceptor.refuse(refusal),
    };
    let mut bytes = BytesMut::from(&reply.encode()[..]);
    let arrived = Reply::decode(&mut bytes).expect("a sound reply").expect("a whole reply");
    assert_eq!(arrived, reply);
    let believed = judge_welcome(&dialer, &hello, &arrived);
    if let (Err(ours), Err(theirs)) = (&judged, &believed) {
        assert_eq!(ours, theirs, "both logs have the same sentence");
    }
    let code = |judged: Result<Met, _>| {
        judged.map(|met| met.version).map_err(|refusal: Refusal| refusal.code)
    };
    (code(judged), code(believed))
}

#[test]
fn every_refusal_reaches_both_sides() {
    type ChangeIdentity = fn(&mut Identity);
    type ChangeHello = fn(&mut Hello);
    let (met, unknown) = (Known::Member(Some(1001)), RefusalCode::UnknownMember);
    let cases: [(ChangeIdentity, ChangeHello, Known, Result<u16, RefusalCode>); 21] = [
        (|_| {}, |_| {}, met, Ok(5)),
        (|_| {}, |_| {}, Known::Member(None), Ok(5)),
        (|_| {}, |hello| hello.to_incarnation = Some(1002), met, Ok(5)),
        (|own| own.newest = 4, |_| {}, met, Ok(4)),
        (|own| (own.oldest, own.newest) = (1, 3), |_| {}, met, Ok(3)),
        (|own| (own.oldest, own.newest) = (5, 9), |_| {}, met, Ok(5)),
        (|own| (own.oldest, own.newest) = (6, 9), |_| {}, met, Err(RefusalCode::Version)),
        (|own| (own.oldest, own.newest) = (1, 2), |_| {}, met, Err(RefusalCode::Version)),
        (|own| (own.oldest, own.newest) = (5, 4), |_| {}, met, Err(RefusalCode::Version)),
        (|own| own.cluster = 9, |_| {}, met, Err(RefusalCode::Cluster)),
        (|own| own.member = NodeId(2), |_| {}, met, Err(RefusalCode::OwnId)),
        (|_| {}, |hello| hello.to = NodeId(3), met, Err(RefusalCode::WrongMember)),
        (|_| {}, |_| {}, Known::Stranger, Err(RefusalCode::UnknownMember)),
        (|_| {}, |_| {}, Known::Removed, Err(RefusalCode::Removed)),
        (|_| {}, |_| {}, Known::Guest(None), Err(RefusalCode::UnknownMember)),
        (|_| {}, |hello| hello.addresses = vec!["a:1".into()], Known::Guest(None), Ok(5)),
        (|_| {}, |hello| hello.addresses = vec!["a:1".into()], Known::Stranger, Err(unknown)),
        (|_| {}, |hello| hello.level = 9, met, Ok(5)),
        (|own| own.incarnation = 7, |_| {}, met, Err(RefusalCode::Wiped)),
        (|_| {}, |hello| hello.to_incarnation = Some(7), met, Err(RefusalCode::Incarnation)),
        (|_| {}, |hello| hello.lane = 9, met, Err(RefusalCode::Lane)),
    ];
    for (number, (dialer, hello, known, expected)) in cases.into_iter().enumerate() {
        assert_eq!(outcome(dialer, hello, known), (expected, expected), "case {number}");
    }
}

#[test]
fn every_refusal_says_who_is_concerned_and_what_to_do() {
    let hello = |change: fn(&mut Hello)| {
        let mut hello = identity(0xA).hello(NodeId(0xB), None, Lane::Control);
        change(&mut hello);
        hello
    };
    let member = Known::Member(Some(1010));
    let cases: [(Hello, Known, &[&str]); 7] = [
        (hello(|_| {}), Known::Removed, &["member a", "removed", "empty its data directory"]),
        (hello(|hello| hello.cluster = 0xEE), member, &["cluster ee", "cluster c1", "check"]),
        (hello(|hello| hello.to = NodeId(0xC)), member, &["member a", "member c", "correct"]),
        (hello(|_| {}), Known::Stranger, &["does not know member a", "add"]),
        (hello(|hello| hello.from = NodeId(0xB)), member, &["own id b", "address"]),
        (hello(|hello| hello.incarnation = 4), member, &["member a", "data directory", "remove"]),
        (hello(|hello| hello.newest = 2), member, &["speaks versions 3 to 2", "3 to 5", "upgrade"]),
    ];
    for (hello, known, words) in cases {
        let refusal = judge(&identity(0xB), &hello, |_| known).expect_err("it is refused");
        for word in words {
            assert!(refusal.sentence.contains(word), "'{word}' in: {}", refusal.sentence);
        }
        assert!(refusal.sentence.len() <= SENTENCE_BYTES_MAX);
    }
}

#[test]
fn a_dialer_does_not_believe_every_welcome() {
    let dialer = identity(1);
    let hello = dialer.hello(NodeId(2), Some(1002), Lane::Control);
    type Change = fn(&mut Reply);
    let cases: [(Change, Result<u16, RefusalCode>); 6] = [
        (|_| {}, Ok(4)),
        (|reply| reply.cluster = 9, Err(RefusalCode::Malformed)),
        (|reply| reply.member = NodeId(3), Err(RefusalCode::Malformed)),
        (|reply| reply.version = 2, Err(RefusalCode::Malformed)),
        (|reply| reply.version = 6, Err(RefusalCode::Malformed)),
        (|reply| reply.incarnation = 9, Err(RefusalCode::Incarnation)),
    ];
    for (change, expected) in cases {
        let mut reply = identity(2).welcome(4);
        change(&mut reply);
        let judged = judge_welcome(&dialer, &hello, &reply);
        assert_eq!(judged.map(|met| met.version).map_err(|refusal| refusal.code), expected);
    }
}

/// Handshake invariant 2, over all small ranges.
#[test]
fn the_highest_common_version_is_used() {
    let ranges = || (1..6_u16).flat_map(|oldest| (oldest..6).map(move |newest| (oldest, newest)));
    for one in ranges() {
        for other in ranges() {
            let spoken = |range: (u16, u16), version| range.0 <= version && version <= range.1;
            let highest = (1..6).rev().find(|v| spoken(one, *v) && spoken(other, *v));
            assert_eq!(common_version(one, other), highest, "{one:?} and {other:?}");
        }
    }
}

/// Handshake invariant 1: a record of a later version, longer than ours, is understood.
#[test]
fn fields_of_later_versions_are_skipped() {
    let hello = identity(1).hello(NodeId(2), Some(5), Lane::Control);
    let reply = identity(2).refuse(
        &judge(&identity(2), &hello, |_| Known::Stranger).expect_err("a stranger is refused"),
    );
    let mut bytes = BytesMut::from(&lengthen(&hello.encode())[..]);
    assert_eq!(Hello::decode(&mut bytes), Ok(Some(hello)));
    let mut bytes = BytesMut::from(&lengthen(&reply.encode())[..]);
    assert_eq!(Reply::decode(&mut bytes), Ok(Some(reply)));
}

/// The record with twenty more bytes before its checksum.
fn lengthen(record: &[u8]) -> Vec<u8> {
    let mut longer = record[..record.len() - 4].to_vec();
    longer.extend_from_slice(&[0xAB; 20]);
    let length = u16::try_from(longer.len() + 4).expect("records are small");
    longer[8..10].copy_from_slice(&length.to_le_bytes());
    let crc = crc32c::crc32c(&longer);
    longer.extend_from_slice(&crc.to_le_bytes());
    longer
}

#[test]
fn a_sentence_from_outside_cannot_forge_a_log_line() {
    let mut reply = identity(2).welcome(1);
    reply.code = 77;
    reply.sentence = format!("one\nlevel=error \u{1b}[31m{}", "\u{fc}".repeat(600));
    let mut bytes = BytesMut::from(&reply.encode()[..]);
    let arrived = Reply::decode(&mut bytes).expect("sound").expect("whole");
    assert!(arrived.sentence.starts_with("one level=error  [31m"));
    assert!(arrived.sentence.len() <= SENTENCE_BYTES_MAX);
    let hello = identity(1).hello(NodeId(2), None, Lane::Control);
    let refusal = judge_welcome(&identity(1), &hello, &arrived).expect_err("it is a refusal");
    assert_eq!(refusal.code, RefusalCode::Other);
}

#[test]
fn what_is_no_record_is_named() {
    let cases = [
        (b"GET / HTTP/1.1\r\n".to_vec(), RecordError::Magic),
        (b"j!".to_vec(), RecordError::Magic),
        ([&MAGIC[..], &[3, 0]].concat(), RecordError::Length(3)),
        ([&MAGIC[..], &[0xFF, 0xFF]].concat(), RecordError::Length(0xFFFF)),
    ];
    for (bytes, expected) in cases {
        assert_eq!(Hello::decode(&mut BytesMut::from(&bytes[..])), Err(expected));
        assert_eq!(Reply::decode(&mut BytesMut::from(&bytes[..])), Err(expected));
    }
    let mut record = identity(1).hello(NodeId(2), None, Lane::Control).encode().to_vec();
    record[30] ^= 1;
    assert_eq!(Hello::decode(&mut BytesMut::from(&record[..])), Err(RecordError::Checksum));

    // A sentence that claims to be longer than the record.
    let mut record = identity(2).welcome(1).encode().to_vec();
    record.truncate(record.len() - 4);
    record[50] = 200;
    let crc = crc32c::crc32c(&record);
    record.put_u32_le(crc);
    assert_eq!(Reply::decode(&mut BytesMut::from(&record[..])), Err(RecordError::Sentence));
}

/// A hello takes as many addresses as it has room for, and nothing that would spoil a log.
#[test]
fn the_addresses_in_a_hello_are_bounded() {
    let mut hello = identity(1).hello(NodeId(2), None, Lane::Control);
    hello.addresses = (0..20).map(|at| format!("host-{at}.{}:2380", "x".repeat(80))).collect();
    let bytes = hello.encode();
    assert!(bytes.len() <= RECORD_BYTES_MAX);
    let arrived = Hello::decode(&mut BytesMut::from(&bytes[..])).expect("sound").expect("whole");
    assert_eq!(arrived.addresses, hello.addresses[..arrived.addresses.len()]);
    assert!(5 < arrived.addresses.len());
    hello.addresses = vec!["a\nb".into()];
    let bytes = hello.encode();
    let spoilt = Hello::decode(&mut BytesMut::from(&bytes[..]));
    assert_eq!(spoilt, Err(RecordError::Addresses));
}

/// The bytes as `docs/wire-format.md` gives them: a change here cuts off every other version.
#[test]
fn the_bytes_are_the_documented_ones() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let hello = identity(1).hello(NodeId(2), Some(1002), Lane::Entries);
    assert_eq!(
        hex(&hello.encode()),
        "6a616e676164610a4c00030005000101c1000000000000000100000000000000\
         0200000000000000e903000000000000d107000000000000ea03000000000000\
         00000000000000003c5d5fe8"
    );
    let sentence = "no".to_owned();
    let refusal = Refusal { code: RefusalCode::Malformed, sentence };
    assert_eq!(
        hex(&identity(2).refuse(&refusal).encode()),
        "6a616e676164610a3e000800000003000500c100000000000000020000000000\
         0000ea03000000000000d2070000000000000200000000006e6f8df7545a"
    );
}

proptest! {
    #[test]
    fn foreign_bytes_do_not_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..1200),
        magic in any::<bool>(),
        length in 0..1100_u16,
        seal in any::<bool>(),
    ) {
        let mut bytes = bytes;
        if magic {
            bytes.splice(0..0, [&MAGIC[..], &length.to_le_bytes()].concat());
        }
        let end = usize::from(length);
        if seal && 14 <= end && end <= bytes.len() {
            let crc = crc32c::crc32c(&bytes[..end - 4]);
            bytes[end - 4..end].copy_from_slice(&crc.to_le_bytes());
        }
        let mut rest = BytesMut::from(&bytes[..]);
        if let Ok(None) = Hello::decode(&mut rest) {
            prop_assert!(bytes.len() < RECORD_BYTES_MAX, "a whole record was not judged");
        }
        let mut rest = BytesMut::from(&bytes[..]);
        if let Ok(None) = Reply::decode(&mut rest) {
            prop_assert!(bytes.len() < RECORD_BYTES_MAX, "a whole record was not judged");
        }
    }

    /// The records may arrive in any pieces.
    #[test]
    fn a_handshake_survives_any_cutting(piece in 1..90_usize) {
        let mut outgoing = Outgoing::dial(identity(1), NodeId(2), None, Lane::Control, 1, 1 << 20, &[]);
        let mut incoming = Incoming::accept(identity(2), 1);
        let hello = identity(1).hello(NodeId(2), None, Lane::Control).encode();
        let mut replies = Vec::new();
        for piece in hello.chunks(piece) {
            incoming.buffer().extend_from_slice(piece);
            let judged = incoming.judge(|_| Known::Member(None)).expect("it is a hello");
            if let Some(Judged::Welcome { reply, met, .. }) = judged {
                prop_assert_eq!(met.member, NodeId(1));
                replies.push(reply);
            }
        }
        prop_assert_eq!(replies.len(), 1);
        let mut met = None;
        for piece in replies[0].chunks(piece) {
            prop_assert!(met.is_none());
            met = outgoing.receive(piece).expect("it is a welcome");
        }
        prop_assert_eq!(met.map(|met| met.incarnation), Some(1002));
        prop_assert_eq!(outgoing.met(), met);
    }
}
