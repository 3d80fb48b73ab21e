//! etcd's member and cluster ids, so that tools which remember them see what they expect.

use std::fmt;

use sha1::{Digest, Sha1};

use super::url::Url;

/// Names a member: etcd's `member_id`. Written in hexadecimal, as etcd's tools write it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MemberId(pub u64);

/// Names a cluster: etcd's `cluster_id`. Written in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClusterId(pub u64);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl MemberId {
    /// The id of a first member: SHA-1 over its sorted peer URLs and the cluster's token.
    #[must_use]
    pub fn of_first_member(peer_urls: &[Url], token: &str) -> MemberId {
        let mut hash = hash_of(peer_urls);
        hash.update(token.as_bytes());
        MemberId(first_eight_bytes(hash))
    }

    /// The id of a member that is added later: SHA-1 over its sorted peer URLs, the member that adds it
    /// and how much of the log that one has applied, which no two additions share.
    #[must_use]
    pub fn of_later_member(peer_urls: &[Url], adder: u64, applied: u64) -> MemberId {
        let mut hash = hash_of(peer_urls);
        hash.update(adder.to_be_bytes());
        hash.update(applied.to_be_bytes());
        MemberId(first_eight_bytes(hash))
    }
}

fn hash_of(peer_urls: &[Url]) -> Sha1 {
    let mut texts: Vec<&str> = peer_urls.iter().map(Url::as_str).collect();
    texts.sort_unstable();
    let mut hash = Sha1::new();
    for text in texts {
        hash.update(text.as_bytes());
    }
    hash
}

impl ClusterId {
    /// The id of a cluster: SHA-1 over the sorted ids of its first members.
    #[must_use]
    pub fn of_first_members(members: impl IntoIterator<Item = MemberId>) -> ClusterId {
        let mut ids: Vec<MemberId> = members.into_iter().collect();
        ids.sort_unstable();
        let mut hash = Sha1::new();
        for id in ids {
            hash.update(id.0.to_be_bytes());
        }
        ClusterId(first_eight_bytes(hash))
    }
}

fn first_eight_bytes(hash: Sha1) -> u64 {
    let digest = hash.finalize();
    let first: [u8; 8] = digest[..8].try_into().expect("a SHA-1 digest has 20 bytes");
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(urls: &[&str], token: &str) -> MemberId {
        let urls: Vec<Url> = urls.iter().map(|u| u.parse().expect("the text is a URL")).collect();
        MemberId::of_first_member(&urls, token)
    }

    #[test]
    fn a_default_member_has_the_ids_that_etcd_prints() {
        let member = id(&["http://localhost:2380"], "etcd-cluster");
        assert_eq!(member.to_string(), "8e9e05c52164694d");
        assert_eq!(ClusterId::of_first_members([member]).to_string(), "cdf818194e3a8c32");
    }

    #[test]
    fn three_members_have_the_ids_that_etcd_prints() {
        let members = [
            id(&["http://127.0.0.1:12380"], "etcd-cluster-1"),
            id(&["http://127.0.0.1:22380"], "etcd-cluster-1"),
            id(&["http://127.0.0.1:32380"], "etcd-cluster-1"),
        ];
        assert_eq!(members[0].to_string(), "8211f1d0f64f3269");
        assert_eq!(members[1].to_string(), "91bc3c398fb3c146");
        assert_eq!(members[2].to_string(), "fd422379fda50e48");
        assert_eq!(
            ClusterId::of_first_members(members),
            ClusterId::of_first_members([members[2], members[0], members[1]]),
        );
    }

    #[test]
    fn a_member_that_comes_again_has_another_id() {
        let urls = ["http://a:2380".parse().expect("the text is a URL")];
        let first = MemberId::of_later_member(&urls, 1, 7);
        assert_eq!(first, MemberId::of_later_member(&urls, 1, 7));
        assert_ne!(first, MemberId::of_later_member(&urls, 1, 8));
        assert_ne!(first, MemberId::of_later_member(&urls, 2, 7));
        assert_ne!(first, MemberId::of_first_member(&urls, ""));
    }

    #[test]
    fn the_order_of_urls_is_of_no_account() {
        let urls = ["http://a:2380", "http://b:2380"];
        assert_eq!(id(&[urls[0], urls[1]], "t"), id(&[urls[1], urls[0]], "t"));
    }
}
