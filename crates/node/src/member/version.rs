//! The cluster's version: a feature level that every member speaks. It gates commands and formats
//! that not all members would understand.
//!
//! Responsible for: raising it, by an entry, as soon as all members of the configuration speak more;
//! keeping what peers speak. It never falls: what has been written since may need it.

use std::collections::BTreeMap;

use jangada_entry::{Draft, Frame, Kind, Origin, decode_version, encode_version};
use jangada_raft::{NodeId, Term};

use super::proposals::Submission;
use super::{Ended, Member};
use crate::machine::StateMachine;
use crate::record::members_of;

/// The feature level of this program. A format or a command that earlier programs do not understand
/// raises it by one, and is used only once the cluster's version has reached that.
pub const FEATURE_LEVEL: u16 = 1;

/// The version of the entry's payload.
const PAYLOAD_VERSION: u16 = 1;

/// What the members speak.
#[derive(Debug)]
pub(super) struct Levels {
    /// The highest that this program speaks.
    pub(super) own: u16,
    /// What peers have shown at their last handshake.
    peers: BTreeMap<NodeId, u16>,
    /// What was proposed last, and in which term.
    proposed: (Term, u16),
}

impl Levels {
    pub(super) fn new(own: u16) -> Levels {
        Levels { own, peers: BTreeMap::new(), proposed: (Term(0), 0) }
    }
}

impl<M: StateMachine> Member<M> {
    /// A peer speaks versions up to this one.
    pub(super) fn level_shown(&mut self, peer: NodeId, level: u16) {
        // Of those that count alone, so that there are never many.
        if self.acquaintances.of(peer).is_some() {
            self.levels.peers.insert(peer, level);
        }
    }

    /// Proposes the highest version that everybody in the configuration speaks, if it is news.
    pub(super) fn raise_version(&mut self) {
        if !self.leads() {
            return;
        }
        let configuration = self.raft.configuration();
        let spoken = |id: NodeId| match id == self.id {
            true => self.levels.own,
            false => self.levels.peers.get(&id).copied().unwrap_or(0),
        };
        let common = members_of(configuration).map(spoken).min().unwrap_or(0);
        let wanted = (self.raft.term(), common);
        if common <= self.record.version || self.levels.proposed == wanted {
            return;
        }
        self.levels.proposed = wanted;
        let payload = encode_version(common);
        let mut buffer = Draft::buffer(payload.len());
        buffer.extend_from_slice(&payload);
        let draft =
            Draft::new(buffer, Kind::Version, PAYLOAD_VERSION, self.group, Origin::default());
        self.submissions.push(Submission::own(draft));
    }

    /// The entry that raises the cluster's version is applied.
    pub(super) fn apply_version(&mut self, frame: &Frame) {
        let version = decode_version(frame.payload()).expect("a version is two bytes");
        self.record.version = self.record.version.max(version);
        self.members_changed();
        if self.levels.own < version {
            self.end(Ended::Version { cluster: version, own: self.levels.own });
        }
    }
}
