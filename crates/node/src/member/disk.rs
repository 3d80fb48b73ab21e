//! A sick disk: a write of the log that does not end, or for which there is no space.
//!
//! A leader whose disk has stalled looks healthy to everyone, for heartbeats go another way, and
//! serves nobody (hashicorp/raft #503, #612, #614, #666). So the age of the oldest unfinished write is
//! known here: after one election timeout a leader hands over, after two it steps down, and while it
//! lasts the member does not stand for election; after [`Options::stall_abort_us`] the process stops,
//! for whoever starts it again may have more luck, and a process that hangs helps nobody.
//!
//! Want of space is not a failure: the log says so early, while it has a reserve. Until there is space
//! again a leader refuses proposals, save those that the state machine calls essential
//! ([`StateMachine::is_essential`](crate::StateMachine::is_essential)); no-ops and configurations pass
//! in any case. A leader that runs short hands over once, to whoever has most of the log; if that one
//! is short as well, it stays where it is.
//!
//! [`Options::stall_abort_us`]: crate::Options::stall_abort_us

use jangada_raft::{Input, RoleKind};

use super::keeping::CUT_INTERVAL_US;
use super::{Effect, Member};
use crate::machine::StateMachine;

/// The most time that counts as a stall between two steps (microseconds). The member is stepped at
/// least so often; if more time has passed, it was the process that stood still, and the completion
/// may be waiting to be told.
const STEP_US_MAX: u64 = CUT_INTERVAL_US;

/// What has been done about a stall.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
enum Done {
    #[default]
    Nothing,
    HandedOver,
    SteppedDown,
    Aborted,
}

/// What the member knows of its log's disk.
#[derive(Debug, Default)]
pub(super) struct DiskWatch {
    /// When the age was brought up to date last.
    looked_us: u64,
    /// For how long the oldest unfinished write has been under way, as far as the process was.
    stalled_us: u64,
    done: Done,
    is_full: bool,
    /// Since when the log has wanted space while this member led, until it has handed over for it.
    full_leader_us: Option<u64>,
}

impl DiskWatch {
    pub(super) fn new(now_us: u64) -> DiskWatch {
        DiskWatch { looked_us: now_us, ..DiskWatch::default() }
    }

    /// A write is done: the disk moves.
    pub(super) fn progressed(&mut self) {
        self.stalled_us = 0;
        self.done = Done::Nothing;
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    pub(super) fn stalled_us(&self) -> u64 {
        self.stalled_us
    }
}

impl<M: StateMachine> Member<M> {
    /// Whether the disk has stalled for so long that this member should not lead.
    pub(super) fn is_stalled(&self) -> bool {
        self.options.election_timeout_us <= self.disk.stalled_us
    }

    /// The log wants space, or has it again.
    pub(super) fn log_space(&mut self, is_full: bool) {
        let leads = self.raft.role() == RoleKind::Leader;
        if is_full && !self.disk.is_full && leads {
            self.disk.full_leader_us = Some(self.now.monotonic_us);
        }
        if !is_full {
            self.disk.full_leader_us = None;
        }
        self.disk.is_full = is_full;
        // A log that waits for space says so; its disk is not stuck.
        self.disk.progressed();
    }

    /// Looks how long the oldest write has been under way, and does about it what is due.
    pub(super) fn tend_disk(&mut self) {
        let now_us = self.now.monotonic_us;
        let since_us = now_us - std::mem::replace(&mut self.disk.looked_us, now_us);
        if !self.writer.is_writing() || self.disk.is_full {
            self.disk.progressed();
        } else {
            self.disk.stalled_us += since_us.min(STEP_US_MAX);
        }
        let timeout_us = self.options.election_timeout_us;
        let leads = self.raft.role() == RoleKind::Leader;
        if timeout_us <= self.disk.stalled_us && self.disk.done < Done::HandedOver && leads {
            self.disk.done = Done::HandedOver;
            self.input(Input::TransferLeadership { to: None });
        }
        if 2 * timeout_us <= self.disk.stalled_us && self.disk.done < Done::SteppedDown && leads {
            self.disk.done = Done::SteppedDown;
            self.input(Input::StepDown);
        }
        let abort_us = self.options.stall_abort_us;
        if abort_us <= self.disk.stalled_us && self.disk.done < Done::Aborted {
            self.disk.done = Done::Aborted;
            self.effects.push(Effect::Abort { stalled_us: self.disk.stalled_us });
        }
        let is_due = |since_us: &mut u64| *since_us + timeout_us <= now_us;
        if self.disk.full_leader_us.take_if(is_due).is_some() && leads {
            self.input(Input::TransferLeadership { to: None });
        }
    }

    /// When there is something to look at next, in microseconds of the monotonic clock.
    pub(super) fn disk_next_us(&self) -> Option<u64> {
        let timeout_us = self.options.election_timeout_us;
        let full = self.disk.full_leader_us.map(|since_us| since_us + timeout_us);
        let limits = [timeout_us, 2 * timeout_us, self.options.stall_abort_us];
        let stalled_us = self.disk.stalled_us;
        let next = limits.into_iter().filter(|limit| stalled_us < *limit).min();
        let stall = next.filter(|_| self.writer.is_writing() && !self.disk.is_full);
        let stall = stall.map(|limit| self.disk.looked_us + (limit - stalled_us).min(STEP_US_MAX));
        full.into_iter().chain(stall).min()
    }
}
