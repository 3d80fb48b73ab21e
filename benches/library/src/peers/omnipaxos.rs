//! omnipaxos: one task for each node, which ticks, handles messages and reads what is decided, with its
//! storage in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use omnipaxos::messages::Message;
use omnipaxos::storage::{Entry, NoSnapshot};
use omnipaxos::util::LogEntry;
use omnipaxos::{ClusterConfig, OmniPaxosConfig, ServerConfig};
use omnipaxos_storage::memory_storage::MemoryStorage;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use crate::MEMBERS;
use crate::clients::Cluster;
use crate::store::{Put, Store};

/// How often a node is ticked.
const TICK: Duration = Duration::from_millis(10);

/// Far longer than a thread waits for a core on a busy machine: a leader that is given up takes commands
/// along that nobody answers.
const ELECTION_TICKS: u64 = 20;

/// No place of a node.
const NOBODY: usize = usize::MAX;

/// A put with the number of whoever waits for it.
#[derive(Clone, Debug)]
struct Command {
    put: Put,
    place: usize,
    number: u64,
}

impl Entry for Command {
    type Snapshot = NoSnapshot;
}

enum Event {
    Put(Put, oneshot::Sender<u64>),
    Message(Message<Command>),
}

/// The inbox of the leader.
pub struct OmniPaxos {
    leader: mpsc::UnboundedSender<Event>,
}

impl OmniPaxos {
    pub async fn start() -> OmniPaxos {
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
        OmniPaxos { leader: outboxes[leader].clone() }
    }
}

impl Cluster for OmniPaxos {
    async fn put(&self, put: Put) -> u64 {
        let (reply, answer) = oneshot::channel();
        assert!(self.leader.send(Event::Put(put, reply)).is_ok(), "the node runs");
        answer.await.expect("the leader stays")
    }

    async fn stop(&self) {}
}

struct Node {
    place: usize,
    paxos: omnipaxos::OmniPaxos<Command, MemoryStorage<Command>>,
    outboxes: Vec<mpsc::UnboundedSender<Event>>,
    outgoing: Vec<Message<Command>>,
    store: Store,
    decided: usize,
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
        let config = OmniPaxosConfig {
            cluster_config: ClusterConfig {
                configuration_id: 1,
                nodes: (1..=MEMBERS).collect(),
                ..ClusterConfig::default()
            },
            server_config: ServerConfig {
                pid: id,
                election_tick_timeout: ELECTION_TICKS,
                ..ServerConfig::default()
            },
        };
        let paxos = config.build(MemoryStorage::default()).expect("a fine configuration");
        Node {
            place,
            paxos,
            outboxes,
            outgoing: Vec::new(),
            store: Store::default(),
            decided: 0,
            waiting: HashMap::new(),
            number: 0,
            leads,
        }
    }

    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Event>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = inbox.recv() => {
                    let Some(event) = event else { return };
                    self.event(event);
                    while let Ok(event) = inbox.try_recv() {
                        self.event(event);
                    }
                }
                _ = ticks.tick() => {
                    self.paxos.tick();
                }
            }
            self.carry_out();
        }
    }

    fn leads(&self) -> bool {
        self.paxos.get_current_leader().is_some_and(|(leader, _)| leader == self.place as u64 + 1)
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Put(put, reply) => self.propose(put, reply),
            Event::Message(message) => self.paxos.handle_incoming(message),
        }
    }

    fn propose(&mut self, put: Put, reply: oneshot::Sender<u64>) {
        self.number += 1;
        self.waiting.insert(self.number, reply);
        let command = Command { put, place: self.place, number: self.number };
        assert!(self.paxos.append(command).is_ok(), "no reconfiguration is under way");
    }

    fn carry_out(&mut self) {
        if self.leads() {
            self.leads.store(self.place, Ordering::Relaxed);
        }
        self.paxos.take_outgoing_messages(&mut self.outgoing);
        for message in self.outgoing.drain(..) {
            let to = usize::try_from(message.get_receiver() - 1).expect("one of a few nodes");
            // At the end nodes stop one after the other.
            let _ = self.outboxes[to].send(Event::Message(message));
        }
        if self.paxos.get_decided_idx() == self.decided {
            return;
        }
        let news = self.paxos.read_decided_suffix(self.decided).expect("there is news");
        self.decided += news.len();
        for entry in news {
            let LogEntry::Decided(Command { put, place, number }) = entry else {
                panic!("nothing is compacted")
            };
            let revision = self.store.apply(put);
            if place == self.place
                && let Some(reply) = self.waiting.remove(&number)
            {
                let _ = reply.send(revision);
            }
        }
    }
}
