//! From one state of the cluster to all that may follow it.
//!
//! Responsible for listing what can happen, for the bounds, and for the fingerprint of each state that
//! follows. A state is a handful of numbers (see `tables.rs`): its members, what is under way, the
//! history, and what has been spent.
//!
//! The fingerprint of a state is a sum over its parts, one sum for each renaming of the members, and
//! the least of these sums names the state: states that differ by a renaming are one (symmetry). A
//! step changes a few parts, so its sums are the old ones with those parts taken out and put in.

use jangada_raft::NodeId;

use super::bounds::{Cost, Spent};
use super::fingerprint::mixed;
use super::member::{Act, Ending};
use super::stage::{Deed, Original};
use super::tables::{Memory, Step};
use super::violation::Violation;

/// A state of the cluster.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct State {
    /// The members, in the order of the bounds.
    pub(crate) members: Vec<u32>,
    pub(crate) past: u32,
    pub(crate) spent: Spent,
    /// What is under way, sorted.
    pub(crate) packets: Vec<u32>,
}

/// What leads from a state to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Choice {
    /// The member at this place takes this turn of its menu.
    Menu { place: usize, item: usize },
    /// A packet arrives.
    Deliver { packet: u32, original: Original, ending: Ending },
    /// A packet is lost.
    Lose { packet: u32 },
}

/// A state that follows.
#[derive(Clone, Debug)]
pub(crate) struct Successor {
    pub(crate) choice: Choice,
    pub(crate) state: State,
    pub(crate) print: u128,
}

/// All that may follow a state.
#[derive(Debug, Default)]
pub(crate) struct Successors {
    list: Vec<Successor>,
    len: usize,
    /// How many would have sent more than may be under way.
    pub(crate) pruned: u64,
    /// The first step that breaks an invariant.
    pub(crate) violation: Option<(Choice, Violation)>,
}

impl Successors {
    /// The states, each with what leads to it.
    pub(crate) fn list(&self) -> &[Successor] {
        &self.list[..self.len]
    }

    fn clear(&mut self) {
        self.len = 0;
        self.pruned = 0;
        self.violation = None;
    }

    /// Room for one more, whose vectors are used again.
    fn next(&mut self, choice: Choice) -> &mut Successor {
        if self.list.len() == self.len {
            let (state, print) = (State::default(), 0);
            self.list.push(Successor { choice, state, print });
        }
        self.len += 1;
        let next = &mut self.list[self.len - 1];
        next.choice = choice;
        next
    }
}

/// Lists what follows, using its room again.
pub(crate) struct Expander<'t> {
    pub(crate) memory: Memory<'t>,
    members: Vec<NodeId>,
    limits: Spent,
    /// The sum under each renaming, of the state that is expanded.
    sums: Vec<u128>,
}

impl<'t> Expander<'t> {
    pub(crate) fn new(memory: Memory<'t>) -> Expander<'t> {
        let bounds = &memory.tables.bounds;
        let (members, limits) = (bounds.members(), bounds.spendable());
        Expander { memory, members, limits, sums: Vec::new() }
    }

    /// The fingerprint of a state.
    pub(crate) fn print(&mut self, state: &State) -> u128 {
        self.sum_up(state);
        named(self.sums.iter().copied(), state.spent)
    }

    /// Lists everything that may follow `state`.
    pub(crate) fn expand(&mut self, state: &State, into: &mut Successors) {
        into.clear();
        self.sum_up(state);
        for place in 0..state.members.len() {
            self.turns_of(state, place, into);
        }
        let mut before = None;
        for packet in state.packets.iter().copied() {
            if before.replace(packet) != Some(packet) {
                self.fate_of(state, packet, into);
            }
        }
    }

    /// What a choice means.
    pub(crate) fn deed(&mut self, state: &State, choice: Choice) -> Deed {
        match choice {
            Choice::Menu { place, item } => {
                let menu = self.memory.lend_menu(state.members[place]);
                let (member, ending) = (self.members[place], menu[item].ending);
                let deed = match &menu[item].act {
                    Act::Unreachable(peer) => Deed::Disconnect { member, peer: *peer, ending },
                    act => Deed::Take { member, act: act.clone(), ending },
                };
                self.memory.return_menu(state.members[place], menu);
                deed
            }
            Choice::Deliver { packet, original, ending } => {
                let packet = self.memory.packet(packet);
                let (from, to, message) = (packet.from, packet.to, packet.message.clone());
                Deed::Deliver { from, to, message, original, ending }
            }
            Choice::Lose { packet } => {
                let packet = self.memory.packet(packet);
                let (from, to, message) = (packet.from, packet.to, packet.message.clone());
                Deed::Lose { from, to, message }
            }
        }
    }

    fn turns_of(&mut self, state: &State, place: usize, into: &mut Successors) {
        let menu = self.memory.lend_menu(state.members[place]);
        for (at, item) in menu.iter().enumerate() {
            let Some(spent) = state.spent.add(item.cost, self.limits) else { continue };
            let choice = Choice::Menu { place, item: at };
            let Act::Unreachable(peer) = item.act else {
                self.follow(state, choice, place, &item.step, spent, None, into);
                continue;
            };
            let lost = self.between(state, self.members[place], peer);
            let changes = !lost.is_empty() || item.step.member != state.members[place];
            if changes || item.step.violation.is_some() {
                self.lose_all(state, choice, place, &item.step, spent, &lost, into);
            }
        }
        self.memory.return_menu(state.members[place], menu);
    }

    fn fate_of(&mut self, state: &State, packet: u32, into: &mut Successors) {
        let to = self.memory.packet(packet).to;
        let place = self.members.binary_search(&to).expect("packets go to members");
        let member = state.members[place];
        if self.memory.member(member).member.raft.is_some() {
            let duplicated = state.spent.add(Cost::Duplicate.spent(), self.limits);
            for ending in [Ending::Flushed, Ending::Held] {
                let cost = match ending {
                    Ending::Flushed => Spent::default(),
                    Ending::Held => Cost::Held.spent(),
                };
                let Some(spent) = state.spent.add(cost, self.limits) else { continue };
                let (lent, step) = self.memory.lend_receipt(member, packet, ending);
                let original = Original::Gone;
                let choice = Choice::Deliver { packet, original, ending };
                self.follow(state, choice, place, &step, spent, Some(packet), into);
                let spent = duplicated.and_then(|spent| spent.add(cost, self.limits));
                if let Some(spent) = spent {
                    let original = Original::Stays;
                    let choice = Choice::Deliver { packet, original, ending };
                    self.follow(state, choice, place, &step, spent, None, into);
                }
                self.memory.return_receipt(lent, step);
            }
        }
        if let Some(spent) = state.spent.add(Cost::Loss.spent(), self.limits) {
            let next = into.next(Choice::Lose { packet });
            next.state.members.clone_from(&state.members);
            next.state.past = state.past;
            next.state.spent = spent;
            next.state.packets.clone_from(&state.packets);
            take_out(&mut next.state.packets, packet);
            let prints = &self.memory.packet(packet).prints;
            let sums = self.sums.iter().zip(prints).map(|(sum, print)| sum.wrapping_sub(*print));
            next.print = named(sums, spent);
        }
    }

    /// The state after a step, the packet that was received being gone.
    #[expect(clippy::too_many_arguments, reason = "the parts of a state, and where it goes")]
    fn follow(
        &mut self,
        state: &State,
        choice: Choice,
        place: usize,
        step: &Step,
        spent: Spent,
        received: Option<u32>,
        into: &mut Successors,
    ) {
        self.lose_all(state, choice, place, step, spent, received.as_slice(), into);
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a state, and where it goes")]
    fn lose_all(
        &mut self,
        state: &State,
        choice: Choice,
        place: usize,
        step: &Step,
        spent: Spent,
        gone: &[u32],
        into: &mut Successors,
    ) {
        if let Some(violation) = &step.violation {
            into.violation.get_or_insert((choice, violation.clone()));
            return;
        }
        let under_way = state.packets.len() - gone.len() + step.sent.len();
        if self.memory.tables.bounds.in_flight_max < under_way && !step.sent.is_empty() {
            into.pruned += 1;
            return;
        }
        let past = match self.memory.follow(state.past, step.facts) {
            Ok(past) => past,
            Err(violation) => {
                into.violation.get_or_insert((choice, violation));
                return;
            }
        };
        let next = into.next(choice);
        next.state.members.clone_from(&state.members);
        next.state.members[place] = step.member;
        next.state.past = past;
        next.state.spent = spent;
        next.state.packets.clone_from(&state.packets);
        gone.iter().for_each(|packet| take_out(&mut next.state.packets, *packet));
        step.sent.iter().for_each(|packet| put_in(&mut next.state.packets, *packet));
        next.print = self.changed_print(state, place, step, past, spent, gone);
    }

    fn changed_print(
        &mut self,
        state: &State,
        place: usize,
        step: &Step,
        past: u32,
        spent: Spent,
        gone: &[u32],
    ) -> u128 {
        let mut sums = [0_u128; RENAMINGS_MAX];
        let sums = &mut sums[..self.sums.len()];
        sums.copy_from_slice(&self.sums);
        if step.member != state.members[place] {
            subtract(sums, &self.memory.member(state.members[place]).prints);
            add(sums, &self.memory.member(step.member).prints);
        }
        if past != state.past {
            subtract(sums, &self.memory.past(state.past).prints);
            add(sums, &self.memory.past(past).prints);
        }
        gone.iter().for_each(|packet| subtract(sums, &self.memory.packet(*packet).prints));
        step.sent.iter().for_each(|packet| add(sums, &self.memory.packet(*packet).prints));
        named(sums.iter().copied(), spent)
    }

    fn sum_up(&mut self, state: &State) {
        self.sums.clear();
        self.sums.extend_from_slice(&self.memory.past(state.past).prints);
        let Expander { memory, sums, .. } = self;
        state.members.iter().for_each(|member| add(sums, &memory.member(*member).prints));
        state.packets.iter().for_each(|packet| add(sums, &memory.packet(*packet).prints));
    }

    fn between(&mut self, state: &State, from: NodeId, to: NodeId) -> Vec<u32> {
        let memory = &mut self.memory;
        let is_between = |packet: &u32| {
            let packet = memory.packet(*packet);
            packet.from == from && packet.to == to
        };
        state.packets.iter().copied().filter(is_between).collect()
    }
}

/// The permutations of [`super::bounds::MEMBERS_MAX`] members.
const RENAMINGS_MAX: usize = 120;

/// The name of a state: the least of its sums, and what has been spent.
fn named(sums: impl Iterator<Item = u128>, spent: Spent) -> u128 {
    let least = sums.min().expect("the identity is a renaming");
    least.wrapping_add(mixed(&[spent.0 as u64, (spent.0 >> 64) as u64])).max(1)
}

fn add(sums: &mut [u128], prints: &[u128]) {
    sums.iter_mut().zip(prints).for_each(|(sum, print)| *sum = sum.wrapping_add(*print));
}

fn subtract(sums: &mut [u128], prints: &[u128]) {
    sums.iter_mut().zip(prints).for_each(|(sum, print)| *sum = sum.wrapping_sub(*print));
}

fn take_out(packets: &mut Vec<u32>, packet: u32) {
    let place = packets.binary_search(&packet).expect("the packet is under way");
    packets.remove(place);
}

fn put_in(packets: &mut Vec<u32>, packet: u32) {
    let place = packets.binary_search(&packet).unwrap_or_else(|place| place);
    packets.insert(place, packet);
}
