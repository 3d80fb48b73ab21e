//! Who the members are: the configurations in the log, and which of them is in force (§6).
//!
//! Responsible for the configurations that belong to the retained log, for who may campaign, and for
//! what a leader does on the way from one membership to another. Not responsible for what a change
//! turns into (`change.rs`), for counting (`quorum.rs`), or for addresses, which it only hands on.
//!
//! A configuration is in force from the moment it is appended (§6, "a server always uses the latest
//! configuration in its log"), on the leader as on everyone else, and out of force again when its
//! entry is cut off:
//!
//! ```text
//!   index         1   2   3   4   5   6   7
//!   follower          J           F             J = {1 2 4} leaving {1 2 3}, F = {1 2 4}
//!                                               in force: F
//!   a new leader's entries replace 5 and 6:
//!   follower          J           x   x         in force: J, as if F had never been
//! ```
//!
//! # A change, from end to end
//!
//! ```text
//!   wanted {1 2 4}, in force {1 2 3}
//!   2  {1 2 3} learners {4} target {1 2 4}      4 receives the log; quorums are what they were
//!      ... committed, and 4 has caught up (thesis §4.2.1)
//!   7  {1 2 4} leaving {1 2 3}                  joint: every decision needs both majorities
//!      ... committed, by both majorities
//!   9  {1 2 4}                                  3 is told until it holds this, or two quorum checks
//! ```
//!
//! Whoever leads goes on with it, the next leader too: all that it needs stands in the log. Every step
//! waits until the one before is committed, and a new leader counts nothing before an entry of its own
//! term is; thus a joint configuration is never left before it is committed.
//!
//! # A leader that is no voter any more
//!
//! It may be removed by its own entry. Until that is committed it leads, and does not count itself.
//! Then it tells the others, hands over to the voter that has most of the log, and is a follower that
//! does not campaign (§6).
//!
//! Invariants:
//!
//! 1. The configurations lie in the log, in the order of their indexes.
//! 2. Each follows from the one before it: the same voters, or joint with those before, or the joint
//!    one's new half; or an operator has forced it ([`Configuration::forced`]).
//! 3. A leader that has committed in its term appends one only when all earlier ones are committed.

use std::collections::BTreeMap;

use crate::change;
use crate::contract::{
    ChangeRefused, Configuration, Index, MemberChange, NodeId, Output, Position, Range, Timer,
};
use crate::progress::Progress;
use crate::raft::Raft;
use crate::role::{Leader, Role};

/// For how many quorum checks a removed member is still sent what it lacks of the configuration that
/// removes it. One interval may be over at once; a member that does not take it within a whole one is
/// probably down for good, and is told at the handshake should it come back.
const DEPARTING_CHECKS_MAX: u8 = 2;

/// The configurations that belong to the retained log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Membership {
    /// In force at the entry before the log's first.
    base: Configuration,
    /// Those among the log's entries. There are as many as the log was not cut behind; a leader has
    /// one change under way at a time.
    logged: Vec<(Index, Configuration)>,
}

impl Membership {
    /// What a member starts from.
    ///
    /// # Panics
    /// If the indexes do not rise.
    pub(crate) fn new(base: Configuration, logged: Vec<(Index, Configuration)>) -> Membership {
        let rises = logged.windows(2).all(|pair| pair[0].0 < pair[1].0);
        assert!(rises, "membership invariant 1: configurations lie in the log in order");
        Membership { base, logged }
    }

    /// The configuration in force: the newest.
    pub(crate) fn current(&self) -> &Configuration {
        self.logged.last().map_or(&self.base, |(_, newest)| newest)
    }

    /// Where the configuration in force stands; `None` when its entry was cut off, and is therefore
    /// committed.
    pub(crate) fn current_index(&self) -> Option<Index> {
        self.logged.last().map(|(index, _)| *index)
    }

    /// The configuration in force at the entry at `index`, which the log reaches to.
    pub(crate) fn at(&self, index: Index) -> &Configuration {
        let later = self.logged.partition_point(|(logged, _)| *logged <= index);
        later.checked_sub(1).map_or(&self.base, |at| &self.logged[at].1)
    }

    /// Those among the log's entries, by index.
    pub(crate) fn logged(&self) -> &[(Index, Configuration)] {
        &self.logged
    }

    /// Those after `after` and up to `last`.
    pub(crate) fn within(&self, after: Index, last: Index) -> &[(Index, Configuration)] {
        let from = self.logged.partition_point(|(index, _)| *index <= after);
        let to = self.logged.partition_point(|(index, _)| *index <= last);
        &self.logged[from.min(to)..to]
    }

    /// The log is cut off after `after`, and entries up to `last` are appended, with these
    /// configurations among them. Says whether another configuration is in force.
    pub(crate) fn splice(
        &mut self,
        after: Index,
        last: Index,
        appended: impl IntoIterator<Item = (Index, Configuration)>,
    ) -> bool {
        let before = (self.current_index(), self.logged.len());
        let kept = self.logged.partition_point(|(index, _)| *index <= after);
        let dropped = self.logged.split_off(kept);
        let news = appended.into_iter().filter(|(index, _)| after < *index && *index <= last);
        self.logged.extend(news);
        if canon!(configuration_is_not_rolled_back)
            && self.logged.len() == kept
            && let Some((index, newest)) = dropped.last()
        {
            self.logged.push((last.min(*index), newest.clone()));
        }
        if !dropped.is_empty() {
            mark!(configuration_rolled_back);
        }
        !dropped.is_empty() || before != (self.current_index(), self.logged.len())
    }

    /// Appends a configuration at the log's end.
    fn push(&mut self, index: Index, configuration: Configuration) {
        let newest = self.current_index();
        assert!(newest.is_none_or(|newest| newest < index), "membership invariant 1");
        assert!(change::follows(self.current(), &configuration), "membership invariant 2");
        self.logged.push((index, configuration));
    }

    /// The log is cut before the entry after `up_to`.
    pub(crate) fn compact(&mut self, up_to: Index) {
        let cut = self.logged.partition_point(|(index, _)| *index <= up_to);
        if let Some((_, newest)) = self.logged.drain(..cut).next_back() {
            self.base = newest;
        }
    }

    /// The log is begun anew behind an entry at which `base` is in force. Says whether another
    /// configuration is in force.
    pub(crate) fn restart(&mut self, base: Configuration) -> bool {
        let same = *self.current() == base;
        *self = Membership { base, logged: Vec::new() };
        !same
    }

    /// Whether the invariants above hold as far as they can be seen from here, the log reaching from
    /// `start` (exclusive) to `last`.
    pub(crate) fn is_well_formed(&self, start: Index, last: Index) -> bool {
        let within = |(index, _): &(Index, Configuration)| start < *index && *index <= last;
        let rises = |pair: &[(Index, Configuration)]| pair[0].0 < pair[1].0;
        self.logged.iter().all(within) && self.logged.windows(2).all(rises)
    }

    /// Whether each configuration follows from the one before it. A member that has never learned of
    /// one starts anywhere.
    pub(crate) fn is_consistent(&self) -> bool {
        let all = || std::iter::once(&self.base).chain(self.logged.iter().map(|(_, it)| it));
        all()
            .zip(all().skip(1))
            .all(|(one, next)| one.voters.is_empty() || change::follows(one, next))
    }

    /// The same, every configuration being changed by `renamed`.
    pub(crate) fn map(&self, renamed: impl Fn(&Configuration) -> Configuration) -> Membership {
        let logged = self.logged.iter().map(|(index, it)| (*index, renamed(it))).collect();
        Membership { base: renamed(&self.base), logged }
    }
}

impl Raft {
    /// The configuration in force.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        self.membership.current()
    }

    /// Where the configuration in force stands in the log; `None` when its entry was cut off. It is
    /// committed if that is not above [`Raft::commit_index`].
    #[must_use]
    pub fn configuration_index(&self) -> Option<Index> {
        self.membership.current_index()
    }

    /// The configuration in force at the entry at `index`; `None` where the log does not reach.
    #[must_use]
    pub fn configuration_at(&self, index: Index) -> Option<&Configuration> {
        self.log.term_at(index).map(|_| self.membership.at(index))
    }

    /// The newest configuration that is known to be committed.
    #[must_use]
    pub fn committed_configuration(&self) -> &Configuration {
        self.membership.at(self.commit_index)
    }

    /// The configurations among the entries of the retained log, by index.
    #[must_use]
    pub fn configurations(&self) -> &[(Index, Configuration)] {
        self.membership.logged()
    }

    /// Leader: members that were removed and are still told of it, for at most two quorum checks.
    pub fn departing(&self) -> impl Iterator<Item = NodeId> + '_ {
        let departing = match &self.role {
            Role::Leader(leader) => Some(&leader.departing),
            _ => None,
        };
        departing.into_iter().flat_map(|departing| departing.keys().copied())
    }

    /// Whether this member may stand for election: as a voter of the newest configuration, or of the
    /// last committed one.
    ///
    /// The second matters when the newest one removes this member and is not committed. It may be the
    /// only one that holds it, and then nobody else can win:
    ///
    /// ```text
    ///   1   J F     J = {2} leaving {1 2}, F = {2}: 1 made F, crashed, and is back
    ///   2   J       needs the vote of 1, whose log is longer
    /// ```
    pub(crate) fn may_campaign(&self) -> bool {
        if self.recovering.is_some() {
            return false;
        }
        self.configuration().is_voter(self.id)
            || (self.committed_configuration().is_voter(self.id)
                && !canon!(removed_member_may_not_campaign))
    }

    /// Another membership is wanted.
    pub(crate) fn change_members(&mut self, wanted: &MemberChange, out: &mut Vec<Output>) {
        match self.plan_change(wanted) {
            Ok(Some(configuration)) => self.append_configuration(configuration, out),
            Ok(None) => mark!(nothing_to_change),
            Err(refused) => out.push(Output::ChangeRefused(refused)),
        }
    }

    /// What the change turns into; `None` when it is what there is.
    fn plan_change(&self, wanted: &MemberChange) -> Result<Option<Configuration>, ChangeRefused> {
        let Role::Leader(leader) = &self.role else {
            return Err(ChangeRefused::NotLeader(self.leader()));
        };
        if leader.transfer.is_some() {
            return Err(ChangeRefused::HandingOver);
        }
        if self.commit_index < leader.term_start {
            return Err(ChangeRefused::TooEarly);
        }
        if self.configuration().is_joint() || !self.is_configuration_committed() {
            return Err(ChangeRefused::UnderWay);
        }
        let next = change::plan(self.configuration(), wanted)?;
        if next.as_ref().is_some_and(|next| next.is_joint() && !self.can_confirm_with(next)) {
            mark!(recovering_voters_are_not_relied_on);
            return Err(ChangeRefused::Recovering);
        }
        Ok(next)
    }

    /// Whether the configuration in force is known to be committed.
    pub(crate) fn is_configuration_committed(&self) -> bool {
        self.membership.current_index().is_none_or(|index| index <= self.commit_index)
    }

    /// Takes the next step of a change that is under way, if its time has come. Asked at the end of
    /// each step, since anything may be what was missing: a commit, an answer, the end of a transfer.
    ///
    /// A new leader that finds a joint configuration in its log leaves it like one of its own: when it
    /// is known to be committed, hence not before this leader has committed in its own term.
    pub(crate) fn advance_membership(&mut self, out: &mut Vec<Output>) {
        let Role::Leader(leader) = &self.role else { return };
        let current = self.membership.current();
        let is_settled = !current.is_joint() && current.target.is_empty();
        if is_settled && leader.departing.is_empty() && current.voters.contains(&self.id) {
            return;
        }
        let own_term = leader.term_start <= self.commit_index;
        let early = canon!(joint_is_left_before_it_is_committed) && current.is_joint();
        let may_go_on = early || (own_term && self.is_configuration_committed());
        if !may_go_on {
            return;
        }
        if current.is_joint() {
            return self.append_configuration(change::leave_joint(current), out);
        }
        self.release_departed(out);
        if !self.configuration().voters.contains(&self.id) {
            return self.leave_office(out);
        }
        self.move_to_target(out);
    }

    /// Makes voters of the learners that are to be, once they have all caught up.
    ///
    /// Caught up is who has, before the next quorum check, all that this leader had at the last one:
    /// then a round of replication takes less than an election timeout, and so little is missing that
    /// the cluster would not wait for longer than that (thesis §4.2.1). All must do so in the same
    /// interval, and answer in it: one that caught up and is gone would be a voter that is missing.
    fn move_to_target(&mut self, out: &mut Vec<Output>) {
        let Role::Leader(leader) = &self.role else { return };
        let current = self.membership.current();
        if current.target.is_empty() || leader.transfer.is_some() {
            return;
        }
        let caught_up = |id: &NodeId| {
            let peer = leader.peers.get(id);
            current.voters.contains(id)
                || peer.is_some_and(|peer| peer.is_heard() && leader.round <= peer.match_index())
        };
        if current.target.iter().all(caught_up) {
            let next = change::enter_joint(current);
            if self.can_confirm_with(&next) {
                mark!(learners_caught_up);
                self.append_configuration(next, out);
            }
        }
    }

    /// The interval of the quorum check has passed: a new round of catching up begins, and those who
    /// were removed have had their time.
    pub(crate) fn begin_catch_up_round(&mut self, out: &mut Vec<Output>) {
        let last = self.log.last_index();
        let Role::Leader(leader) = &mut self.role else { return };
        leader.round = last;
        if leader.departing.is_empty() {
            return;
        }
        leader.departing.values_mut().for_each(|checks_left| *checks_left -= 1);
        self.release_departed(out);
    }

    /// Lets go of those removed members that know it, or have had their time.
    fn release_departed(&mut self, out: &mut Vec<Output>) {
        let committed = self.is_configuration_committed();
        let index = self.membership.current_index().unwrap_or_default();
        let Role::Leader(Leader { departing, peers, .. }) = &mut self.role else { return };
        let before = departing.len();
        departing.retain(|id, checks_left| {
            let knows =
                |peer: &Progress| index <= peer.match_index() && index <= peer.commit_told();
            let done = *checks_left == 0 || (committed && peers.get(id).is_none_or(knows));
            if done {
                peers.remove(id);
            }
            !done
        });
        if departing.len() < before {
            mark!(departed_member_released);
            out.push(Output::MembersChanged);
        }
    }

    /// Appends a configuration to the leader's log. It is in force at once, so that everything that
    /// was being counted is counted anew: with fewer voters, less may be enough.
    fn append_configuration(&mut self, configuration: Configuration, out: &mut Vec<Output>) {
        let prev = self.log.last_position();
        let position = Position { index: prev.index.next(), term: self.term() };
        let committed =
            canon!(joint_is_left_before_it_is_committed) || self.is_configuration_committed();
        assert!(committed, "membership invariant 3: one change at a time");
        out.push(Output::Configured { position, configuration: configuration.clone() });
        self.membership.push(position.index, configuration);
        self.append(Range::of_term(prev, position.term, position.index), out);
        self.follow_configuration(position.index);
        out.push(Output::MembersChanged);
        // New voters have had no time to answer yet.
        self.restart(Timer::QuorumCheck, out);
        self.check_transfer_target(out);
        self.advance_commit(out);
        self.advance_reads(out);
    }

    /// The leader's peers are the others of the configuration in force, appended at `index`, and those
    /// that it has just removed.
    fn follow_configuration(&mut self, index: Index) {
        let id = self.id;
        let Raft { role: Role::Leader(leader), membership, .. } = self else { return };
        let current = membership.current();
        let Leader { peers, departing, .. } = leader;
        for member in current.members().filter(|member| *member != id) {
            departing.remove(&member);
            peers.entry(member).or_insert_with(|| Progress::new(index));
        }
        for peer in peers.keys().filter(|peer| !current.is_member(**peer)) {
            departing.entry(*peer).or_insert(DEPARTING_CHECKS_MAX);
        }
        leader.round = index;
    }

    /// Takes over what the log, which was cut off after `range.prev`, now holds of configurations.
    pub(crate) fn splice_configurations(
        &mut self,
        range: &Range,
        configurations: Vec<(Index, Configuration)>,
        out: &mut Vec<Output>,
    ) {
        if self.membership.splice(range.prev.index, range.last, configurations) {
            out.push(Output::MembersChanged);
        }
    }
}

/// A leader's peers, as it starts: everyone else of its configuration.
pub(crate) fn peers_of(
    current: &Configuration,
    id: NodeId,
    next: Index,
) -> BTreeMap<NodeId, Progress> {
    let others = current.members().filter(|member| *member != id);
    others.map(|member| (member, Progress::new(next))).collect()
}

#[cfg(test)]
#[path = "membership_tests.rs"]
mod tests;
