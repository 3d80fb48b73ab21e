//! Leader election (§5.2, §5.4.1) with pre-vote (thesis §9.6), leader stickiness (thesis §4.2.3),
//! the quorum check (thesis §6.2) and hasty elections.
//!
//! Responsible for who may ask for votes, who gives them, and when a leader gives up. Not
//! responsible for the transitions themselves (`role.rs`) or for counting (`quorum.rs`).
//!
//! Invariants:
//!
//! 1. A vote leaves this member only after the write that holds it (figure 2). So does a vote for
//!    itself: the requests wait for it, and so does its own count.
//! 2. A pre-vote promises nothing and changes nothing at the voter.
//! 3. `PeerDown` is a hint. It moves this member's own patience and asks for *pre*-votes; whether the
//!    leader is gone is decided by the other voters, each by its own stickiness.
//!
//! # An election
//!
//! ```text
//!   1 (election timer)       2                        3
//!   pre-candidate, term 4
//!     -- PreVoteRequest 5 --> up to date? hears no
//!                             leader? nothing changes
//!     <- PreVoteResponse yes -
//!   candidate, term 5
//!   write #7: term 5, vote 1
//!     (#7 is durable)
//!     -- VoteRequest 5 ------> write #3: term 5, vote 1
//!                              (#3 is durable)
//!     <- VoteResponse yes ----
//!   leader, term 5; own vote + 2's = majority of three; 3 may be down or slow
//! ```
//!
//! # A hasty election
//!
//! The leader's process dies. Its port refuses, which both survivors learn within a millisecond, but
//! not within the same one:
//!
//! ```text
//!   0.3 ms   2: PeerDown(1)        patience gone; ElectionSoon drawn from 1 to 10 ms
//!   2.1 ms   2: ElectionSoon       asks 3 for a pre-vote
//!   2.2 ms   3: still hears 1      refuses, with its own term
//!   2.3 ms   2: refused            ElectionSoon again, for as long as retries are left
//!   2.5 ms   3: PeerDown(1)        patience gone too
//!   6.0 ms   2: ElectionSoon       asks 3, is granted, stands, wins
//! ```
//!
//! Were it not the process but only member 2's connection that died, 3 would go on refusing, and the
//! leader would never notice. A pre-vote costs its voter nothing, so a retry does not either.
//!
//! What the dead process had sent before may still be read from a buffer afterwards. Its entries are
//! taken, for they are as good as ever; only they are no sign of life. A heartbeat is, for it travels
//! on the very lane whose loss was the reason, and so is `PeerUp`.
//!
//! # What may leave before the term is durable
//!
//! What else leaves a member whose new term is not durable yet? Refusals, pre-votes, heartbeat
//! answers and conflicts do, for none of them promises anything about the future: should a crash take
//! the new term back, the member is as if it had not heard of it. Votes and acknowledgements wait.

use crate::contract::{
    Index, Message, NodeId, Output, Position, PreVoteRequest, PreVoteResponse, RoleKind, Term,
    Timer, VoteRequest, VoteResponse, WriteNumber,
};
use crate::quorum::Tally;
use crate::raft::Raft;
use crate::role::{Attempt, Campaign, Haste, Leader, Role, Stickiness};

/// Why a member stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Summoned {
    /// Enough of the others gave it leave.
    No,
    /// Its leader hands over to it.
    ByItsLeader,
}

impl Raft {
    /// The randomised election timeout has passed: neither a leader nor a candidate to vote for was
    /// heard from (figure 2, "followers", and "candidates").
    pub(crate) fn election_timeout(&mut self, out: &mut Vec<Output>) {
        if let Role::Leader(_) = self.role {
            return; // The timer was started before the election was won.
        }
        if self.may_campaign() {
            return self.pre_campaign(None, out);
        }
        // It may become a voter, or recover, and must not be without a timer then.
        self.restart(Timer::Election, out);
    }

    /// The short timer of a hasty election has passed.
    pub(crate) fn hasty_election_timeout(&mut self, out: &mut Vec<Output>) {
        let Some(haste) = self.haste().filter(|haste| haste.attempt == Attempt::Scheduled) else {
            mark!(hasty_timer_ignored);
            return;
        };
        if !self.may_campaign() {
            return; // Its last entries from the leader that seems gone have removed it.
        }
        self.pre_campaign(Some(Haste { attempt: Attempt::Made, ..haste }), out);
    }

    /// The shortest election timeout has passed without word from the leader.
    pub(crate) fn fall_quiet(&mut self) {
        if let Role::Follower(follower) = &mut self.role {
            follower.stickiness = Stickiness::Free;
        }
    }

    /// The peer's process is probably gone.
    pub(crate) fn peer_down(&mut self, peer: NodeId, out: &mut Vec<Output>) {
        let term = self.term();
        let is_voter = self.may_campaign();
        if let Role::Follower(follower) = &mut self.role
            && follower.leader == Some(peer)
        {
            follower.leader = None;
            follower.stickiness = Stickiness::Free;
            follower.haste = is_voter.then(|| Haste::new(peer, term));
            self.announce(out);
            if is_voter {
                self.restart(Timer::ElectionSoon, out);
            }
            return;
        }
        self.unreachable(peer);
    }

    /// The peer shook hands again. If that was the suspected leader and nothing else happened
    /// meanwhile, it is followed as before; only it is not sticky until it is heard from.
    pub(crate) fn peer_up(&mut self, peer: NodeId, out: &mut Vec<Output>) {
        let term = self.term();
        let (start, last) = (self.log.start().index, self.log.last_index());
        let suspected = |haste: Haste| haste.suspects(peer, term);
        match &mut self.role {
            Role::Leader(leader) => {
                if let Some(progress) = leader.peers.get_mut(&peer) {
                    progress.resume(start, last);
                }
            }
            Role::Follower(follower) if follower.haste.is_some_and(suspected) => {
                mark!(peer_up_cancels_haste);
                follower.leader = Some(peer);
                follower.haste = None;
                self.announce(out);
                self.restart(Timer::Election, out);
            }
            Role::PreCandidate(campaign) if campaign.haste.is_some_and(suspected) => {
                mark!(peer_up_cancels_haste);
                self.become_follower(term, Some(peer), out);
            }
            // Nobody had been given up, or a term has been begun without the peer.
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {}
        }
    }

    /// Word from the leader of this term.
    pub(crate) fn hear_leader(&mut self, from: NodeId, out: &mut Vec<Output>) {
        let Role::Follower(follower) = &mut self.role else {
            unreachable!("only a follower hears its leader");
        };
        assert!(follower.leader.is_none_or(|leader| leader == from), "election safety");
        follower.leader = Some(from);
        follower.stickiness = Stickiness::Withheld;
        follower.haste = None;
        self.announce(out);
        self.restart(Timer::Quiet, out);
        self.restart(Timer::Election, out);
    }

    /// Entries from the leader of this term. They are word from it, unless its process is thought to
    /// be gone: then they may have lain in a buffer since before.
    pub(crate) fn hear_append(&mut self, from: NodeId, out: &mut Vec<Output>) {
        if self.haste().is_some_and(|haste| haste.suspects(from, self.term())) {
            mark!(append_from_suspect_taken_without_trust);
            return;
        }
        self.hear_leader(from, out);
    }

    /// Whether votes are refused for a live leader's sake, its own sake included: a leader whose
    /// quorum is gone finds out by the quorum check and not from a candidate.
    pub(crate) fn withholds_votes(&self) -> bool {
        match &self.role {
            Role::Follower(follower) => {
                follower.stickiness == Stickiness::Withheld && !canon!(live_leader_is_unprotected)
            }
            Role::PreCandidate(_) | Role::Candidate(_) => false,
            Role::Leader(_) => true,
        }
    }

    /// Answers whether the sender would get this member's vote, by the rules of a real vote:
    ///
    /// | asked for | granted if the log is up to date and no leader is heard from, and |
    /// |---|---|
    /// | a later term | always: nobody can have voted in it here |
    /// | this term | this member has not voted for another, and knows no leader |
    /// | an older term | never |
    ///
    /// A refusal carries this member's
    /// term: a candidate that lags behind catches up by it, and one asking with a lower term gets an
    /// answer too, or it would ask for ever.
    pub(crate) fn answer_pre_vote(
        &mut self,
        from: NodeId,
        request: &PreVoteRequest,
        out: &mut Vec<Output>,
    ) {
        let standing =
            self.term() < request.term || (self.term() == request.term && self.may_vote_for(from));
        if canon!(pre_vote_raises_the_term) && self.term() < request.term {
            self.become_follower(request.term, None, out);
        }
        let sticky = self.withholds_votes();
        if sticky {
            mark!(stickiness_withholds_pre_vote);
        }
        let up_to_date = self.log.is_no_newer_than(request.last) && self.may_vote();
        let granted = standing && !sticky && up_to_date && !self.is_shy_learner();
        let mut term = if granted { request.term } else { self.term() };
        if canon!(refused_pre_vote_teaches_no_term) && !granted {
            term = Term(request.term.0 - 1);
        }
        let message = Message::PreVoteResponse(PreVoteResponse { term, granted });
        out.push(Output::Send { to: from, message });
    }

    /// `RequestVote`, receiver rules 1 and 2 of figure 2, the terms being equal.
    pub(crate) fn answer_vote(
        &mut self,
        from: NodeId,
        request: &VoteRequest,
        out: &mut Vec<Output>,
    ) {
        // Whether this member votes by the configuration in its own log is never asked: it may lack the
        // entry that makes a voter of it, and the candidate may need it (§6).
        let up_to_date = self.log.is_no_newer_than(request.last) && self.may_vote();
        let granted = self.may_vote_for(from) && up_to_date && !self.is_shy_learner();
        let term = self.term();
        let message = Message::VoteResponse(VoteResponse { term, granted });
        if !granted {
            out.push(Output::Send { to: from, message });
            return;
        }
        // A pre-candidate that votes gives up its own attempt, and a hasty follower its haste. A
        // repeated request may come after the winner's first entries; then there is a leader already.
        if self.leader().is_none() {
            self.become_follower(term, None, out);
        }
        self.hard_state.vote = Some(from);
        let after = self.write_hard_state(out);
        self.send_after(after, from, message, out);
        self.restart(Timer::Quiet, out);
        self.restart(Timer::Election, out);
    }

    /// Counts the leave to stand for `term`.
    ///
    /// One that comes after the election is won or given up is ignored: counted towards the next
    /// campaign, it could make a candidate of a member that nobody would follow by then.
    pub(crate) fn count_pre_vote(&mut self, from: NodeId, term: Term, out: &mut Vec<Output>) {
        let stands_for = Term(self.term().0 + 1);
        if canon!(late_pre_vote_counts_as_a_vote)
            && term == self.term()
            && self.role.kind() == RoleKind::Candidate
            && self.stable.is_hard_state_durable()
        {
            return self.count_vote(from, out);
        }
        let Role::PreCandidate(campaign) = &mut self.role else {
            mark!(late_prevote_ignored);
            return;
        };
        if term != stands_for && !canon!(pre_vote_for_another_term_counts) {
            mark!(prevote_for_another_term_ignored);
            return;
        }
        campaign.votes.insert(from, true);
        self.finish_pre_campaign(out);
    }

    /// Counts a vote.
    pub(crate) fn count_vote(&mut self, from: NodeId, out: &mut Vec<Output>) {
        let Role::Candidate(campaign) = &mut self.role else {
            unreachable!("only a candidate counts votes");
        };
        campaign.votes.insert(from, true);
        if self.tally() == Tally::Won {
            self.become_leader(out);
        }
    }

    /// Counts a refused vote or pre-vote. What is lost is tried again when the election timer fires
    /// or, in haste, soon.
    pub(crate) fn count_refusal(&mut self, from: NodeId, out: &mut Vec<Output>) {
        let haste = self.haste().and_then(|haste| self.retry_soon(haste, out));
        let (Role::PreCandidate(campaign) | Role::Candidate(campaign)) = &mut self.role else {
            unreachable!("only a campaign is refused");
        };
        campaign.votes.insert(from, false);
        campaign.haste = haste;
    }

    /// The term and vote of a campaign have become durable: the own vote counts.
    ///
    /// Counted earlier, it could be given twice. A member wins term 5 with its own vote and another's,
    /// crashes before the write is done, comes back at term 4, and votes for a third in term 5: a
    /// majority for two leaders.
    pub(crate) fn count_own_vote(&mut self, out: &mut Vec<Output>) {
        if let Role::Candidate(_) = self.role
            && self.stable.is_hard_state_durable()
        {
            self.count_vote(self.id, out);
        }
    }

    /// The interval of the quorum check has passed. A leader that has not heard from a quorum since
    /// the last one steps down, and is silent from then on: a leader that keeps sending heartbeats
    /// through half a partition would keep the other half from electing one that works.
    pub(crate) fn check_quorum(&mut self, out: &mut Vec<Output>) {
        let id = self.id;
        let Role::Leader(Leader { peers, .. }) = &mut self.role else { return };
        let heard = |peer| peer == id || peers.get(&peer).is_some_and(|peer| peer.is_heard());
        if !self.membership.current().agrees(heard) && !canon!(leader_without_quorum_stays) {
            mark!(leader_without_quorum_steps_down);
            return self.become_follower(self.term(), None, out);
        }
        peers.values_mut().for_each(|peer| peer.forget_heard());
        self.begin_catch_up_round(out);
        self.restart(Timer::QuorumCheck, out);
    }

    /// The haste of whatever role has any.
    pub(crate) fn haste(&self) -> Option<Haste> {
        match &self.role {
            Role::Follower(follower) => follower.haste,
            Role::PreCandidate(campaign) | Role::Candidate(campaign) => campaign.haste,
            Role::Leader(_) => None,
        }
    }

    /// Goes on being hasty in a term that a refusal has taught.
    pub(crate) fn carry_haste(&mut self, haste: Haste, out: &mut Vec<Output>) {
        let haste = self.retry_soon(haste, out);
        let Role::Follower(follower) = &mut self.role else {
            unreachable!("a higher term makes a follower");
        };
        follower.haste = haste;
    }

    fn pre_campaign(&mut self, haste: Option<Haste>, out: &mut Vec<Output>) {
        self.become_pre_candidate(haste, out);
        let term = Term(self.term().0 + 1);
        let last = self.log.last_position();
        for to in self.other_voters() {
            let message = Message::PreVoteRequest(PreVoteRequest { term, last });
            out.push(Output::Send { to, message });
        }
        self.finish_pre_campaign(out);
    }

    fn finish_pre_campaign(&mut self, out: &mut Vec<Output>) {
        if self.tally() == Tally::Won {
            self.campaign(Summoned::No, out);
        }
    }

    /// The leader hands over to this member: there is nobody to be asked first (thesis §3.10).
    pub(crate) fn campaign_at_once(&mut self, out: &mut Vec<Output>) {
        self.campaign(Summoned::ByItsLeader, out);
    }

    /// Figure 2, "candidates": raise the term, vote for self, ask everyone.
    fn campaign(&mut self, summoned: Summoned, out: &mut Vec<Output>) {
        self.become_candidate(out);
        let after = self.write_hard_state(out);
        let term = self.term();
        let last: Position = self.log.last_position();
        for to in self.other_voters() {
            let transfer = summoned == Summoned::ByItsLeader;
            let message = Message::VoteRequest(VoteRequest { term, last, transfer });
            self.send_after(after, to, message, out);
        }
        if canon!(own_vote_counts_before_durable) {
            self.count_vote(self.id, out);
        }
    }

    /// Schedules another hasty attempt, if this one is the first to be refused since the last and
    /// there are any left.
    fn retry_soon(&mut self, haste: Haste, out: &mut Vec<Output>) -> Option<Haste> {
        if haste.attempt == Attempt::Scheduled {
            return Some(haste);
        }
        let Some(retries_left) = haste.retries_left.checked_sub(1) else {
            mark!(haste_spent);
            return None;
        };
        self.restart(Timer::ElectionSoon, out);
        Some(Haste { retries_left, attempt: Attempt::Scheduled, ..haste })
    }

    fn tally(&self) -> Tally {
        let (Role::PreCandidate(campaign) | Role::Candidate(campaign)) = &self.role else {
            unreachable!("only a campaign has votes");
        };
        let Campaign { votes, .. } = campaign;
        self.configuration().tally(|id| votes.get(&id).copied())
    }

    /// Figure 2, `RequestVote` rule 2, without the logs: no vote yet in this term, or one for the
    /// same candidate. Where the term has a leader there is nothing left to vote about.
    fn may_vote_for(&self, candidate: NodeId) -> bool {
        match self.hard_state.vote {
            Some(vote) => vote == candidate || canon!(two_votes_in_a_term),
            None => self.leader().is_none(),
        }
    }

    /// Never, but for the canon.
    fn is_shy_learner(&self) -> bool {
        canon!(learner_does_not_vote) && !self.configuration().is_voter(self.id)
    }

    fn other_voters(&self) -> Vec<NodeId> {
        let mut voters: Vec<NodeId> =
            self.configuration().members().filter(|id| *id != self.id).collect();
        voters.retain(|id| self.configuration().is_voter(*id));
        voters.sort_unstable();
        voters.dedup();
        voters
    }

    fn send_after(&self, after: WriteNumber, to: NodeId, message: Message, out: &mut Vec<Output>) {
        assert!(after <= self.stable.newest(), "a message waits for a write that was asked for");
        let hurry = match message {
            Message::VoteRequest(_) => canon!(vote_is_asked_for_before_durable),
            _ => canon!(vote_is_given_before_durable),
        };
        out.push(if self.stable.is_hard_state_durable() || hurry {
            Output::Send { to, message }
        } else {
            Output::SendAfter { after, to, message }
        });
    }
}

impl Raft {
    /// Takes note of a completed write: an own vote may count, and a leader its own entries.
    pub(crate) fn persisted(&mut self, write: WriteNumber, last: Position, out: &mut Vec<Output>) {
        let before: Index = self.stable.durable_index();
        self.stable.persisted(write, last, &self.log);
        self.count_own_vote(out);
        if before < self.stable.durable_index() {
            self.advance_commit(out);
        }
    }
}
