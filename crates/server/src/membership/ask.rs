//! From a change to what the consensus module is asked for, and from its configuration to what
//! clients see.

use std::collections::{BTreeMap, BTreeSet};

use jangada::raft::{CatchUp, Configuration, MemberChange, NodeId};

use super::{Change, NewRole};
use crate::backend::{Connection, Member};
use crate::errors::ApiError;

/// The membership that a configuration is on its way to: the voters it waits for count as voters.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Wanted {
    voters: BTreeSet<NodeId>,
    /// Of the voters, those that have the log already: they vote.
    present: BTreeSet<NodeId>,
    learners: BTreeSet<NodeId>,
    addresses: BTreeMap<NodeId, Vec<String>>,
}

impl Wanted {
    fn of(configuration: &Configuration) -> Wanted {
        let present: BTreeSet<NodeId> = configuration.voters.iter().copied().collect();
        let target: BTreeSet<NodeId> = configuration.target.iter().copied().collect();
        let voters = if target.is_empty() { present.clone() } else { target };
        let learners = configuration.learners.iter().copied();
        let learners = learners.filter(|id| !voters.contains(id)).collect();
        Wanted { voters, present, learners, addresses: configuration.addresses.clone() }
    }

    fn names(&self, id: NodeId) -> bool {
        self.voters.contains(&id) || self.learners.contains(&id)
    }

    fn change(&self, catch_up: CatchUp) -> MemberChange {
        MemberChange {
            voters: self.voters.iter().copied().collect(),
            learners: self.learners.iter().copied().collect(),
            addresses: self.addresses.clone(),
            catch_up,
        }
    }

    /// The same without waiting: voters that are yet to catch up are learners.
    fn at_once(&self) -> MemberChange {
        let (voters, waiting): (BTreeSet<NodeId>, BTreeSet<NodeId>) =
            self.voters.iter().partition(|id| self.present.contains(id));
        let learners = &self.learners | &waiting;
        MemberChange {
            voters: voters.into_iter().collect(),
            learners: learners.into_iter().collect(),
            addresses: self.addresses.clone(),
            catch_up: CatchUp::First,
        }
    }
}

/// What to ask the consensus module for, one after the other, to make the change.
///
/// A removal is asked for by itself, for a change that also waits for a new voter would keep the
/// one that goes until the new one has come, and perhaps it never comes.
///
/// # Errors
/// etcd's, when the configuration has changed since the checks and the change makes no sense any more.
pub fn steps(
    configuration: &Configuration,
    change: &Change,
) -> Result<Vec<MemberChange>, ApiError> {
    let mut wanted = Wanted::of(configuration);
    match change {
        Change::Add { id, peer_urls, role } => {
            let id = NodeId(*id);
            if wanted.names(id) {
                return Err(ApiError::MemberExists);
            }
            if wanted.addresses.values().flatten().any(|url| peer_urls.contains(url)) {
                return Err(ApiError::PeerUrlsExist);
            }
            wanted.addresses.insert(id, peer_urls.clone());
            match role {
                NewRole::Learner => wanted.learners.insert(id),
                NewRole::Voter | NewRole::VoterAtOnce => wanted.voters.insert(id),
            };
            let skip = *role == NewRole::VoterAtOnce;
            Ok(vec![wanted.change(if skip { CatchUp::Skip } else { CatchUp::First })])
        }
        Change::Remove { id } => {
            let id = NodeId(*id);
            if !wanted.names(id) {
                return Err(ApiError::MemberNotFound);
            }
            wanted.voters.remove(&id);
            wanted.learners.remove(&id);
            wanted.addresses.remove(&id);
            let first = wanted.at_once();
            if first.voters.is_empty() {
                return Err(ApiError::MemberNotEnoughStarted); // membership invariant 2
            }
            let waits = wanted.voters.iter().any(|id| !wanted.present.contains(id));
            let then = waits.then(|| wanted.change(CatchUp::First));
            Ok(std::iter::once(first).chain(then).collect())
        }
        Change::Update { id, peer_urls } => {
            let id = NodeId(*id);
            if !wanted.names(id) {
                return Err(ApiError::MemberNotFound);
            }
            let others = wanted.addresses.iter().filter(|(other, _)| **other != id);
            if others.flat_map(|(_, urls)| urls).any(|url| peer_urls.contains(url)) {
                return Err(ApiError::PeerUrlsExist);
            }
            wanted.addresses.insert(id, peer_urls.clone());
            Ok(vec![wanted.change(CatchUp::First)])
        }
        Change::Promote { id } => {
            let id = NodeId(*id);
            if !wanted.names(id) {
                return Err(ApiError::MemberNotFound);
            }
            if !wanted.learners.remove(&id) {
                return Err(ApiError::MemberNotLearner);
            }
            wanted.voters.insert(id);
            Ok(vec![wanted.change(CatchUp::First)])
        }
    }
}

/// The membership that a configuration is on its way to, to be asked for once more.
#[must_use]
pub fn as_it_is(configuration: &Configuration) -> MemberChange {
    Wanted::of(configuration).change(CatchUp::First)
}

/// Whether the member is a learner to clients (membership invariant 3).
#[must_use]
pub fn is_learner(configuration: &Configuration, id: u64) -> bool {
    Wanted::of(configuration).learners.contains(&NodeId(id))
}

/// The members of a configuration, in the order of their ids, with what they have `published`.
/// While voters change hands, those that leave are members still.
#[must_use]
pub fn members_of(
    configuration: &Configuration,
    published: &[jangada_kv::Member],
    connection: impl Fn(u64) -> Connection,
) -> Vec<Member> {
    let wanted = Wanted::of(configuration);
    let all = wanted.voters.iter().chain(&wanted.learners);
    let all: BTreeSet<NodeId> = all.chain(&configuration.voters).copied().collect();
    let member = |id: NodeId| {
        let known = published.iter().find(|member| member.id == id.0);
        Member {
            id: id.0,
            name: known.map(|member| member.name.clone()).unwrap_or_default(),
            peer_urls: configuration.addresses.get(&id).cloned().unwrap_or_default(),
            client_urls: known.map(|member| member.client_urls.clone()).unwrap_or_default(),
            is_learner: wanted.learners.contains(&id),
            connection: connection(id.0),
        }
    };
    all.into_iter().map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(list: &[u64]) -> Vec<NodeId> {
        list.iter().copied().map(NodeId).collect()
    }

    /// Voters, learners and the voters waited for, each found at `http://h<id>:1`.
    fn configuration(voters: &[u64], learners: &[u64], target: &[u64]) -> Configuration {
        let all = voters.iter().chain(learners);
        Configuration {
            voters: ids(voters),
            outgoing: Vec::new(),
            learners: ids(learners),
            target: ids(target),
            addresses: all.map(|id| (NodeId(*id), vec![format!("http://h{id}:1")])).collect(),
            ..Configuration::default()
        }
    }

    fn add(id: u64, role: NewRole) -> Change {
        Change::Add { id, peer_urls: vec![format!("http://h{id}:1")], role }
    }

    /// The steps as (voters, learners, whether new voters come at once).
    fn check(configuration: &Configuration, change: &Change, expect: &[(&[u64], &[u64], bool)]) {
        let found = steps(configuration, change).expect("the change makes sense");
        let found: Vec<_> = found
            .into_iter()
            .map(|step| (step.voters, step.learners, step.catch_up == CatchUp::Skip))
            .collect();
        let expect: Vec<_> =
            expect.iter().map(|(voters, l, skip)| (ids(voters), ids(l), *skip)).collect();
        assert_eq!(found, expect, "{change:?} of {configuration:?}");
    }

    #[test]
    fn a_change_names_the_whole_membership_that_is_wanted() {
        let three = configuration(&[1, 2, 3], &[], &[]);
        check(&three, &add(4, NewRole::Voter), &[(&[1, 2, 3, 4], &[], false)]);
        check(&three, &add(4, NewRole::VoterAtOnce), &[(&[1, 2, 3, 4], &[], true)]);
        check(&three, &add(4, NewRole::Learner), &[(&[1, 2, 3], &[4], false)]);
        check(&three, &Change::Remove { id: 2 }, &[(&[1, 3], &[], false)]);
        let learner = configuration(&[1, 2, 3], &[4], &[]);
        check(&learner, &Change::Promote { id: 4 }, &[(&[1, 2, 3, 4], &[], false)]);
        check(&learner, &Change::Remove { id: 4 }, &[(&[1, 2, 3], &[], false)]);
    }

    #[test]
    fn a_voter_that_is_waited_for_is_not_forgotten_by_the_next_change() {
        let waits = configuration(&[1, 2, 3], &[4], &[1, 2, 3, 4]);
        check(&waits, &add(5, NewRole::Voter), &[(&[1, 2, 3, 4, 5], &[], false)]);
        check(&waits, &add(5, NewRole::Learner), &[(&[1, 2, 3, 4], &[5], false)]);
        // The one that goes does not wait for the one that comes.
        let two = [(&[2, 3][..], &[4][..], false), (&[2, 3, 4][..], &[][..], false)];
        check(&waits, &Change::Remove { id: 1 }, &two);
        check(&waits, &Change::Remove { id: 4 }, &[(&[1, 2, 3], &[], false)]);
        assert!(!is_learner(&waits, 4), "membership invariant 3");
        assert!(is_learner(&configuration(&[1, 2, 3], &[4], &[]), 4));
    }

    #[test]
    fn a_change_that_came_too_late_is_refused() {
        let refused = |configuration: &Configuration, change: Change, error: ApiError| {
            assert_eq!(steps(configuration, &change), Err(error), "{change:?}");
        };
        let three = configuration(&[1, 2, 3], &[4], &[]);
        refused(&three, add(3, NewRole::Voter), ApiError::MemberExists);
        let url = vec!["http://h2:1".to_owned()];
        let taken = Change::Add { id: 9, peer_urls: url.clone(), role: NewRole::Learner };
        refused(&three, taken, ApiError::PeerUrlsExist);
        refused(&three, Change::Update { id: 1, peer_urls: url }, ApiError::PeerUrlsExist);
        refused(&three, Change::Remove { id: 9 }, ApiError::MemberNotFound);
        refused(&three, Change::Promote { id: 9 }, ApiError::MemberNotFound);
        refused(&three, Change::Promote { id: 1 }, ApiError::MemberNotLearner);
        let one = configuration(&[1], &[2], &[]);
        refused(&one, Change::Remove { id: 1 }, ApiError::MemberNotEnoughStarted);
        // The one that is waited for does not vote yet.
        let two = configuration(&[1], &[2], &[1, 2]);
        refused(&two, Change::Remove { id: 1 }, ApiError::MemberNotEnoughStarted);
    }

    #[test]
    fn an_update_moves_a_member() {
        let three = configuration(&[1, 2, 3], &[], &[]);
        let moved = vec!["http://elsewhere:1".to_owned()];
        let change = Change::Update { id: 2, peer_urls: moved.clone() };
        let found = steps(&three, &change).expect("the change makes sense");
        assert_eq!(found[0].addresses[&NodeId(2)], moved);
        assert_eq!(found[0].addresses[&NodeId(1)], three.addresses[&NodeId(1)]);
    }

    #[test]
    fn members_are_what_their_configuration_and_they_themselves_say() {
        let configuration = configuration(&[1], &[2, 3], &[1, 3]);
        let client_urls = vec!["http://c:2".to_owned()];
        let two = jangada_kv::Member { id: 2, name: "two".to_owned(), client_urls };
        let lasting = |id| if id == 1 { Connection::Lasting } else { Connection::None };
        let members = members_of(&configuration, &[two], lasting);
        let shown: Vec<_> = members
            .iter()
            .map(|member| (member.id, member.name.as_str(), member.is_learner))
            .collect();
        assert_eq!(shown, [(1, "", false), (2, "two", true), (3, "", false)]);
        assert_eq!(members[1].client_urls, ["http://c:2"]);
        assert_eq!(members[2].peer_urls, ["http://h3:1"]);
        assert_eq!(members[0].connection, Connection::Lasting);
    }
}
