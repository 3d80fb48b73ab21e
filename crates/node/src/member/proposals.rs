//! Commands of this member's clients, and those that other members forward.
//!
//! Responsible for: submitting, forwarding and holding commands, so that each is put into a log at
//! most once (member invariant 3), and telling clients what becomes of those that are not applied
//! here. Not responsible for: what is applied, see [`super::applying`].

use std::collections::BTreeMap;

use jangada_entry::{Draft, Kind, Origin};
use jangada_net::{ForwardRefusal, PeerMessage, Proposal};
use jangada_raft::{Input, NodeId, Position, Range, Refused, RoleKind, Term, canon};

use super::{Effect, Member, ProposeError};
use crate::machine::StateMachine;

/// A command on its way into the leader's log.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) draft: Draft,
    /// The member that forwarded it, if it is not this member's own.
    pub(super) from: Option<NodeId>,
    /// The term in which this member must lead for it, if it is for no other: then it is never
    /// forwarded and never held.
    pub(super) term: Option<Term>,
}

impl Submission {
    /// One of this member's own, for whoever leads.
    pub(super) fn own(draft: Draft) -> Submission {
        Submission { draft, from: None, term: None }
    }
}

/// The most bytes of entries that a leader holds in memory because they are not durable here or not
/// applied; beyond it proposals are refused as busy. Twice what may be uncommitted by default: a
/// disk or a machine that is behind by more will not catch up by itself.
pub(super) const UNSETTLED_BYTES_MAX: u64 = 128 << 20;

/// The most commands in one message to the leader, and the most that one message refuses; no more
/// than the codec takes.
const FORWARD_PROPOSALS_MAX: usize = 4096;
const _: () = assert!(FORWARD_PROPOSALS_MAX <= jangada_net::wire::PROPOSALS_MAX);

/// The most bytes of commands in one message to the leader, unless it is a single one. What a full
/// lane does not take is refused, so a message should be small against what a lane holds.
const FORWARD_BYTES_MAX: u64 = 1 << 20;

/// The times at which unanswered commands become doubtful are rounded up to multiples of this
/// (microseconds), so that a few dozen of them stand for all commands under way.
pub(super) const DEADLINE_STEP_US: u64 = 250_000;

fn proposal_of(draft: Draft) -> Proposal {
    let (kind, version, origin) = (draft.kind(), draft.version(), draft.origin());
    Proposal { kind, version, origin, payload: draft.into_payload() }
}

impl<M: StateMachine> Member<M> {
    pub(super) fn forwarded(&mut self, from: NodeId, proposals: Vec<Proposal>) {
        for Proposal { kind, version, origin, payload } in proposals {
            // Clients propose commands; what else an entry can be is the leader's business.
            if kind != Kind::Command {
                continue;
            }
            let mut buffer = Draft::buffer(payload.len());
            buffer.extend_from_slice(&payload);
            let draft = Draft::new(buffer, kind, version, self.group, origin);
            self.submissions.push(Submission { from: Some(from), ..Submission::own(draft) });
        }
    }

    /// Commands that were held because there was no leader are submitted before newer ones.
    pub(super) fn submit_held(&mut self) {
        if self.held.is_empty() || self.leader().is_none() {
            return;
        }
        self.held_bytes = 0;
        let held = self.held.drain(..).map(|(draft, _)| Submission::own(draft));
        self.submissions.splice(0..0, held);
    }

    /// Hands all commands that came in this step to the consensus module as one proposal.
    pub(super) fn submit(&mut self) {
        self.turn_away();
        self.drop_out_of_term();
        if self.submissions.is_empty() {
            return;
        }
        if self.is_mending() {
            return self.refuse(Refused::NotLeader(None));
        }
        let entries = self.submissions.len() as u64;
        let bytes = self.submissions.iter().map(|s| s.draft.frame_bytes() as u64).sum();
        // The others may commit while this member's own disk or machine lags behind.
        let unsettled_bytes_max = self.options.tail_bytes_max + UNSETTLED_BYTES_MAX;
        if self.raft.role() == RoleKind::Leader && unsettled_bytes_max < self.tail.bytes() {
            self.refuse(Refused::Busy);
            return;
        }
        self.input(Input::Propose { entries, bytes });
        self.incoming.clear();
        assert!(self.submissions.is_empty(), "every command was stamped or refused");
    }

    /// Refuses what this member cannot take at all, before the consensus module is asked.
    fn turn_away(&mut self) {
        let leads = self.raft.role() == RoleKind::Leader;
        let (reason, refusal) = if self.is_quarantined() {
            (ProposeError::Quarantined, ForwardRefusal::NotLeader)
        } else if leads && self.disk.is_full() {
            (ProposeError::NoSpace, ForwardRefusal::NoSpace)
        } else {
            return;
        };
        let mut refused_to: BTreeMap<(NodeId, u64), Vec<u64>> = BTreeMap::new();
        for submission in std::mem::take(&mut self.submissions) {
            let draft = &submission.draft;
            let essential = draft.kind() != Kind::Command
                || self.machine.is_essential(draft.version(), draft.payload());
            if !self.is_quarantined() && essential {
                self.submissions.push(submission);
                continue;
            }
            let Origin { incarnation: process, sequence } = draft.origin();
            match submission.from {
                Some(peer) => refused_to.entry((peer, process)).or_default().push(sequence),
                None => self.effects.push(Effect::Refuse { sequence, reason }),
            }
        }
        self.send_refusals(refused_to, refusal);
    }

    /// Refuses what is for a term in which this member does not lead.
    fn drop_out_of_term(&mut self) {
        let standing = self.raft.standing();
        let leads = |term: Term| standing.role == RoleKind::Leader && standing.term == term;
        let effects = &mut self.effects;
        self.submissions.retain(|submission| {
            let fits = submission.term.is_none_or(leads);
            if !fits {
                let sequence = submission.draft.origin().sequence;
                effects.push(Effect::Refuse { sequence, reason: ProposeError::NoLeader });
            }
            fits
        });
    }

    /// The commands of this step got their names.
    pub(super) fn stamp(&mut self, range: &Range) {
        let time_ms = self.cluster_time();
        let mut submissions = std::mem::take(&mut self.submissions);
        let mut index = range.prev.index;
        for Submission { draft, .. } in submissions.drain(..) {
            index = index.next();
            self.note_under_way(&draft);
            let term = range.term_at(index).expect("a name for every command");
            self.incoming.push(draft.stamp(Position { index, term }, time_ms));
        }
        assert!(index == range.last, "a command for every name");
        self.submissions = submissions;
    }

    pub(super) fn note_under_way(&mut self, draft: &Draft) {
        let origin = draft.origin();
        if origin.incarnation != self.process {
            return;
        }
        self.sequence_last = self.sequence_last.max(origin.sequence);
        let wait_us = self.now.monotonic_us + self.options.leader_wait_us;
        let at = wait_us.next_multiple_of(DEADLINE_STEP_US);
        match self.deadlines.back_mut() {
            Some((sequence_max, last_at)) if *last_at == at => *sequence_max = self.sequence_last,
            _ => self.deadlines.push_back((self.sequence_last, at)),
        }
    }

    /// The module did not take the commands of this step.
    pub(super) fn refuse(&mut self, refused: Refused) {
        let mut submissions = std::mem::take(&mut self.submissions);
        let (reason, refusal) = match refused {
            Refused::Busy => (ProposeError::Busy, ForwardRefusal::Busy),
            Refused::NotLeader(_) | Refused::HandingOver => {
                (ProposeError::NoLeader, ForwardRefusal::NotLeader)
            }
        };
        let mut refused_to: BTreeMap<(NodeId, u64), Vec<u64>> = BTreeMap::new();
        let mut forward = Vec::new();
        for Submission { draft, from, term } in submissions.drain(..) {
            // Nobody waits for a version; the next leader raises it.
            if draft.kind() == Kind::Version {
                continue;
            }
            let Origin { incarnation: process, sequence } = draft.origin();
            if term.is_some() {
                self.effects.push(Effect::Refuse { sequence, reason });
                continue;
            }
            match (from, refused) {
                // Forwarded once already: a second hop could put it into two logs' futures.
                (Some(peer), _) => refused_to.entry((peer, process)).or_default().push(sequence),
                (None, Refused::NotLeader(Some(_))) => {
                    self.note_under_way(&draft);
                    forward.push(proposal_of(draft));
                }
                // Within an election timeout there is a leader again.
                (None, Refused::NotLeader(None) | Refused::HandingOver) => self.hold(draft),
                (None, Refused::Busy) => self.effects.push(Effect::Refuse { sequence, reason }),
            }
        }
        self.submissions = submissions;
        if let Refused::NotLeader(Some(leader)) = refused {
            self.forward(leader, forward);
        }
        self.send_refusals(refused_to, refusal);
    }

    /// Tells those who forwarded commands which of them will not happen.
    fn send_refusals(
        &mut self,
        refused_to: BTreeMap<(NodeId, u64), Vec<u64>>,
        reason: ForwardRefusal,
    ) {
        for ((peer, process), sequences) in refused_to {
            for sequences in sequences.chunks(FORWARD_PROPOSALS_MAX) {
                let sequences = sequences.to_vec();
                self.send(peer, PeerMessage::ForwardRefused { process, sequences, reason });
            }
        }
    }

    /// Sends commands to the leader, in messages that a lane takes.
    pub(super) fn forward(&mut self, leader: NodeId, proposals: Vec<Proposal>) {
        #[cfg(feature = "canon")]
        self.remember(&proposals);
        let mut part = Vec::new();
        let mut bytes = 0;
        for proposal in proposals {
            let more = proposal.payload.len() as u64;
            let full = FORWARD_PROPOSALS_MAX <= part.len() || FORWARD_BYTES_MAX < bytes + more;
            if full && !part.is_empty() {
                self.send(leader, PeerMessage::Forward(std::mem::take(&mut part)));
                bytes = 0;
            }
            bytes += more;
            part.push(proposal);
        }
        if !part.is_empty() {
            self.send(leader, PeerMessage::Forward(part));
        }
    }

    pub(super) fn hold(&mut self, draft: Draft) {
        let bytes = draft.frame_bytes() as u64;
        if self.options.held_bytes_max < self.held_bytes + bytes {
            let sequence = draft.origin().sequence;
            self.effects.push(Effect::Refuse { sequence, reason: ProposeError::Busy });
            return;
        }
        self.held_bytes += bytes;
        self.held.push_back((draft, self.now.monotonic_us));
    }

    pub(super) fn doubt_if_leader(&mut self, peer: NodeId) {
        if self.leader() == Some(peer) {
            self.doubt();
            self.doubt_asks();
            self.consults_lost(peer);
            #[cfg(feature = "canon")]
            self.send_again();
        }
    }

    /// What is under way may be lost, or may yet be committed by the next leader: it gets one
    /// election timeout to show up in the log before its clients are told.
    pub(super) fn doubt(&mut self) {
        let sequence_max = self.sequence_last;
        if sequence_max == 0 || self.doubts.back().is_some_and(|(max, _)| *max == sequence_max) {
            return;
        }
        let at = self.now.monotonic_us + self.options.election_timeout_us;
        self.doubts.push_back((sequence_max, at));
    }

    pub(super) fn expire(&mut self) {
        let now_us = self.now.monotonic_us;
        let mut doubtful = 0;
        for queue in [&mut self.doubts, &mut self.deadlines] {
            while let Some((sequence_max, _)) = queue.front().filter(|(_, at)| *at <= now_us) {
                doubtful = doubtful.max(*sequence_max);
                queue.pop_front();
            }
        }
        if 0 < doubtful && !canon!(nobody_is_told_of_doubt) {
            self.effects.push(Effect::Doubt { sequence_max: doubtful });
        }
        let Some(before_us) = now_us.checked_sub(self.options.leader_wait_us) else { return };
        while self.held.front().is_some_and(|(_, since_us)| *since_us <= before_us) {
            let (draft, _) = self.held.pop_front().expect("there is a front");
            self.held_bytes -= draft.frame_bytes() as u64;
            let sequence = draft.origin().sequence;
            self.effects.push(Effect::Refuse { sequence, reason: ProposeError::NoLeader });
        }
        if !self.reads.is_idle() {
            self.reads.expired(before_us, &mut self.runnable);
            self.effects.extend(self.runnable.drain(..).map(Effect::ReadExpired));
        }
    }
}
