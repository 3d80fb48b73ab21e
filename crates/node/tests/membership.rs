//! Members that come and go, leadership that is handed over, and the cluster's version, on real files
//! and loopback sockets, through the public border only.

mod journals;

use std::path::Path;
use std::time::Duration;

use jangada::net::{Roster, inquire};
use jangada::{
    Beginning, ChangeError, Ended, FEATURE_LEVEL, MemberAddress, MemberChange, Node, NodeError,
    NodeId, ProposeError, TransferError,
};
use journals::{Journal, config, journal, places, propose, start, start_all};

/// Far beyond what any step takes: it ends one that hangs, and measures nothing.
const HANG: Duration = Duration::from_secs(60);

/// The members of the roster, as a new one is told of them.
fn join(roster: &Roster, directory: &Path) -> Node<Journal> {
    let id = roster.member.expect("the new member was added");
    let mut config = config(id, &[], directory);
    config.beginning = Beginning::Join;
    config.cluster = roster.cluster;
    let address = |member: &jangada::net::RosterMember| MemberAddress {
        id: member.id,
        addresses: member.addresses.clone(),
    };
    config.members = roster.members.iter().map(address).collect();
    Node::start(config, Journal::default()).expect("the new member starts")
}

fn change(voters: &[(NodeId, String)]) -> MemberChange {
    MemberChange {
        voters: voters.iter().map(|(id, _)| *id).collect(),
        addresses: voters.iter().map(|(id, at)| (*id, vec![at.clone()])).collect(),
        ..MemberChange::default()
    }
}

/// Waits until the members, as `node` has applied them, are as wanted.
fn until_voters(node: &Node<Journal>, voters: &[u64]) {
    let wanted: Vec<NodeId> = voters.iter().copied().map(NodeId).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime is to be had").block_on(async {
        let mut watch = node.handle().watch_membership();
        while watch.seen().configuration().voters != wanted
            || watch.seen().configuration().is_joint()
        {
            let changed = tokio::time::timeout(HANG, watch.changed()).await;
            changed.expect("it changes").expect("the member runs");
        }
    });
}

fn leader(node: &Node<Journal>) -> NodeId {
    node.handle().read_barrier().wait().expect("a leader is found");
    node.handle().status().standing.leader.expect("a read has just been confirmed")
}

#[test]
fn a_cluster_grows_by_one_member_and_loses_another() {
    let directory = tempfile::tempdir().expect("a folder");
    let places = places(4);
    let members = &places[..3];
    let nodes = start_all(members, directory.path());
    propose(&nodes[0], b"before");

    // The new voter comes in as a learner, asks who it is, and is promoted when it holds the log.
    let asked = nodes[1].handle().change_members(change(&places)).wait().expect("it is done");
    assert_eq!((asked.voters.len(), &asked.learners[..]), (3, &[NodeId(4)][..]));
    let new = places[3].1.clone();
    let roster = inquire(&[places[0].1.clone()], &[new], None, HANG).expect("it was added");
    assert_eq!((roster.member, roster.members.len()), (Some(NodeId(4)), 4));
    let fourth = join(&roster, directory.path());
    until_voters(&fourth, &[1, 2, 3, 4]);
    propose(&fourth, b"with four");
    assert_eq!(journal(&fourth), [&b"before"[..], b"with four"]);

    // The leader is replaced, whoever it is, and by a member that does not lead.
    let old = leader(&fourth);
    let others: Vec<_> = places.iter().filter(|(id, _)| *id != old).cloned().collect();
    let asked = fourth.handle().change_members(change(&others)).wait().expect("it is done");
    assert!(!asked.voters.contains(&old) && !asked.is_joint());
    propose(&fourth, b"with three");
    // It stops by itself, and says why; its log knows, too.
    let mut nodes: Vec<_> = members.iter().map(|(id, _)| *id).zip(nodes).collect();
    let at = nodes.iter().position(|(id, _)| *id == old).expect("it is one of the three");
    let (_, removed) = nodes.remove(at);
    let handle = removed.handle().clone();
    let ended = removed.wait();
    assert!(matches!(ended, Err(NodeError::Ended(Ended::Removed(id))) if id == old), "{ended:?}");
    assert_eq!(handle.ended(), Some(Ended::Removed(old)));
    assert_eq!(handle.propose(b"late").wait(), Err(ProposeError::Stopped));
    let back = fourth.handle().change_members(change(&places)).wait();
    assert_eq!(back, Err(ChangeError::RemovedBefore));

    // Its machine forgets everything, so it learns anew that it is no member, from its peers.
    let again = start(old, members, directory.path()).expect("it starts").wait();
    assert!(matches!(again, Err(NodeError::Ended(Ended::Removed(id))) if id == old), "{again:?}");

    // What the log says of members and addresses outlives a restart with the list of old.
    nodes.into_iter().for_each(|(_, node)| node.stop().expect("it stops"));
    fourth.stop().expect("it stops");
    let mut nodes: Vec<_> = Vec::new();
    for (id, _) in &others {
        let list: Vec<_> = places.iter().filter(|(other, _)| other == id).cloned().collect();
        nodes.push(start(*id, &list, directory.path()).expect("it starts"));
    }
    propose(&nodes[0], b"after");
    assert_eq!(
        journal(&nodes[2]),
        [&b"before"[..], b"with four", b"with three", b"after"].map(<[u8]>::to_vec)
    );
}

#[test]
fn leadership_goes_where_it_is_asked_to_from_anywhere() {
    let directory = tempfile::tempdir().expect("a folder");
    let members = places(3);
    let nodes = start_all(&members, directory.path());
    propose(&nodes[0], b"before");
    for (at, to) in [(0, 1), (1, 2), (2, 2), (0, 3)] {
        let transferred = nodes[at].handle().transfer_leadership(Some(NodeId(to))).wait();
        assert_eq!(transferred, Ok(NodeId(to)));
        propose(&nodes[at], b"meanwhile");
        assert_eq!(leader(&nodes[at]), NodeId(to));
    }
    let stranger = nodes[1].handle().transfer_leadership(Some(NodeId(9))).wait();
    assert_eq!(stranger, Err(TransferError::NoVoter));

    // One that is about to stop leaves the others with a leader.
    let handle = nodes[2].handle().clone();
    assert_eq!(handle.status().standing.leader, Some(NodeId(3)));
    handle.hand_over_and_stop();
    let mut nodes = nodes.into_iter();
    let (one, two, three) = (nodes.next(), nodes.next(), nodes.next());
    three.expect("three").wait().expect("it stops");
    let status = handle.status();
    assert_ne!(status.standing.leader, Some(NodeId(3)));
    propose(&one.expect("one"), b"after");
    drop(two);
}

#[test]
fn the_version_rises_once_every_member_has_shown_what_it_speaks() {
    let directory = tempfile::tempdir().expect("a folder");
    let members = places(3);
    let start = |id: u64| start(NodeId(id), &members, directory.path()).expect("up");
    let nodes = [start(1), start(2)];
    propose(&nodes[0], b"a");
    assert!(!nodes[0].handle().may_propose(FEATURE_LEVEL), "nobody has met the third");
    let third = start(3);
    while !third.handle().may_propose(FEATURE_LEVEL) {
        propose(&third, b"b");
    }
}

/// A member that lost its disk comes back under its old identity: it is told what to do, and stops.
#[test]
fn a_member_that_lost_its_data_directory_stops_and_says_what_to_do() {
    let directory = tempfile::tempdir().expect("a folder");
    let members = places(3);
    let nodes = start_all(&members, directory.path());
    for node in &nodes {
        propose(node, b"before");
    }
    let mut nodes = nodes.into_iter();
    let (one, _two, three) = (nodes.next(), nodes.next(), nodes.next());
    three.expect("three").stop().expect("it stops");
    std::fs::remove_dir_all(directory.path().join("member-3")).expect("it is there");
    let wiped = start(NodeId(3), &members, directory.path()).expect("it starts").wait();
    let Err(error) = wiped else { panic!("it goes on") };
    let sentence = error.to_string();
    assert!(sentence.contains("member remove 3") && sentence.contains("member add"), "{sentence}");
    propose(&one.expect("one"), b"after");
}
