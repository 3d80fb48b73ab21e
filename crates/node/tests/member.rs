//! One member, stepped by hand.

#[allow(dead_code, reason = "each test binary uses a part of it")]
mod hand;

use bytes::Bytes;
use jangada::entry::Frame;
use jangada::net::{ForwardRefusal, PeerMessage};
use jangada::raft::{
    AppendOutcome, AppendResponse, HardState, HeartbeatResponse, Index, Message, NodeId, Position,
    PreVoteResponse, Range, ReadRound, RoleKind, Term, VoteResponse,
};
use jangada::{
    Concern, Configuration, Effect, Event, FEATURE_LEVEL, Log, LogBatch, Member, MemberStart,
    MemoryLog, Now, Options, ProposeError, ReadBatch, Record, StartError,
};

use hand::{
    Disk, Hand, Journal, PROCESS, SELF, THREE, TWO, Told, append, at, draft, heartbeat, matched,
    propose, raft,
};

#[test]
fn a_refusal_by_the_leader_is_a_refusal_here_unless_it_is_for_an_earlier_process() {
    let mut hand = Hand::follower();
    hand.step([propose(1), propose(2)]);
    assert!(hand.sent_to(TWO).any(|m| matches!(m, PeerMessage::Forward(p) if p.len() == 2)));
    let refused = |process, sequence, reason| Event::Received {
        from: TWO,
        message: PeerMessage::ForwardRefused { process, sequences: vec![sequence], reason },
    };
    hand.step([refused(PROCESS - 1, 1, ForwardRefusal::Busy)]);
    assert_eq!(hand.told, []);
    hand.step([refused(PROCESS, 1, ForwardRefusal::Busy)]);
    hand.step([refused(PROCESS, 2, ForwardRefusal::NotLeader)]);
    let told = [Told::Refuse(1, ProposeError::Busy), Told::Refuse(2, ProposeError::NoLeader)];
    assert_eq!(hand.told, told);
}

#[test]
fn a_change_of_leader_leaves_in_doubt_what_was_forwarded_before_it_and_nothing_else() {
    let mut hand = Hand::follower();
    hand.step([propose(1)]);
    hand.step([Event::PeerDown(TWO), propose(2)]);
    hand.sent.clear();
    hand.step([heartbeat(THREE, 2, 0), propose(3)]);
    let forwarded: Vec<u64> = hand
        .sent_to(THREE)
        .filter_map(|message| match message {
            PeerMessage::Forward(proposals) => Some(proposals),
            _ => None,
        })
        .flat_map(|proposals| proposals.iter().map(|proposal| proposal.origin.sequence))
        .collect();
    assert_eq!(forwarded, [2, 3], "what was held goes to the new leader, what was sent does not");
    hand.sleep_until(Options::default().election_timeout_us - 1, THREE, 2);
    assert_eq!(hand.told, []);
    hand.sleep_until(Options::default().election_timeout_us, THREE, 2);
    assert_eq!(hand.told, [Told::Doubt(1)]);
}

#[test]
fn a_command_that_no_leader_takes_up_becomes_doubtful_in_the_end() {
    let mut hand = Hand::follower();
    hand.step([propose(1)]);
    hand.sleep_until(Options::default().leader_wait_us - 1, TWO, 1);
    assert_eq!(hand.told, []);
    hand.sleep_until(2 * Options::default().leader_wait_us, TWO, 1);
    assert_eq!(hand.told, [Told::Doubt(1)]);
}

#[test]
fn without_a_leader_commands_and_reads_wait_and_are_refused_when_their_time_is_up() {
    let mut hand = Hand::new();
    hand.now_us = 1;
    hand.step([propose(1), Event::Read(ReadBatch(1))]);
    while hand.told.is_empty() {
        hand.sleep();
    }
    assert_eq!(hand.now_us, 1 + Options::default().leader_wait_us);
    assert_eq!(hand.told, [Told::Refuse(1, ProposeError::NoLeader), Told::ReadExpired(1)]);
}

#[test]
fn many_forwarded_commands_travel_in_parts() {
    let mut hand = Hand::follower();
    hand.step((1..=10_000).map(propose));
    let counts: Vec<usize> = hand
        .sent_to(TWO)
        .filter_map(|message| match message {
            PeerMessage::Forward(proposals) => Some(proposals.len()),
            _ => None,
        })
        .collect();
    assert_eq!(counts.iter().sum::<usize>(), 10_000);
    assert!(counts.iter().all(|count| *count <= jangada::net::wire::PROPOSALS_MAX));
    hand.sent.clear();
    let large = |sequence| Event::Propose(draft(sequence, &[0; 600_000]));
    hand.step([large(10_001), large(10_002)]);
    assert_eq!(hand.sent_to(TWO).count(), 2, "each fits, both together do not");
}

#[test]
fn a_deposed_leader_serves_no_read() {
    let mut hand = Hand::leader();
    hand.step([Event::Read(ReadBatch(1))]);
    let asked = hand.sent_to(TWO).find_map(|message| match message {
        PeerMessage::Raft(Message::Heartbeat(heartbeat)) => Some(heartbeat.round),
        _ => None,
    });
    let round = asked.expect("a round opens at once");
    hand.step([heartbeat(THREE, 2, 0)]);
    let answer = HeartbeatResponse { term: Term(1), round, recovering: None };
    hand.step([raft(TWO, Message::HeartbeatResponse(answer))]);
    assert_eq!(hand.told, []);
    let asks = |m: &PeerMessage| matches!(m, PeerMessage::ReadIndexRequest { .. });
    assert!(hand.sent_to(THREE).any(asks), "the new leader is asked instead");
}

#[test]
fn a_leader_serves_a_read_once_a_quorum_has_answered_after_it_came() {
    let mut hand = Hand::leader();
    hand.step([Event::Read(ReadBatch(1))]);
    let round = hand.sent_to(TWO).find_map(|message| match message {
        PeerMessage::Raft(Message::Heartbeat(heartbeat)) => Some(heartbeat.round),
        _ => None,
    });
    let answer = |ReadRound(round)| HeartbeatResponse {
        term: Term(1),
        round: ReadRound(round),
        recovering: None,
    };
    let round = round.expect("a round opens at once");
    let before = ReadRound(round.0 - 1);
    hand.step([raft(TWO, Message::HeartbeatResponse(answer(before)))]);
    assert_eq!(hand.told, []);
    hand.step([raft(TWO, Message::HeartbeatResponse(answer(round)))]);
    assert_eq!(hand.told, [Told::ReadReady(1)]);
}

#[test]
fn a_member_that_does_not_lead_is_not_asked_again_at_once() {
    let mut hand = Hand::follower();
    hand.step([Event::Read(ReadBatch(1))]);
    let [PeerMessage::ReadIndexRequest { number }] =
        hand.sent_to(TWO).cloned().collect::<Vec<_>>()[..]
    else {
        panic!("the leader is asked once: {:?}", hand.sent)
    };
    hand.sent.clear();
    let message = PeerMessage::ReadIndexResponse { number, index: None };
    hand.step([Event::Received { from: TWO, message }]);
    assert_eq!(hand.sent, []);
    hand.step([heartbeat(THREE, 2, 0)]);
    let asks = |m: &PeerMessage| matches!(m, PeerMessage::ReadIndexRequest { .. });
    assert!(hand.sent_to(THREE).any(asks), "another leader is asked as soon as it is known");
}

#[test]
fn a_read_of_a_follower_waits_until_the_index_is_applied_here() {
    let mut hand = Hand::follower();
    hand.step([append(TWO, 1, at(0, 0), 2, 1), Event::Read(ReadBatch(1))]);
    let number = hand.sent_to(TWO).find_map(|message| match message {
        PeerMessage::ReadIndexRequest { number } => Some(*number),
        _ => None,
    });
    let number = number.expect("the leader is asked");
    let message = PeerMessage::ReadIndexResponse { number, index: Some(Index(2)) };
    hand.step([Event::Received { from: TWO, message }]);
    assert_eq!(hand.told, []);
    hand.step([append(TWO, 1, at(2, 1), 2, 2)]);
    assert_eq!(hand.told, [Told::ReadReady(1)]);
}

#[test]
fn after_a_restart_the_machine_is_fed_from_the_log_when_the_commit_is_known() {
    let entries = |last: u64| -> Vec<Frame> {
        let frame = |index: u64| draft(index, &index.to_le_bytes()).stamp(at(index, 1), 0);
        (1..=last).map(frame).collect()
    };
    let mut log = MemoryLog::default();
    let batch = LogBatch {
        anew: None,
        number: jangada::raft::WriteNumber(1),
        last: at(5, 1),
        hard_state: HardState { term: Term(1), vote: None },
        note: None,
        after: Index(0),
        entries: entries(5),
    };
    log.append(&batch).expect("in memory");
    let mut hand = Hand::start(log, Range::of_term(at(0, 0), Term(1), Index(5)));
    hand.meet();
    assert!(hand.member.machine().commands.is_empty(), "nothing is known to be committed");
    hand.step([append(TWO, 1, at(5, 1), 5, 4)]);
    let expected: Vec<Vec<u8>> = (1..=4u64).map(|n| n.to_le_bytes().to_vec()).collect();
    assert_eq!(hand.member.machine().commands, expected);
    assert_eq!(hand.member.status().record.applied, at(4, 1));
}

#[test]
fn the_log_of_a_machine_without_snapshots_is_never_cut() {
    let mut hand = Hand::leader();
    hand.step((1..=5).map(propose));
    hand.step([matched(TWO, 1, 6), matched(THREE, 1, 6)]);
    assert_eq!(hand.told.len(), 5, "everybody has them all: {:?}", hand.told);
    hand.now_us += 1_000_000;
    hand.step([matched(TWO, 1, 6)]);
    assert!(hand.cuts.is_empty(), "it is all that the machine can be built from");
}

#[test]
fn a_peer_counts_once_its_incarnation_is_in_the_log_and_a_stranger_never() {
    let mut hand = Hand::start(MemoryLog::default(), Range::empty(Position::default()));
    hand.step([heartbeat(TWO, 1, 0)]);
    assert_eq!(hand.member.status().standing.leader, None, "nobody has shaken hands");
    hand.disk = Disk::Stalled;
    hand.step([Event::Hello { peer: TWO, incarnation: 20, level: 0 }, heartbeat(TWO, 1, 0)]);
    assert_eq!(hand.member.status().standing.leader, None, "the note is not durable");
    let written = hand.write();
    hand.step(written);
    assert_eq!(hand.member.status().standing.leader, Some(TWO), "what it said meanwhile counts");
    hand.disk = Disk::Prompt;
    let written = hand.write();
    hand.step(written);
    hand.step([Event::Hello { peer: TWO, incarnation: 21, level: 0 }, heartbeat(TWO, 9, 0)]);
    assert_eq!(hand.told, [Told::Stranger(TWO)]);
    assert_eq!(hand.member.status().standing.term, Term(1), "nothing of it counts");
}

/// The log is read for a peer once at a time, however often the peer's place changes meanwhile.
#[test]
fn a_lost_lane_does_not_multiply_the_reads_of_the_log() {
    let mut log = MemoryLog::default();
    let frames: Vec<Frame> = (1..=5).map(|i| draft(i, b"old").stamp(at(i, 1), 0)).collect();
    let batch = LogBatch {
        anew: None,
        number: jangada::raft::WriteNumber(1),
        last: at(5, 1),
        hard_state: HardState { term: Term(1), vote: None },
        note: None,
        after: Index(0),
        entries: frames,
    };
    log.append(&batch).expect("in memory");
    let mut hand = Hand::start(log, Range::of_term(at(0, 0), Term(1), Index(5)));
    hand.meet();
    while hand.member.status().standing.role == RoleKind::Follower {
        hand.sleep();
    }
    let (term, granted) = (Term(2), true);
    hand.step([raft(TWO, Message::PreVoteResponse(PreVoteResponse { term, granted }))]);
    hand.step([raft(TWO, Message::VoteResponse(VoteResponse { term, granted }))]);
    assert_eq!(hand.member.status().standing.role, RoleKind::Leader);
    // Two holds nothing: all five are read back for it.
    let outcome = AppendOutcome::Conflict { probe: Index(5), hint: Position::default() };
    let refusal = Message::AppendResponse(AppendResponse { term, outcome, recovering: None });
    let now = Now { monotonic_us: hand.now_us, wall_ms: 0 };
    let mut effects = Vec::new();
    hand.member.step(now, &mut vec![raft(TWO, refusal)], &mut effects);
    let reads = |effects: &[Effect<usize>]| {
        effects.iter().filter(|effect| matches!(effect, Effect::Read(_))).count()
    };
    assert_eq!(reads(&effects), 1);
    for _ in 0..3 {
        hand.member.step(now, &mut vec![Event::LaneLost(TWO), Event::PeerUp(TWO)], &mut effects);
    }
    assert_eq!(reads(&effects), 1, "one read is under way");
}

/// The entry that told a server who the members are stands in its log, which begins before it. What the
/// log lost the others give back (simulated seed 3161).
#[test]
fn a_member_that_joined_recovers_though_its_log_begins_without_members() {
    let told = |voters: &[NodeId]| Configuration::of_voters(voters.iter().copied());
    let starts = |configurations: Vec<(Index, Configuration)>| {
        let start = MemberStart {
            id: SELF,
            group: 0,
            process: PROCESS,
            hard_state: HardState { term: Term(1), vote: Some(SELF) },
            configuration: Configuration::default(),
            configurations,
            log: Range::of_term(Position::default(), Term(1), Index(4)),
            time_ms: 0,
            note: Bytes::new(),
            level: FEATURE_LEVEL,
            options: Options::default(),
            seed: 1,
            faulty: Vec::new(),
            recovering: true,
            saved: None,
        };
        Member::new(Now::default(), start, Journal::default()).map(drop)
    };
    assert_eq!(starts(vec![(Index(2), told(&[SELF, TWO]))]), Ok(()));
    assert_eq!(starts(Vec::new()), Ok(()), "it is still to be told");
    let alone = starts(vec![(Index(2), told(&[SELF]))]);
    assert_eq!(alone, Err(StartError::Alone { ends: at(4, 1) }));
}

#[test]
fn a_durable_machine_without_snapshots_is_warned_of() {
    let concern = |begins: u64, machine: Journal| {
        let range = Range::empty(at(begins, u64::from(0 < begins)));
        Hand::start_with(PROCESS, MemoryLog::default(), range, machine).member.concern()
    };
    assert_eq!(concern(0, Journal::default()), None, "it is built anew from its log");
    let durable = Journal { durable: 1, ..Journal::default() };
    let concerned = concern(0, durable).expect("its log may lose its beginning");
    assert_eq!(concerned, Concern::NoSnapshots);
    assert!(concerned.to_string().contains("offers no snapshots"), "{concerned}");
    let record = Record { applied: at(5, 1), ..Record::default() }.encode();
    let stranding = Journal { durable: 5, record: Some(record), ..Journal::default() };
    let concerned = concern(5, stranding).expect("the log begins behind entry 5");
    assert_eq!(concerned, Concern::StrandsNewMembers { begins: Index(5) });
    assert!(concerned.to_string().contains("behind entry 5"), "{concerned}");
}
