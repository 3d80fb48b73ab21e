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
    /// Two members cannot reach each other; all others reach both.
    PairCut,
    /// Two sets of members cannot reach each other, and one member between them reaches both.
    PartitionBridge,
    /// The members stand in a row, and each reaches its neighbours only.
    PartitionChain,
    /// One way between two members, or both, is slow for a while.
    LinkSlow,
    /// A disk completes no sync for a long while, or until a keeper kills the process.
    SyncHung,
    /// A member's monotonic clock runs faster or slower than the others'.
    ClockDrifted,
    /// A process dies at a moment that was chosen to be the worst: in or right after a renaming, as
    /// of a roll or a cut of the log, or a sync of the folder, of the log or of the engine.
    CrashAtWorst,
    /// A file's new name that was not synced is gone after a loss of power.
    NameLost,
    /// A write fails after a part of it.
    WriteFailed,
    /// A write stops short for want of space, even where space is allocated already, as on file
    /// systems that never write in place.
    WriteShort,
    /// A read fails once.
    ReadFailed,
    /// A sector that was being written when the power went cannot be read.
    SectorUnreadable,
    /// A sector at rest, of the log or the engine, cannot be read any more.
    SectorSpoiled,
    /// A write has landed elsewhere, or nowhere: its place keeps what it held.
    WriteMisdirected,
    /// A bit of the engine's file flips at rest.
    EngineBitFlipped,
    /// Somebody asks for other members: more, fewer, or others.
    MembersChanged,
    /// Somebody asks for another leader.
    LeadershipMoved,
    /// A disk completes no sync until its process has had enough, or for longer: nobody else ends it.
    DiskStalled,
    /// A state machine makes something else of a command than the log says.
    MachineErred,
}

/// Every fault, in order.
pub const FAULTS: [Fault; 36] = [
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
    Fault::PairCut,
    Fault::PartitionBridge,
    Fault::PartitionChain,
    Fault::LinkSlow,
    Fault::SyncHung,
    Fault::ClockDrifted,
    Fault::CrashAtWorst,
    Fault::NameLost,
    Fault::WriteFailed,
    Fault::WriteShort,
    Fault::ReadFailed,
    Fault::SectorUnreadable,
    Fault::SectorSpoiled,
    Fault::WriteMisdirected,
    Fault::EngineBitFlipped,
    Fault::MembersChanged,
    Fault::LeadershipMoved,
    Fault::DiskStalled,
    Fault::MachineErred,
];

/// What a fault needs to have any effect: it brings that along.
const NEEDS: [(Fault, Fault); 4] = [
    (Fault::NameLost, Fault::PowerLost),
    (Fault::NameLost, Fault::CrashAtWorst),
    (Fault::SectorUnreadable, Fault::PowerLost),
    (Fault::SectorUnreadable, Fault::CrashAtWorst),
];

/// How often each fault happens, in parts of a million: for messages per message, for slow syncs per
/// sync, for bits of the log at rest per start of a process, for names and unreadable sectors per name
/// and sector that is not durable when the power goes, for all else per fault period and, where it befalls one, member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FaultRates {
    parts: [u32; FAULTS.len()],
}

/// How often each fault has happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FaultCounts {
    counts: [u64; FAULTS.len()],
}

impl Default for FaultCounts {
    fn default() -> FaultCounts {
        FaultCounts { counts: [0; FAULTS.len()] }
    }
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
            Fault::PairCut => "pair-cut",
            Fault::PartitionBridge => "partition-bridge",
            Fault::PartitionChain => "partition-chain",
            Fault::LinkSlow => "link-slow",
            Fault::SyncHung => "sync-hung",
            Fault::ClockDrifted => "clock-drifted",
            Fault::CrashAtWorst => "crash-at-worst",
            Fault::NameLost => "name-lost",
            Fault::WriteFailed => "write-failed",
            Fault::WriteShort => "write-short",
            Fault::ReadFailed => "read-failed",
            Fault::SectorUnreadable => "sector-unreadable",
            Fault::SectorSpoiled => "sector-spoiled",
            Fault::WriteMisdirected => "write-misdirected",
            Fault::EngineBitFlipped => "engine-bit-flipped",
            Fault::MembersChanged => "members-changed",
            Fault::LeadershipMoved => "leadership-moved",
            Fault::DiskStalled => "disk-stalled",
            Fault::MachineErred => "machine-erred",
        }
    }

    /// The fault of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Fault> {
        FAULTS.into_iter().find(|fault| fault.name() == name)
    }

    /// What happens, as a sentence.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Fault::MessageLost => "a message is lost, and its connection breaks",
            Fault::MessageDuplicated => "a message arrives twice",
            Fault::MessageReordered => "a message overtakes those sent before it",
            Fault::MessageDelayed => "a message takes up to a few election timeouts",
            Fault::ConnectionReset => "a connection breaks with what is under way on it",
            Fault::Partition => "two sets of members cannot reach each other for a while",
            Fault::PartitionOneWay => "a member cannot hear another, which hears it",
            Fault::ProcessKilled => "a process dies; what it wrote stays in the page cache",
            Fault::PowerLost => "a machine loses power, and with it unsynced writes",
            Fault::CrashInOperation => "a process dies in the middle of a disk operation",
            Fault::ClusterKilled => "all processes die at once",
            Fault::SyncFailed => "a sync fails",
            Fault::DiskFull => "a disk has no space left for a while",
            Fault::BitFlipped => "a bit of a member's log flips at rest",
            Fault::Paused => "a process stands still for a while",
            Fault::SyncSlow => "a sync takes up to 1.5 seconds",
            Fault::ClockJumped => "a member's wall clock jumps by up to an hour",
            Fault::PairCut => "two members cannot reach each other; all others reach both",
            Fault::PartitionBridge => "two sets of members are apart; one member reaches both",
            Fault::PartitionChain => "members stand in a row, each reaches its neighbours only",
            Fault::LinkSlow => "one way between two members, or both, is slow for a while",
            Fault::SyncHung => "a disk completes no sync for a long while",
            Fault::ClockDrifted => "a member's monotonic clock runs faster or slower",
            Fault::CrashAtWorst => "a process dies in or right after a renaming or a sync",
            Fault::NameLost => "a file's unsynced name is gone after a loss of power",
            Fault::WriteFailed => "a write fails after a part of it",
            Fault::WriteShort => "a write stops short for want of space",
            Fault::ReadFailed => "a read fails once",
            Fault::SectorUnreadable => "a sector in flight is unreadable after a loss of power",
            Fault::SectorSpoiled => "a sector at rest cannot be read any more",
            Fault::WriteMisdirected => "a write lands elsewhere, or nowhere",
            Fault::EngineBitFlipped => "a bit of the engine's file flips at rest",
            Fault::MembersChanged => "somebody asks for other members",
            Fault::LeadershipMoved => "somebody asks for another leader",
            Fault::DiskStalled => "a disk completes no sync until its process gives up",
            Fault::MachineErred => "a member makes something else of a command than the others",
        }
    }

    /// Whether the fault damages what a disk holds beyond what a loss of power may do, so that the
    /// member may have to stop for good. It befalls a minority at most.
    #[must_use]
    pub fn damages(self) -> bool {
        matches!(
            self,
            Fault::BitFlipped
                | Fault::SectorUnreadable
                | Fault::SectorSpoiled
                | Fault::WriteMisdirected
                | Fault::EngineBitFlipped
        )
    }

    /// Whether the fault needs a state machine that keeps a file of its own.
    #[must_use]
    pub fn needs_engine(self) -> bool {
        self == Fault::EngineBitFlipped
    }

    /// The highest rate a seed draws, in parts of a million. Chosen so that a cluster with this
    /// fault alone at this rate still makes progress.
    #[must_use]
    pub fn rate_max(self) -> u32 {
        match self {
            Fault::MessageLost | Fault::ConnectionReset => 20_000,
            Fault::MessageDuplicated | Fault::MessageReordered => 100_000,
            Fault::MessageDelayed | Fault::SyncSlow => 50_000,
            Fault::Partition | Fault::PartitionOneWay | Fault::PairCut => 40_000,
            Fault::PartitionBridge | Fault::PartitionChain | Fault::LinkSlow => 40_000,
            Fault::Paused | Fault::ClockJumped | Fault::ClockDrifted => 40_000,
            Fault::ProcessKilled | Fault::PowerLost => 40_000,
            Fault::CrashInOperation | Fault::CrashAtWorst => 40_000,
            Fault::ClusterKilled => 10_000,
            Fault::SyncFailed | Fault::WriteFailed | Fault::ReadFailed => 10_000,
            Fault::DiskFull | Fault::WriteShort => 10_000,
            Fault::SyncHung => 4_000,
            Fault::NameLost => 800_000,
            Fault::BitFlipped => 500_000,
            Fault::SectorUnreadable => 200_000,
            Fault::SectorSpoiled | Fault::WriteMisdirected | Fault::EngineBitFlipped => 10_000,
            Fault::MembersChanged | Fault::LeadershipMoved => 60_000,
            Fault::DiskStalled => 4_000,
            Fault::MachineErred => 10_000,
        }
    }
}

impl FaultRates {
    /// No faults.
    #[must_use]
    pub fn none() -> FaultRates {
        FaultRates { parts: [0; FAULTS.len()] }
    }

    /// Rates for one seed: each of the allowed faults is off in three seeds of four, and else anywhere
    /// up to its highest rate.
    #[must_use]
    pub fn swarm(choices: &mut Choices, allowed: &[Fault]) -> FaultRates {
        let mut rates = FaultRates::none();
        for fault in FAULTS {
            let on = choices.below(4) == 0;
            let parts = choices.between(1, u64::from(fault.rate_max())) as u32;
            if on && allowed.contains(&fault) {
                rates.parts[fault as usize] = parts;
            }
        }
        for (fault, needed) in NEEDS {
            if 0 < rates.of(fault) && rates.of(needed) == 0 && allowed.contains(&needed) {
                rates.parts[needed as usize] = needed.rate_max() / 2;
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
            assert_eq!(Fault::of_name(fault.name()), Some(*fault));
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
            assert!((10..75).contains(&reached.of(fault)), "{}", fault.name());
        }
        let rates = FaultRates::swarm(&mut Choices::of_seed(3), &[]);
        assert_eq!(rates, FaultRates::none());
    }
}
