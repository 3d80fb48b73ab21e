//! Transports on loopback: order, loss and return of peers, proxies, refusals and bounds.

mod common;
#[path = "loopback/dynamic.rs"]
mod dynamic;
mod member;
mod proxy;

use std::time::Duration;

use bytes::BytesMut;
use common::{GROUP, append, heartbeat};
use jangada_net::handshake::{Identity, Known, NEWEST_VERSION, OLDEST_VERSION};
use jangada_net::session::{Incoming, Judged, Outgoing};
use jangada_net::{DownReason, Lane, Peer, SendError, TransportEvent};
use jangada_raft::NodeId;
use member::{CLUSTER, Member, acquainted, config, downs, listener, pair, peer, run};
use proxy::Proxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[test]
fn messages_arrive_in_order_on_each_lane() {
    run(async {
        let (one, two) = pair().await;
        let mut prev = 0;
        let (mut beats, mut appends) = (Vec::new(), Vec::new());
        for round in 0..300_u64 {
            let sizes = [0, 10, 300, 1024, 1025, 5000, 70_000];
            let size = sizes[usize::try_from(round).expect("small") % sizes.len()];
            let entries = append(prev, &[vec![7; size], vec![8; 20]]);
            prev += 2;
            one.transport.send(NodeId(2), heartbeat(round)).expect("the lane is open");
            while one.transport.send(NodeId(2), &entries).is_err() {
                one.transport.flush();
                tokio::task::yield_now().await;
            }
            if round % 7 == 0 {
                one.transport.flush();
            }
            beats.push(heartbeat(round));
            appends.push(entries);
        }
        one.transport.flush();
        assert_eq!(two.until_received(1, Lane::Control, beats.len()).await, beats);
        assert_eq!(two.until_received(1, Lane::Entries, appends.len()).await, appends);
        let sent = &one.transport.stats()[0];
        let received = &two.transport.stats()[0];
        assert_eq!(sent.sent_messages, 600);
        assert_eq!((sent.sent_bytes, 600), (received.received_bytes, received.received_messages));
        assert_eq!(sent.queued_bytes, 0);
    });
}

#[test]
fn an_entry_larger_than_the_queue_passes() {
    run(async {
        let (one, two) = pair().await;
        let large = append(0, &[vec![5; 20 << 20]]);
        one.send(2, &large).expect("an empty queue takes any message");
        assert_eq!(one.send(2, &large), Err(SendError::Full));
        assert_eq!(two.until_received(1, Lane::Entries, 1).await, [large]);
    });
}

#[test]
fn three_members_all_reach_each_other() {
    run(async {
        let listeners: Vec<_> = (0..3).map(|_| listener()).collect();
        let peers: Vec<_> = (1..).zip(&listeners).map(|(id, (_, at))| peer(id, *at)).collect();
        let members: Vec<_> = (1..)
            .zip(listeners)
            .map(|(id, (listener, _))| Member::start(config(id, peers.clone()), listener))
            .collect();
        for (from, sender) in (1..).zip(&members) {
            for (to, receiver) in (1..).zip(&members).filter(|(to, _)| *to != from) {
                sender.until_open(to, 1).await;
                sender.send(to, &heartbeat(10 * from + to)).expect("the lane is open");
                let arrived = receiver.until_received(from, Lane::Control, 1).await;
                assert_eq!(arrived, [heartbeat(10 * from + to)]);
            }
        }
        for member in &members {
            assert!(
                member
                    .transport
                    .stats()
                    .iter()
                    .all(|peer| peer.up && peer.lanes_open == Lane::ALL.len())
            );
        }
    });
}

#[test]
fn addresses_are_resolved_and_tried_in_order() {
    run(async {
        let (one, one_address) = listener();
        let (two, two_address) = listener();
        let (unused, nowhere) = listener();
        drop(unused);
        let name = format!("localhost:{}", two_address.port());
        let two_of_one = Peer { id: NodeId(2), addresses: vec![nowhere.to_string(), name] };
        let one = Member::start(config(1, vec![two_of_one]), one);
        let two = Member::start(config(2, vec![peer(1, one_address)]), two);
        one.until_open(2, 1).await;
        one.send(2, &heartbeat(1)).expect("the lane is open");
        assert_eq!(two.until_received(1, Lane::Control, 1).await, [heartbeat(1)]);
    });
}

#[test]
fn a_dialer_that_gave_up_does_not_displace_its_other_connection() {
    run(async {
        let (one, one_address) = listener();
        let (_unused, nowhere) = listener();
        let one = Member::start(config(1, vec![peer(2, nowhere)]), one);
        let (mut stream, mut session) = dial(one_address, Lane::Control).await;
        // Nothing is awaited in between, so the hello and the end behind it arrive together.
        let hello = identity(2).hello(NodeId(1), None, Lane::Control).encode();
        let mut gone = std::net::TcpStream::connect(one_address).expect("the member listens");
        std::io::Write::write_all(&mut gone, &hello).expect("the connection is open");
        gone.shutdown(std::net::Shutdown::Write).expect("the connection is open");
        gone.set_nonblocking(true).expect("the socket is open");
        let mut gone = TcpStream::from_std(gone).expect("the runtime takes sockets");
        assert_eq!(gone.read(&mut [0; 8]).await.unwrap_or(0), 0, "it is not welcomed");
        session.push(&heartbeat(5)).expect("the handshake is done");
        write(&mut stream, &mut session).await;
        assert_eq!(one.until_received(2, Lane::Control, 1).await, [heartbeat(5)]);
        assert_eq!(one.transport.stats()[0].incoming_open, 1);
    });
}

#[test]
fn a_killed_peer_is_told_down_and_up_when_it_returns() {
    run(async {
        let [(one, one_address), (two, two_address)] = acquainted();
        one.until_open(2, 1).await;
        two.transport.stop();
        drop(two);
        one.until_down(2, 1).await;
        let lost = TransportEvent::LaneLost { peer: NodeId(2), lane: Lane::Entries };
        one.until_told(lost, 1).await;
        assert_eq!(one.send(2, &heartbeat(1)), Err(SendError::NotConnected));

        let again = std::net::TcpListener::bind(two_address).expect("the address is free again");
        let two = Member::start(config(2, vec![peer(1, one_address)]), again);
        one.until_open(2, 2).await;
        one.until_told(TransportEvent::Up { peer: NodeId(2), incarnation: 1002, level: 7 }, 2)
            .await;
        one.send(2, &heartbeat(2)).expect("the lane is open");
        assert_eq!(two.until_received(1, Lane::Control, 1).await, [heartbeat(2)]);
        assert_eq!(downs(&one.events(), 2), 1);
    });
}

/// The pauses here are longer than any test: only the peer's own handshake can end one.
#[test]
fn a_peer_that_returns_is_dialled_at_once() {
    run(async {
        let (one, one_address) = listener();
        let (two, two_address) = listener();
        let mut patient = config(1, vec![peer(2, two_address)]);
        patient.limits.backoff_min = Duration::from_secs(3600);
        patient.limits.backoff_max = Duration::from_secs(3600);
        let one = Member::start(patient, one);
        drop(two);
        while one.transport.stats()[0].dial_failures < 2 {
            tokio::task::yield_now().await;
        }
        let again = std::net::TcpListener::bind(two_address).expect("the address is free again");
        let two = Member::start(config(2, vec![peer(1, one_address)]), again);
        one.until_open(2, 1).await;
        two.until_open(1, 1).await;
    });
}

#[test]
fn a_cut_connection_comes_back_without_the_peer_being_told_down() {
    run(async {
        let (one, _) = listener();
        let (two, two_address) = listener();
        let proxy = Proxy::start(two_address).await;
        let mut config_of_one = config(1, vec![peer(2, proxy.address())]);
        // The machine may be busy: what is tested is that no silence is no reason.
        config_of_one.limits.silence = Duration::from_secs(30);
        let one = Member::start(config_of_one, one);
        let two = Member::start(config(2, vec![peer(1, two_address)]), two);
        one.until_open(2, 1).await;
        for round in 1..=5 {
            proxy.cut();
            one.until_open(2, 1 + round).await;
            let told = two.received(1, Lane::Control).len();
            one.send(2, &heartbeat(7)).expect("the lane is open");
            two.until_received(1, Lane::Control, told + 1).await;
        }
        assert_eq!(downs(&one.events(), 2), 0);
        one.until_told(TransportEvent::LaneLost { peer: NodeId(2), lane: Lane::Control }, 5).await;
        one.until_told(TransportEvent::LaneLost { peer: NodeId(2), lane: Lane::Entries }, 5).await;
    });
}

#[test]
fn a_peer_behind_a_proxy_that_swallows_everything_is_told_down() {
    run(async {
        let (one, _) = listener();
        let (two, two_address) = listener();
        let proxy = Proxy::start(two_address).await;
        let one = Member::start(config(1, vec![peer(2, proxy.address())]), one);
        let _two = Member::start(config(2, vec![peer(1, two_address)]), two);
        one.until_open(2, 1).await;
        proxy.swallow();
        proxy.cut();
        let silent = TransportEvent::Down { peer: NodeId(2), reason: DownReason::Silent };
        one.until_told(silent, 1).await;
        proxy.relay();
        proxy.cut();
        one.until_told(TransportEvent::Up { peer: NodeId(2), incarnation: 1002, level: 7 }, 2)
            .await;
    });
}

#[test]
fn a_peer_behind_a_proxy_that_closes_everything_is_told_down() {
    run(async {
        let (one, _) = listener();
        let (two, two_address) = listener();
        let proxy = Proxy::start(two_address).await;
        let one = Member::start(config(1, vec![peer(2, proxy.address())]), one);
        let _two = Member::start(config(2, vec![peer(1, two_address)]), two);
        one.until_open(2, 1).await;
        proxy.close();
        proxy.cut();
        let closed = TransportEvent::Down { peer: NodeId(2), reason: DownReason::Closed };
        one.until_told(closed, 1).await;
        proxy.relay();
        one.until_told(TransportEvent::Up { peer: NodeId(2), incarnation: 1002, level: 7 }, 2)
            .await;
    });
}

#[test]
fn a_restarted_process_is_told_down_and_up() {
    run(async {
        let (one, one_address) = listener();
        let (two, two_address) = listener();
        let proxy = Proxy::start(two_address).await;
        let mut config_of_one = config(1, vec![peer(2, proxy.address())]);
        config_of_one.limits.silence = Duration::from_secs(30);
        let one = Member::start(config_of_one, one);
        let two = Member::start(config(2, vec![peer(1, one_address)]), two);
        one.until_open(2, 1).await;
        // The new process is there before the connection to the old one breaks.
        let (other, other_address) = listener();
        let _other = Member::start(config(2, vec![peer(1, one_address)]), other);
        proxy.lead_to(other_address);
        proxy.cut();
        let restarted = TransportEvent::Down { peer: NodeId(2), reason: DownReason::Restarted };
        one.until_told(restarted, 1).await;
        one.until_told(TransportEvent::Up { peer: NodeId(2), incarnation: 1002, level: 7 }, 2)
            .await;
        drop(two);
    });
}

#[test]
fn a_foreign_cluster_is_refused_in_a_sentence_on_both_sides() {
    run(async {
        let (one, one_address) = listener();
        let (two, two_address) = listener();
        let one = Member::start(config(1, vec![peer(2, two_address)]), one);
        let mut foreign = config(2, vec![peer(1, one_address)]);
        foreign.cluster = 0xC2;
        let two = Member::start(foreign, two);
        for member in [&one, &two] {
            // Each of the two hears of both attempts: its own, and the other's.
            member.until_refused("member 1 of cluster c1 dialled member 2 of cluster c2").await;
            member.until_refused("member 2 of cluster c2 dialled member 1 of cluster c1").await;
        }
        assert_eq!(one.send(2, &heartbeat(1)), Err(SendError::NotConnected));
    });
}

#[test]
fn another_incarnation_is_refused_in_a_sentence_on_both_sides() {
    run(async {
        let (one, one_address) = listener();
        let (two, two_address) = listener();
        let one = Member::start(config(1, vec![peer(2, two_address)]), one);
        let two = Member::start(config(2, vec![peer(1, one_address)]), two);
        one.until_open(2, 1).await;
        two.until_open(1, 1).await;
        two.transport.stop();
        drop(two);
        one.until_down(2, 1).await;
        let again = std::net::TcpListener::bind(two_address).expect("the address is free again");
        let mut wiped = config(2, vec![peer(1, one_address)]);
        wiped.incarnation = 77;
        let two = Member::start(wiped, again);
        let words = "member 1 met member 2 with another data directory";
        one.until_refused(words).await;
        two.until_refused(words).await;
        assert_eq!(one.received(2, Lane::Control), []);

        one.transport.expect_incarnation(NodeId(2), Some(77));
        one.until_told(TransportEvent::Up { peer: NodeId(2), incarnation: 77, level: 7 }, 1).await;
    });
}

#[test]
fn a_member_that_dials_itself_or_a_wrong_member_is_told_so() {
    run(async {
        let (one, one_address) = listener();
        let (two, two_address) = listener();
        // Member 1 finds itself at the address of member 3, and member 2 at that of member 4.
        let peers = vec![peer(3, one_address), peer(4, two_address)];
        let one = Member::start(config(1, peers), one);
        let two = Member::start(config(2, vec![peer(1, one_address)]), two);
        one.until_refused("dialled by a member with its own id 1").await;
        let wrong = one.until_refused("looked for member 4 and met member 2").await;
        assert!(wrong.contains(&two_address.to_string()), "{wrong}");
        two.until_refused("looked for member 4 and met member 2").await;
        // Member 1 does not have member 2 among its peers, and cannot answer it.
        two.until_refused("does not know member 2").await;
    });
}

#[test]
fn a_full_queue_says_so_when_the_peer_does_not_read() {
    run(async {
        let (one, _) = listener();
        let deaf = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = deaf.local_addr().expect("a bound socket has an address");
        let one = Member::start(config(1, vec![peer(2, address)]), one);
        let mut held = std::collections::BTreeMap::new();
        for _ in Lane::ALL {
            let (mut stream, _) = deaf.accept().await.expect("the member dials");
            held.insert(welcome(&mut stream).await, stream);
        }
        one.until_open(2, 1).await;
        let entries = append(0, &[vec![1; 1 << 20]]);
        let mut taken = 0;
        while one.send(2, &entries) != Err(SendError::Full) {
            taken += 1;
            assert!(taken < 10_000, "the queue has no bound");
        }
        let stats = &one.transport.stats()[0];
        assert!(stats.queued_bytes <= config(1, vec![]).limits.entries_bytes_max);
        assert_eq!(stats.send_failures, 1);
        // The other lane is not held up.
        one.send(2, &heartbeat(1)).expect("the control lane has a queue of its own");

        // Once the peer reads, everything that was taken arrives.
        let stream = held.get_mut(&Lane::Entries).expect("both lanes were opened");
        let mut missing = taken * jangada_net::wire::measure(&entries).expect("sound").total();
        let mut buffer = vec![0; 1 << 20];
        while 0 < missing {
            let count = stream.read(&mut buffer).await.expect("the connection is open");
            assert_ne!(count, 0, "the connection is open");
            missing = missing.checked_sub(count).expect("nothing else was sent");
        }
        assert_eq!(one.transport.stats()[0].queued_bytes, 0);
    });
}

#[test]
fn bytes_that_are_no_message_end_the_connection_with_a_sentence_on_both_sides() {
    run(async {
        let (one, one_address) = listener();
        let (_unused, nowhere) = listener();
        let one = Member::start(config(1, vec![peer(2, nowhere)]), one);
        let (mut stream, mut session) = dial(one_address, Lane::Control).await;
        stream.write_all(&[0xFF; 64]).await.expect("the connection is open");
        let refusal = loop {
            let mut bytes = [0; 512];
            let count = stream.read(&mut bytes).await.expect("the farewell comes before the end");
            assert_ne!(count, 0, "the farewell comes before the end");
            if let Err(refusal) = session.receive(&bytes[..count]) {
                break refusal;
            }
        };
        assert!(refusal.sentence.contains("length 4294967295 is impossible"), "{refusal}");
        one.until_refused("length 4294967295 is impossible").await;
        assert_eq!(one.transport.stats()[0].receive_failures, 1);
    });
}

#[test]
fn a_second_connection_of_a_lane_takes_the_place_of_the_first() {
    run(async {
        let (one, one_address) = listener();
        let (_unused, nowhere) = listener();
        let one = Member::start(config(1, vec![peer(2, nowhere)]), one);
        let (mut first, _) = dial(one_address, Lane::Control).await;
        let (mut second, mut session) = dial(one_address, Lane::Control).await;
        assert_eq!(first.read(&mut [0; 8]).await.unwrap_or(0), 0, "the first is closed");
        session.push(&heartbeat(5)).expect("the handshake is done");
        write(&mut second, &mut session).await;
        assert_eq!(one.until_received(2, Lane::Control, 1).await, [heartbeat(5)]);
        assert_eq!(one.transport.stats()[0].incoming_open, 1);
    });
}

#[test]
fn connections_without_a_handshake_are_bounded_in_number_and_time() {
    run(async {
        let (one, one_address) = listener();
        let (_unused, nowhere) = listener();
        let mut bounded = config(1, vec![peer(2, nowhere)]);
        bounded.limits.handshakes_max = 2;
        bounded.limits.handshake_timeout = Duration::from_millis(300);
        let one = Member::start(bounded, one);
        let mut silent = Vec::new();
        for _ in 0..5 {
            silent.push(TcpStream::connect(one_address).await.expect("the member listens"));
        }
        // Strangers that say nothing do not keep a member out.
        let (mut stream, mut session) = dial(one_address, Lane::Control).await;
        session.push(&heartbeat(5)).expect("the handshake is done");
        write(&mut stream, &mut session).await;
        one.until_received(2, Lane::Control, 1).await;
        for mut stream in silent {
            assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0, "it is closed");
        }
    });
}

#[test]
fn another_protocol_is_refused_with_a_sentence() {
    run(async {
        let (one, one_address) = listener();
        let one = Member::start(config(1, vec![]), one);
        let mut stream = TcpStream::connect(one_address).await.expect("the member listens");
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("the connection is open");
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0, "it is closed");
        one.until_refused("does not speak the protocol between members").await;
    });
}

#[test]
fn a_stopped_transport_tells_nothing_and_releases_its_port() {
    run(async {
        let (one, one_address) = listener();
        let (two, two_address) = listener();
        let one = Member::start(config(1, vec![peer(2, two_address)]), one);
        let two = Member::start(config(2, vec![peer(1, one_address)]), two);
        one.until_open(2, 1).await;
        two.until_open(1, 1).await;
        let told = two.events();
        two.transport.stop();
        assert_eq!(two.send(1, &heartbeat(1)), Err(SendError::NotConnected));
        one.until_down(2, 1).await;
        assert_eq!(two.events(), told);
        std::net::TcpListener::bind(two_address).expect("the address is free again");
    });
}

fn identity(member: u64) -> Identity {
    Identity {
        cluster: CLUSTER,
        member: NodeId(member),
        incarnation: 1000 + member,
        process: 1,
        oldest: OLDEST_VERSION,
        newest: NEWEST_VERSION,
        level: 7,
    }
}

/// Welcomes a dialer by hand, as member 2; gives the connection's lane.
async fn welcome(stream: &mut TcpStream) -> Lane {
    let mut session = Incoming::accept(identity(2), GROUP);
    loop {
        stream.read_buf(session.buffer()).await.expect("the hello comes");
        match session.judge(|_| Known::Member(None)) {
            Ok(None) => {}
            Ok(Some(Judged::Welcome { met, reply, .. })) => {
                stream.write_all(&reply).await.expect("the connection is open");
                return met.lane;
            }
            other => panic!("the member is welcome: {other:?}"),
        }
    }
}

/// Dials member 1 by hand, as member 2.
async fn dial(address: std::net::SocketAddr, lane: Lane) -> (TcpStream, Outgoing) {
    let mut stream = TcpStream::connect(address).await.expect("the member listens");
    let mut session = Outgoing::dial(identity(2), NodeId(1), None, lane, GROUP, 1 << 20, &[]);
    write(&mut stream, &mut session).await;
    let mut bytes = BytesMut::new();
    loop {
        let count = stream.read_buf(&mut bytes).await.expect("the reply comes");
        assert_ne!(count, 0, "the reply comes");
        if session.receive(&bytes.split()).expect("the dialer is welcome").is_some() {
            return (stream, session);
        }
    }
}

/// Writes everything that waits in a session.
async fn write(stream: &mut TcpStream, session: &mut Outgoing) {
    while !session.queue().is_empty() {
        let mut slices = [std::io::IoSlice::new(&[]); 8];
        let filled = session.queue().fill(&mut slices);
        let count = stream.write_vectored(&slices[..filled]).await.expect("the connection is open");
        session.queue_mut().advance(count);
    }
}
