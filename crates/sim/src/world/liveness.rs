//! What must come to pass once faults stop: a leader, soon, and then the end of all pending work.
//!
//! Responsible for how a run ends (with everybody, or with a majority whose minority stays cut off or
//! down) and for measuring how long it takes. Simulated time is the same in every run of a seed, so
//! here it may be asserted.

use std::collections::BTreeMap;

use jangada_raft::{NodeId, RoleKind};

use crate::application::Application;
use crate::faults::Fault;
use crate::invariants::Violation;
use crate::world::{Death, World};

/// Within how many election timeouts a majority that is connected has a leader.
const LEADER_TIMEOUTS_MAX: u64 = 10;

/// How a member is left out of a calm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LeftOut {
    /// Nothing reaches it and it reaches nobody.
    CutOff,
    /// Its machine stays without power.
    Down,
}

/// How the members come to rest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calm {
    /// Since when the members that are counted on all live; none before the calm.
    since_us: Option<u64>,
    /// How long it took from then on until they had a leader.
    leader_after_us: Option<u64>,
    left_out: BTreeMap<NodeId, LeftOut>,
}

impl Calm {
    pub(crate) fn leaves_out(&self, member: NodeId) -> Option<LeftOut> {
        self.left_out.get(&member).copied()
    }

    /// How long it took until there was a leader, in microseconds.
    pub(crate) fn leader_after_us(&self) -> Option<u64> {
        self.leader_after_us
    }
}

impl<A: Application> World<A> {
    /// How many members the calm has left out.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.calm.left_out.len()
    }

    /// How long after faults had stopped, and all members that are counted on lived, they had a leader,
    /// in microseconds; `None` before that.
    #[must_use]
    pub fn leader_after_us(&self) -> Option<u64> {
        self.calm.leader_after_us()
    }

    /// In half of all runs the calm is for a majority only. Where disks have damaged logs it is for
    /// everybody: the minority that may be missing is missing already.
    pub(crate) fn leave_out_some(&mut self) {
        self.calm.since_us = Some(self.now_us());
        let members = self.members();
        let damaged =
            self.seats.values().any(|seat| seat.refused || self.ledger.is_struck(seat.id));
        let minority = (members.len() as u64 - 1) / 2;
        // Who a minority is then depends on changes that may still be under way.
        let changing = 0 < self.counts.of(Fault::MembersChanged);
        if damaged || changing || minority == 0 || self.choices.below(2) == 0 {
            return;
        }
        let (count, how) = match self.choices.below(2) {
            0 => (self.choices.between(1, minority), LeftOut::CutOff),
            _ => (self.choices.between(1, minority), LeftOut::Down),
        };
        let first = self.choices.below(members.len() as u64) as usize;
        for place in 0..count as usize {
            let member = members[(first + place) % members.len()];
            self.note(format_args!("{member} is left out: {how:?}"));
            self.calm.left_out.insert(member, how);
            if how == LeftOut::Down {
                self.end(member, Death::PowerLost);
            }
        }
        self.cut_off_left_out();
    }

    /// Whoever is cut off stays so, also when a cut ends that was made before.
    pub(crate) fn cut_off_left_out(&mut self) {
        let members = self.members();
        for (member, how) in &self.calm.left_out {
            for other in members.iter().filter(|other| *how == LeftOut::CutOff && *other != member)
            {
                self.network.cut(*member, *other);
                self.network.cut(*other, *member);
            }
        }
    }

    /// Looks whether the members that are counted on have a leader.
    ///
    /// # Errors
    /// If that takes too long.
    pub fn look_for_leader(&mut self) -> Result<(), Violation> {
        let Some(since_us) = self.calm.since_us.filter(|_| self.calm.leader_after_us.is_none())
        else {
            return Ok(());
        };
        let now_us = self.now_us();
        let (mut leaders, mut followed) = (0, true);
        for member in self.standing_members() {
            let Some(running) = &self.seats[&member].running else {
                self.calm.since_us = Some(now_us);
                return Ok(());
            };
            let standing = running.member.status().standing;
            leaders += usize::from(standing.role == RoleKind::Leader);
            followed &= standing.leader.is_some();
        }
        let after_us = now_us - since_us;
        if leaders == 1 && followed {
            self.calm.leader_after_us = Some(after_us);
            return Ok(());
        }
        let after_max_us = LEADER_TIMEOUTS_MAX * self.options.member.election_timeout_us;
        if after_us <= after_max_us {
            return Ok(());
        }
        Err(Violation {
            invariant: "a connected majority has a leader within ten election timeouts",
            seen: format!("none after {after_us} us; members:\n{}", self.describe()),
        })
    }
}
