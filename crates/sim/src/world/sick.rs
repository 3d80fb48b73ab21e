//! Sick machines: disks that stall until their process gives up, and state machines that err.
//!
//! Responsible for bringing them about, and for judging what members do about them: whatever a healthy
//! member must never do, it must not do here, and what a sick one owes the others, it has to do.
//!
//! 1. A process ends itself for its disk's sake only while the world stalls that disk, and has for
//!    long enough; and it does end itself then. A leader has left its place long before.
//! 2. A member is quarantined only when its machine has erred, and whoever finds the members split
//!    finds it of one whose machine has.
//! 3. What a machine that has erred answers counts for nothing until its state is what the others'
//!    is, which its hash shows; a member in quarantine gives nobody its state.
//! 4. In the end no machine that counts is left astray.

use std::collections::BTreeMap;

use jangada::{Quarantine, SnapshotWork, Snapshots, StateMachine};
use jangada_raft::{Index, NodeId, RoleKind};

use crate::application::{Application, let_err};
use crate::faults::Fault;
use crate::invariants::Violation;
use crate::run::panics::Panic;
use crate::run::timeline::Who;
use crate::world::seat::Upset;
use crate::world::{Death, Later, SYNC_SLOW_US, World};

/// What a store says that cannot read a row of its engine while it applies a command.
const UNREADABLE: &str = "the engine cannot be read while a command is applied";

/// How long a disk stalls at least, in microseconds: most of an election timeout.
const STALL_US_MIN: u64 = 500_000;

/// How long a disk stalls beyond what its process waits for at most, in microseconds.
const STALL_BEYOND_US: u64 = 4_000_000;

/// The most that a member's account of a stall and the world's may differ, in microseconds: twice the
/// most that a member counts between two of its steps, and what the world takes to step it.
const ACCOUNT_US: u64 = 2_200_000;

/// After how long somebody starts a process anew whose machine is built from its log alone and has
/// erred, in microseconds.
const ANEW_US: (u64, u64) = (10_000, 4_000_000);

/// What holds up a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stall {
    /// What it counts as.
    pub(crate) fault: Fault,
    /// Whether it has held up anything.
    pub(crate) felt: bool,
    /// Since when it lasts.
    pub(crate) since_us: u64,
    pub(crate) until_us: u64,
}

/// A write of the log that is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WriteUnderWay {
    /// When it began.
    pub(crate) since_us: u64,
    /// The same by the member's clock.
    pub(crate) shown_us: u64,
    /// Whether the member led.
    pub(crate) led: bool,
}

impl<A: Application> World<A> {
    /// Draws whether a member falls sick.
    pub(crate) fn sickens(&mut self, member: NodeId) {
        if self.draws(Fault::DiskStalled) {
            let patience_us = self.options.member.stall_abort_us;
            let longest_us = patience_us.saturating_add(STALL_BEYOND_US);
            let lasts_us = self.choices.between(STALL_US_MIN, longest_us);
            self.stall(member, Fault::DiskStalled, lasts_us);
        }
        if self.draws(Fault::MachineErred) && self.may_strike(member) {
            let seat = &self.seats[&member];
            if let Some(running) = seat.running.as_ref().filter(|_| !seat.refused) {
                let_err(&running.seen, true);
                self.ledger.may_err(member);
            }
        }
    }

    /// A member's disk completes no sync for so long.
    pub(crate) fn stall(&mut self, member: NodeId, fault: Fault, lasts_us: u64) {
        let since_us = self.now_us();
        let until_us = since_us + lasts_us;
        self.note(format_args!("{member}'s disk hangs until {until_us}"));
        let seconds = until_us as f64 / 1e6;
        let what = format_args!("has a disk that hangs until {seconds:.3} s");
        self.tell(Who::Member(member), what);
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        // One that begins while another lasts goes on with it.
        let before = seat.stall.filter(|stall| since_us < stall.until_us);
        let since_us = before.map_or(since_us, |stall| stall.since_us);
        seat.stall = Some(Stall { fault, felt: false, since_us, until_us });
    }

    /// A stalled disk holds up a write of the log: what the member owes the others meanwhile
    /// (sick invariant 1).
    pub(crate) fn look_at_stalled(&mut self, member: NodeId) -> Result<(), Violation> {
        let now_us = self.now_us();
        let timeout_us = self.options.member.election_timeout_us;
        let patience_us = self.options.member.stall_abort_us;
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        let (Some(running), Some(write)) = (&seat.running, &mut seat.write) else { return Ok(()) };
        let status = running.member.status();
        // A process that stands still can do nothing, and want of space is no stall.
        let since_us = write.since_us.max(seat.paused_until_us);
        if status.log_full {
            write.since_us = now_us;
            write.shown_us = seat.clocks.now(now_us).monotonic_us;
        }
        let lasts_us = now_us.saturating_sub(since_us.max(write.since_us));
        let leads = status.standing.role == RoleKind::Leader;
        if write.led && !leads {
            write.led = false;
            self.operator.deeds.stalled_leaders += 1;
        }
        let seen = |what: &str| format!("member {member} {what} after {lasts_us} us in one write");
        if leads && 2 * timeout_us + ACCOUNT_US < lasts_us {
            return Err(Violation {
                invariant: "a leader whose disk stalls leads no more",
                seen: seen("leads"),
            });
        }
        if patience_us + patience_us / 10 + ACCOUNT_US < lasts_us {
            return Err(Violation {
                invariant: "no process waits for its disk for ever",
                seen: seen("lives on"),
            });
        }
        Ok(())
    }

    /// A process ends itself because its disk has stalled (sick invariant 1).
    pub(crate) fn aborts(&mut self, member: NodeId, stalled_us: u64) -> Result<(), Violation> {
        let now_us = self.now_us();
        let seat = &self.seats[&member];
        let shown_us = seat.clocks.now(now_us).monotonic_us;
        let stalls = seat.stall.filter(|stall| {
            // What ends while the process stands still is seen to end afterwards.
            let unseen = seat.paused_since_us <= stall.until_us;
            let seen_us = stall.until_us.max(if unseen { seat.paused_until_us } else { 0 });
            now_us <= seen_us + ACCOUNT_US
        });
        let excused = stalls.zip(seat.write).is_some_and(|(stall, write)| {
            // What a pause or a slow sync takes comes before.
            let before_us = write.since_us.max(seat.paused_until_us) + SYNC_SLOW_US.1;
            let most_is_of_the_stall = stall.since_us <= before_us;
            most_is_of_the_stall && stalled_us <= shown_us - write.shown_us + ACCOUNT_US
        });
        let long_enough = self.options.member.stall_abort_us <= stalled_us;
        if excused && long_enough {
            self.tell(Who::Member(member), format_args!("gives its disk up"));
            self.operator.deeds.aborted += 1;
            let death = match self.choices.below(2) {
                0 => Death::Killed,
                _ => Death::PowerLost,
            };
            self.end(member, death);
            return Ok(());
        }
        Err(Violation {
            invariant: "a process gives up its disk only when that stalls",
            seen: format!(
                "member {member} stops after {stalled_us} us in one write; the world knows of the \
                 stall {:?} and the write {:?} at {now_us}",
                seat.stall, seat.write
            ),
        })
    }

    /// A process stops because what it must read to apply a command is lost, as it says: it would do so
    /// again each time.
    pub(crate) fn stops_for_good(&mut self, member: NodeId, panic: Panic) -> Result<(), Violation> {
        if !panic.said.starts_with(UNREADABLE) {
            panic.goes_on();
        }
        self.tell(Who::Member(member), format_args!("stops for good: {}", panic.said));
        self.ledger.stops(member, &Upset::Start(panic.said))?;
        self.invariants.damaged(member);
        self.seats.get_mut(&member).expect("there is such a member").refused = true;
        self.end(member, Death::Killed);
        Ok(())
    }

    /// A member's machine has mistaken a command.
    pub(crate) fn goes_astray(&mut self, member: NodeId) {
        self.counts.count(Fault::MachineErred);
        self.note(format_args!("{member}'s machine errs"));
        self.tell(Who::Member(member), format_args!("mistakes a command for another"));
        self.ledger.goes_astray(member);
    }

    /// Whether a member's state is not what the log says, or may not be (sick invariant 3).
    #[must_use]
    pub fn is_astray(&self, member: NodeId) -> bool {
        self.ledger.is_astray(member)
    }

    /// A member has found its way back: it holds the hash of those that never erred, and knows it. One that
    /// is still set aside does not vote, whatever it holds.
    pub(crate) fn comes_back(&mut self, member: NodeId) {
        self.tell(Who::Member(member), format_args!("holds what the others hold again"));
        self.note(format_args!("{member} is not astray any more"));
        self.operator.deeds.brought_back += 1;
        self.ledger.comes_back(member);
    }

    /// A member serves nobody any more because its state is not what a majority has
    /// (sick invariant 2).
    pub(crate) fn quarantined(
        &mut self,
        member: NodeId,
        quarantine: Quarantine,
    ) -> Result<(), Violation> {
        if !self.is_astray(member) {
            return Err(Violation {
                invariant: "members that have applied the same hold the same hash",
                seen: format!("{member} is quarantined: {quarantine:?}"),
            });
        }
        self.operator.deeds.quarantined += 1;
        self.tell(Who::Member(member), format_args!("is quarantined"));
        let seat = &self.seats[&member];
        let machine = seat.running.as_ref().map(|running| running.member.machine().snapshots());
        if machine == Some(Snapshots::None) {
            let after_us = self.choices.between(ANEW_US.0, ANEW_US.1);
            let life = self.seats[&member].life;
            self.queue.push(self.now_us() + after_us, Later::Anew { member, life });
        }
        Ok(())
    }

    /// A leader finds the members split (sick invariant 2).
    pub(crate) fn hashes_differ(
        &self,
        index: Index,
        hashes: &BTreeMap<NodeId, u64>,
    ) -> Result<(), Violation> {
        let sound = hashes.iter().filter(|(member, _)| !self.ledger.has_erred(**member));
        let mut sound = sound.map(|(_, hash)| hash);
        let first = sound.next();
        let differ = sound.any(|hash| Some(hash) != first);
        if !differ && hashes.keys().any(|member| self.ledger.has_erred(*member)) {
            return Ok(());
        }
        Err(Violation {
            invariant: "members that have applied the same hold the same hash",
            seen: format!("at {index}: {hashes:?}"),
        })
    }

    /// A member that is astray works at a snapshot. Before anybody knows that it is, it may give its
    /// state to another one, and then a majority may hold what is wrong: more than a minority is not
    /// promised to be found, so its process ends before.
    pub(crate) fn works_astray(
        &mut self,
        member: NodeId,
        work: &SnapshotWork,
    ) -> Result<(), Violation> {
        let (peer, _, what) = work.name();
        if what != "read" || !self.is_astray(member) {
            return Ok(());
        }
        let seat = &self.seats[&member];
        let quarantine = seat.running.as_ref().and_then(|running| running.member.quarantine());
        if quarantine.is_some() {
            return Err(Violation {
                invariant: "a member in quarantine gives nobody its state",
                seen: format!("{member} reads a snapshot for {peer}"),
            });
        }
        self.tell(Who::Member(member), format_args!("would give {peer} its state"));
        self.end(member, Death::Killed);
        Ok(())
    }
}
