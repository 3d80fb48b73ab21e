//! Snapshots, cut logs and logs that rot, in the core world.
//!
//! Responsible for carrying a snapshot from a leader that was asked for one to the peer: made when it
//! is asked for, installed in the peer's state machine some time later, told to its module unless the
//! process ends in between, and told to the leader unless that has ended. A snapshot fails where a
//! message would be lost.

use jangada_raft::{Input, NodeId, Raft, Term};

use super::seat::Carried;
use super::{CoreWorld, Later, SOON_US};
use crate::faults::Fault;
use crate::invariants::Violation;

/// How long a snapshot takes, in microseconds: from a heartbeat to some elections.
const SNAPSHOT_US: (u64, u64) = (1_000, 3_000_000);

/// A member that has installed a snapshot ends before its module hears of it, once in so many times.
const ENDS_INSTALLED_ONE_IN: u64 = 8;

/// A snapshot on its way.
#[derive(Clone, Debug)]
pub(super) struct Transfer {
    from: NodeId,
    to: NodeId,
    /// The sender's life: nobody is told how it ended in another.
    life: u32,
    /// The sender's term.
    term: Term,
    carried: Carried,
}

impl CoreWorld {
    /// A leader is asked for a snapshot.
    pub(super) fn sends_snapshot(&mut self, from: NodeId, to: NodeId) {
        let term = self.raft(from).expect("it runs").term();
        let seat = self.seat(from);
        let (life, carried) = (seat.life, seat.snapshot());
        let transfer = Transfer { from, to, life, term, carried };
        let at_us = self.queue.now_us() + self.choices.between(SNAPSHOT_US.0, SNAPSHOT_US.1);
        self.queue.push(at_us, Later::Snapshot(transfer));
    }

    /// A snapshot has been carried to its receiver.
    pub(super) fn arrives(&mut self, transfer: Transfer) -> Result<(), Violation> {
        let Transfer { from, to, term, .. } = transfer;
        let now_us = self.queue.now_us();
        let paused_until_us = self.seat(to).paused_until_us;
        if now_us < paused_until_us {
            self.queue.push(paused_until_us, Later::Snapshot(transfer));
            return Ok(());
        }
        // A receiver whose disk does not hold the sender's term yet does not install anything.
        let takes = |raft: &Raft| term <= raft.term() && raft.is_hard_state_durable();
        let reached = !self.network.is_cut(from, to) && !self.network.is_cut(to, from);
        let is_installed = reached && self.raft(to).is_some_and(takes);
        let at_us = now_us + self.choices.between(SOON_US.0, SOON_US.1);
        let last = transfer.carried.last();
        let told = is_installed.then_some(last.index);
        self.queue.push(
            at_us,
            Later::SnapshotEnds { member: from, peer: to, life: transfer.life, last: told },
        );
        if !is_installed {
            return Ok(());
        }
        let (configuration, _) = self.held_by(from, transfer.carried.names(), last.index);
        self.seat(to).install(transfer.carried);
        if !self.is_calm && self.choices.below(ENDS_INSTALLED_ONE_IN) == 0 {
            let machine = self.choices.below(2) == 0;
            self.ends(to, machine);
            return Ok(());
        }
        self.takes(to, Input::SnapshotInstalled { last, configuration })
    }

    /// Some of a member's log may have rotted while its process was down. The others must be able to
    /// do without it until it has recovered.
    pub(super) fn may_rot(&mut self, member: NodeId) {
        // A member that is lost may be all that another membership has.
        if self.options.changes_per_minute != 0 {
            return;
        }
        let sound = |seat: &&super::Seat| seat.id != member && !seat.disk.is_recovering();
        let others = self.seats.iter().filter(sound).count();
        if others * 2 <= self.seats.len() {
            return;
        }
        let written = self.seat(member).disk.written();
        if written == 0 || !self.strikes(Fault::BitFlipped) {
            return;
        }
        let kept = self.choices.below(written);
        self.seat(member).disk.rots(kept);
    }
}
