//! A whole cluster without any reduction: members as they are, messages in the order in which they
//! were sent. Openings, scripts and the liveness check play on it, and the tests hold the search
//! against it.
//!
//! Responsible for carrying out deeds. Not responsible for choosing them.

use std::collections::BTreeMap;

use jangada_raft::{NodeId, Timer};

use super::bounds::{Bounds, Opening};
use super::history::History;
use super::member::{Act, Ending, Ground, Member, Numbering, Refinement, Said, Turn};
use super::parcel::Parcel;
use super::violation::Violation;
use crate::run::panics::caught;

/// Something that happens to a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Deed {
    /// A member takes a turn.
    Take { member: NodeId, act: Act, ending: Ending },
    /// A message arrives; it may stay under way and arrive again.
    Deliver { from: NodeId, to: NodeId, message: Parcel, original: Original, ending: Ending },
    /// A message is lost.
    Lose { from: NodeId, to: NodeId, message: Parcel },
    /// A connection breaks: what was under way on it is lost, and its sender hears of it.
    Disconnect { member: NodeId, peer: NodeId, ending: Ending },
}

/// Whether a message that arrives stays under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Original {
    /// It does: it will arrive twice.
    Stays,
    /// It does not.
    Gone,
}

/// A cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stage {
    pub(crate) members: BTreeMap<NodeId, Member>,
    /// What is under way on each link, in the order in which it was sent. No link is empty.
    pub(crate) links: BTreeMap<(NodeId, NodeId), Vec<Parcel>>,
    pub(crate) history: History,
}

impl Ground {
    /// The ground that the bounds give.
    pub(crate) fn new(bounds: &Bounds, numbering: Numbering, refinement: Refinement) -> Ground {
        let configuration = bounds.configuration.clone();
        let joiners = bounds.joiners.clone();
        Ground { configuration, joiners, limits: bounds.limits(), numbering, refinement }
    }
}

impl Stage {
    /// Members that have just started.
    pub(crate) fn new(bounds: &Bounds, ground: &Ground) -> Stage {
        let members = bounds.members();
        Stage {
            members: members.into_iter().map(|id| (id, Member::new(id, ground))).collect(),
            links: BTreeMap::new(),
            history: History::new(ground),
        }
    }

    /// The place of a message on its link.
    pub(crate) fn place_of(&self, from: NodeId, to: NodeId, message: &Parcel) -> Option<usize> {
        self.links.get(&(from, to))?.iter().position(|other| other == message)
    }

    /// Carries out a deed; says what the member did.
    ///
    /// # Panics
    /// If the module does.
    pub(crate) fn perform(&mut self, deed: &Deed, ground: &Ground) -> Turn {
        match deed {
            Deed::Take { member, act, ending } => self.take(*member, act, *ending, ground),
            Deed::Deliver { from, to, message, original, ending } => {
                if *original == Original::Gone {
                    self.remove(*from, *to, message);
                }
                let act = Act::Receive { from: *from, message: message.clone() };
                self.take(*to, &act, *ending, ground)
            }
            Deed::Lose { from, to, message } => {
                self.remove(*from, *to, message);
                Turn::default()
            }
            Deed::Disconnect { member, peer, ending } => {
                self.links.remove(&(*member, *peer));
                self.take(*member, &Act::Unreachable(*peer), *ending, ground)
            }
        }
    }

    /// The deeds of the opening, carried out.
    pub(crate) fn open(&mut self, opening: Opening, ground: &Ground) -> Vec<Deed> {
        let mut deeds = Vec::new();
        if opening == Opening::Led {
            let member = *self.members.keys().next().expect("there is a member");
            let act = Act::Timer(Timer::Election);
            let first = Deed::Take { member, act, ending: Ending::Flushed };
            self.perform(&first, ground);
            deeds.push(first);
            while let Some(deed) = self.quiet_deed() {
                self.perform(&deed, ground);
                deeds.push(deed);
            }
        }
        deeds
    }

    /// What happens next when nothing goes wrong and no timer fires: a message arrives in order, a
    /// write is completed. `None` when nothing is left to happen.
    pub(crate) fn quiet_deed(&self) -> Option<Deed> {
        let is_up = |id: &NodeId| self.members[id].raft.is_some();
        let link = self.links.iter().find(|((_, to), _)| is_up(to));
        if let Some(((from, to), messages)) = link {
            let (from, to, message) = (*from, *to, messages[0].clone());
            let (original, ending) = (Original::Gone, Ending::Flushed);
            return Some(Deed::Deliver { from, to, message, original, ending });
        }
        let (id, member) = self.members.iter().find(|(_, member)| !member.pending.is_empty())?;
        let act = Act::Persist(member.pending.len());
        Some(Deed::Take { member: *id, act, ending: Ending::Flushed })
    }

    fn take(&mut self, id: NodeId, act: &Act, ending: Ending, ground: &Ground) -> Turn {
        let member = self.members.get_mut(&id).expect("a known member");
        let mut turn = member.take(act, ending, ground);
        for said in &turn.said {
            if let Said::Sent(to, message) = said {
                self.links.entry((id, *to)).or_default().push(message.clone());
            }
        }
        for fact in &turn.facts {
            if let Err(violation) = self.history.accept(id, fact) {
                turn.violation.get_or_insert(violation);
            }
        }
        turn
    }

    fn remove(&mut self, from: NodeId, to: NodeId, message: &Parcel) {
        let place = self.place_of(from, to, message).expect("the message is under way");
        let link = self.links.get_mut(&(from, to)).expect("the link is in use");
        link.remove(place);
        if link.is_empty() {
            self.links.remove(&(from, to));
        }
    }
}

/// Runs what may panic in the module; a panic is a broken invariant.
pub(crate) fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, Violation> {
    caught(run).map_err(|panic| {
        Violation::new("an assertion of the module", format!("{} ({})", panic.said, panic.place))
    })
}
