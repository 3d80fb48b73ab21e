//! The network of the core world: messages that are lost, late, doubled and out of order.
//!
//! Responsible for when a message arrives, and whether. Unlike the full world's lanes it may lose a
//! message without a word to anybody: the module must bear it.

use jangada_raft::NodeId;

use crate::choices::Choices;
use crate::faults::{Fault, FaultCounts};
use crate::world::dice::Dice;

/// A message's usual way, in microseconds: a local network.
const DELAY_US: (u64, u64) = (50, 400);

/// A delayed message's way, in microseconds: up to a few heartbeats.
const DELAY_LONG_US: (u64, u64) = (5_000, 400_000);

/// How much later a message comes again at most, in microseconds: a few election timeouts.
const AGAIN_US: u64 = 3_000_000;

/// When the copies of a message arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// Never.
    Lost,
    /// Once.
    Arrives(u64),
    /// Twice.
    Doubled(u64, u64),
}

/// The links between members.
#[derive(Clone, Debug)]
pub(super) struct Network {
    members: usize,
    links: Vec<Link>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    is_cut: bool,
    /// When the newest message on it arrives.
    last_us: u64,
}

impl Network {
    pub(super) fn new(members: usize) -> Network {
        Network { members, links: vec![Link::default(); members * members] }
    }

    /// Sends a message from one member to another.
    pub(super) fn send(
        &mut self,
        (from, to): (NodeId, NodeId),
        now_us: u64,
        choices: &mut Choices,
        (dice, counts): (&mut Dice, &mut FaultCounts),
    ) -> Way {
        let place = self.place(from, to);
        let link = &mut self.links[place];
        if link.is_cut {
            return Way::Lost;
        }
        let mut strikes = |fault, choices: &mut Choices| {
            let strikes = dice.strikes(fault, choices);
            if strikes {
                counts.count(fault);
            }
            strikes
        };
        if strikes(Fault::MessageLost, choices) {
            return Way::Lost;
        }
        let is_late = strikes(Fault::MessageDelayed, choices);
        let delay = if is_late { DELAY_LONG_US } else { DELAY_US };
        let mut at_us = now_us + choices.between(delay.0, delay.1);
        // One that is late is overtaken by those behind it, if the link lets that happen.
        if strikes(Fault::MessageReordered, choices) {
            at_us += choices.between(0, DELAY_US.1);
        } else {
            at_us = at_us.max(link.last_us + 1);
            link.last_us = at_us;
        }
        if strikes(Fault::MessageDuplicated, choices) {
            return Way::Doubled(at_us, at_us + choices.between(0, AGAIN_US));
        }
        Way::Arrives(at_us)
    }

    /// Whether nothing passes from one member to another at the moment.
    pub(super) fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.links[self.place(from, to)].is_cut
    }

    /// Whether any link is cut.
    pub(super) fn is_split(&self) -> bool {
        self.links.iter().any(|link| link.is_cut)
    }

    pub(super) fn cut(&mut self, from: NodeId, to: NodeId) {
        let place = self.place(from, to);
        self.links[place].is_cut = true;
    }

    /// What lies on the link is behind nothing any more.
    pub(super) fn reset(&mut self, from: NodeId, to: NodeId) {
        let place = self.place(from, to);
        self.links[place].last_us = 0;
    }

    /// Everything passes everywhere again.
    pub(super) fn heal(&mut self) {
        self.links.iter_mut().for_each(|link| link.is_cut = false);
    }

    fn place(&self, from: NodeId, to: NodeId) -> usize {
        (from.0 as usize - 1) * self.members + to.0 as usize - 1
    }
}
