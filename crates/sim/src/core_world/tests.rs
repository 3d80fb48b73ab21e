use super::*;

/// A run of one seed, with the faults that the seed draws.
fn seed(seed: u64, members: u64, duration_us: u64) -> CoreReport {
    let mut choices = Choices::of_seed(seed);
    let rates = FaultRates::swarm(&mut choices, &CORE_FAULTS);
    let options = CoreOptions { members, rates, lines_max: 0, ..CoreOptions::default() };
    run(options, choices, duration_us).unwrap_or_else(|failure| panic!("seed {seed}: {failure}"))
}

#[test]
fn without_faults_every_command_is_acknowledged_under_one_leader() {
    let options = CoreOptions::default();
    let report = run(options, Choices::of_seed(1), 60_000_000).expect("it holds");
    assert_eq!(report.elections, 1);
    assert_eq!(report.faults.total(), 0);
    assert!((5_000..7_000).contains(&report.acknowledged), "{report:?}");
    assert!((200..400).contains(&report.reads), "{report:?}");
}

#[test]
fn the_same_seed_leaves_the_same_trace() {
    let one = seed(3, 3, 20_000_000);
    assert_eq!(one, seed(3, 3, 20_000_000));
    assert_ne!(one.trace_hash, seed(4, 3, 20_000_000).trace_hash);
}

/// The branches of the module that the seeds must come to; a world that misses one has grown too
/// kind. Not among them: late completions, for a disk here completes in order.
const DEMANDED: [&str; 24] = [
    "aba_persisted_after_overwrite",
    "answer_of_older_term_ignored",
    "answer_to_former_leader_ignored",
    "append_from_suspect_ignored",
    "append_from_suspect_taken_without_trust",
    "commit_news_not_answered",
    "conflicting_suffix_dropped",
    "haste_spent",
    "hasty_timer_ignored",
    "late_prevote_ignored",
    "late_vote_ignored",
    "log_begun_anew",
    "leader_without_quorum_steps_down",
    "older_term_not_committed_by_counting",
    "owing_peer_nudged",
    "peer_up_cancels_haste",
    "proposal_refused_as_busy",
    "read_waits_for_own_term_commit",
    "recovered",
    "recovery_begun",
    "stale_match_ignored",
    "stale_rejection_ignored",
    "stickiness_withholds_pre_vote",
    "stickiness_withholds_vote",
];

#[test]
fn seeds_hold_and_reach_every_fault_and_mark() {
    let mut marks = BTreeSet::new();
    let mut faults = FaultCounts::default();
    for number in 0..80 {
        let members = if number % 4 == 3 { 5 } else { 3 };
        let report = seed(number, members, 20_000_000);
        faults.add(&report.faults);
        marks.extend(report.marks);
    }
    let absent: Vec<Fault> =
        CORE_FAULTS.into_iter().filter(|fault| faults.of(*fault) == 0).collect();
    assert_eq!(absent, [], "{faults}");
    let missing: Vec<_> = DEMANDED.iter().filter(|mark| !marks.contains(**mark)).collect();
    assert!(!cfg!(debug_assertions) || missing.is_empty(), "no seed reaches {missing:?}");
}

/// The same, where the membership changes.
const CHANGES_DEMANDED: [&str; 7] = [
    "configuration_rolled_back",
    "departed_member_released",
    "learners_caught_up",
    "removed_leader_hands_over",
    "summons_obeyed",
    "transfer_asks_for_what_is",
    "transfer_given_up",
];

#[test]
fn memberships_that_change_hold_and_come_to_rest() {
    let mut marks = BTreeSet::new();
    for number in 0..60 {
        let mut choices = Choices::of_seed(number);
        let options = CoreOptions {
            members: if number % 4 == 3 { 1 } else { 3 },
            joiners: 2,
            changes_per_minute: 40,
            transfers_per_minute: 30,
            rates: FaultRates::swarm(&mut choices, &CORE_FAULTS),
            ..CoreOptions::default()
        };
        let report = run(options, choices, 20_000_000)
            .unwrap_or_else(|failure| panic!("seed {number}: {failure}"));
        marks.extend(report.marks);
    }
    let missing: Vec<_> = CHANGES_DEMANDED.iter().filter(|it| !marks.contains(**it)).collect();
    assert!(!cfg!(debug_assertions) || missing.is_empty(), "no seed reaches {missing:?}");
}

#[test]
fn one_member_and_an_even_number_hold_too() {
    for number in 0..4 {
        seed(number, 1, 10_000_000);
        seed(number, 4, 10_000_000);
    }
}

/// A world without faults, after some seconds.
fn quiet() -> CoreWorld {
    let mut world = CoreWorld::new(CoreOptions::default(), Choices::of_seed(7));
    while let Some(event) = world.queue.pop_until(5 * ELECTION_US) {
        world.happens(event).expect("nothing goes wrong");
    }
    world
}

#[test]
fn a_disk_that_forgets_is_found_out() {
    let mut world = quiet();
    let member = NodeId(2);
    world.seat(member).end(seat::Lost::Unwritten);
    world.seat(member).disk = seat::Disk::default();
    let violation = world.starts(member).expect_err("the disk was emptied");
    assert_eq!(violation.invariant, "what is durable survives a crash (figure 2)");
}

#[test]
fn a_cluster_that_cannot_elect_is_found_out() {
    let mut world = quiet();
    world.calm();
    let members: Vec<NodeId> = world.members().collect();
    for (from, to) in members.iter().flat_map(|from| members.iter().map(move |to| (from, to))) {
        world.network.cut(*from, *to);
    }
    let leader = world.believed;
    world.seat(leader).end(seat::Lost::Unwritten);
    world.starts(leader).expect("its disk holds what it should");
    let violation = world.settles().expect_err("nobody hears anybody");
    assert_eq!(violation.invariant, "once faults stop, a leader comes");
}

#[test]
fn a_member_that_stays_down_is_found_out() {
    let mut world = quiet();
    world.calm();
    let down = NodeId(world.believed.0 % 3 + 1);
    world.seat(down).end(seat::Lost::Unwritten);
    let violation = world.settles().expect_err("not all members have everything");
    assert_eq!(violation.invariant, "once faults stop, a leader comes");
}
