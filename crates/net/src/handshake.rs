//! The handshake: who talks to whom, on which lane, in which version.
//!
//! The dialer sends a [`Hello`]; the acceptor judges it ([`judge`]) and answers with a [`Reply`],
//! a welcome or a refusal with a code and a sentence; the dialer judges the welcome
//! ([`judge_welcome`]). Both sides so have the sentence for their logs. A refusal may also come
//! later, as the last thing an acceptor says on a connection, when what it received is no message.
//!
//! Nothing here waits or sends: bytes in, decisions out.
//!
//! Invariants:
//! 1. Hello and reply keep their first fields' places in every version to come, so that any two
//!    versions can tell each other that they have none in common. Later versions append.
//! 2. The version used is the highest that both speak. Only an empty overlap is refused.
//! 3. A member believes nothing of a connection before the handshake has succeeded.

mod record;
mod refusal;

use jangada_raft::NodeId;

use crate::Lane;

pub use record::{
    HELLO_ADDRESSES_BYTES_MAX, HELLO_BYTES, Hello, MAGIC, RECORD_BYTES_MAX, REPLY_BYTES,
    RecordError, Reply, SENTENCE_BYTES_MAX,
};
pub(crate) use record::{addresses_in, finish, put_addresses, split_record_of, start_with};
pub use refusal::{Refusal, RefusalCode};

/// The oldest version of the protocol that this build speaks.
pub const OLDEST_VERSION: u16 = 1;

/// The newest version of the protocol that this build speaks.
pub const NEWEST_VERSION: u16 = 1;

/// Who this member is, as it says in every handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The cluster.
    pub cluster: u64,
    /// The member.
    pub member: NodeId,
    /// Names the life of the member's data directory.
    pub incarnation: u64,
    /// Names the life of the member's process: a reconnection to another life of it is no mere
    /// reconnection.
    pub process: u64,
    /// The oldest version spoken.
    pub oldest: u16,
    /// The newest version spoken.
    pub newest: u16,
    /// The highest feature level that this program speaks.
    pub level: u16,
}

/// What the other side of a successful handshake is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Met {
    /// The member.
    pub member: NodeId,
    /// The life of its data directory.
    pub incarnation: u64,
    /// The life of its process.
    pub process: u64,
    /// The connection's lane.
    pub lane: Lane,
    /// The version to be used on the connection.
    pub version: u16,
    /// The highest feature level that the other side's program speaks; 0 when it did not say.
    pub level: u16,
}

/// What a member knows of another one before a handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    /// It is not a member of this cluster.
    Stranger,
    /// It is not known. It may have become a member by entries that have not come here, so it is
    /// welcome where it can be answered.
    Guest(Option<u64>),
    /// It was removed.
    Removed,
    /// It is a member; the incarnation is the one met first, if it was ever met.
    Member(Option<u64>),
}

/// The acceptor's judgement: whether the dialer that said `hello` is welcome at `identity`. `known`
/// says what is known of a member.
///
/// # Errors
/// Why it is not.
pub fn judge(
    identity: &Identity,
    hello: &Hello,
    known: impl FnOnce(NodeId) -> Known,
) -> Result<Met, Refusal> {
    if hello.cluster != identity.cluster {
        return Err(Refusal::cluster(hello.from, hello.cluster, identity));
    }
    if hello.from == identity.member {
        return Err(Refusal::own_id(identity));
    }
    if hello.to != identity.member {
        return Err(Refusal::wrong_member(hello.from, hello.to, identity));
    }
    let incarnation = match known(hello.from) {
        Known::Member(incarnation) => incarnation,
        Known::Guest(incarnation) if !hello.addresses.is_empty() => incarnation,
        Known::Removed => return Err(Refusal::removed(hello.from, identity)),
        Known::Guest(_) | Known::Stranger => {
            return Err(Refusal::unknown_member(hello.from, identity));
        }
    };
    if incarnation.is_some_and(|incarnation| incarnation != hello.incarnation) {
        return Err(Refusal::wiped(hello.from, identity));
    }
    if hello.to_incarnation.is_some_and(|wanted| wanted != identity.incarnation) {
        return Err(Refusal::incarnation(identity.member, hello.from));
    }
    let version = common_version((hello.oldest, hello.newest), (identity.oldest, identity.newest))
        .ok_or_else(|| Refusal::version(hello, identity))?;
    let lane = Lane::of(hello.lane).ok_or_else(|| Refusal::lane(hello, identity))?;
    Ok(Met {
        member: hello.from,
        incarnation: hello.incarnation,
        process: hello.process,
        lane,
        version,
        level: hello.level,
    })
}

/// The dialer's judgement of the reply to its `hello`.
///
/// # Errors
/// The acceptor's refusal, or why the welcome is not believed.
pub fn judge_welcome(identity: &Identity, hello: &Hello, reply: &Reply) -> Result<Met, Refusal> {
    if reply.code != 0 {
        return Err(Refusal::told(reply));
    }
    let lane = Lane::of(hello.lane).ok_or_else(|| Refusal::lane(hello, identity))?;
    if reply.cluster != identity.cluster
        || reply.member != hello.to
        || reply.version < identity.oldest
        || identity.newest < reply.version
    {
        return Err(Refusal::welcome(hello.to));
    }
    if hello.to_incarnation.is_some_and(|wanted| wanted != reply.incarnation) {
        return Err(Refusal::incarnation(hello.to, identity.member));
    }
    Ok(Met {
        member: reply.member,
        incarnation: reply.incarnation,
        process: reply.process,
        lane,
        version: reply.version,
        level: reply.level,
    })
}

/// The highest version in both ranges, each given as oldest and newest.
#[must_use]
pub fn common_version(one: (u16, u16), other: (u16, u16)) -> Option<u16> {
    let (oldest, newest) = (one.0.max(other.0), one.1.min(other.1));
    (oldest <= newest).then_some(newest)
}

impl Identity {
    /// The hello by which this member dials `to`. `incarnation` is the one that was met first under
    /// that id, if any.
    #[must_use]
    pub fn hello(&self, to: NodeId, incarnation: Option<u64>, lane: Lane) -> Hello {
        Hello {
            oldest: self.oldest,
            newest: self.newest,
            lane: lane as u8,
            cluster: self.cluster,
            from: self.member,
            to,
            incarnation: self.incarnation,
            process: self.process,
            to_incarnation: incarnation,
            level: self.level,
            addresses: Vec::new(),
        }
    }

    /// The reply that welcomes a dialer.
    #[must_use]
    pub fn welcome(&self, version: u16) -> Reply {
        self.reply(0, version, String::new())
    }

    /// The reply that turns a dialer away, or ends its connection.
    #[must_use]
    pub fn refuse(&self, refusal: &Refusal) -> Reply {
        self.reply(refusal.code as u8, 0, refusal.sentence.clone())
    }

    fn reply(&self, code: u8, version: u16, sentence: String) -> Reply {
        Reply {
            code,
            version,
            oldest: self.oldest,
            newest: self.newest,
            cluster: self.cluster,
            member: self.member,
            incarnation: self.incarnation,
            process: self.process,
            level: self.level,
            sentence,
        }
    }
}

impl Lane {
    /// All lanes.
    pub const ALL: [Lane; 3] = [Lane::Control, Lane::Entries, Lane::Snapshots];

    /// The lane of this number.
    #[must_use]
    pub fn of(number: u8) -> Option<Lane> {
        Lane::ALL.into_iter().find(|lane| *lane as u8 == number)
    }
}

impl std::fmt::Display for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Lane::Control => "control",
            Lane::Entries => "entries",
            Lane::Snapshots => "snapshots",
        })
    }
}
