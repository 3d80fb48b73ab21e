//! What a member asks of the leader for its operators, and what the leader answers: changes of the
//! membership and transfers of leadership.
//!
//! A question is put to one leader, once. Its answer may be lost with the connection; whoever asked
//! is then told that the outcome is not known.

use jangada_entry::encode_configuration;
use jangada_raft::{Configuration, Index, MemberChange, NodeId};

/// What is asked of the leader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    /// Another membership, named whole. Its lists are sorted.
    ChangeMembers {
        /// What is wanted.
        change: MemberChange,
        /// The configuration from which whoever asks has made it out.
        basis: Basis,
    },
    /// To hand over to this voter, or to whichever has most of the log.
    TransferLeadership(Option<NodeId>),
}

/// Names the configuration that a change rests on, by the checksum of its encoding: of two changes
/// made out from one configuration, the later would undo the earlier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Basis(pub u32);

impl Basis {
    /// Whatever the members are.
    pub const ANY: Basis = Basis(0);

    /// This configuration and no other.
    #[must_use]
    pub fn of(configuration: &Configuration) -> Basis {
        Basis(crc32c::crc32c(&encode_configuration(configuration)).max(1))
    }

    /// Whether a change that rests on this may be made to `configuration`.
    #[must_use]
    pub fn is(self, configuration: &Configuration) -> bool {
        self == Basis::ANY || self == Basis::of(configuration)
    }
}

/// What the leader answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The change is committed.
    Changed {
        /// The entry by which it is.
        index: Index,
        /// What stands in that entry.
        configuration: Configuration,
    },
    /// This member leads instead.
    Transferred(NodeId),
    /// It does not happen, or it is not known.
    Refused(AskRefusal),
}

/// Why the leader does not do what it was asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum AskRefusal {
    /// The member asked does not lead.
    NotLeader = 0,
    /// An earlier change is not finished.
    UnderWay = 1,
    /// The leader has not committed an entry of its term yet.
    TooEarly = 2,
    /// Leadership is being handed over.
    HandingOver = 3,
    /// Nobody would vote, a member is named twice, or there is too much of something.
    Impossible = 4,
    /// A member wanted was removed before, and ids are not used again.
    RemovedBefore = 5,
    /// The one named to lead is no voter, or there is no other voter.
    NoVoter = 6,
    /// The one named to lead did not take over in time.
    TimedOut = 7,
    /// Another transfer took its place.
    Replaced = 8,
    /// The leader lost its leadership meanwhile: it may or may not happen.
    InDoubt = 9,
    /// Too many questions wait.
    Busy = 10,
    /// The members are others than those that the change rests on.
    Overtaken = 11,
    /// Too many of the voters wanted are recovering.
    Recovering = 12,
}

impl AskRefusal {
    /// All reasons, by their number.
    pub const ALL: [AskRefusal; 13] = [
        AskRefusal::NotLeader,
        AskRefusal::UnderWay,
        AskRefusal::TooEarly,
        AskRefusal::HandingOver,
        AskRefusal::Impossible,
        AskRefusal::RemovedBefore,
        AskRefusal::NoVoter,
        AskRefusal::TimedOut,
        AskRefusal::Replaced,
        AskRefusal::InDoubt,
        AskRefusal::Busy,
        AskRefusal::Overtaken,
        AskRefusal::Recovering,
    ];

    /// The reason of this number.
    #[must_use]
    pub fn of(number: u8) -> Option<AskRefusal> {
        AskRefusal::ALL.into_iter().find(|reason| *reason as u8 == number)
    }
}
