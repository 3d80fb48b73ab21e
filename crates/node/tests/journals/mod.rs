//! Networked members that remember every command, on real files and loopback sockets.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::net::TcpListener;
use std::path::Path;

use jangada::{Config, Frame, Node, NodeError, NodeId, Outcome, ProposeError, StateMachine};

/// Remembers every command, in order.
#[derive(Default)]
pub(crate) struct Journal(Vec<Vec<u8>>);

impl StateMachine for Journal {
    type Reply = usize;
    fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<usize>>) {
        for command in commands {
            self.0.push(command.payload().to_vec());
            outcomes.push(Outcome { reply: self.0.len(), digest: self.0.len() as u64 });
        }
    }
}

/// Where members are to be found, on ports that the system chooses.
pub(crate) fn places(count: u64) -> Vec<(NodeId, String)> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("loopback has ports")).collect();
    let address = |listener: &TcpListener| listener.local_addr().expect("bound").to_string();
    (1..).map(NodeId).zip(listeners.iter().map(address)).collect()
}

pub(crate) fn config(id: NodeId, members: &[(NodeId, String)], directory: &Path) -> Config {
    let log = directory.join(format!("member-{id}"));
    Config::new(id, members.iter().cloned(), log)
}

pub(crate) fn start(
    id: NodeId,
    members: &[(NodeId, String)],
    directory: &Path,
) -> Result<Node<Journal>, NodeError> {
    Node::start(config(id, members, directory), Journal::default())
}

pub(crate) fn start_all(members: &[(NodeId, String)], directory: &Path) -> Vec<Node<Journal>> {
    let one = |(id, _): &(NodeId, String)| start(*id, members, directory);
    members.iter().map(one).collect::<Result<_, _>>().expect("all members start")
}

/// Proposes until the outcome is certain; a command in doubt may then stand twice.
pub(crate) fn propose<M: StateMachine>(node: &Node<M>, command: &[u8]) {
    while let Err(error) = node.handle().propose(command).wait() {
        assert_ne!(error, ProposeError::Stopped);
    }
}

pub(crate) fn journal(node: &Node<Journal>) -> Vec<Vec<u8>> {
    let mut journal: Vec<Vec<u8>> =
        node.handle().read(|machine| machine.0.clone()).wait().expect("a leader is found");
    journal.dedup();
    journal
}
