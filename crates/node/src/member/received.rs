//! What peers say, and who they show themselves to be.
//!
//! Responsible for: member invariant 4, and for handing each message to the part it is for.

use jangada_net::{ForwardRefusal, PeerMessage};
use jangada_raft::{Input, Message, NodeId, canon};

use super::asks::Asker as Asking;
use super::consults::Consulter;
use super::reads::Asker;
use super::{Effect, Member, ProposeError, Ticket};
use crate::machine::StateMachine;
use crate::record::members_of;

/// The most messages kept of a peer while the note of its incarnation is being written. A handful
/// come in the milliseconds that takes; what is beyond is repeated by the protocol.
pub(super) const UNMET_MESSAGES_MAX: usize = 256;

/// The most peers that are remembered, beyond those in the configuration: all that a cluster goes
/// through while one member lags.
pub(super) const ACQUAINTANCES_MAX: usize = 512;

impl<M: StateMachine> Member<M> {
    /// A peer is counted only under the incarnation it was first met under (member invariant 4).
    pub(super) fn hello(&mut self, peer: NodeId, incarnation: u64) {
        match self.acquaintances.of(peer) {
            Some(met) if met == incarnation => {
                self.strangers.remove(&peer);
            }
            Some(met) => {
                if self.strangers.insert(peer) {
                    self.effects.push(Effect::Stranger { peer, met, shown: incarnation });
                }
            }
            // Whoever it is, it is no member that this one has heard of, and there are too many.
            None if ACQUAINTANCES_MAX <= self.acquaintances.iter().count()
                && !members_of(self.raft.configuration()).any(|member| member == peer) => {}
            None => {
                self.acquaintances.meet(peer, incarnation);
                self.unmet.insert(peer, Vec::new());
                self.queue_notes();
            }
        }
    }

    pub(super) fn received(&mut self, from: NodeId, message: PeerMessage) {
        if self.strangers.contains(&from) || self.acquaintances.of(from).is_none() {
            return;
        }
        if let Some(kept) = self.unmet.get_mut(&from) {
            if kept.len() < UNMET_MESSAGES_MAX {
                kept.push(message);
            }
            return;
        }
        if self.is_for_a_leader_to_be(&message) && !self.may_lead() {
            return;
        }
        if let PeerMessage::Raft(Message::Heartbeat(_)) | PeerMessage::Append { .. } = message {
            self.hears_leader(from);
        }
        match message {
            PeerMessage::HashQuestion { index } => self.hash_asked(from, index),
            PeerMessage::HashAnswer { index, hash } => self.hash_answered(from, index, hash),
            PeerMessage::HashDiffers { index, hash } => self.hash_differs(from, index, hash),
            PeerMessage::Raft(message) => self.input(Input::Receive { from, message }),
            PeerMessage::Append { request, frames } => {
                self.incoming = frames;
                self.input(Input::Receive { from, message: Message::AppendRequest(request) });
                self.incoming.clear();
            }
            PeerMessage::Forward(proposals) => self.forwarded(from, proposals),
            // For an earlier process of this member, which numbered other proposals alike.
            PeerMessage::ForwardRefused { process, .. }
                if process != self.process && !canon!(refusal_for_an_earlier_life_is_taken) => {}
            PeerMessage::ForwardRefused { sequences, reason, .. } => {
                let reason = match reason {
                    ForwardRefusal::NotLeader => ProposeError::NoLeader,
                    ForwardRefusal::Busy => ProposeError::Busy,
                    ForwardRefusal::NoSpace => ProposeError::NoSpace,
                };
                for sequence in sequences {
                    self.effects.push(Effect::Refuse { sequence, reason });
                }
            }
            PeerMessage::ReadIndexRequest { number } => {
                self.read_for(Asker::Peer { peer: from, number });
            }
            PeerMessage::ReadIndexResponse { number, index } => {
                self.reads.answered(number, index);
            }
            PeerMessage::Snapshot(message) => self.snapshot_message(from, message),
            PeerMessage::FramesRequest { first, last } => self.frames_wanted(from, first, last),
            PeerMessage::FramesResponse { first, begins, frames } => {
                self.frames_came(from, first, begins, frames);
            }
            PeerMessage::Ask { process, number, ask } => {
                self.ask_arrived(Asking::Peer { peer: from, process, number }, ask);
            }
            PeerMessage::Answer { process, .. } if process != self.process => {}
            PeerMessage::Answer { number, answer, .. } => {
                self.ask_answered(Ticket(number), answer);
            }
            PeerMessage::Consult { process, number, bytes } => {
                self.consulted(Consulter::Peer { peer: from, process, number }, bytes);
            }
            PeerMessage::Counsel { process, .. } if process != self.process => {}
            PeerMessage::Counsel { number, outcome, .. } => {
                self.counsel_came(Ticket(number), outcome);
            }
        }
    }

    /// What a member that may not lead leaves alone: to be asked to stand, and, while its state is not
    /// to be trusted, to be asked for its vote.
    fn is_for_a_leader_to_be(&self, message: &PeerMessage) -> bool {
        match message {
            PeerMessage::Raft(Message::TimeoutNow(_)) => true,
            PeerMessage::Raft(Message::VoteRequest(_) | Message::PreVoteRequest(_)) => {
                self.is_quarantined()
            }
            _ => false,
        }
    }
}
