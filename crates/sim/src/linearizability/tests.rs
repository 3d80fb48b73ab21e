//! A checker that cannot fail is worthless: hand-made histories, and a small store with switchable
//! bugs whose histories must be told from those of the same store without them.

use std::collections::BTreeMap;

use bytes::Bytes;
use fastrand::Rng;

use super::by_revision::{self, Violation};
use super::search::{self, Verdict};
use super::{Fault, check};
use crate::history::{Action, Change, Consistency, Contents, Found, History, Operation, Outcome};

use Consistency::{Linearizable, Serializable};

fn found(value: &'static str, create_revision: i64, mod_revision: i64, version: i64) -> Found {
    Found { value: Bytes::from(value), create_revision, mod_revision, version }
}

fn written(revision: i64) -> Outcome {
    Outcome::Written { revision, succeeded: true, deleted: 0 }
}

fn read(revision: i64, found: Option<Found>) -> Outcome {
    Outcome::Read { revision, found: vec![found] }
}

/// Builds a history of key `k` from (invoked, returned, action, outcome), with its end.
fn history(
    operations: Vec<(u64, u64, Action, Outcome)>,
    revision: i64,
    end: Option<Found>,
) -> History {
    let mut history = History::new(1);
    for (client, (invoked, returned, action, outcome)) in (0..).zip(operations) {
        let id = history.invoked(client, invoked, action);
        if outcome != Outcome::Unknown {
            history.returned(id, returned, outcome);
        }
    }
    let keys = end.map(|found| (Bytes::from("k"), found)).into_iter().collect();
    history.contents = Contents { revision, keys };
    history
}

fn search_approves(history: &History) -> bool {
    search::check(history, 1_000_000).iter().all(|(_, verdict)| *verdict == Verdict::Linearizable)
}

#[test]
fn overlapping_operations_may_take_effect_in_either_order() {
    for (seen, revision) in [(None, 1), (Some(found("a", 2, 2, 1)), 2)] {
        let history = history(
            vec![
                (0, 10, Action::put("k", "a"), written(2)),
                (5, 8, Action::get("k", Linearizable), read(revision, seen)),
            ],
            2,
            Some(found("a", 2, 2, 1)),
        );
        let approval = check(&history).expect("both orders are possible");
        assert_eq!((approval.groups, approval.undecided), (1, 0));
        assert_eq!(approval.summary.changes, 1);
    }
}

#[test]
fn a_stale_read_is_caught_by_both() {
    let stale = |consistency| {
        history(
            vec![
                (0, 1, Action::put("k", "a"), written(2)),
                (2, 3, Action::put("k", "b"), written(3)),
                (4, 5, Action::get("k", consistency), read(2, Some(found("a", 2, 2, 1)))),
            ],
            3,
            Some(found("b", 2, 3, 2)),
        )
    };
    let caught = by_revision::check(&stale(Linearizable));
    assert_eq!(caught, Err(Violation::OutOfOrder { earlier: 1, later: 2 }));
    assert!(!search_approves(&stale(Linearizable)));
    check(&stale(Serializable)).expect("a serializable read may be old");
}

#[test]
fn a_serializable_read_of_a_mixed_state_is_caught() {
    let mixed = history(
        vec![
            (0, 1, Action::put("k", "a"), written(2)),
            (2, 3, Action::put("k", "b"), written(3)),
            (4, 5, Action::get("k", Serializable), read(2, Some(found("b", 2, 3, 2)))),
        ],
        3,
        Some(found("b", 2, 3, 2)),
    );
    assert!(matches!(by_revision::check(&mixed), Err(Violation::WrongRead { operation: 2, .. })));
}

#[test]
fn a_read_from_the_future_is_caught_by_both() {
    let future = history(
        vec![
            (0, 1, Action::get("k", Linearizable), read(2, Some(found("a", 2, 2, 1)))),
            (2, 3, Action::put("k", "a"), written(2)),
        ],
        2,
        Some(found("a", 2, 2, 1)),
    );
    let caught = by_revision::check(&future);
    assert_eq!(caught, Err(Violation::OutOfOrder { earlier: 0, later: 1 }));
    assert!(!search_approves(&future));
}

#[test]
fn a_lost_write_is_caught_by_both() {
    let lost = history(
        vec![(0, 1, Action::put("k", "a"), written(2)), (2, 3, Action::put("k", "b"), written(3))],
        3,
        Some(found("a", 2, 2, 1)),
    );
    assert!(matches!(by_revision::check(&lost), Err(Violation::WrongEnd { .. })));
    assert!(!search_approves(&lost));
}

#[test]
fn two_writes_of_one_revision_are_caught() {
    let twice = history(
        vec![(0, 9, Action::put("k", "a"), written(2)), (1, 9, Action::put("k", "b"), written(2))],
        2,
        Some(found("b", 2, 2, 1)),
    );
    let caught = by_revision::check(&twice);
    assert_eq!(caught, Err(Violation::RevisionTakenTwice { revision: 2, first: 0, second: 1 }));
}

#[test]
fn a_revision_that_goes_back_is_caught() {
    let back = history(
        vec![(0, 1, Action::put("k", "a"), written(3)), (2, 3, Action::put("k", "b"), written(2))],
        3,
        Some(found("a", 2, 3, 2)),
    );
    let caught = by_revision::check(&back);
    assert_eq!(caught, Err(Violation::OutOfOrder { earlier: 0, later: 1 }));
}

#[test]
fn a_write_applied_twice_is_caught() {
    let mut twice =
        history(vec![(0, 1, Action::put("k", "a"), written(2))], 3, Some(found("a", 2, 3, 2)));
    let again = Change { key: Bytes::from("k"), value: Some(Bytes::from("a")) };
    twice.observed.insert(3, vec![again]);
    let caught = by_revision::check(&twice);
    assert_eq!(caught, Err(Violation::AppliedTwice { operation: 0, revision: 3 }));
}

#[test]
fn a_revision_nobody_made_is_caught() {
    let ghost =
        history(vec![(0, 1, Action::put("k", "a"), written(2))], 3, Some(found("a", 2, 2, 1)));
    let caught = by_revision::check(&ghost);
    assert_eq!(caught, Err(Violation::RevisionUnexplained { revision: 3 }));
}

#[test]
fn an_unknown_write_may_happen_late_or_never() {
    let put = |value: &'static str| Action::put("k", value);
    let operations = || {
        vec![
            (0, 0, put("a"), Outcome::Unknown),
            (2, 3, put("b"), written(2)),
            (4, 5, Action::get("k", Linearizable), read(2, Some(found("b", 2, 2, 1)))),
        ]
    };
    let never = history(operations(), 2, Some(found("b", 2, 2, 1)));
    assert_eq!(check(&never).map(|approval| approval.summary.unknown_vanished), Ok(1));

    let mut late = history(operations(), 3, Some(found("a", 2, 3, 2)));
    let change = Change { key: Bytes::from("k"), value: Some(Bytes::from("a")) };
    late.observed.insert(3, vec![change]);
    assert_eq!(check(&late).map(|approval| approval.summary.unknown_happened), Ok(1));
}

#[test]
fn an_unknown_write_may_not_come_and_go() {
    let mut gone = history(
        vec![
            (0, 0, Action::put("k", "a"), Outcome::Unknown),
            (2, 3, Action::get("k", Linearizable), read(2, Some(found("a", 2, 2, 1)))),
            (4, 5, Action::get("k", Linearizable), read(1, None)),
        ],
        2,
        Some(found("a", 2, 2, 1)),
    );
    let change = Change { key: Bytes::from("k"), value: Some(Bytes::from("a")) };
    gone.observed.insert(2, vec![change]);
    let caught = by_revision::check(&gone);
    assert_eq!(caught, Err(Violation::OutOfOrder { earlier: 1, later: 2 }));
    assert!(!search_approves(&gone));
}

#[test]
fn a_refused_write_that_happened_is_caught_by_both() {
    let mut refused = history(
        vec![(0, 1, Action::put("k", "a"), Outcome::Refused)],
        2,
        Some(found("a", 2, 2, 1)),
    );
    let change = Change { key: Bytes::from("k"), value: Some(Bytes::from("a")) };
    refused.observed.insert(2, vec![change]);
    let caught = by_revision::check(&refused);
    assert_eq!(caught, Err(Violation::RefusedButApplied { operation: 0, revision: 2 }));
    assert!(!search_approves(&refused));
}

#[test]
fn an_unknown_deletion_is_recognised_by_its_key() {
    let mut deleted = history(
        vec![
            (0, 1, Action::put("k", "a"), written(2)),
            (2, 0, Action::delete("k"), Outcome::Unknown),
            (4, 5, Action::get("k", Linearizable), read(3, None)),
        ],
        3,
        None,
    );
    deleted.observed.insert(3, vec![Change { key: Bytes::from("k"), value: None }]);
    let approval = check(&deleted).expect("the deletion happened");
    assert_eq!(approval.summary.unknown_happened, 1);
    deleted.operations[1].invoked = 6;
    assert!(check(&deleted).is_err(), "a deletion cannot be seen before it was asked for");
}

#[test]
fn a_history_that_cannot_be_judged_is_refused() {
    let again = history(
        vec![(0, 1, Action::put("k", "a"), written(2)), (2, 3, Action::put("k", "a"), written(3))],
        3,
        Some(found("a", 2, 3, 2)),
    );
    let caught = check(&again);
    assert_eq!(caught, Err(Fault::ByRevision(Violation::ValueUsedTwice { operation: 1 })));
}

#[test]
fn the_search_gives_up_at_its_limit() {
    let history =
        history(vec![(0, 1, Action::put("k", "a"), written(2))], 2, Some(found("a", 2, 2, 1)));
    assert_eq!(search::check(&history, 1), vec![(vec![0], Verdict::Undecided)]);
    assert_eq!(search::check(&history, 10), vec![(vec![0], Verdict::Linearizable)]);
}

/// What the little store does wrong, once, at the first occasion after half of its operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bug {
    None,
    /// Answers a read from the state before the last acknowledged change of the key.
    StaleRead,
    /// Acknowledges a put with the next revision and forgets it.
    LostWrite,
    /// Applies a put a second time, one revision later.
    AppliedTwice,
    /// Writes although a guard fails, and says so.
    GuardIgnored,
    /// Applies only the first put of a write of two keys.
    TornWrite,
    /// Applies a write it has refused.
    RefusedWrite,
    /// Answers a put with the revision before.
    RevisionBack,
    /// Deletes and answers that there was nothing.
    WrongCount,
}

pub(super) const BUGS: [Bug; 8] = [
    Bug::StaleRead,
    Bug::LostWrite,
    Bug::AppliedTwice,
    Bug::GuardIgnored,
    Bug::TornWrite,
    Bug::RefusedWrite,
    Bug::RevisionBack,
    Bug::WrongCount,
];

struct Store {
    revision: i64,
    keys: BTreeMap<Bytes, Found>,
    changes: BTreeMap<i64, Vec<Change>>,
    /// The contents after each revision.
    past: Vec<(i64, BTreeMap<Bytes, Found>)>,
}

impl Store {
    fn write(&mut self, puts: &[(Bytes, Bytes)], deletes: &[Bytes]) -> i64 {
        let revision = self.revision + 1;
        let mut changes = Vec::new();
        for key in deletes {
            if self.keys.remove(key).is_some() {
                changes.push(Change { key: key.clone(), value: None });
            }
        }
        let deleted = i64::try_from(changes.len()).expect("few");
        for (key, value) in puts {
            let before = self.keys.get(key);
            let create_revision = before.map_or(revision, |found| found.create_revision);
            let version = before.map_or(0, |found| found.version) + 1;
            let value = value.clone();
            changes.push(Change { key: key.clone(), value: Some(value.clone()) });
            let found = Found { value, create_revision, mod_revision: revision, version };
            self.keys.insert(key.clone(), found);
        }
        if !changes.is_empty() {
            self.revision = revision;
            self.changes.insert(revision, changes);
            self.past.push((revision, self.keys.clone()));
        }
        deleted
    }

    fn read(&self, keys: &[Bytes], back: usize) -> Outcome {
        let (revision, state) = &self.past[self.past.len() - 1 - back];
        let found = keys.iter().map(|key| state.get(key).cloned()).collect();
        Outcome::Read { revision: *revision, found }
    }
}

/// What came of a run of the little store.
pub(super) struct Told {
    pub(super) history: History,
    /// Whether the bug had its occasion.
    pub(super) struck: bool,
    /// The store's log: when which operation was applied, as positions in the history.
    pub(super) log: Vec<(u64, usize)>,
}

/// Runs a few clients against the store and says whether the bug had its occasion.
fn run(seed: u64, count: usize, bug: Bug) -> (History, bool) {
    let told = run_told(seed, count, bug);
    (told.history, told.struck)
}

/// Runs a few clients against the store and tells all.
pub(super) fn run_told(seed: u64, count: usize, bug: Bug) -> Told {
    let mut rng = Rng::with_seed(seed);
    let past = vec![(1, BTreeMap::new())];
    let mut store = Store { revision: 1, keys: BTreeMap::new(), changes: BTreeMap::new(), past };
    let mut history = History::new(1);
    // Each operation takes effect at a moment of its own between its two ends.
    let mut moments: Vec<(u64, Operation, bool)> = Vec::new();
    let clients = rng.u32(1..=5);
    for client in 0..clients {
        let mut now = 0;
        for serial in 0..count {
            let invoked = now + rng.u64(1..20);
            let moment = invoked + rng.u64(0..20);
            let returned = moment + rng.u64(0..20);
            now = returned + 1;
            let action = random_action(&mut rng, client, serial);
            let outcome = match rng.u32(0..20) {
                0 => Outcome::Refused,
                1 => Outcome::Unknown,
                _ => Outcome::Written { revision: 0, succeeded: true, deleted: 0 },
            };
            let happens = match outcome {
                Outcome::Refused => false,
                Outcome::Unknown => rng.bool(),
                _ => true,
            };
            let late = if outcome == Outcome::Unknown { rng.u64(0..200) } else { 0 };
            let ended = if outcome == Outcome::Unknown { u64::MAX } else { returned };
            let operation = Operation { client, invoked, returned: ended, action, outcome };
            moments.push((moment + late, operation, happens));
        }
    }
    moments.sort_by_key(|(moment, operation, _)| (*moment, operation.client));
    let half = moments.len() / 2;
    let mut struck = false;
    for (position, (_, operation, happens)) in moments.iter_mut().enumerate() {
        let armed = if half <= position && !struck { bug } else { Bug::None };
        let strikes = execute(&mut store, operation, *happens, armed);
        *happens |= strikes && bug == Bug::RefusedWrite;
        struck |= strikes;
    }
    moments.sort_by_key(|(_, operation, _)| operation.invoked);
    let is_write = |operation: &Operation| matches!(operation.action, Action::Write { .. });
    let applied =
        moments.iter().enumerate().filter(|(_, (_, one, happens))| *happens && is_write(one));
    let mut log: Vec<(u64, u32, usize)> =
        applied.map(|(id, (moment, one, _))| (*moment, one.client, id)).collect();
    log.sort_unstable();
    let log = log.into_iter().map(|(moment, _, id)| (moment, id)).collect();
    history.operations = moments.into_iter().map(|(_, operation, _)| operation).collect();
    history.contents = Contents { revision: store.revision, keys: store.keys };
    for revision in history.unclaimed_revisions() {
        if let Some(changes) = store.changes.remove(&revision) {
            history.observed.insert(revision, changes);
        }
    }
    Told { history, struck, log }
}

fn random_action(rng: &mut Rng, client: u32, serial: usize) -> Action {
    let mut key = || Bytes::from(format!("{}", rng.u32(0..3)));
    let (first, second) = (key(), Bytes::from("3"));
    let value = |part: u32| Bytes::from(format!("{client}.{serial}.{part}"));
    match rng.u32(0..10) {
        0..3 => Action::put(first, value(0)),
        3 => Action::delete(first),
        4 => Action::compare_and_set(first, None, value(0)),
        5 => {
            let puts = vec![(first, value(0)), (second, value(1))];
            Action::Write { guards: Vec::new(), puts, deletes: Vec::new() }
        }
        6 => Action::get(first, Serializable),
        7 => Action::Read { keys: vec![first, second], consistency: Linearizable },
        _ => Action::get(first, Linearizable),
    }
}

/// Lets the store do one operation, fills in the answer, and says whether the bug struck.
fn execute(store: &mut Store, operation: &mut Operation, happens: bool, bug: Bug) -> bool {
    let (guards, puts, deletes) = match &operation.action {
        Action::Read { keys, consistency } => {
            let linearizable = *consistency == Linearizable;
            // The newest change must be of a key that is read, and acknowledged before the read.
            let stale = bug == Bug::StaleRead
                && linearizable
                && 1 < store.past.len()
                && store.read(keys, 0) != store.read(keys, 1)
                && keys
                    .iter()
                    .any(|key| store.keys.get(key) != store.past[store.past.len() - 2].1.get(key));
            if operation.outcome != Outcome::Refused && operation.outcome != Outcome::Unknown {
                operation.outcome = store.read(keys, usize::from(stale));
                return stale;
            }
            return false;
        }
        Action::Write { guards, puts, deletes } => (guards, puts, deletes),
    };
    let struck_by_refusal =
        bug == Bug::RefusedWrite && operation.outcome == Outcome::Refused && !puts.is_empty();
    if !happens && !struck_by_refusal {
        return false;
    }
    let held = guards.iter().all(|guard| {
        store.keys.get(&guard.key).map(|found| &found.value) == guard.expected.as_ref()
    });
    let known = !matches!(operation.outcome, Outcome::Unknown | Outcome::Refused);
    let mut succeeded = held;
    let mut struck = struck_by_refusal && held;
    let mut deleted = 0;
    let mut back = 0;
    match bug {
        Bug::LostWrite if known && held && !puts.is_empty() => {
            struck = true;
            let revision = store.revision + 1;
            store.revision = revision;
            store.past.push((revision, store.keys.clone()));
        }
        Bug::AppliedTwice if known && held && !puts.is_empty() => {
            struck = true;
            store.write(puts, deletes);
            back = 1;
            store.write(puts, deletes);
        }
        Bug::GuardIgnored if known && !held => {
            struck = true;
            succeeded = true;
            store.write(puts, deletes);
        }
        Bug::TornWrite if held && 1 < puts.len() => {
            struck = true;
            store.write(&puts[..1], deletes);
        }
        Bug::RevisionBack if known && held && !puts.is_empty() => {
            struck = true;
            store.write(puts, deletes);
            back = 1;
        }
        Bug::WrongCount if known && deletes.iter().any(|key| store.keys.contains_key(key)) => {
            struck = true;
            store.write(puts, deletes);
        }
        _ if held => deleted = store.write(puts, deletes),
        _ => {}
    }
    if known {
        operation.outcome =
            Outcome::Written { revision: store.revision - back, succeeded, deleted };
    }
    struck
}

#[test]
fn good_histories_pass_both_methods() {
    let (mut happened, mut vanished, mut idle) = (0, 0, 0);
    for seed in 0..400 {
        let (history, _) = run(seed, 30, Bug::None);
        let approval = check(&history).unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
        assert_eq!(approval.undecided, 0, "seed {seed}");
        happened += approval.summary.unknown_happened;
        vanished += approval.summary.unknown_vanished;
        idle += approval.summary.idle_writes;
    }
    assert!(0 < happened && 0 < vanished && 0 < idle, "the histories must have hard parts");
}

#[test]
fn every_bug_is_caught_whenever_it_strikes() {
    for bug in BUGS {
        let (mut strikes, mut caught, mut searched) = (0, 0, 0);
        for seed in 0..200 {
            let (history, struck) = run(seed, 20, bug);
            if !struck {
                continue;
            }
            strikes += 1;
            caught += usize::from(by_revision::check(&history).is_err());
            let refused = search::check(&history, 200_000)
                .iter()
                .any(|(_, verdict)| matches!(verdict, Verdict::NotLinearizable { .. }));
            searched += usize::from(refused);
        }
        println!("{bug:?}: struck {strikes}, caught {caught}, by search {searched}");
        assert!(50 < strikes, "{bug:?} must have its occasion: {strikes}");
        // A stale read is none if the change it misses overlaps it: then the old answer is right.
        // A lost put leaves no trace if the key is deleted before anybody looks at it.
        let overlooked = match bug {
            Bug::StaleRead => strikes / 2,
            Bug::LostWrite => strikes / 5,
            // A deletion of unknown outcome can have been the one that did it.
            Bug::WrongCount => strikes / 10,
            _ => 0,
        };
        assert!(strikes <= caught + overlooked, "{bug:?}: {caught} of {strikes}");
        // Values alone show neither wrong revisions nor a second application before the next write.
        if !matches!(bug, Bug::RevisionBack | Bug::AppliedTwice) {
            assert!(strikes / 10 < searched, "{bug:?}: the search found {searched} of {strikes}");
        }
    }
}

/// What the method by revisions approves has an order, so the search must not deny it; and what the
/// search denies must be caught by revisions too. The histories are broken at random here.
#[test]
fn the_two_methods_do_not_contradict_each_other() {
    let (mut approved, mut refused) = (0, 0);
    for seed in 0..600 {
        let (mut history, _) = run(seed, 12, Bug::None);
        let mut rng = Rng::with_seed(seed ^ 0x5eed);
        break_somewhere(&mut history, &mut rng);
        let by_revision = by_revision::check(&history);
        let denied = search::check(&history, 200_000)
            .into_iter()
            .any(|(_, verdict)| matches!(verdict, Verdict::NotLinearizable { .. }));
        assert!(!(denied && by_revision.is_ok()), "seed {seed}: {history:?}");
        approved += usize::from(by_revision.is_ok());
        refused += usize::from(by_revision.is_err());
    }
    println!("approved {approved}, refused {refused}");
    assert!(20 < approved && 20 < refused, "both answers must occur: {approved}, {refused}");
}

/// Swaps two answers of one kind, moves an operation in time, or turns an answer into another.
pub(super) fn break_somewhere(history: &mut History, rng: &mut Rng) {
    let count = history.operations.len();
    let (first, second) = (rng.usize(0..count), rng.usize(0..count));
    match rng.u32(0..3) {
        0 => {
            let answer = history.operations[first].outcome.clone();
            let other = history.operations[second].outcome.clone();
            history.operations[first].outcome = other;
            history.operations[second].outcome = answer;
        }
        1 => {
            let operation = &mut history.operations[first];
            let by = rng.u64(0..200);
            operation.invoked += by;
            operation.returned = operation.returned.saturating_add(by);
        }
        _ => {
            let operation = &mut history.operations[first];
            if let Outcome::Written { .. } = operation.outcome {
                operation.outcome = Outcome::Refused;
            }
        }
    }
}
