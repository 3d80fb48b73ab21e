//! What a member's application asks of the leader's, and proposals for one term: stepped by hand, and
//! among members in one process.

#[allow(dead_code, reason = "each test binary uses a part of it")]
mod hand;

use bytes::Bytes;
use jangada::net::wire::CONSULT_BYTES_MAX;
use jangada::net::{ConsultRefusal, PeerMessage};
use jangada::raft::Term;
use jangada::{ConsultError, Consulter, Event, LocalCluster, Options, ProposeError, Ticket};

use hand::{Hand, Journal, PROCESS, THREE, TWO, Told, draft, heartbeat};

fn consult(ticket: u64) -> Event {
    Event::Consult { ticket: Ticket(ticket), bytes: Bytes::from_static(b"what time is it?") }
}

fn counsel(process: u64, number: u64, outcome: Result<Bytes, ConsultRefusal>) -> Event {
    Event::Received { from: TWO, message: PeerMessage::Counsel { process, number, outcome } }
}

fn answer() -> Bytes {
    Bytes::from_static(b"late")
}

fn asked(hand: &Hand) -> usize {
    let is_one = |(_, message): &&(_, PeerMessage)| matches!(message, PeerMessage::Consult { .. });
    hand.sent.iter().filter(is_one).count()
}

#[test]
fn a_question_waits_for_a_leader_is_put_to_it_once_and_answered_once() {
    let mut hand = Hand::new();
    hand.step([consult(1)]);
    assert_eq!((asked(&hand), &hand.counselled[..]), (0, &[][..]));
    hand.step([heartbeat(TWO, 1, 0)]);
    assert_eq!(asked(&hand), 1);
    hand.step([counsel(PROCESS + 1, 1, Ok(answer()))]);
    assert!(hand.counselled.is_empty(), "that was for an earlier life");
    hand.step([counsel(PROCESS, 1, Ok(answer())), counsel(PROCESS, 1, Ok(Bytes::new()))]);
    assert_eq!(hand.counselled, [(1, Ok(answer()))]);
}

#[test]
fn a_question_is_given_up_with_its_leader_and_put_to_nobody_else() {
    let mut hand = Hand::follower();
    hand.step([consult(1)]);
    hand.step([heartbeat(THREE, 2, 0)]);
    assert_eq!(hand.counselled, [(1, Err(ConsultError::InDoubt))]);
    hand.step([counsel(PROCESS, 1, Ok(answer()))]);
    assert_eq!((asked(&hand), hand.counselled.len()), (1, 1));
    hand.step([consult(2), Event::LaneLost(THREE)]);
    hand.step([Event::LaneLost(THREE)]);
    assert_eq!(hand.counselled[1..], [(2, Err(ConsultError::InDoubt))]);
}

#[test]
fn a_question_without_a_leader_or_an_answer_ends_in_time() {
    let mut hand = Hand::new();
    hand.step([consult(1)]);
    let wait_us = Options::default().leader_wait_us;
    while hand.now_us < wait_us {
        hand.sleep();
    }
    assert_eq!(hand.counselled, [(1, Err(ConsultError::NoLeader))]);
    let mut hand = Hand::follower();
    hand.step([consult(1)]);
    while hand.now_us < wait_us {
        hand.sleep_until(hand.now_us + 500_000, TWO, 1);
    }
    assert_eq!(hand.counselled, [(1, Err(ConsultError::InDoubt))]);
}

#[test]
fn the_leaders_application_is_asked_whoever_asks_and_answers_them() {
    let mut hand = Hand::leader();
    let message = PeerMessage::Consult { process: 5, number: 6, bytes: answer() };
    hand.step([consult(1), Event::Received { from: TWO, message: message.clone() }]);
    let from: Vec<_> = hand.consulted.iter().map(|asked| (asked.from, asked.term)).collect();
    let peer = Consulter::Peer { peer: TWO, process: 5, number: 6 };
    assert_eq!(from.len(), 2);
    assert!(from.contains(&(Consulter::Own(Ticket(1)), Term(1))));
    assert!(from.contains(&(peer, Term(1))));
    for to in [peer, Consulter::Own(Ticket(1))] {
        hand.step([Event::Counsel { to, outcome: Ok(answer()) }]);
    }
    assert_eq!(hand.counselled, [(1, Ok(answer()))]);
    let told = PeerMessage::Counsel { process: 5, number: 6, outcome: Ok(answer()) };
    assert!(hand.sent.contains(&(TWO, told)));
    // It leads no longer.
    hand.step([heartbeat(THREE, 2, 0)]);
    hand.step([Event::Received { from: TWO, message }]);
    let refused = Err(ConsultRefusal::NotLeader);
    let told = PeerMessage::Counsel { process: 5, number: 6, outcome: refused };
    assert!(hand.sent.contains(&(TWO, told)));
    assert_eq!(hand.consulted.len(), 2);
}

#[test]
fn what_is_too_long_or_too_much_is_not_asked() {
    let mut hand = Hand::new();
    let bytes = Bytes::from(vec![0; CONSULT_BYTES_MAX + 1]);
    hand.step([Event::Consult { ticket: Ticket(1), bytes }]);
    assert_eq!(hand.counselled, [(1, Err(ConsultError::TooLarge))]);
    hand.step((2..2000).map(consult));
    assert_eq!(hand.counselled.last(), Some(&(1999, Err(ConsultError::Busy))));
    assert!(hand.counselled.len() < 1000);
}

#[test]
fn a_proposal_for_a_term_is_taken_in_that_term_alone_and_never_forwarded() {
    let in_term = |sequence: u64, term: u64| Event::ProposeInTerm {
        draft: draft(sequence, b"mine"),
        term: Term(term),
    };
    let mut hand = Hand::leader();
    let last = hand.member.status().last.0;
    hand.step([in_term(1, 0), in_term(2, 1), in_term(3, 2)]);
    let refused = |sequence| Told::Refuse(sequence, ProposeError::NoLeader);
    assert_eq!(hand.told, [refused(1), refused(3)]);
    assert_eq!(hand.member.status().last.0, last + 1);
    for mut hand in [Hand::follower(), Hand::new()] {
        hand.step([in_term(1, 1)]);
        assert_eq!(hand.told, [refused(1)]);
        let forwards = |(_, message): &(_, PeerMessage)| matches!(message, PeerMessage::Forward(_));
        assert!(!hand.sent.iter().any(forwards));
    }
}

#[test]
fn any_member_reaches_the_leaders_application() {
    let cluster = LocalCluster::start(3, Options::default(), |_| Journal::default());
    let cluster = cluster.expect("three members start");
    let handles = cluster.handles().to_vec();
    let unheard = handles[0].consult_leader(answer()).wait();
    assert!(matches!(unheard, Err(ConsultError::Busy)), "nobody answers: {unheard:?}");
    let serving = handles.clone().into_iter().map(|handle| {
        let mut asked = handle.consultations();
        std::thread::spawn(move || {
            let mut answered = 0;
            while let Some(asked) = block_on(asked.next()) {
                let answer = [b"re: ", &asked.bytes[..]].concat();
                handle.counsel(asked.from, Some(answer.into()));
                answered += 1;
            }
            answered
        })
    });
    let serving: Vec<_> = serving.collect();
    for handle in &handles {
        // Leadership may move while the cluster is young.
        let reply = loop {
            match handle.consult_leader(answer()).wait() {
                Ok(reply) => break reply,
                Err(error) => assert_ne!(error, ConsultError::Stopped),
            }
        };
        assert_eq!(reply, "re: late");
    }
    drop(cluster);
    let answered: u32 = serving.into_iter().map(|one| one.join().expect("it ends")).sum();
    assert!(3 <= answered);
    assert_eq!(handles[0].consult_leader(answer()).wait(), Err(ConsultError::Stopped));
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}
