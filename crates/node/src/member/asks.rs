//! What operators ask of the leader: changes of the membership, transfers of leadership.
//!
//! Responsible for: getting each question to the leader, once, wherever it was asked, and answering
//! it once, certainly or with the word that the outcome is not known. Not responsible for: what the
//! leader does with it, see [`super::membership`] and [`super::transfer`].
//!
//! Invariants:
//! 1. A question is put to one leader at most: it waits, or it has been handed to one, and never goes
//!    back to waiting.
//! 2. A question is answered once.

use std::collections::{BTreeMap, VecDeque};

use jangada_net::{Answer, Ask, AskRefusal, PeerMessage};
use jangada_raft::{Configuration, Index, NodeId, RoleKind, canon};

use super::{Effect, Member, Ticket};
use crate::machine::StateMachine;

/// The most questions of this member's operators that are not answered, and the most that a leader
/// keeps of others until its first entry is committed: far more than anyone asks by hand.
pub(super) const ASKS_MAX: usize = 64;

/// Why the membership was not changed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ChangeError {
    /// No leader was found in time. Nothing was changed.
    NoLeader,
    /// An earlier change is not finished. Nothing was changed.
    UnderWay,
    /// Leadership is being handed over. Nothing was changed.
    HandingOver,
    /// Nobody would vote, a member is named twice, or there are too many members or addresses. Nothing
    /// was changed.
    Impossible,
    /// A member wanted was removed before; ids are not used again. Nothing was changed.
    RemovedBefore,
    /// The members are others than those that the change was made out from. Nothing was changed.
    Overtaken,
    /// Too many of the voters asked for have lost a part of their logs and are recovering: with them the
    /// cluster could never confirm a leader. Nothing was changed.
    Recovering,
    /// Too many changes are asked for. Nothing was changed.
    Busy,
    /// The leader changed, the connection to it broke, or no answer came in time. The change may or may
    /// not happen.
    InDoubt,
    /// The member is stopping. The change may or may not happen.
    Stopped,
}

impl std::fmt::Display for ChangeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ChangeError::NoLeader => "no leader was found in time; the members are what they were",
            ChangeError::UnderWay => {
                "an earlier change of the members is not finished; wait for it, then ask again"
            }
            ChangeError::HandingOver => {
                "leadership is being handed over; ask again once there is a leader"
            }
            ChangeError::Impossible => {
                "the membership asked for cannot be: it needs at least one voter, no member twice, \
                 and no more than 256 members with short addresses"
            }
            ChangeError::RemovedBefore => {
                "a member asked for was removed before; add it under a new id, with an empty data \
                 directory"
            }
            ChangeError::Overtaken => {
                "the members were changed meanwhile, and this change was not made; look who they \
                 are, and ask again"
            }
            ChangeError::Recovering => {
                "too many of the voters asked for have lost a part of their logs and are recovering, \
                 and without them there is no majority; wait until they have recovered, or ask for \
                 voters that are whole"
            }
            ChangeError::Busy => "too many changes are asked for; ask again after a while",
            ChangeError::InDoubt => {
                "the leader changed or was silent while the members were being changed; they may \
                 or may not be what was asked for: look, and ask again if they are not"
            }
            ChangeError::Stopped => {
                "the member is stopping; the change of the members may or may not happen"
            }
        })
    }
}

impl std::error::Error for ChangeError {}

/// Why leadership was not handed over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TransferError {
    /// No leader was found in time.
    NoLeader,
    /// The one named is no voter, or there is no other voter.
    NoVoter,
    /// The one named did not take over within an election timeout; the leader leads on.
    TimedOut,
    /// Another transfer took its place.
    Replaced,
    /// Too many transfers are asked for.
    Busy,
    /// The leader changed, the connection to it broke, or no answer came in time. Leadership may or may
    /// not have been handed over.
    InDoubt,
    /// The member is stopping.
    Stopped,
}

impl std::fmt::Display for TransferError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            TransferError::NoLeader => "no leader was found in time, so none could hand over",
            TransferError::NoVoter => {
                "leadership can be handed to another voter only; name one, or promote it first"
            }
            TransferError::TimedOut => {
                "the member named did not take over in time, and the leader leads on; see that it \
                 runs and is not behind"
            }
            TransferError::Replaced => "another transfer of leadership took the place of this one",
            TransferError::Busy => "too many transfers are asked for; ask again after a while",
            TransferError::InDoubt => {
                "the leader changed or was silent while it handed over; look who leads"
            }
            TransferError::Stopped => "the member is stopping",
        })
    }
}

impl std::error::Error for TransferError {}

impl From<AskRefusal> for ChangeError {
    fn from(reason: AskRefusal) -> ChangeError {
        match reason {
            AskRefusal::NotLeader | AskRefusal::TooEarly => ChangeError::NoLeader,
            AskRefusal::UnderWay => ChangeError::UnderWay,
            AskRefusal::HandingOver => ChangeError::HandingOver,
            AskRefusal::RemovedBefore => ChangeError::RemovedBefore,
            AskRefusal::Overtaken => ChangeError::Overtaken,
            AskRefusal::Recovering => ChangeError::Recovering,
            AskRefusal::Busy => ChangeError::Busy,
            AskRefusal::InDoubt => ChangeError::InDoubt,
            // The last three are answers to the other question.
            AskRefusal::Impossible
            | AskRefusal::NoVoter
            | AskRefusal::TimedOut
            | AskRefusal::Replaced => ChangeError::Impossible,
        }
    }
}

impl From<AskRefusal> for TransferError {
    fn from(reason: AskRefusal) -> TransferError {
        match reason {
            AskRefusal::NotLeader | AskRefusal::TooEarly => TransferError::NoLeader,
            AskRefusal::TimedOut => TransferError::TimedOut,
            AskRefusal::Replaced | AskRefusal::HandingOver => TransferError::Replaced,
            AskRefusal::Busy => TransferError::Busy,
            AskRefusal::InDoubt => TransferError::InDoubt,
            // The rest but the first are answers to the other question.
            AskRefusal::NoVoter
            | AskRefusal::UnderWay
            | AskRefusal::Impossible
            | AskRefusal::Overtaken
            | AskRefusal::Recovering
            | AskRefusal::RemovedBefore => TransferError::NoVoter,
        }
    }
}

/// Who wants something of the leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asker {
    Own(Ticket),
    Peer { peer: NodeId, process: u64, number: u64 },
}

/// A question that the leader has not taken up.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) asker: Asker,
    pub(super) ask: Ask,
    pub(super) since_us: u64,
}

/// A question of this member's operators that has been handed to a leader, perhaps to this member.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) ask: Ask,
    pub(super) leader: NodeId,
    /// When its outcome becomes doubtful.
    pub(super) doubtful_us: u64,
    /// The leader's answer, which waits to be applied here.
    pub(super) done: Option<(Index, Configuration)>,
}

/// The questions of operators, at the member asked and at the leader.
#[derive(Debug, Default)]
pub(super) struct Asks {
    /// Not handed to a leader, or not taken up by this one.
    pub(super) arrived: VecDeque<Arrived>,
    pub(super) handed: BTreeMap<Ticket, Handed>,
}

impl Asks {
    pub(super) fn is_idle(&self) -> bool {
        self.arrived.is_empty() && self.handed.is_empty()
    }
}

impl<M: StateMachine> Member<M> {
    /// An operator of this member asks.
    pub(super) fn asked(&mut self, ticket: Ticket, ask: Ask) {
        if let Ask::ChangeMembers { change, .. } = &ask
            && !jangada_net::wire::fits(change)
        {
            self.tell(Asker::Own(ticket), &ask, Answer::Refused(AskRefusal::Impossible));
            return;
        }
        self.ask_arrived(Asker::Own(ticket), ask);
    }

    /// A question came, from here or from a peer.
    pub(super) fn ask_arrived(&mut self, asker: Asker, ask: Ask) {
        if ASKS_MAX <= self.asks.arrived.len() + self.asks.handed.len() + self.transfers.len() {
            self.tell(asker, &ask, Answer::Refused(AskRefusal::Busy));
            return;
        }
        let since_us = self.now.monotonic_us;
        self.asks.arrived.push_back(Arrived { asker, ask, since_us });
    }

    /// Hands what has arrived to whoever leads.
    pub(super) fn ask_leader(&mut self) {
        for arrived in std::mem::take(&mut self.asks.arrived) {
            let Some(leader) = self.leader() else {
                self.keep_or_refuse(arrived, AskRefusal::NotLeader);
                continue;
            };
            match arrived.asker {
                _ if leader == self.id => self.take_up(arrived),
                Asker::Own(ticket) => {
                    let (process, number, ask) = (self.process, ticket.0, arrived.ask.clone());
                    self.send(leader, PeerMessage::Ask { process, number, ask });
                    self.hand(ticket, arrived.ask, leader);
                }
                // Forwarded once already (asks invariant 1).
                Asker::Peer { .. } => self.keep_or_refuse(arrived, AskRefusal::NotLeader),
            }
        }
    }

    /// This member leads and is to do what is asked.
    fn take_up(&mut self, arrived: Arrived) {
        let Arrived { asker, ask, .. } = &arrived;
        let (change, basis) = match ask {
            Ask::ChangeMembers { change, basis } => (change, *basis),
            Ask::TransferLeadership(to) => {
                let (asker, to) = (*asker, *to);
                if let Asker::Own(ticket) = asker {
                    self.hand(ticket, arrived.ask, self.id);
                }
                self.transfer_leadership(asker, to);
                return;
            }
        };
        match (self.change_members(*asker, change, basis), *asker) {
            (Ok(()), Asker::Own(ticket)) => self.hand(ticket, arrived.ask, self.id),
            (Ok(()), Asker::Peer { .. }) => {}
            (Err(reason), _) => self.keep_or_refuse(arrived, reason),
        }
        self.settle_asks();
    }

    /// A question that is too early waits; this member's own also waits for a leader.
    fn keep_or_refuse(&mut self, arrived: Arrived, reason: AskRefusal) {
        let is_own = matches!(arrived.asker, Asker::Own(_));
        match reason {
            AskRefusal::TooEarly => self.asks.arrived.push_back(arrived),
            AskRefusal::NotLeader if is_own => self.asks.arrived.push_back(arrived),
            reason => self.tell(arrived.asker, &arrived.ask, Answer::Refused(reason)),
        }
    }

    fn hand(&mut self, ticket: Ticket, ask: Ask, leader: NodeId) {
        let doubtful_us = self.now.monotonic_us + self.options.leader_wait_us;
        let handed = Handed { ask, leader, doubtful_us, done: None };
        let before = self.asks.handed.insert(ticket, handed);
        assert!(before.is_none(), "asks invariant 1");
    }

    /// The leader has answered a question of this member's operators.
    pub(super) fn ask_answered(&mut self, ticket: Ticket, answer: Answer) {
        let Some(handed) = self.asks.handed.get_mut(&ticket) else { return };
        if let Answer::Changed { index, configuration } = answer {
            if canon!(change_is_answered_twice) {
                let (ask, configuration) = (handed.ask.clone(), configuration.clone());
                self.tell(Asker::Own(ticket), &ask, Answer::Changed { index, configuration });
            }
            let handed = self.asks.handed.get_mut(&ticket).expect("it was just seen");
            // Whoever asked here sees the change here.
            handed.done = Some((index, configuration));
            self.settle_asks();
            return;
        }
        let handed = self.asks.handed.remove(&ticket).expect("it was just seen");
        self.tell(Asker::Own(ticket), &handed.ask, answer);
    }

    /// Answers what is done and applied here.
    pub(super) fn settle_asks(&mut self) {
        self.settle_change();
        let applied = self.record.applied.index;
        let ready = |handed: &Handed| handed.done.as_ref().is_some_and(|(at, _)| *at <= applied);
        let tickets: Vec<Ticket> =
            self.asks.handed.iter().filter(|(_, h)| ready(h)).map(|(ticket, _)| *ticket).collect();
        for ticket in tickets {
            let handed = self.asks.handed.remove(&ticket).expect("it was just seen");
            let (index, configuration) = handed.done.expect("it was just seen");
            self.tell(Asker::Own(ticket), &handed.ask, Answer::Changed { index, configuration });
        }
    }

    /// Answers whoever asked (asks invariant 2: the question is in no list any more).
    pub(super) fn tell(&mut self, asker: Asker, ask: &Ask, answer: Answer) {
        let ticket = match asker {
            Asker::Own(ticket) => ticket,
            Asker::Peer { peer, process, number } => {
                self.send(peer, PeerMessage::Answer { process, number, answer });
                return;
            }
        };
        self.effects.push(match (ask, answer) {
            (Ask::ChangeMembers { .. }, Answer::Changed { configuration, .. }) => {
                Effect::ChangeAnswered { ticket, outcome: Ok(configuration) }
            }
            (Ask::ChangeMembers { .. }, Answer::Refused(reason)) => {
                Effect::ChangeAnswered { ticket, outcome: Err(reason.into()) }
            }
            (Ask::TransferLeadership(_), Answer::Transferred(leader)) => {
                Effect::TransferAnswered { ticket, outcome: Ok(leader) }
            }
            (Ask::TransferLeadership(_), Answer::Refused(reason)) => {
                Effect::TransferAnswered { ticket, outcome: Err(reason.into()) }
            }
            // An answer to another question: of this one nothing is known.
            (Ask::ChangeMembers { .. }, Answer::Transferred(_)) => {
                Effect::ChangeAnswered { ticket, outcome: Err(ChangeError::InDoubt) }
            }
            (Ask::TransferLeadership(_), Answer::Changed { .. }) => {
                Effect::TransferAnswered { ticket, outcome: Err(TransferError::InDoubt) }
            }
        });
    }

    /// The leader may be lost, and with it the answers: they get one election timeout to come.
    pub(super) fn doubt_asks(&mut self) {
        let at = self.now.monotonic_us + self.options.election_timeout_us;
        if canon!(forwarded_change_is_asked_again) {
            for (ticket, Handed { ask, .. }) in std::mem::take(&mut self.asks.handed) {
                let (asker, since_us) = (Asker::Own(ticket), self.now.monotonic_us);
                self.asks.arrived.push_back(Arrived { asker, ask, since_us });
            }
        }
        for handed in self.asks.handed.values_mut() {
            handed.doubtful_us = handed.doubtful_us.min(at);
        }
    }

    /// Whoever waits for a transfer sees it done when somebody else leads, as asked.
    pub(super) fn leader_seen_by_asks(&mut self, leader: NodeId) {
        let done = |handed: &Handed| match handed.ask {
            Ask::TransferLeadership(Some(to)) => to == leader,
            Ask::TransferLeadership(None) => leader != handed.leader,
            Ask::ChangeMembers { .. } => false,
        };
        let tickets: Vec<Ticket> =
            self.asks.handed.iter().filter(|(_, h)| done(h)).map(|(ticket, _)| *ticket).collect();
        for ticket in tickets {
            self.ask_answered(ticket, Answer::Transferred(leader));
        }
    }

    /// When the next question expires.
    pub(super) fn asks_next_us(&self) -> Option<u64> {
        let arrived = self.asks.arrived.front().map(|a| a.since_us + self.options.leader_wait_us);
        let handed = self.asks.handed.values().map(|handed| handed.doubtful_us).min();
        [arrived, handed].into_iter().flatten().min()
    }

    pub(super) fn expire_asks(&mut self) {
        let now_us = self.now.monotonic_us;
        let wait_us = self.options.leader_wait_us;
        while self.asks.arrived.front().is_some_and(|a| a.since_us + wait_us <= now_us) {
            let arrived = self.asks.arrived.pop_front().expect("there is a front");
            self.tell(arrived.asker, &arrived.ask, Answer::Refused(AskRefusal::NotLeader));
        }
        let late = |handed: &Handed| handed.doubtful_us <= now_us;
        let tickets: Vec<Ticket> =
            self.asks.handed.iter().filter(|(_, h)| late(h)).map(|(ticket, _)| *ticket).collect();
        for ticket in tickets {
            let handed = self.asks.handed.remove(&ticket).expect("it was just seen");
            self.tell(Asker::Own(ticket), &handed.ask, Answer::Refused(AskRefusal::InDoubt));
        }
    }

    /// Whether this member may do what leaders do.
    pub(super) fn leads(&self) -> bool {
        self.raft.role() == RoleKind::Leader
    }
}
