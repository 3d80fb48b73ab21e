//! raft-rs: one task for each node, which ticks, steps, and goes through each `Ready` as its
//! documentation says, with its storage in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use raft::eraftpb::{Entry, Message};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};
use slog::{Discard, Logger, o};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use crate::MEMBERS;
use crate::clients::Cluster;
use crate::store::{Put, Store};

/// How often a node is ticked.
const TICK: Duration = Duration::from_millis(10);

/// No place of a node.
const NOBODY: usize = usize::MAX;

#[expect(clippy::large_enum_variant, reason = "a message is handed on as the library gives it")]
enum Event {
    Put(Put, oneshot::Sender<u64>),
    Message(Message),
}

/// The inbox of the leader.
pub struct RaftRs {
    leader: mpsc::UnboundedSender<Event>,
}

impl RaftRs {
    pub async fn start() -> RaftRs {
        let (outboxes, inboxes): (Vec<_>, Vec<_>) =
            (0..MEMBERS).map(|_| mpsc::unbounded_channel()).unzip();
        let leads = Arc::new(AtomicUsize::new(NOBODY));
        for (place, inbox) in inboxes.into_iter().enumerate() {
            tokio::spawn(Node::new(place, outboxes.clone(), leads.clone()).run(inbox));
        }
        let mut leader = NOBODY;
        while leader == NOBODY {
            tokio::time::sleep(TICK).await;
            leader = leads.load(Ordering::Relaxed);
        }
        RaftRs { leader: outboxes[leader].clone() }
    }
}

impl Cluster for RaftRs {
    async fn put(&self, put: Put) -> u64 {
        let (reply, answer) = oneshot::channel();
        assert!(self.leader.send(Event::Put(put, reply)).is_ok(), "the node runs");
        answer.await.expect("the leader stays")
    }

    async fn stop(&self) {}
}

struct Node {
    place: usize,
    raft: RawNode<MemStorage>,
    storage: MemStorage,
    outboxes: Vec<mpsc::UnboundedSender<Event>>,
    store: Store,
    /// Who waits, by the number in the entry's context.
    waiting: HashMap<u64, oneshot::Sender<u64>>,
    number: u64,
    /// Where the leader says who it is.
    leads: Arc<AtomicUsize>,
}

impl Node {
    fn new(
        place: usize,
        outboxes: Vec<mpsc::UnboundedSender<Event>>,
        leads: Arc<AtomicUsize>,
    ) -> Node {
        let id = place as u64 + 1;
        let voters: Vec<u64> = (1..=MEMBERS).collect();
        let storage = MemStorage::new_with_conf_state((voters, Vec::new()));
        let config =
            Config { id, max_size_per_msg: 1 << 20, batch_append: true, ..Config::default() };
        let logger = Logger::root(Discard, o!());
        let raft = RawNode::new(&config, storage.clone(), &logger).expect("a fine configuration");
        let (store, waiting) = (Store::default(), HashMap::new());
        Node { place, raft, storage, outboxes, store, waiting, number: 0, leads }
    }

    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Event>) {
        if self.place == 0 {
            self.raft.campaign().expect("a campaign is never refused");
            self.ready();
        }
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = inbox.recv() => {
                    let Some(event) = event else { return };
                    self.event(event);
                    // Whatever else has come is stepped before one `Ready` for all.
                    while let Ok(event) = inbox.try_recv() {
                        self.event(event);
                    }
                }
                _ = ticks.tick() => {
                    self.raft.tick();
                }
            }
            self.ready();
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Put(put, reply) => self.propose(put, reply),
            Event::Message(message) => self.raft.step(message).expect("a node's message"),
        }
    }

    fn propose(&mut self, put: Put, reply: oneshot::Sender<u64>) {
        self.number += 1;
        self.waiting.insert(self.number, reply);
        let place = u8::try_from(self.place).expect("one of a few nodes");
        let mut context = self.number.to_le_bytes().to_vec();
        context.push(place);
        self.raft.propose(context, put.encode().to_vec()).expect("a leader takes it");
    }

    fn ready(&mut self) {
        while self.raft.has_ready() {
            let mut ready = self.raft.ready();
            self.send(ready.take_messages());
            self.apply(ready.take_committed_entries());
            if !ready.entries().is_empty() {
                self.storage.wl().append(ready.entries()).expect("entries join the log");
            }
            if let Some(hard_state) = ready.hs() {
                self.storage.wl().set_hardstate(hard_state.clone());
            }
            self.send(ready.take_persisted_messages());
            let mut light = self.raft.advance(ready);
            if let Some(commit) = light.commit_index() {
                self.storage.wl().mut_hard_state().set_commit(commit);
            }
            self.send(light.take_messages());
            self.apply(light.take_committed_entries());
            self.raft.advance_apply();
        }
        if self.raft.raft.state == StateRole::Leader {
            self.leads.store(self.place, Ordering::Relaxed);
        }
    }

    fn send(&self, messages: Vec<Message>) {
        for message in messages {
            let to = usize::try_from(message.to - 1).expect("one of a few nodes");
            // At the end nodes stop one after the other.
            let _ = self.outboxes[to].send(Event::Message(message));
        }
    }

    fn apply(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            // A new leader's first entry is empty.
            if entry.data.is_empty() {
                continue;
            }
            let revision = self.store.apply(Put::decode(&entry.data));
            let (place, number) = entry.context.split_last().expect("a place and a number");
            let number = u64::from_le_bytes(number.try_into().expect("a number"));
            if usize::from(*place) == self.place
                && let Some(reply) = self.waiting.remove(&number)
            {
                let _ = reply.send(revision);
            }
        }
    }
}
