//! What a member does not suffer from: clocks that jump, and a peer that stands still.

#[allow(dead_code, reason = "each test binary uses a part of it")]
mod hand;

use hand::{Hand, THREE, TWO, Told, draft, matched, propose};
use jangada::net::PeerMessage;
use jangada::raft::{HeartbeatResponse, Message, NodeId, ReadRound, RoleKind, Term};
use jangada::{Event, LogRead, LogReader, Options, ReadBatch};

const HOUR_MS: u64 = 3_600_000;

fn alive(peer: NodeId, round: u64) -> Event {
    let (term, round) = (Term(1), ReadRound(round));
    hand::raft(
        peer,
        Message::HeartbeatResponse(HeartbeatResponse { term, round, recovering: None }),
    )
}

/// The newest read round that the leader has opened.
fn round(hand: &Hand) -> u64 {
    let round = |(_, message): &(NodeId, PeerMessage)| match message {
        PeerMessage::Raft(Message::Heartbeat(heartbeat)) => Some(heartbeat.round.0),
        _ => None,
    };
    hand.sent.iter().filter_map(round).max().unwrap_or(0)
}

#[test]
fn the_cluster_s_time_never_falls_and_nothing_stalls_whatever_the_wall_clock_does() {
    let mut hand = Hand::leader();
    let mut random = fastrand::Rng::with_seed(3);
    let begin_ms = 1_000 * HOUR_MS;
    let mut time_ms = 0;
    for sequence in 1..300 {
        hand.wall_ms = begin_ms + random.u64(0..48 * HOUR_MS) - 24 * HOUR_MS;
        hand.now_us += 20_000;
        hand.step([propose(sequence), Event::Read(ReadBatch(sequence))]);
        let last = hand.member.status().last.0;
        hand.step([matched(TWO, 1, last)]);
        let confirmed = round(&hand);
        hand.step([alive(TWO, confirmed), alive(THREE, confirmed)]);
        // Answered at once: no timer has moved with the wall clock.
        assert!(hand.told.contains(&Told::Reply(sequence, sequence as usize)), "{sequence}");
        assert!(hand.told.contains(&Told::ReadReady(sequence)), "{sequence}: {:?}", hand.told);
        let status = hand.member.status();
        assert!(time_ms <= status.record.time_ms, "the cluster's time fell");
        time_ms = status.record.time_ms;
        assert_eq!(status.standing.role, RoleKind::Leader);
        hand.told.clear();
        hand.sent.clear();
    }
    assert!(begin_ms + 23 * HOUR_MS < time_ms, "the clock did jump");
}

/// The entries that were sent to a peer and not acknowledged, and what waits for it.
fn sent_bytes(hand: &Hand, to: NodeId) -> u64 {
    let bytes = |message: &PeerMessage| match message {
        PeerMessage::Append { frames, .. } => {
            frames.iter().map(|frame| frame.bytes().len() as u64).sum()
        }
        _ => 0,
    };
    hand.sent_to(to).map(bytes).sum()
}

#[test]
fn a_peer_that_stands_still_costs_bounded_memory_and_nobody_s_time() {
    let mut hand = Hand::leader();
    hand.step([matched(THREE, 1, 1)]);
    hand.sent.clear();
    let options = Options::default();
    let command = vec![7; 1 << 20];
    let commands = 200;
    let mut sent = 0;
    for sequence in 1..=commands {
        hand.now_us += 10_000;
        hand.step([Event::Propose(draft(sequence, &command))]);
        let last = hand.member.status().last.0;
        // The connection of the one that stands still takes all that it is sent.
        sent += sent_bytes(&hand, THREE);
        hand.sent.clear();
        hand.step([matched(TWO, 1, last), alive(TWO, 0)]);
        sent += sent_bytes(&hand, THREE);
        assert!(hand.told.contains(&Told::Reply(sequence, sequence as usize)), "at once");
        hand.told.clear();
        hand.sent.clear();
        for bound in hand.member.bounds() {
            assert!(bound.held <= bound.max + (1 << 21), "{bound:?}");
        }
        assert!(hand.member.tail_bytes() <= options.tail_bytes_max + (2 << 20));
    }
    let window = options.limits.inflight_bytes_max;
    assert!(sent <= window + options.limits.append_bytes_max + (2 << 20), "{sent} were sent");
    assert_eq!(hand.member.status().standing.role, RoleKind::Leader);
    // It comes back: what is not in memory any more is read from the log, piece by piece.
    let (mut held, mut reads) = (1, 0);
    let last = hand.member.status().last.0;
    hand.disk = hand::Disk::Stalled;
    hand.step([Event::LaneLost(THREE), alive(THREE, 0)]);
    while held < last {
        hand.step([matched(THREE, 1, held)]);
        let asked: Vec<LogRead> = hand.unread.clone();
        for read in asked {
            assert_eq!(read.reader, LogReader::Peer(THREE));
            assert!(read.bytes_max <= options.limits.append_bytes_max);
            reads += 1;
            let frames = hand.read();
            hand.step([frames]);
        }
        let newest = |message: &PeerMessage| match message {
            PeerMessage::Append { frames, .. } => {
                frames.last().map(|frame| frame.position().index.0)
            }
            _ => None,
        };
        let before = held;
        held = hand.sent_to(THREE).filter_map(newest).max().unwrap_or(held).max(held);
        hand.sent.clear();
        assert!(before < held || hand.unread.is_empty(), "it goes on");
        if before == held {
            hand.now_us += 100_000;
            hand.step([alive(TWO, 0), alive(THREE, 0)]);
        }
    }
    assert!(100 < reads, "{reads} reads");
    assert!(hand.member.tail_bytes() <= options.tail_bytes_max + (2 << 20));
}
