//! What the tasks of one transport share: the peers, their open lanes, and what was counted.
//!
//! The state is borrowed for the length of one method and never while an event is delivered.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use jangada_raft::NodeId;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::link::Link;
use super::refusals::{By, Occasion, Refusals};
use super::{
    DownReason, Peer, PeerStats, SendError, Sink, TransportEvent, TransportLimits, dial, socket,
};
use crate::handshake::{Identity, Known, Met, Refusal};
use crate::session::{Outgoing, PushError};
use crate::{Lane, PeerMessage, Roster, Security, host_port};

/// The transport, as its tasks see it.
pub(super) struct Shared {
    pub(super) identity: Identity,
    pub(super) group: u64,
    pub(super) limits: TransportLimits,
    pub(super) security: Option<Arc<dyn Security>>,
    /// Where this member is found.
    own: Rc<[String]>,
    sink: RefCell<Option<Sink>>,
    state: RefCell<State>,
}

/// Members of a new cluster do not start at the same moment; whoever comes within this time is not
/// worth a warning.
const ABSENCE_TOLD_AFTER: Duration = Duration::from_secs(1);

/// The most guests: members that this one has not heard of yet. More have not joined at once in any
/// cluster, and each costs two connections.
const GUESTS_MAX: usize = 16;

struct State {
    peers: BTreeMap<NodeId, PeerState>,
    removed: BTreeSet<NodeId>,
    /// The incarnations that this member's own log knows, of peers to come too.
    expected: BTreeMap<NodeId, u64>,
    roster: Option<Rc<Roster>>,
    /// Lanes on which something was queued since the last flush.
    dirty: Vec<(NodeId, Lane)>,
    /// Incoming connections without a handshake, the oldest first.
    pending: VecDeque<Connection>,
    /// The listeners' tasks.
    listeners: Vec<AbortHandle>,
    refusals: Refusals,
    connections: u64,
}

struct PeerState {
    addresses: Rc<[String]>,
    /// Where it says it is found; tried when it is not found there.
    shown: Vec<String>,
    standing: PeerStanding,
    /// The incarnation met first.
    incarnation: Option<u64>,
    /// The life of the process met last on the control lane.
    process: Option<u64>,
    up: bool,
    /// Since when no attempt to connect has given a handshake.
    absent_since: Option<Instant>,
    /// When that was told last.
    absence_told: Option<Instant>,
    lanes: [Option<OpenLane>; Lane::ALL.len()],
    incoming: [Option<Connection>; Lane::ALL.len()],
    /// Ends a pause between two attempts to connect: the peer has given a sign of life.
    poke: Rc<Notify>,
    tasks: Vec<AbortHandle>,
    stats: PeerStats,
}

/// How a peer came to be known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum PeerStanding {
    /// This member was told of it.
    Named,
    /// It said so itself. It is let go once it has been silent for a while.
    Guest,
}

/// An outgoing connection after its handshake.
struct OpenLane {
    link: Rc<Link>,
    session: Outgoing,
    condition: Condition,
    /// Whether the lane is in [`State::dirty`].
    dirty: bool,
    /// Wakes the lane's task.
    wake: Rc<Notify>,
}

/// What an open lane wants of its task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Condition {
    /// The socket has taken everything it was given.
    Idle,
    /// The socket does not take more at the moment.
    Blocked,
    /// A write failed.
    Failed,
}

/// An incoming connection's number and task.
struct Connection {
    number: u64,
    task: AbortHandle,
}

impl Shared {
    pub(super) fn new(
        identity: Identity,
        group: u64,
        own: Rc<[String]>,
        limits: TransportLimits,
        security: Option<Arc<dyn Security>>,
        sink: Sink,
    ) -> Shared {
        let refusals = Refusals::new(limits.refusal_interval);
        let state = State {
            peers: BTreeMap::new(),
            removed: BTreeSet::new(),
            expected: BTreeMap::new(),
            roster: None,
            dirty: Vec::new(),
            pending: VecDeque::new(),
            listeners: Vec::new(),
            refusals,
            connections: 0,
        };
        let sink = RefCell::new(Some(sink));
        let state = RefCell::new(state);
        Shared { identity, group, limits, security, own, sink, state }
    }

    pub(super) fn add_listener(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        let task = tokio::task::spawn_local(task).abort_handle();
        self.state.borrow_mut().listeners.push(task);
    }

    /// Knows a peer from here on, and dials it.
    pub(super) fn add_peer(self: &Rc<Self>, peer: Peer) {
        if peer.id != self.identity.member {
            self.add(peer, PeerStanding::Named);
        }
    }

    /// These are the peers from here on.
    pub(super) fn set_peers(self: &Rc<Self>, peers: Vec<Peer>, removed: Vec<NodeId>) {
        let mut news = Vec::new();
        {
            let mut state = self.state.borrow_mut();
            let State { peers: known, .. } = &mut *state;
            let named: BTreeSet<NodeId> = peers.iter().map(|peer| peer.id).collect();
            let stays = |id: &NodeId, peer: &PeerState| {
                named.contains(id)
                    || (peer.standing == PeerStanding::Guest && !removed.contains(id))
            };
            let leaving: Vec<NodeId> =
                known.iter().filter(|(id, p)| !stays(id, p)).map(|(id, _)| *id).collect();
            for id in leaving {
                let mut peer = known.remove(&id).expect("it was just seen");
                peer.close();
            }
            for peer in peers.into_iter().filter(|peer| peer.id != self.identity.member) {
                let Some(known) = known.get_mut(&peer.id) else {
                    news.push(peer);
                    continue;
                };
                known.standing = PeerStanding::Named;
                if !peer.addresses.is_empty() && *known.addresses != *peer.addresses {
                    known.addresses = peer.addresses.into();
                    known.poke.notify_waiters();
                }
            }
            state.removed = removed.into_iter().collect();
            let State { expected, removed, .. } = &mut *state;
            expected.retain(|id, _| !removed.contains(id));
        }
        news.into_iter().for_each(|peer| self.add(peer, PeerStanding::Named));
    }

    pub(super) fn set_roster(&self, roster: Roster) {
        let roster = Roster { cluster: self.identity.cluster, ..roster };
        self.state.borrow_mut().roster = Some(Rc::new(roster));
    }

    pub(super) fn roster(&self) -> Option<Rc<Roster>> {
        self.state.borrow().roster.clone()
    }

    /// A welcome dialer says where it is found. One that was not known is a guest.
    pub(super) fn shown(self: &Rc<Self>, id: NodeId, addresses: Vec<String>) {
        if let Some(peer) = self.state.borrow_mut().peers.get_mut(&id) {
            peer.shown = addresses;
            return;
        }
        self.add(Peer { id, addresses }, PeerStanding::Guest);
    }

    /// Lets a guest go that is not heard of any more. True when it is gone.
    pub(super) fn release_guest(&self, id: NodeId) -> bool {
        let mut state = self.state.borrow_mut();
        let now = Instant::now();
        let silent = state.peers.get(&id).is_some_and(|peer| {
            let since = peer.absent_since.unwrap_or(now);
            peer.standing == PeerStanding::Guest
                && peer.incoming.iter().all(Option::is_none)
                && self.limits.refusal_interval <= now - since
        });
        if silent && let Some(mut peer) = state.peers.remove(&id) {
            peer.close();
        }
        silent
    }

    fn add(self: &Rc<Self>, peer: Peer, standing: PeerStanding) {
        let tasks = Lane::ALL
            .into_iter()
            .map(|lane| dial::keep_lane(Rc::clone(self), peer.id, lane))
            .map(|task| tokio::task::spawn_local(task).abort_handle())
            .collect();
        let known = PeerState {
            addresses: peer.addresses.into(),
            shown: Vec::new(),
            standing,
            incarnation: self.state.borrow().expected.get(&peer.id).copied(),
            process: None,
            up: false,
            absent_since: None,
            absence_told: None,
            lanes: [const { None }; Lane::ALL.len()],
            incoming: [const { None }; Lane::ALL.len()],
            poke: Rc::new(Notify::new()),
            tasks,
            stats: PeerStats { peer: peer.id, ..PeerStats::default() },
        };
        let replaced = self.state.borrow_mut().peers.insert(peer.id, known);
        if let Some(mut replaced) = replaced {
            replaced.close();
        }
    }

    pub(super) fn stop(&self) {
        let sink = self.sink.borrow_mut().take();
        {
            let mut state = self.state.borrow_mut();
            state.dirty.clear();
            state.listeners.drain(..).for_each(|task| task.abort());
            state.pending.drain(..).for_each(|connection| connection.task.abort());
            state.peers.values_mut().for_each(PeerState::close);
        }
        // Last, and with nothing borrowed: the sink may hold whatever it likes.
        drop(sink);
    }

    pub(super) fn emit(&self, event: TransportEvent) {
        let sink = self.sink.borrow().clone();
        if let Some(sink) = sink {
            sink(event);
        }
    }

    pub(super) fn send(&self, to: NodeId, message: &PeerMessage) -> Result<(), SendError> {
        let lane = message.lane();
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let peer = state.peers.get_mut(&to).ok_or(SendError::UnknownPeer)?;
        let pushed = match &mut peer.lanes[lane as usize] {
            None => Err(SendError::NotConnected),
            Some(open) => open.session.push(message).map_err(SendError::from).map(|()| {
                if !std::mem::replace(&mut open.dirty, true) {
                    state.dirty.push((to, lane));
                }
            }),
        };
        match pushed {
            Ok(()) => peer.stats.sent_messages += 1,
            Err(_) => peer.stats.send_failures += 1,
        }
        pushed
    }

    pub(super) fn flush(&self) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        for (id, lane) in state.dirty.drain(..) {
            if let Some(peer) = state.peers.get_mut(&id) {
                peer.write(lane);
            }
        }
    }

    /// Writes what waits on a lane whose socket takes bytes again.
    pub(super) fn resume(&self, id: NodeId, lane: Lane) {
        let mut state = self.state.borrow_mut();
        let Some(peer) = state.peers.get_mut(&id) else {
            return;
        };
        if let Some(open) = &mut peer.lanes[lane as usize]
            && open.condition == Condition::Blocked
        {
            open.condition = Condition::Idle;
        }
        peer.write(lane);
    }

    /// What an open lane wants of its task; a lane that is gone has failed.
    pub(super) fn condition(&self, id: NodeId, lane: Lane) -> Condition {
        let state = self.state.borrow();
        let open = state.peers.get(&id).and_then(|peer| peer.lanes[lane as usize].as_ref());
        open.map_or(Condition::Failed, |open| open.condition)
    }

    /// Takes bytes that the acceptor sent on an open lane.
    ///
    /// # Errors
    /// The acceptor ends the connection.
    pub(super) fn received_on(&self, id: NodeId, lane: Lane, bytes: &[u8]) -> Result<(), Refusal> {
        let mut state = self.state.borrow_mut();
        let peer = state.peers.get_mut(&id);
        match peer.and_then(|peer| peer.lanes[lane as usize].as_mut()) {
            Some(open) => open.session.receive(bytes).map(|_| ()),
            None => Ok(()),
        }
    }

    /// What is needed to dial a peer: its addresses, and the session that begins with the hello.
    pub(super) fn dialling(&self, id: NodeId, lane: Lane) -> Option<(Rc<[String]>, Outgoing)> {
        let state = self.state.borrow();
        let peer = state.peers.get(&id)?;
        let bytes_max = match lane {
            Lane::Control => self.limits.control_bytes_max,
            Lane::Entries => self.limits.entries_bytes_max,
            Lane::Snapshots => self.limits.snapshots_bytes_max,
        };
        let incarnation = peer.incarnation;
        let (identity, group) = (self.identity, self.group);
        let session = Outgoing::dial(identity, id, incarnation, lane, group, bytes_max, &self.own);
        let known = |address: &String| {
            peer.addresses.iter().any(|other| host_port(other) == host_port(address))
        };
        if peer.shown.iter().all(known) {
            return Some((Rc::clone(&peer.addresses), session));
        }
        let others = peer.shown.iter().filter(|address| !known(address));
        let addresses = peer.addresses.iter().chain(others).cloned().collect();
        Some((addresses, session))
    }

    pub(super) fn poke_of(&self, id: NodeId) -> Option<Rc<Notify>> {
        self.state.borrow().peers.get(&id).map(|peer| Rc::clone(&peer.poke))
    }

    pub(super) fn is_up(&self, id: NodeId) -> bool {
        self.state.borrow().peers.get(&id).is_some_and(|peer| peer.up)
    }

    /// An outgoing connection has its handshake. Gives what wakes the lane's task.
    ///
    /// # Errors
    /// Another incarnation of the peer was met in the meantime.
    pub(super) fn opened(
        &self,
        met: Met,
        link: Rc<Link>,
        session: Outgoing,
    ) -> Result<Rc<Notify>, Refusal> {
        let wake = Rc::new(Notify::new());
        let peer = met.member;
        let mut events = Vec::new();
        {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            let Some(known) = state.peers.get_mut(&peer) else {
                return Ok(wake);
            };
            if *known.incarnation.get_or_insert(met.incarnation) != met.incarnation {
                return Err(Refusal::incarnation(peer, self.identity.member));
            }
            if met.lane == Lane::Control {
                let process = known.process.replace(met.process);
                let restarted = process.is_some_and(|process| process != met.process);
                if known.up && restarted {
                    events.push(TransportEvent::Down { peer, reason: DownReason::Restarted });
                }
                if !known.up || restarted {
                    let (incarnation, level) = (met.incarnation, met.level);
                    events.push(TransportEvent::Up { peer, incarnation, level });
                }
                known.up = true;
                known.absent_since = None;
                known.absence_told = None;
            }
            known.lanes[met.lane as usize] = Some(OpenLane {
                link,
                session,
                condition: Condition::Idle,
                dirty: false,
                wake: Rc::clone(&wake),
            });
            known.poke.notify_waiters();
            state.refusals.forget(peer);
        }
        events.push(TransportEvent::LaneUp { peer, lane: met.lane });
        events.into_iter().for_each(|event| self.emit(event));
        Ok(wake)
    }

    /// An outgoing connection broke.
    pub(super) fn lost(&self, peer: NodeId, lane: Lane, farewell: Option<&Refusal>) {
        if let Some(known) = self.state.borrow_mut().peers.get_mut(&peer) {
            known.lanes[lane as usize] = None;
            known.stats.lanes_lost += 1;
        }
        self.emit(TransportEvent::LaneLost { peer, lane });
        if let Some(refusal) = farewell {
            self.refused(Some(peer), By::Them, refusal, || refusal.sentence.clone());
        }
    }

    /// The peer's control lane broke and was not reopened at once.
    pub(super) fn down(&self, peer: NodeId, reason: DownReason) {
        let was_up = {
            let mut state = self.state.borrow_mut();
            state.peers.get_mut(&peer).is_some_and(|known| std::mem::replace(&mut known.up, false))
        };
        if was_up {
            self.emit(TransportEvent::Down { peer, reason });
        }
    }

    /// None of the peer's addresses gave a handshake, for `reason`. Told when it has been so for a
    /// while, and then from time to time.
    pub(super) fn absent(&self, peer: NodeId, reason: DownReason) {
        let now = Instant::now();
        let addresses = {
            let mut state = self.state.borrow_mut();
            let Some(known) = state.peers.get_mut(&peer) else { return };
            let since = *known.absent_since.get_or_insert(now);
            let due = match known.absence_told {
                Some(last) => last + self.limits.refusal_interval,
                None => since + ABSENCE_TOLD_AFTER,
            };
            if now < due {
                return;
            }
            known.absence_told = Some(now);
            known.addresses.join(", ")
        };
        let sentence = format!(
            "member {peer} at {addresses} is awaited: {reason}; see that it runs and that this \
             address leads to it"
        );
        self.emit(TransportEvent::Refused { peer: Some(peer), sentence });
    }

    pub(super) fn dial_failed(&self, peer: NodeId) {
        if let Some(known) = self.state.borrow_mut().peers.get_mut(&peer) {
            known.stats.dial_failures += 1;
        }
    }

    /// Tells a refusal, unless the same was told lately.
    pub(super) fn refused(
        &self,
        peer: Option<NodeId>,
        by: By,
        refusal: &Refusal,
        sentence: impl FnOnce() -> String,
    ) {
        let told = {
            let mut state = self.state.borrow_mut();
            if let Some(known) = peer.and_then(|id| state.peers.get_mut(&id)) {
                known.stats.refusals += 1;
            }
            state.refusals.tell(Occasion { peer, by, code: refusal.code }, Instant::now())
        };
        if told {
            self.emit(TransportEvent::Refused { peer, sentence: sentence() });
        }
    }

    /// Starts the task of an incoming connection; `task` makes it, given the connection's number.
    pub(super) fn accepted<F: Future<Output = ()> + 'static>(&self, task: impl FnOnce(u64) -> F) {
        let mut state = self.state.borrow_mut();
        state.connections += 1;
        let number = state.connections;
        let task = tokio::task::spawn_local(task(number)).abort_handle();
        if self.limits.handshakes_max <= state.pending.len()
            && let Some(oldest) = state.pending.pop_front()
        {
            oldest.task.abort();
        }
        state.pending.push_back(Connection { number, task });
    }

    pub(super) fn known(&self, id: NodeId) -> Known {
        let state = self.state.borrow();
        if state.removed.contains(&id) {
            return Known::Removed;
        }
        if let Some(peer) = state.peers.get(&id) {
            return Known::Member(peer.incarnation);
        }
        let guests = state.peers.values().filter(|p| p.standing == PeerStanding::Guest).count();
        match guests < GUESTS_MAX {
            true => Known::Guest(state.expected.get(&id).copied()),
            false => Known::Stranger,
        }
    }

    /// An incoming connection has its handshake; it takes the place of the peer's former one. False
    /// when the peer is none any more, or was met in another incarnation in the meantime.
    pub(super) fn welcomed(&self, met: Met, number: u64) -> bool {
        let mut state = self.state.borrow_mut();
        let connection = state.take_pending(number);
        let (Some(connection), Some(peer)) = (connection, state.peers.get_mut(&met.member)) else {
            return false;
        };
        if *peer.incarnation.get_or_insert(met.incarnation) != met.incarnation {
            return false;
        }
        if let Some(former) = peer.incoming[met.lane as usize].replace(connection) {
            former.task.abort();
        }
        peer.poke.notify_waiters();
        true
    }

    /// An incoming connection ends without a handshake.
    pub(super) fn turned_away(&self, number: u64) {
        self.state.borrow_mut().take_pending(number);
    }

    /// Messages of a peer were delivered.
    pub(super) fn delivered(&self, from: NodeId, messages: u64, bytes: u64) {
        if let Some(peer) = self.state.borrow_mut().peers.get_mut(&from) {
            peer.stats.received_messages += messages;
            peer.stats.received_bytes += bytes;
        }
    }

    /// An incoming connection ends.
    pub(super) fn ended(&self, met: Met, number: u64, refusal: Option<&Refusal>) {
        if let Some(peer) = self.state.borrow_mut().peers.get_mut(&met.member) {
            let place = &mut peer.incoming[met.lane as usize];
            if place.as_ref().is_some_and(|connection| connection.number == number) {
                *place = None;
            }
            peer.stats.receive_failures += u64::from(refusal.is_some());
        }
        if let Some(refusal) = refusal {
            self.refused(Some(met.member), By::Us, refusal, || refusal.sentence.clone());
        }
    }

    pub(super) fn expect_incarnation(&self, id: NodeId, incarnation: Option<u64>) {
        let mut state = self.state.borrow_mut();
        match incarnation {
            Some(incarnation) => state.expected.insert(id, incarnation),
            None => state.expected.remove(&id),
        };
        if let Some(peer) = state.peers.get_mut(&id) {
            peer.incarnation = incarnation;
        }
    }

    pub(super) fn stats(&self) -> Vec<PeerStats> {
        self.state.borrow().peers.values().map(PeerState::stats).collect()
    }
}

impl State {
    fn take_pending(&mut self, number: u64) -> Option<Connection> {
        let at = self.pending.iter().position(|connection| connection.number == number)?;
        self.pending.remove(at)
    }
}

impl PeerState {
    /// Writes what waits on a lane, as far as the socket takes it, and wakes the lane's task when
    /// that is not all.
    fn write(&mut self, lane: Lane) {
        let Some(open) = &mut self.lanes[lane as usize] else {
            return;
        };
        open.dirty = false;
        if open.condition != Condition::Idle {
            return;
        }
        let before = open.session.queue().len();
        open.condition = match socket::write(&open.link, open.session.queue_mut()) {
            Ok(()) if open.session.queue().is_empty() && !open.link.is_pending() => Condition::Idle,
            Ok(()) => Condition::Blocked,
            Err(_) => Condition::Failed,
        };
        self.stats.sent_bytes += (before - open.session.queue().len()) as u64;
        if open.condition != Condition::Idle {
            open.wake.notify_one();
        }
    }

    /// Closes all connections and opens none again.
    fn close(&mut self) {
        self.tasks.drain(..).for_each(|task| task.abort());
        self.incoming.iter_mut().filter_map(Option::take).for_each(|former| former.task.abort());
        self.lanes = [const { None }; Lane::ALL.len()];
        self.up = false;
    }

    fn stats(&self) -> PeerStats {
        PeerStats {
            up: self.up,
            lanes_open: self.lanes.iter().flatten().count(),
            incoming_open: self.incoming.iter().flatten().count(),
            queued_bytes: self.lanes.iter().flatten().map(|open| open.session.queue().len()).sum(),
            ..self.stats.clone()
        }
    }
}

impl From<PushError> for SendError {
    fn from(error: PushError) -> SendError {
        match error {
            PushError::NotOpen => SendError::NotConnected,
            PushError::Full => SendError::Full,
            PushError::Message(error) => SendError::Message(error),
        }
    }
}
