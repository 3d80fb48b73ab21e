//! Members that run different versions of the program.
//!
//! Responsible for which version a process runs, and for carrying what its member says in bytes of
//! the version that both ends speak. Each process that starts may be of another version than the one
//! before it, newer or older: a rolling upgrade, and the way back. Not responsible for what the
//! versions differ in.
//!
//! 1. A message travels in the newest version that both ends speak.
//! 2. A process that is too old for its cluster does not start; a newer one does.

use jangada_net::PeerMessage;
use jangada_net::wire::{decode_as, encode_as};
use jangada_raft::NodeId;

use crate::application::Application;
use crate::run::timeline::Who;
use crate::world::{Later, World};

/// A version of the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Program {
    /// The newest version of the wire format that it speaks.
    pub wire: u16,
    /// The highest feature level that it speaks.
    pub level: u16,
}

impl<A: Application> World<A> {
    /// Draws the version of a process that starts.
    pub(crate) fn draw_program(&mut self, member: NodeId) {
        if self.options.programs.is_empty() {
            return;
        }
        let program = *self.choices.pick(&self.options.programs);
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        self.operator.deeds.upgrades += u64::from(seat.program.wire < program.wire);
        self.operator.deeds.downgrades += u64::from(program.wire < seat.program.wire);
        seat.program = program;
    }

    /// The process was too old for the cluster; somebody starts a newer one.
    pub(crate) fn starts_newer(&mut self, member: NodeId) {
        self.operator.deeds.too_old += 1;
        self.tell(Who::Member(member), format_args!("is too old for the cluster"));
        self.seats[&member].disk.kill_process();
        self.queue.push(self.now_us(), Later::Start(member));
    }

    /// What arrives of a message: the same, through the bytes of the version that both ends speak.
    pub(crate) fn carried(&self, from: NodeId, to: NodeId, message: PeerMessage) -> PeerMessage {
        if self.options.programs.is_empty() {
            return message;
        }
        let wire = |member: NodeId| self.seats.get(&member).map_or(0, |seat| seat.program.wire);
        let version = wire(from).min(wire(to)).max(1);
        let bytes = encode_as(version, 0, &message).expect("what a member says can be sent");
        decode_as(version, 0, bytes).expect("what is sent can be read")
    }
}
