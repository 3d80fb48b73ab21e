//! What the world looks at: after each step of a member, and now and then at all of them together.
//!
//! Responsible for when something is looked at. What must hold is stated in [`crate::invariants`],
//! [`crate::bounds`] and [`jangada_raft::invariants`].
//!
//! What concerns one member, and what can be said of the cluster from what was seen before, is
//! judged after each of its steps. Two things cost as much as a log is long and are judged every
//! [`LOOK_PERIOD_US`], and after each change of role or term, which is when they can break:
//!
//! * the cluster's invariants, which compare all members' logs with each other. All but Log Matching
//!   are judged after each step, too, entry by entry as it commits;
//! * whether a disk holds what was made durable, for which its log is recovered on a copy.

use jangada_raft::invariants::{CLUSTER, ClusterInvariant};
use jangada_raft::{NodeId, Position, Raft, RoleKind, Standing};
use jangada_wal::Machine as Holds;

use crate::application::Application;
use crate::invariants::Violation;
use crate::world::{Later, World};

/// How often all members are looked at together, in microseconds: a tenth of an election timeout.
pub(crate) const LOOK_PERIOD_US: u64 = 100_000;

/// One member's disk is read back in so many looks, in turn.
const LOOKS_PER_DISK: u64 = 10;

impl<A: Application> World<A> {
    /// Looks at all members together.
    pub(crate) fn look_at_all(&mut self) -> Result<(), Violation> {
        let now_us = self.now_us();
        self.queue.push(now_us + LOOK_PERIOD_US, Later::Look);
        self.compare_logs()?;
        for member in self.members() {
            let Some(running) = &self.seats[&member].running else { continue };
            let machine = running.member.machine().machine();
            self.bounds.tell("log bytes", running.log_bytes());
            for bound in self.application.bounds(machine) {
                self.bounds.see(bound)?;
            }
        }
        let look = now_us / LOOK_PERIOD_US;
        if look.is_multiple_of(LOOKS_PER_DISK) {
            let members = self.members();
            let turn = (look / LOOKS_PER_DISK) as usize % members.len();
            self.look_at_disk(members[turn])?;
        }
        Ok(())
    }

    /// Puts how a member stands before the invariants.
    pub(crate) fn look(&mut self, member: NodeId) -> Result<(), Violation> {
        let Some(running) = &self.seats[&member].running else { return Ok(()) };
        let status = running.member.status();
        let raft = running.member.raft();
        raft.check_invariants();
        let term_at = |index| raft.term_at(index);
        let (standing, commit, last) = (status.standing, status.commit, status.last);
        self.timeline.stands(self.queue.now_us(), member, &standing);
        self.invariants.stands(member, standing, commit, last, &term_at)?;
        let (record, set_aside) = (status.record, status.quarantine.is_some());
        let (applied, hash) = (record.applied.index, record.hash);
        if !self.is_astray(member) {
            self.invariants.hashes(member, applied, hash)?;
        } else if self.invariants.is_the_hash(applied, hash) && !set_aside {
            self.comes_back(member);
        }
        let Some(running) = &self.seats[&member].running else { return Ok(()) };
        for bound in running.member.bounds() {
            self.bounds.see(bound)?;
        }
        self.look_at_standing(member, standing)
    }

    /// Takes down by which configuration a leader counts. Before anything that it says.
    pub(crate) fn look_at_members(&mut self, member: NodeId) {
        let Some(running) = &self.seats[&member].running else { return };
        let raft = running.member.raft();
        if raft.role() == RoleKind::Leader
            && let Some(index) = raft.configuration_index()
            && let Some(term) = raft.term_at(index)
        {
            self.invariants.configures(Position { index, term }, raft.configuration());
        }
    }

    /// A change of role or term is when logs can have come to differ.
    fn look_at_standing(&mut self, member: NodeId, standing: Standing) -> Result<(), Violation> {
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        let changed = (standing.role, standing.term);
        if seat.stood.replace(changed) == Some(changed) {
            return Ok(());
        }
        self.compare_logs()
    }

    /// The properties of figure 3, over all members that live.
    fn compare_logs(&self) -> Result<(), Violation> {
        let living = self.seats.values().filter_map(|seat| seat.running.as_ref());
        let rafts: Vec<&Raft> = living.map(|running| running.member.raft()).collect();
        judge(&rafts)
    }

    /// What a member's disk would hold after a loss of power at this moment is what the log has
    /// called durable. Asked of the disk itself, and of no member.
    fn look_at_disk(&self, member: NodeId) -> Result<(), Violation> {
        let seat = &self.seats[&member];
        let Some(running) = seat.running.as_ref().filter(|_| !self.ledger.is_marked(member)) else {
            return Ok(());
        };
        let raft = running.member.raft();
        let index = running.member.status().machine_durable;
        // Where the machine is ahead of the log, the log is about to be begun anew.
        let Some(term) = raft.term_at(index) else { return Ok(()) };
        let Some(configuration) = raft.configuration_at(index).cloned() else { return Ok(()) };
        let machine = Holds { applied: Position { index, term }, configuration };
        let (hard_state, log) = seat.read_back(&machine).map_err(|error| Violation {
            invariant: "what is durable is on the disk",
            seen: format!("member {member}'s log cannot be recovered: {error}"),
        })?;
        self.invariants.holds(member, hard_state, &log)
    }
}

fn judge(rafts: &[&Raft]) -> Result<(), Violation> {
    for ClusterInvariant { number, name, holds } in CLUSTER {
        if !holds(rafts) {
            let seen = rafts.iter().map(|raft| {
                let (id, standing, commit) = (raft.id(), raft.standing(), raft.commit_index());
                format!("\n  {id}: {standing:?}, commit {commit}, last {:?}", raft.last_position())
            });
            let seen = format!("invariant {number}:{}", seen.collect::<String>());
            return Err(Violation { invariant: name, seen });
        }
    }
    Ok(())
}
