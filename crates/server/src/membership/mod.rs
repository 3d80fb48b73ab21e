//! Changes of the membership as clients ask for them: etcd's checks and errors.
//!
//! Responsible for deciding whether a change may be proposed, from what this member knows of the
//! others, and for what the new membership is. Not responsible for carrying it out: the consensus
//! module's joint consensus does (§6), and it alone decides what is safe. These checks only keep an
//! operator from a change that is safe and yet leaves a cluster without a quorum.
//!
//! Invariants:
//! 1. A change that passes names members that exist, or ids and URLs that do not.
//! 2. The last voter is never removed, whatever the settings.
//! 3. A voter that waits to catch up (thesis §4.2.1) is a voter to clients: they asked for one.

mod ask;
mod checks;

pub use ask::{as_it_is, is_learner, members_of, steps};
pub use checks::{Rules, check};

/// How long a member must have been connected to count as healthy; etcd's figure. A member that
/// comes and goes is none to build a quorum on.
pub const HEALTHY_AFTER: std::time::Duration = std::time::Duration::from_secs(5);

/// A change of the membership.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Another member comes.
    Add {
        /// Its id, not used before.
        id: u64,
        /// Where its peers reach it.
        peer_urls: Vec<String>,
        /// What it is to be.
        role: NewRole,
    },
    /// A member goes, for good.
    Remove {
        /// Its id.
        id: u64,
    },
    /// A member is reached elsewhere.
    Update {
        /// Its id.
        id: u64,
        /// Where its peers reach it.
        peer_urls: Vec<String>,
    },
    /// A learner becomes a voter.
    Promote {
        /// Its id.
        id: u64,
    },
}

/// What a member that is added is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewRole {
    /// It receives the log and does not vote.
    Learner,
    /// It votes as soon as it holds the log (thesis §4.2.1).
    Voter,
    /// It votes at once; until it holds the log the cluster may lack a quorum.
    VoterAtOnce,
}
