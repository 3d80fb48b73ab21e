//! Changes of the membership and transfers of leadership, in the core world.
//!
//! Responsible for asking for them, now and then, wherever a leader is believed to be, and for what
//! disks keep of configurations. A configuration is the content of an entry, and the entry's name
//! tells which: so they are kept once for the whole world, and a disk holds those whose entries its
//! log holds.

use jangada_raft::{CatchUp, Configuration, Index, Input, MemberChange, NodeId, Position};

use super::{CoreWorld, Later};
use crate::invariants::Violation;
use crate::specification::Name;
use crate::specification::names::Names;

/// A minute, in microseconds.
const MINUTE_US: u64 = 60_000_000;

/// The configuration at an entry, and those behind it by their indexes.
type Held = (Configuration, Vec<(Index, Configuration)>);

impl CoreWorld {
    /// Asks for the first of each, if any are wanted.
    pub(super) fn begins_changes(&mut self) {
        if self.options.changes_per_minute != 0 {
            self.asks_next(Later::Change, self.options.changes_per_minute);
        }
        if self.options.transfers_per_minute != 0 {
            self.asks_next(Later::HandOver, self.options.transfers_per_minute);
        }
    }

    /// A leader has made a configuration.
    pub(super) fn keeps(&mut self, position: Position, configuration: Configuration) {
        self.configured.insert(Name::from(position), configuration);
    }

    /// What a member's log says of configurations up to `start`, and behind it.
    pub(super) fn held_by(&self, member: NodeId, log: &Names, start: Index) -> Held {
        let held = self.configured.iter().filter(|(name, _)| log.holds(**name));
        let (before, behind): (Vec<_>, Vec<_>) = held.partition(|(name, _)| name.index <= start);
        let first = || match member.0 <= self.options.members {
            true => self.configuration.clone(),
            false => Configuration::default(),
        };
        let at_start = before.last().map_or_else(first, |(_, newest)| (*newest).clone());
        let behind = behind.into_iter().map(|(name, members)| (name.index, members.clone()));
        (at_start, behind.collect())
    }

    /// Another membership is wanted: any, of all that there are.
    pub(super) fn changes(&mut self) -> Result<(), Violation> {
        if self.is_calm {
            return Ok(());
        }
        self.asks_next(Later::Change, self.options.changes_per_minute);
        let mut wanted = MemberChange::default();
        for member in self.members() {
            match self.choices.below(8) {
                0..=4 => wanted.voters.push(member),
                5 => wanted.learners.push(member),
                _ => {}
            }
        }
        wanted.catch_up = match self.choices.below(2) {
            0 => CatchUp::First,
            _ => CatchUp::Skip,
        };
        self.takes(self.believed, Input::ChangeMembers(wanted))
    }

    /// Leadership is to go elsewhere, or somebody gives its leader up.
    pub(super) fn hands_over(&mut self) -> Result<(), Violation> {
        if self.is_calm {
            return Ok(());
        }
        self.asks_next(Later::HandOver, self.options.transfers_per_minute);
        let anyone = NodeId(1 + self.choices.below(self.seats.len() as u64));
        match self.choices.below(8) {
            0 => self.takes(anyone, Input::ForgetLeader),
            1 => self.takes(anyone, Input::StepDown),
            2..=4 => self.takes(self.believed, Input::TransferLeadership { to: None }),
            _ => self.takes(self.believed, Input::TransferLeadership { to: Some(anyone) }),
        }
    }

    /// The leader of the latest term, and those that follow it by its configuration.
    pub(super) fn newest(&self) -> Option<(&jangada_raft::Raft, &Configuration)> {
        let rafts = self.seats.iter().filter_map(|seat| seat.raft.as_ref());
        let leaders = rafts.filter(|raft| raft.role() == jangada_raft::RoleKind::Leader);
        let leader = leaders.max_by_key(|raft| raft.term())?;
        Some((leader, leader.configuration()))
    }

    fn asks_next(&mut self, next: Later, per_minute: u64) {
        let gap_us = self.choices.between(0, 2 * MINUTE_US / per_minute);
        self.queue.push(self.queue.now_us() + gap_us, next);
    }
}
