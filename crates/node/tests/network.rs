//! Three networked members in one process, on real files and loopback sockets, through the public
//! border only.

use std::net::TcpListener;
use std::path::Path;

use jangada::{
    Config, Frame, Index, MemberAddress, Node, NodeError, NodeId, Outcome, ProposeError,
    StateMachine,
};

/// Remembers every command, in order.
#[derive(Default)]
struct Journal(Vec<Vec<u8>>);

impl StateMachine for Journal {
    type Reply = usize;
    fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<usize>>) {
        for command in commands {
            self.0.push(command.payload().to_vec());
            outcomes.push(Outcome { reply: self.0.len(), digest: self.0.len() as u64 });
        }
    }
}

struct Place {
    id: NodeId,
    listener: TcpListener,
}

fn places() -> Vec<Place> {
    let bind = |id| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        Place { id: NodeId(id), listener }
    };
    (1..=3).map(bind).collect()
}

fn addresses(places: &[Place]) -> Vec<(NodeId, String)> {
    let address = |place: &Place| place.listener.local_addr().expect("bound").to_string();
    places.iter().map(|place| (place.id, address(place))).collect()
}

fn start(
    id: NodeId,
    members: &[(NodeId, String)],
    directory: &Path,
) -> Result<Node<Journal>, NodeError> {
    let log = directory.join(format!("member-{id}"));
    Node::start(Config::new(id, members.iter().cloned(), log), Journal::default())
}

fn start_all(members: &[(NodeId, String)], directory: &Path) -> Vec<Node<Journal>> {
    let one = |(id, _): &(NodeId, String)| start(*id, members, directory);
    members.iter().map(one).collect::<Result<_, _>>().expect("three members start")
}

/// Proposes until the outcome is certain; a command in doubt may then stand twice.
fn propose(node: &Node<Journal>, command: &[u8]) {
    while let Err(error) = node.handle().propose(command).wait() {
        assert_ne!(error, ProposeError::Stopped);
    }
}

fn journal(node: &Node<Journal>) -> Vec<Vec<u8>> {
    let mut journal: Vec<Vec<u8>> =
        node.handle().read(|machine| machine.0.clone()).wait().expect("a leader is found");
    journal.dedup();
    journal
}

#[test]
fn every_member_serves_and_a_restart_forgets_nothing() {
    let directory = tempfile::tempdir().expect("a folder");
    let members = addresses(&places());
    let expected: Vec<Vec<u8>> = (0..30u8).map(|n| vec![n; 100]).collect();

    let nodes = start_all(&members, directory.path());
    for (n, command) in expected.iter().enumerate() {
        propose(&nodes[n % 3], command);
    }
    for node in &nodes {
        assert_eq!(journal(node), expected);
    }
    for node in nodes {
        node.stop().expect("an orderly end");
    }

    let nodes = start_all(&members, directory.path());
    for node in &nodes {
        assert_eq!(journal(node), expected);
        assert!(Index(30) <= node.handle().status().commit);
    }
}

#[test]
fn two_of_three_go_on_and_the_third_catches_up() {
    let directory = tempfile::tempdir().expect("a folder");
    let members = addresses(&places());
    let mut nodes = start_all(&members, directory.path());
    propose(&nodes[0], b"three");
    let gone = nodes.remove(0);
    gone.stop().expect("an orderly end");
    for n in 0..20 {
        propose(&nodes[n % 2], format!("two {n}").as_bytes());
    }
    nodes.insert(0, start(members[0].0, &members, directory.path()).expect("it comes back"));
    assert_eq!(journal(&nodes[0]).len(), 21);
    assert_eq!(journal(&nodes[0]), journal(&nodes[2]));
}

#[test]
fn a_log_of_another_cluster_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().expect("a folder");
    let members = addresses(&places());
    let log = directory.path().join("log");
    let node =
        Node::start(Config::new(NodeId(1), members[..1].iter().cloned(), &log), Journal::default())
            .expect("a single member");
    propose(&node, b"kept");
    node.stop().expect("an orderly end");

    let mut other = Config::new(NodeId(1), members[..1].iter().cloned(), &log);
    other.cluster = 7;
    let Err(error) = Node::start(other, Journal::default()) else { panic!("it must be refused") };
    let sentence = error.to_string();
    assert!(sentence.contains("belongs to member 1 of cluster 0"), "{sentence}");

    let same = Config::new(NodeId(1), members[..1].iter().cloned(), &log);
    let node = Node::start(same, Journal::default()).expect("the log is as it was");
    assert_eq!(journal(&node), vec![b"kept".to_vec()]);
}

#[test]
fn what_cannot_start_says_why() {
    let directory = tempfile::tempdir().expect("a folder");
    let members = addresses(&places());
    let not_listed = start(NodeId(9), &members, directory.path());
    let Err(NodeError::NotAMember(NodeId(9))) = not_listed else { panic!("9 is no member") };

    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = taken.local_addr().expect("bound").to_string();
    let config = Config {
        members: vec![MemberAddress { id: NodeId(1), addresses: vec![address.clone()] }],
        ..Config::new(NodeId(1), [], directory.path().join("taken"))
    };
    let Err(error) = Node::start(config, Journal::default()) else { panic!("the port is taken") };
    assert!(error.to_string().contains(&address), "{error}");
}
