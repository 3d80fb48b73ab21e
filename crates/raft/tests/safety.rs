//! Random schedules against the properties of figure 3: messages lost, doubled and reordered,
//! members crashing with part of their writes done, timers firing at any time.
//!
//! A seed decides everything. A failure names it. For a longer run, and for one seed alone:
//!
//! ```text
//! SEEDS=0..100000 cargo test --release -p jangada-raft --test safety
//! SEEDS=32132..32133 cargo test -p jangada-raft --test safety three
//! ```

mod harness;

use std::collections::BTreeSet;

use harness::schedule::{Facts, Random, run, run_with_joiners};
use jangada_raft::{Configuration, NodeId, marks};

fn run_many(seeds: u64, configuration: &Configuration, steps: u64, demanded: &[&str]) {
    run_schedules(seeds, demanded, &|random| run(random, configuration, steps));
}

fn run_schedules(seeds: u64, demanded: &[&str], run: &dyn Fn(Random) -> Facts) {
    let (mut elections, mut committed, mut reads) = (0, 0, 0);
    let mut reached: BTreeSet<&'static str> = BTreeSet::new();
    for seed in range_of_seeds().unwrap_or(0..seeds) {
        let schedule = std::panic::AssertUnwindSafe(|| run(Random::of_seed(seed)));
        let Ok(facts) = std::panic::catch_unwind(schedule) else { panic!("seed {seed} fails") };
        elections += facts.elections;
        committed += facts.highest().0;
        reads += facts.reads_done;
        reached.extend(marks::take());
    }
    let missing: Vec<_> = demanded.iter().filter(|mark| !reached.contains(**mark)).collect();
    let is_whole = range_of_seeds().is_none();
    assert!(
        !is_whole || !cfg!(debug_assertions) || missing.is_empty(),
        "no schedule reaches {missing:?}"
    );
    assert!(!is_whole || 0 < elections && 0 < committed && 0 < reads, "the schedules do something");
}

/// What the environment asks for.
fn range_of_seeds() -> Option<std::ops::Range<u64>> {
    let seeds = std::env::var("SEEDS").ok()?;
    let (first, end) = seeds.split_once("..").expect("SEEDS is written 0..1000");
    let number = |word: &str| word.parse().expect("SEEDS holds numbers");
    Some(number(first)..number(end))
}

fn voters(count: u64) -> Configuration {
    Configuration::of_voters((1..=count).map(NodeId))
}

/// The branches that the schedules of several members must come to; a run that misses one has grown
/// too kind.
const DEMANDED: [&str; 26] = [
    "aba_persisted_after_overwrite",
    "answer_of_older_term_ignored",
    "answer_to_former_leader_ignored",
    "append_from_suspect_ignored",
    "append_from_suspect_taken_without_trust",
    "commit_news_not_answered",
    "conflicting_suffix_dropped",
    "hasty_timer_ignored",
    "late_prevote_ignored",
    "late_vote_ignored",
    "leader_without_quorum_steps_down",
    "older_term_not_committed_by_counting",
    "owing_peer_nudged",
    "prevote_for_another_term_ignored",
    "proposal_refused_as_busy",
    "read_waits_for_own_term_commit",
    "stale_match_ignored",
    "stale_rejection_ignored",
    "stickiness_withholds_pre_vote",
    "stickiness_withholds_vote",
    "answer_of_a_former_life_ignored",
    "answer_to_another_recovery_ignored",
    "log_begun_anew",
    "recovered",
    "recovery_begun",
    "snapshot_of_what_is_held",
];

/// As before, where the membership changes.
const CHANGES_DEMANDED: [&str; 7] = [
    "departed_member_released",
    "learners_caught_up",
    "removed_leader_hands_over",
    "configuration_rolled_back",
    "summons_obeyed",
    "transfer_asks_for_what_is",
    "transfer_given_up",
];

#[test]
fn three_members_are_safe_and_recover() {
    run_many(4_000, &voters(3), 1_500, &DEMANDED);
}

#[test]
fn five_members_are_safe_and_recover() {
    run_many(1_200, &voters(5), 2_500, &DEMANDED);
}

#[test]
fn one_member_is_safe_and_recovers() {
    run_many(50, &voters(1), 500, &["proposal_refused_as_busy"]);
}

/// Two halves that share one voter, and a learner.
#[test]
fn a_joint_configuration_is_safe_and_recovers() {
    let configuration = Configuration {
        voters: vec![NodeId(1), NodeId(2), NodeId(3)],
        outgoing: vec![NodeId(3), NodeId(4), NodeId(5)],
        learners: vec![NodeId(6)],
        ..Configuration::default()
    };
    run_many(600, &configuration, 2_000, &DEMANDED[5..8]);
}

/// Three members and three more that may join, and any of the six may be wanted at any time.
#[test]
fn a_membership_that_changes_is_safe_and_recovers() {
    run_schedules(1_500, &CHANGES_DEMANDED, &|random| {
        run_with_joiners(random, &voters(3), 3, 2_500)
    });
}

/// A cluster of one that grows, and shrinks back.
#[test]
fn a_single_member_that_is_joined_is_safe_and_recovers() {
    run_schedules(500, &CHANGES_DEMANDED[..3], &|random| {
        run_with_joiners(random, &voters(1), 2, 1_500)
    });
}
