//! Log replication (§5.3) and commitment (§5.3, §5.4.2), from both sides.
//!
//! Responsible for what a leader may send, for what a follower takes and acknowledges, and for the
//! commit index of both. Not responsible for the windows (`progress.rs`), for terms (`log.rs`), or for
//! payloads, which the driver attaches to what is granted here.
//!
//! Invariants:
//!
//! 1. A leader never drops or replaces an entry of its own log (Leader Append-Only, figure 3).
//! 2. A follower drops entries only from the first one that *differs*. A request that was delayed or
//!    sent twice holds less than the log does; to cut the log to its end would drop entries that were
//!    acknowledged, and perhaps committed.
//! 3. Nobody drops a committed entry, nor one that the present leader is known to have.
//! 4. A follower acknowledges what is durable *and* was verified against the present term's leader.
//! 5. A leader counts itself by its durable index, like everyone else. It may commit before its own
//!    disk is done: the entry is durable on a quorum, and that is what counts (thesis §10.2.1).
//! 6. Only entries of the leader's own term are counted (§5.4.2, figure 8).
//!
//! # Where two logs part
//!
//! A follower that does not hold the leader's `prev` answers with a hint: its last entry below `prev`
//! whose term is not above that of `prev`. Entries of a higher term cannot be in the leader's log at
//! that place or before it, for terms never fall along a log:
//!
//! ```text
//! index      1  2  3  4  5  6  7  8
//! leader     1  1  1  3  3  3  3  6      prev = (7, term 3)
//! follower   1  1  1  2  2  5  5         (7, 5) conflicts; 6 is of term 5 too; hint = (5, term 2)
//! ```
//!
//! The leader does the same with the hint: its last entry at or before 5 whose term is not above 2 is
//! (3, term 1), so the next probe starts at 4, and fits. Every round skips whole terms on both sides.

use crate::contract::{
    AppendOutcome, AppendRequest, AppendResponse, Configuration, Grant, Heartbeat,
    HeartbeatResponse, Index, Message, NodeId, Output, Position, Range, ReadRound, Refused,
};
use crate::raft::Raft;
use crate::role::{Debt, Leader, Role};

/// The most terms in one grant. A log is a few runs long; the bound keeps the message's header
/// small for a peer that missed a thousand elections.
const GRANT_RUNS_MAX: usize = 64;

/// The most configurations in one grant. They are rare, and each may be as large as a few entries.
const GRANT_CONFIGURATIONS_MAX: usize = 8;

/// The leader's side.
impl Raft {
    /// Takes `entries` commands of `bytes` into the log, or refuses them.
    pub(crate) fn propose(&mut self, entries: u64, bytes: u64, out: &mut Vec<Output>) {
        assert!(0 < entries, "a proposal holds a command");
        let term = self.term();
        let bytes_max = self.limits.uncommitted_bytes_max;
        let believed = self.leader();
        let handing_over = self.refuses_proposals();
        let Role::Leader(Leader { uncommitted, .. }) = &mut self.role else {
            out.push(Output::ProposalRefused(Refused::NotLeader(believed)));
            return;
        };
        if let Some(refused) = handing_over {
            out.push(Output::ProposalRefused(refused));
            return;
        }
        if !uncommitted.has_room_for(bytes, bytes_max) {
            mark!(proposal_refused_as_busy);
            out.push(Output::ProposalRefused(Refused::Busy));
            return;
        }
        let prev = self.log.last_position();
        let last = Index(prev.index.0 + entries);
        uncommitted.add(last, bytes, bytes_max);
        let range = Range::of_term(prev, term, last);
        out.push(Output::Assigned { range: range.clone() });
        self.append(range, out);
    }

    /// Opens the leader's term with an entry of its own (§8): what earlier terms left behind commits
    /// along with it. It is never refused.
    pub(crate) fn append_no_op(&mut self, out: &mut Vec<Output>) {
        let prev = self.log.last_position();
        let position = Position { index: prev.index.next(), term: self.term() };
        out.push(Output::NoOp { position });
        self.append(Range::of_term(prev, position.term, position.index), out);
    }

    /// Grants every peer what it may be sent.
    ///
    /// Called on a flush only, so that proposals which come together leave together, and a commit
    /// index that rises three times in one turn is told once.
    pub(crate) fn flush_grants(&mut self, out: &mut Vec<Output>) {
        let term = self.term();
        let Raft { role, log, limits, commit_index, membership, .. } = self;
        let Role::Leader(leader) = role else { return };
        let commit = *commit_index;
        for (peer, progress) in &mut leader.peers {
            let Some(offer) = progress.offer(log.last_index(), commit, limits) else { continue };
            // What was cut off the log cannot be sent: the peer needs a snapshot. Who was removed is
            // not worth one: the state would travel to tell a member that it is none any more.
            let start = log.start().index;
            if offer.prev < start && leader.departing.contains_key(peer) {
                mark!(departing_member_gets_no_snapshot);
                continue;
            }
            if offer.prev < start {
                if !canon!(cut_log_sends_no_snapshot) {
                    progress.become_snapshot();
                    out.push(Output::SendSnapshot { peer: *peer, at_least: start });
                }
                continue;
            }
            let among = membership.within(offer.prev, offer.last);
            let last =
                among.get(GRANT_CONFIGURATIONS_MAX).map_or(offer.last, |(next, _)| next.previous());
            let range = log.range(offer.prev, last, GRANT_RUNS_MAX);
            assert!(range.last <= log.last_index(), "a leader sends what it has");
            progress.granted(commit);
            let bytes_max = offer.bytes_max;
            out.push(Output::Grant(Grant {
                peer: *peer,
                term,
                bytes_max,
                commit,
                configurations: membership.within(offer.prev, range.last).to_vec(),
                range,
            }));
        }
    }

    /// The driver has sent entries up to `last`.
    pub(crate) fn sent(&mut self, peer: NodeId, last: Index, bytes: u64) {
        let end = self.log.last_index();
        let Role::Leader(leader) = &mut self.role else { return };
        assert!(last <= end, "a leader sends what it has");
        if let Some(progress) = leader.peers.get_mut(&peer) {
            progress.sent(last, bytes);
        }
    }

    /// What was sent to the peer may be lost.
    pub(crate) fn unreachable(&mut self, peer: NodeId) {
        let start = self.log.start().index;
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(progress) = leader.peers.get_mut(&peer) {
            progress.lose(start);
        }
    }

    /// A peer gave a sign of life, for the quorum check.
    pub(crate) fn hear_peer(&mut self, from: NodeId) {
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(progress) = leader.peers.get_mut(&from) {
            progress.hear();
        }
    }

    /// A follower's answer to appends of this term.
    pub(crate) fn answer_append(
        &mut self,
        from: NodeId,
        outcome: &AppendOutcome,
        out: &mut Vec<Output>,
    ) {
        let Raft { role, log, .. } = self;
        let Role::Leader(leader) = role else { return };
        let Some(progress) = leader.peers.get_mut(&from) else { return };
        match *outcome {
            // What a recovering peer knows to be committed may lie beyond the log of a leader that is
            // one no more. Nothing of it counts.
            AppendOutcome::Match(index) if progress.recovery().is_some() => {
                progress.advance(index.min(log.last_index()), log.start().index);
            }
            AppendOutcome::Match(index) => {
                assert!(index <= log.last_index(), "a follower acknowledges what the leader has");
                if progress.advance(index, log.start().index) {
                    self.advance_commit(out);
                }
            }
            AppendOutcome::Conflict { probe, hint } => {
                // A hint before the cut says that the peer does not hold the entry at the cut either:
                // it is of no later term than the probe, and would have been the better hint.
                let is_cut = hint.index < log.start().index;
                let guess = if is_cut { hint } else { log.last_not_above(hint) };
                progress.regress(probe, guess.index);
            }
        }
    }

    /// A follower's answer to a heartbeat of this term.
    pub(crate) fn answer_heartbeat(
        &mut self,
        from: NodeId,
        round: ReadRound,
        out: &mut Vec<Output>,
    ) {
        let (start, last) = (self.log.start().index, self.log.last_index());
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.peers.get_mut(&from) else { return };
        progress.answer(start, last);
        progress.confirm(round);
        self.advance_reads(out);
    }

    /// Moves the commit index to the highest entry that a quorum has made durable.
    ///
    /// Only entries of the current term are counted (§5.4.2): an older entry on a quorum can still be
    /// overwritten by a leader which has never seen it. Figure 8, S1 leading term 4:
    ///
    /// ```text
    ///   index   1  2  3
    ///   S1      1  2  4      entry 2 of term 2 is on S1, S2 and S3 ...
    ///   S2      1  2
    ///   S3      1  2
    ///   S4      1
    ///   S5      1  3         ... but S5 may yet win term 5 with S3's vote, and overwrite it
    /// ```
    ///
    /// Once entry 3 of term 4 is on three of them S5 cannot win any more, and entry 2 is committed
    /// along with it.
    pub(crate) fn advance_commit(&mut self, out: &mut Vec<Output>) {
        let Role::Leader(Leader { peers, term_start, uncommitted, .. }) = &mut self.role else {
            return;
        };
        let mut own = self.stable.durable_index();
        if canon!(leader_counts_itself_before_its_disk) {
            own = self.log.last_index();
        }
        let durable = Index(self.membership.current().quorum_value(|id| {
            if id == self.id {
                return own.0;
            }
            peers.get(&id).map_or(0, |peer| peer.match_index().0)
        }));
        if durable <= self.commit_index {
            return;
        }
        let unseen = canon!(older_term_commits_by_counting_unseen);
        if durable < *term_start && !canon!(older_term_commits_by_counting) && !unseen {
            mark!(older_term_not_committed_by_counting);
            return;
        }
        let of_term = self.log.term_at(durable) == Some(self.hard_state.term);
        assert!(of_term || unseen, "invariant 10");
        uncommitted.commit(durable);
        self.commit_to(durable, out);
    }

    /// Whether the leader knows every entry that was ever committed before it (thesis §6.4).
    pub(crate) fn has_committed_in_its_term(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        leader.term_start <= self.commit_index || canon!(read_before_own_term_commit)
    }

    pub(crate) fn append(&mut self, range: Range, out: &mut Vec<Output>) {
        let last_before = self.log.last_index();
        assert!(range.prev.index == last_before, "invariant 11: a leader only appends");
        self.log.splice(&range);
        self.write(Some(range), last_before, out);
        if canon!(leader_counts_itself_before_its_disk) {
            self.advance_commit(out);
        }
    }
}

/// The follower's side.
impl Raft {
    /// `AppendEntries`, receiver rules 2 to 5 of figure 2, the terms being equal.
    ///
    /// A request says two things: that the leader's log holds this range, and how far the leader has
    /// committed. Both are true for ever in this term, however late and often the request arrives:
    ///
    /// ```text
    ///   index        1  2  3  4  5
    ///   log          1  1  1  2  2      the leader of term 2 has 1 1 1 2 2 2
    ///   late request       [1  2]       holds what it names: nothing is dropped, entry 5 least of all
    /// ```
    pub(crate) fn follow_append(
        &mut self,
        from: NodeId,
        request: AppendRequest,
        out: &mut Vec<Output>,
    ) {
        let AppendRequest { range, commit, configurations, .. } = request;
        assert!(range.is_well_formed(), "the names of an append form a range");
        assert!(range.last_position().term <= self.term(), "a leader has no later term's entries");
        // Committed entries are in every leader's log, so what the request says of them is known.
        // The log may even have been cut there, and could not answer.
        let known = self.commit_index.min(range.last);
        let range = if range.prev.index < known { range.after(known) } else { range };
        let by_index = canon!(previous_entry_checked_by_index_alone)
            && range.prev.index <= self.log.last_index();
        if self.commit_index <= range.prev.index && !self.log.holds(range.prev) && !by_index {
            if range.prev.index == self.commit_index && self.recovering.is_some() {
                mark!(former_leader_ignored_while_recovering);
                return;
            }
            return self.refuse_append(from, range.prev, out);
        }
        if self.commit_index <= range.prev.index
            && let Some(first) = match canon!(repeated_append_truncates) {
                true => (!range.is_empty()).then_some(range.first()),
                false => self.log.first_difference(&range),
            }
        {
            self.take_entries(range.after(first.previous()), configurations, out);
        }
        let commit_before = self.commit_index;
        self.verify(range.last, commit, out);
        // An append that brought nothing but the commit index is owed no answer: everything it
        // speaks of is acknowledged. Should that acknowledgement have been lost, the leader asks
        // again, and then the commit index is no news any more.
        let Role::Follower(follower) = &mut self.role else { return };
        let only_commit = range.is_empty() && range.last <= follower.acknowledged;
        if only_commit && commit_before < self.commit_index {
            mark!(commit_news_not_answered);
            return;
        }
        follower.debt = Debt::Owed;
    }

    /// Word from the leader without entries.
    pub(crate) fn follow_heartbeat(
        &mut self,
        from: NodeId,
        heartbeat: &Heartbeat,
        out: &mut Vec<Output>,
    ) {
        // The leader names no commit index beyond what this member has acknowledged to it, which was
        // durable and stays while the term lasts. The member may have restarted since and verified
        // nothing in this life; the heartbeat then stands for the append that did, or it would not
        // learn of the commit before the next one.
        //
        // A member that may have lost what it acknowledged takes it for no append.
        let acknowledged = self.stable.durable_index();
        let lost = self.recovering.is_some();
        assert!(
            heartbeat.commit <= acknowledged || lost,
            "invariant 12: what was acknowledged is durable"
        );
        let verified = if lost { Index(0) } else { heartbeat.commit };
        self.verify(verified, heartbeat.commit, out);
        self.note_recover_to(heartbeat.recover_to);
        let term = self.term();
        let message = Message::HeartbeatResponse(HeartbeatResponse {
            term,
            round: heartbeat.round,
            recovering: self.recovering,
        });
        out.push(Output::Send { to: from, message });
    }

    /// Acknowledges what is verified and durable: both, for the leader counts it towards a commit.
    /// Durable entries that were not verified may be another leader's; verified ones that are not
    /// durable may be gone after a crash. It is sent if that is news to the leader or it waits for an
    /// answer. However many appends came and however many writes were completed since the last
    /// flush, it is one message.
    pub(crate) fn flush_acknowledgement(&mut self, out: &mut Vec<Output>) {
        let term = self.term();
        let durable = self.stable.durable_index();
        // An acknowledgement promises to stay with this term's leader, so the term comes first.
        let term_is_durable = self.stable.is_hard_state_durable();
        let Role::Follower(follower) = &mut self.role else { return };
        let may_answer = term_is_durable || canon!(acknowledges_before_its_term_is_durable);
        let Some(leader) = follower.leader.filter(|_| may_answer) else { return };
        let index = follower.verified.min(durable);
        let settles = follower.debt == Debt::Owed && follower.verified <= durable;
        // Before a log that was begun anew is written there is nothing of use to its leader.
        let is_begun = self.log.start().index <= index;
        let news = follower.debt == Debt::Owed && follower.acknowledged < index && is_begun;
        if !settles && !news {
            return;
        }
        if settles {
            follower.debt = Debt::Paid;
        }
        assert!(follower.acknowledged <= index, "invariant 12: an acknowledgement is kept");
        follower.acknowledged = index;
        let outcome = AppendOutcome::Match(match follower.verified {
            verified if canon!(acknowledges_before_durable) => verified,
            _ => index,
        });
        let message =
            Message::AppendResponse(AppendResponse { term, outcome, recovering: self.recovering });
        out.push(Output::Send { to: leader, message });
    }

    /// Rule 2: the log does not hold `probe`. Answered at once, with a hint (see above).
    fn refuse_append(&mut self, to: NodeId, probe: Position, out: &mut Vec<Output>) {
        assert!(self.commit_index < probe.index, "leader completeness: committed entries are held");
        let limit = Position { index: probe.index.previous(), term: probe.term };
        let hint = self.log.last_not_above(limit);
        assert!(self.commit_index <= hint.index, "leader completeness: logs part after the commit");
        let outcome = AppendOutcome::Conflict { probe: probe.index, hint };
        let message = Message::AppendResponse(AppendResponse {
            term: self.term(),
            outcome,
            recovering: self.recovering,
        });
        out.push(Output::Send { to, message });
    }

    /// Rules 3 and 4: drops what conflicts, and appends what is new; with it go and come the
    /// configurations (§6).
    fn take_entries(
        &mut self,
        range: Range,
        configurations: Vec<(Index, Configuration)>,
        out: &mut Vec<Output>,
    ) {
        let Role::Follower(follower) = &self.role else { return };
        let last_before = self.log.last_index();
        if range.prev.index < last_before {
            mark!(conflicting_suffix_dropped);
            assert!(self.commit_index <= range.prev.index, "invariant 13: committed entries stay");
            assert!(follower.verified <= range.prev.index, "invariant 11: a leader only appends");
        }
        self.log.splice(&range);
        self.splice_configurations(&range, configurations, out);
        self.write(Some(range), last_before, out);
    }

    /// Rule 5: the log equals the leader's up to `index`; the leader has committed up to `commit`.
    ///
    /// The bound is what was verified, and not the log's end. With the log's end it goes wrong:
    ///
    /// ```text
    ///   index      1  2  3
    ///   leader     1  3  3      has committed 3
    ///   follower   1  2  2      is sent prev = (1, term 1), no entries, commit 3
    /// ```
    ///
    /// The log does hold something at 3, which the leader has never heard of.
    fn verify(&mut self, index: Index, commit: Index, out: &mut Vec<Output>) {
        let last = self.log.last_index();
        let Role::Follower(follower) = &mut self.role else { return };
        let index = if canon!(follower_trusts_its_whole_log) { last } else { index };
        follower.verified = follower.verified.max(index);
        let bound = if canon!(follower_commits_to_its_end) { last } else { follower.verified };
        let commit = commit.min(bound);
        self.commit_to(commit, out);
    }
}

impl Raft {
    pub(crate) fn commit_to(&mut self, index: Index, out: &mut Vec<Output>) {
        if index <= self.commit_index {
            return;
        }
        assert!(index <= self.log.last_index(), "invariant 3: what is committed is in the log");
        self.commit_index = index;
        out.push(Output::Commit(index));
    }
}
