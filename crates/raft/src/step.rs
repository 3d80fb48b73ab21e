//! The step: one input in, outputs appended.
//!
//! Responsible for the rules that figure 2 gives "all servers", for which role takes which message,
//! and for nothing that an arm does. Reading order: [`Raft::step`], `receive`, `receive_in_term`.

use crate::contract::{
    AppendOutcome, AppendResponse, HeartbeatResponse, Index, Input, Message, NodeId, Output,
    Position, PreVoteResponse, ReadRound, RoleKind, Term, Timer, VoteResponse,
};
use crate::invariants;
use crate::raft::Raft;
use crate::role::Role;

impl Raft {
    /// Takes one input, and appends to `out` what is to be done about it, in order. The caller
    /// empties and reuses the vector, so that a steady state allocates nothing.
    ///
    /// # Panics
    /// When an invariant is broken, with its number or name: by a driver that breaks the contract,
    /// by a peer that does, or by a fault of this module. Going on would risk committed entries.
    pub fn step(&mut self, input: Input, out: &mut Vec<Output>) {
        if self.restarted.take_start() {
            self.restart(Timer::Election, out);
        }
        let is_report = matches!(input, Input::Sent { .. });
        match input {
            Input::Timer(timer) => self.fire(timer, out),
            Input::Receive { from, message } => self.receive(from, message, out),
            Input::Persisted { write, last } => self.persisted(write, last, out),
            Input::Propose { entries, bytes } => self.propose(entries, bytes, out),
            Input::Read => self.read(out),
            Input::Sent { peer, last, bytes } => self.sent(peer, last, bytes),
            Input::Unreachable(peer) => self.unreachable(peer),
            Input::PeerDown(peer) => self.peer_down(peer, out),
            Input::PeerUp(peer) => self.peer_up(peer, out),
            Input::ChangeMembers(wanted) => self.change_members(&wanted, out),
            Input::TransferLeadership { to } => self.transfer_leadership(to, out),
            Input::ForgetLeader => self.forget_leader(out),
            Input::StepDown => self.step_down(out),
            Input::SnapshotDelivered { peer, last } => self.snapshot_delivered(peer, last),
            Input::SnapshotFailed(peer) => self.snapshot_failed(peer),
            Input::SnapshotInstalled { last, configuration } => {
                self.snapshot_installed(last, configuration, out);
            }
            Input::Flush => self.flush(out),
        }
        self.finish_recovery(out);
        // A report of what was sent is answered by nothing; a flush follows it.
        if !is_report {
            self.advance_membership(out);
        }
        // Whatever changed the term or the vote is written, though nobody waits for it.
        self.write_hard_state(out);
        invariants::assert_cheap(self);
    }

    fn fire(&mut self, timer: Timer, out: &mut Vec<Output>) {
        self.restarted.remove(timer);
        match timer {
            Timer::Heartbeat => self.heartbeat(out),
            Timer::QuorumCheck => self.check_quorum(out),
            Timer::Quiet => self.fall_quiet(),
            Timer::Election => self.election_timeout(out),
            Timer::ElectionSoon => self.hasty_election_timeout(out),
            Timer::Transfer => self.give_transfer_up(out),
        }
    }

    fn flush(&mut self, out: &mut Vec<Output>) {
        self.restarted.clear();
        match self.role {
            Role::Follower(_) => self.flush_acknowledgement(out),
            Role::Leader(_) => {
                self.flush_reads(out);
                self.flush_grants(out);
                self.flush_transfer(out);
            }
            Role::PreCandidate(_) | Role::Candidate(_) => {} // They hold nothing back.
        }
    }

    /// Figure 2, "all servers": a higher term makes a follower, a lower one is refused.
    ///
    /// Three messages are looked at before that rule: both that concern pre-votes, which speak of a
    /// term that nobody is in, and requests for a vote that is withheld. No vote is withheld from whom
    /// the leader itself has asked to stand (thesis §3.10).
    fn receive(&mut self, from: NodeId, message: Message, out: &mut Vec<Output>) {
        assert!(from != self.id, "a member sends nothing to itself");
        match &message {
            // A pre-vote asks about a term that nobody is in yet, so it moves no one's term, and
            // neither does the leave to stand for it (thesis §9.6).
            Message::PreVoteRequest(request) => return self.answer_pre_vote(from, request, out),
            Message::PreVoteResponse(PreVoteResponse { term, granted: true }) => {
                return self.count_pre_vote(from, *term, out);
            }
            // Not even the term is taken over while a leader is heard from: otherwise a member that
            // was cut off or removed would unseat it (thesis §4.2.3).
            Message::VoteRequest(request)
                if self.term() < request.term && !request.transfer && self.withholds_votes() =>
            {
                mark!(stickiness_withholds_vote);
                return;
            }
            _ => {}
        }
        let term = term_of(&message);
        if term < self.term() {
            return self.refuse_older_term(from, &message, out);
        }
        if self.term() < term {
            self.follow_higher_term(from, term, &message, out);
        }
        self.receive_in_term(from, message, out);
    }

    /// Takes over a higher term, and its leader where the message is from one. A hasty campaign is
    /// carried over: whoever refuses it with a higher term only says where to stand next.
    fn follow_higher_term(
        &mut self,
        from: NodeId,
        term: Term,
        message: &Message,
        out: &mut Vec<Output>,
    ) {
        let is_refusal = matches!(message, Message::PreVoteResponse(_) | Message::VoteResponse(_));
        let haste = self.haste().filter(|_| is_refusal);
        let is_leader = matches!(
            message,
            Message::AppendRequest(_) | Message::Heartbeat(_) | Message::TimeoutNow(_)
        );
        self.become_follower(term, is_leader.then_some(from), out);
        if let Some(haste) = haste {
            self.carry_haste(haste, out);
        }
    }

    /// What each role does with each message of its own term. Where an arm ignores, it says why.
    ///
    /// | | follower | pre-candidate | candidate | leader |
    /// |---|---|---|---|---|
    /// | `PreVoteRequest` | answers | answers | answers | refuses |
    /// | `PreVoteResponse` | late | counts | late | late |
    /// | `VoteRequest` | votes | votes | refuses | refuses |
    /// | `VoteResponse` | late | late | counts | late |
    /// | `AppendRequest` | takes | follows | follows | forbidden |
    /// | `AppendResponse` | late | late | late | counts |
    /// | `Heartbeat` | answers | follows | follows | forbidden |
    /// | `HeartbeatResponse` | late | late | late | counts |
    /// | `TimeoutNow` | stands | stands | stands already | forbidden |
    fn receive_in_term(&mut self, from: NodeId, message: Message, out: &mut Vec<Output>) {
        assert!(!is_forbidden(self.role(), &message), "election safety: a second leader of a term");
        if let Message::AppendResponse(AppendResponse { recovering, .. })
        | Message::HeartbeatResponse(HeartbeatResponse { recovering, .. }) = &message
            && !self.is_of_this_life(from, *recovering)
        {
            mark!(answer_of_a_former_life_ignored);
            return;
        }
        match (&self.role, message) {
            (_, Message::VoteRequest(request)) => self.answer_vote(from, &request, out),

            (Role::Follower(_), Message::AppendRequest(request)) => {
                self.hear_append(from, out);
                self.follow_append(from, request, out);
            }
            (Role::Follower(_), Message::Heartbeat(heartbeat)) => {
                self.hear_leader(from, out);
                self.follow_heartbeat(from, &heartbeat, out);
            }

            // What the suspected leader's process had sent before it went is no sign of life. One is
            // a heartbeat, on the lane whose loss was the reason, or `PeerUp`.
            (Role::PreCandidate(campaign), Message::AppendRequest(_))
                if campaign.haste.is_some_and(|haste| haste.suspects(from, self.term())) =>
            {
                mark!(append_from_suspect_ignored);
            }
            (
                Role::PreCandidate(_) | Role::Candidate(_),
                message @ (Message::AppendRequest(_) | Message::Heartbeat(_)),
            ) => {
                // §5.2: someone else has won this term, or still holds it.
                self.become_follower(self.term(), Some(from), out);
                self.receive_in_term(from, message, out);
            }

            (Role::PreCandidate(_), Message::PreVoteResponse(_)) => self.count_refusal(from, out),
            // Late: the campaign that asked is over, won or lost.
            (_, Message::PreVoteResponse(_)) => mark!(late_prevote_ignored),

            (Role::Candidate(_), Message::VoteResponse(VoteResponse { granted: true, .. })) => {
                self.count_vote(from, out);
            }
            (Role::Candidate(_), Message::VoteResponse(_)) => self.count_refusal(from, out),
            // Late: this member has won already, or has given up.
            (_, Message::VoteResponse(_)) => mark!(late_vote_ignored),

            (Role::Follower(_) | Role::PreCandidate(_), Message::TimeoutNow(_)) => {
                self.obey_summons(from, out);
            }
            // It stands, and has lost to the sender; the next heartbeat tells it.
            (Role::Candidate(_), Message::TimeoutNow(_)) => mark!(summons_of_a_candidate_ignored),

            (Role::Leader(_), Message::AppendResponse(response)) => {
                self.hear_peer(from);
                self.answer_append(from, &response.outcome, out);
            }
            (Role::Leader(_), Message::HeartbeatResponse(response)) => {
                self.hear_peer(from);
                self.answer_heartbeat(from, response.round, out);
            }
            // Late: this member led the term and stepped down in it, by the quorum check; or it is
            // the refusal of something it sent in an earlier term.
            (_, Message::AppendResponse(_) | Message::HeartbeatResponse(_)) => {
                mark!(answer_to_former_leader_ignored);
            }

            (
                Role::Leader(_),
                Message::AppendRequest(_) | Message::Heartbeat(_) | Message::TimeoutNow(_),
            ) => {
                unreachable!("election safety: a second leader of a term");
            }
            (_, Message::PreVoteRequest(_)) => unreachable!("pre-votes are answered in any term"),
        }
    }

    /// Answers a request of an older term with the present one, so that its sender steps down
    /// (§5.1). Answers of an older term are ignored: what they were about is over.
    ///
    /// Nothing in such an answer may be mistaken for one to a request of the present term, whose
    /// leader the receiver may have become meanwhile. It names round 0, which no read waits for, and
    /// the first place of the log: should that happen to be the present probe, the next one starts
    /// at the log's beginning, which is never wrong.
    fn refuse_older_term(&mut self, to: NodeId, message: &Message, out: &mut Vec<Output>) {
        let term = self.term();
        let message = match message {
            Message::VoteRequest(_) => Message::VoteResponse(VoteResponse { term, granted: false }),
            Message::AppendRequest(_) => {
                let hint = Position::default();
                let outcome = AppendOutcome::Conflict { probe: Index(1), hint };
                Message::AppendResponse(AppendResponse {
                    term,
                    outcome,
                    recovering: self.recovering,
                })
            }
            Message::Heartbeat(heartbeat) if canon!(refusal_names_a_round_of_another_term) => {
                Message::HeartbeatResponse(HeartbeatResponse {
                    term,
                    round: heartbeat.round,
                    recovering: self.recovering,
                })
            }
            Message::Heartbeat(_) => Message::HeartbeatResponse(HeartbeatResponse {
                term,
                round: ReadRound(0),
                recovering: self.recovering,
            }),
            // A voter whose term is lower refuses with that term; it counts like any other.
            Message::PreVoteResponse(_) => {
                if self.role() == RoleKind::PreCandidate {
                    self.count_refusal(to, out);
                }
                return;
            }
            Message::VoteResponse(response)
                if canon!(vote_of_an_older_term_counts)
                    && response.granted
                    && self.role() == RoleKind::Candidate =>
            {
                return self.count_vote(to, out);
            }
            Message::AppendResponse(response) if canon!(match_of_an_older_term_counts) => {
                return self.answer_append(to, &response.outcome, out);
            }
            Message::TimeoutNow(_)
                if canon!(summons_of_an_older_term_counts)
                    && self.role() == RoleKind::Follower
                    && self.may_campaign() =>
            {
                return self.campaign_at_once(out);
            }
            Message::HeartbeatResponse(response) if canon!(round_of_an_older_term_counts) => {
                return self.answer_heartbeat(to, response.round, out);
            }
            Message::VoteResponse(_)
            | Message::TimeoutNow(_)
            | Message::AppendResponse(_)
            | Message::HeartbeatResponse(_) => {
                mark!(answer_of_older_term_ignored);
                return;
            }
            Message::PreVoteRequest(_) => unreachable!("pre-votes are answered in any term"),
        };
        out.push(Output::Send { to, message });
    }
}

/// A role, and whether a message is forbidden to reach it.
type Forbidden = (RoleKind, fn(&Message) -> bool);

/// The pairs of role and message, terms being equal, that no correct cluster can produce. Each would
/// mean that a term has two leaders (Election Safety, figure 3).
const FORBIDDEN: [Forbidden; 3] = [
    (RoleKind::Leader, |message| matches!(message, Message::AppendRequest(_))),
    (RoleKind::Leader, |message| matches!(message, Message::Heartbeat(_))),
    (RoleKind::Leader, |message| matches!(message, Message::TimeoutNow(_))),
];

fn is_forbidden(role: RoleKind, message: &Message) -> bool {
    FORBIDDEN.iter().any(|(forbidden, matches)| *forbidden == role && matches(message))
}

fn term_of(message: &Message) -> Term {
    match message {
        Message::PreVoteRequest(request) => request.term,
        Message::PreVoteResponse(response) => response.term,
        Message::VoteRequest(request) => request.term,
        Message::VoteResponse(response) => response.term,
        Message::AppendRequest(request) => request.term,
        Message::AppendResponse(response) => response.term,
        Message::Heartbeat(heartbeat) => heartbeat.term,
        Message::HeartbeatResponse(response) => response.term,
        Message::TimeoutNow(request) => request.term,
    }
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
