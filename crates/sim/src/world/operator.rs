//! The operator: who asks for other members and other leaders, starts the servers that are to join,
//! and takes away those that were removed.
//!
//! Responsible for when somebody of the cluster's staff does something, and for doing it as one does:
//! asking any member that lives, of whom one happens to know. Not responsible for whether it may be
//! done: members refuse what they must.
//!
//! 1. A new server has an id and a disk that were never used before.
//! 2. A server is started when it is asked for or later, and taken away only when the members of its
//!    cluster have told it to go, or long after.

use std::collections::BTreeSet;
use std::fmt;

use jangada::{ChangeError, Ended, Event, Peers, Ticket, TransferError};
use jangada_net::Basis;
use jangada_raft::{CatchUp, Configuration, MemberChange, NodeId};

use crate::application::Application;
use crate::faults::Fault;
use crate::invariants::Violation;
use crate::run::timeline::Who;
use crate::world::seat::{Origin, Seat};
use crate::world::{Death, Later, World};

/// How many servers a run can have over all its time, so that a run ends.
const SERVERS_MAX: usize = 12;

/// The most voters an operator asks for: one more than the five that clusters have.
const VOTERS_MAX: usize = 6;

/// How long after it was asked for a new server is started, in microseconds.
const START_US: (u64, u64) = (1_000, 1_500_000);

/// What the operator remembers.
#[derive(Debug, Default)]
pub(crate) struct Operator {
    asked: u64,
    pub(crate) deeds: Deeds,
}

/// What came of what operators asked, and of what members do beside serving.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Deeds {
    /// Changes of the members that were done.
    pub changes: u64,
    /// Transfers of leadership that were done.
    pub transfers: u64,
    /// Members that were removed and have stopped.
    pub removed: u64,
    /// Snapshots that were installed.
    pub snapshots: u64,
    /// Members that hold again all that their disks had lost.
    pub recovered: u64,
    /// Processes that ended because their disk had stalled.
    pub aborted: u64,
    /// Leaders that were none any more while their disk stalled.
    pub stalled_leaders: u64,
    /// Members that were quarantined.
    pub quarantined: u64,
    /// Members that came to hold again what the others do.
    pub brought_back: u64,
    /// Processes that were newer than their member's last.
    pub upgrades: u64,
    /// Processes that were older than their member's last.
    pub downgrades: u64,
    /// Processes that were too old for their cluster.
    pub too_old: u64,
}

impl Deeds {
    /// Adds another run's.
    pub fn add(&mut self, other: Deeds) {
        self.changes += other.changes;
        self.transfers += other.transfers;
        self.removed += other.removed;
        self.snapshots += other.snapshots;
        self.recovered += other.recovered;
        self.aborted += other.aborted;
        self.stalled_leaders += other.stalled_leaders;
        self.quarantined += other.quarantined;
        self.brought_back += other.brought_back;
        self.upgrades += other.upgrades;
        self.downgrades += other.downgrades;
        self.too_old += other.too_old;
    }
}

impl fmt::Display for Deeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Deeds { changes, transfers, removed, snapshots, recovered, .. } = self;
        let Deeds { aborted, stalled_leaders, quarantined, brought_back, .. } = self;
        write!(
            f,
            "{changes} changes of members, {removed} removed, {transfers} transfers of leadership, \
             {snapshots} snapshots installed, {recovered} members recovered, {stalled_leaders} leaders \
             left for a stalled disk, {aborted} processes gave theirs up, {quarantined} members \
             quarantined, {brought_back} brought back"
        )
    }
}

impl<A: Application> World<A> {
    /// What came of what operators asked, and of what members do beside serving.
    #[must_use]
    pub fn deeds(&self) -> Deeds {
        self.operator.deeds
    }

    /// Draws whether the operator does something in this period.
    pub(crate) fn operate(&mut self) {
        if self.draws(Fault::MembersChanged) {
            self.change_members();
        }
        if self.draws(Fault::LeadershipMoved) {
            self.move_leadership();
        }
    }

    /// Somebody who lives, and the members as it knows them.
    fn somebody(&mut self) -> Option<(NodeId, Configuration)> {
        let living: Vec<NodeId> =
            self.members().into_iter().filter(|id| self.seats[id].running.is_some()).collect();
        if living.is_empty() {
            return None;
        }
        let asked = *self.choices.pick(&living);
        let running = self.seats[&asked].running.as_ref()?;
        let configuration = running.member.raft().configuration().clone();
        // A server that has joined and knows nothing yet is asked by nobody.
        (!configuration.voters.is_empty()).then_some((asked, configuration))
    }

    fn change_members(&mut self) {
        let Some((asked, known)) = self.somebody() else { return };
        let wanted = if known.target.is_empty() { &known.voters } else { &known.target };
        let mut voters: BTreeSet<NodeId> = wanted.iter().copied().collect();
        let mut learners: BTreeSet<NodeId> = known.learners.iter().copied().collect();
        learners.retain(|learner| !voters.contains(learner));
        let new = self.seats.len() < SERVERS_MAX;
        match self.choices.below(8) {
            0 | 1 if new && voters.len() < VOTERS_MAX => {
                voters.insert(self.new_server());
            }
            2 if new => {
                learners.insert(self.new_server());
            }
            // A learner that votes from here on.
            3 if !learners.is_empty() => {
                let listed: Vec<NodeId> = learners.iter().copied().collect();
                let promoted = *self.choices.pick(&listed);
                learners.remove(&promoted);
                voters.insert(promoted);
            }
            // All of them by others.
            4 if self.seats.len() + voters.len() <= SERVERS_MAX => {
                voters = voters.iter().map(|_| self.new_server()).collect();
                learners.clear();
            }
            // One by another.
            5 if new => {
                self.lets_go(&mut voters);
                voters.insert(self.new_server());
            }
            6 if !learners.is_empty() => self.lets_go(&mut learners),
            _ if 1 < voters.len() => self.lets_go(&mut voters),
            _ => return,
        }
        let decides: Vec<NodeId> = voters.iter().copied().collect();
        if !self.ledger.may_decide(&decides, &known.voters) {
            return; // Nobody leaves the decision to those that are sick.
        }
        self.ledger.expects(&decides);
        let members = voters.iter().chain(&learners);
        let change = MemberChange {
            addresses: members.map(|id| (*id, vec![address(*id)])).collect(),
            voters: voters.into_iter().collect(),
            learners: learners.into_iter().collect(),
            catch_up: match self.choices.below(8) {
                0 => CatchUp::Skip,
                _ => CatchUp::First,
            },
        };
        self.counts.count(Fault::MembersChanged);
        self.note(format_args!("{asked} is asked for {change:?}"));
        let names =
            |ids: &[NodeId]| ids.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", ");
        let (voters, learners) = (names(&change.voters), names(&change.learners));
        let what = format_args!("is asked for the voters [{voters}] and the learners [{learners}]");
        self.tell(Who::Member(asked), what);
        let ticket = self.ticket();
        // One in four asks whatever has happened meanwhile.
        let basis = match self.choices.below(4) {
            0 => Basis::ANY,
            _ => Basis::of(&known),
        };
        self.submit(asked, Event::ChangeMembers { ticket, change, basis });
    }

    fn lets_go(&mut self, members: &mut BTreeSet<NodeId>) {
        let listed: Vec<NodeId> = members.iter().copied().collect();
        members.remove(self.choices.pick(&listed));
    }

    fn move_leadership(&mut self) {
        let Some((asked, known)) = self.somebody() else { return };
        let to = match self.choices.below(3) {
            0 => None,
            _ => Some(*self.choices.pick(&known.voters)),
        };
        self.counts.count(Fault::LeadershipMoved);
        self.note(format_args!("{asked} is asked to have {to:?} lead"));
        self.tell(Who::Member(asked), format_args!("is asked for another leader: {to:?}"));
        let ticket = self.ticket();
        self.submit(asked, Event::TransferLeadership { ticket, to });
    }

    fn ticket(&mut self) -> Ticket {
        self.operator.asked += 1;
        Ticket(self.operator.asked)
    }

    /// A server that was never there before. It finds the others at the addresses it is given, like
    /// one that has asked who they are.
    fn new_server(&mut self) -> NodeId {
        let last = self.seats.keys().next_back().expect("there are members");
        let id = NodeId(last.0 + 1);
        let mut seat = Seat::new(id, Origin::Joins);
        seat.roster = self.members().into_iter().collect();
        self.seats.insert(id, seat);
        let after = self.choices.between(START_US.0, START_US.1);
        self.queue.push(self.now_us() + after, Later::Start(id));
        id
    }

    /// A member has told what became of a change that was asked of it.
    pub(crate) fn change_answered(
        &mut self,
        member: NodeId,
        outcome: &Result<Configuration, ChangeError>,
    ) {
        self.operator.deeds.changes += u64::from(outcome.is_ok());
        match outcome {
            Ok(members) => self.tell(Who::Member(member), format_args!("has members {members}")),
            Err(error) => self.tell(Who::Member(member), format_args!("answers: {error}")),
        }
    }

    /// A member has told what became of a transfer that was asked of it.
    pub(crate) fn transfer_answered(
        &mut self,
        member: NodeId,
        outcome: &Result<NodeId, TransferError>,
    ) {
        self.operator.deeds.transfers += u64::from(outcome.is_ok());
        match outcome {
            Ok(leader) => self.tell(Who::Member(member), format_args!("knows that {leader} leads")),
            Err(error) => self.tell(Who::Member(member), format_args!("answers: {error}")),
        }
    }

    /// A member is told by its configuration whom to be connected to.
    pub(crate) fn follows(&mut self, member: NodeId, peers: &Peers) {
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        seat.turns_away = peers.removed.iter().copied().collect();
        seat.guests.retain(|guest| !seat.turns_away.contains(guest));
        let mut all: BTreeSet<NodeId> = peers.addresses.keys().copied().collect();
        all.extend(&seat.guests);
        // A server that has joined and knows nothing yet asks those it was told of.
        if peers.addresses.is_empty() && seat.origin == Origin::Joins {
            all.extend(&seat.roster);
        }
        let known: BTreeSet<NodeId> = self.seats.keys().copied().collect();
        all.retain(|peer| known.contains(peer));
        self.with_network(|network, weather| network.follows(weather, member, &all));
    }

    /// Somebody has shaken hands whom the member does not know: it is found where it says.
    pub(crate) fn meets_guest(&mut self, member: NodeId, guest: NodeId) {
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        // Also who is known: the configuration that names it may be rolled back, or an older one come.
        seat.guests.insert(guest);
        if self.network.dials(member, guest) {
            return;
        }
        let Some(running) = &seat.running else { return };
        let peers = running.member.peers();
        self.follows(member, &peers);
    }

    /// Whether a member knows that another was removed, and can tell it so.
    pub(crate) fn is_turned_away(&self, from: NodeId, by: NodeId) -> bool {
        self.network.reaches(from, by) && self.seats[&by].turns_away.contains(&from)
    }

    /// A server has found at its start that its member was removed.
    ///
    /// # Errors
    /// If it is a member all the same.
    pub(crate) fn stays_away(&mut self, member: NodeId) -> Result<(), Violation> {
        let seat = self.seats.get_mut(&member).expect("there is such a member");
        seat.disk.kill_process();
        seat.gone = true;
        self.operator.deeds.removed += 1;
        if !self.invariants.is_member(member) {
            return Ok(());
        }
        Err(Violation {
            invariant: "only a member that was removed stops by itself",
            seen: format!("member {member} does not start"),
        })
    }

    /// A member is none any more, and its server is taken away.
    ///
    /// # Errors
    /// If it is a member all the same.
    pub(crate) fn goes(&mut self, member: NodeId, ended: Ended) -> Result<(), Violation> {
        if matches!(ended, Ended::Version { .. }) {
            self.operator.deeds.too_old += 1;
            self.end(member, Death::Killed);
            return Ok(());
        }
        let is_member = self.invariants.is_member(member);
        if matches!(ended, Ended::Removed(_)) && !is_member {
            self.tell(Who::Member(member), format_args!("stops: {ended}"));
            self.end(member, Death::Killed);
            self.operator.deeds.removed += 1;
            self.seats.get_mut(&member).expect("there is such a member").gone = true;
            return Ok(());
        }
        Err(Violation {
            invariant: "only a member that was removed stops by itself",
            seen: format!("member {member} stops: {ended}"),
        })
    }
}

/// Where a simulated member is found.
pub(crate) fn address(id: NodeId) -> String {
    format!("member-{id}:2380")
}
