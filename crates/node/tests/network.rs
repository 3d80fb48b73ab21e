//! Three networked members in one process, on real files and loopback sockets, through the public
//! border only.

mod journals;

use std::net::TcpListener;

use jangada::{Config, Index, MemberAddress, Node, NodeError, NodeId};
use journals::{Journal, journal, places, propose, start, start_all};

#[test]
fn every_member_serves_and_a_restart_forgets_nothing() {
    let directory = tempfile::tempdir().expect("a folder");
    let members = places(3);
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
    let members = places(3);
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
    let members = places(3);
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
    let members = places(3);
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
