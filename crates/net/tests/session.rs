//! A connection's two ends without a socket: order, bounds, and what may be said when.

mod common;

use std::io::IoSlice;

use bytes::BufMut;
use common::{GROUP, append, heartbeat};
use jangada_net::handshake::{Identity, Known, NEWEST_VERSION, OLDEST_VERSION, Reply};
use jangada_net::session::{Incoming, Judged, Outgoing, PushError, READ_BYTES};
use jangada_net::wire::{self, DecodeError};
use jangada_net::{Lane, PeerMessage};
use jangada_raft::NodeId;
use proptest::prelude::*;

fn identity(member: u64) -> Identity {
    Identity {
        cluster: 0xC1,
        member: NodeId(member),
        incarnation: 1000 + member,
        process: 2000 + member,
        oldest: OLDEST_VERSION,
        newest: NEWEST_VERSION,
        level: 7,
    }
}

/// Takes at most `count` bytes from what waits, in slices as a socket would.
fn take(outgoing: &mut Outgoing, count: usize) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[]); 3];
    let filled = outgoing.queue().fill(&mut slices);
    let mut taken: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
    taken.truncate(count);
    outgoing.queue_mut().advance(taken.len());
    taken
}

/// Both ends of a connection, shaken hands.
fn connection(lane: Lane, bytes_max: usize) -> (Outgoing, Incoming) {
    let mut outgoing = Outgoing::dial(identity(1), NodeId(2), None, lane, GROUP, bytes_max, &[]);
    let mut incoming = Incoming::accept(identity(2), GROUP);
    assert_eq!(outgoing.push(&heartbeat(1)), Err(PushError::NotOpen), "session invariant 2");
    incoming.buffer().extend_from_slice(&take(&mut outgoing, usize::MAX));
    match incoming.judge(|_| Known::Member(None)) {
        Ok(Some(Judged::Welcome { reply, .. })) => {
            outgoing.receive(&reply).expect("it is a welcome").expect("it is whole");
        }
        other => panic!("the member is welcome: {other:?}"),
    }
    assert!(outgoing.queue().is_empty());
    (outgoing, incoming)
}

proptest! {
    /// Session invariant 1.
    #[test]
    fn messages_arrive_whole_and_in_order(
        sizes in prop::collection::vec(
            prop::collection::vec(
                prop_oneof![0..50_usize, 1000..1100_usize, 0..90_000_usize],
                0..4,
            ),
            1..12,
        ),
        pieces in prop::collection::vec(1..200_000_usize, 1..20),
    ) {
        let (mut outgoing, mut incoming) = connection(Lane::Entries, usize::MAX);
        let mut sent = Vec::new();
        let mut received = Vec::new();
        let mut pieces = pieces.iter().cycle();
        for sizes in sizes {
            let payloads: Vec<_> = sizes.iter().map(|size| vec![sent.len() as u8; *size]).collect();
            let message = append(sent.len() as u64, &payloads);
            outgoing.push(&message).expect("the queue is unbounded");
            sent.push(message);
            let piece = take(&mut outgoing, *pieces.next().expect("it is a cycle"));
            feed(&mut incoming, &piece, &mut received);
        }
        while !outgoing.queue().is_empty() {
            let piece = take(&mut outgoing, *pieces.next().expect("it is a cycle"));
            feed(&mut incoming, &piece, &mut received);
        }
        prop_assert_eq!(received, sent);
    }
}

fn feed(incoming: &mut Incoming, bytes: &[u8], received: &mut Vec<PeerMessage>) {
    let mut bytes = bytes;
    while !bytes.is_empty() {
        let buffer = incoming.buffer();
        let room = buffer.capacity() - buffer.len();
        assert_ne!(room, 0, "a read would find no room");
        let (now, later) = bytes.split_at(room.min(bytes.len()));
        buffer.put_slice(now);
        bytes = later;
        while let Some((message, _)) = incoming.next_message().expect("messages are sound") {
            received.push(message);
        }
    }
}

/// Session invariant 3.
#[test]
fn what_waits_is_bounded() {
    let (mut outgoing, _) = connection(Lane::Control, 1000);
    let size = wire::measure(&heartbeat(1)).expect("sound").total();
    for round in 0..1000 / size {
        outgoing.push(&heartbeat(round as u64)).expect("there is room");
    }
    let waiting = outgoing.queue().len();
    assert_eq!(outgoing.push(&heartbeat(1)), Err(PushError::Full));
    assert_eq!(outgoing.queue().len(), waiting, "nothing of a refused message waits");
    take(&mut outgoing, size);
    outgoing.push(&heartbeat(1)).expect("there is room again");
}

#[test]
fn a_refused_message_leaves_nothing_behind() {
    let (mut outgoing, mut incoming) = connection(Lane::Entries, 1 << 20);
    let PeerMessage::Append { request, .. } = append(1, &[vec![1]]) else {
        panic!("it is an append");
    };
    let wrong = PeerMessage::Append { request, frames: vec![] };
    assert!(matches!(outgoing.push(&wrong), Err(PushError::Message(_))));
    let sound = append(1, &[vec![1]]);
    outgoing.push(&sound).expect("there is room");
    let mut received = Vec::new();
    feed(&mut incoming, &take(&mut outgoing, usize::MAX), &mut received);
    assert_eq!(received, [sound]);
}

#[test]
fn a_message_on_the_wrong_lane_is_refused() {
    let (_, mut incoming) = connection(Lane::Entries, 1 << 20);
    let encoded = wire::encode(GROUP, &heartbeat(1)).expect("the message is sound");
    incoming.buffer().extend_from_slice(&encoded.head);
    assert_eq!(incoming.next_message(), Err(DecodeError::Lane));
}

#[test]
fn an_impossible_length_is_refused_before_its_bytes_come() {
    let (_, mut incoming) = connection(Lane::Entries, 1 << 20);
    let mut head = wire::encode(GROUP, &append(1, &[])).expect("sound").head.to_vec();
    head[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    incoming.buffer().extend_from_slice(&head[..wire::HEADER_BYTES]);
    assert_eq!(incoming.next_message(), Err(DecodeError::Length(u32::MAX)));
}

/// Room follows what has arrived: the announcement of 64 MiB alone takes no memory.
#[test]
fn an_announced_length_takes_no_memory() {
    let (_, mut incoming) = connection(Lane::Entries, 1 << 20);
    let length = u32::try_from(wire::MESSAGE_BYTES_MAX).expect("it fits the length field");
    incoming.buffer().put_u32_le(length);
    incoming.buffer().put_bytes(0, 100);
    assert!(incoming.buffer().capacity() <= 4 * READ_BYTES);
    for _ in 0..100 {
        let buffer = incoming.buffer();
        let room = buffer.capacity() - buffer.len();
        buffer.put_bytes(0, room);
        let capacity = incoming.buffer().capacity();
        let arrived = incoming.buffer().len();
        assert!(capacity <= 4 * arrived.max(READ_BYTES), "{capacity} for {arrived}");
        if wire::MESSAGE_BYTES_MAX / 2 < arrived {
            return;
        }
    }
    panic!("the room does not grow");
}

#[test]
fn a_farewell_reaches_the_dialer() {
    let (mut outgoing, mut incoming) = connection(Lane::Entries, 1 << 20);
    incoming.buffer().put_bytes(0xFF, 100);
    let error = incoming.next_message().expect_err("it is no message");
    let (ours, reply) = incoming.farewell(error);
    let theirs = outgoing.receive(&reply).expect_err("it is a farewell");
    assert_eq!(ours, theirs);
    assert!(ours.sentence.contains("member 2 closes a connection of member 1"), "{ours}");
}

#[test]
fn an_acceptor_that_says_more_than_a_welcome_is_not_believed() {
    let (mut outgoing, _) = connection(Lane::Control, 1 << 20);
    assert!(outgoing.receive(b"messages do not come this way").is_err());
    let (mut outgoing, _) = connection(Lane::Control, 1 << 20);
    let welcome: Reply = identity(2).welcome(NEWEST_VERSION);
    assert!(outgoing.receive(&welcome.encode()).is_err(), "one welcome is enough");
}
