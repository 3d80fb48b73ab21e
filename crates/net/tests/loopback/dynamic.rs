//! Peers that come, move and go while the transport runs, and servers that ask who they are.

use std::time::Duration;

use jangada_net::handshake::RefusalCode;
use jangada_net::{
    InquireError, Lane, Peer, Roster, RosterMember, SendError, TransportEvent, inquire,
};
use jangada_raft::NodeId;

use crate::common::heartbeat;
use crate::member::{CLUSTER, Member, config, listener, pair, peer, run};

#[test]
fn a_peer_is_added_moves_and_is_let_go() {
    run(async {
        let (one, one_address) = listener();
        let (two, two_address) = listener();
        let one = Member::start(config(1, vec![]), one);
        let two = Member::start(config(2, vec![peer(1, one_address)]), two);
        assert_eq!(one.send(2, &heartbeat(1)), Err(SendError::UnknownPeer));
        one.transport.set_peers(vec![peer(2, two_address)], vec![]);
        one.until_open(2, 1).await;
        two.until_open(1, 1).await;

        // It stops, and comes back at another address.
        two.transport.stop();
        drop(two);
        one.until_down(2, 1).await;
        let (two, two_address) = listener();
        let two = Member::start(config(2, vec![peer(1, one_address)]), two);
        one.transport.set_peers(vec![peer(2, two_address)], vec![]);
        one.until_open(2, 2).await;
        // Without addresses it stays where it is.
        one.transport.set_peers(vec![Peer { id: NodeId(2), addresses: vec![] }], vec![]);
        one.send(2, &heartbeat(2)).expect("its lanes are open");
        one.transport.flush();
        two.until_received(1, Lane::Control, 1).await;

        one.transport.set_peers(vec![], vec![]);
        assert_eq!(one.send(2, &heartbeat(3)), Err(SendError::UnknownPeer));
    });
}

#[test]
fn a_member_that_was_not_heard_of_is_answered_where_it_says() {
    run(async {
        let (one, one_address) = listener();
        let (two, two_address) = listener();
        let one = Member::start(config(1, vec![]), one);
        let mut unheard = config(2, vec![peer(1, one_address)]);
        unheard.addresses = vec![format!("http://{two_address}")];
        let two = Member::start(unheard, two);
        two.until_open(1, 1).await;
        one.until_open(2, 1).await;
        one.send(2, &heartbeat(1)).expect("its lanes are open");
        one.transport.flush();
        two.until_received(1, Lane::Control, 1).await;
        let up = TransportEvent::Up { peer: NodeId(2), incarnation: 1002, level: 7 };
        one.until_told(up, 1).await;
    });
}

#[test]
fn who_was_removed_is_turned_away_and_told_so() {
    run(async {
        let (one, two) = pair().await;
        one.transport.set_peers(vec![], vec![NodeId(2)]);
        let code = RefusalCode::Removed;
        two.until_told(TransportEvent::TurnedAway { by: NodeId(1), code }, 1).await;
        let sentence = two.until_refused("was removed from the cluster").await;
        assert!(sentence.contains("add it as a new member"), "{sentence}");
    });
}

#[test]
fn a_member_without_its_data_directory_is_told_that_it_is_the_one() {
    run(async {
        let (one, one_address) = listener();
        let (two, two_address) = listener();
        let one = Member::start(config(1, vec![peer(2, two_address)]), one);
        one.transport.expect_incarnation(NodeId(2), Some(4));
        let two = Member::start(config(2, vec![peer(1, one_address)]), two);
        let code = RefusalCode::Wiped;
        two.until_told(TransportEvent::TurnedAway { by: NodeId(1), code }, 1).await;
        let innocent = |event: &TransportEvent| !matches!(event, TransportEvent::TurnedAway { .. });
        assert!(one.events().iter().all(innocent));
    });
}

#[test]
fn a_new_server_learns_who_it_is() {
    run(async {
        let (one, one_address) = listener();
        let one = Member::start(config(1, vec![]), one);
        let member = |id, address: &str| RosterMember {
            id: NodeId(id),
            is_voter: id == 1,
            addresses: vec![address.to_owned()],
        };
        let members = vec![member(1, &one_address.to_string()), member(9, "http://new:2380")];
        let roster = Roster { version: 1, members: members.clone(), ..Roster::default() };
        one.transport.set_roster(roster);

        let ask = move |own: &str, timeout| {
            let (members, own) = (vec![format!("http://{one_address}")], vec![own.to_owned()]);
            tokio::task::spawn_blocking(move || inquire(&members, &own, None, timeout))
        };
        let found = ask("http://new:2380", Duration::from_secs(60)).await.expect("no panic");
        let expected = Roster { cluster: CLUSTER, version: 1, member: Some(NodeId(9)), members };
        assert_eq!(found, Ok(expected));

        let unknown = ask("other:2380", Duration::from_millis(1)).await.expect("no panic");
        let Err(InquireError::Unknown { own, .. }) = &unknown else { panic!("{unknown:?}") };
        assert_eq!(own, "other:2380");
    });
}

#[test]
fn an_inquiry_that_nobody_answers_names_the_address() {
    let (_, address) = listener();
    let failed =
        inquire(&[address.to_string()], &["a:1".to_owned()], None, Duration::from_millis(1));
    let Err(InquireError::Unreachable { tried }) = failed else { panic!("{failed:?}") };
    assert!(tried.contains(&address.to_string()), "{tried}");
}
