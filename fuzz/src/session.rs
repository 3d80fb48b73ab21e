//! Connections between members: the records of the handshake, and both ends of a session fed with
//! foreign bytes in any pieces.

use std::io::IoSlice;

use bytes::{BufMut, Bytes, BytesMut};
use jangada_net::handshake::{
    Hello, Identity, Known, NEWEST_VERSION, OLDEST_VERSION, RECORD_BYTES_MAX, RefusalCode, Reply,
    SENTENCE_BYTES_MAX,
};
use jangada_net::session::{Incoming, Judged, Outgoing, PushError, READ_BYTES};
use jangada_net::{Lane, PeerMessage, Roster, wire};
use jangada_raft::NodeId;

use crate::entry::GROUP;
use crate::peer_message::{message, seal};
use crate::{Input, sentence};

/// What waits on a connection at most.
const QUEUE_BYTES_MAX: usize = 4 << 10;

/// Reads the input as records; as what an acceptor and a dialer receive, in pieces; and as messages
/// that one end sends the other.
///
/// # Panics
/// At the first thing that is wrong.
pub fn check(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    match mode % 5 {
        0 => {
            records(rest);
            let mut sealed = rest.to_vec();
            seal_record(&mut sealed);
            records(&sealed);
        }
        1 => accept(&identity(2), rest),
        2 => dialled(rest),
        3 => messages_from_stranger(rest),
        _ => conversation(rest),
    }
}

fn identity(member: u64) -> Identity {
    Identity {
        cluster: 0xC1,
        member: NodeId(member),
        incarnation: 1000 + member,
        process: 2000 + member,
        oldest: OLDEST_VERSION,
        newest: NEWEST_VERSION,
        level: 1,
    }
}

/// Makes length and checksum of a record good.
fn seal_record(bytes: &mut [u8]) {
    let length = bytes.len().min(RECORD_BYTES_MAX);
    if length < 14 {
        return;
    }
    bytes[..8].copy_from_slice(&jangada_net::handshake::MAGIC);
    bytes[8..10].copy_from_slice(&(length as u16).to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..length - 4]);
    bytes[length - 4..length].copy_from_slice(&crc.to_le_bytes());
}

/// Whatever is read as a record is read alike when it comes back; what is not whole takes nothing.
fn records(data: &[u8]) {
    let mut bytes = BytesMut::from(data);
    match Hello::decode(&mut bytes) {
        Ok(Some(hello)) => {
            let mut again = BytesMut::from(&hello.encode()[..]);
            assert_eq!(Hello::decode(&mut again), Ok(Some(hello)));
            assert!(again.is_empty() && bytes.len() < data.len());
        }
        Ok(None) => assert!(bytes == data && data.len() < RECORD_BYTES_MAX, "it cannot be told"),
        Err(error) => sentence(&error),
    }
    let mut bytes = BytesMut::from(data);
    match Reply::decode(&mut bytes) {
        Ok(Some(reply)) => {
            assert!(!reply.sentence.contains(|c: char| c.is_control()), "a line stays a line");
            // A foreign byte can become a replacement character of three.
            assert!(reply.sentence.len() <= 3 * SENTENCE_BYTES_MAX);
            let cut = Reply { sentence: String::new(), ..reply.clone() };
            let mut again = BytesMut::from(&reply.encode()[..]);
            let second = Reply::decode(&mut again).expect("it is sound").expect("it is whole");
            assert!(reply.sentence.starts_with(&second.sentence) && again.is_empty());
            assert_eq!(Reply { sentence: String::new(), ..second }, cut);
        }
        Ok(None) => assert!(bytes == data && data.len() < RECORD_BYTES_MAX, "it cannot be told"),
        Err(error) => sentence(&error),
    }
}

/// What a stranger says to an acceptor, first as it is, then as a hello that is whole.
fn accept(us: &Identity, data: &[u8]) {
    let mut sealed = data.to_vec();
    sealed.resize(sealed.len().max(jangada_net::handshake::HELLO_BYTES), 0);
    seal_record(&mut sealed);
    for bytes in [data, &sealed] {
        let mut incoming = Incoming::accept(*us, GROUP);
        for piece in bytes.chunks(1 + bytes.len() / 3) {
            incoming.buffer().extend_from_slice(piece);
            let known = |member: NodeId| match member.0 {
                1 => Known::Member(None),
                3 => Known::Member(Some(1003)),
                5 => Known::Guest(None),
                7 => Known::Removed,
                _ => Known::Stranger,
            };
            match incoming.judge(known) {
                Ok(None) => continue,
                Ok(Some(Judged::Welcome { met, reply, .. })) => {
                    let known = [1, 5].map(NodeId).contains(&met.member);
                    assert!(known || met.incarnation == 1003);
                    let mut reply = BytesMut::from(&reply[..]);
                    let reply = Reply::decode(&mut reply).expect("ours is sound");
                    assert_eq!(
                        reply.map(|reply| (reply.code, reply.version)),
                        Some((0, met.version))
                    );
                }
                Ok(Some(Judged::Refused { refusal, reply, .. })) => {
                    sentence(&refusal);
                    let mut reply = BytesMut::from(&reply[..]);
                    let reply = Reply::decode(&mut reply).expect("ours is sound");
                    let reply = reply.expect("ours is whole");
                    assert_eq!(RefusalCode::of(reply.code), refusal.code);
                    assert_eq!(reply.sentence, refusal.sentence, "both sides have the sentence");
                }
                Ok(Some(Judged::Inquiry { addresses })) => {
                    let roster = Roster::default().for_asker(&addresses);
                    assert_eq!(Roster::decode(&roster.encode()), Some(roster));
                }
                Err(refusal) => sentence(&refusal),
            }
            break;
        }
    }
}

/// What a stranger answers a dialer.
fn dialled(data: &[u8]) {
    let mut sealed = data.to_vec();
    sealed.resize(sealed.len().max(jangada_net::handshake::REPLY_BYTES), 0);
    seal_record(&mut sealed);
    for bytes in [data, &sealed] {
        let mut outgoing = Outgoing::dial(
            identity(1),
            NodeId(2),
            Some(1002),
            Lane::Entries,
            GROUP,
            QUEUE_BYTES_MAX,
            &[],
        );
        for piece in bytes.chunks(1 + bytes.len() / 3) {
            match outgoing.receive(piece) {
                Ok(met) => {
                    assert!(met.is_none() || outgoing.met() == met);
                    let fits = |met: &jangada_net::handshake::Met| {
                        met.member == NodeId(2) && met.incarnation == 1002
                    };
                    assert!(met.as_ref().is_none_or(fits), "handshake invariant 3");
                }
                Err(refusal) => {
                    // The sentence may be the stranger's own.
                    let line = !refusal.sentence.contains(|c: char| c.is_control());
                    assert!(line && !refusal.sentence.is_empty(), "a line stays a line");
                    break;
                }
            }
        }
        let sent = outgoing.push(&PeerMessage::ReadIndexRequest { number: 1 });
        let open = outgoing.met().is_some();
        assert_eq!(sent == Err(PushError::NotOpen), !open, "session invariant 2");
    }
}

/// Both ends of a connection, shaken hands.
fn connection(lane: Lane) -> (Outgoing, Incoming) {
    let mut outgoing =
        Outgoing::dial(identity(1), NodeId(2), None, lane, GROUP, QUEUE_BYTES_MAX, &[]);
    let mut incoming = Incoming::accept(identity(2), GROUP);
    let hello = take(&mut outgoing, usize::MAX);
    incoming.buffer().extend_from_slice(&hello);
    match incoming.judge(|_| Known::Member(None)) {
        Ok(Some(Judged::Welcome { reply, .. })) => {
            let met = outgoing.receive(&reply).expect("it is a welcome");
            assert!(met.is_some(), "the welcome is whole");
        }
        other => panic!("the member is welcome: {other:?}"),
    }
    (outgoing, incoming)
}

/// Takes at most `count` bytes from what waits.
fn take(outgoing: &mut Outgoing, count: usize) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[]); 3];
    let filled = outgoing.queue().fill(&mut slices);
    let mut taken: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
    taken.truncate(count);
    outgoing.queue_mut().advance(taken.len());
    taken
}

/// Any bytes where messages should be: each is one, or ends the connection; and the room that is
/// held follows the bytes that came.
fn messages_from_stranger(data: &[u8]) {
    let (lane, cut, data) = match data {
        [lane, cut, data @ ..] => (Lane::ALL[usize::from(lane & 1)], 1 + usize::from(*cut), data),
        _ => return,
    };
    let mut sealed = data.to_vec();
    seal(&mut sealed);
    for bytes in [data, &sealed] {
        let (mut outgoing, mut incoming) = connection(lane);
        let mut taken = 0;
        let mut left = bytes;
        while !left.is_empty() {
            let (piece, rest) = left.split_at(cut.min(left.len()));
            left = rest;
            let buffer = incoming.buffer();
            assert!(piece.len() <= buffer.capacity() - buffer.len(), "a read finds room");
            buffer.put_slice(piece);
            let held = incoming.buffer().capacity();
            assert!(held <= 4 * READ_BYTES.max(bytes.len()), "room follows what came: {held}");
            match next_messages(&mut incoming, lane, &mut taken) {
                Ok(()) => {}
                Err(error) => {
                    sentence(&error);
                    let (ours, reply) = incoming.farewell(error);
                    let theirs = outgoing.receive(&reply).expect_err("it is a farewell");
                    assert_eq!(ours, theirs, "both sides have the sentence");
                    return;
                }
            }
        }
        assert!(taken <= bytes.len());
    }
}

fn next_messages(
    incoming: &mut Incoming,
    lane: Lane,
    taken: &mut usize,
) -> Result<(), wire::DecodeError> {
    while let Some((message, size)) = incoming.next_message()? {
        assert_eq!(message.lane(), lane, "a message keeps its lane");
        assert_eq!(wire::measure(&message).map(wire::Size::total), Ok(size));
        *taken += size;
    }
    Ok(())
}

/// Messages that one end sends come out of the other, whole and in order, however the bytes are
/// cut; those that find no room leave nothing behind.
fn conversation(data: &[u8]) {
    let mut input = Input::new(data);
    let lane = Lane::ALL[usize::from(input.byte() & 1)];
    let (mut outgoing, mut incoming) = connection(lane);
    let mut sent = std::collections::VecDeque::new();
    while !input.is_empty() || !outgoing.queue().is_empty() {
        let said = message(&mut input);
        let before = outgoing.queue().len();
        if said.lane() == lane && !input.is_empty() {
            match outgoing.push(&said) {
                Ok(()) => sent.push_back(said),
                Err(PushError::Full) => {
                    assert_eq!(outgoing.queue().len(), before, "nothing is left behind");
                }
                Err(other) => panic!("the message is sound: {other}"),
            }
            let waits = outgoing.queue().len();
            assert!(before == 0 || waits <= QUEUE_BYTES_MAX, "session invariant 3");
        }
        let count = 1 + usize::from(input.word() % 700);
        let piece = Bytes::from(take(&mut outgoing, count));
        incoming.buffer().extend_from_slice(&piece);
        while let Some((message, _)) = incoming.next_message().expect("messages are sound") {
            assert_eq!(Some(message), sent.pop_front(), "session invariant 1");
        }
    }
    assert!(sent.is_empty(), "session invariant 1");
}

/// Each kind of record and a few messages, for each way of reading.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let hello = identity(1).hello(NodeId(2), Some(1002), Lane::Entries).encode();
    let welcome = identity(2).welcome(NEWEST_VERSION).encode();
    let refusal = Reply {
        code: RefusalCode::Version as u8,
        sentence: "member 1 and member 2 have no version in common".to_owned(),
        ..Reply::decode(&mut BytesMut::from(&welcome[..]))
            .expect("ours is sound")
            .expect("ours is whole")
    };
    let mut seeds = Vec::new();
    for record in [hello, welcome, refusal.encode()] {
        seeds.extend((0..3).map(|mode| [&[mode][..], &record].concat()));
    }
    for seed in crate::peer_message::seeds() {
        seeds.push([&[3, seed[4 % seed.len()] & 1, 40][..], &seed].concat());
    }
    let tale = crate::peer_message::seeds().pop().expect("the last one tells of all");
    seeds.extend([0, 1].map(|lane| [&[4, lane][..], &tale].concat()));
    seeds
}
