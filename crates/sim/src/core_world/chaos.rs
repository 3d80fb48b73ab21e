//! What goes wrong in the core world, and when. Faults of messages and syncs are drawn where they
//! happen; all others here, once in each period and for each member.

use jangada_raft::NodeId;

use super::seat::Lost;
use super::{CoreWorld, Hint, Later};
use crate::faults::Fault;

/// Between two draws, in microseconds.
pub(super) const PERIOD_US: u64 = 100_000;

/// The faults that the core world knows. Damage at rest, full disks and failed syncs are the log's
/// business, wall clocks the node's.
pub const CORE_FAULTS: [Fault; 12] = [
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
];

/// How long a partition lasts, in microseconds: from less than a heartbeat to several elections.
const PARTITION_US: (u64, u64) = (20_000, 6_000_000);

/// How long a member stands still, in microseconds.
const PAUSE_US: (u64, u64) = (10_000, 4_000_000);

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
    fn strikes(&mut self, fault: Fault) -> bool {
        let strikes = self.dice.strikes(fault, &mut self.choices);
        if strikes {
            self.counts.count(fault);
        }
        strikes
    }

    fn partitions(&mut self) {
        let members = self.options.members;
        let pairs = |members: u64| {
            (1..=members).flat_map(move |from| (1..=members).map(move |to| (from, to)))
        };
        if members < 2 {
            return;
        }
        let mut cut: Vec<(u64, u64)> = Vec::new();
        if self.strikes(Fault::Partition) {
            // Each link by a coin makes bridges and chains; else two sides, neither empty.
            let sides = self.choices.between(1, (1 << members) - 2);
            let by_coin = self.choices.below(4) == 0;
            for (from, to) in pairs(members).filter(|(from, to)| from < to) {
                let apart = match by_coin {
                    true => self.choices.below(2) == 0,
                    false => sides >> (from - 1) & 1 != sides >> (to - 1) & 1,
                };
                if apart {
                    cut.extend([(from, to), (to, from)]);
                }
            }
        }
        if self.strikes(Fault::PartitionOneWay) {
            let from = self.choices.between(1, members);
            let to = 1 + (from + self.choices.between(0, members - 2)) % members;
            cut.push((from, to));
        }
        if cut.is_empty() {
            return;
        }
        cut.iter().for_each(|(from, to)| self.network.cut(NodeId(*from), NodeId(*to)));
        let until_us = self.choices.between(PARTITION_US.0, PARTITION_US.1);
        self.queue.push(self.queue.now_us() + until_us, Later::Heal);
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
        if self.strikes(Fault::ConnectionReset) {
            let peer = NodeId(1 + self.choices.below(self.options.members));
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
    fn ends(&mut self, member: NodeId, machine: bool) {
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
