//! raft-rs: each node is ticked and stepped, and goes through each `Ready` as its documentation says, with
//! its storage in memory.

use raft::eraftpb::{Entry, Message};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};
use slog::{Discard, Logger, o};

use super::nodes::{self, Nodes, Post};
use crate::MEMBERS;
use crate::store::{Put, Store};

/// A cluster of it.
pub type RaftRs = Nodes<Node>;

/// A node, and what its entries are applied to.
pub struct Node {
    place: usize,
    raft: RawNode<MemStorage>,
    storage: MemStorage,
    store: Store,
}

impl nodes::Node for Node {
    type Message = Message;

    fn new(place: usize) -> Node {
        let id = place as u64 + 1;
        let voters: Vec<u64> = (1..=MEMBERS).collect();
        let storage = MemStorage::new_with_conf_state((voters, Vec::new()));
        let config =
            Config { id, max_size_per_msg: 1 << 20, batch_append: true, ..Config::default() };
        let logger = Logger::root(Discard, o!());
        let mut raft =
            RawNode::new(&config, storage.clone(), &logger).expect("a fine configuration");
        if place == 0 {
            raft.campaign().expect("a campaign is never refused");
        }
        Node { place, raft, storage, store: Store::default() }
    }

    fn propose(&mut self, put: Put, number: u64) {
        let place = u8::try_from(self.place).expect("one of a few nodes");
        let mut context = number.to_le_bytes().to_vec();
        context.push(place);
        self.raft.propose(context, put.encode().to_vec()).expect("a leader takes it");
    }

    fn receive(&mut self, message: Message) {
        self.raft.step(message).expect("a node's message");
    }

    fn tick(&mut self) {
        self.raft.tick();
    }

    fn leads(&self) -> bool {
        self.raft.raft.state == StateRole::Leader
    }

    fn carry_out(&mut self, post: &mut Post<'_, Message>) {
        while self.raft.has_ready() {
            let mut ready = self.raft.ready();
            send(post, ready.take_messages());
            self.apply(ready.take_committed_entries(), post);
            if !ready.entries().is_empty() {
                self.storage.wl().append(ready.entries()).expect("entries join the log");
            }
            if let Some(hard_state) = ready.hs() {
                self.storage.wl().set_hardstate(hard_state.clone());
            }
            send(post, ready.take_persisted_messages());
            let mut light = self.raft.advance(ready);
            if let Some(commit) = light.commit_index() {
                self.storage.wl().mut_hard_state().set_commit(commit);
            }
            send(post, light.take_messages());
            self.apply(light.take_committed_entries(), post);
            self.raft.advance_apply();
        }
    }
}

fn send(post: &Post<'_, Message>, messages: Vec<Message>) {
    for message in messages {
        post.send(message.to, message);
    }
}

impl Node {
    fn apply(&mut self, entries: Vec<Entry>, post: &mut Post<'_, Message>) {
        for entry in entries {
            // A new leader's first entry is empty.
            if entry.data.is_empty() {
                continue;
            }
            let revision = self.store.apply(Put::decode(&entry.data));
            let (place, number) = entry.context.split_last().expect("a place and a number");
            let number = u64::from_le_bytes(number.try_into().expect("a number"));
            if usize::from(*place) == self.place {
                post.answer(number, revision);
            }
        }
    }
}
