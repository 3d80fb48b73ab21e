//! The paper, rule by rule: one test for each rule of figure 2 and each property of figure 3, named
//! after it. Where the module departs from the letter, the test says so (see also
//! `docs/divergence.md`).

mod harness;

use harness::{Cluster, Disk};
use jangada_raft::{
    AppendOutcome, AppendRequest, AppendResponse, Configuration, HardState, Heartbeat, Index,
    Input, Limits, Message, NodeId, Output, Position, PreVoteResponse, Raft, Range, ReadRound,
    RoleKind, Start, Term, Timer, VoteRequest, VoteResponse, WriteNumber, invariants,
};

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);

fn at(index: u64, term: u64) -> Position {
    Position { index: Index(index), term: Term(term) }
}

fn range(prev: Position, terms: &[u64]) -> Range {
    let mut range = Range::empty(prev);
    terms.iter().for_each(|term| range.push(Term(*term)));
    range
}

/// Member 1 of three, with this durable state.
fn member(term: u64, vote: Option<NodeId>, terms: &[u64]) -> Raft {
    Raft::new(Start {
        id: ONE,
        hard_state: HardState { term: Term(term), vote },
        configuration: Configuration::of_voters([ONE, TWO, THREE]),
        log: range(Position::default(), terms),
        commit: Index(0),
        limits: Limits::default(),
        configurations: Vec::new(),
        recovering: None,
    })
}

fn step(raft: &mut Raft, input: Input) -> Vec<Output> {
    let mut out = Vec::new();
    raft.step(input, &mut out);
    raft.check_invariants();
    out
}

fn receive(raft: &mut Raft, from: NodeId, message: Message) -> Vec<Output> {
    step(raft, Input::Receive { from, message })
}

fn vote_request(term: u64, last: Position) -> Message {
    Message::VoteRequest(VoteRequest { term: Term(term), last, transfer: false })
}

fn append(term: u64, range: Range, commit: u64) -> Message {
    Message::AppendRequest(AppendRequest {
        term: Term(term),
        range,
        commit: Index(commit),
        configurations: Vec::new(),
    })
}

fn install(raft: &mut Raft, last: Position) -> Vec<Output> {
    let configuration = Configuration::of_voters([ONE, TWO, THREE]);
    step(raft, Input::SnapshotInstalled { last, configuration })
}

/// Whether the log is begun anew, and behind what.
fn begun_anew_in(out: &[Output]) -> Option<Position> {
    out.iter().find_map(|output| match output {
        Output::Write(write) if write.anew.is_some() => {
            write.range.as_ref().map(|range| range.prev)
        }
        _ => None,
    })
}

/// Completes everything that was asked for so far, then flushes.
fn persist(raft: &mut Raft, out: &[Output]) -> Vec<Output> {
    let writes = out.iter().filter_map(|output| match output {
        Output::Write(write) => Some(write.number),
        _ => None,
    });
    let write = writes.max().expect("a write was asked for");
    let last = raft.last_position();
    let mut out = step(raft, Input::Persisted { write, last });
    out.extend(step(raft, Input::Flush));
    out
}

/// The vote in `out`, and the write it waits for.
fn vote_in(out: &[Output]) -> Option<(bool, Term, Option<WriteNumber>)> {
    out.iter().find_map(|output| match output {
        Output::Send { message: Message::VoteResponse(vote), .. } => {
            Some((vote.granted, vote.term, None))
        }
        Output::SendAfter { after, message: Message::VoteResponse(vote), .. } => {
            Some((vote.granted, vote.term, Some(*after)))
        }
        _ => None,
    })
}

fn append_answer_in(out: &[Output]) -> Option<(Term, AppendOutcome)> {
    out.iter().find_map(|output| match output {
        Output::Send { message: Message::AppendResponse(answer), .. } => {
            Some((answer.term, answer.outcome.clone()))
        }
        _ => None,
    })
}

fn terms_of(raft: &Raft) -> Vec<u64> {
    (1..=raft.last_index().0)
        .map(|index| raft.term_at(Index(index)).expect("in the log").0)
        .collect()
}

fn restarts(out: &[Output], timer: Timer) -> bool {
    out.contains(&Output::Restart(timer))
}

/// Makes member 1 a candidate whose vote is durable.
fn campaign(raft: &mut Raft) -> Vec<Output> {
    let mut out = step(raft, Input::Timer(Timer::Election));
    let term = Term(raft.term().0 + 1);
    let granted = Message::PreVoteResponse(PreVoteResponse { term, granted: true });
    out.extend(receive(raft, TWO, granted));
    assert_eq!(raft.role(), RoleKind::Candidate);
    out
}

fn lead(raft: &mut Raft) -> Vec<Output> {
    let out = campaign(raft);
    persist(raft, &out);
    let vote = Message::VoteResponse(VoteResponse { term: raft.term(), granted: true });
    let out = receive(raft, TWO, vote);
    assert_eq!(raft.role(), RoleKind::Leader);
    out
}

// ------------------------------------------------------------------ Figure 2: state

#[test]
fn state_persistent_state_is_updated_on_stable_storage_before_responding() {
    let mut raft = member(1, None, &[]);
    let out = receive(&mut raft, TWO, vote_request(2, at(0, 0)));
    let (granted, _, after) = vote_in(&out).expect("a vote");
    let written = out.iter().find_map(|output| match output {
        Output::Write(write) => Some((write.number, write.hard_state)),
        _ => None,
    });
    let hard_state = HardState { term: Term(2), vote: Some(TWO) };
    assert_eq!((granted, after.map(|after| (after, hard_state))), (true, written));

    let mut raft = member(1, None, &[]);
    let out = receive(&mut raft, TWO, append(1, range(at(0, 0), &[1]), 0));
    assert_eq!(append_answer_in(&step(&mut raft, Input::Flush)), None, "the entry is not durable");
    let out = persist(&mut raft, &out);
    assert_eq!(append_answer_in(&out), Some((Term(1), AppendOutcome::Match(Index(1)))));
}

#[test]
fn state_commit_index_starts_from_what_is_known_and_increases_monotonically() {
    let mut raft = member(1, None, &[1, 1, 1]);
    assert_eq!(raft.commit_index(), Index(0));
    receive(&mut raft, TWO, append(1, range(at(3, 1), &[]), 2));
    assert_eq!(raft.commit_index(), Index(2));
    receive(&mut raft, TWO, append(1, range(at(3, 1), &[]), 1));
    assert_eq!(raft.commit_index(), Index(2));
}

#[test]
fn state_next_index_is_initialised_to_the_leaders_last_plus_one_and_match_index_to_zero() {
    let mut raft = member(1, None, &[1, 1, 1]);
    lead(&mut raft);
    assert_eq!(raft.match_index(TWO), Some(Index(0)));
    let out = step(&mut raft, Input::Flush);
    let prev = out.iter().find_map(|output| match output {
        Output::Grant(grant) if grant.peer == TWO => Some(grant.range.prev),
        _ => None,
    });
    assert_eq!(prev, Some(at(3, 1)));
}

// ------------------------------------------------------------------ Figure 2: AppendEntries

#[test]
fn append_entries_1_replies_false_if_the_term_is_older() {
    let mut raft = member(3, None, &[1]);
    let out = receive(&mut raft, TWO, append(2, range(at(1, 1), &[2]), 1));
    assert!(matches!(append_answer_in(&out), Some((Term(3), AppendOutcome::Conflict { .. }))));
    assert_eq!((terms_of(&raft), raft.commit_index()), (vec![1], Index(0)));
}

#[test]
fn append_entries_2_replies_false_if_the_log_lacks_the_previous_entry() {
    for terms in [&[1][..], &[1, 1]] {
        let mut raft = member(2, None, terms);
        let out = receive(&mut raft, TWO, append(2, range(at(2, 2), &[2]), 0));
        let conflict = AppendOutcome::Conflict { probe: Index(2), hint: at(1, 1) };
        assert_eq!(append_answer_in(&out), Some((Term(2), conflict)));
        assert_eq!(terms_of(&raft), terms);
    }
}

#[test]
fn append_entries_3_deletes_a_conflicting_entry_and_all_that_follow_it() {
    let mut raft = member(2, None, &[1, 1, 2, 2]);
    receive(&mut raft, TWO, append(3, range(at(1, 1), &[1, 3]), 0));
    assert_eq!(terms_of(&raft), [1, 1, 3]);
}

#[test]
fn append_entries_3_deletes_nothing_where_nothing_conflicts() {
    let mut raft = member(1, None, &[1, 1, 1, 1]);
    let out = receive(&mut raft, TWO, append(1, range(at(1, 1), &[1]), 0));
    assert_eq!(terms_of(&raft), [1, 1, 1, 1]);
    assert!(!out.iter().any(|output| matches!(output, Output::Write(_))));
}

#[test]
fn append_entries_4_appends_the_entries_that_are_new() {
    let mut raft = member(2, None, &[1, 1]);
    let out = receive(&mut raft, TWO, append(2, range(at(1, 1), &[1, 2, 2]), 0));
    assert_eq!(terms_of(&raft), [1, 1, 2, 2]);
    let written = out.iter().find_map(|output| match output {
        Output::Write(write) => write.range.clone(),
        _ => None,
    });
    assert_eq!(written, Some(range(at(2, 1), &[2, 2])));
}

#[test]
fn append_entries_5_commits_up_to_the_last_new_entry_and_no_further() {
    let mut raft = member(2, None, &[1, 1, 1, 1]);
    receive(&mut raft, TWO, append(2, range(at(1, 1), &[1]), 4));
    assert_eq!(raft.commit_index(), Index(2), "entries 3 and 4 were not verified");
    receive(&mut raft, TWO, append(2, range(at(2, 1), &[1]), 2));
    assert_eq!(raft.commit_index(), Index(2), "the leader's commit index bounds it too");
}

/// A heartbeat names no commit index beyond what this member has acknowledged in the term, so it may
/// be believed as far as the log is durable, also after a restart.
#[test]
fn append_entries_5_a_heartbeat_commits_what_was_acknowledged() {
    let mut raft = member(2, None, &[1, 1, 2]);
    let commit = |index| Heartbeat {
        term: Term(2),
        commit: Index(index),
        round: ReadRound(0),
        recover_to: None,
    };
    receive(&mut raft, TWO, Message::Heartbeat(commit(2)));
    assert_eq!(raft.commit_index(), Index(2));
    let beyond = std::panic::catch_unwind(move || {
        receive(&mut raft, TWO, Message::Heartbeat(commit(4)));
    });
    assert!(beyond.is_err(), "nobody can have acknowledged what is not durable");
}

// ------------------------------------------------------------------ Figure 2: RequestVote

#[test]
fn request_vote_1_replies_false_if_the_term_is_older() {
    let mut raft = member(3, None, &[]);
    let out = receive(&mut raft, TWO, vote_request(2, at(9, 2)));
    assert_eq!(vote_in(&out), Some((false, Term(3), None)));
    assert_eq!(raft.vote(), None);
}

#[test]
fn request_vote_2_votes_once_in_a_term() {
    let mut raft = member(1, None, &[]);
    let out = receive(&mut raft, TWO, vote_request(2, at(0, 0)));
    assert!(vote_in(&out).is_some_and(|(granted, ..)| granted));
    let out = receive(&mut raft, THREE, vote_request(2, at(5, 1)));
    assert_eq!(vote_in(&out), Some((false, Term(2), None)));
    let out = receive(&mut raft, TWO, vote_request(2, at(0, 0)));
    assert!(vote_in(&out).is_some_and(|(granted, ..)| granted), "the same candidate asks again");
    let mut restarted = member(2, Some(TWO), &[]);
    let out = receive(&mut restarted, THREE, vote_request(2, at(5, 1)));
    assert_eq!(vote_in(&out), Some((false, Term(2), None)), "the vote survives a restart");
}

#[test]
fn request_vote_2_votes_only_for_a_log_at_least_as_up_to_date() {
    for (last, granted) in
        [(at(3, 2), true), (at(4, 2), true), (at(1, 3), true), (at(2, 2), false), (at(9, 1), false)]
    {
        let mut raft = member(3, None, &[1, 2, 2]);
        let out = receive(&mut raft, TWO, vote_request(4, last));
        assert_eq!(vote_in(&out).map(|vote| vote.0), Some(granted), "{last:?}");
        assert_eq!(raft.term(), Term(4), "the term is taken over in any case");
    }
}

// ------------------------------------------------------------------ Figure 2: all servers

#[test]
fn all_servers_1_what_is_committed_is_handed_out_in_order() {
    let mut raft = member(1, None, &[1, 1, 1]);
    let mut commits = Vec::new();
    for commit in [1, 3] {
        let out = receive(&mut raft, TWO, append(1, range(at(3, 1), &[]), commit));
        commits.extend(out.into_iter().filter_map(|output| match output {
            Output::Commit(index) => Some(index.0),
            _ => None,
        }));
    }
    assert_eq!(commits, [1, 3]);
}

#[test]
fn all_servers_2_a_higher_term_in_a_request_or_answer_makes_a_follower() {
    let mut raft = member(1, None, &[]);
    lead(&mut raft);
    let refusal = Message::VoteResponse(VoteResponse { term: Term(7), granted: false });
    let out = receive(&mut raft, THREE, refusal);
    assert_eq!((raft.role(), raft.term(), raft.vote()), (RoleKind::Follower, Term(7), None));
    let written = |output: &Output| matches!(output, Output::Write(write) if write.hard_state.term == Term(7));
    assert!(out.iter().any(written), "and the term is made durable");
}

// ------------------------------------------------------------------ Figure 2: followers

#[test]
fn followers_1_respond_to_candidates_and_leaders() {
    let mut raft = member(1, None, &[]);
    let heartbeat =
        Heartbeat { term: Term(1), commit: Index(0), round: ReadRound(4), recover_to: None };
    let out = receive(&mut raft, TWO, Message::Heartbeat(heartbeat));
    let answers = |output: &Output| {
        matches!(output, Output::Send { to: TWO, message: Message::HeartbeatResponse(answer) }
            if answer.term == Term(1) && answer.round == ReadRound(4))
    };
    assert!(out.iter().any(answers));
}

/// The module asks for a pre-vote first (thesis §9.6), at an unchanged term.
#[test]
fn followers_2_an_election_timeout_starts_an_election() {
    let mut raft = member(1, None, &[]);
    let out = step(&mut raft, Input::Timer(Timer::Election));
    assert_eq!((raft.role(), raft.term()), (RoleKind::PreCandidate, Term(1)));
    let asks = |to| move |output: &Output| matches!(output, Output::Send { to: other, message: Message::PreVoteRequest(_) } if *other == to);
    assert!(out.iter().any(asks(TWO)) && out.iter().any(asks(THREE)));
}

#[test]
fn followers_2_word_from_the_leader_or_a_vote_puts_the_election_off() {
    let mut raft = member(1, None, &[]);
    step(&mut raft, Input::Flush);
    let out = receive(&mut raft, TWO, append(1, range(at(0, 0), &[]), 0));
    assert!(restarts(&out, Timer::Election));

    let mut raft = member(1, None, &[]);
    step(&mut raft, Input::Flush);
    let out = receive(&mut raft, TWO, vote_request(2, at(0, 0)));
    assert!(restarts(&out, Timer::Election));

    let mut raft = member(1, None, &[1]);
    step(&mut raft, Input::Flush);
    let out = receive(&mut raft, TWO, vote_request(2, at(0, 0)));
    assert!(!restarts(&out, Timer::Election), "a refused candidate puts nothing off");
}

// ------------------------------------------------------------------ Figure 2: candidates

#[test]
fn candidates_1_raise_the_term_vote_for_themselves_and_ask_everyone() {
    let mut raft = member(1, None, &[1]);
    let out = campaign(&mut raft);
    assert_eq!((raft.term(), raft.vote()), (Term(2), Some(ONE)));
    assert!(restarts(&out, Timer::Election));
    for peer in [TWO, THREE] {
        let asks = |output: &Output| {
            matches!(output, Output::SendAfter { to, message: Message::VoteRequest(request), .. }
                if *to == peer && request.term == Term(2) && request.last == at(1, 1))
        };
        assert!(out.iter().any(asks));
    }
}

#[test]
fn candidates_2_votes_from_a_majority_make_a_leader() {
    let mut raft = member(1, None, &[]);
    let out = campaign(&mut raft);
    let vote = Message::VoteResponse(VoteResponse { term: Term(2), granted: true });
    receive(&mut raft, TWO, vote.clone());
    assert_eq!(raft.role(), RoleKind::Candidate, "its own vote is not durable");
    persist(&mut raft, &out);
    assert_eq!(raft.role(), RoleKind::Leader);
}

#[test]
fn candidates_3_an_append_from_the_new_leader_makes_a_follower() {
    let mut raft = member(1, None, &[]);
    campaign(&mut raft);
    receive(&mut raft, THREE, append(2, range(at(0, 0), &[2]), 0));
    assert_eq!((raft.role(), raft.leader()), (RoleKind::Follower, Some(THREE)));
}

#[test]
fn candidates_4_an_election_timeout_starts_a_new_election() {
    let mut raft = member(1, None, &[]);
    campaign(&mut raft);
    campaign(&mut raft);
    assert_eq!(raft.term(), Term(3));
}

// ------------------------------------------------------------------ Figure 2: leaders

/// A no-op of the new term serves as the first heartbeat (§8 asks for it anyway).
#[test]
fn leaders_1_heartbeats_are_sent_at_once_and_periodically() {
    let mut raft = member(1, None, &[]);
    let out = lead(&mut raft);
    assert!(restarts(&out, Timer::Heartbeat));
    let out = step(&mut raft, Input::Flush);
    let granted = out.iter().filter(|output| matches!(output, Output::Grant(_))).count();
    assert_eq!(granted, 2);
    let out = step(&mut raft, Input::Timer(Timer::Heartbeat));
    let sent =
        |output: &&Output| matches!(output, Output::Send { message: Message::Heartbeat(_), .. });
    assert_eq!(out.iter().filter(sent).count(), 2);
    assert!(restarts(&out, Timer::Heartbeat));
}

/// The module names the entry and says when it is committed; whoever waits is the driver's business.
#[test]
fn leaders_2_a_command_is_appended_to_the_local_log() {
    let mut raft = member(1, None, &[]);
    lead(&mut raft);
    let out = step(&mut raft, Input::Propose { entries: 2, bytes: 20 });
    let assigned = range(at(1, 2), &[2, 2]);
    assert!(out.contains(&Output::Assigned { range: assigned.clone() }));
    assert_eq!(terms_of(&raft), [2, 2, 2]);
    let mut follower = member(1, None, &[]);
    let out = step(&mut follower, Input::Propose { entries: 1, bytes: 10 });
    assert!(matches!(out.last(), Some(Output::ProposalRefused(_))));
}

#[test]
fn leaders_3_a_follower_is_sent_what_it_lacks_until_the_logs_agree() {
    let mut cluster = Cluster::new(3);
    let hard_state = |term| HardState { term: Term(term), vote: None };
    let disk = |term, terms: &[u64]| Disk {
        hard_state: hard_state(term),
        terms: terms.iter().map(|term| Term(*term)).collect(),
        ..Disk::empty()
    };
    cluster.start(ONE, disk(6, &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6]));
    cluster.start(TWO, disk(4, &[1, 1, 1, 4]));
    cluster.start(THREE, disk(3, &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3]));
    cluster.step(ONE, Input::Timer(Timer::Election));
    cluster.settle();
    assert_eq!(terms_of(cluster.raft(1)), [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7]);
    for follower in [2, 3] {
        assert_eq!(terms_of(cluster.raft(follower)), terms_of(cluster.raft(1)), "as in figure 7");
        assert_eq!(cluster.raft(1).match_index(NodeId(follower)), Some(Index(11)));
    }
}

#[test]
fn leaders_4_an_entry_of_the_own_term_on_a_majority_is_committed() {
    let mut raft = member(1, None, &[1, 1]);
    let out = lead(&mut raft);
    step(&mut raft, Input::Flush);
    step(&mut raft, Input::Sent { peer: TWO, last: Index(3), bytes: 10 });
    persist(&mut raft, &out);
    let matched = |index| {
        let outcome = AppendOutcome::Match(Index(index));
        Message::AppendResponse(jangada_raft::AppendResponse {
            term: Term(2),
            outcome,
            recovering: None,
        })
    };
    receive(&mut raft, TWO, matched(2));
    assert_eq!(raft.commit_index(), Index(0), "entry 2 is on a majority, but of an older term");
    let out = receive(&mut raft, TWO, matched(3));
    assert!(out.contains(&Output::Commit(Index(3))));
}

// ------------------------------------------------------------------ Figure 3

/// Three members, of which 1 leads and has committed three entries on 1 and 2; 3 was cut off.
fn with_a_member_behind() -> Cluster {
    let mut cluster = Cluster::new(3);
    cluster.step(ONE, Input::Timer(Timer::Election));
    cluster.settle();
    let raft = cluster.members.remove(&THREE).expect("a member");
    cluster.step(ONE, Input::Propose { entries: 3, bytes: 30 });
    cluster.flush(ONE);
    cluster.network.remove(&(ONE, THREE));
    for _ in 0..4 {
        for (from, to) in [(ONE, TWO), (TWO, ONE)] {
            while let Some(message) = cluster.take(from, to) {
                cluster.step(to, Input::Receive { from, message });
            }
            while cluster.persist(to) {}
            cluster.flush(to);
            cluster.network.remove(&(ONE, THREE));
        }
    }
    cluster.members.insert(THREE, raft);
    assert_eq!(cluster.raft(1).commit_index(), Index(4));
    cluster
}

#[test]
fn election_safety_two_candidates_of_a_term_cannot_both_win() {
    let mut cluster = Cluster::new(3);
    for candidate in [ONE, THREE] {
        cluster.step(candidate, Input::Timer(Timer::Election));
    }
    cluster.settle();
    let leads = |raft: &&Raft| raft.role() == RoleKind::Leader;
    assert!(cluster.running().into_iter().filter(leads).count() <= 1);
    invariants::check_cluster(&cluster.running());
}

#[test]
fn leader_append_only_a_leader_never_drops_an_entry_of_its_log() {
    let mut raft = member(5, None, &[1, 2, 3, 5]);
    lead(&mut raft);
    let before = terms_of(&raft);
    for message in [
        append(5, range(at(1, 1), &[5]), 4),
        vote_request(9, at(99, 8)),
        Message::AppendResponse(jangada_raft::AppendResponse {
            term: raft.term(),
            outcome: AppendOutcome::Conflict { probe: Index(4), hint: at(1, 1) },
            recovering: None,
        }),
    ] {
        receive(&mut raft, THREE, message);
        assert_eq!(terms_of(&raft), before);
    }
}

#[test]
fn log_matching_entries_with_the_same_index_and_term_have_the_same_past() {
    let mut cluster = with_a_member_behind();
    cluster.step(ONE, Input::Timer(Timer::Heartbeat));
    cluster.settle();
    cluster.step(ONE, Input::Timer(Timer::Heartbeat));
    cluster.settle();
    assert_eq!(terms_of(cluster.raft(3)), terms_of(cluster.raft(1)));
    invariants::check_cluster(&cluster.running());
}

#[test]
fn leader_completeness_a_member_that_lacks_a_committed_entry_cannot_win() {
    let mut cluster = with_a_member_behind();
    cluster.crash(ONE, 0);
    for member in [TWO, THREE] {
        cluster.step(member, Input::Timer(Timer::Quiet));
    }
    for _ in 0..3 {
        cluster.step(THREE, Input::Timer(Timer::Election));
        cluster.settle();
        assert_ne!(cluster.raft(3).role(), RoleKind::Leader);
    }
    cluster.step(TWO, Input::Timer(Timer::Election));
    cluster.settle();
    assert_eq!(cluster.raft(2).role(), RoleKind::Leader);
    assert_eq!(terms_of(cluster.raft(3)), terms_of(cluster.raft(2)));
    invariants::check_cluster(&cluster.running());
}

#[test]
fn state_machine_safety_no_two_members_commit_different_entries_at_an_index() {
    let mut cluster = with_a_member_behind();
    // Member 1 goes on taking proposals that reach nobody, while 2 leads a new term.
    cluster.step(ONE, Input::Propose { entries: 2, bytes: 20 });
    cluster.flush(ONE);
    cluster.network.clear();
    let old = cluster.members.remove(&ONE).expect("a member");
    for member in [TWO, THREE] {
        cluster.step(member, Input::Timer(Timer::Quiet));
    }
    cluster.members.insert(ONE, old.clone());
    cluster.crash(ONE, 0);
    cluster.step(TWO, Input::Timer(Timer::Election));
    cluster.settle();
    cluster.step(TWO, Input::Propose { entries: 1, bytes: 10 });
    cluster.flush(TWO);
    cluster.settle();
    assert!(Index(5) < cluster.raft(2).commit_index());
    // Member 1 comes back with its tail and loses it.
    cluster.members.insert(ONE, old);
    invariants::check_cluster(&cluster.running());
    cluster.step(TWO, Input::Timer(Timer::Heartbeat));
    cluster.settle();
    cluster.step(TWO, Input::Timer(Timer::Heartbeat));
    cluster.settle();
    assert_eq!(terms_of(cluster.raft(1)), terms_of(cluster.raft(2)));
    assert_eq!(cluster.raft(1).commit_index(), cluster.raft(2).commit_index());
    invariants::check_cluster(&cluster.running());
}

// Section 7: log compaction, and figure 13, InstallSnapshot. Chunks are the driver's; rules 2 to 5
// are thus its own.

#[test]
fn section_7_what_is_cut_off_is_committed_and_its_last_name_stays_known() {
    let mut raft = member(1, None, &[1, 1, 1]);
    let _ = receive(&mut raft, TWO, append(1, range(at(3, 1), &[]), 2));
    raft.compact(at(2, 1));
    assert_eq!(raft.first_position(), at(2, 1));
    assert_eq!((raft.term_at(Index(1)), raft.term_at(Index(2))), (None, Some(Term(1))));
    let out = receive(&mut raft, TWO, append(1, range(at(2, 1), &[1, 1]), 2));
    assert!(append_answer_in(&out).is_none(), "the consistency check still works at the cut");
    assert_eq!(raft.last_position(), at(4, 1));
}

#[test]
fn section_7_a_leader_sends_a_snapshot_when_it_has_discarded_the_next_entry() {
    let mut raft = member(1, None, &[1, 1]);
    let out = lead(&mut raft);
    let _ = persist(&mut raft, &out);
    let matched = |index: u64| AppendResponse {
        term: Term(2),
        outcome: AppendOutcome::Match(Index(index)),
        recovering: None,
    };
    let _ = receive(&mut raft, TWO, Message::AppendResponse(matched(3)));
    raft.compact(at(2, 1));
    let conflict = AppendOutcome::Conflict { probe: Index(2), hint: at(1, 1) };
    let answer = AppendResponse { term: Term(2), outcome: conflict, recovering: None };
    let _ = receive(&mut raft, THREE, Message::AppendResponse(answer));
    let out = step(&mut raft, Input::Flush);
    let asked = Output::SendSnapshot { peer: THREE, at_least: Index(2) };
    assert!(out.contains(&asked), "{out:?}");
    assert!(raft.is_in_snapshot(THREE));
    let out = step(&mut raft, Input::Timer(Timer::Heartbeat));
    assert!(
        out.iter().any(|output| matches!(output, Output::Send { to: THREE, .. })),
        "heartbeats go on meanwhile"
    );
}

#[test]
fn install_snapshot_6_a_log_that_holds_its_last_entry_keeps_what_follows() {
    let mut raft = member(2, None, &[1, 1, 2]);
    let out = install(&mut raft, at(2, 1));
    assert_eq!(begun_anew_in(&out), None);
    assert_eq!(terms_of(&raft), [1, 1, 2]);
    assert_eq!(raft.commit_index(), Index(2));
}

#[test]
fn install_snapshot_7_any_other_log_is_discarded() {
    for terms in [&[1, 1][..], &[1, 1, 1, 1, 1]] {
        let mut raft = member(2, None, terms);
        let out = install(&mut raft, at(4, 2));
        assert_eq!(begun_anew_in(&out), Some(at(4, 2)));
        assert_eq!(raft.last_position(), at(4, 2));
        assert!(raft.durable_index() < Index(4), "the log on the disk is the old one still");
        let _ = persist(&mut raft, &out);
        assert_eq!(raft.durable_index(), Index(4));
    }
}

#[test]
fn install_snapshot_8_the_configuration_of_the_snapshot_is_in_force() {
    let mut raft = member(2, None, &[1]);
    let configuration = Configuration::of_voters([ONE, TWO]);
    let installed = Input::SnapshotInstalled { last: at(4, 2), configuration };
    let out = step(&mut raft, installed);
    assert!(out.contains(&Output::MembersChanged));
    assert_eq!(raft.configuration(), &Configuration::of_voters([ONE, TWO]));
}

#[test]
fn install_snapshot_behind_the_commit_index_is_no_news() {
    let mut raft = member(2, None, &[1, 1, 2]);
    let _ = receive(&mut raft, TWO, append(2, range(at(3, 2), &[]), 3));
    let before = raft.clone();
    let _ = install(&mut raft, at(2, 1));
    assert_eq!(raft, before);
}

#[test]
#[should_panic(expected = "snapshot invariant 2")]
fn install_snapshot_that_contradicts_what_is_committed_ends_the_process() {
    let mut raft = member(2, None, &[1, 1, 2]);
    let _ = receive(&mut raft, TWO, append(2, range(at(3, 2), &[]), 3));
    let _ = install(&mut raft, at(2, 2));
}
