//! What must hold at any time, numbered; the same numbers stand in the asserts.
//!
//! Responsible for stating the invariants as short functions that the simulator, the model checker
//! and the tests call. The cheap ones are asserted at the end of each step, in every build.
//!
//! [`MEMBER`] lists what one member can see by itself. [`CLUSTER`] lists the properties of figure 3,
//! which only somebody who sees all members can check.

use crate::contract::{Configuration, Index, NodeId, Position, RoleKind, Term};
use crate::raft::Raft;
use crate::role::Role;

/// Something that holds for each member between two steps.
#[derive(Clone, Copy, Debug)]
pub struct Invariant {
    /// Its number, as in the asserts.
    pub number: u32,
    /// What it says.
    pub name: &'static str,
    /// Whether it holds.
    pub holds: fn(&Raft) -> bool,
}

/// Something that holds for all members of a cluster together.
#[derive(Clone, Copy, Debug)]
pub struct ClusterInvariant {
    /// Its number.
    pub number: u32,
    /// What it says, by the name that figure 3 gives it where it has one.
    pub name: &'static str,
    /// Whether it holds for these members, taken at one instant.
    pub holds: fn(&[&Raft]) -> bool,
}

/// The invariants of one member.
pub const MEMBER: &[Invariant] = &[
    Invariant { number: 1, name: "no entry is of a later term", holds: terms_are_in_order },
    Invariant {
        number: 2,
        name: "the log is made of runs",
        holds: |raft| raft.log.is_well_formed(),
    },
    Invariant { number: 3, name: "start <= commit <= last", holds: commit_is_in_the_log },
    Invariant { number: 4, name: "what is durable was written", holds: durable_is_in_the_log },
    Invariant { number: 5, name: "term and vote are written", holds: hard_state_is_written },
    Invariant { number: 6, name: "members are sorted lists", holds: members_are_sorted },
    Invariant {
        number: 7,
        name: "a candidate votes for itself",
        holds: candidate_votes_for_itself,
    },
    Invariant { number: 8, name: "a leader's vote is durable", holds: leaders_vote_is_durable },
    Invariant {
        number: 9,
        name: "a term starts with its no-op",
        holds: term_starts_with_its_no_op,
    },
    Invariant { number: 10, name: "a leader commits its own term", holds: leader_commits_its_term },
    Invariant { number: 11, name: "a leader's peers are in step", holds: progress_is_well_formed },
    Invariant { number: 12, name: "acknowledged <= durable", holds: acknowledged_is_durable },
    Invariant { number: 13, name: "a follower commits the verified", holds: commit_is_verified },
    Invariant { number: 14, name: "reads wait in order", holds: reads_are_well_formed },
    Invariant { number: 15, name: "uncommitted bytes add up", holds: uncommitted_adds_up },
    Invariant { number: 16, name: "configurations lie in the log", holds: configurations_are_held },
    Invariant {
        number: 17,
        name: "each configuration follows from the one before",
        holds: |raft| raft.membership.is_consistent(),
    },
    Invariant { number: 18, name: "one change at a time", holds: one_change_at_a_time },
    Invariant { number: 19, name: "a leader's peers are the others", holds: peers_are_the_others },
    Invariant { number: 20, name: "leadership goes to a voter", holds: successor_is_a_voter },
    Invariant { number: 21, name: "a recovering member follows", holds: recovering_follows },
];

/// The invariants of a cluster.
pub const CLUSTER: &[ClusterInvariant] = &[
    ClusterInvariant { number: 101, name: "election safety", holds: election_safety },
    ClusterInvariant { number: 102, name: "log matching", holds: log_matching },
    ClusterInvariant { number: 103, name: "leader completeness", holds: leader_completeness },
    ClusterInvariant { number: 104, name: "state machine safety", holds: state_machine_safety },
    ClusterInvariant {
        number: 105,
        name: "commits are on a durable quorum",
        holds: commits_are_safe,
    },
    ClusterInvariant {
        number: 106,
        name: "equal logs hold equal configurations",
        holds: configurations_match,
    },
];

/// Asserts the invariants of a cluster.
///
/// # Panics
/// With the number and name of the first that does not hold.
pub fn check_cluster(members: &[&Raft]) {
    for ClusterInvariant { number, name, holds } in CLUSTER {
        assert!(holds(members), "invariant {number}: {name}");
    }
}

/// The invariants whose cost does not depend on the size of anything, asserted after each step.
pub(crate) fn assert_cheap(raft: &Raft) {
    assert!(terms_are_in_order(raft), "invariant 1: no entry is of a later term");
    assert!(commit_is_in_the_log(raft), "invariant 3: start <= commit <= last");
    assert!(durable_is_in_the_log(raft), "invariant 4: what is durable was written");
    assert!(hard_state_is_written(raft), "invariant 5: term and vote are written");
    assert!(candidate_votes_for_itself(raft), "invariant 7: a candidate votes for itself");
    assert!(acknowledged_is_durable(raft), "invariant 12: acknowledged <= durable");
    assert!(commit_is_verified(raft), "invariant 13: a follower commits the verified");
    assert!(recovering_follows(raft), "invariant 21: a recovering member follows");
}

/// An entry of a term is made by that term's leader, so whoever has one has heard of the term.
fn terms_are_in_order(raft: &Raft) -> bool {
    raft.last_position().term <= raft.term()
}

/// Only committed entries are cut off, and nothing is committed here that is not held here.
fn commit_is_in_the_log(raft: &Raft) -> bool {
    raft.log.start().index <= raft.commit_index && raft.commit_index <= raft.last_index()
}

fn durable_is_in_the_log(raft: &Raft) -> bool {
    raft.stable.is_well_formed(raft.last_index())
}

/// Figure 2 asks that the term and the vote are on stable storage before an answer. Here every answer
/// that rests on them waits for a write, so there has to be one: every step writes what it changed, so between two steps nothing is left to be written.
fn hard_state_is_written(raft: &Raft) -> bool {
    raft.stable.hard_state() == raft.hard_state
}

fn members_are_sorted(raft: &Raft) -> bool {
    let sorted = |list: &Vec<NodeId>| list.windows(2).all(|pair| pair[0] < pair[1]);
    let logged = raft.configurations().iter().map(|(_, configuration)| configuration);
    logged
        .chain([raft.configuration_at(raft.first_position().index).expect("the log's start")])
        .all(|configuration| {
            let Configuration { voters, outgoing, learners, target, .. } = configuration;
            [voters, outgoing, learners, target].into_iter().all(sorted)
        })
}

/// Whoever cuts entries off cuts their configurations off with them (§6).
fn configurations_are_held(raft: &Raft) -> bool {
    raft.membership.is_well_formed(raft.log.start().index, raft.last_index())
}

/// A leader makes the next configuration when the last one is committed. It may have found two in its
/// log that are not known to be, until it commits in its own term.
fn one_change_at_a_time(raft: &Raft) -> bool {
    let Role::Leader(leader) = &raft.role else { return true };
    raft.commit_index < leader.term_start
        || raft.membership.within(raft.commit_index, raft.last_index()).len() <= 1
}

fn peers_are_the_others(raft: &Raft) -> bool {
    let Role::Leader(leader) = &raft.role else { return true };
    let current = raft.configuration();
    let expected = current.members().chain(leader.departing.keys().copied());
    let mut expected: Vec<NodeId> = expected.filter(|id| *id != raft.id).collect();
    expected.sort_unstable();
    expected.dedup();
    leader.departing.keys().all(|id| !current.is_member(*id))
        && leader.peers.keys().copied().eq(expected)
}

fn successor_is_a_voter(raft: &Raft) -> bool {
    raft.transfer_target()
        .is_none_or(|to| to != raft.id && raft.configuration().voters.contains(&to))
}

fn candidate_votes_for_itself(raft: &Raft) -> bool {
    match raft.role() {
        RoleKind::Follower | RoleKind::PreCandidate => true,
        RoleKind::Candidate | RoleKind::Leader => raft.vote() == Some(raft.id),
    }
}

/// Otherwise a crash could take the vote back, and the member vote for another in the same term.
fn leaders_vote_is_durable(raft: &Raft) -> bool {
    raft.role() != RoleKind::Leader || raft.stable.is_hard_state_durable()
}

/// The own-term rule compares indexes with the place of the no-op instead of asking for terms.
fn term_starts_with_its_no_op(raft: &Raft) -> bool {
    let Role::Leader(leader) = &raft.role else { return true };
    let before = leader.term_start.previous();
    leader.term_start <= raft.log.start().index
        || (raft.term_at(leader.term_start) == Some(raft.term())
            && raft.term_at(before).is_some_and(|before| before < raft.term()))
}

/// What a leader has committed itself reaches into its term; the rest it was told as a follower.
fn leader_commits_its_term(raft: &Raft) -> bool {
    let Role::Leader(leader) = &raft.role else { return true };
    raft.commit_index < leader.term_start || raft.term_at(raft.commit_index) == Some(raft.term())
}

fn progress_is_well_formed(raft: &Raft) -> bool {
    let Role::Leader(leader) = &raft.role else { return true };
    let last = raft.last_index();
    leader.peers.values().all(|progress| progress.is_well_formed(last, &raft.limits))
}

/// The leader counts acknowledgements towards a commit. What was acknowledged must neither be lost in a
/// crash nor dropped while this leader's term lasts.
fn acknowledged_is_durable(raft: &Raft) -> bool {
    let Role::Follower(follower) = &raft.role else { return true };
    follower.acknowledged <= raft.durable_index() && follower.acknowledged <= follower.verified
}

/// A follower that commits past what its leader has verified may commit another leader's entry.
fn commit_is_verified(raft: &Raft) -> bool {
    let Role::Follower(follower) = &raft.role else { return true };
    raft.commit_index <= follower.verified && follower.verified <= raft.last_index()
}

fn reads_are_well_formed(raft: &Raft) -> bool {
    let Role::Leader(leader) = &raft.role else { return true };
    leader.reads.is_well_formed(raft.commit_index)
}

fn uncommitted_adds_up(raft: &Raft) -> bool {
    let Role::Leader(leader) = &raft.role else { return true };
    leader.uncommitted.is_well_formed()
}

/// A member that may have lost what it acknowledged is nobody to follow.
fn recovering_follows(raft: &Raft) -> bool {
    raft.recovering.is_none() || raft.role() == RoleKind::Follower
}

/// At most one leader in a term. Seen at one instant only: whoever watches a whole run should also
/// remember the leaders of the past.
fn election_safety(members: &[&Raft]) -> bool {
    let leaders = || members.iter().filter(|member| member.role() == RoleKind::Leader);
    leaders().all(|one| leaders().all(|other| one.id == other.id || one.term() != other.term()))
}

/// If two logs hold an entry with the same index and term, they are equal up to there. Terms alone are
/// compared; whoever keeps the payloads beside the logs should compare those too.
fn log_matching(members: &[&Raft]) -> bool {
    pairs(members).all(|(one, other)| {
        let both = shared(one, other, one.last_index().min(other.last_index()));
        let same = |index: &Index| one.term_at(*index) == other.term_at(*index);
        match both.clone().rev().find(same) {
            Some(last) => both.take_while(|index| *index <= last).all(|index| same(&index)),
            None => true,
        }
    })
}

/// What a member knows to be committed is in the log of each leader of its own term or a later one.
///
/// A leader of an *older* term may well lack it: one that was cut off, or one that its last vote
/// reaches late, while the next term is already at work. The term that counts is the one in which the
/// entry was committed, which is not the entry's own (figure 8) and not above the member's.
fn leader_completeness(members: &[&Raft]) -> bool {
    pairs(members).all(|(leader, other)| {
        let committed = other.commit_index();
        leader.role() != RoleKind::Leader
            || leader.term() < other.term()
            || (committed <= leader.last_index() && agree(leader, other, committed))
    })
}

/// No two members commit different entries at one index.
fn state_machine_safety(members: &[&Raft]) -> bool {
    pairs(members)
        .all(|(one, other)| agree(one, other, one.commit_index().min(other.commit_index())))
}

/// Whatever a leader has committed in its own term is durable on a quorum of a configuration that was
/// in force since the entry was there: the one at the entry, or a later one of the same log.
///
/// Given the members that run; one that is missing counts as not holding anything, so this is asked
/// only when all members are at hand. One that is recovering may have held what it lost: what it had
/// acknowledged was counted, and stays counted, for it gives no vote before it holds it again.
fn commits_are_safe(members: &[&Raft]) -> bool {
    members.iter().filter(|member| member.role() == RoleKind::Leader).all(|leader| {
        let commit = Position {
            index: leader.commit_index(),
            term: leader.term_at(leader.commit_index()).unwrap_or(Term(0)),
        };
        let later = leader.membership.within(commit.index, leader.last_index());
        let mut in_force = later.iter().map(|(_, configuration)| configuration);
        let first = leader.committed_configuration();
        let is_present = |id| members.iter().any(|member| member.id == id);
        let all_present = leader.configuration().members().chain(first.members()).all(is_present);
        let holds = |id| {
            members.iter().any(|member| {
                let holds = commit.index <= member.durable_index()
                    && member.term_at(commit.index).is_none_or(|term| term == commit.term);
                member.id == id && (holds || member.recovering.is_some())
            })
        };
        commit.term != leader.term()
            || !all_present
            || first.agrees(holds)
            || in_force.any(|configuration| configuration.agrees(holds))
    })
}

/// Log Matching, for the only content that the module reads: up to the last entry that two logs share
/// they hold the same configurations.
fn configurations_match(members: &[&Raft]) -> bool {
    pairs(members).all(|(one, other)| {
        let both = shared(one, other, one.last_index().min(other.last_index()));
        let same = |index: &Index| one.term_at(*index) == other.term_at(*index);
        let Some(last) = both.clone().rev().find(same) else { return true };
        let Some(first) = both.clone().next() else { return true };
        one.membership.within(first, last) == other.membership.within(first, last)
    })
}

fn pairs<'a>(members: &'a [&'a Raft]) -> impl Iterator<Item = (&'a Raft, &'a Raft)> {
    let others = move |one: &'a Raft| members.iter().map(move |other| (one, *other));
    members.iter().flat_map(move |one| others(one)).filter(|(one, other)| one.id != other.id)
}

/// The indexes up to `last` that both logs still name.
fn shared(one: &Raft, other: &Raft, last: Index) -> impl DoubleEndedIterator<Item = Index> + Clone {
    let first = one.first_position().index.max(other.first_position().index);
    (first.0..=last.0).map(Index)
}

fn agree(one: &Raft, other: &Raft, last: Index) -> bool {
    shared(one, other, last).all(|index| one.term_at(index) == other.term_at(index))
}
