//! Why a connection is refused: a code for programs and a sentence for both logs.
//!
//! The sentences name both members, so that the same one reads well in either log.

use jangada_raft::NodeId;

use super::{Hello, Identity, RecordError, Reply};
use crate::wire::DecodeError;

/// Why a connection is refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum RefusalCode {
    /// The two belong to different clusters.
    Cluster = 1,
    /// The acceptor is not the member the dialer looks for.
    WrongMember = 2,
    /// The dialer is not a member of the cluster, as far as the acceptor knows.
    UnknownMember = 3,
    /// The dialer says that it is the acceptor.
    OwnId = 4,
    /// The dialer has met the acceptor with another data directory.
    Incarnation = 5,
    /// No version is spoken by both.
    Version = 6,
    /// The acceptor does not know the lane.
    Lane = 7,
    /// What arrived is no handshake, or no message: the connection is closed.
    Malformed = 8,
    /// The dialer was removed from the cluster.
    Removed = 9,
    /// The acceptor has met the dialer with another data directory.
    Wiped = 10,
    /// The connection could not be secured. Found out by each side for itself and never sent.
    Insecure = 11,
    /// A code that this version does not know; the sentence tells more.
    Other = 255,
}

/// A refusal: a code for programs, a sentence for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Why.
    pub code: RefusalCode,
    /// What was wrong and what to do.
    pub sentence: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Refusal {}

impl RefusalCode {
    /// The code of this number.
    #[must_use]
    pub fn of(number: u8) -> RefusalCode {
        match number {
            1 => RefusalCode::Cluster,
            2 => RefusalCode::WrongMember,
            3 => RefusalCode::UnknownMember,
            4 => RefusalCode::OwnId,
            5 => RefusalCode::Incarnation,
            6 => RefusalCode::Version,
            7 => RefusalCode::Lane,
            8 => RefusalCode::Malformed,
            9 => RefusalCode::Removed,
            10 => RefusalCode::Wiped,
            _ => RefusalCode::Other,
        }
    }
}

impl Refusal {
    pub(super) fn cluster(dialer: NodeId, cluster: u64, acceptor: &Identity) -> Refusal {
        let (member, own) = (acceptor.member, acceptor.cluster);
        Refusal {
            code: RefusalCode::Cluster,
            sentence: format!(
                "member {dialer} of cluster {cluster:x} dialled member {member} of cluster \
                 {own:x}; check the peer addresses, and that all members were started with the \
                 same initial cluster and token"
            ),
        }
    }

    pub(super) fn own_id(acceptor: &Identity) -> Refusal {
        let member = acceptor.member;
        Refusal {
            code: RefusalCode::OwnId,
            sentence: format!(
                "member {member} was dialled by a member with its own id {member}; either a peer \
                 address leads back to the member itself, or two processes run as the same member"
            ),
        }
    }

    pub(super) fn wrong_member(dialer: NodeId, wanted: NodeId, acceptor: &Identity) -> Refusal {
        let member = acceptor.member;
        Refusal {
            code: RefusalCode::WrongMember,
            sentence: format!(
                "member {dialer} looked for member {wanted} and met member {member}; correct the \
                 peer address of member {wanted}"
            ),
        }
    }

    pub(super) fn unknown_member(dialer: NodeId, acceptor: &Identity) -> Refusal {
        let member = acceptor.member;
        Refusal {
            code: RefusalCode::UnknownMember,
            sentence: format!(
                "member {member} does not know member {dialer}, which dialled it; add the member \
                 to the cluster, or stop it if it was removed"
            ),
        }
    }

    pub(super) fn removed(dialer: NodeId, acceptor: &Identity) -> Refusal {
        let member = acceptor.member;
        Refusal {
            code: RefusalCode::Removed,
            sentence: format!(
                "member {dialer}, which dialled member {member}, was removed from the cluster; stop \
                 it, or empty its data directory and add it as a new member"
            ),
        }
    }

    /// As [`Refusal::incarnation`]; said to the one that has changed.
    pub(super) fn wiped(dialer: NodeId, acceptor: &Identity) -> Refusal {
        Refusal { code: RefusalCode::Wiped, ..Refusal::incarnation(dialer, acceptor.member) }
    }

    pub(crate) fn incarnation(changed: NodeId, witness: NodeId) -> Refusal {
        Refusal {
            code: RefusalCode::Incarnation,
            sentence: format!(
                "member {witness} met member {changed} with another data directory before; give \
                 member {changed} its data directory back, or remove it from the cluster and add \
                 it as a new member"
            ),
        }
    }

    pub(super) fn version(hello: &Hello, acceptor: &Identity) -> Refusal {
        Refusal {
            code: RefusalCode::Version,
            sentence: format!(
                "member {} speaks versions {} to {} of the protocol between members and member {} \
                 speaks {} to {}; upgrade the older one, step by step if need be",
                hello.from,
                hello.oldest,
                hello.newest,
                acceptor.member,
                acceptor.oldest,
                acceptor.newest
            ),
        }
    }

    pub(super) fn lane(hello: &Hello, acceptor: &Identity) -> Refusal {
        Refusal {
            code: RefusalCode::Lane,
            sentence: format!(
                "member {} opened lane {}, which member {} does not know; upgrade member {}",
                hello.from, hello.lane, acceptor.member, acceptor.member
            ),
        }
    }

    pub(super) fn welcome(wanted: NodeId) -> Refusal {
        Refusal {
            code: RefusalCode::Malformed,
            sentence: format!(
                "the welcome that was to come from member {wanted} names another member, cluster \
                 or version; check what answers at its peer address"
            ),
        }
    }

    /// The refusal that an acceptor sent.
    pub(crate) fn told(reply: &Reply) -> Refusal {
        let code = RefusalCode::of(reply.code);
        if reply.sentence.is_empty() {
            let sentence =
                format!("member {} gave no reason but code {}", reply.member, reply.code);
            return Refusal { code, sentence };
        }
        Refusal { code, sentence: reply.sentence.clone() }
    }

    /// The refusal of what is no handshake.
    pub(crate) fn record(error: RecordError) -> Refusal {
        Refusal {
            code: RefusalCode::Malformed,
            sentence: format!("{error}; check what is connected to the peer address"),
        }
    }

    /// The refusal of what is no message.
    pub(crate) fn message(from: NodeId, to: NodeId, error: DecodeError) -> Refusal {
        Refusal {
            code: RefusalCode::Malformed,
            sentence: format!(
                "member {to} closes a connection of member {from}: {error}; the connection is \
                 made anew, and if this comes again, check the network between the two and their \
                 memory"
            ),
        }
    }
}
