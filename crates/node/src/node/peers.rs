//! Whom a networked member is connected to, as the transport is told.
//!
//! Responsible for: joining what the log says of members and addresses with what the member was
//! started with. The log wins; what it does not say is filled in. Not responsible for: deciding who is
//! a member.

use std::collections::BTreeMap;

use jangada_net::{Peer, Roster, RosterMember, Transport};
use jangada_raft::NodeId;

use super::{Beginning, MemberAddress};
use crate::member::Peers;
use crate::record::members_of;

/// What the member was started with.
pub(super) struct Directory {
    id: NodeId,
    given: BTreeMap<NodeId, Vec<String>>,
    beginning: Beginning,
}

impl Directory {
    pub(super) fn new(id: NodeId, beginning: Beginning, members: &[MemberAddress]) -> Directory {
        let given = members.iter().map(|m| (m.id, m.addresses.clone())).collect();
        Directory { id, given, beginning }
    }

    /// Everybody to be connected to.
    pub(super) fn peers(&self, told: &Peers) -> Vec<Peer> {
        let mut all: BTreeMap<NodeId, Vec<String>> = BTreeMap::new();
        // Until its log has caught up with its own addition, a new member follows configurations of
        // old, and needs those that it was told of.
        let is_new = self.beginning == Beginning::Join
            && !members_of(told.membership.configuration()).any(|id| id == self.id);
        if is_new {
            all.extend(self.given.iter().map(|(id, addresses)| (*id, addresses.clone())));
            all.retain(|id, _| !told.removed.contains(id));
        }
        for (id, addresses) in &told.addresses {
            all.insert(*id, self.or_given(*id, addresses));
        }
        all.remove(&self.id);
        all.into_iter().map(|(id, addresses)| Peer { id, addresses }).collect()
    }

    /// What a new server is told; its own addresses are those by which it is found.
    fn roster(&self, told: &Peers) -> Roster {
        let configuration = told.membership.configuration();
        let mut ids: Vec<NodeId> = members_of(configuration).collect();
        ids.sort_unstable();
        ids.dedup();
        let member = |id: NodeId| {
            let addresses = configuration.addresses.get(&id).map_or(&[][..], |a| a);
            let is_voter = configuration.voters.contains(&id);
            RosterMember { id, is_voter, addresses: self.or_given(id, addresses) }
        };
        let members = ids.into_iter().map(member).collect();
        Roster { version: told.version, members, ..Roster::default() }
    }

    fn or_given(&self, id: NodeId, addresses: &[String]) -> Vec<String> {
        if !addresses.is_empty() {
            return addresses.to_vec();
        }
        self.given.get(&id).cloned().unwrap_or_default()
    }

    /// Tells the transport.
    pub(super) fn tell(&self, transport: &Transport, told: &Peers) {
        transport.set_peers(self.peers(told), told.removed.clone());
        if !told.membership.configuration().voters.is_empty() {
            transport.set_roster(self.roster(told));
        }
    }
}
