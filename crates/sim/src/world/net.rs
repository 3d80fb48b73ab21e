//! A simulated network between members: lanes that keep order, break and come back.
//!
//! A lane is a connection from one member to another, as the real transport has it. Responsible for
//! when a message arrives and whether, and for what the two ends learn about their connections. Not
//! responsible for the events' queue: whatever is to happen later is pushed to the caller, which
//! hands it back when its time has come.
//!
//! 1. On a lane messages arrive in the order of their sending, unless the fault says otherwise.
//! 2. A message that is lost breaks its connection, and the sender learns that the lane lost
//!    something before anything sent later arrives.
//! 3. What a process sent before it died may arrive, but not once its next life has connected.
//! 4. Nothing arrives twice that must not: a stream does not repeat itself. The duplication fault is
//!    for messages whose receiver must bear it all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use jangada_net::Lane;
use jangada_raft::NodeId;

use crate::choices::Choices;
use crate::faults::{Fault, FaultCounts};
use crate::world::dice::Dice;

/// A message's usual way, in microseconds: a local network.
const DELAY_US: (u64, u64) = (50, 400);

/// A delayed message's way, in microseconds: up to a few election timeouts.
const DELAY_LONG_US: (u64, u64) = (5_000, 400_000);

/// How long after a break the next attempt to connect is made, in microseconds.
const RECONNECT_US: (u64, u64) = (100, 2_000);

/// How long a silent peer is waited for before the attempt counts as failed, in microseconds. The
/// transport's own limit for the first attempt is 50 ms.
const SILENCE_US: (u64, u64) = (50_000, 60_000);

/// How long between later attempts, in microseconds.
const RETRY_US: (u64, u64) = (20_000, 150_000);

/// How long unacknowledged data is sent again into silence before the connection is given up, in
/// microseconds.
const GIVE_UP_US: (u64, u64) = (100_000, 1_500_000);

/// A message under way.
#[derive(Clone, Debug)]
pub struct Packet<M> {
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// The lane it travels on.
    pub lane: Lane,
    /// The message.
    pub message: M,
    epoch: u64,
}

/// Something that happens later.
#[derive(Clone, Debug)]
pub enum NetworkEvent<M> {
    /// A message reaches the other end, if its connection still stands: [`SimNetwork::arrives`].
    Arrive(Packet<M>),
    /// An end tries to connect again: [`SimNetwork::reconnect`].
    Reconnect {
        /// Who connects.
        from: NodeId,
        /// To whom.
        to: NodeId,
        /// On which lane.
        lane: Lane,
        /// Which attempt; only the newest counts.
        epoch: u64,
    },
}

/// What an end learns about its connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// Something sent on the lane may be lost.
    LaneLost(Lane),
    /// The control lane broke and could not be connected again at once.
    PeerDown,
    /// The control lane is connected.
    PeerUp,
    /// A handshake on the lane has shown each end who the other is.
    Connected(Lane),
}

/// Whether a message may be delivered twice (rule 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repeat {
    /// The receiver must bear it.
    Allowed,
    /// It would be a new request.
    Forbidden,
}

/// How a process ends, as its peers see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The machine lives on and refuses: peers learn at once.
    Refused,
    /// The machine is gone: peers hear nothing.
    Silent,
}

#[derive(Clone, Debug, Default)]
struct Connection {
    /// Rises with each break; what is under way under an earlier one is lost.
    epoch: u64,
    connected: bool,
    /// Whether something was lost since the connection was last made.
    lost: bool,
    /// Whether a reconnection is under way.
    pending: bool,
    /// Failed attempts since the break.
    attempts: u32,
    /// What this end was told last: up or down.
    told_up: Option<bool>,
    /// When the newest message on it arrives.
    last_us: u64,
}

/// A way that is slow for a while.
#[derive(Clone, Copy, Debug)]
struct Slow {
    /// What a message takes longer, in microseconds: this at most, half of it at least.
    extra_us: u64,
    until_us: u64,
    /// Whether the fault has had its effect, and was counted.
    counted: bool,
}

/// The time, the decisions and the faults at a step of the network.
pub struct Weather<'a> {
    /// The simulated time in microseconds.
    pub now_us: u64,
    /// Where decisions come from.
    pub choices: &'a mut Choices,
    /// What goes wrong.
    pub dice: &'a mut Dice,
    /// What has gone wrong.
    pub counts: &'a mut FaultCounts,
}

impl Weather<'_> {
    fn strikes(&mut self, fault: Fault) -> bool {
        self.dice.strikes(fault, self.choices)
    }

    fn strikes_times(&mut self, fault: Fault, times: u32) -> bool {
        self.dice.strikes_times(fault, times, self.choices)
    }
}

/// The network.
#[derive(Clone, Debug)]
pub struct SimNetwork<M> {
    connections: BTreeMap<(NodeId, NodeId, Lane), Connection>,
    alive: BTreeSet<NodeId>,
    cut: BTreeSet<(NodeId, NodeId)>,
    slow: BTreeMap<(NodeId, NodeId), Slow>,
    /// The highest epoch of a connection that was made after the start.
    epoch_last: u64,
    /// What is to happen later, with its time in microseconds; the caller takes it.
    pub later: Vec<(u64, NetworkEvent<M>)>,
}

/// Connections that are made after the start count their epochs from here, well above those of the
/// first ones, which count from 0 as they break.
const LATER_EPOCHS: u64 = 1 << 32;

const LANES: [Lane; 3] = Lane::ALL;

fn between(weather: &mut Weather<'_>, range: (u64, u64)) -> u64 {
    weather.now_us + weather.choices.between(range.0, range.1)
}

impl<M: Clone + Debug> SimNetwork<M> {
    /// A network between these members; none of them lives yet.
    #[must_use]
    pub fn new(members: &[NodeId]) -> SimNetwork<M> {
        let mut connections = BTreeMap::new();
        for from in members {
            for to in members.iter().filter(|to| *to != from) {
                for lane in LANES {
                    connections.insert((*from, *to, lane), Connection::default());
                }
            }
        }
        SimNetwork {
            connections,
            alive: BTreeSet::new(),
            cut: BTreeSet::new(),
            slow: BTreeMap::new(),
            epoch_last: LATER_EPOCHS,
            later: Vec::new(),
        }
    }

    /// From here on a member connects to these peers and to nobody else, as its transport is told to
    /// when members change. What was sent to a peer that is none any more is lost.
    pub fn follows(&mut self, weather: &mut Weather<'_>, member: NodeId, peers: &BTreeSet<NodeId>) {
        let dialled = |key: &&(NodeId, NodeId, Lane)| key.0 == member;
        let known: Vec<_> = self.connections.keys().filter(dialled).copied().collect();
        for key in known.iter().filter(|key| !peers.contains(&key.1)) {
            self.connections.remove(key);
        }
        for peer in peers.iter().filter(|peer| **peer != member) {
            for lane in LANES {
                let key = (member, *peer, lane);
                if self.connections.contains_key(&key) {
                    continue;
                }
                // A number that no packet of an earlier connection between the two can name.
                self.epoch_last += 1 << 20;
                let epoch = self.epoch_last;
                self.connections.insert(key, Connection { epoch, ..Connection::default() });
                if self.alive.contains(&member) {
                    let at = between(weather, RECONNECT_US);
                    self.disconnect(key, at);
                    self.connections.get_mut(&key).expect("listed").lost = false;
                }
            }
        }
    }

    /// A handshake was refused: the end that connected tries again after a while.
    pub fn turned_away(
        &mut self,
        weather: &mut Weather<'_>,
        (from, to, lane): (NodeId, NodeId, Lane),
        epoch: u64,
    ) {
        let at = between(weather, RETRY_US);
        if self.connections.contains_key(&(from, to, lane)) {
            self.later.push((at, NetworkEvent::Reconnect { from, to, lane, epoch }));
        }
    }

    /// Whether a handshake between these two would come about now.
    #[must_use]
    pub fn reaches(&self, from: NodeId, to: NodeId) -> bool {
        let cut = self.cut.contains(&(from, to)) || self.cut.contains(&(to, from));
        self.alive.contains(&from) && self.alive.contains(&to) && !cut
    }

    /// Whether a member connects to a peer.
    #[must_use]
    pub fn dials(&self, member: NodeId, peer: NodeId) -> bool {
        self.connections.contains_key(&(member, peer, Lane::Control))
    }

    /// Sends a message. To a peer that the member does not connect to it goes nowhere.
    pub fn send(
        &mut self,
        weather: &mut Weather<'_>,
        packet: (NodeId, NodeId, Lane),
        message: M,
        repeat: Repeat,
    ) {
        let (from, to, lane) = packet;
        let reachable = self.alive.contains(&to) && !self.cut.contains(&(from, to));
        let Some(connection) = self.connections.get_mut(&packet) else { return };
        if !connection.connected {
            connection.lost = true;
            return;
        }
        if !reachable {
            let at = between(weather, GIVE_UP_US);
            self.disconnect(packet, at);
            return;
        }
        for fault in [Fault::MessageLost, Fault::ConnectionReset] {
            if weather.strikes(fault) {
                weather.counts.count(fault);
                let at = between(weather, RECONNECT_US);
                self.disconnect(packet, at);
                return;
            }
        }
        let mut at = between(weather, DELAY_US);
        if weather.strikes(Fault::MessageDelayed) {
            weather.counts.count(Fault::MessageDelayed);
            at = between(weather, DELAY_LONG_US);
        }
        at += self.slowness(weather, (from, to));
        let connection = self.connections.get_mut(&packet).expect("both are members");
        let mut overtakes = false;
        if repeat == Repeat::Allowed
            && at < connection.last_us
            && weather.strikes_times(Fault::MessageReordered, 4)
        {
            weather.counts.count(Fault::MessageReordered);
            overtakes = true;
        }
        if !overtakes {
            at = at.max(connection.last_us + 1);
            connection.last_us = at;
        }
        let packet = Packet { from, to, lane, message, epoch: connection.epoch };
        if repeat == Repeat::Allowed && weather.strikes(Fault::MessageDuplicated) {
            weather.counts.count(Fault::MessageDuplicated);
            let again = at + weather.choices.between(0, DELAY_LONG_US.1);
            self.later.push((again, NetworkEvent::Arrive(packet.clone())));
        }
        self.later.push((at, NetworkEvent::Arrive(packet)));
    }

    /// Whether a message whose time has come reaches its receiver. One that does not breaks its
    /// connection.
    pub fn arrives(&mut self, weather: &mut Weather<'_>, packet: &Packet<M>) -> bool {
        let key = (packet.from, packet.to, packet.lane);
        let Some(connection) = self.connections.get(&key) else { return false };
        if connection.epoch != packet.epoch {
            return false;
        }
        if self.alive.contains(&packet.to) && !self.cut.contains(&(packet.from, packet.to)) {
            return true;
        }
        if connection.connected && self.alive.contains(&packet.from) {
            let at = between(weather, GIVE_UP_US);
            self.disconnect(key, at);
        }
        false
    }

    /// An end tries to connect. Returns what it learns.
    pub fn reconnect(
        &mut self,
        weather: &mut Weather<'_>,
        (from, to, lane): (NodeId, NodeId, Lane),
        epoch: u64,
    ) -> Vec<Notice> {
        let key = (from, to, lane);
        // A handshake needs both ways.
        let cut = self.cut.contains(&(from, to)) || self.cut.contains(&(to, from));
        let reachable = self.alive.contains(&to) && !cut;
        let Some(connection) = self.connections.get_mut(&key) else { return Vec::new() };
        if connection.epoch != epoch || !connection.pending || !self.alive.contains(&from) {
            return Vec::new();
        }
        let mut notices = Vec::new();
        if connection.lost {
            connection.lost = false;
            notices.push(Notice::LaneLost(lane));
        }
        connection.attempts += 1;
        if reachable {
            connection.pending = false;
            connection.connected = true;
            connection.attempts = 0;
            connection.last_us = weather.now_us;
            notices.push(Notice::Connected(lane));
            if lane == Lane::Control && connection.told_up != Some(true) {
                connection.told_up = Some(true);
                notices.push(Notice::PeerUp);
            }
            return notices;
        }
        // A refusal counts at once, silence only after a while: the second attempt stands for it.
        let refused = !self.cut.contains(&(from, to)) && !self.cut.contains(&(to, from));
        let certain = refused || 1 < connection.attempts;
        if lane == Lane::Control && certain && connection.told_up == Some(true) {
            connection.told_up = Some(false);
            notices.push(Notice::PeerDown);
        }
        let wait = if certain { RETRY_US } else { SILENCE_US };
        let at = between(weather, wait);
        self.later.push((at, NetworkEvent::Reconnect { from, to, lane, epoch }));
        notices
    }

    /// A member's process begins a life: it knows nobody and connects to all.
    pub fn started(&mut self, weather: &mut Weather<'_>, member: NodeId) {
        self.alive.insert(member);
        for key in self.keys_of(member) {
            let connection = self.connections.get_mut(&key).expect("listed");
            if key.0 == member {
                let epoch = connection.epoch;
                *connection = Connection { epoch, ..Connection::default() };
                let at = between(weather, RECONNECT_US);
                self.disconnect(key, at);
                self.connections.get_mut(&key).expect("listed").lost = false;
            } else if connection.connected {
                // The peer has not noticed the death yet; the new life does not know its stream.
                let at = between(weather, RECONNECT_US);
                self.disconnect(key, at);
            }
        }
    }

    /// A member's process ends.
    pub fn ended(&mut self, weather: &mut Weather<'_>, member: NodeId, ending: Ending) {
        self.alive.remove(&member);
        for key in self.keys_of(member) {
            let connection = self.connections.get_mut(&key).expect("listed");
            if key.0 == member {
                connection.connected = false;
                connection.pending = false;
                continue;
            }
            let heard = !self.cut.contains(&(key.1, key.0)) && self.alive.contains(&key.0);
            if ending == Ending::Refused && heard && self.connections[&key].connected {
                let at = between(weather, RECONNECT_US);
                self.disconnect(key, at);
            }
        }
    }

    /// Nothing passes from one member to another from here on.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    /// Messages from one member to another take longer for a while: up to `extra_us` each.
    pub fn slow(&mut self, from: NodeId, to: NodeId, extra_us: u64, until_us: u64) {
        self.slow.insert((from, to), Slow { extra_us, until_us, counted: false });
    }

    /// Everything passes everywhere again.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Nothing is slow any more.
    pub fn hasten(&mut self) {
        self.slow.clear();
    }

    /// How much longer a message takes on this way.
    fn slowness(&mut self, weather: &mut Weather<'_>, way: (NodeId, NodeId)) -> u64 {
        let Some(slow) = self.slow.get_mut(&way) else { return 0 };
        if slow.until_us <= weather.now_us {
            self.slow.remove(&way);
            return 0;
        }
        if !slow.counted {
            slow.counted = true;
            weather.counts.count(Fault::LinkSlow);
        }
        weather.choices.between(slow.extra_us / 2, slow.extra_us)
    }

    /// Whether any way is cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        !self.cut.is_empty()
    }

    fn keys_of(&self, member: NodeId) -> Vec<(NodeId, NodeId, Lane)> {
        let of_member = |key: &&(NodeId, NodeId, Lane)| key.0 == member || key.1 == member;
        self.connections.keys().filter(of_member).copied().collect()
    }

    /// The connection breaks with all that is under way on it; the next attempt is made at `at_us`.
    fn disconnect(&mut self, key: (NodeId, NodeId, Lane), at_us: u64) {
        let connection = self.connections.get_mut(&key).expect("both are members");
        connection.epoch += 1;
        connection.connected = false;
        connection.lost = true;
        connection.pending = true;
        connection.attempts = 0;
        let (from, to, lane) = key;
        let event = NetworkEvent::Reconnect { from, to, lane, epoch: connection.epoch };
        self.later.push((at_us, event));
    }
}

#[cfg(test)]
#[path = "net_tests.rs"]
mod tests;
