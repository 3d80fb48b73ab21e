//! Which role takes which message of its own term: all pairs.

use super::*;
use crate::contract::{
    AppendRequest, Configuration, Heartbeat, Index, Limits, PreVoteRequest, Range, Start,
    TimeoutNow, VoteRequest, WriteNumber,
};

fn member(voters: u64) -> Raft {
    Raft::new(Start {
        id: NodeId(1),
        hard_state: Default::default(),
        configuration: Configuration::of_voters((1..=voters).map(NodeId)),
        log: Range::empty(Position::default()),
        commit: Index(0),
        limits: Limits::default(),
        configurations: Vec::new(),
        recovering: None,
    })
}

/// A member in each role, brought there by inputs alone.
fn in_role(role: RoleKind) -> Raft {
    let mut raft = member(3);
    let mut out = Vec::new();
    let granted = |term| Message::PreVoteResponse(PreVoteResponse { term, granted: true });
    let inputs = [
        Input::Timer(Timer::Election),
        Input::Receive { from: NodeId(2), message: granted(Term(1)) },
        Input::Persisted { write: WriteNumber(1), last: Position::default() },
        Input::Receive {
            from: NodeId(2),
            message: Message::VoteResponse(VoteResponse { term: Term(1), granted: true }),
        },
    ];
    for input in inputs {
        if raft.role() == role {
            break;
        }
        raft.step(input, &mut out);
    }
    assert_eq!(raft.role(), role);
    raft
}

fn messages(term: Term) -> Vec<Message> {
    let last = Position::default();
    let range = Range::empty(last);
    let outcome = AppendOutcome::Match(Index(0));
    let (commit, round) = (Index(0), ReadRound(0));
    vec![
        Message::PreVoteRequest(PreVoteRequest { term, last }),
        Message::PreVoteResponse(PreVoteResponse { term, granted: false }),
        Message::PreVoteResponse(PreVoteResponse { term: Term(term.0 + 1), granted: true }),
        Message::VoteRequest(VoteRequest { term, last, transfer: false }),
        Message::VoteResponse(VoteResponse { term, granted: true }),
        Message::VoteResponse(VoteResponse { term, granted: false }),
        Message::AppendRequest(AppendRequest { term, range, commit, configurations: Vec::new() }),
        Message::AppendResponse(AppendResponse { term, outcome, recovering: None }),
        Message::Heartbeat(Heartbeat { term, commit, round, recover_to: None }),
        Message::HeartbeatResponse(HeartbeatResponse { term, round, recovering: None }),
        Message::TimeoutNow(TimeoutNow { term }),
    ]
}

const ROLES: [RoleKind; 4] =
    [RoleKind::Follower, RoleKind::PreCandidate, RoleKind::Candidate, RoleKind::Leader];

/// The table of forbidden pairs: word from another leader of the own term, to its leader. Every other
/// pair is taken, by an arm of its own.
#[test]
fn exactly_the_forbidden_pairs_break_election_safety() {
    for role in ROLES {
        let ready = in_role(role);
        for message in messages(ready.term()) {
            let from_leader = matches!(
                message,
                Message::AppendRequest(_) | Message::Heartbeat(_) | Message::TimeoutNow(_)
            );
            let expected = role == RoleKind::Leader && from_leader;
            assert_eq!(is_forbidden(role, &message), expected, "{role:?} {message:?}");
            let outcome = std::panic::catch_unwind(|| {
                let mut raft = ready.clone();
                let input = Input::Receive { from: NodeId(3), message: message.clone() };
                raft.step(input, &mut Vec::new());
                raft.check_invariants();
            });
            assert_eq!(outcome.is_err(), expected, "{role:?} {message:?}");
        }
    }
}

/// Figure 2, all servers: whatever the role and whatever the message, a higher term makes a follower.
/// Pre-votes apart, which are about a term that nobody is in.
#[test]
fn a_higher_term_makes_a_follower_of_every_role() {
    for role in ROLES {
        let ready = in_role(role);
        let higher = Term(ready.term().0 + 5);
        for message in messages(higher) {
            let is_pre_vote = match &message {
                Message::PreVoteRequest(_) => true,
                Message::PreVoteResponse(response) => response.granted,
                // A leader withholds its vote, and its term with it, until its quorum is gone.
                Message::VoteRequest(_) => role == RoleKind::Leader,
                _ => false,
            };
            let mut raft = ready.clone();
            let input = Input::Receive { from: NodeId(3), message: message.clone() };
            raft.step(input, &mut Vec::new());
            let expected = match &message {
                _ if is_pre_vote => ready.term(),
                // It follows the leader of that term, which asks it to stand for the next.
                Message::TimeoutNow(_) => Term(higher.0 + 1),
                _ => higher,
            };
            assert_eq!(raft.term(), expected, "{role:?} {message:?}");
            let becomes = match &message {
                _ if is_pre_vote => role,
                Message::TimeoutNow(_) => RoleKind::Candidate,
                _ => RoleKind::Follower,
            };
            assert_eq!(raft.role(), becomes, "{role:?} {message:?}");
        }
    }
}

/// Timers that a role has no use for do nothing.
#[test]
fn a_timer_of_another_role_changes_nothing() {
    use RoleKind::{Candidate, Follower, Leader, PreCandidate};
    for (timer, roles) in [
        (Timer::Heartbeat, &[Follower, PreCandidate, Candidate][..]),
        (Timer::QuorumCheck, &[Follower, PreCandidate, Candidate]),
        (Timer::Quiet, &[PreCandidate, Candidate, Leader]),
        (Timer::Election, &[Leader]),
        (Timer::ElectionSoon, &[Follower, PreCandidate, Candidate, Leader]),
        (Timer::Transfer, &[Follower, PreCandidate, Candidate, Leader]),
    ] {
        for role in roles {
            let mut raft = in_role(*role);
            let mut out = Vec::new();
            raft.step(Input::Flush, &mut out);
            out.clear();
            let before = raft.clone();
            raft.step(Input::Timer(timer), &mut out);
            assert_eq!((&raft, &out), (&before, &Vec::new()), "{timer:?} {role:?}");
        }
    }
}
