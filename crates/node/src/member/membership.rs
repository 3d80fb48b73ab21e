//! Who belongs to the cluster, as this member carries it out and remembers it.
//!
//! Responsible for: changing the membership as the leader, and telling whoever asked once it is done;
//! keeping the record's members and removed ones; telling the driver whom to be connected to; and
//! noticing that this member is none any more. Not responsible for: what a configuration means, which
//! is the consensus module's.
//!
//! Invariants:
//! 1. A change is done when the entry that holds it is committed and applied.
//! 2. What the record says of the members is what the last configuration entry that was applied says.
//! 3. A member ends only when it is certain that it is none: a committed entry says so, or a peer that
//!    has applied one.

use std::collections::BTreeMap;
use std::sync::Arc;

use jangada_entry::{Frame, decode_configuration};
use jangada_net::{Answer, Ask, AskRefusal, Basis};
use jangada_raft::{
    ChangeRefused, Configuration, Index, Input, MemberChange, NodeId, Position, canon,
};

use super::asks::Asker;
use super::{Effect, Ended, Member, Peers, TurnedAway};
use crate::machine::StateMachine;
use crate::record::members_of;

/// How many election timeouts a removed member is still connected to: the leader sends it entries for
/// two quorum checks at most, and the last of them take their time.
const LINGER_TIMEOUTS: u64 = 3;

/// A change that this member carries out as the leader.
#[derive(Debug)]
pub(super) struct ChangeUnderWay {
    asker: Asker,
    wanted: MemberChange,
    /// The entry that is to be applied.
    position: Position,
}

/// A removed member that may not know of it yet.
#[derive(Debug)]
pub(super) struct Lingering {
    addresses: Vec<String>,
    until_us: u64,
}

/// What the module said to a change.
#[derive(Debug)]
pub(super) enum Configured {
    As(Position),
    Refused(ChangeRefused),
}

/// Whether a change that has led to this configuration is done: voters that are new may still have to
/// catch up, but nobody who was to go may still be there.
fn is_done(configuration: &Configuration) -> bool {
    let Configuration { voters, target, .. } = configuration;
    !configuration.is_joint()
        && (target.is_empty() || voters.iter().all(|voter| target.contains(voter)))
}

impl<M: StateMachine> Member<M> {
    /// This member leads and is to change the membership. When it does, whoever asked is answered
    /// later.
    pub(super) fn change_members(
        &mut self,
        asker: Asker,
        wanted: &MemberChange,
        basis: Basis,
    ) -> Result<(), AskRefusal> {
        // Who was removed is known of what is applied; what is not yet applied may have removed more.
        if self.raft.configuration_index().is_some_and(|at| self.record.applied.index < at) {
            return Err(AskRefusal::UnderWay);
        }
        let same = basis.is(self.raft.configuration());
        if !same && !canon!(change_rests_on_other_members) {
            return Err(AskRefusal::Overtaken);
        }
        let removed = self.record.membership.removed();
        if wanted.voters.iter().chain(&wanted.learners).any(|id| removed.contains(id)) {
            return Err(AskRefusal::RemovedBefore);
        }
        self.configured = None;
        self.input(Input::ChangeMembers(wanted.clone()));
        let position = match self.configured.take() {
            Some(Configured::As(position)) => position,
            Some(Configured::Refused(refused)) => return Err(refusal(refused)),
            // It is so already, as soon as the log is committed so far.
            None => self.raft.last_position(),
        };
        // A change that only waits for new voters to catch up may be replaced by another.
        self.fail_change();
        self.change = Some(ChangeUnderWay { asker, wanted: wanted.clone(), position });
        Ok(())
    }

    /// The module has put a configuration into the log, or has not.
    pub(super) fn configured(&mut self, configured: Configured) {
        // The final configuration follows the joint one: the change is done with it.
        if let (Configured::As(position), Some(change)) = (&configured, &mut self.change) {
            change.position = *position;
        }
        self.configured = Some(configured);
    }

    /// Answers whoever wanted a change that is done (membership invariant 1).
    pub(super) fn settle_change(&mut self) {
        let configuration = self.record.membership.configuration();
        let applied = self.record.applied.index;
        let done = |change: &mut ChangeUnderWay| {
            change.position.index <= applied && is_done(configuration)
        };
        let Some(change) = self.change.take_if(done) else { return };
        let (index, configuration) = (change.position.index, configuration.clone());
        self.answer_change(&change, Answer::Changed { index, configuration });
    }

    /// Leadership is lost: unless it is committed, nobody knows what becomes of the change.
    pub(super) fn doubt_change(&mut self) {
        let commit = self.raft.commit_index();
        let is_committed = |position: Position| {
            position.index <= commit && self.raft.term_at(position.index) == Some(position.term)
        };
        if self.change.as_ref().is_some_and(|change| !is_committed(change.position)) {
            self.fail_change();
        }
    }

    fn fail_change(&mut self) {
        if let Some(change) = self.change.take() {
            self.answer_change(&change, Answer::Refused(AskRefusal::InDoubt));
        }
    }

    fn answer_change(&mut self, change: &ChangeUnderWay, answer: Answer) {
        match change.asker {
            Asker::Own(ticket) => self.ask_answered(ticket, answer),
            asker @ Asker::Peer { .. } => {
                let (change, basis) = (change.wanted.clone(), Basis::ANY);
                self.tell(asker, &Ask::ChangeMembers { change, basis }, answer);
            }
        }
    }

    /// A configuration entry is applied (membership invariant 2).
    pub(super) fn apply_configuration(&mut self, frame: &Frame) {
        let configuration = decode_configuration(frame.payload())
            .expect("a configuration is read before its entry enters the log");
        let before = self.record.membership.clone();
        self.record.membership = Arc::new(before.followed_by(configuration));
        let until_us = self.now.monotonic_us + LINGER_TIMEOUTS * self.options.election_timeout_us;
        for removed in self.record.membership.removed() {
            if !before.removed().contains(removed) {
                let addresses = before.configuration().addresses.get(removed);
                let addresses = addresses.cloned().unwrap_or_default();
                self.lingering.insert(*removed, Lingering { addresses, until_us });
            }
        }
        self.members_changed();
    }

    /// Tells the driver whom to be connected to, if that has changed.
    pub(super) fn members_changed(&mut self) {
        if *self.configuration != *self.raft.configuration() {
            self.configuration = Arc::new(self.raft.configuration().clone());
        }
        let peers = self.peers();
        if self.peers_told != peers {
            self.peers_told.clone_from(&peers);
            self.effects.push(Effect::Peers(peers));
        }
    }

    /// Whom this member is to be connected to: everybody in the configuration in force, in the last
    /// one that was applied, and whoever was removed a moment ago.
    #[must_use]
    pub fn peers(&self) -> Peers {
        let (force, applied) = (self.raft.configuration(), self.record.membership.configuration());
        let mut peers = Peers {
            membership: self.record.membership.clone(),
            version: self.record.version,
            ..Peers::default()
        };
        let lingering = self.lingering.iter().map(|(id, lingering)| (*id, &lingering.addresses));
        peers.addresses.extend(lingering.map(|(id, addresses)| (id, addresses.clone())));
        for configuration in [applied, force] {
            for id in members_of(configuration) {
                let addresses = configuration.addresses.get(&id).cloned().unwrap_or_default();
                peers.addresses.insert(id, addresses);
            }
        }
        peers.addresses.remove(&self.id);
        if !canon!(removed_member_is_not_refused) {
            let removed = self.record.membership.removed().iter();
            let gone = removed.filter(|id| !self.lingering.contains_key(id));
            peers.removed = gone.copied().collect();
        }
        peers
    }

    /// A peer does not take this member for one (membership invariant 3).
    pub(super) fn turned_away(&mut self, by: NodeId, reason: TurnedAway) {
        let ended = match reason {
            TurnedAway::Removed => Ended::Removed(self.id),
            TurnedAway::Wiped => {
                self.turned_away_by.insert(by);
                let voters = &self.raft.configuration().voters;
                let witnesses = voters.iter().filter(|id| self.turned_away_by.contains(id)).count();
                // One witness may itself be the one that is mistaken, and then this member has a log.
                let certain = self.raft.commit_index() == Index(0) || voters.len() / 2 < witnesses;
                if !certain {
                    return;
                }
                Ended::Wiped { id: self.id, witness: by }
            }
        };
        self.end(ended);
    }

    /// Ends this member if what was applied says that it is none. A leader hands over first; whoever
    /// asked here for the removal is answered first; and what the others may still need to hear from
    /// this member is given an election timeout.
    pub(super) fn end_if_removed(&mut self) {
        if !self.record.membership.removed().contains(&self.id) {
            return;
        }
        let at = self.now.monotonic_us + self.options.election_timeout_us;
        let ends_us = *self.ends_us.get_or_insert(at);
        let late_us = ends_us + self.options.election_timeout_us;
        let now_us = self.now.monotonic_us;
        if late_us <= now_us || (ends_us <= now_us && !self.leads()) {
            self.end(Ended::Removed(self.id));
        }
    }

    pub(super) fn end(&mut self, ended: Ended) {
        if self.ended.is_none() {
            self.ended = Some(ended);
            self.effects.push(Effect::Ends(ended));
        }
    }

    /// When the next removed member is let go, or this one ends.
    pub(super) fn membership_next_us(&self) -> Option<u64> {
        let lingering = self.lingering.values().map(|lingering| lingering.until_us).min();
        let late_us = |us: u64| {
            if us <= self.now.monotonic_us { us + self.options.election_timeout_us } else { us }
        };
        let ends = self.ends_us.filter(|_| self.ended.is_none()).map(late_us);
        [lingering, ends].into_iter().flatten().min()
    }

    /// Lets removed members go.
    pub(super) fn expire_membership(&mut self) {
        let now_us = self.now.monotonic_us;
        let before = self.lingering.len();
        let mut gone = Vec::new();
        self.lingering.retain(|id, lingering| {
            let stays = now_us < lingering.until_us;
            if !stays {
                gone.push(*id);
            }
            stays
        });
        if before != self.lingering.len() {
            self.acquaintances.forget(&gone);
            self.snapshots.forget(&gone);
            self.queue_notes();
            self.members_changed();
        }
        self.end_if_removed();
    }
}

fn refusal(refused: ChangeRefused) -> AskRefusal {
    match refused {
        ChangeRefused::NotLeader(_) => AskRefusal::NotLeader,
        ChangeRefused::UnderWay => AskRefusal::UnderWay,
        ChangeRefused::TooEarly => AskRefusal::TooEarly,
        ChangeRefused::HandingOver => AskRefusal::HandingOver,
        ChangeRefused::Impossible => AskRefusal::Impossible,
        ChangeRefused::Recovering => AskRefusal::Recovering,
    }
}

/// What a member that starts knows of itself.
pub(super) type LingeringMembers = BTreeMap<NodeId, Lingering>;
