//! The running hash: one member stepped by hand among peers that tell the truth or lie, and a cluster
//! in which one machine lies.

#[allow(dead_code, reason = "each test binary uses a part of it")]
mod hand;

use hand::{Hand, SELF, THREE, TWO, Told, append, at, matched, propose};
use jangada::net::PeerMessage;
use jangada::raft::{Message, PreVoteRequest, RoleKind, Term, TimeoutNow, VoteRequest};
use jangada::{
    Event, Frame, Index, LocalCluster, NodeId, Options, Outcome, ProposeError, ReadBatch,
    ReadError, SnapshotError, Snapshots, StateMachine,
};

/// What the leader asks of a peer, oldest first.
fn questions(hand: &Hand, peer: NodeId) -> Vec<Index> {
    let index = |message: &PeerMessage| match message {
        PeerMessage::HashQuestion { index } => Some(*index),
        _ => None,
    };
    hand.sent_to(peer).filter_map(index).collect()
}

fn answer(from: NodeId, index: Index, hash: u64) -> Event {
    Event::Received { from, message: PeerMessage::HashAnswer { index, hash } }
}

fn alive(peer: NodeId, term: u64) -> Event {
    use jangada::raft::{HeartbeatResponse, ReadRound};
    let (term, round) = (Term(term), ReadRound(0));
    hand::raft(
        peer,
        Message::HeartbeatResponse(HeartbeatResponse { term, round, recovering: None }),
    )
}

/// Until the leader has asked about its last entry applied.
fn asked(hand: &mut Hand) -> (Index, u64) {
    let applied = hand.member.status().record.applied.index;
    for _ in 0..100 {
        if questions(hand, TWO).contains(&applied) {
            return (applied, hand.member.status().record.hash);
        }
        hand.sleep();
        hand.step([TWO, THREE].map(|peer| alive(peer, 1)));
    }
    panic!("the leader never asked about {applied}: {:?}", hand.sent);
}

fn differs(hand: &Hand) -> Vec<NodeId> {
    let is_told = |(to, message): &(NodeId, PeerMessage)| {
        matches!(message, PeerMessage::HashDiffers { .. }).then_some(*to)
    };
    hand.sent.iter().filter_map(is_told).collect()
}

#[test]
fn members_that_agree_are_asked_once_for_each_index() {
    let mut hand = Hand::leader();
    hand.step([propose(1)]);
    hand.step([matched(TWO, 1, 2), matched(THREE, 1, 2)]);
    let (index, hash) = asked(&mut hand);
    hand.step([answer(TWO, index, hash), answer(THREE, index, hash)]);
    hand.sent.clear();
    for _ in 0..60 {
        hand.sleep();
        hand.step([TWO, THREE].map(|peer| alive(peer, 1)));
    }
    // It asks now and then, and about nothing that it knows.
    assert!(questions(&hand, TWO).len() <= 3, "{:?}", questions(&hand, TWO));
    assert!(differs(&hand).is_empty());
    assert_eq!(hand.member.status().hashes_differ, None);
}

#[test]
fn a_follower_that_is_odd_is_told() {
    let mut hand = Hand::leader();
    hand.step([propose(1)]);
    hand.step([matched(TWO, 1, 2), matched(THREE, 1, 2)]);
    let (index, hash) = asked(&mut hand);
    hand.step([answer(THREE, index, hash ^ 1)]);
    assert!(differs(&hand).is_empty(), "one against one is no majority");
    hand.step([answer(TWO, index, hash)]);
    assert_eq!(differs(&hand), [THREE]);
    assert!(hand.member.quarantine().is_none());
}

#[test]
fn a_leader_that_is_odd_serves_nobody_and_hands_over_to_one_that_is_not() {
    let mut hand = Hand::leader();
    hand.step([propose(1)]);
    hand.step([matched(TWO, 1, 2), matched(THREE, 1, 2)]);
    let (index, hash) = asked(&mut hand);
    hand.step([propose(2), Event::Read(ReadBatch(1))]);
    hand.step([answer(TWO, index, hash ^ 1), answer(THREE, index, hash ^ 1)]);
    let quarantine = hand.member.quarantine().expect("it is the odd one");
    assert_eq!((quarantine.index, quarantine.own, quarantine.others), (index, hash, hash ^ 1));
    assert!(hand.told.contains(&Told::Quarantined(quarantine)));
    assert!(hand.told.contains(&Told::ReadRefused(1)), "{:?}", hand.told);
    // What was under way is committed, and not applied to a state that is wrong.
    hand.step([matched(TWO, 1, 3), matched(THREE, 1, 3)]);
    assert!(!hand.told.iter().any(|told| matches!(told, Told::Reply(2, _))), "{:?}", hand.told);
    hand.step([propose(3), Event::Read(ReadBatch(2))]);
    assert!(hand.told.contains(&Told::Refuse(3, ProposeError::Quarantined)));
    assert!(hand.told.contains(&Told::ReadRefused(2)));
    let summoned = hand
        .sent_to(TWO)
        .any(|message| matches!(message, PeerMessage::Raft(Message::TimeoutNow(_))));
    assert!(summoned, "{:?}", hand.sent);
    // The one who is asked does not answer: it steps down all the same.
    let before_us = hand.now_us;
    while hand.now_us < before_us + 3 * Options::default().election_timeout_us {
        hand.sleep();
        hand.step([TWO, THREE].map(|peer| alive(peer, 1)));
    }
    assert_eq!(hand.member.status().standing.role, RoleKind::Follower);
    assert!(hand.told.contains(&Told::Doubt(2)), "the client is told: {:?}", hand.told);
}

#[test]
fn one_against_one_is_told_to_the_operator_once() {
    let mut hand = Hand::leader();
    hand.step([propose(1)]);
    hand.step([matched(TWO, 1, 2), matched(THREE, 1, 2)]);
    let (index, hash) = asked(&mut hand);
    // The third member is silent for good.
    hand.step([answer(TWO, index, hash ^ 1)]);
    let before_us = hand.now_us;
    while hand.now_us < before_us + 40_000_000 {
        hand.sleep();
        hand.step([TWO, THREE].map(|peer| alive(peer, 1)));
        let newest = questions(&hand, TWO).last().copied();
        if let Some(asked) = newest {
            hand.step([answer(TWO, asked, hash ^ 1)]);
        }
    }
    let told = hand.told.iter().filter(|told| matches!(told, Told::HashesDiffer(..))).count();
    assert_eq!(told, 1, "{:?}", hand.told);
    assert_eq!(hand.member.status().hashes_differ, Some(index));
    assert!(hand.member.quarantine().is_none() && differs(&hand).is_empty());
}

#[test]
fn three_that_all_differ_are_told_to_the_operator() {
    let mut hand = Hand::leader();
    let (index, hash) = asked(&mut hand);
    hand.step([answer(TWO, index, hash ^ 1), answer(THREE, index, hash ^ 2)]);
    assert!(hand.told.contains(&Told::HashesDiffer(index, 3)), "{:?}", hand.told);
}

/// A follower of `TWO` that has applied one command.
fn follower() -> (Hand, u64) {
    let mut hand = Hand::follower();
    hand.step([append(TWO, 1, at(0, 0), 1, 1)]);
    assert_eq!(hand.member.status().record.applied.index, Index(1));
    let hash = hand.member.status().record.hash;
    (hand, hash)
}

fn told_to_differ(from: NodeId, index: u64, hash: u64) -> Event {
    Event::Received { from, message: PeerMessage::HashDiffers { index: Index(index), hash } }
}

#[test]
fn a_follower_answers_when_it_has_applied_so_far() {
    let (mut hand, hash) = follower();
    let ask = |index| Event::Received {
        from: TWO,
        message: PeerMessage::HashQuestion { index: Index(index) },
    };
    hand.sent.clear();
    hand.step([ask(1), ask(3)]);
    let answers = |hand: &Hand| -> Vec<_> {
        let answer = |message: &PeerMessage| match message {
            PeerMessage::HashAnswer { index, hash } => Some((index.0, *hash)),
            _ => None,
        };
        hand.sent_to(TWO).filter_map(answer).collect()
    };
    assert_eq!(answers(&hand), [(1, hash)]);
    hand.step([append(TWO, 1, at(1, 1), 4, 4)]);
    let known = answers(&hand);
    assert_eq!(known.len(), 2);
    assert_eq!(known[1].0, 3);
    assert_ne!(known[1].1, hand.member.status().record.hash, "that is the hash of the fourth");
    // Many questions about what is far ahead cost nothing.
    hand.step((0..1000).map(|n| ask(1000 + n)));
    assert!(hand.member.bounds().iter().all(|bound| bound.held <= bound.max));
}

#[test]
fn a_follower_believes_only_its_leader_and_only_what_it_sees_itself() {
    let (mut hand, hash) = follower();
    hand.step([told_to_differ(THREE, 1, hash ^ 1)]);
    hand.step([told_to_differ(TWO, 1, hash)]);
    hand.step([told_to_differ(TWO, 7, hash ^ 1)]);
    assert!(hand.member.quarantine().is_none());
    hand.step([told_to_differ(TWO, 1, hash ^ 1)]);
    assert!(hand.member.quarantine().is_some());
}

#[test]
fn a_quarantined_follower_serves_nobody_and_neither_votes_nor_stands() {
    let (mut hand, hash) = follower();
    hand.step([told_to_differ(TWO, 1, hash ^ 1)]);
    hand.step([propose(1), Event::Read(ReadBatch(1))]);
    assert!(hand.told.contains(&Told::Refuse(1, ProposeError::Quarantined)));
    assert!(hand.told.contains(&Told::ReadRefused(1)));
    hand.step([append(TWO, 1, at(1, 1), 2, 2)]);
    assert_eq!(hand.member.status().record.applied.index, Index(1), "nothing more is applied");
    assert_eq!(hand.member.status().commit, Index(2), "its log is as good as anyone's");
    hand.sent.clear();
    hand.step([hand::raft(TWO, Message::TimeoutNow(TimeoutNow { term: Term(1) }))]);
    for _ in 0..40 {
        hand.sleep();
    }
    assert_eq!(hand.member.status().standing.role, RoleKind::Follower);
    let (term, last) = (Term(2), at(9, 1));
    hand.step([hand::raft(THREE, Message::PreVoteRequest(PreVoteRequest { term, last }))]);
    let vote = VoteRequest { term, last, transfer: true };
    hand.step([hand::raft(THREE, Message::VoteRequest(vote))]);
    assert!(hand.sent.is_empty(), "{:?}", hand.sent);
    assert_eq!(hand.member.status().standing.term, Term(1));
    assert_eq!(hand.member.id(), SELF);
}

/// By how much a machine miscounts.
const LIE: u64 = 1 << 40;

/// Adds up, save that one member miscounts after a while.
struct Sum {
    sum: u64,
    lies_from: u64,
}

impl StateMachine for Sum {
    type Reply = u64;

    fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<u64>>) {
        for command in commands {
            self.sum += command.payload().len() as u64;
            if self.sum == self.lies_from {
                self.sum += LIE;
            }
            outcomes.push(Outcome { reply: self.sum, digest: self.sum });
        }
    }
}

/// The same, and its state can be written as bytes.
struct SavedSum(Sum);

impl StateMachine for SavedSum {
    type Reply = u64;

    fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<u64>>) {
        self.0.apply(commands, outcomes);
    }

    fn snapshots(&self) -> Snapshots {
        Snapshots::Whole
    }

    fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.sum.to_le_bytes());
    }

    fn load(&mut self, state: &[u8]) -> Result<(), SnapshotError> {
        let sum = state.try_into().map_err(|_| SnapshotError::Unfit("no sum".to_owned()))?;
        self.0.sum = u64::from_le_bytes(sum);
        Ok(())
    }
}

/// In real time; whichever member leads, liar or not.
#[test]
fn a_machine_that_lied_is_replaced_by_a_snapshot_and_serves_again() {
    let lies_from = |id: NodeId| if id.0 == 2 { 20 } else { 0 };
    let machine = |id| SavedSum(Sum { sum: 0, lies_from: lies_from(id) });
    let options = Options { leader_wait_us: 1_000_000, ..Options::default() };
    let cluster = LocalCluster::start(3, options, machine).expect("it starts");
    let [honest, liar, _] = cluster.handles() else { panic!("three members") };
    for _ in 0..20 {
        honest.propose(b"a").wait().expect("a healthy cluster");
    }
    while liar.status().snapshots_installed == 0 {
        let _ = honest.propose(b"b").wait();
    }
    let counted = loop {
        if let Ok(counted) = honest.propose(b"c").wait() {
            break counted;
        }
    };
    let read = loop {
        if let Ok(sum) = liar.read(|machine| machine.0.sum).wait() {
            break sum;
        }
    };
    assert_eq!(read, counted);
    assert_eq!(liar.status().quarantine, None);
    let replied = loop {
        if let Ok(replied) = liar.propose(b"d").wait() {
            break replied;
        }
    };
    assert!(counted < replied && replied < LIE, "{replied}");
}

/// In real time; whichever member leads, liar or not, the liar is found.
#[test]
fn a_machine_that_lies_is_found_and_serves_nobody_any_more() {
    let liar = 1;
    let machine = |id: NodeId| Sum { sum: 0, lies_from: if id.0 == liar + 1 { 20 } else { 0 } };
    let options = Options { leader_wait_us: 1_000_000, ..Options::default() };
    let cluster = LocalCluster::start(3, options, machine).expect("it starts");
    let handles = cluster.handles();
    for _ in 0..20 {
        handles[0].propose(b"a").wait().expect("a healthy cluster");
    }
    let liar = &handles[liar as usize];
    while liar.status().quarantine.is_none() {
        // The others go on, save while leadership passes.
        let _ = handles[0].propose(b"b").wait();
    }
    assert_eq!(liar.read(|sum| sum.sum).wait(), Err(ReadError::Quarantined));
    assert_eq!(liar.propose(b"c").wait(), Err(ProposeError::Quarantined));
    // Somebody else leads soon, if it was the liar.
    let counted = loop {
        if let Ok(counted) = handles[0].propose(b"d").wait() {
            break counted;
        }
    };
    assert!(counted < LIE, "{counted} was counted right");
    assert!(handles[0].status().quarantine.is_none() && handles[2].status().quarantine.is_none());
}
