//! As whom a member starts: what its data directory says, or without one what its flags say.
//!
//! Responsible for the member's and the cluster's ids and for who the first members are. A member
//! with data is whoever it was: flags that would make it another are of no account, as in etcd, and
//! that is said.

use jangada::raft::NodeId;
use jangada::wal::{FileDisk, Identity, Wal};
use jangada::{Beginning, MemberAddress};

use super::RunError;
use crate::config::{ClusterState, Config, ConfigError, Member, MemberId, Url};

/// A member's ids, and whom it starts with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Start {
    /// The cluster.
    pub(crate) cluster: u64,
    /// This member.
    pub(crate) member: u64,
    /// The members that the flags or the cluster name, with their peer URLs.
    pub(crate) members: Vec<MemberAddress>,
    /// How it begins, if it has no log.
    pub(crate) beginning: Beginning,
}

/// Whether the member has a log. Nothing is made or locked.
///
/// # Errors
/// If the folder cannot be looked at.
pub(super) fn has_log(config: &Config) -> Result<bool, RunError> {
    if !config.wal_dir.exists() {
        return Ok(false);
    }
    Ok(Wal::exists(&FileDisk::read_only(&config.wal_dir)?)?)
}

/// Checks what the flags of a member without data must say, before anything is made.
///
/// # Errors
/// etcd's sentences about `--initial-cluster`.
pub(super) fn check_flags(config: &Config, has_log: bool) -> Result<(), ConfigError> {
    if has_log { Ok(()) } else { config.own().map(|_| ()) }
}

impl Start {
    /// A member that forms a cluster with those that its flags name.
    pub(crate) fn first(config: &Config) -> Result<Start, ConfigError> {
        Ok(Start {
            cluster: config.initial.id.0,
            member: config.own()?.id.0,
            members: addresses(&config.initial.members),
            beginning: Beginning::Bootstrap,
        })
    }

    /// A member that is what its log says.
    pub(super) fn of_log(config: &Config, found: Identity) -> Start {
        let flags = (config.initial.id.0, config.own().ok().map(|own| own.id.0));
        let differ = flags != (found.cluster, Some(found.member));
        let says = config.cluster_state == ClusterState::New && config.discovery.is_none();
        if differ && says {
            tracing::warn!(
                member = %MemberId(found.member),
                cluster = %format!("{:x}", found.cluster),
                directory = %config.wal_dir.display(),
                "this member is what its data directory says; --initial-cluster, \
                 --initial-cluster-token and --initial-advertise-peer-urls say otherwise, and count \
                 only for a member without data"
            );
        }
        let (cluster, member) = (found.cluster, found.member);
        if flags == (cluster, Some(member)) {
            let members = addresses(&config.initial.members);
            return Start { cluster, member, members, beginning: Beginning::Bootstrap };
        }
        // Who the others are stands in the log; the flags would give them other ids.
        let own = config.advertise_peer_urls.iter().map(Url::to_string).collect();
        let members = vec![MemberAddress { id: NodeId(member), addresses: own }];
        Start { cluster, member, members, beginning: Beginning::Join }
    }
}

fn addresses(members: &[Member]) -> Vec<MemberAddress> {
    let urls = |urls: &[Url]| urls.iter().map(Url::to_string).collect();
    let address = |member: &Member| MemberAddress {
        id: NodeId(member.id.0),
        addresses: urls(&member.peer_urls),
    };
    members.iter().map(address).collect()
}
