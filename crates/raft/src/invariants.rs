//! What must hold at any time, numbered; the same numbers stand in the asserts.
//!
//! Responsible for stating the invariants as short functions that the simulator, the model checker
//! and the tests call. The cheap ones are asserted at the end of each step, in every build.
//!
//! [`MEMBER`] lists what one member can see by itself. [`CLUSTER`] lists the properties of figure 3,
//! which only somebody who sees all members can check.

use crate::contract::{Index, Position, RoleKind, Term};
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
    let configuration = &raft.configuration;
    [&configuration.voters, &configuration.outgoing, &configuration.learners]
        .iter()
        .all(|list| list.windows(2).all(|pair| pair[0] < pair[1]))
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

/// Whatever a leader has committed in its own term is durable on a quorum of its configuration.
///
/// Given the members that run; one that is missing counts as not holding anything, so this is asked
/// only when all members are at hand.
fn commits_are_safe(members: &[&Raft]) -> bool {
    members.iter().filter(|member| member.role() == RoleKind::Leader).all(|leader| {
        let commit = Position {
            index: leader.commit_index(),
            term: leader.term_at(leader.commit_index()).unwrap_or(Term(0)),
        };
        let configuration = leader.configuration();
        commit.term != leader.term()
            || configuration.members().any(|id| members.iter().all(|member| member.id != id))
            || configuration.agrees(|id| {
                members.iter().any(|member| {
                    member.id == id
                        && commit.index <= member.durable_index()
                        && member.term_at(commit.index).is_none_or(|term| term == commit.term)
                })
            })
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
