//! The crate `raft` under the schedule, driven as its documentation says, with synchronous storage.

use std::collections::{BTreeMap, VecDeque};

use raft::eraftpb::{Entry, Message};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};
use slog::{Discard, Logger, o};

use crate::cluster::{Cluster, ELECTION_TICKS, Links, Network};

/// So many ticks that no election begins by itself.
const NEVER_TICKS: usize = 1_000_000_000;

/// The most bytes of entries in a message, and the most messages under way to a peer.
const WINDOW: (u64, usize) = (1 << 20, 256);

struct Member {
    node: Option<RawNode<MemStorage>>,
    storage: MemStorage,
    applied_index: u64,
    applied: Vec<u64>,
    /// Index, term and command of what was proposed here and is not committed.
    proposed: VecDeque<(u64, u64, u64)>,
}

/// Members of the crate `raft`.
pub struct RaftRs {
    members: BTreeMap<u64, Member>,
    network: Network<Message>,
    acknowledged: Vec<u64>,
    logger: Logger,
}

impl RaftRs {
    pub fn new(members: u64) -> RaftRs {
        let mut cluster = RaftRs {
            members: BTreeMap::new(),
            network: Network::default(),
            acknowledged: Vec::new(),
            logger: Logger::root(Discard, o!()),
        };
        let voters: Vec<u64> = (1..=members).collect();
        for id in 1..=members {
            let storage = MemStorage::new_with_conf_state((voters.clone(), Vec::new()));
            let member = Member {
                node: None,
                storage,
                applied_index: 0,
                applied: Vec::new(),
                proposed: VecDeque::new(),
            };
            cluster.members.insert(id, member);
            cluster.restart(id);
        }
        cluster
    }

    fn member(&mut self, id: u64) -> &mut Member {
        self.members.get_mut(&id).expect("a known member")
    }

    /// Does whatever the node is ready for.
    fn ready(&mut self, id: u64) {
        let Member { node: Some(node), storage, applied_index, applied, proposed } =
            self.members.get_mut(&id).expect("a known member")
        else {
            return;
        };
        while node.has_ready() {
            let mut ready = node.ready();
            let mut messages = ready.take_messages();
            let mut committed = ready.take_committed_entries();
            if !ready.entries().is_empty() {
                storage.wl().append(ready.entries()).expect("entries join the log");
            }
            if let Some(hard_state) = ready.hs() {
                storage.wl().set_hardstate(hard_state.clone());
            }
            messages.extend(ready.take_persisted_messages());
            let mut light = node.advance(ready);
            if let Some(commit) = light.commit_index() {
                storage.wl().mut_hard_state().commit = commit;
            }
            messages.extend(light.take_messages());
            committed.extend(light.take_committed_entries());
            for entry in committed {
                assert!(entry.index == *applied_index + 1, "entries are applied in order");
                *applied_index = entry.index;
                applied.extend(command_of(&entry));
                while let Some((index, term, command)) = proposed.front().copied()
                    && index <= entry.index
                {
                    proposed.pop_front();
                    if term == entry.term && command_of(&entry) == Some(command) {
                        self.acknowledged.push(command);
                    }
                }
            }
            node.advance_apply();
            for message in messages {
                self.network.send(id, message.to, message);
            }
        }
        if node.raft.state != StateRole::Leader {
            proposed.clear();
        }
    }
}

fn command_of(entry: &Entry) -> Option<u64> {
    let bytes = <[u8; 8]>::try_from(&entry.data[..]).ok()?;
    Some(u64::from_le_bytes(bytes))
}

impl Cluster for RaftRs {
    fn tick(&mut self, member: u64) {
        if let Some(node) = &mut self.member(member).node {
            node.tick();
        }
        self.ready(member);
    }

    fn campaign(&mut self, member: u64) {
        if let Some(node) = &mut self.member(member).node {
            node.campaign().expect("a campaign is never refused");
        }
        self.ready(member);
    }

    fn propose(&mut self, member: u64, command: u64) -> bool {
        // Its followers would forward the proposal.
        if !self.leads(member) {
            return false;
        }
        let state = self.member(member);
        let node = state.node.as_mut().expect("it leads");
        let taken = node.propose(Vec::new(), command.to_le_bytes().to_vec()).is_ok();
        if taken {
            let (index, term) = (node.raft.raft_log.last_index(), node.raft.term);
            state.proposed.push_back((index, term, command));
        }
        self.ready(member);
        taken
    }

    fn deliver(&mut self, links: &Links, each: usize) -> bool {
        let (any, taken) = self.network.take(links, each);
        for (_, to, message) in taken {
            if let Some(node) = &mut self.member(to).node {
                // An error is a message that it has no use for.
                let _ignored = node.step(message);
            }
            self.ready(to);
        }
        any
    }

    fn crash(&mut self, member: u64) {
        let state = self.member(member);
        state.node = None;
        state.proposed.clear();
    }

    fn restart(&mut self, member: u64) {
        let logger = self.logger.clone();
        let state = self.member(member);
        if state.node.is_some() {
            return;
        }
        let config = Config {
            id: member,
            election_tick: ELECTION_TICKS as usize,
            heartbeat_tick: 1,
            min_election_tick: NEVER_TICKS,
            max_election_tick: NEVER_TICKS + 1,
            pre_vote: true,
            check_quorum: true,
            max_size_per_msg: WINDOW.0,
            max_inflight_msgs: WINDOW.1,
            applied: state.applied_index,
            ..Config::default()
        };
        let node = RawNode::new(&config, state.storage.clone(), &logger);
        state.node = Some(node.expect("the configuration is valid"));
        self.ready(member);
    }

    fn runs(&self, member: u64) -> bool {
        self.members[&member].node.is_some()
    }

    fn leads(&self, member: u64) -> bool {
        let node = self.members[&member].node.as_ref();
        node.is_some_and(|node| node.raft.state == StateRole::Leader)
    }

    fn applied(&self, member: u64) -> &[u64] {
        &self.members[&member].applied
    }

    fn acknowledged(&self) -> &[u64] {
        &self.acknowledged
    }
}
