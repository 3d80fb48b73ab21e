//! Members for the tests: a transport each, on loopback, in one thread.

use std::cell::RefCell;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use jangada_net::{
    Lane, Peer, PeerMessage, SendError, Transport, TransportConfig, TransportEvent, TransportLimits,
};
use jangada_raft::NodeId;
use tokio::sync::Notify;
use tokio::task::LocalSet;

use crate::common::GROUP;

pub(crate) const CLUSTER: u64 = 0xC1;

/// Far beyond what any of the tests needs: it ends one that hangs, and measures nothing.
const HANG: Duration = Duration::from_secs(60);

/// Runs a test on one thread.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime is to be had");
    let local = LocalSet::new();
    runtime.block_on(local.run_until(async {
        tokio::time::timeout(HANG, test).await.expect("the awaited condition never came");
    }));
}

/// A listener on a port that the system chooses.
pub(crate) fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    (listener, address)
}

pub(crate) fn peer(id: u64, address: SocketAddr) -> Peer {
    Peer { id: NodeId(id), addresses: vec![address.to_string()] }
}

pub(crate) fn config(member: u64, peers: Vec<Peer>) -> TransportConfig {
    TransportConfig {
        cluster: CLUSTER,
        group: GROUP,
        member: NodeId(member),
        incarnation: 1000 + member,
        addresses: Vec::new(),
        level: 7,
        peers,
        limits: TransportLimits::default(),
        security: None,
    }
}

/// A transport and all that it has told.
pub(crate) struct Member {
    pub transport: Transport,
    events: Rc<RefCell<Vec<TransportEvent>>>,
    news: Rc<Notify>,
}

impl Member {
    pub(crate) fn start(config: TransportConfig, listener: TcpListener) -> Member {
        let events = Rc::new(RefCell::new(Vec::new()));
        let news = Rc::new(Notify::new());
        let (sink_events, sink_news) = (Rc::clone(&events), Rc::clone(&news));
        let sink = Rc::new(move |event| {
            sink_events.borrow_mut().push(event);
            sink_news.notify_one();
        });
        let transport =
            Transport::start(config, vec![listener], sink).expect("the listener is usable");
        Member { transport, events, news }
    }

    /// Everything that was told so far.
    pub(crate) fn events(&self) -> Vec<TransportEvent> {
        self.events.borrow().clone()
    }

    /// Waits until what was told satisfies `condition`.
    pub(crate) async fn until(&self, condition: impl Fn(&[TransportEvent]) -> bool) {
        while !condition(&self.events.borrow()) {
            self.news.notified().await;
        }
    }

    /// Waits until `event` has been told `times` times.
    pub(crate) async fn until_told(&self, event: TransportEvent, times: usize) {
        self.until(|events| times <= events.iter().filter(|told| **told == event).count()).await;
    }

    /// Waits until both lanes to `peer` have been opened `times` times.
    pub(crate) async fn until_open(&self, peer: u64, times: usize) {
        let peer = NodeId(peer);
        for lane in Lane::ALL {
            self.until_told(TransportEvent::LaneUp { peer, lane }, times).await;
        }
    }

    /// Waits until `peer` has been told down `times` times.
    pub(crate) async fn until_down(&self, peer: u64, times: usize) {
        self.until(|events| times <= downs(events, peer)).await;
    }

    /// Waits for a refusal whose sentence holds `words`; gives the sentence.
    pub(crate) async fn until_refused(&self, words: &str) -> String {
        let find = |events: &[TransportEvent]| {
            events.iter().find_map(|event| match event {
                TransportEvent::Refused { sentence, .. } if sentence.contains(words) => {
                    Some(sentence.clone())
                }
                _ => None,
            })
        };
        self.until(|events| find(events).is_some()).await;
        find(&self.events.borrow()).expect("it was just found")
    }

    /// The messages that came from `peer` on `lane`, in order.
    pub(crate) fn received(&self, peer: u64, lane: Lane) -> Vec<PeerMessage> {
        let events = self.events.borrow();
        let messages = events.iter().filter_map(|event| match event {
            TransportEvent::Received { from, message } if from.0 == peer => Some(message),
            _ => None,
        });
        messages.filter(|message| message.lane() == lane).cloned().collect()
    }

    /// Waits until `count` messages have come from `peer` on `lane`; gives them.
    pub(crate) async fn until_received(
        &self,
        peer: u64,
        lane: Lane,
        count: usize,
    ) -> Vec<PeerMessage> {
        while self.received(peer, lane).len() < count {
            self.news.notified().await;
        }
        self.received(peer, lane)
    }

    pub(crate) fn send(&self, to: u64, message: &PeerMessage) -> Result<(), SendError> {
        let sent = self.transport.send(NodeId(to), message);
        self.transport.flush();
        sent
    }
}

/// How often `peer` was told down.
pub(crate) fn downs(events: &[TransportEvent], peer: u64) -> usize {
    let down = |event: &&TransportEvent| match event {
        TransportEvent::Down { peer: told, .. } => told.0 == peer,
        _ => false,
    };
    events.iter().filter(down).count()
}

/// Two members, each of which knows where the other listens, and those places.
pub(crate) fn acquainted() -> [(Member, SocketAddr); 2] {
    let (one, one_address) = listener();
    let (two, two_address) = listener();
    let one = Member::start(config(1, vec![peer(2, two_address)]), one);
    let two = Member::start(config(2, vec![peer(1, one_address)]), two);
    [(one, one_address), (two, two_address)]
}

/// Two members that know each other, both lanes open both ways.
pub(crate) async fn pair() -> (Member, Member) {
    let [(one, _), (two, _)] = acquainted();
    one.until_open(2, 1).await;
    two.until_open(1, 1).await;
    (one, two)
}
