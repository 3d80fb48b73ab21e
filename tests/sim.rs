//! The simulation as a command: one seed decides everything, in any process.

use std::process::{Command, Output};

use serde_json::Value;

fn jangada(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jangada"));
    command.args(words).output().expect("the binary runs")
}

/// The report of a fresh process, without what the machine's speed decides.
fn simulate(seed: &str, seeds: &str, threads: &str) -> Value {
    let words = ["sim", "--seed", seed, "--seeds", seeds, "--seconds", "1", "--output", "json"];
    let output = jangada(&[&words[..], &["--threads", threads]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let mut report: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    let map = report.as_object_mut().expect("an object");
    for name in ["seconds", "events_per_second", "requests_per_second", "threads"] {
        assert!(map.remove(name).is_some(), "{name} is reported");
    }
    report
}

#[test]
fn the_same_seeds_do_the_same_in_two_fresh_processes_on_any_number_of_threads() {
    let once = simulate("1", "20", "1");
    assert_eq!(once["seeds"], 20);
    assert!(once["events"].as_u64().is_some_and(|events| 10_000 < events), "{once}");
    assert_eq!(simulate("1", "20", "3"), once);
    let few = simulate("1", "2", "1");
    assert_ne!(simulate("2", "2", "2")["trace_hash"], few["trace_hash"]);
}

#[test]
fn the_table_tells_what_was_run() {
    let words = ["sim", "--seeds", "1", "--seconds", "1", "--world", "tally"];
    let output = jangada(&words);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for part in ["1 (0)", "simulated time", "events /s", "faults", "trace hash: "] {
        assert!(told.contains(part), "{part:?} is missing in:\n{told}");
    }
    assert_eq!(output.stderr, b"", "a bar is for terminals");
}

#[test]
fn every_fault_is_listed_with_a_sentence() {
    let output = jangada(&["sim", "faults"]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success());
    for fault in jangada_sim::faults::FAULTS {
        assert!(told.contains(fault.name()) && told.contains(fault.sentence()), "{told}");
    }
}

#[test]
fn a_wrong_number_is_a_mistake_of_usage() {
    for words in [
        &["sim", "--members", "0"][..],
        &["sim", "--seconds", "0"],
        &["sim", "--seeds", "1", "--until-failure"],
        &["sim", "--seed", "0x0"],
        &["sim", "--faults", "nonsense"],
        &["sim", "--threads", "0"],
        &["sim", "--hours", "-1"],
        &["sim", "--world", "other"],
    ] {
        assert_eq!(jangada(words).status.code(), Some(2), "{words:?}");
    }
}

#[test]
fn the_check_prints_its_bounds_and_that_everything_held() {
    let check = ["sim", "check", "--preset", "small", "--members", "2", "--threads", "1"];
    let output = jangada(&check);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for part in ["elections and a crash: voters 1 2", "messages under way 2", "everything held"] {
        assert!(told.contains(part), "{part:?} is missing in:\n{told}");
    }
    let output = jangada(&[&check[..], &["--states", "50", "--output", "json"]].concat());
    let report: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    assert_eq!(report["scopes"][0]["exhausted"], false, "{report}");
    assert_eq!(report["scopes"][0]["bounds"]["crashes"], "1", "{report}");
}
