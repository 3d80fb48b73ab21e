//! The faults a run can suffer, by name: how often each happens, and how often it did.
//!
//! Each seed draws its own rates, most of them zero: a run in which everything fails all the time
//! never gets far enough to find what needs a long quiet time first (swarm testing).

use crate::choices::Choices;

/// Everything that can go wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Fault {
    /// A message is lost; its connection breaks, as the stream has a hole.
    MessageLost,
    /// A message arrives twice.
    MessageDuplicated,
    /// A message overtakes those sent before it on its lane.
    MessageReordered,
    /// A message takes much longer than usual.
    MessageDelayed,
    /// A connection breaks; what is under way on it is lost.
    ConnectionReset,
    /// Two sets of members cannot reach each other.
    Partition,
    /// A member can be heard by another and cannot hear it.
    PartitionOneWay,
    /// A process dies; what it has written stays in the page cache.
    ProcessKilled,
    /// A machine loses power; unsynced writes are lost in part.
    PowerLost,
    /// A process dies in the middle of a disk operation.
    CrashInOperation,
    /// All processes die at once.
    ClusterKilled,
    /// A sync fails.
    SyncFailed,
    /// A disk has no space left for a while.
    DiskFull,
    /// A bit of a member's log flips at rest. A member may refuse such a log for good.
    BitFlipped,
    /// A process stands still for a while.
    Paused,
    /// A sync takes much longer than usual.
    SyncSlow,
    /// A member's wall clock jumps.
    ClockJumped,
}

/// Every fault, in order.
pub const FAULTS: [Fault; 17] = [
    Fault::MessageLost,
    Fault::MessageDuplicated,
    Fault::MessageReordered,
    Fault::MessageDelayed,
    Fault::ConnectionReset,
    Fault::Partition,
    Fault::PartitionOneWay,
    Fault::ProcessKilled,
    Fault::PowerLost,
    Fault::CrashInOperation,
    Fault::ClusterKilled,
    Fault::SyncFailed,
    Fault::DiskFull,
    Fault::BitFlipped,
    Fault::Paused,
    Fault::SyncSlow,
    Fault::ClockJumped,
];

/// How often each fault happens, in parts of a million: for messages per message, for syncs per
/// sync, for bits at rest per start of a process, for all else per fault period and member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FaultRates {
    parts: [u32; FAULTS.len()],
}

/// How often each fault has happened.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FaultCounts {
    counts: [u64; FAULTS.len()],
}

impl Fault {
    /// The fault's name, as reports print it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Fault::MessageLost => "message-lost",
            Fault::MessageDuplicated => "message-duplicated",
            Fault::MessageReordered => "message-reordered",
            Fault::MessageDelayed => "message-delayed",
            Fault::ConnectionReset => "connection-reset",
            Fault::Partition => "partition",
            Fault::PartitionOneWay => "partition-one-way",
            Fault::ProcessKilled => "process-killed",
            Fault::PowerLost => "power-lost",
            Fault::CrashInOperation => "crash-in-operation",
            Fault::ClusterKilled => "cluster-killed",
            Fault::SyncFailed => "sync-failed",
            Fault::DiskFull => "disk-full",
            Fault::BitFlipped => "bit-flipped",
            Fault::Paused => "paused",
            Fault::SyncSlow => "sync-slow",
            Fault::ClockJumped => "clock-jumped",
        }
    }

    /// The highest rate a seed draws, in parts of a million. Chosen so that a cluster with this
    /// fault alone at this rate still makes progress.
    #[must_use]
    pub fn rate_max(self) -> u32 {
        match self {
            Fault::MessageLost | Fault::ConnectionReset => 20_000,
            Fault::MessageDuplicated | Fault::MessageReordered => 100_000,
            Fault::MessageDelayed | Fault::SyncSlow => 50_000,
            Fault::Partition | Fault::PartitionOneWay | Fault::Paused | Fault::ClockJumped => {
                40_000
            }
            Fault::ProcessKilled | Fault::PowerLost | Fault::CrashInOperation => 40_000,
            Fault::ClusterKilled => 10_000,
            Fault::SyncFailed | Fault::DiskFull => 10_000,
            Fault::BitFlipped => 500_000,
        }
    }
}

impl FaultRates {
    /// No faults.
    #[must_use]
    pub fn none() -> FaultRates {
        FaultRates { parts: [0; FAULTS.len()] }
    }

    /// Rates for one seed: each of the allowed faults is off in two seeds of three, and else anywhere
    /// up to its highest rate.
    #[must_use]
    pub fn swarm(choices: &mut Choices, allowed: &[Fault]) -> FaultRates {
        let mut rates = FaultRates::none();
        for fault in FAULTS {
            let on = choices.below(3) == 0;
            let parts = choices.between(1, u64::from(fault.rate_max())) as u32;
            if on && allowed.contains(&fault) {
                rates.parts[fault as usize] = parts;
            }
        }
        rates
    }

    /// Sets one rate.
    #[must_use]
    pub fn with(mut self, fault: Fault, parts: u32) -> FaultRates {
        self.parts[fault as usize] = parts;
        self
    }

    /// The rate of one fault.
    #[must_use]
    pub fn of(&self, fault: Fault) -> u32 {
        self.parts[fault as usize]
    }
}

impl FaultCounts {
    /// Counts one.
    pub fn count(&mut self, fault: Fault) {
        self.counts[fault as usize] += 1;
    }

    /// How often a fault has happened.
    #[must_use]
    pub fn of(&self, fault: Fault) -> u64 {
        self.counts[fault as usize]
    }

    /// How often any fault has happened.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Adds another run's counts.
    pub fn add(&mut self, other: &FaultCounts) {
        for (sum, count) in self.counts.iter_mut().zip(&other.counts) {
            *sum += count;
        }
    }
}

impl std::fmt::Display for FaultCounts {
    /// The faults that happened, with their counts.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut first = true;
        for fault in FAULTS {
            if self.of(fault) == 0 {
                continue;
            }
            let gap = if first { "" } else { ", " };
            write!(f, "{gap}{} {}", fault.name(), self.of(fault))?;
            first = false;
        }
        if first {
            write!(f, "none")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_the_order_of_the_numbers() {
        for (place, fault) in FAULTS.iter().enumerate() {
            assert_eq!(*fault as usize, place);
        }
    }

    #[test]
    fn a_swarm_leaves_most_faults_off_and_reaches_each_within_some_seeds() {
        let mut reached = FaultCounts::default();
        for seed in 0..100 {
            let rates = FaultRates::swarm(&mut Choices::of_seed(seed), &FAULTS);
            for fault in FAULTS {
                if 0 < rates.of(fault) {
                    reached.count(fault);
                }
            }
        }
        for fault in FAULTS {
            assert!((10..60).contains(&reached.of(fault)), "{}", fault.name());
        }
        let rates = FaultRates::swarm(&mut Choices::of_seed(3), &[]);
        assert_eq!(rates, FaultRates::none());
    }
}
