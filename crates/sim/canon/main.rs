//! The canon of known bugs: each is put back, and the checks have to find it.
//!
//! Responsible for what is asked on the command line. The bugs stand in `bugs.rs`, what looks for
//! them in `finders.rs`, the processes in which they do in `hunt.rs`, the table in `page.rs`.
//!
//! ```text
//! cargo test --release -p jangada-sim --features canon --test canon             every bug
//! ... --test canon -- --only commit_below_a_quorum                              one bug
//! ... --test canon -- --quick                                                   as each change runs it
//! ... --test canon -- --write                                                   and writes docs/canon.md
//! ... --test canon -- --sound                                                   no bug: nothing is found
//! ```

#[path = "../../node/tests/cluster/mod.rs"]
mod cluster;
#[path = "../../wal/tests/crash_points/mod.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod crash_points;
#[path = "../../node/tests/hand/mod.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod hand;
#[path = "../../raft/tests/harness/mod.rs"]
mod harness;
#[path = "../../node/tests/histories/mod.rs"]
mod histories;
#[path = "../../wal/tests/leftovers/mod.rs"]
mod leftovers;
#[path = "../../node/tests/histories/operators.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod operators;
#[path = "../../wal/tests/rot_points/mod.rs"]
mod rot_points;
#[path = "../../kv/tests/harness/mod.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod store_harness;
#[path = "../../wal/tests/support/mod.rs"]
mod support;
#[path = "../../node/tests/transfers/mod.rs"]
mod transfers;

mod bugs;
mod finders;
mod hunt;
mod impossible;
mod page;

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use bugs::{BUGS, Bug};
use finders::Finder;
use hunt::{Hunt, Outcome};

/// How long one finder looks for one bug at first, in seconds.
const SECONDS_MAX: u64 = 10;

/// How long a bug may take to be found at all, in seconds.
const FOUND_SECONDS_MAX: u64 = 60;

/// How long each finder looks for nothing when no bug is put back, in seconds.
const SOUND_SECONDS: u64 = 20;

/// Where the seeds start: what is told is the median of these.
const STARTS: [u64; 3] = [0, 100_000, 200_000];

/// How many bugs are looked for at a time.
const HUNTERS: usize = 2;

/// What came of one bug.
struct Result {
    bug: &'static Bug,
    /// The finder that found it first, with its outcomes from each start.
    found: Option<(Finder, Vec<Outcome>)>,
    /// Cheaper finders that did not, in the time they have.
    not: Vec<Finder>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(hunt) = Hunt::of_arguments(&arguments) {
        hunt.run();
        return ExitCode::SUCCESS;
    }
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let only = arguments.iter().skip_while(|argument| *argument != "--only").nth(1);
    if has("--sound") {
        return sound();
    }
    let quick = has("--quick");
    let chosen = BUGS.iter().filter(|bug| match only {
        Some(name) => bug.switch == name,
        None => !quick || bug.quick,
    });
    let chosen: Vec<&'static Bug> = chosen.collect();
    let results = look_for_all(&chosen, quick);
    let missed: Vec<&str> =
        results.iter().filter(|result| !result.is_found()).map(|r| r.bug.switch).collect();
    println!("{} bugs, {} not found", results.len(), missed.len());
    if has("--write") && only.is_none() && !quick {
        page::write(&results);
    }
    if missed.is_empty() && !results.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("not found: {}", missed.join(", "));
    ExitCode::FAILURE
}

/// Looks for several bugs at a time, and tells of each as it is found.
fn look_for_all(bugs: &[&'static Bug], quick: bool) -> Vec<Result> {
    let next = AtomicUsize::new(0);
    let mut results: Vec<(usize, Result)> = std::thread::scope(|scope| {
        let look = || {
            let mut results = Vec::new();
            loop {
                let place = next.fetch_add(1, Ordering::Relaxed);
                let Some(bug) = bugs.get(place) else { return results };
                let result = look_for(bug, quick);
                println!("{}", page::line(&result));
                results.push((place, result));
            }
        };
        let hunters: Vec<_> = (0..HUNTERS).map(|_| scope.spawn(look)).collect();
        let results = hunters.into_iter().map(|h| h.join().expect("a hunter does not panic"));
        results.flatten().collect()
    });
    results.sort_by_key(|(place, _)| *place);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Looks for a bug with one finder after the other, the cheapest first, until one finds it.
fn look_for(bug: &'static Bug, quick: bool) -> Result {
    let mut result = Result { bug, found: None, not: Vec::new() };
    for finder in bug.finders {
        let first = Hunt::new(Some(bug.switch), *finder, STARTS[0], SECONDS_MAX).send_out();
        if !first.is_found() {
            result.not.push(*finder);
            continue;
        }
        let mut outcomes = vec![first];
        if finder.has_seeds() && !quick {
            let others = STARTS.iter().skip(1).map(|start| {
                Hunt::new(Some(bug.switch), *finder, *start, FOUND_SECONDS_MAX).send_out()
            });
            outcomes.extend(others);
        }
        result.found = Some((*finder, outcomes));
        break;
    }
    result
}

/// With no bug put back, the same finders find nothing.
fn sound() -> ExitCode {
    let mut sound = true;
    for finder in finders::ALL {
        let outcome = Hunt::new(None, finder, STARTS[0], SOUND_SECONDS).send_out();
        let seconds = outcome.micros as f64 / 1e6;
        println!("{finder}: {} {} in {seconds:.1} s", outcome.after, finder.unit());
        if outcome.is_found() {
            println!("  finds what is not there: {}", outcome.what);
            sound = false;
        }
    }
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Result {
    /// Whether every start led to the bug within a minute.
    fn is_found(&self) -> bool {
        let limit = FOUND_SECONDS_MAX * 1_000_000;
        self.found.as_ref().is_some_and(|(_, outcomes)| {
            outcomes.iter().all(|outcome| outcome.is_found() && outcome.micros <= limit)
        })
    }
}
