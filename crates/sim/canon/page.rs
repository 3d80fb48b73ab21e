//! What is printed and written of the results: one line for each bug, and the page `docs/canon.md`.

use std::fmt::Write;
use std::path::Path;

use crate::Result;
use crate::bugs::Bug;
use crate::finders::Finder;
use crate::impossible::{IMPOSSIBLE, Other};

/// The command that writes the page.
const COMMAND: &str =
    "cargo test --release -p jangada-sim --features canon --test canon -- --write";

/// How many letters of what a check saw stand in the table.
const WHAT_MAX: usize = 90;

/// One bug's line on the terminal.
pub(crate) fn line(result: &Result) -> String {
    let Bug { switch, .. } = result.bug;
    let not = names(&result.not);
    let Some((finder, outcomes)) = &result.found else {
        return format!("NOT FOUND {switch} (tried {not})");
    };
    let mark = if result.is_found() { "found" } else { "FOUND LATE OR NOT FROM EACH START" };
    let reached = if outcomes[0].reached { "" } else { " without being reached" };
    format!(
        "{mark} {switch}{reached}: {finder}, after {} {} and {} s: {} [not: {not}]",
        after(result),
        finder.unit(),
        seconds(result),
        outcomes[0].what
    )
}

/// Writes the page.
pub(crate) fn write(results: &[Result]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/canon.md");
    std::fs::write(path, page(results)).expect("the page can be written");
}

fn page(results: &[Result]) -> String {
    let mut page = String::from(INTRODUCTION);
    let found = results.iter().filter(|result| result.is_found()).count();
    write!(page, "{COMMAND}\n```\n\n").expect("a string takes everything");
    writeln!(
        page,
        "{} bugs are put back, {found} are found within a minute from every start. {} of the list this \
         design cannot have.\n",
        results.len(),
        IMPOSSIBLE.len()
    )
    .expect("a string takes everything");
    page.push_str(
        "| # | bug | seen in | switch | found by | what it saw | after | seconds | not found by |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for result in results {
        page.push_str(&row(result));
    }
    page.push_str(
        "\n## What this design cannot have\n\n| # | bug | seen in | why |\n|---|---|---|---|\n",
    );
    IMPOSSIBLE.iter().for_each(|other| page.push_str(&other_row(other)));
    page
}

fn row(result: &Result) -> String {
    let Bug { number, switch, what, seen, .. } = result.bug;
    let (by, saw) = match &result.found {
        Some((finder, outcomes)) => (finder.to_string(), brief(&outcomes[0].what)),
        None => ("**nothing**".to_owned(), String::new()),
    };
    let not = names(&result.not);
    let unit = result.found.as_ref().map_or("", |(finder, _)| finder.unit());
    let (after, seconds) = (after(result), seconds(result));
    format!(
        "| {number} | {what} | {seen} | `{switch}` | {by} | {saw} | {after} {unit} | {seconds} | {not} |\n"
    )
}

fn other_row(other: &Other) -> String {
    format!("| {} | {} | {} | {} |\n", other.number, other.what, other.seen, other.why)
}

/// The median of how many seeds or states it took.
fn after(result: &Result) -> u64 {
    median(result, |outcome| outcome.after)
}

/// The median of the seconds it took.
fn seconds(result: &Result) -> String {
    format!("{:.2}", median(result, |outcome| outcome.micros) as f64 / 1e6)
}

fn median(result: &Result, number: impl Fn(&crate::Outcome) -> u64) -> u64 {
    let Some((_, outcomes)) = &result.found else { return 0 };
    let mut numbers: Vec<u64> = outcomes.iter().map(number).collect();
    numbers.sort_unstable();
    numbers[numbers.len() / 2]
}

fn names(finders: &[Finder]) -> String {
    let names: Vec<String> = finders.iter().map(Finder::to_string).collect();
    if names.is_empty() { "-".to_owned() } else { names.join("; ") }
}

/// What a check saw, short and without what a table cannot hold.
fn brief(what: &str) -> String {
    let text: String = what.chars().take(WHAT_MAX).collect();
    let text = text.replace('|', "/").replace('`', "'");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

const INTRODUCTION: &str = "# The canon of known bugs

Bugs that other implementations of Raft and its stores shipped, and some that this design invites. Each is put back by
a switch that only tests compile (`canon!(name)` in the code, the feature `canon`), and the checks have to find it
within a minute: this measures the checks, not the code.

- *Random schedules* drive the consensus module alone (`crates/raft/tests/schedule`), the *core world* lets it run in
  simulated time, each step held to the executable specification.
- *Restarts and copies of the store* drive the store alone, with crashes, lost chunks and compactions in between
  (`crates/kv/tests/harness`); so do its *watchers*, and *chosen histories of the store* its leases and users.
- *Chosen histories* put one member into a test's hands: its log, its clock and its peers
  (`crates/node/tests/histories`).
- *Crash points*, *rot points*, *failing syncs* and *old bytes* try the log (`crates/wal/tests`).
- The *full worlds* run the members that ship, with their log and engine, on simulated disks and a simulated network.

Where seeds decide, the figures are medians from three starts; seconds are the processor's, of one thread. Assertions of the
code itself stay on: they are checks like the others, and named where one of them was first. \"Not found by\" names the
cheaper checks that looked in vain for 10 such seconds before: what a bug breaks may be out of their sight.

This page is written by

```text
";
