//! The bounds within which every interleaving is walked through.
//!
//! Responsible for naming each bound, and for counting what has been spent. A state is explored
//! together with what it has spent, so that the bounds hold along each path.

use std::fmt::{Display, Formatter, Result};

use jangada_raft::{CatchUp, Configuration, Limits, MemberChange, NodeId};

use super::member::ENTRY_BYTES;

/// The most members: there is one renaming for each permutation of them.
pub const MEMBERS_MAX: usize = 5;

/// The most of anything that is counted: it is counted in four bits, one of which tells an overrun.
pub const COUNT_MAX: u64 = 7;

/// Where the search begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opening {
    /// All members have just started with empty disks.
    Fresh,
    /// The first member has been elected, all hold its no-op and know that it is committed.
    Led,
}

/// How much may happen along one path. What is counted may happen at most [`COUNT_MAX`] times.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Who votes at first.
    pub configuration: Configuration,
    /// Members beside those, which know nobody and may be added.
    pub joiners: Vec<NodeId>,
    /// The memberships that may be asked for.
    pub changes: Vec<MemberChange>,
    /// Where the search begins.
    pub opening: Opening,
    /// No election timer fires at a member of this term.
    pub terms_max: u64,
    /// No command is proposed to a leader whose log is this long. No-ops may make it longer.
    pub entries_max: u64,
    /// The entries that one append carries at most.
    pub append_entries_max: u64,
    /// The appends under way to one peer at most.
    pub window_max: usize,
    /// The messages under way at most; what would send more is not explored.
    pub in_flight_max: usize,
    /// Election timers that fire.
    pub elections_max: u64,
    /// Short election timers that fire, after a peer seemed gone.
    pub elections_soon_max: u64,
    /// Timers that end a follower's patience.
    pub quiets_max: u64,
    /// Heartbeat timers that fire.
    pub heartbeats_max: u64,
    /// Quorum checks.
    pub quorum_checks_max: u64,
    /// Commands.
    pub proposals_max: u64,
    /// Reads.
    pub reads_max: u64,
    /// Changes of the membership that are asked for; what follows from one by itself is not counted.
    pub changes_max: u64,
    /// Transfers of leadership that are asked for, each to any member.
    pub transfers_max: u64,
    /// Timers that end a transfer.
    pub transfer_timers_max: u64,
    /// Leaders that are forgotten, and leaders that are told to step down.
    pub give_ups_max: u64,
    /// Turns that end without a flush, so that the next input comes together with theirs.
    pub held_max: u64,
    /// Members that are told that a peer seems gone.
    pub peer_downs_max: u64,
    /// Members that are told that a peer shook hands again.
    pub peer_ups_max: u64,
    /// Connections that break, and lose what was under way on them.
    pub disconnects_max: u64,
    /// Messages that are lost.
    pub losses_max: u64,
    /// Messages that arrive and stay under way nonetheless.
    pub duplicates_max: u64,
    /// Logs that are cut behind all that their member has applied.
    pub cuts_max: u64,
    /// Snapshots of which a leader is told that they failed, whatever becomes of them.
    pub snapshot_failures_max: u64,
    /// Logs that come back without their last entries.
    pub rots_max: u64,
    /// Processes that end; each may come back.
    pub crashes_max: u64,
    /// Crashes, losses, rot, duplicates, broken connections and peers that seem gone, all told.
    pub faults_max: u64,
}

/// What is counted, in the order of its place in a [`Spent`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cost {
    Election,
    ElectionSoon,
    Quiet,
    Heartbeat,
    QuorumCheck,
    Proposal,
    Read,
    Held,
    PeerUp,
    PeerDown,
    Disconnect,
    Loss,
    Duplicate,
    Crash,
    Fault,
    Change,
    Transfer,
    TransferTimer,
    GiveUp,
    Cut,
    SnapshotFailure,
    Rot,
}

/// How often each thing that is counted has happened, four bits for each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Spent(pub(crate) u128);

/// The highest bit of each count.
const OVERRUN: u128 = 0x8888_8888_8888_8888_8888_8888_8888_8888;

impl Cost {
    /// The costs of one such event.
    pub(crate) fn spent(self) -> Spent {
        let one = |cost: Cost| 1_u128 << (4 * cost as u32);
        let is_fault = matches!(
            self,
            Cost::PeerDown
                | Cost::Disconnect
                | Cost::Loss
                | Cost::Duplicate
                | Cost::Crash
                | Cost::Rot
        );
        Spent(one(self) | if is_fault { one(Cost::Fault) } else { 0 })
    }
}

impl Spent {
    /// Adds a cost; `None` beyond the limits.
    pub(crate) fn add(self, cost: Spent, limits: Spent) -> Option<Spent> {
        let sum = self.0 + cost.0;
        // No count is above 7, so no sum is above 8 and nothing is borrowed or carried over.
        let room = (limits.0 | OVERRUN) - sum;
        (room & OVERRUN == OVERRUN).then_some(Spent(sum))
    }

    /// Both costs together.
    pub(crate) fn and(self, other: Spent) -> Spent {
        Spent(self.0 + other.0)
    }
}

impl Bounds {
    /// Bounds in which nothing at all happens to so many voters.
    #[must_use]
    pub fn of_voters(count: u64) -> Bounds {
        Bounds {
            configuration: Configuration::of_voters((1..=count).map(NodeId)),
            joiners: Vec::new(),
            changes: Vec::new(),
            opening: Opening::Fresh,
            terms_max: 1,
            entries_max: 3,
            append_entries_max: 2,
            window_max: 2,
            in_flight_max: 6,
            elections_max: 1,
            elections_soon_max: 0,
            quiets_max: 0,
            heartbeats_max: 0,
            quorum_checks_max: 0,
            proposals_max: 0,
            reads_max: 0,
            changes_max: 0,
            transfers_max: 0,
            transfer_timers_max: 0,
            give_ups_max: 0,
            held_max: 0,
            peer_downs_max: 0,
            peer_ups_max: 0,
            disconnects_max: 0,
            losses_max: 0,
            duplicates_max: 0,
            cuts_max: 0,
            snapshot_failures_max: 0,
            rots_max: 0,
            crashes_max: 0,
            faults_max: 0,
        }
    }

    /// The members, in order.
    #[must_use]
    pub fn members(&self) -> Vec<NodeId> {
        let joiners = self.joiners.iter().copied();
        let mut members: Vec<NodeId> = self.configuration.members().chain(joiners).collect();
        members.sort_unstable();
        members.dedup();
        members
    }

    /// Each bound with its name, for people.
    #[must_use]
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let list = |ids: &[NodeId]| {
            let ids: Vec<String> = ids.iter().map(NodeId::to_string).collect();
            ids.join(" ")
        };
        let Configuration { voters, outgoing, learners, .. } = &self.configuration;
        let mut rows = vec![("voters", list(voters))];
        let more = [
            ("outgoing voters", outgoing),
            ("learners", learners),
            ("members that may join", &self.joiners),
        ];
        let more = more.iter().filter(|(_, ids)| !ids.is_empty());
        rows.extend(more.map(|(name, ids)| (*name, list(ids))));
        rows.extend(self.changes.iter().map(|change| {
            let learners = match change.learners.is_empty() {
                true => String::new(),
                false => format!(" learners {}", list(&change.learners)),
            };
            let how = match change.catch_up {
                CatchUp::First => "once caught up",
                CatchUp::Skip => "at once",
            };
            ("membership wanted", format!("{}{learners} {how}", list(&change.voters)))
        }));
        rows.push((
            "opening",
            match self.opening {
                Opening::Fresh => "empty disks".to_owned(),
                Opening::Led => "a leader whose no-op all know committed".to_owned(),
            },
        ));
        let counts = [
            ("terms", self.terms_max),
            ("entries proposed to", self.entries_max),
            ("entries in an append", self.append_entries_max),
            ("appends under way to a peer", self.window_max as u64),
            ("messages under way", self.in_flight_max as u64),
            ("election timers", self.elections_max),
            ("short election timers", self.elections_soon_max),
            ("ends of patience", self.quiets_max),
            ("heartbeat timers", self.heartbeats_max),
            ("quorum checks", self.quorum_checks_max),
            ("commands", self.proposals_max),
            ("reads", self.reads_max),
            ("changes of the membership", self.changes_max),
            ("transfers of leadership", self.transfers_max),
            ("transfer timers", self.transfer_timers_max),
            ("leaders given up", self.give_ups_max),
            ("turns without a flush", self.held_max),
            ("peers that seem gone", self.peer_downs_max),
            ("peers that come back", self.peer_ups_max),
            ("broken connections", self.disconnects_max),
            ("lost messages", self.losses_max),
            ("duplicated messages", self.duplicates_max),
            ("cut logs", self.cuts_max),
            ("failed snapshots", self.snapshot_failures_max),
            ("logs that lose their end", self.rots_max),
            ("crashes", self.crashes_max),
            ("faults in all", self.faults_max),
        ];
        rows.extend(counts.iter().map(|(name, count)| (*name, count.to_string())));
        rows
    }

    /// The module's limits under these bounds.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            append_bytes_max: self.append_entries_max * ENTRY_BYTES,
            inflight_messages_max: self.window_max,
            ..Limits::default()
        }
    }

    /// What may be spent.
    ///
    /// # Panics
    /// If a bound is above [`COUNT_MAX`], or there are more than [`MEMBERS_MAX`] members.
    pub(crate) fn spendable(&self) -> Spent {
        assert!(self.members().len() <= MEMBERS_MAX, "there are at most {MEMBERS_MAX} members");
        let limits = [
            (Cost::Election, self.elections_max),
            (Cost::ElectionSoon, self.elections_soon_max),
            (Cost::Quiet, self.quiets_max),
            (Cost::Heartbeat, self.heartbeats_max),
            (Cost::QuorumCheck, self.quorum_checks_max),
            (Cost::Proposal, self.proposals_max),
            (Cost::Read, self.reads_max),
            (Cost::Held, self.held_max),
            (Cost::PeerUp, self.peer_ups_max),
            (Cost::PeerDown, self.peer_downs_max),
            (Cost::Disconnect, self.disconnects_max),
            (Cost::Loss, self.losses_max),
            (Cost::Duplicate, self.duplicates_max),
            (Cost::Crash, self.crashes_max),
            (Cost::Fault, self.faults_max),
            (Cost::Change, self.changes_max),
            (Cost::Transfer, self.transfers_max),
            (Cost::TransferTimer, self.transfer_timers_max),
            (Cost::GiveUp, self.give_ups_max),
            (Cost::Cut, self.cuts_max),
            (Cost::SnapshotFailure, self.snapshot_failures_max),
            (Cost::Rot, self.rots_max),
        ];
        limits.iter().fold(Spent::default(), |spent, (cost, limit)| {
            assert!(*limit <= COUNT_MAX, "at most {COUNT_MAX} of anything is counted");
            Spent(spent.0 | u128::from(*limit) << (4 * *cost as u32))
        })
    }
}

impl Display for Bounds {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for (place, (name, value)) in self.rows().iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{name} {value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_count_has_a_limit_of_its_own() {
        let bounds =
            Bounds { crashes_max: 7, losses_max: 1, faults_max: 3, ..Bounds::of_voters(3) };
        let limits = bounds.spendable();
        let crash = Cost::Crash.spent();
        let once = Spent::default().add(Cost::Loss.spent(), limits).expect("one may be lost");
        assert_eq!(once.add(Cost::Loss.spent(), limits), None);
        let twice = once.add(crash, limits).and_then(|spent| spent.add(crash, limits));
        let twice = twice.expect("three faults may happen");
        assert_eq!(twice.add(crash, limits), None, "a fourth fault may not");
        assert_eq!(Spent::default().add(Cost::Read.spent(), limits), None);
        let all = Bounds { reads_max: 7, ..Bounds::of_voters(1) }.spendable();
        let reads =
            (0..7).try_fold(Spent::default(), |spent: Spent, _| spent.add(Cost::Read.spent(), all));
        assert_eq!(reads.and_then(|spent| spent.add(Cost::Read.spent(), all)), None);
        assert!(reads.is_some());
    }
}
