//! What has been met so far, each thing once: member states, messages, histories, and what a turn
//! makes of a member.
//!
//! Responsible for naming them by small numbers, and for remembering turns: the module is stepped
//! once for each member state and each thing that can happen to it, however many states of the whole
//! cluster that member state is part of. All workers share one [`Tables`]; each has a [`Memory`] of
//! its own before it, so that they seldom wait for one another.
//!
//! Numbers depend on which worker met a thing first. Fingerprints do not, so nothing that is counted
//! or decided rests on numbers.

use std::sync::{Arc, Mutex, MutexGuard};

use jangada_raft::NodeId;

use super::acts::acts;
use super::bounds::{Bounds, Cost, Spent};
use super::fingerprint::{Table, fingerprint, mixed};
use super::history::{Fact, History};
use super::member::{Act, Ending, Ground, Member, Said, Turn};
use super::parcel::Parcel;
use super::permutations::Permutation;
use super::stage::guarded;
use super::violation::Violation;

/// A member state.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) member: Member,
    /// Its fingerprint under each renaming.
    pub(crate) prints: Vec<u128>,
    /// The fingerprint of what the judge sees of it.
    pub(crate) seen: u128,
}

/// A message on a link.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) message: Parcel,
    pub(crate) prints: Vec<u128>,
}

/// A history.
#[derive(Debug)]
pub(crate) struct Past {
    pub(crate) history: History,
    pub(crate) prints: Vec<u128>,
    /// The fingerprint of the committed entries.
    pub(crate) seen: u128,
}

/// What a turn makes of a member.
#[derive(Debug)]
pub(crate) struct Step {
    /// The member state after it.
    pub(crate) member: u32,
    /// The packets it sends.
    pub(crate) sent: Vec<u32>,
    /// The facts it adds to the history; [`NO_FACTS`] when there are none.
    pub(crate) facts: u32,
    /// What did not hold; then the rest says nothing.
    pub(crate) violation: Option<Violation>,
}

/// Something that can happen to a member whatever is under way.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) act: Act,
    pub(crate) ending: Ending,
    pub(crate) cost: Spent,
    pub(crate) step: Arc<Step>,
}

/// A turn without facts.
pub(crate) const NO_FACTS: u32 = u32::MAX;

/// Everything met, shared.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) bounds: Bounds,
    pub(crate) ground: Ground,
    pub(crate) permutations: Vec<Permutation>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    members: Interned<Known>,
    packets: Interned<Packet>,
    pasts: Interned<Past>,
    facts: Interned<(NodeId, Vec<Fact>)>,
    menus: Vec<Option<Arc<Vec<Item>>>>,
    receipts: Table<u32>,
    receipt_steps: Vec<Arc<Step>>,
    turns: u64,
}

/// Things by number and by fingerprint.
#[derive(Debug)]
struct Interned<T> {
    numbers: Table<u32>,
    items: Vec<Arc<T>>,
}

/// How much was met.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Met {
    /// Member states, renamings counted apart.
    pub members: u64,
    /// Messages on links.
    pub packets: u64,
    /// Histories.
    pub histories: u64,
    /// Turns of the shipped module: a member state and something that happens to it.
    pub turns: u64,
}

/// One worker's memory of what the tables hold.
pub(crate) struct Memory<'t> {
    pub(crate) tables: &'t Tables,
    members: Vec<Option<Arc<Known>>>,
    packets: Vec<Option<Arc<Packet>>>,
    pasts: Vec<Option<Arc<Past>>>,
    menus: Vec<Option<Arc<Vec<Item>>>>,
    receipts: Table<u32>,
    receipt_steps: Vec<Option<Arc<Step>>>,
    followed: Table<u32>,
}

impl<T> Interned<T> {
    fn new() -> Interned<T> {
        Interned { numbers: Table::new(), items: Vec::new() }
    }

    /// The number of the item of this fingerprint, which is added unless it is known.
    fn number(&mut self, print: u128, item: impl FnOnce() -> T) -> u32 {
        if let Some(number) = self.numbers.get(print) {
            return number;
        }
        let number = u32::try_from(self.items.len()).expect("fewer than 2^32 are met");
        self.numbers.insert(print, number);
        self.items.push(Arc::new(item()));
        number
    }
}

impl Tables {
    pub(crate) fn new(bounds: Bounds, ground: Ground, permutations: Vec<Permutation>) -> Tables {
        let inner = Inner {
            members: Interned::new(),
            packets: Interned::new(),
            pasts: Interned::new(),
            facts: Interned::new(),
            menus: Vec::new(),
            receipts: Table::new(),
            receipt_steps: Vec::new(),
            turns: 0,
        };
        Tables { bounds, ground, permutations, inner: Mutex::new(inner) }
    }

    pub(crate) fn met(&self) -> Met {
        let inner = self.lock();
        Met {
            members: inner.members.items.len() as u64,
            packets: inner.packets.items.len() as u64,
            histories: inner.pasts.items.len() as u64,
            turns: inner.turns,
        }
    }

    pub(crate) fn member(&self, member: Member) -> u32 {
        let print = fingerprint(&self.renamed_member(&member, 0));
        if let Some(number) = self.lock().members.numbers.get(print) {
            return number;
        }
        let prints: Vec<u128> = (0..self.permutations.len())
            .map(|at| fingerprint(&self.renamed_member(&member, at)))
            .collect();
        let raft = member.raft.as_ref();
        let seen = fingerprint(&(
            member.id,
            (&member.disk.log, &member.disk.configurations, &member.disk.installed),
            (member.disk.is_recovering, raft.map(jangada_raft::Raft::recovering)),
            (member.log(), raft.map(|raft| (raft.configurations(), raft.configuration()))),
            raft.map(|raft| (raft.role(), raft.term(), raft.commit_index(), raft.durable_index())),
        ));
        self.lock().members.number(print, || Known { member, prints, seen })
    }

    pub(crate) fn packet(&self, from: NodeId, to: NodeId, message: &Parcel) -> u32 {
        let content = fingerprint(message);
        let names_members = message.names_members();
        let print = |permutation: &Permutation| {
            let content = match names_members {
                true => fingerprint(&message.renamed(&|id| permutation.name(id))),
                false => content,
            };
            let (high, low) = ((content >> 64) as u64, content as u64);
            mixed(&[permutation.name(from).0, permutation.name(to).0, high, low])
        };
        let prints: Vec<u128> = self.permutations.iter().map(print).collect();
        let message = message.clone();
        self.lock().packets.number(prints[0], || Packet { from, to, message, prints })
    }

    pub(crate) fn past(&self, history: History) -> u32 {
        let print =
            |permutation: &Permutation| fingerprint(&history.renamed(&|id| permutation.name(id)));
        let prints: Vec<u128> = self.permutations.iter().map(print).collect();
        let seen = fingerprint(&history.committed_log());
        self.lock().pasts.number(prints[0], || Past { history, prints, seen })
    }

    fn renamed_member(&self, member: &Member, at: usize) -> Member {
        member.renamed(&|id| self.permutations[at].name(id))
    }

    fn step_of(&self, id: NodeId, turn: Result<(Member, Turn), Violation>) -> Step {
        let broken = |violation| Step {
            member: 0,
            sent: Vec::new(),
            facts: NO_FACTS,
            violation: Some(violation),
        };
        let (member, turn) = match turn {
            Ok((_, Turn { violation: Some(violation), .. })) => return broken(violation),
            Err(violation) => return broken(violation),
            Ok(taken) => taken,
        };
        let sent = turn.said.iter().filter_map(|said| match said {
            Said::Sent(to, message) => Some(self.packet(id, *to, message)),
            Said::Output(_) => None,
        });
        let sent = sent.collect();
        let member = self.member(member);
        let facts = match turn.facts.is_empty() {
            true => NO_FACTS,
            false => {
                let facts = (id, turn.facts);
                self.lock().facts.number(fingerprint(&facts), || facts)
            }
        };
        Step { member, sent, facts, violation: None }
    }

    fn turn(&self, member: &Member, act: &Act, ending: Ending) -> Step {
        let mut member = member.clone();
        let id = member.id;
        let turn = guarded(move || {
            let turn = member.take(act, ending, &self.ground);
            (member, turn)
        });
        self.step_of(id, turn)
    }

    /// Everything that can happen to a member, whatever is under way.
    fn menu(&self, number: u32, member: &Member) -> Vec<Item> {
        let limits = self.bounds.spendable();
        let mut items: Vec<Item> = Vec::new();
        for (act, cost) in acts(&self.bounds, member) {
            let Some(_) = Spent::default().add(cost, limits) else { continue };
            let flushed = Arc::new(self.turn(member, &act, Ending::Flushed));
            let held_cost = cost.and(Cost::Held.spent());
            let may_hold = !matches!(act, Act::Crash { .. } | Act::Restart | Act::Flush)
                && Spent::default().add(held_cost, limits).is_some();
            let held = may_hold.then(|| Arc::new(self.turn(member, &act, Ending::Held)));
            // A turn that changes nothing leads nowhere; a broken connection loses messages.
            let counts = |step: &Step| {
                step.violation.is_some()
                    || step.member != number
                    || !step.sent.is_empty()
                    || matches!(act, Act::Unreachable(_))
            };
            let held = held.filter(|held| counts(held) && !alike(held, &flushed));
            if counts(&flushed) {
                let (act, ending) = (act.clone(), Ending::Flushed);
                items.push(Item { act, ending, cost, step: flushed });
            }
            if let Some(step) = held {
                items.push(Item { act, ending: Ending::Held, cost: held_cost, step });
            }
        }
        items
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no worker panics while it holds the tables")
    }
}

fn alike(one: &Step, other: &Step) -> bool {
    let of = |step: &Step| (step.member, step.sent.clone(), step.facts, step.violation.clone());
    of(one) == of(other)
}

impl<'t> Memory<'t> {
    pub(crate) fn new(tables: &'t Tables) -> Memory<'t> {
        Memory {
            tables,
            members: Vec::new(),
            packets: Vec::new(),
            pasts: Vec::new(),
            menus: Vec::new(),
            receipts: Table::new(),
            receipt_steps: Vec::new(),
            followed: Table::new(),
        }
    }

    pub(crate) fn member(&mut self, number: u32) -> &Known {
        let tables = self.tables;
        recalled(&mut self.members, number, || tables.lock().members.items[number as usize].clone())
    }

    pub(crate) fn packet(&mut self, number: u32) -> &Packet {
        let tables = self.tables;
        recalled(&mut self.packets, number, || tables.lock().packets.items[number as usize].clone())
    }

    pub(crate) fn past(&mut self, number: u32) -> &Past {
        let tables = self.tables;
        recalled(&mut self.pasts, number, || tables.lock().pasts.items[number as usize].clone())
    }

    /// What can happen to a member. It is lent, and to be given back: counting who has a share of
    /// it would make the workers wait for one another.
    pub(crate) fn lend_menu(&mut self, number: u32) -> Arc<Vec<Item>> {
        let at = number as usize;
        if self.menus.len() <= at {
            self.menus.resize(at + 1, None);
        }
        match self.menus[at].take() {
            Some(menu) => menu,
            None => self.shared_menu(number),
        }
    }

    /// Takes a menu back.
    pub(crate) fn return_menu(&mut self, number: u32, menu: Arc<Vec<Item>>) {
        self.menus[number as usize] = Some(menu);
    }

    /// What the receipt of a packet makes of a member, and where to give it back.
    pub(crate) fn lend_receipt(
        &mut self,
        member: u32,
        packet: u32,
        ending: Ending,
    ) -> (u32, Arc<Step>) {
        let key = mixed(&[(u64::from(member) << 32) | u64::from(packet), ending as u64]);
        if let Some(at) = self.receipts.get(key) {
            let step = self.receipt_steps[at as usize].take();
            return (at, step.expect("what was lent was given back"));
        }
        let step = self.shared_receipt(key, member, packet, ending);
        let at = self.receipt_steps.len() as u32;
        self.receipts.insert(key, at);
        self.receipt_steps.push(None);
        (at, step)
    }

    /// Takes a receipt back.
    pub(crate) fn return_receipt(&mut self, at: u32, step: Arc<Step>) {
        self.receipt_steps[at as usize] = Some(step);
    }

    /// The history after a turn.
    pub(crate) fn follow(&mut self, past: u32, facts: u32) -> Result<u32, Violation> {
        if facts == NO_FACTS {
            return Ok(past);
        }
        let key = mixed(&[(u64::from(past) << 32) | u64::from(facts)]);
        if let Some(next) = self.followed.get(key) {
            return Ok(next);
        }
        let list = self.tables.lock().facts.items[facts as usize].clone();
        let mut history = self.past(past).history.clone();
        for fact in &list.1 {
            history.accept(list.0, fact)?;
        }
        let next = self.tables.past(history);
        self.followed.insert(key, next);
        Ok(next)
    }

    fn shared_menu(&mut self, number: u32) -> Arc<Vec<Item>> {
        let (at, tables) = (number as usize, self.tables);
        let known = |inner: &Inner| inner.menus.get(at).cloned().flatten();
        if let Some(menu) = known(&tables.lock()) {
            return menu;
        }
        let menu = Arc::new(tables.menu(number, &self.member(number).member));
        let mut inner = tables.lock();
        if let Some(first) = known(&inner) {
            return first;
        }
        if inner.menus.len() <= at {
            inner.menus.resize(at + 1, None);
        }
        inner.turns += menu.len() as u64;
        inner.menus[at] = Some(menu.clone());
        menu
    }

    fn shared_receipt(&mut self, key: u128, member: u32, packet: u32, ending: Ending) -> Arc<Step> {
        {
            let inner = self.tables.lock();
            if let Some(at) = inner.receipts.get(key) {
                return inner.receipt_steps[at as usize].clone();
            }
        }
        let packet = self.packet(packet);
        let act = Act::Receive { from: packet.from, message: packet.message.clone() };
        let tables = self.tables;
        let step = Arc::new(tables.turn(&self.member(member).member, &act, ending));
        let mut inner = self.tables.lock();
        if let Some(at) = inner.receipts.get(key) {
            return inner.receipt_steps[at as usize].clone();
        }
        inner.turns += 1;
        let at = inner.receipt_steps.len() as u32;
        inner.receipts.insert(key, at);
        inner.receipt_steps.push(step.clone());
        step
    }
}

fn recalled<T>(memory: &mut Vec<Option<Arc<T>>>, number: u32, ask: impl FnOnce() -> Arc<T>) -> &T {
    let at = number as usize;
    if memory.len() <= at {
        memory.resize(at + 1, None);
    }
    memory[at].get_or_insert_with(ask)
}
