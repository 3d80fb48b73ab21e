//! Linearizable reads without a log write: the read index (§8, thesis §6.4).
//!
//! Responsible for the rounds that confirm a leader's leadership, and for which read index each of
//! them stands for. Not responsible for running reads, nor for heartbeats, which carry the rounds.
//!
//! A leader may answer a read from its state machine once it knows that, *after the read came in*,
//! no other leader had been elected. It asks a quorum, for all reads that wait at once. One counter
//! numbers the rounds; an answer to round n was given after round n opened, hence after every earlier
//! one did, so a quorum on n confirms all rounds up to n.
//!
//! ```text
//!   read a --> waits for round 1
//!   flush      round 1 opens: heartbeats carry 1; its read index is the commit index
//!   read b --> waits for round 2     (an answer to round 1 may be older than b)
//!   a quorum answers 1: a may run once the read index is applied
//!   flush      round 2 opens
//! ```
//!
//! Invariants:
//!
//! 1. A read never joins a round that was opened before it came.
//! 2. No round opens before an entry of the leader's term is committed: until then the leader's
//!    commit index may lag behind what its predecessors have acknowledged (thesis §6.4, step 1).
//! 3. The open rounds rise, and so do their read indexes.
//! 4. Rounds count within a term. An answer is taken only in the leader's own term, and one that
//!    refuses an older term names round 0: it must not confirm a round of the new term that
//!    happens to have the same number.

use std::collections::VecDeque;

use crate::contract::{Heartbeat, Index, Message, Output, ReadRound, Refused, Timer};
use crate::raft::Raft;
use crate::role::{Leader, Role};

/// The most rounds that are open at a time. There is one, and a heartbeat's worth of more only when
/// answers are lost or take longer than the heartbeat interval; past this many the newest is sent
/// again until it is confirmed.
pub const OPEN_ROUNDS_MAX: usize = 8;

/// A leader's read rounds.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Reads {
    /// The newest round that was opened.
    newest: ReadRound,
    /// Whether reads wait for the round after that.
    waiting: bool,
    /// Opened and not confirmed, each with its read index.
    open: VecDeque<(ReadRound, Index)>,
}

impl Reads {
    /// Lets a read wait; says for which round.
    pub(crate) fn wait(&mut self) -> ReadRound {
        if canon!(read_joins_an_open_round) && !self.open.is_empty() {
            return self.newest;
        }
        self.waiting = true;
        self.next()
    }

    /// The number of the next round: none has it twice, or an answer to the one could confirm the
    /// other.
    fn next(&self) -> ReadRound {
        if canon!(read_round_number_is_reused) {
            ReadRound(1)
        } else {
            ReadRound(self.newest.0 + 1)
        }
    }

    /// Whether a flush opens a round: reads wait and none is under way.
    pub(crate) fn is_due(&self) -> bool {
        self.waiting && self.open.is_empty()
    }

    /// Whether a heartbeat opens a round: reads wait, whatever is under way. Should a round's
    /// heartbeats be lost, those of the next one serve its reads too.
    pub(crate) fn is_due_with_heartbeat(&self) -> bool {
        self.waiting && self.open.len() < OPEN_ROUNDS_MAX
    }

    /// Opens the round that reads wait for.
    pub(crate) fn open(&mut self, index: Index) {
        self.newest = self.next();
        self.waiting = false;
        self.open.push_back((self.newest, index));
    }

    /// The newest round that was opened.
    pub(crate) fn newest(&self) -> ReadRound {
        self.newest
    }

    /// How many rounds are open.
    pub(crate) fn open_rounds(&self) -> usize {
        self.open.len()
    }

    /// Takes out the rounds up to `round`, which a quorum has confirmed; the newest of them, if
    /// there is any, with its read index.
    pub(crate) fn confirm(&mut self, round: ReadRound) -> Option<(ReadRound, Index)> {
        assert!(round <= self.newest, "reads invariant 1: a confirmed round was opened");
        let mut confirmed = None;
        while self.open.front().is_some_and(|(open, _)| *open <= round) {
            confirmed = self.open.pop_front();
        }
        confirmed
    }

    /// Whether invariant 3 holds, and no read index lies beyond `commit`.
    pub(crate) fn is_well_formed(&self, commit: Index) -> bool {
        let mut pairs = self.open.iter().zip(self.open.iter().skip(1));
        let newest = self.open.back().copied().unwrap_or((self.newest, commit));
        pairs.all(|(one, next)| one.0 < next.0 && one.1 <= next.1)
            && newest.0 <= self.newest
            && newest.1 <= commit
            && self.open.len() <= OPEN_ROUNDS_MAX
    }
}

impl Raft {
    /// A client wants to read.
    pub(crate) fn read(&mut self, out: &mut Vec<Output>) {
        let leader = self.leader();
        out.push(match &mut self.role {
            Role::Leader(state) => Output::ReadQueued(state.reads.wait()),
            _ => Output::ReadRefused(Refused::NotLeader(leader)),
        });
    }

    /// Opens a round if reads wait for one and none is under way, and asks everyone.
    pub(crate) fn flush_reads(&mut self, out: &mut Vec<Output>) {
        let may_open = self.has_committed_in_its_term();
        let Role::Leader(leader) = &mut self.role else { return };
        if !leader.reads.is_due() {
            return;
        }
        if !may_open {
            mark!(read_waits_for_own_term_commit);
            return;
        }
        leader.reads.open(self.commit_index);
        self.send_heartbeats(out);
        self.advance_reads(out);
    }

    /// The heartbeat timer fired. Followers hear from their leader, and reads that wait join a new
    /// round.
    pub(crate) fn heartbeat(&mut self, out: &mut Vec<Output>) {
        let may_open = self.has_committed_in_its_term();
        let Role::Leader(leader) = &mut self.role else { return };
        if may_open && leader.reads.is_due_with_heartbeat() {
            leader.reads.open(self.commit_index);
        }
        leader.peers.values_mut().for_each(|peer| peer.allow_retry());
        self.repeat_summons();
        self.send_heartbeats(out);
        self.advance_reads(out);
        self.restart(Timer::Heartbeat, out);
    }

    /// Lets the reads run whose round a quorum has confirmed; the leader itself always does, so
    /// that a single voter waits for nobody.
    pub(crate) fn advance_reads(&mut self, out: &mut Vec<Output>) {
        let confirmed = self.confirmed_round();
        let Role::Leader(Leader { reads, .. }) = &mut self.role else { return };
        if let Some((round, index)) = reads.confirm(confirmed) {
            assert!(index <= self.commit_index, "reads invariant 3");
            out.push(Output::ReadsReady { round, index });
            if canon!(read_quorum_commits) {
                self.commit_to(self.stable.durable_index(), out);
            }
        }
    }

    /// The newest round that a quorum has confirmed, the leader itself always being one of it.
    pub(crate) fn confirmed_round(&self) -> ReadRound {
        let Role::Leader(Leader { peers, reads, .. }) = &self.role else { return ReadRound(0) };
        let newest = reads.newest();
        ReadRound(self.configuration().quorum_value(|id| {
            if id == self.id || canon!(leader_reads_without_asking) {
                return newest.0;
            }
            peers.get(&id).map_or(0, |peer| peer.round().0)
        }))
    }

    fn send_heartbeats(&self, out: &mut Vec<Output>) {
        let confirmed = self.confirmed_round();
        let Role::Leader(leader) = &self.role else { return };
        for (to, peer) in &leader.peers {
            // A follower is never told to commit what it is not known to hold (etcd does the same;
            // the follower checks it once more against what it has verified).
            let mut commit = self.commit_index.min(peer.match_index());
            if canon!(heartbeat_commits_what_is_not_held) {
                commit = self.commit_index;
            }
            let round = leader.reads.newest();
            let message = Message::Heartbeat(Heartbeat {
                term: self.term(),
                commit,
                round,
                recover_to: peer.recovery().and_then(|recovery| recovery.answer(confirmed)),
            });
            out.push(Output::Send { to: *to, message });
        }
    }
}
