//! Snapshots (§7, thesis §5), as far as the consensus module has to do with them.
//!
//! Responsible for when a peer is to be sent a snapshot, for where its replication goes on
//! afterwards, and for what a snapshot that was installed means for the log. Not responsible for
//! making, sending or installing one: whoever drives the module does that, and tells of start,
//! success and failure. Cutting the log is the driver's as well ([`Raft::compact`]).
//!
//! Figure 13 sends a snapshot through the module's own RPC and answers it by that. Here it travels
//! apart, on a lane of its own, for minutes if need be, while heartbeats go on:
//!
//! ```text
//! leader                          its driver           the peer's driver        peer
//!   (the peer needs what was cut)
//!   SendSnapshot{peer, 7} ------>  makes one of 9
//!                                  -------------------> installs it, durably,
//!                                                       in the state machine
//!                                                       SnapshotInstalled{9} -> Write{anew after 9}
//!   SnapshotDelivered{peer, 9} <-- <------------------- done
//!   Grant{after 9, ...}                                                         Commit(9)
//! ```
//!
//! # The log after an installation
//!
//! What the snapshot covers is committed. Three cases, of which the first is figure 13's rule 6, and
//! the second its rule 7:
//!
//! ```text
//!   snapshot to (4, term 2)
//!
//!   log   1 1 2 2 3      holds it: nothing is dropped, 5 least of all, which may have been
//!                        acknowledged; only the commit index rises to 4
//!   log   1 1            does not reach so far, or
//!   log   1 1 1 1 1      has another entry there, and thus nothing of use behind it:
//!                        begun anew after 4
//!   log   1 1 2 2 3      with 4 or more committed already: no news, ignored
//! ```
//!
//! The state machine holds the snapshot durably *before* the module hears of it. A crash before the
//! log's write is done leaves the machine ahead of the log, and at the next start the driver begins
//! the log anew behind what the machine has applied.
//!
//! # The term comes first
//!
//! A member that knows an entry to be committed must not listen to a leader that was deposed before
//! that: it would acknowledge to it what that leader has another entry in place of.
//!
//! ```text
//!   5 members; 1 leads term 5 and has written (7, term 5), which no other has
//!   2 leads term 7 and commits (7, term 4) with 3 and 4; member 5 hears of term 7 and is sent a
//!   snapshot to (7, term 4), crashes before its term is durable, and comes back in term 5:
//!   what it holds up to 7 is not what 1 holds up to 7
//! ```
//!
//! Therefore a driver begins to install a snapshot only when the term of its sender, or a later one,
//! is durable at the receiver ([`Raft::is_hard_state_durable`]).
//!
//! Invariants:
//!
//! 1. At most one snapshot is under way to a peer: it is asked for on the way into that state, and the
//!    way out is the driver's word on how it ended.
//! 2. Nothing committed here is ever replaced by a snapshot: one that contradicts it is a broken
//!    cluster.
//! 3. A leader never drops its log. It holds all that is committed (Leader Completeness), so the case
//!    does not come up.

use crate::contract::{Configuration, Index, NodeId, Output, Position, Range, Write};
use crate::log::Log;
use crate::raft::Raft;
use crate::role::{Leader, Role};

/// The leader's side.
impl Raft {
    /// The peer has installed a snapshot that covers `last`: replication goes on right behind it. Should
    /// the log have been cut past that meanwhile, the next flush asks for another one.
    ///
    /// What the peer holds counts once it has acknowledged it, like anything else.
    pub(crate) fn snapshot_delivered(&mut self, peer: NodeId, last: Index) {
        assert!(last <= self.commit_index, "a snapshot covers only what is committed");
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(progress) = leader.peers.get_mut(&peer) {
            progress.deliver(last);
        }
    }

    /// The snapshot for the peer was not delivered, or nobody knows.
    pub(crate) fn snapshot_failed(&mut self, peer: NodeId) {
        let start = self.log.start().index;
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(progress) = leader.peers.get_mut(&peer) {
            progress.fail(start);
        }
    }
}

/// The receiver's side.
impl Raft {
    /// The state machine holds a snapshot that covers `last`.
    pub(crate) fn snapshot_installed(
        &mut self,
        last: Position,
        configuration: Configuration,
        out: &mut Vec<Output>,
    ) {
        let over_anything = canon!(snapshot_replaces_what_is_committed);
        if last.index <= self.commit_index && !over_anything {
            mark!(snapshot_without_news_ignored);
            // The term of an entry before the cut is not known any more.
            let term = self.log.term_at(last.index);
            assert!(term.is_none_or(|term| term == last.term), "snapshot invariant 2");
            return;
        }
        assert!(last.term <= self.term(), "invariant 1: the term of a snapshot comes first");
        if self.log.holds(last) && !over_anything {
            mark!(snapshot_of_what_is_held);
            return self.commit_installed(last.index, out);
        }
        assert!(!matches!(self.role, Role::Leader(_)), "snapshot invariant 3");
        mark!(log_begun_anew);
        // Nobody stands for election with a log that is not the one it asked for votes with.
        if !matches!(self.role, Role::Follower(_)) {
            self.become_follower(self.term(), None, out);
        }
        self.begin_log_anew(last, configuration, out);
        if over_anything {
            self.commit_index = last.index;
        }
        self.commit_installed(last.index, out);
    }

    /// Drops the whole log and starts another one after `last`.
    fn begin_log_anew(
        &mut self,
        last: Position,
        configuration: Configuration,
        out: &mut Vec<Output>,
    ) {
        let range = Range::empty(last);
        self.log = Log::new(&range);
        let number = self.stable.write_anew(self.hard_state, last.index);
        out.push(Output::Write(Write {
            number,
            hard_state: self.hard_state,
            range: Some(range),
            anew: Some(configuration.clone()),
        }));
        let base = match canon!(membership_is_older_than_the_snapshot) {
            true => self.configuration().clone(),
            false => configuration,
        };
        if self.membership.restart(base) {
            out.push(Output::MembersChanged);
        }
    }

    /// The log holds `last`, which is committed: every leader to come has it (Leader Completeness,
    /// §5.4.3), and so has the present one.
    fn commit_installed(&mut self, last: Index, out: &mut Vec<Output>) {
        match &mut self.role {
            Role::Follower(follower) => {
                follower.verified = match self.log.start().index == last {
                    true => last,
                    false => follower.verified.max(last),
                };
            }
            Role::Leader(Leader { uncommitted, .. }) => uncommitted.commit(last),
            Role::PreCandidate(_) | Role::Candidate(_) => {}
        }
        self.commit_to(last, out);
    }
}
