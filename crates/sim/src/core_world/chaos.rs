//! What goes wrong in the core world, and when. Faults of messages and syncs are drawn where they
//! happen; all others here, once in each period and for each member.

use jangada_raft::NodeId;

use super::seat::Lost;
use super::{CoreWorld, Hint, Later};
use crate::faults::Fault;
use crate::world::topology::Topology;

/// Between two draws, in microseconds.
pub(super) const PERIOD_US: u64 = 100_000;

/// The faults that the core world knows. Of damage at rest it knows what a log may come back with:
/// less than was acknowledged. Full disks and failed syncs are the log's business, wall clocks the
/// node's.
pub const CORE_FAULTS: [Fault; 17] = [
    Fault::BitFlipped,
    Fault::MessageLost,
    Fault::MessageDuplicated,
    Fault::MessageReordered,
    Fault::MessageDelayed,
    Fault::ConnectionReset,
    Fault::Partition,
    Fault::PartitionOneWay,
    Fault::ProcessKilled,
    Fault::PowerLost,
    Fault::ClusterKilled,
    Fault::Paused,
    Fault::SyncSlow,
    Fault::PairCut,
    Fault::PartitionBridge,
    Fault::PartitionChain,
    Fault::ClockDrifted,
];

/// How long a partition lasts, in microseconds: from less than a heartbeat to several elections.
const PARTITION_US: (u64, u64) = (20_000, 6_000_000);

/// How long a member stands still, in microseconds.
const PAUSE_US: (u64, u64) = (10_000, 4_000_000);

/// How long a drifting clock takes for what should last a million microseconds.
const DRIFT_PARTS: (u64, u64) = (500_000, 2_000_000);

/// How long a process is down, in microseconds.
const DOWN_US: (u64, u64) = (1_000, 5_000_000);

/// How soon peers learn that a process died on a machine that lives, in microseconds.
const REFUSED_US: (u64, u64) = (100, 3_000);

impl CoreWorld {
    pub(super) fn chaos(&mut self) {
        if self.strikes(Fault::ClusterKilled) {
            for member in self.members() {
                let machine = self.choices.below(2) == 0;
                self.ends(member, machine);
            }
        }
        if !self.network.is_split() {
            self.partitions();
        }
        for member in self.members() {
            self.ails(member);
        }
    }

    /// Draws a fault and counts it.
    pub(super) fn strikes(&mut self, fault: Fault) -> bool {
        let strikes = self.dice.strikes(fault, &mut self.choices);
        if strikes {
            self.counts.count(fault);
        }
        strikes
    }

    fn partitions(&mut self) {
        let mut row: Vec<NodeId> = self.members().collect();
        if row.len() < 2 {
            return;
        }
        for place in (1..row.len()).rev() {
            row.swap(place, self.choices.below(place as u64 + 1) as usize);
        }
        // At least one on each side.
        let some = self.choices.between(1, row.len() as u64 - 1) as usize;
        let rest = &row[1..];
        let shapes = [
            (Fault::Partition, Topology::Sides(row[..some].to_vec())),
            (Fault::PartitionOneWay, Topology::OneWay(row[0], row[1])),
            (Fault::PairCut, Topology::Pair(row[0], row[1])),
            (
                Fault::PartitionBridge,
                Topology::Bridge { bridge: row[0], side: rest[..rest.len() / 2].to_vec() },
            ),
            (Fault::PartitionChain, Topology::Chain(row.clone())),
        ];
        let members: Vec<NodeId> = self.members().collect();
        let mut is_cut = false;
        for (fault, shape) in shapes {
            if self.strikes(fault) {
                let ways = shape.cut(&members);
                is_cut |= !ways.is_empty();
                ways.iter().for_each(|(from, to)| self.network.cut(*from, *to));
            }
        }
        if is_cut {
            let until_us = self.choices.between(PARTITION_US.0, PARTITION_US.1);
            self.queue.push(self.queue.now_us() + until_us, Later::Heal);
        }
    }

    fn ails(&mut self, member: NodeId) {
        for (fault, machine) in [(Fault::ProcessKilled, false), (Fault::PowerLost, true)] {
            if self.strikes(fault) {
                self.ends(member, machine);
            }
        }
        let now_us = self.queue.now_us();
        if self.strikes(Fault::Paused) {
            let until_us = now_us + self.choices.between(PAUSE_US.0, PAUSE_US.1);
            let seat = self.seat(member);
            seat.paused_until_us = seat.paused_until_us.max(until_us);
        }
        if self.strikes(Fault::ClockDrifted) {
            self.seat(member).tick_parts = self.choices.between(DRIFT_PARTS.0, DRIFT_PARTS.1);
        }
        if self.strikes(Fault::ConnectionReset) {
            let peer = NodeId(1 + self.choices.below(self.seats.len() as u64));
            // Wrong as well as right: the peer lives, and may be heard again at once.
            let hints = [Hint::Lost, Hint::Down, Hint::Up];
            for hint in &hints[..1 + self.choices.below(3) as usize] {
                let at_us = now_us + self.choices.between(REFUSED_US.0, REFUSED_US.1);
                self.network.reset(peer, member);
                if peer != member {
                    self.queue.push(at_us, Later::Hint { member, peer, hint: *hint });
                }
            }
        }
    }

    /// A process ends, alone or with its machine, and comes back later.
    pub(super) fn ends(&mut self, member: NodeId, machine: bool) {
        if self.raft(member).is_none() {
            return;
        }
        let writes = self.seat(member).writes() as u64;
        let lost = match machine {
            true => Lost::AllBut(self.choices.below(writes + 1) as usize),
            false => Lost::Unwritten,
        };
        let now_us = self.queue.now_us();
        self.trace.note(format_args!("{now_us:>10} {member}: its process ends, {lost:?}"));
        self.seat(member).end(lost);
        let back_us = now_us + self.choices.between(DOWN_US.0, DOWN_US.1);
        self.queue.push(back_us, Later::Start(member));
        if machine {
            return; // Nobody refuses; peers hear nothing.
        }
        for peer in self.members().filter(|peer| *peer != member) {
            let at_us = now_us + self.choices.between(REFUSED_US.0, REFUSED_US.1);
            if !self.network.is_cut(member, peer) {
                let hint = Later::Hint { member: peer, peer: member, hint: Hint::Down };
                self.queue.push(at_us, hint);
            }
        }
    }
}
