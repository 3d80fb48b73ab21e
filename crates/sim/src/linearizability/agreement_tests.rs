//! The methods against each other, and the search against one that tries everything.

use fastrand::Rng;

use super::by_revision;
use super::online::{Judged, Online, Violation};
use super::search::{self, Verdict};
use super::tests::{BUGS, Bug, Told, break_somewhere, run_told};
use crate::history::{Action, Consistency, Found, History, Operation, Outcome};

/// What happens, in the order of time; at one time what is asked comes before what is applied, and
/// that before what is answered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    Invoked,
    Applied,
    Returned,
}

/// Judges a history as if it came into being now.
fn judge_online(history: &History, log: &[(u64, usize)]) -> Result<Judged, Violation> {
    let mut moments: Vec<(u64, Moment, usize, usize)> = Vec::new();
    for (id, operation) in history.operations.iter().enumerate() {
        moments.push((operation.invoked, Moment::Invoked, 0, id));
        // An unknown outcome is given up at some time.
        let returned = match operation.outcome {
            Outcome::Unknown => operation.invoked + 50,
            _ => operation.returned,
        };
        moments.push((returned, Moment::Returned, 0, id));
    }
    let applied = log.iter().enumerate();
    moments.extend(applied.map(|(place, (at, id))| (*at, Moment::Applied, place, *id)));
    moments.sort_unstable();
    let mut online = Online::new(history.first_revision);
    for (_, moment, _, id) in moments {
        let operation = &history.operations[id];
        match moment {
            Moment::Invoked => online.invoked(id as u64, operation.action.clone()),
            Moment::Applied => online.applied(id as u64)?,
            Moment::Returned => online.returned(id as u64, &operation.outcome)?,
        }
    }
    online.ends(&history.contents)?;
    Ok(online.judged())
}

fn denied(history: &History) -> bool {
    let verdicts = search::check(history, 1_000_000);
    verdicts.iter().any(|(_, verdict)| matches!(verdict, Verdict::NotLinearizable { .. }))
}

#[test]
fn good_histories_pass_while_they_come_into_being() {
    let mut happened = 0;
    for seed in 0..300 {
        let Told { history, log, .. } = run_told(seed, 30, Bug::None);
        let judged = judge_online(&history, &log);
        let judged = judged.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        assert!(judged.open_max <= 5 + history.operations.len() / 10, "seed {seed}: {judged:?}");
        assert_eq!(judged.too_old, 0);
        happened += judged.unknown_happened;
    }
    assert!(0 < happened, "the histories must have hard parts");
}

/// Whatever the method by revisions catches at the end, the same method online catches on the way.
#[test]
fn every_bug_is_caught_online_too() {
    for bug in BUGS {
        let (mut caught, mut caught_online) = (0, 0);
        for seed in 0..200 {
            let Told { history, struck, log } = run_told(seed, 20, bug);
            let (at_end, online) = (by_revision::check(&history), judge_online(&history, &log));
            assert!(online.is_err() || at_end.is_ok(), "{bug:?}, seed {seed}: {at_end:?}");
            assert!(struck || online.is_ok(), "{bug:?}, seed {seed}: {online:?}");
            caught += usize::from(at_end.is_err());
            caught_online += usize::from(online.is_err());
        }
        println!("{bug:?}: {caught} caught at the end, {caught_online} online");
        assert!(20 < caught && caught <= caught_online, "{bug:?}");
    }
}

/// Broken histories: what is judged in order online is so at the end, and what is so at the end is not
/// denied by the search.
#[test]
fn the_three_judgements_do_not_contradict_each_other() {
    let (mut approved, mut refused, mut searched) = (0, 0, 0);
    for seed in 0..600 {
        let Told { mut history, log, .. } = run_told(seed, 12, Bug::None);
        break_somewhere(&mut history, &mut Rng::with_seed(seed ^ 0x0e5eed));
        let at_end = by_revision::check(&history);
        let online = judge_online(&history, &log);
        assert!(online.is_err() || at_end.is_ok(), "seed {seed}: {at_end:?}");
        let denied = denied(&history);
        assert!(!denied || at_end.is_err(), "seed {seed}: {history:?}");
        approved += usize::from(online.is_ok());
        refused += usize::from(online.is_err());
        searched += usize::from(denied);
    }
    println!("online: approved {approved}, refused {refused}; denied by the search {searched}");
    assert!(20 < approved && 20 < refused && 20 < searched);
}

/// Every order of the operations of a small history, tried one after the other.
fn some_order_fits(history: &History, taken: &mut Vec<usize>, state: &[Option<String>]) -> bool {
    let count = history.operations.len();
    let text = |bytes: &bytes::Bytes| String::from_utf8_lossy(bytes).into_owned();
    let place = |key: &bytes::Bytes| text(key).parse::<usize>().expect("keys are digits");
    let returned = |id: usize| history.operations[id].returned;
    let counts = |id: usize| {
        let operation = &history.operations[id];
        !matches!(
            (&operation.action, &operation.outcome),
            (_, Outcome::Refused)
                | (Action::Read { .. }, Outcome::Unknown)
                | (Action::Read { consistency: Consistency::Serializable, .. }, _)
        )
    };
    let left: Vec<usize> = (0..count).filter(|id| counts(*id) && !taken.contains(id)).collect();
    if left.iter().all(|id| returned(*id) == u64::MAX) {
        let end = |key: usize| {
            let found = history.contents.keys.get(key.to_string().as_bytes());
            found.map(|found| text(&found.value))
        };
        if (0..4).all(|key| state[key] == end(key)) {
            return true;
        }
    }
    let first_return = left.iter().map(|id| returned(*id)).min().unwrap_or(u64::MAX);
    left.iter().filter(|id| history.operations[**id].invoked <= first_return).any(|id| {
        let operation = &history.operations[*id];
        let mut after = state.to_vec();
        let fits = match (&operation.action, &operation.outcome) {
            (Action::Read { keys, .. }, Outcome::Read { found, .. }) => {
                let value = |found: &Option<Found>| found.as_ref().map(|found| text(&found.value));
                keys.iter().zip(found).all(|(key, found)| state[place(key)] == value(found))
            }
            (Action::Write { guards, puts, deletes }, outcome) => {
                let held = guards
                    .iter()
                    .all(|guard| state[place(&guard.key)] == guard.expected.as_ref().map(text));
                let mut gone = 0;
                if held {
                    deletes
                        .iter()
                        .for_each(|key| gone += i64::from(after[place(key)].take().is_some()));
                    puts.iter().for_each(|(key, value)| after[place(key)] = Some(text(value)));
                }
                match outcome {
                    Outcome::Written { succeeded, deleted, .. } => {
                        (held, gone) == (*succeeded, *deleted)
                    }
                    _ => true,
                }
            }
            _ => false,
        };
        taken.push(*id);
        let found = fits && some_order_fits(history, taken, &after);
        taken.pop();
        found
    })
}

/// The search leaves out what it can prove to be needless; here nothing is left out.
#[test]
fn the_search_says_what_trying_everything_says() {
    let (mut yes, mut no) = (0, 0);
    for seed in 0..1_500 {
        let Told { mut history, .. } = run_told(seed, 2, Bug::None);
        let mut rng = Rng::with_seed(seed ^ 0xb10c);
        if !seed.is_multiple_of(4) {
            break_somewhere(&mut history, &mut rng);
        }
        if rng.bool() {
            // More that may have happened at any time.
            let place = rng.usize(0..history.operations.len());
            let operation = &mut history.operations[place];
            if matches!(operation.outcome, Outcome::Written { .. }) {
                (operation.outcome, operation.returned) = (Outcome::Unknown, u64::MAX);
            }
        }
        let mixed = |operation: &Operation| {
            matches!(
                (&operation.action, &operation.outcome),
                (Action::Read { .. }, Outcome::Written { .. })
                    | (Action::Write { .. }, Outcome::Read { .. })
            )
        };
        let endless = |operation: &Operation| {
            (operation.outcome == Outcome::Unknown) != (operation.returned == u64::MAX)
        };
        if history.operations.iter().any(|operation| mixed(operation) || endless(operation)) {
            continue;
        }
        let tried = some_order_fits(&history, &mut Vec::new(), &[None, None, None, None]);
        let verdicts = search::check(&history, 1_000_000);
        let found = verdicts.iter().all(|(_, verdict)| *verdict == Verdict::Linearizable);
        assert_eq!(found, tried, "seed {seed}: {verdicts:?} {history:#?}");
        yes += usize::from(tried);
        no += usize::from(!tried);
    }
    println!("{yes} have an order, {no} have none");
    assert!(100 < yes && 100 < no);
}

/// Thousands of operations, a twentieth of them of unknown outcome, on keys that are all joined.
#[test]
fn long_histories_are_searched_to_the_end() {
    for seed in 0..3 {
        let Told { history, .. } = run_told(seed, 1_000, Bug::None);
        let verdicts = search::check(&history, 1_000_000);
        let decided = verdicts.iter().all(|(_, verdict)| *verdict == Verdict::Linearizable);
        assert!(decided, "seed {seed}: {} operations", history.operations.len());
    }
}
