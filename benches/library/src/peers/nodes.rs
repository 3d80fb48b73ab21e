//! Nodes that are a task each: what raft-rs and omnipaxos leave to whoever uses them, beyond the node
//! itself. A task ticks its node, gives it what has come, and carries out what it wants done.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use crate::MEMBERS;
use crate::clients::Cluster;
use crate::store::Put;

/// How often a node is ticked.
const TICK: Duration = Duration::from_millis(10);

/// No place of a node.
const NOBODY: usize = usize::MAX;

/// A node of a library. Its id is its place and one.
pub trait Node: Send + 'static {
    type Message: Send + 'static;

    /// The node at a place; what it wants done at once is asked for before anything comes.
    fn new(place: usize) -> Self;

    /// A put of a client at this node, who waits under this number.
    fn propose(&mut self, put: Put, number: u64);

    fn receive(&mut self, message: Self::Message);

    fn tick(&mut self);

    /// Does what there is to do: sends, and tells what was applied of this node's own puts.
    fn carry_out(&mut self, post: &mut Post<'_, Self::Message>);

    fn leads(&self) -> bool;
}

/// What leaves a node.
pub struct Post<'a, M> {
    outboxes: &'a [mpsc::UnboundedSender<Event<M>>],
    waiting: &'a mut HashMap<u64, oneshot::Sender<u64>>,
}

impl<M> Post<'_, M> {
    /// Sends a message to the node of this id.
    pub fn send(&self, to: u64, message: M) {
        let place = usize::try_from(to - 1).expect("one of a few nodes");
        // At the end nodes stop one after the other.
        let _ = self.outboxes[place].send(Event::Message(message));
    }

    /// The put of this number was applied.
    pub fn answer(&mut self, number: u64, revision: u64) {
        if let Some(reply) = self.waiting.remove(&number) {
            let _ = reply.send(revision);
        }
    }
}

enum Event<M> {
    Put(Put, oneshot::Sender<u64>),
    Message(M),
}

/// The inbox of the leader.
pub struct Nodes<N: Node> {
    leader: mpsc::UnboundedSender<Event<N::Message>>,
}

impl<N: Node> Nodes<N> {
    /// Starts all nodes and waits for a leader.
    pub async fn start() -> Nodes<N> {
        let (outboxes, inboxes): (Vec<_>, Vec<_>) =
            (0..MEMBERS).map(|_| mpsc::unbounded_channel()).unzip();
        let leads = Arc::new(AtomicUsize::new(NOBODY));
        for (place, inbox) in inboxes.into_iter().enumerate() {
            tokio::spawn(run::<N>(place, inbox, outboxes.clone(), leads.clone()));
        }
        let mut leader = NOBODY;
        while leader == NOBODY {
            tokio::time::sleep(TICK).await;
            leader = leads.load(Ordering::Relaxed);
        }
        Nodes { leader: outboxes[leader].clone() }
    }
}

impl<N: Node> Cluster for Nodes<N> {
    async fn put(&self, put: Put) -> u64 {
        let (reply, answer) = oneshot::channel();
        assert!(self.leader.send(Event::Put(put, reply)).is_ok(), "the node runs");
        answer.await.expect("the leader stays")
    }

    async fn stop(&self) {}
}

async fn run<N: Node>(
    place: usize,
    mut inbox: mpsc::UnboundedReceiver<Event<N::Message>>,
    outboxes: Vec<mpsc::UnboundedSender<Event<N::Message>>>,
    leads: Arc<AtomicUsize>,
) {
    let mut node = N::new(place);
    let (mut waiting, mut number) = (HashMap::new(), 0);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        node.carry_out(&mut Post { outboxes: &outboxes, waiting: &mut waiting });
        if node.leads() {
            leads.store(place, Ordering::Relaxed);
        }
        let mut take = |node: &mut N, event| match event {
            Event::Put(put, reply) => {
                number += 1;
                waiting.insert(number, reply);
                node.propose(put, number);
            }
            Event::Message(message) => node.receive(message),
        };
        tokio::select! {
            event = inbox.recv() => {
                let Some(event) = event else { return };
                take(&mut node, event);
                // Whatever else has come is taken before anything is carried out.
                while let Ok(event) = inbox.try_recv() {
                    take(&mut node, event);
                }
            }
            _ = ticks.tick() => node.tick(),
        }
    }
}
