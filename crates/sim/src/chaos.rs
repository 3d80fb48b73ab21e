//! What goes wrong, and when.
//!
//! Faults of messages and of syncs are drawn where they happen; all others here, once in each
//! [`FAULT_PERIOD`].

use jangada_raft::NodeId;

use crate::application::Application;
use crate::faults::Fault;
use crate::world::{Death, FAULT_PERIOD, Later, World};

/// How long a partition lasts, in microseconds: from less than a heartbeat to several elections.
const PARTITION_US: (u64, u64) = (20_000, 6_000_000);

/// How long a process stands still, in microseconds.
const PAUSE_US: (u64, u64) = (10_000, 4_000_000);

/// How long a disk stays full, in microseconds.
const FULL_US: (u64, u64) = (100_000, 4_000_000);

/// How far a wall clock jumps, in milliseconds.
const JUMP_MS: u64 = 3_600_000;

/// In how many operations from now at most a process dies that dies in one.
const OPERATIONS_MAX: u64 = 40;

/// In how many syncs from now at most one fails.
const SYNCS_MAX: u64 = 20;

impl<A: Application> World<A> {
    /// Draws what goes wrong in this period.
    pub(crate) fn chaos(&mut self) {
        self.queue.push(self.now_us() + FAULT_PERIOD, Later::Chaos);
        if self.draws(Fault::ClusterKilled) {
            self.counts.count(Fault::ClusterKilled);
            let death = self.any_death();
            for member in self.members() {
                self.end(member, death);
            }
        }
        self.partitions();
        for member in self.members() {
            self.ails(member);
        }
    }

    /// Everything passes everywhere again.
    pub(crate) fn heal(&mut self) {
        self.note(format_args!("the network heals"));
        self.network.heal();
    }

    fn draws(&mut self, fault: Fault) -> bool {
        self.dice.strikes(fault, &mut self.choices)
    }

    fn any_death(&mut self) -> Death {
        if self.choices.below(2) == 0 { Death::Killed } else { Death::PowerLost }
    }

    /// Cuts the network, unless it is cut already.
    fn partitions(&mut self) {
        if self.network.is_cut() {
            return;
        }
        let members = self.members();
        if self.draws(Fault::Partition) {
            self.counts.count(Fault::Partition);
            // At least one on each side.
            let sides = self.choices.between(1, (1 << members.len()) - 2);
            let side = |member: &NodeId| {
                let place = members.iter().position(|other| other == member).expect("listed");
                sides >> place & 1
            };
            let apart: Vec<(NodeId, NodeId)> =
                pairs(&members).filter(|(from, to)| side(from) != side(to)).collect();
            self.cut(&apart);
        } else if self.draws(Fault::PartitionOneWay) {
            self.counts.count(Fault::PartitionOneWay);
            let ways: Vec<(NodeId, NodeId)> = pairs(&members).collect();
            let way = *self.choices.pick(&ways);
            self.cut(&[way]);
        }
    }

    fn cut(&mut self, ways: &[(NodeId, NodeId)]) {
        self.note(format_args!("the network is cut: {ways:?}"));
        for (from, to) in ways {
            self.network.cut(*from, *to);
        }
        let until = self.now_us() + self.choices.between(PARTITION_US.0, PARTITION_US.1);
        self.queue.push(until, Later::Heal);
    }

    /// What befalls one member and its machine.
    fn ails(&mut self, member: NodeId) {
        for (fault, death) in
            [(Fault::ProcessKilled, Death::Killed), (Fault::PowerLost, Death::PowerLost)]
        {
            if self.draws(fault) && self.seats[&member].running.is_some() {
                self.counts.count(fault);
                self.end(member, death);
            }
        }
        let now_us = self.now_us();
        // Counted when the process does die.
        if self.draws(Fault::CrashInOperation) {
            let number = self.choices.between(1, OPERATIONS_MAX);
            self.seats[&member].disk.die_in_operation(number);
        }
        // Counted when a sync does fail.
        if self.draws(Fault::SyncFailed) {
            let number = self.choices.between(1, SYNCS_MAX);
            self.seats[&member].disk.fail_sync(number);
        }
        if self.draws(Fault::DiskFull) {
            self.counts.count(Fault::DiskFull);
            let disk = &self.seats[&member].disk;
            let room = self.choices.below(1 << 16);
            disk.set_capacity(Some(disk.used_bytes() + room));
            let until = now_us + self.choices.between(FULL_US.0, FULL_US.1);
            self.queue.push(until, Later::Freed(member));
        }
        if self.draws(Fault::Paused) {
            self.counts.count(Fault::Paused);
            let until = now_us + self.choices.between(PAUSE_US.0, PAUSE_US.1);
            self.note(format_args!("{member} is paused until {until}"));
            self.seats.get_mut(&member).expect("listed").paused_until_us = until;
        }
        if self.draws(Fault::ClockJumped) {
            self.counts.count(Fault::ClockJumped);
            let jump = self.choices.below(2 * JUMP_MS) as i64 - JUMP_MS as i64;
            self.note(format_args!("{member}'s wall clock is off by {jump} ms"));
            self.seats.get_mut(&member).expect("listed").wall_offset_ms = jump;
        }
        if self.choices.below(4) == 0 {
            self.seats[&member].disk.write_back(&mut self.choices);
        }
    }
}

/// All ordered pairs of different members.
fn pairs(members: &[NodeId]) -> impl Iterator<Item = (NodeId, NodeId)> {
    members.iter().flat_map(move |from| {
        members.iter().filter(move |to| *to != from).map(move |to| (*from, *to))
    })
}
