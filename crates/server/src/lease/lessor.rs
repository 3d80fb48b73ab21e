//! Counts the time of leases while this member leads.
//!
//! A stepped part: it has no clock, no task and no lock of its own. Whoever drives it tells it the
//! time and whether this member leads, lets it look at the store, and proposes what it orders, for the
//! term that it names and for no other.
//!
//! A new leader counts each lease from what the store has as its remainder, and gives one election
//! timeout on top: that long the leader before may have gone on answering clients whose next renewal
//! went to nobody. What it finds over is ended in batches, one batch after the other.
//!
//! Invariants:
//! 1. Nothing is counted before this member has applied an entry of its own term: until then the
//!    remainders in its store may be those of a leader before the last.
//! 2. A lease is not renewed once its end has been proposed; whoever asks waits.
//! 3. A lease is renewed without a word in the log only while the store's remainder is its full time
//!    and nothing is under way that would make it less.
//! 4. One batch of ends is under way at a time, and one of checkpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jangada_kv::{Lease, LeaseChange, LeaseCommand, LeaseName, Shared};

/// The most leases that one entry ends. With a key each, applying it takes about a millisecond, in
/// which nobody else writes; and the next batch waits for this one to be committed, so that other
/// writes pass in between.
pub const LEASES_ENDED_MAX: usize = 512;

/// A batch takes no further lease once it has so many keys to delete: leases may have many.
pub const KEYS_ENDED_MAX: usize = 2048;

/// How often the store is told what remains of a lease that is longer than this, as etcd does when it
/// is told to: a new leader then gives such a lease this much too much at most, and not its full time.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// The most leases in one entry of checkpoints or of full times: some twenty kilobytes.
pub const CHECKPOINTS_MAX: usize = 1024;

/// How long to wait before an order that was not carried out is given again (microseconds).
const AGAIN_AFTER_US: u64 = 500_000;

const SECOND_US: u64 = 1_000_000;

/// What the lessor wants proposed, for its own term.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// Names the order in the report about it.
    pub number: u64,
    /// The term in which this member must lead.
    pub term: u64,
    /// The command.
    pub command: LeaseCommand,
}

/// The answer to one who wants a lease renewed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Renewal {
    /// It is counted from so many seconds again.
    Renewed(i64),
    /// There is no such lease.
    Gone,
    /// Something about it is under way; ask again after the next step.
    Wait,
    /// This member does not lead, or has only begun to.
    NotLeading,
}

/// The lessor of a member.
#[derive(Debug)]
pub struct Lessor {
    election_timeout_us: u64,
    checkpoint_interval_us: u64,
    leading: Option<Leading>,
    /// The number of the last order.
    ordered: u64,
    /// Leases renewed and leases found over, since the start.
    renewed: u64,
    expired: u64,
}

/// What is counted in one term.
#[derive(Debug)]
struct Leading {
    term: u64,
    checkpoint_interval_us: u64,
    leases: BTreeMap<i64, Counted>,
    /// Deadlines of leases whose end is not proposed.
    due: BTreeSet<(u64, i64)>,
    /// When the store is to be told again what remains.
    checkpoints: BTreeSet<(u64, i64)>,
    /// Leases that somebody waits for to have their full time in the store.
    short: BTreeSet<i64>,
    ends: UnderWay,
    notes: UnderWay,
}

/// A lease and its time.
#[derive(Clone, Debug)]
struct Counted {
    lease: Lease,
    deadline_us: u64,
    checkpoint_us: Option<u64>,
    /// Its end has been proposed.
    ending: bool,
    /// The order that notes another remainder, whose outcome is not known or in doubt.
    noting: Option<u64>,
}

/// The order that is under way, if one is, and when the next may be given.
#[derive(Debug, Default)]
struct UnderWay {
    order: Option<(u64, Vec<i64>)>,
    not_before_us: u64,
}

impl UnderWay {
    fn may_order(&self, now_us: u64) -> bool {
        self.order.is_none() && self.not_before_us <= now_us
    }
}

impl Lessor {
    /// A lessor that does not lead.
    #[must_use]
    pub fn new(election_timeout: Duration) -> Lessor {
        Lessor {
            election_timeout_us: micros(election_timeout),
            checkpoint_interval_us: micros(CHECKPOINT_INTERVAL),
            leading: None,
            ordered: 0,
            renewed: 0,
            expired: 0,
        }
    }

    /// Tells the store what remains of long leases after each of these intervals, in place of
    /// [`CHECKPOINT_INTERVAL`].
    #[must_use]
    pub fn checkpoint_every(mut self, interval: Duration) -> Lessor {
        self.checkpoint_interval_us = micros(interval);
        self
    }

    /// How many leases were renewed since the start.
    #[must_use]
    pub fn renewed(&self) -> u64 {
        self.renewed
    }

    /// How many leases have ended because their time was over, as far as this member has proposed it.
    #[must_use]
    pub fn expired(&self) -> u64 {
        self.expired
    }

    /// Takes note of what has changed, and appends what is to be proposed to `orders`. `now_us` is
    /// any clock of this member that does not go back; `leads_in` the term in which this member leads
    /// and has applied an entry of its own (invariant 1).
    pub fn step(
        &mut self,
        now_us: u64,
        leads_in: Option<u64>,
        store: &Shared,
        orders: &mut Vec<Order>,
    ) {
        if self.leading.as_ref().map(|leading| leading.term) != leads_in {
            self.lead(now_us, leads_in, store);
        }
        let Some(leading) = &mut self.leading else { return };
        match store.lease_changes() {
            Some(changes) => changes.into_iter().for_each(|change| leading.take(now_us, change)),
            // Too many to tell one by one.
            None => leading.look_again(now_us, store.follow_leases()),
        }
        if let Some(order) = leading.end_some(now_us, self.ordered + 1, store) {
            self.ordered += 1;
            orders.push(order);
        }
        if let Some(order) = leading.note_some(now_us, self.ordered + 1) {
            self.ordered += 1;
            orders.push(order);
        }
    }

    /// An order was applied, or refused, or it is not known. What an order did is seen in the store.
    pub fn done(&mut self, now_us: u64, number: u64, applied: bool) {
        let Some(leading) = &mut self.leading else { return };
        let not_before_us = if applied { now_us } else { now_us + AGAIN_AFTER_US };
        if let Some((_, ids)) = leading.ends.order.take_if(|(under_way, _)| *under_way == number) {
            leading.ends.not_before_us = not_before_us;
            if applied {
                self.expired += ids.len() as u64;
            }
            for id in ids {
                leading.end_again(id);
            }
        }
        if let Some((_, ids)) = leading.notes.order.take_if(|(under_way, _)| *under_way == number) {
            leading.notes.not_before_us = not_before_us;
            for id in ids.iter().filter(|_| applied) {
                if let Some(counted) = leading.leases.get_mut(id) {
                    counted.noting.take_if(|noting| *noting == number);
                }
            }
        }
    }

    /// Renews a lease for one whose request came before this member's leadership was confirmed and all
    /// that was committed then was applied; a step has seen it since.
    pub fn renew(&mut self, now_us: u64, id: i64) -> Renewal {
        let Some(leading) = &mut self.leading else { return Renewal::NotLeading };
        let Some(counted) = leading.leases.get_mut(&id) else { return Renewal::Gone };
        if counted.ending && !canon!(ending_lease_is_renewed) {
            return Renewal::Wait; // invariant 2
        }
        let ttl = counted.lease.ttl;
        if counted.lease.remaining < ttl || counted.noting.is_some() {
            leading.short.insert(id); // invariant 3
            return Renewal::Wait;
        }
        leading.count(now_us, id, ttl, 0);
        self.renewed += 1;
        Renewal::Renewed(ttl)
    }

    /// The whole seconds that remain of a lease; `None` if there is no such lease or this member does
    /// not lead.
    #[must_use]
    pub fn remaining(&self, now_us: u64, id: i64) -> Option<i64> {
        let counted = self.leading.as_ref()?.leases.get(&id)?;
        let left = counted.deadline_us.saturating_sub(now_us) / SECOND_US;
        Some(i64::try_from(left).unwrap_or(i64::MAX).min(counted.lease.ttl))
    }

    /// The term in which it counts.
    #[must_use]
    pub fn leads_in(&self) -> Option<u64> {
        self.leading.as_ref().map(|leading| leading.term)
    }

    /// When it wants to be stepped again at the latest, should nothing happen before.
    #[must_use]
    pub fn next_step_us(&self) -> Option<u64> {
        let leading = self.leading.as_ref()?;
        let after = |queue: &BTreeSet<(u64, i64)>, under_way: &UnderWay| {
            let (at_us, _) = queue.first().filter(|_| under_way.order.is_none())?;
            Some((*at_us).max(under_way.not_before_us))
        };
        let due = after(&leading.due, &leading.ends);
        let noted = after(&leading.checkpoints, &leading.notes);
        let short = (!leading.short.is_empty() && leading.notes.order.is_none())
            .then_some(leading.notes.not_before_us);
        [due, noted, short].into_iter().flatten().min()
    }

    /// Leadership has come or gone.
    fn lead(&mut self, now_us: u64, leads_in: Option<u64>, store: &Shared) {
        let Some(term) = leads_in else {
            self.leading = None;
            store.unfollow_leases();
            return;
        };
        let mut leading = Leading {
            term,
            checkpoint_interval_us: self.checkpoint_interval_us,
            leases: BTreeMap::new(),
            due: BTreeSet::new(),
            checkpoints: BTreeSet::new(),
            short: BTreeSet::new(),
            ends: UnderWay::default(),
            notes: UnderWay::default(),
        };
        for lease in store.follow_leases() {
            leading.add(lease);
            let seconds =
                if canon!(new_leader_takes_leases_for_over) { 0 } else { lease.remaining };
            leading.count(now_us, lease.name.id, seconds, self.election_timeout_us);
        }
        self.leading = Some(leading);
    }
}

impl Leading {
    /// A lease to be counted.
    fn add(&mut self, lease: Lease) {
        let counted =
            Counted { lease, deadline_us: 0, checkpoint_us: None, ending: false, noting: None };
        self.leases.insert(lease.name.id, counted);
    }

    /// Counts a lease from so many seconds, and a little more.
    fn count(&mut self, now_us: u64, id: i64, seconds: i64, more_us: u64) {
        let Some(counted) = self.leases.get_mut(&id) else { return };
        self.due.remove(&(counted.deadline_us, id));
        let seconds = u64::try_from(seconds).unwrap_or_default();
        let left_us = seconds.saturating_mul(SECOND_US).saturating_add(more_us);
        counted.deadline_us = now_us.saturating_add(left_us);
        self.due.insert((counted.deadline_us, id));
        self.plan_checkpoint(now_us, id);
    }

    /// The store is to be told again after an interval, if the lease lives longer than that.
    fn plan_checkpoint(&mut self, now_us: u64, id: i64) {
        let Some(counted) = self.leases.get_mut(&id) else { return };
        if let Some(at_us) = counted.checkpoint_us.take() {
            self.checkpoints.remove(&(at_us, id));
        }
        let at_us = now_us + self.checkpoint_interval_us;
        if at_us < counted.deadline_us {
            counted.checkpoint_us = Some(at_us);
            self.checkpoints.insert((at_us, id));
        }
    }

    fn take(&mut self, now_us: u64, change: LeaseChange) {
        match change {
            LeaseChange::Gone(lease) => {
                if self.knows(lease.name) {
                    self.remove(lease.name.id);
                }
            }
            LeaseChange::Is(lease) if self.knows(lease.name) => {
                let counted = self.leases.get_mut(&lease.name.id);
                counted.expect("it was just seen").lease = lease;
            }
            LeaseChange::Is(lease) => {
                self.remove(lease.name.id);
                self.add(lease);
                self.count(now_us, lease.name.id, lease.ttl, 0);
            }
        }
    }

    fn knows(&self, name: LeaseName) -> bool {
        self.leases.get(&name.id).is_some_and(|counted| counted.lease.name == name)
    }

    fn remove(&mut self, id: i64) {
        if let Some(counted) = self.leases.remove(&id) {
            self.due.remove(&(counted.deadline_us, id));
            if let Some(at_us) = counted.checkpoint_us {
                self.checkpoints.remove(&(at_us, id));
            }
        }
        self.short.remove(&id);
    }

    /// All leases as they are: those that are not known are counted from here on.
    fn look_again(&mut self, now_us: u64, leases: Vec<Lease>) {
        let there: BTreeSet<LeaseName> = leases.iter().map(|lease| lease.name).collect();
        let known = self.leases.values().map(|counted| counted.lease.name);
        let gone: Vec<i64> =
            known.filter(|name| !there.contains(name)).map(|name| name.id).collect();
        gone.into_iter().for_each(|id| self.remove(id));
        leases.into_iter().for_each(|lease| self.take(now_us, LeaseChange::Is(lease)));
    }

    /// Orders the end of what is over (invariant 4).
    fn end_some(&mut self, now_us: u64, number: u64, store: &Shared) -> Option<Order> {
        let over = self.due.first().is_some_and(|(deadline_us, _)| *deadline_us <= now_us);
        if !over || !self.ends.may_order(now_us) {
            return None;
        }
        let view = store.read();
        let (mut leases, mut keys) = (Vec::new(), 0);
        while leases.len() < LEASES_ENDED_MAX && keys < KEYS_ENDED_MAX {
            let Some((deadline_us, id)) = self.due.first().copied() else { break };
            if now_us < deadline_us {
                break;
            }
            self.due.pop_first();
            let counted = self.leases.get_mut(&id).expect("what is due is counted");
            counted.ending = true;
            keys += view.lease_keys(id).map_or(0, |keys| keys.len());
            leases.push(counted.lease.name);
        }
        let ids = leases.iter().map(|name| name.id).collect();
        self.ends.order = Some((number, ids));
        let term = self.term;
        Some(Order { number, term, command: LeaseCommand::Expire { term, leases } })
    }

    /// The order about the end of a lease is over: if the lease is still there, its end is ordered
    /// again. It stays unrenewable, for the order may yet be carried out.
    fn end_again(&mut self, id: i64) {
        if let Some(counted) = self.leases.get(&id)
            && counted.ending
        {
            self.due.insert((counted.deadline_us, id));
        }
    }

    /// Orders notes of full times that somebody waits for, then of what remains of long leases.
    fn note_some(&mut self, now_us: u64, number: u64) -> Option<Order> {
        if !self.notes.may_order(now_us) {
            return None;
        }
        let mut leases = Vec::new();
        while leases.len() < CHECKPOINTS_MAX
            && let Some(id) = self.short.pop_first()
        {
            let counted = self.leases.get_mut(&id).expect("who is gone is not waited for");
            // Whoever asked while an order was under way may have what he waits for by now.
            let is_full = counted.lease.remaining == counted.lease.ttl && counted.noting.is_none();
            if !counted.ending && !is_full {
                counted.noting = Some(number);
                leases.push((counted.lease.name, counted.lease.ttl));
            }
        }
        while leases.len() < CHECKPOINTS_MAX
            && let Some((at_us, id)) = self.checkpoints.first().copied()
            && at_us <= now_us
        {
            self.checkpoints.pop_first();
            let counted = self.leases.get_mut(&id).expect("what is noted is counted");
            counted.checkpoint_us = None;
            if counted.ending || counted.noting == Some(number) {
                continue;
            }
            let left = counted.deadline_us.saturating_sub(now_us).div_ceil(SECOND_US);
            let left = i64::try_from(left).unwrap_or(i64::MAX).clamp(1, counted.lease.ttl);
            counted.noting = Some(number);
            leases.push((counted.lease.name, left));
            self.plan_checkpoint(now_us, id);
        }
        if leases.is_empty() {
            return None;
        }
        let ids = leases.iter().map(|(name, _)| name.id).collect();
        self.notes.order = Some((number, ids));
        let term = self.term;
        Some(Order { number, term, command: LeaseCommand::Checkpoint { term, leases } })
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "lessor_tests.rs"]
mod tests;
