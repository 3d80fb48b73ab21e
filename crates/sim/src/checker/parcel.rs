//! What is under way between members: the module's messages, and what drivers carry beside them.
//!
//! Responsible for snapshots on their way. One is known by the names of all that it covers, from the
//! very first entry: so much is kept beside a log that was cut, for the checks and for nobody else.

use jangada_raft::{Configuration, Index, Message, NodeId, Position, Term};

use super::member::{renamed_all, renamed_message};

/// Something under way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Parcel {
    /// A message of the module.
    Word(Message),
    /// A snapshot, from a leader of this term.
    Snapshot(Term, Covered),
    /// The word that a snapshot up to here is installed, for the leader of this term.
    Delivered(Term, Index),
}

/// A log up to a committed entry.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Covered {
    /// The term of each entry from index 1.
    pub(crate) log: Vec<Term>,
    /// The configurations among them, by index.
    pub(crate) configurations: Vec<(Index, Configuration)>,
    /// The configuration in force at the last one.
    pub(crate) base: Configuration,
}

impl Covered {
    /// The last entry.
    pub(crate) fn last(&self) -> Position {
        let term = self.log.last().copied().unwrap_or_default();
        Position { index: Index(self.log.len() as u64), term }
    }

    /// The same, every member being called what `name` says.
    pub(crate) fn renamed(&self, name: &dyn Fn(NodeId) -> NodeId) -> Covered {
        Covered {
            log: self.log.clone(),
            configurations: renamed_all(&self.configurations, name),
            base: self.base.renamed(name),
        }
    }
}

impl Parcel {
    /// Whether it says who the members are.
    pub(crate) fn names_members(&self) -> bool {
        match self {
            Parcel::Word(Message::AppendRequest(request)) => !request.configurations.is_empty(),
            Parcel::Word(_) | Parcel::Delivered(..) => false,
            Parcel::Snapshot(..) => true,
        }
    }

    /// The same, every member being called what `name` says.
    pub(crate) fn renamed(&self, name: &dyn Fn(NodeId) -> NodeId) -> Parcel {
        match self {
            Parcel::Word(message) => Parcel::Word(renamed_message(message, name)),
            Parcel::Snapshot(term, covered) => Parcel::Snapshot(*term, covered.renamed(name)),
            Parcel::Delivered(term, last) => Parcel::Delivered(*term, *last),
        }
    }
}

impl std::fmt::Display for Parcel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Parcel::Word(message) => message.fmt(f),
            Parcel::Snapshot(term, covered) => {
                write!(f, "snapshot of {} in term {term}", covered.last())
            }
            Parcel::Delivered(term, last) => {
                write!(f, "snapshot of {last} delivered in term {term}")
            }
        }
    }
}
