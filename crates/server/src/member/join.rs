//! A member without data that is to join a cluster that is there: who the cluster is and as whom it
//! was let in, asked of the members that the flags name.
//!
//! Responsible for etcd's checks of `--initial-cluster` against the cluster's own word, and for saying
//! what to do when they differ.

use std::time::Duration;

use jangada::net::{InquireError, Roster, RosterMember, Security, inquire};
use jangada::{Beginning, MemberAddress};

use super::start::Start;
use super::{RunError, texts};
use crate::config::cluster::same_places;
use crate::config::{Config, MemberId, Url};

/// Why a member cannot join.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JoinError {
    /// None of the members named answers, or none knows a member at these URLs.
    Inquiry(InquireError),
    /// The cluster has more members than the flags name, or fewer.
    Count {
        /// How many members the cluster has.
        cluster: usize,
        /// How many the flags name.
        named: usize,
    },
    /// The cluster has a member that the flags do not name.
    Unmatched {
        /// Its id.
        id: u64,
        /// Its peer URLs.
        peer_urls: Vec<String>,
        /// The peer URLs that no member of the cluster has.
        named: Vec<String>,
    },
}

impl std::fmt::Display for JoinError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            JoinError::Inquiry(error @ InquireError::Unreachable { .. }) => write!(
                f,
                "cannot fetch cluster info from peer urls: could not retrieve cluster information \
                 from the given URLs: {error}, or use --initial-cluster-state=new to form a cluster"
            ),
            JoinError::Inquiry(error) => write!(
                f,
                "error validating peerURLs: unmatched member while checking PeerURLs: {error}"
            ),
            JoinError::Count { cluster, named } => write!(
                f,
                "error validating peerURLs: member count is unequal: the cluster has {cluster} \
                 members, and --initial-cluster names {named}; add this member first (jangada \
                 member add), and write what that prints"
            ),
            JoinError::Unmatched { id, peer_urls, named } => write!(
                f,
                "error validating peerURLs: unmatched member while checking PeerURLs: member {id:x} \
                 of the cluster is at {}, and --initial-cluster names {}; write what 'jangada member \
                 add' printed, or look with 'jangada member list'",
                peer_urls.join(","),
                named.join(",")
            ),
        }
    }
}

impl std::error::Error for JoinError {}

/// How long the members named may take to say who the cluster is: one that lags behind learns of this
/// member within that.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the members that the flags name who this one is.
///
/// # Errors
/// If nobody answers, or the cluster is not what the flags say.
pub(super) fn join(config: &Config, security: &dyn Security) -> Result<Start, RunError> {
    let own = config.own()?;
    let others = config.initial.members.iter().filter(|member| *member != own);
    let others: Vec<String> = others.flat_map(|member| texts(&member.peer_urls)).collect();
    let roster = inquire(&others, &texts(&own.peer_urls), Some(security), PATIENCE);
    let start = matched(config, roster.map_err(JoinError::Inquiry)?)?;
    tracing::info!(
        member = %MemberId(start.member),
        cluster = %format!("{:x}", start.cluster),
        "joining a cluster that is there"
    );
    Ok(start)
}

/// Finds this member in what the cluster says of itself; whoever it is there, its URLs are those that
/// the flags give it. Names are of no account, as in etcd.
fn matched(config: &Config, roster: Roster) -> Result<Start, RunError> {
    let named = &config.initial.members;
    if named.len() != roster.members.len() {
        return Err(JoinError::Count { cluster: roster.members.len(), named: named.len() }.into());
    }
    let own_urls = &config.own()?.peer_urls;
    let mut own = None;
    let mut left: Vec<&[Url]> = named.iter().map(|member| member.peer_urls.as_slice()).collect();
    for RosterMember { id, addresses, .. } in &roster.members {
        let urls: Vec<Url> = addresses.iter().filter_map(|url| url.parse().ok()).collect();
        let Some(place) = left.iter().position(|named| same_places(named, &urls)) else {
            return Err(JoinError::Unmatched {
                id: id.0,
                peer_urls: addresses.clone(),
                named: left.into_iter().flatten().map(Url::to_string).collect(),
            }
            .into());
        };
        if left.swap_remove(place) == own_urls.as_slice() {
            own = Some(id.0);
        }
    }
    let member = own.expect("every member named was matched, and this one is named");
    let members = roster.members.into_iter();
    let members =
        members.map(|member| MemberAddress { id: member.id, addresses: member.addresses });
    Ok(Start {
        cluster: roster.cluster,
        member,
        members: members.collect(),
        beginning: Beginning::Join,
    })
}

#[cfg(test)]
mod tests {
    use jangada::NodeId;

    use super::*;
    use crate::config::Invocation;

    fn config(initial: &str) -> Config {
        let words = [
            "--name=c".to_owned(),
            "--initial-advertise-peer-urls=http://10.0.0.3:1".to_owned(),
            "--initial-cluster-state=existing".to_owned(),
            format!("--initial-cluster={initial}"),
        ];
        match Invocation::parse(words.map(Into::into), []).expect("a good line") {
            Invocation::Serve(config) => *config,
            Invocation::Print(text) => panic!("the line serves: {text}"),
        }
    }

    fn known(members: &[(u64, &str)]) -> Roster {
        let member = |(id, url): &(u64, &str)| RosterMember {
            id: NodeId(*id),
            is_voter: true,
            addresses: vec![(*url).to_owned()],
        };
        let members = members.iter().map(member).collect();
        Roster { cluster: 9, version: 0, member: Some(NodeId(7)), members }
    }

    const THREE: &str = "a=http://10.0.0.1:1,b=http://10.0.0.2:1,c=http://10.0.0.3:1";

    #[test]
    fn a_member_is_whoever_the_cluster_let_in_at_its_urls() {
        let three =
            known(&[(1, "http://10.0.0.1:1"), (7, "http://10.0.0.3:1"), (4, "http://10.0.0.2:1")]);
        let start = matched(&config(THREE), three.clone()).expect("they agree");
        assert_eq!((start.cluster, start.member, start.beginning), (9, 7, Beginning::Join));
        assert_eq!(start.members.len(), 3);
    }

    #[test]
    fn a_cluster_that_is_another_than_the_flags_say_is_not_joined() {
        let check = |members: &[(u64, &str)], expect: &str| {
            let error = matched(&config(THREE), known(members)).expect_err("they differ");
            assert!(error.to_string().contains(expect), "{error}");
        };
        let two = [(1, "http://10.0.0.1:1"), (4, "http://10.0.0.2:1")];
        check(&two, "member count is unequal: the cluster has 2 members");
        let other = [two[0], two[1], (7, "http://10.0.0.9:1")];
        check(&other, "unmatched member while checking PeerURLs: member 7");
        check(&other, "names http://10.0.0.3:1");
    }
}
