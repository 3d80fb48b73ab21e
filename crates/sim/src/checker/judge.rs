//! What must hold of a whole cluster at one instant.
//!
//! Responsible for the properties of figure 3 that can be seen at an instant, and for what an
//! acknowledgement means: whatever was committed is on the disks of a quorum, and stays there. A
//! write that is under way counts for nothing, so no crash can take an acknowledged entry back.

use jangada_raft::invariants::{CLUSTER, ClusterInvariant};
use jangada_raft::{Configuration, Index, Raft, Term};

use super::member::Member;
use super::violation::Violation;

/// The first thing that does not hold of these members, of whose entries `committed` were committed.
pub(crate) fn judge<'a>(
    members: impl Iterator<Item = &'a Member> + Clone,
    committed: &[Term],
    configuration: &Configuration,
    also: &[ClusterInvariant],
) -> Result<(), Violation> {
    let running: Vec<&Raft> = members.clone().filter_map(|member| member.raft.as_ref()).collect();
    for invariant in CLUSTER.iter().chain(also) {
        if !(invariant.holds)(&running) {
            let logs: Vec<String> = running.iter().map(|raft| seen(raft)).collect();
            let name = format!("invariant {}: {}", invariant.number, invariant.name);
            return Err(Violation::new(&name, logs.join("; ")));
        }
    }
    // A state machine that is ahead of its log holds what it has installed; and what a member had
    // acknowledged and lost is counted still, for it gives no vote before it holds it again.
    let holds = |member: &Member| {
        let installed = member.disk.installed.as_ref();
        member.disk.log.starts_with(committed)
            || installed.is_some_and(|covered| covered.log.starts_with(committed))
            || member.disk.is_recovering
    };
    let is_held = |by: &Configuration| {
        by.agrees(|id| members.clone().any(|member| member.id == id && holds(member)))
    };
    // What counted the last of them was in force at it, or later in the same log.
    let end = Index(committed.len() as u64);
    let holders = members.clone().filter(|member| holds(member));
    let mut in_force = holders.flat_map(|member| {
        let configurations = &member.disk.configurations;
        let later = configurations.partition_point(|(index, _)| *index <= end);
        let at = later.checked_sub(1).map_or(configuration, |at| &configurations[at].1);
        std::iter::once(at).chain(configurations[later..].iter().map(|(_, later)| later))
    });
    if !committed.is_empty() && !in_force.any(is_held) {
        let disks: Vec<String> = members
            .map(|member| format!("{} has {}", member.id, listed(&member.disk.log)))
            .collect();
        let detail = format!("{} is committed; on disk {}", listed(committed), disks.join(", "));
        return Err(Violation::new("what is committed is on the disks of a quorum", detail));
    }
    Ok(())
}

fn seen(raft: &Raft) -> String {
    let log = (1..=raft.last_index().0).filter_map(|at| raft.term_at(Index(at)));
    let log: Vec<Term> = log.collect();
    let (id, commit) = (raft.id(), raft.commit_index());
    format!("{id} is {}, commit {commit}, log {}", raft.standing(), listed(&log))
}

fn listed(log: &[Term]) -> String {
    let terms: Vec<String> = log.iter().map(Term::to_string).collect();
    format!("[{}]", terms.join(" "))
}
