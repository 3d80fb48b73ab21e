//! From a reached state, faults end: is a leader elected, and does all pending work finish?
//!
//! Responsible for one fair schedule, the same for each state: whoever is down comes back, messages
//! arrive in order, writes are completed, and timers fire one election timeout after the other, at
//! one member at a time, as randomised timeouts do sooner or later (§9.3). What must come of it within
//! ten rounds for each member:
//!
//! 1. One leader whom all members follow, by a configuration that stays.
//! 2. Their logs equal, durable and committed as a whole.
//! 3. A new command committed everywhere, and a new read served.

use std::collections::BTreeMap;

use jangada_raft::{Configuration, NodeId, Output, Raft, RoleKind, Timer};

use super::history::History;
use super::member::{Act, Ending, Ground, Member, Numbering, Said};
use super::parcel::Parcel;
use super::stage::{Deed, Stage, guarded};
use super::tables::Tables;
use super::violation::Violation;

/// Election timeouts, for each member. A leader is there after one of its own when it is up to date.
const ROUNDS_MAX: usize = 10;

/// Deeds between two timers: far more than a few members need for all they owe one another.
const DEEDS_MAX: usize = 10_000;

/// Checks a state.
pub(crate) fn check(
    tables: &Tables,
    members: Vec<Member>,
    packets: Vec<(NodeId, NodeId, Parcel)>,
    history: History,
) -> Result<(), Violation> {
    let ground = Ground { numbering: Numbering::Plain, ..tables.ground.clone() };
    let mut stage = Stage {
        members: members.into_iter().map(|member| (member.id, member)).collect(),
        links: BTreeMap::new(),
        history,
    };
    for (from, to, message) in packets {
        stage.links.entry((from, to)).or_default().push(message);
    }
    let mut calm = Calm { stage, ground, reads_served: 0 };
    guarded(|| calm.run()).and_then(|result| result)
}

/// A cluster without faults.
struct Calm {
    stage: Stage,
    ground: Ground,
    reads_served: u64,
}

impl Calm {
    fn run(&mut self) -> Result<(), Violation> {
        let ids: Vec<NodeId> = self.stage.members.keys().copied().collect();
        for id in &ids {
            if self.stage.members[id].raft.is_none() {
                self.turn(*id, Act::Restart)?;
            }
            self.turn(*id, Act::Flush)?;
        }
        self.settle()?;
        for round in 0..ROUNDS_MAX * ids.len() {
            self.fail_what_is_lost(&ids)?;
            self.everyone(&ids, Timer::ElectionSoon)?;
            self.everyone(&ids, Timer::Heartbeat)?;
            self.everyone(&ids, Timer::QuorumCheck)?;
            self.everyone(&ids, Timer::Transfer)?;
            if let Some(leader) = self.leader().filter(|_| self.is_done()) {
                return self.works(leader);
            }
            if self.leader().is_none() {
                self.everyone(&ids, Timer::Quiet)?;
                self.turn(ids[round % ids.len()], Act::Timer(Timer::Election))?;
                self.settle()?;
            }
        }
        Err(self.unfinished("a leader is elected and all work is done"))
    }

    /// A new command is committed everywhere, and a new read is served.
    fn works(&mut self, leader: NodeId) -> Result<(), Violation> {
        self.turn(leader, Act::Propose)?;
        self.reads_served = 0;
        self.turn(leader, Act::Read)?;
        self.settle()?;
        self.turn(leader, Act::Timer(Timer::Heartbeat))?;
        self.settle()?;
        match self.is_done() && 0 < self.reads_served {
            true => Ok(()),
            false => Err(self.unfinished("a new command is committed and a new read served")),
        }
    }

    /// Leaders learn that a snapshot will not arrive any more: nothing is under way here.
    fn fail_what_is_lost(&mut self, ids: &[NodeId]) -> Result<(), Violation> {
        for (leader, peer) in ids.iter().flat_map(|id| ids.iter().map(move |peer| (*id, *peer))) {
            let raft = self.stage.members[&leader].raft.as_ref();
            if raft.is_some_and(|raft| raft.is_in_snapshot(peer)) {
                self.turn(leader, Act::SnapshotFailed(peer))?;
            }
        }
        self.settle()
    }

    /// Fires a timer at everyone, one after the other.
    fn everyone(&mut self, ids: &[NodeId], timer: Timer) -> Result<(), Violation> {
        for id in ids {
            self.turn(*id, Act::Timer(timer))?;
            self.settle()?;
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), Violation> {
        for _ in 0..DEEDS_MAX {
            let Some(deed) = self.stage.quiet_deed() else { return Ok(()) };
            self.perform(&deed)?;
        }
        Err(self.unfinished("the cluster comes to rest between two timers"))
    }

    fn turn(&mut self, member: NodeId, act: Act) -> Result<(), Violation> {
        self.perform(&Deed::Take { member, act, ending: Ending::Flushed })
    }

    fn perform(&mut self, deed: &Deed) -> Result<(), Violation> {
        let turn = self.stage.perform(deed, &self.ground);
        let served = |said: &&Said| matches!(said, Said::Output(Output::ReadsReady { .. }));
        self.reads_served += turn.said.iter().filter(served).count() as u64;
        turn.violation.map_or(Ok(()), Err)
    }

    fn rafts(&self) -> impl Iterator<Item = &Raft> {
        self.stage.members.values().filter_map(|member| member.raft.as_ref())
    }

    /// The newest leader and its configuration.
    fn newest(&self) -> Option<(&Raft, &Configuration)> {
        let leaders = self.rafts().filter(|raft| raft.role() == RoleKind::Leader);
        let leader = leaders.max_by_key(|raft| raft.term())?;
        Some((leader, leader.configuration()))
    }

    /// The leader whom all members of its configuration follow.
    fn leader(&self) -> Option<NodeId> {
        let (leader, configuration) = self.newest()?;
        let follows = |raft: &Raft| {
            !configuration.is_member(raft.id())
                || (raft.leader() == Some(leader.id()) && raft.term() == leader.term())
        };
        self.rafts().all(follows).then(|| leader.id())
    }

    fn is_done(&self) -> bool {
        let Some((leader, configuration)) = self.newest() else { return false };
        let last = leader.last_index();
        let log = self.stage.members[&leader.id()].log();
        let stays = !configuration.is_joint()
            && configuration.target.is_empty()
            && configuration.voters.contains(&leader.id());
        let members = self.stage.members.values().filter(|it| configuration.is_member(it.id));
        let mut rafts = self.rafts().filter(|raft| configuration.is_member(raft.id()));
        stays
            && members.map(Member::log).all(|other| other == log)
            && rafts.all(|raft| raft.commit_index() == last && raft.durable_index() == last)
    }

    fn unfinished(&self, what: &str) -> Violation {
        let members: Vec<String> = self
            .rafts()
            .map(|raft| {
                let (last, commit) = (raft.last_position(), raft.commit_index());
                format!("{} is {}, last {last}, commit {commit}", raft.id(), raft.standing())
            })
            .collect();
        let detail = format!("never, though all faults have ended: {}", members.join("; "));
        Violation::new(&format!("liveness: {what}"), detail)
    }
}
