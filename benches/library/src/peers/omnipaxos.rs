//! omnipaxos: each node is ticked and given messages, and what is decided is read from it, with its storage
//! in memory.

use omnipaxos::messages::Message;
use omnipaxos::storage::{Entry, NoSnapshot};
use omnipaxos::util::LogEntry;
use omnipaxos::{ClusterConfig, OmniPaxosConfig, ServerConfig};
use omnipaxos_storage::memory_storage::MemoryStorage;

use super::nodes::{self, Nodes, Post};
use crate::MEMBERS;
use crate::store::{Put, Store};

/// Far longer than a thread waits for a core on a busy machine: a leader that is given up takes commands
/// along that nobody answers.
const ELECTION_TICKS: u64 = 20;

/// A cluster of it.
pub type OmniPaxos = Nodes<Node>;

/// A put with the number of whoever waits for it.
#[derive(Clone, Debug)]
pub struct Command {
    put: Put,
    place: usize,
    number: u64,
}

impl Entry for Command {
    type Snapshot = NoSnapshot;
}

/// A node, and what its entries are applied to.
pub struct Node {
    place: usize,
    paxos: omnipaxos::OmniPaxos<Command, MemoryStorage<Command>>,
    outgoing: Vec<Message<Command>>,
    store: Store,
    decided: usize,
}

impl nodes::Node for Node {
    type Message = Message<Command>;

    fn new(place: usize) -> Node {
        let config = OmniPaxosConfig {
            cluster_config: ClusterConfig {
                configuration_id: 1,
                nodes: (1..=MEMBERS).collect(),
                ..ClusterConfig::default()
            },
            server_config: ServerConfig {
                pid: place as u64 + 1,
                election_tick_timeout: ELECTION_TICKS,
                ..ServerConfig::default()
            },
        };
        let paxos = config.build(MemoryStorage::default()).expect("a fine configuration");
        Node { place, paxos, outgoing: Vec::new(), store: Store::default(), decided: 0 }
    }

    fn propose(&mut self, put: Put, number: u64) {
        let command = Command { put, place: self.place, number };
        assert!(self.paxos.append(command).is_ok(), "no reconfiguration is under way");
    }

    fn receive(&mut self, message: Message<Command>) {
        self.paxos.handle_incoming(message);
    }

    fn tick(&mut self) {
        self.paxos.tick();
    }

    fn leads(&self) -> bool {
        self.paxos.get_current_leader().is_some_and(|(leader, _)| leader == self.place as u64 + 1)
    }

    fn carry_out(&mut self, post: &mut Post<'_, Message<Command>>) {
        self.paxos.take_outgoing_messages(&mut self.outgoing);
        for message in self.outgoing.drain(..) {
            post.send(message.get_receiver(), message);
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
            if place == self.place {
                post.answer(number, revision);
            }
        }
    }
}
