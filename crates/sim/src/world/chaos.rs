//! What goes wrong, and when.
//!
//! Faults of messages and of syncs are drawn where they happen; all others here, once in each
//! [`FAULT_PERIOD`].

use jangada::StateMachine;
use jangada_raft::{Index, NodeId};

use crate::application::Application;
use crate::disk::ledger::Damage;
use crate::disk::rot;
use crate::disk::sectors::SECTOR_BYTES;
use crate::disk::{DamagedPlace, MOMENTS, is_of_log};
use crate::faults::Fault;
use crate::run::timeline::Who;
use crate::world::topology::{Topology, pairs};
use crate::world::{Death, FAULT_PERIOD, Later, World};

/// How long a partition lasts, in microseconds: from less than a heartbeat to several elections.
const PARTITION_US: (u64, u64) = (20_000, 6_000_000);

/// How long a process stands still, in microseconds.
const PAUSE_US: (u64, u64) = (10_000, 4_000_000);

/// How long a disk stays full, in microseconds.
const FULL_US: (u64, u64) = (100_000, 4_000_000);

/// How far a wall clock jumps, in milliseconds.
const JUMP_MS: u64 = 3_600_000;

/// How long a way is slow, in microseconds.
const SLOW_US: (u64, u64) = (100_000, 6_000_000);

/// What a message takes longer on a slow way, in microseconds: from what is hardly felt to most of an
/// election timeout.
const SLOW_EXTRA_US: (u64, u64) = (1_000, 800_000);

/// How long a disk completes no sync, in microseconds: from the longest of slow ones to what only a
/// keeper ends.
const HUNG_US: (u64, u64) = (1_500_000, 60_000_000);

/// How long a keeper waits for a process whose disk hangs, in microseconds.
const KEEPER_US: (u64, u64) = (1_500_000, 10_000_000);

/// How much faster or slower than the world's a clock runs, in parts of a million. Quartz is off by a
/// hundred at most; a virtual machine's clock can be off by percents while it is steered.
pub(crate) const DRIFT: u64 = 50_000;

/// In which operation after a chosen moment a process dies at most; in the moment's own at least.
const BEHIND_MAX: u64 = 3;

/// In how many writes from now at most one fails.
const WRITES_MAX: u64 = 40;

/// In how many reads from now at most one fails.
const READS_MAX: u64 = 10;

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
        self.operate();
        self.partitions();
        self.slowness();
        for member in self.members() {
            self.count_struck(member);
            self.ails(member);
        }
    }

    pub(crate) fn draws(&mut self, fault: Fault) -> bool {
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
        let mut members = self.members();
        if members.len() < 2 {
            return;
        }
        let shape = if self.draws(Fault::Partition) {
            Some((Fault::Partition, Topology::Sides(self.some_of(&members))))
        } else if self.draws(Fault::PartitionOneWay) {
            let (from, to) = self.some_way(&members);
            Some((Fault::PartitionOneWay, Topology::OneWay(from, to)))
        } else if self.draws(Fault::PairCut) {
            let (one, other) = self.some_way(&members);
            Some((Fault::PairCut, Topology::Pair(one, other)))
        } else if 3 <= members.len() && self.draws(Fault::PartitionBridge) {
            let place = self.choices.below(members.len() as u64) as usize;
            let bridge = members.remove(place);
            let side = self.some_of(&members);
            Some((Fault::PartitionBridge, Topology::Bridge { bridge, side }))
        } else if 3 <= members.len() && self.draws(Fault::PartitionChain) {
            for last in (1..members.len()).rev() {
                members.swap(last, self.choices.below(last as u64 + 1) as usize);
            }
            Some((Fault::PartitionChain, Topology::Chain(members)))
        } else {
            None
        };
        if let Some((fault, topology)) = shape {
            self.counts.count(fault);
            self.shape(&topology);
            let until = self.now_us() + self.choices.between(PARTITION_US.0, PARTITION_US.1);
            self.queue.push(until, Later::Heal);
        }
    }

    /// At least one of the members, and not all.
    fn some_of(&mut self, members: &[NodeId]) -> Vec<NodeId> {
        let chosen = self.choices.between(1, (1 << members.len()) - 2);
        let places = members.iter().enumerate();
        places.filter(|(place, _)| chosen >> place & 1 == 1).map(|(_, member)| *member).collect()
    }

    fn some_way(&mut self, members: &[NodeId]) -> (NodeId, NodeId) {
        let ways: Vec<(NodeId, NodeId)> = pairs(members).collect();
        *self.choices.pick(&ways)
    }

    /// Makes a way slow, or both between two members. Counted when a message takes longer.
    fn slowness(&mut self) {
        let members = self.members();
        if members.len() < 2 || !self.draws(Fault::LinkSlow) {
            return;
        }
        let (one, other) = self.some_way(&members);
        let extra_us = self.choices.between(SLOW_EXTRA_US.0, SLOW_EXTRA_US.1);
        let until_us = self.now_us() + self.choices.between(SLOW_US.0, SLOW_US.1);
        self.note(format_args!("from {one} to {other} it is slow by {extra_us} until {until_us}"));
        self.network.slow(one, other, extra_us, until_us);
        if self.choices.below(2) == 0 {
            self.note(format_args!("and back"));
            self.network.slow(other, one, extra_us, until_us);
        }
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
        self.disk_ails(member);
        self.sickens(member);
        for fault in [Fault::SectorSpoiled, Fault::WriteMisdirected, Fault::EngineBitFlipped] {
            if self.draws(fault) && self.may_strike(member) && !self.seats[&member].refused {
                self.damage(member, fault);
            }
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
            // Who stands still already goes on when both have passed.
            let until = until.max(self.seats[&member].paused_until_us);
            self.note(format_args!("{member} is paused until {until}"));
            let seconds = until as f64 / 1e6;
            self.tell(Who::Member(member), format_args!("stands still until {seconds:.3} s"));
            let seat = self.seats.get_mut(&member).expect("listed");
            if seat.paused_until_us < now_us {
                seat.paused_since_us = now_us;
            }
            seat.paused_until_us = until;
        }
        if self.draws(Fault::ClockJumped) {
            self.counts.count(Fault::ClockJumped);
            let jump = self.choices.below(2 * JUMP_MS) as i64 - JUMP_MS as i64;
            self.note(format_args!("{member}'s wall clock is off by {jump} ms"));
            self.tell(Who::Member(member), format_args!("has a wall clock off by {jump} ms"));
            self.seats.get_mut(&member).expect("listed").clocks.jump(jump);
        }
        if self.draws(Fault::ClockDrifted) {
            self.counts.count(Fault::ClockDrifted);
            let pace = 1_000_000 - DRIFT + self.choices.below(2 * DRIFT + 1);
            self.note(format_args!("{member}'s clock runs at {pace} us a second"));
            self.tell(
                Who::Member(member),
                format_args!("has a clock that runs {pace} us a second"),
            );
            self.seats.get_mut(&member).expect("listed").clocks.drift(now_us, pace);
        }
        if self.choices.below(4) == 0 {
            self.seats[&member].disk.write_back(&mut self.choices);
        }
    }

    /// What befalls a member's disk later, and is counted when it does.
    fn disk_ails(&mut self, member: NodeId) {
        if self.draws(Fault::SyncFailed) {
            let number = self.choices.between(1, SYNCS_MAX);
            self.seats[&member].disk.fail_sync(number);
        }
        for fault in [Fault::WriteFailed, Fault::WriteShort] {
            if self.draws(fault) {
                let number = self.choices.between(1, WRITES_MAX);
                self.seats[&member].disk.fail_write(number, fault);
            }
        }
        if self.draws(Fault::ReadFailed) {
            let number = self.choices.between(1, READS_MAX);
            self.seats[&member].disk.fail_read(number);
        }
        if self.draws(Fault::CrashAtWorst) {
            let moment = *self.choices.pick(&MOMENTS);
            let number = self.choices.between(0, BEHIND_MAX);
            self.seats[&member].disk.die_after(moment, number);
        }
        if self.draws(Fault::SyncHung) {
            let now_us = self.now_us();
            let lasts_us = self.choices.between(HUNG_US.0, HUNG_US.1);
            self.stall(member, Fault::SyncHung, lasts_us);
            let life = self.seats[&member].life;
            let at = now_us + self.choices.between(KEEPER_US.0, KEEPER_US.1);
            self.queue.push(at, Later::Keeper { member, life });
        }
    }

    /// Damages what a member's disk holds: the log, or the engine's file if there is one.
    fn damage(&mut self, member: NodeId, fault: Fault) {
        let seat = &self.seats[&member];
        let files = seat.disk.listing();
        let engine = files.iter().map(|(name, _)| name).find(|name| !is_of_log(name)).cloned();
        let applied = match &seat.running {
            Some(running) => running.member.machine().durable_index(),
            None => Index(0),
        };
        let of_engine = fault == Fault::EngineBitFlipped || self.choices.below(2) == 0;
        if let Some(engine) = engine.as_ref().filter(|_| of_engine) {
            self.damage_engine(member, fault, engine);
            return;
        }
        let disk = &seat.disk;
        let damages: Vec<Damage> = match fault {
            Fault::SectorSpoiled => {
                rot::spoil(disk, applied, &mut self.choices).into_iter().collect()
            }
            Fault::WriteMisdirected => {
                rot::misdirect(disk, engine.as_deref(), applied, &mut self.choices)
            }
            _ => Vec::new(),
        };
        if !damages.is_empty() {
            self.counts.count(fault);
        }
        for damage in damages {
            self.damaged(member, damage);
        }
    }

    fn damage_engine(&mut self, member: NodeId, fault: Fault, engine: &str) {
        let disk = &self.seats[&member].disk;
        if fault == Fault::WriteMisdirected {
            // Counted when there is such a write.
            let number = self.choices.between(1, WRITES_MAX);
            let lands = (self.choices.below(2) == 0).then(|| self.choices.below(1_000_000));
            disk.misdirect_write(number, lands);
            self.ledger.mark(member);
            return;
        }
        let part = self.choices.below(1_000_000);
        let Ok(Some(sector)) = disk.used_place(engine, part) else { return };
        let (offset, bytes, done) = match fault {
            Fault::SectorSpoiled => (sector, SECTOR_BYTES as u64, disk.spoil(engine, sector)),
            _ => {
                let offset = sector + self.choices.below(SECTOR_BYTES as u64);
                (offset, 1, disk.flip(engine, offset, self.choices.below(8) as u8))
            }
        };
        if done.is_ok() {
            self.counts.count(fault);
            let place = DamagedPlace { fault, file: engine.to_owned(), offset, bytes };
            self.damaged(member, Damage::at(place));
        }
    }
}
