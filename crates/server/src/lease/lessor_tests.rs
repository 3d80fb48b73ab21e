use bytes::{Bytes, BytesMut};
use jangada_kv::{COMMAND_VERSION, Command, Entry, Machine, Options, PutRequest};

use super::*;

const ELECTION_US: u64 = SECOND_US;

/// A lessor, the store that it looks at, and a log that takes what it orders.
struct World {
    machine: Machine,
    index: u64,
    term: u64,
    lessor: Lessor,
    now_us: u64,
    /// Orders that are not carried out yet.
    orders: Vec<Order>,
}

impl World {
    fn new() -> World {
        World {
            machine: Machine::open(None, Options::default()).expect("memory opens"),
            index: 0,
            term: 1,
            lessor: Lessor::new(Duration::from_micros(ELECTION_US)),
            now_us: 5,
            orders: Vec::new(),
        }
    }

    fn apply(&mut self, command: &Command) {
        let mut payload = BytesMut::new();
        command.encode_into(&mut payload);
        self.index += 1;
        let (index, term, version) = (self.index, self.term, COMMAND_VERSION);
        let entry = Entry { index, term, time_ms: 0, version, payload: &payload };
        self.machine.apply_one(entry).expect("it decodes");
        self.machine.end_batch(index, Bytes::new());
    }

    fn grant(&mut self, id: i64, ttl: i64) {
        self.apply(&Command::Lease(LeaseCommand::Grant { id, ttl }));
    }

    fn step(&mut self) {
        let (lessor, store) = (&mut self.lessor, self.machine.shared());
        lessor.step(self.now_us, Some(self.term), &store, &mut self.orders);
    }

    /// Time passes.
    fn after(&mut self, seconds: u64) {
        self.now_us += seconds * SECOND_US;
        self.step();
    }

    /// Carries out what is ordered, until nothing is; answers what that was.
    fn carry_out(&mut self) -> Vec<LeaseCommand> {
        let mut done = Vec::new();
        while !self.orders.is_empty() {
            for Order { number, term, command } in std::mem::take(&mut self.orders) {
                assert_eq!(term, self.term);
                self.apply(&Command::Lease(command.clone()));
                done.push(command);
                self.lessor.done(self.now_us, number, true);
            }
            self.step();
        }
        done
    }

    fn renew(&mut self, id: i64) -> Renewal {
        self.step();
        self.lessor.renew(self.now_us, id)
    }

    /// Another leader: a lessor that knows nothing, over the same store.
    fn change_leader(&mut self) {
        self.term += 1;
        self.orders.clear();
        self.lessor = Lessor::new(Duration::from_micros(ELECTION_US));
        self.step();
    }

    fn leases(&self) -> Vec<i64> {
        self.machine.shared().read().leases().iter().map(|lease| lease.name.id).collect()
    }

    fn remaining(&self, id: i64) -> Option<i64> {
        self.machine.shared().read().lease(id).map(|lease| lease.remaining)
    }
}

#[test]
fn a_lease_ends_when_its_time_is_over_and_not_before() {
    let mut world = World::new();
    world.step();
    world.grant(7, 10);
    world.step();
    world.after(9);
    assert_eq!(world.lessor.remaining(world.now_us, 7), Some(1));
    assert!(world.orders.is_empty());
    assert_eq!(world.renew(7), Renewal::Renewed(10));
    world.after(9);
    assert!(world.orders.is_empty());
    world.after(1);
    assert_eq!(world.carry_out().len(), 1);
    assert!(world.leases().is_empty());
    assert_eq!(world.renew(7), Renewal::Gone);
    assert_eq!((world.lessor.renewed(), world.lessor.expired()), (1, 1));
}

#[test]
fn a_new_leader_counts_from_the_full_time_and_an_election_more() {
    let mut world = World::new();
    world.grant(7, 10);
    world.step();
    world.after(9);
    world.change_leader();
    world.after(10);
    assert!(world.orders.is_empty(), "the leader before may have renewed it a moment ago");
    assert_eq!(world.lessor.remaining(world.now_us, 7), Some(1));
    world.after(1);
    assert_eq!(world.carry_out().len(), 1);
}

#[test]
fn whoever_does_not_lead_counts_nothing() {
    let mut world = World::new();
    world.grant(7, 2);
    let store = world.machine.shared();
    world.lessor.step(world.now_us, None, &store, &mut world.orders);
    assert_eq!(world.lessor.renew(world.now_us, 7), Renewal::NotLeading);
    assert_eq!(world.lessor.remaining(world.now_us, 7), None);
    world.lessor.step(world.now_us + 100 * SECOND_US, None, &store, &mut world.orders);
    assert!(world.orders.is_empty());
    assert_eq!(world.lessor.next_step_us(), None);
}

#[test]
fn a_lease_is_not_renewed_once_its_end_is_proposed() {
    let mut world = World::new();
    world.grant(7, 2);
    world.step();
    world.after(4);
    assert_eq!(world.orders.len(), 1);
    assert_eq!(world.renew(7), Renewal::Wait);
    // It is not known what became of the order: it may yet be carried out.
    let number = world.orders.pop().expect("it was just seen").number;
    world.lessor.done(world.now_us, number, false);
    assert_eq!(world.renew(7), Renewal::Wait);
    world.after(1);
    assert_eq!(world.carry_out().len(), 1, "it is ordered again");
    assert_eq!(world.renew(7), Renewal::Gone);
}

#[test]
fn a_long_lease_is_noted_and_renewed_through_the_log_first() {
    let mut world = World::new();
    world.step();
    world.grant(7, 1000);
    world.grant(8, 300);
    world.step();
    world.after(300);
    assert_eq!(world.orders.len(), 2, "the short one ends, the long one is noted");
    // Before it is known what the store says, nobody is told that it lasts for its full time.
    assert_eq!(world.renew(7), Renewal::Wait);
    world.carry_out();
    assert_eq!(world.remaining(7), Some(1000), "who waits has it noted anew");
    assert_eq!(world.renew(7), Renewal::Renewed(1000));
    world.after(301);
    world.carry_out();
    assert_eq!(world.remaining(7), Some(699));
    world.change_leader();
    world.after(699);
    assert_eq!(world.leases(), [7]);
    world.after(1);
    world.carry_out();
    assert!(world.leases().is_empty());
}

#[test]
fn a_note_in_doubt_is_outdone_before_a_renewal() {
    let mut world = World::new();
    world.grant(7, 1000);
    world.step();
    world.after(300);
    let lost = world.orders.pop().expect("it is noted");
    world.lessor.done(world.now_us, lost.number, false);
    assert_eq!(world.renew(7), Renewal::Wait);
    world.after(1);
    // The order is carried out after all, before the next.
    world.apply(&Command::Lease(lost.command));
    assert_eq!(world.carry_out().len(), 1);
    assert_eq!(world.remaining(7), Some(1000));
    assert_eq!(world.renew(7), Renewal::Renewed(1000));
}

#[test]
fn whoever_asks_while_a_full_time_is_noted_has_it_once_it_is() {
    let mut world = World::new();
    world.grant(7, 1000);
    world.step();
    world.after(300);
    world.carry_out();
    assert_eq!(world.renew(7), Renewal::Wait);
    world.step();
    assert_eq!(world.orders.len(), 1, "its full time is noted");
    assert_eq!(world.renew(7), Renewal::Wait);
    assert_eq!(world.carry_out().len(), 1, "once is enough, however many ask");
    assert_eq!(world.renew(7), Renewal::Renewed(1000));
}

#[test]
fn very_many_leases_end_in_batches_one_after_the_other() {
    let mut world = World::new();
    for id in 1..=2000 {
        world.grant(id, 2);
    }
    let key = |at: i64| Bytes::from(format!("key {at}"));
    for at in 0..3000 {
        let put = PutRequest { key: key(at), lease: 1, ..PutRequest::default() };
        world.apply(&Command::Put(put));
    }
    world.step();
    world.after(5);
    assert_eq!(world.orders.len(), 1);
    world.step();
    assert_eq!(world.orders.len(), 1, "the next one waits for this one");
    let batches: Vec<usize> = world
        .carry_out()
        .iter()
        .map(|command| match command {
            LeaseCommand::Expire { leases, .. } => leases.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(batches[0], 1, "a lease with very many keys goes alone");
    assert_eq!(batches[1..], [LEASES_ENDED_MAX, LEASES_ENDED_MAX, LEASES_ENDED_MAX, 463]);
    assert_eq!((world.leases(), world.machine.shared().read().keys()), (vec![], 0));
}

#[test]
fn a_lease_granted_anew_under_its_id_is_counted_anew() {
    let mut world = World::new();
    world.grant(7, 10);
    world.step();
    world.after(9);
    world.apply(&Command::Lease(LeaseCommand::Revoke { id: 7 }));
    world.grant(7, 10);
    world.step();
    world.after(9);
    assert!(world.orders.is_empty());
    assert_eq!(world.leases(), [7]);
}

/// Whatever happens: a lease is there for as long as whoever renewed it was told, and no lease that
/// nobody renews stays for ever.
#[test]
fn leases_are_never_early_and_end_in_the_end() {
    for seed in 1..=60_u64 {
        let mut dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut roll = |sides: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice % sides
        };
        let mut world = World::new();
        let mut promised: BTreeMap<i64, u64> = BTreeMap::new();
        world.step();
        for id in 1..=400 {
            match roll(10) {
                0..=1 => {
                    let ttl = 2 + roll(900) as i64;
                    world.grant(id, ttl);
                    promised.insert(id, world.now_us + ttl as u64 * SECOND_US);
                    world.step();
                }
                2..=4 => {
                    let some = roll(promised.len().max(1) as u64) as usize;
                    if let Some(id) = promised.keys().nth(some).copied()
                        && let Renewal::Renewed(ttl) = world.renew(id)
                    {
                        promised.insert(id, world.now_us + ttl as u64 * SECOND_US);
                    }
                }
                5..=6 => world.after(roll(100)),
                7 => {
                    world.carry_out();
                }
                8 => {
                    // An order that is lost, or carried out while nobody is told.
                    if let Some(order) = world.orders.pop() {
                        if roll(2) == 0 {
                            world.apply(&Command::Lease(order.command));
                        }
                        world.lessor.done(world.now_us, order.number, false);
                    }
                }
                _ => {
                    // The old leader's orders may come into the log still, under its own term, or be
                    // lost.
                    if roll(2) == 0 {
                        world.change_leader();
                    }
                }
            }
            let there = world.leases();
            for (id, until_us) in &promised {
                assert!(
                    there.contains(id) || *until_us <= world.now_us,
                    "seed {seed}: lease {id} is early"
                );
            }
            promised.retain(|id, _| there.contains(id));
        }
        for _ in 0..30 {
            world.carry_out();
            world.after(100);
        }
        world.carry_out();
        assert!(world.leases().is_empty(), "seed {seed}");
    }
}
