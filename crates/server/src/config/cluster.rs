//! The first members of a cluster, from `--initial-cluster`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::ToSocketAddrs;

use super::error::ConfigError;
use super::ids::{ClusterId, MemberId};
use super::url::Url;

/// One of the first members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Made from its peer URLs and the cluster's token, as etcd makes it.
    pub id: MemberId,
    /// Its name.
    pub name: String,
    /// The URLs by which other members reach it, sorted.
    pub peer_urls: Vec<Url>,
}

/// The first members, all of them, sorted by id.
///
/// Invariants: 1. at least one member; 2. ids, names and peer URLs are unique.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InitialCluster {
    /// Sorted by id.
    pub members: Vec<Member>,
    /// Made from the members' ids, unless the cluster is there already.
    pub id: ClusterId,
}

fn bad(problem: String) -> ConfigError {
    ConfigError::InitialCluster { problem }
}

impl InitialCluster {
    /// Reads `name=url,name=url`; a name that stands twice has two URLs.
    ///
    /// # Errors
    ///
    /// [`ConfigError::InitialCluster`] or [`ConfigError::UnusableUrl`].
    pub(super) fn parse(text: &str, token: &str) -> Result<InitialCluster, ConfigError> {
        let mut by_name: BTreeMap<&str, Vec<Url>> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, url) = part
                .split_once('=')
                .filter(|(name, _)| !name.is_empty())
                .ok_or_else(|| bad(format!("'{part}' is not name=url")))?;
            let url: Url =
                url.parse().map_err(|error| bad(format!("'{part}': it takes {error}")))?;
            check_peer_url("initial-cluster", &url)?;
            if !seen.insert(url.clone()) {
                return Err(bad(format!("{url} is given twice")));
            }
            by_name.entry(name).or_default().push(url);
        }
        if by_name.is_empty() {
            return Err(bad("it names no member".to_owned()));
        }
        let mut members: Vec<Member> = by_name
            .into_iter()
            .map(|(name, mut peer_urls)| {
                peer_urls.sort();
                let id = MemberId::of_first_member(&peer_urls, token);
                Member { id, name: name.to_owned(), peer_urls }
            })
            .collect();
        members.sort_by_key(|member| member.id);
        let distinct: BTreeSet<MemberId> = members.iter().map(|member| member.id).collect();
        assert_eq!(distinct.len(), members.len(), "cluster invariant 2");
        let id = ClusterId::of_first_members(distinct);
        Ok(InitialCluster { members, id })
    }

    /// The member of that name, if it advertises these URLs.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NameNotInCluster`] or [`ConfigError::PeerUrlsDiffer`].
    pub(super) fn own(&self, name: &str, advertised: &[Url]) -> Result<&Member, ConfigError> {
        let member = self.members.iter().find(|member| member.name == name).ok_or_else(|| {
            ConfigError::NameNotInCluster {
                name: name.to_owned(),
                members: self.members.iter().map(|member| member.name.clone()).collect(),
            }
        })?;
        if same_places(&member.peer_urls, advertised) {
            return Ok(member);
        }
        let texts = |urls: &[Url]| urls.iter().map(Url::to_string).collect();
        Err(ConfigError::PeerUrlsDiffer {
            name: name.to_owned(),
            cluster: texts(&member.peer_urls),
            advertised: texts(advertised),
        })
    }
}

/// A URL on which members reach one another: one with a host.
pub(super) fn check_peer_url(name: &'static str, url: &Url) -> Result<(), ConfigError> {
    if !url.host().is_empty() {
        return Ok(());
    }
    let problem = "it names no host; other members must be able to reach it".to_owned();
    Err(ConfigError::UnusableUrl { name, url: url.to_string(), problem })
}

/// Whether both lists lead to the same places: by their text or, failing that, by their
/// addresses, so that `localhost` and `127.0.0.1` agree as they do in etcd.
pub(crate) fn same_places(left: &[Url], right: &[Url]) -> bool {
    left == right || (left.len() == right.len() && addresses(left) == addresses(right))
}

/// The first address of each URL, preferring IPv4; a host that is not found stands for itself.
fn addresses(urls: &[Url]) -> BTreeSet<String> {
    urls.iter()
        .map(|url| {
            let found = (url.host(), url.port()).to_socket_addrs().ok();
            let first = found.and_then(|all| all.min_by_key(|address| !address.is_ipv4()));
            first.map_or_else(|| url.authority(), |address| address.to_string())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_members_are_sorted_by_id() {
        let cluster = InitialCluster::parse(
            "infra1=http://127.0.0.1:12380,infra2=http://127.0.0.1:22380,\
             infra3=http://127.0.0.1:32380",
            "etcd-cluster-1",
        )
        .expect("a good cluster");
        let names: Vec<&str> = cluster.members.iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["infra1", "infra2", "infra3"]);
        let mut sorted = cluster.members.clone();
        sorted.sort_by_key(|member| member.id);
        assert_eq!(cluster.members, sorted);
    }

    #[test]
    fn a_name_twice_has_two_urls() {
        let cluster =
            InitialCluster::parse("a=http://x:2,a=http://x:1", "t").expect("a good cluster");
        let urls: Vec<&str> = cluster.members[0].peer_urls.iter().map(Url::as_str).collect();
        assert_eq!(urls, ["http://x:1", "http://x:2"]);
    }

    #[test]
    fn localhost_agrees_with_its_address() {
        let cluster = InitialCluster::parse("a=http://localhost:1", "t").expect("a good cluster");
        let check =
            |url: &str| cluster.own("a", &[url.parse().expect("the text is a URL")]).is_ok();
        assert!(check("http://localhost:1"));
        assert!(check("http://127.0.0.1:1"));
        assert!(!check("http://127.0.0.1:2"));
        assert!(!check("http://10.9.8.7:1"));
    }

    #[test]
    fn mistakes_get_a_sentence() {
        let check = |text: &str, expect: &str| {
            let error = InitialCluster::parse(text, "t").expect_err("a bad cluster").to_string();
            assert!(error.contains(expect), "{text}: {error}");
        };
        check("", "names no member");
        check("http://a:1", "is not name=url");
        check("a=http://a", "with a port");
        check("a=http://a:1,b=http://a:1", "given twice");
        check("a=http://:1", "names no host");
    }
}
