//! Each invariant is shown to hold where it should and to be violated where it should: a check that
//! cannot fail checks nothing.

use jangada_raft::{AppendResponse, Run, VoteRequest, VoteResponse};

use super::*;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

fn at(index: u64, term: u64) -> Position {
    Position { index: Index(index), term: Term(term) }
}

fn leader(term: u64) -> Standing {
    Standing { role: RoleKind::Leader, term: Term(term), leader: None }
}

fn follower(term: u64) -> Standing {
    Standing { role: RoleKind::Follower, term: Term(term), leader: None }
}

fn violated<T>(result: Result<T, Violation>) -> &'static str {
    result.err().map_or("nothing", |violation| violation.invariant)
}

fn stand(
    seen: &mut Invariants,
    who: NodeId,
    standing: Standing,
    commit: u64,
    log: &[u64],
) -> &'static str {
    let term_at = |index: Index| {
        let place = (index.0 as usize).checked_sub(1)?;
        log.get(place).copied().map(Term)
    };
    violated(seen.stands(who, standing, Index(commit), Index(log.len() as u64), &term_at))
}

#[test]
fn two_leaders_in_one_term() {
    let mut seen = Invariants::new();
    assert_eq!(stand(&mut seen, A, leader(1), 0, &[]), "nothing");
    assert_eq!(stand(&mut seen, A, leader(1), 0, &[]), "nothing");
    assert_eq!(stand(&mut seen, B, leader(2), 0, &[]), "nothing");
    assert_eq!(stand(&mut seen, C, leader(1), 0, &[]), "election safety");
}

#[test]
fn a_leader_without_a_committed_entry() {
    let mut seen = Invariants::new();
    assert_eq!(stand(&mut seen, A, leader(1), 2, &[1, 1]), "nothing");
    assert_eq!(stand(&mut seen, B, leader(2), 0, &[1, 1, 2]), "nothing");
    assert_eq!(stand(&mut seen, C, leader(3), 0, &[1]), "leader completeness");
}

#[test]
fn a_leader_of_the_past_need_not_hold_what_came_after() {
    let mut seen = Invariants::new();
    assert_eq!(stand(&mut seen, A, leader(1), 1, &[1]), "nothing");
    assert_eq!(stand(&mut seen, B, leader(2), 2, &[1, 2]), "nothing");
    assert_eq!(stand(&mut seen, A, leader(1), 1, &[1]), "nothing");
}

#[test]
fn what_a_leader_of_the_past_still_counts_by_is_no_configuration() {
    let mut seen = Invariants::of(&[A, B]);
    assert_eq!(stand(&mut seen, A, follower(2), 3, &[1, 1, 2]), "nothing");
    seen.configures(at(3, 2), &Configuration::of_voters([A]));
    assert!(!seen.is_member(B));
    seen.configures(at(5, 1), &Configuration::of_voters([A, B]));
    assert!(!seen.is_member(B), "it stands behind what is committed in a later term");
    seen.configures(at(5, 2), &Configuration::of_voters([A, B]));
    assert!(seen.is_member(B));
}

#[test]
fn two_entries_committed_at_one_index() {
    let mut seen = Invariants::new();
    assert_eq!(stand(&mut seen, A, follower(2), 2, &[1, 1]), "nothing");
    assert_eq!(stand(&mut seen, B, follower(2), 2, &[1, 2]), "state machine safety");
}

#[test]
fn what_never_falls() {
    let mut seen = Invariants::new();
    assert_eq!(stand(&mut seen, A, follower(2), 1, &[1]), "nothing");
    assert_eq!(stand(&mut seen, A, follower(1), 1, &[1]), "terms never fall");
    let mut seen = Invariants::new();
    assert_eq!(stand(&mut seen, A, follower(2), 1, &[1]), "nothing");
    assert_eq!(stand(&mut seen, A, follower(2), 0, &[1]), "the commit index never falls");
    let beyond = stand(&mut Invariants::new(), A, follower(2), 2, &[1]);
    assert_eq!(beyond, "only what is in the log is committed");
}

/// A batch that makes the log end like this: entries of one term behind what was there.
fn batch(term: u64, vote: Option<NodeId>, after: u64, last: Position) -> Written {
    let durable = Durable { hard_state: HardState { term: Term(term), vote }, last };
    let terms = vec![last.term; (last.index.0 - after) as usize];
    Written { durable, after: Index(after), terms, anew: None }
}

#[test]
fn what_is_said_before_it_is_durable() {
    let vote = |term| Message::VoteResponse(VoteResponse { term: Term(term), granted: true });
    let stand =
        Message::VoteRequest(VoteRequest { term: Term(2), last: at(0, 0), transfer: false });
    let outcome = AppendOutcome::Match(Index(5));
    let ack = Message::AppendResponse(AppendResponse { term: Term(2), outcome, recovering: None });
    const NAME: &str = "durability before answer";

    let mut seen = Invariants::new();
    seen.writes(A, batch(2, Some(B), 0, at(4, 1)));
    for message in [&vote(2), &stand, &ack] {
        assert_eq!(violated(seen.clone().says(A, B, message)), NAME);
    }
    assert_eq!(violated(seen.wrote(A)), "nothing");
    assert_eq!(violated(seen.says(A, B, &vote(2))), "nothing");
    assert_eq!(violated(seen.says(A, B, &stand)), "nothing");
    assert_eq!(violated(seen.says(A, B, &ack)), NAME);
    assert_eq!(violated(seen.clone().says(A, C, &vote(2))), "one vote in a term");
    seen.writes(A, batch(2, Some(B), 4, at(5, 2)));
    assert_eq!(violated(seen.wrote(A)), "nothing");
    assert_eq!(violated(seen.says(A, B, &ack)), "nothing");
}

#[test]
fn a_log_that_comes_back_short_or_strange() {
    const NAME: &str = "durability before acknowledgement";
    let log = |last: u64| Range::of_term(at(0, 0), Term(1), Index(last));
    let state = |term| HardState { term: Term(term), vote: None };
    let mut seen = Invariants::new();
    seen.writes(A, batch(1, None, 0, at(3, 1)));
    assert_eq!(violated(seen.wrote(A)), "nothing");
    seen.writes(A, batch(2, None, 3, at(6, 1)));
    assert_eq!(violated(seen.clone().recovers(A, state(1), &log(3))), "nothing");
    assert_eq!(violated(seen.clone().recovers(A, state(2), &log(6))), "nothing");
    assert_eq!(violated(seen.clone().recovers(A, state(1), &log(2))), NAME);
    assert_eq!(violated(seen.clone().recovers(A, state(2), &log(5))), NAME);
    assert_eq!(violated(seen.clone().recovers(A, state(0), &log(3))), NAME);
}

#[test]
fn a_log_that_comes_back_with_other_entries() {
    let state = HardState { term: Term(2), vote: None };
    let mut seen = Invariants::new();
    seen.writes(A, batch(2, None, 0, at(2, 1)));
    assert_eq!(violated(seen.wrote(A)), "nothing");
    seen.writes(A, batch(2, None, 2, at(4, 2)));
    assert_eq!(violated(seen.wrote(A)), "nothing");
    let log = |second_from: u64| Range {
        prev: at(0, 0),
        last: Index(4),
        first_term: Term(1),
        more: vec![Run { term: Term(2), first: Index(second_from) }],
    };
    let (right, wrong) = (log(3), log(2));
    const ON_DISK: &str = "what is durable is on the disk";
    assert_eq!(violated(seen.holds(A, state, &right)), "nothing");
    assert_eq!(violated(seen.holds(A, state, &wrong)), ON_DISK);
    let short = Range::of_term(at(0, 0), Term(1), Index(2));
    assert_eq!(violated(seen.holds(A, state, &short)), ON_DISK);
    let voted = HardState { term: Term(2), vote: Some(A) };
    assert_eq!(violated(seen.holds(A, voted, &right)), ON_DISK);
    const RECOVERED: &str = "durability before acknowledgement";
    assert_eq!(violated(seen.clone().recovers(A, state, &right)), "nothing");
    assert_eq!(violated(seen.recovers(A, state, &wrong)), RECOVERED);
}

/// The log has said that it has no space, and has written the batch all the same.
#[test]
fn a_batch_under_way_may_be_on_the_disk_whole_or_not_at_all() {
    let state = HardState { term: Term(1), vote: None };
    let mut seen = Invariants::new();
    seen.writes(A, batch(1, None, 0, at(2, 1)));
    assert_eq!(violated(seen.wrote(A)), "nothing");
    seen.writes(A, batch(1, None, 2, at(4, 1)));
    let log = |last, term| Range::of_term(at(0, 0), Term(term), Index(last));
    for last in [2, 4] {
        assert_eq!(violated(seen.holds(A, state, &log(last, 1))), "nothing", "up to {last}");
    }
    for log in [log(1, 1), log(3, 1), log(5, 1), log(4, 2)] {
        assert_eq!(violated(seen.holds(A, state, &log)), "what is durable is on the disk");
    }
}

/// Three members, of which two have made three entries durable and one has applied them.
fn acknowledged_by_two() -> Invariants {
    let mut seen = Invariants::of(&[A, B, C]);
    for member in [A, B] {
        seen.writes(member, batch(1, None, 0, at(3, 1)));
        assert_eq!(violated(seen.wrote(member)), "nothing");
    }
    for index in 1..=3 {
        assert_eq!(violated(seen.applies(A, command(index, 7, index), false)), "nothing");
        let origin = Origin { incarnation: 9, sequence: index };
        assert_eq!(violated(seen.acknowledged(origin)), "nothing");
    }
    seen
}

const ON_QUORUM: &str = "what is acknowledged is on a quorum of disks";

#[test]
fn an_acknowledgement_that_only_one_disk_holds() {
    let mut seen = acknowledged_by_two();
    seen.writes(A, batch(1, None, 3, at(4, 1)));
    assert_eq!(violated(seen.wrote(A)), "nothing");
    seen.writes(B, batch(1, None, 3, at(4, 1)));
    assert_eq!(violated(seen.applies(A, command(4, 7, 4), false)), "nothing");
    let origin = Origin { incarnation: 9, sequence: 4 };
    assert_eq!(violated(seen.clone().acknowledged(origin)), ON_QUORUM, "B has not written it");
    assert_eq!(violated(seen.wrote(B)), "nothing");
    assert_eq!(violated(seen.acknowledged(origin)), "nothing");
}

#[test]
fn an_acknowledged_entry_that_is_overwritten() {
    let mut seen = acknowledged_by_two();
    seen.writes(C, batch(2, None, 0, at(1, 2)));
    assert_eq!(violated(seen.wrote(C)), "nothing", "it held none of them");
    let mut other = seen.clone();
    seen.writes(B, batch(2, None, 1, at(3, 1)));
    assert_eq!(violated(seen.wrote(B)), "nothing", "the same again is no loss");
    seen.writes(B, batch(2, None, 2, at(3, 2)));
    assert_eq!(violated(seen.wrote(B)), ON_QUORUM);
    other.damaged(C);
    other.writes(B, batch(2, None, 2, at(3, 2)));
    assert_eq!(violated(other.wrote(B)), "nothing", "what C's disk lost may have been it");
}

fn command(index: u64, crc: u32, sequence: u64) -> AppliedCommand {
    AppliedCommand {
        position: at(index, 1),
        payload_crc: crc,
        time_ms: 0,
        origin: Origin { incarnation: 9, sequence },
        digest: 0,
    }
}

#[test]
fn commands_applied_twice_or_differently() {
    let mut seen = Invariants::new();
    assert_eq!(violated(seen.applies(A, command(1, 7, 1), false)), "nothing");
    assert_eq!(violated(seen.applies(B, command(1, 7, 1), false)), "nothing");
    assert_eq!(violated(seen.applies(B, command(1, 7, 1), false)), "entries are applied in order");
    assert_eq!(violated(seen.applies(C, command(1, 8, 1), false)), "state machine safety");
    let twice = violated(seen.applies(A, command(2, 7, 1), false));
    assert_eq!(twice, "a proposal happens at most once");
    let origin = Origin { incarnation: 9, sequence: 3 };
    assert_eq!(violated(seen.acknowledged(origin)), "only what is applied is acknowledged");
    assert_eq!(violated(seen.refused(origin)), "nothing");
    let refused = violated(seen.applies(A, command(3, 7, 3), false));
    assert_eq!(refused, "a refused proposal never happens");
    assert_eq!(violated(seen.acknowledged(origin)), "nothing");
    assert_eq!(violated(seen.refused(origin)), "a refused proposal never happens");
}

#[test]
fn members_that_differ_at_one_index() {
    let mut seen = Invariants::new();
    assert_eq!(violated(seen.hashes(A, Index(5), 1)), "nothing");
    assert_eq!(violated(seen.hashes(B, Index(6), 2)), "nothing");
    assert_eq!(violated(seen.hashes(C, Index(5), 3)), "members are equal at equal indexes");
}

#[test]
fn what_came_of_a_command_is_asked_of_those_that_never_erred() {
    let with = |digest: u64| AppliedCommand { digest, ..command(1, 7, 1) };
    let mut seen = Invariants::of(&[A, B, C]);
    assert_eq!(violated(seen.applies(A, with(9), true)), "nothing");
    assert_eq!(violated(seen.applies(B, with(5), false)), "nothing");
    assert_eq!(violated(seen.applies(C, with(9), false)), "state machine safety");
    let mut seen = Invariants::of(&[A, B, C]);
    assert_eq!(violated(seen.applies(B, with(5), false)), "nothing");
    assert_eq!(violated(seen.applies(A, with(9), true)), "nothing");
    let other = AppliedCommand { payload_crc: 8, ..with(9) };
    assert_eq!(violated(seen.applies(C, other, true)), "state machine safety");
    assert!(!seen.is_the_hash(Index(1), 3));
    assert_eq!(violated(seen.hashes(B, Index(1), 3)), "nothing");
    assert!(seen.is_the_hash(Index(1), 3) && !seen.is_the_hash(Index(1), 4));
}
