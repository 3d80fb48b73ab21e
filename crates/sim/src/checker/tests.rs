//! The search against a plain one, which clones whole clusters and compares them in full.

use std::collections::{BTreeMap, VecDeque};

use jangada_raft::invariants::ClusterInvariant;
use jangada_raft::{Configuration, NodeId, RoleKind, Term};

use super::acts::acts;
use super::bounds::{Cost, Spent};
use super::expand::Expander;
use super::member::{Act, Ending, Ground, Numbering};
use super::parcel::Parcel;
use super::stage::{Deed, Original, Stage};
use super::tables::{Memory, Tables};
use super::*;

/// A state in full, in words: messages and what waits in no order, everything else as it is.
fn key(stage: &Stage, spent: Spent) -> String {
    let mut messages: Vec<String> =
        stage.links.iter().map(|(link, messages)| sorted(*link, messages)).collect();
    messages.sort();
    let members: Vec<_> = stage.members.values().map(|member| member.renamed(&|id| id)).collect();
    format!("{members:?} {messages:?} {:?} {spent:?}", stage.history)
}

fn sorted(link: (NodeId, NodeId), messages: &[Parcel]) -> String {
    let mut words: Vec<String> = messages.iter().map(|message| format!("{message:?}")).collect();
    words.sort();
    format!("{link:?} {words:?}")
}

/// Each deed that may follow, with what has been spent after it.
fn deeds(bounds: &Bounds, stage: &Stage, spent: Spent) -> Vec<(Deed, Spent)> {
    let mut list = Vec::new();
    let endings = [(Ending::Flushed, Spent::default()), (Ending::Held, Cost::Held.spent())];
    for (id, member) in &stage.members {
        for (act, cost) in acts(bounds, member) {
            for (ending, more) in endings {
                let fixed = matches!(act, Act::Crash { .. } | Act::Restart | Act::Flush);
                if !(fixed && ending == Ending::Held) {
                    let (member, act) = (*id, act.clone());
                    let deed = match act {
                        Act::Unreachable(peer) => Deed::Disconnect { member, peer, ending },
                        act => Deed::Take { member, act, ending },
                    };
                    list.push((deed, cost.and(more)));
                }
            }
        }
    }
    for ((from, to), messages) in &stage.links {
        for message in messages {
            let (from, to, message) = (*from, *to, message.clone());
            list.push((Deed::Lose { from, to, message: message.clone() }, Cost::Loss.spent()));
            if stage.members[&to].raft.is_none() {
                continue;
            }
            for (ending, more) in endings {
                let original = Original::Gone;
                let message = message.clone();
                let deed = Deed::Deliver { from, to, message, original, ending };
                list.push((deed.clone(), more));
                if let Deed::Deliver { message, .. } = deed {
                    let original = Original::Stays;
                    let deed = Deed::Deliver { from, to, message, original, ending };
                    list.push((deed, Cost::Duplicate.spent().and(more)));
                }
            }
        }
    }
    let limits = bounds.spendable();
    list.into_iter()
        .filter_map(|(deed, cost)| spent.add(cost, limits).map(|spent| (deed, spent)))
        .collect()
}

/// Every state there is, with what has been spent.
fn plain(bounds: &Bounds) -> Vec<(Stage, Spent)> {
    let ground = Ground::new(bounds, Numbering::Canonical, Refinement::Checked);
    let mut stage = Stage::new(bounds, &ground);
    stage.open(bounds.opening, &ground);
    let mut seen: BTreeMap<String, ()> = BTreeMap::new();
    let mut queue = VecDeque::new();
    let mut found = Vec::new();
    seen.insert(key(&stage, Spent::default()), ());
    queue.push_back((stage, Spent::default()));
    while let Some((stage, spent)) = queue.pop_front() {
        let before = key(&stage, Spent::default());
        let under_way = |stage: &Stage| stage.links.values().map(Vec::len).sum::<usize>();
        for (deed, spent) in deeds(bounds, &stage, spent) {
            let mut next = stage.clone();
            let turn = next.perform(&deed, &ground);
            assert_eq!(turn.violation, None);
            let sends = turn.said.iter().any(|said| matches!(said, member::Said::Sent(..)));
            let is_pruned = sends && bounds.in_flight_max < under_way(&next);
            if is_pruned || (key(&next, Spent::default()) == before && !sends) {
                continue;
            }
            if seen.insert(key(&next, spent), ()).is_none() {
                queue.push_back((next, spent));
            }
        }
        found.push((stage, spent));
    }
    found
}

/// The fingerprints of whole clusters, under the given renamings.
fn prints(bounds: &Bounds, symmetry: Symmetry, states: &[(Stage, Spent)]) -> BTreeMap<u128, ()> {
    let members = bounds.members();
    let permutations = match symmetry {
        Symmetry::Reduced => permutations::keeping(bounds),
        Symmetry::Ignored => permutations::identity(&members),
    };
    let ground = Ground::new(bounds, Numbering::Canonical, Refinement::Checked);
    let tables = Tables::new(bounds.clone(), ground, permutations);
    let mut expander = Expander::new(Memory::new(&tables));
    let print = |(stage, spent): &(Stage, Spent)| {
        let links = stage.links.iter();
        let packets = links.flat_map(|((from, to), messages)| {
            messages.iter().map(|message| tables.packet(*from, *to, message))
        });
        let mut packets: Vec<u32> = packets.collect();
        packets.sort_unstable();
        let state = State {
            members: stage.members.values().map(|member| tables.member(member.clone())).collect(),
            past: tables.past(stage.history.clone()),
            spent: *spent,
            packets,
        };
        (expander.print(&state), ())
    };
    states.iter().map(print).collect()
}

fn searched(bounds: &Bounds, symmetry: Symmetry, threads: usize) -> Progress {
    let options = Options { symmetry, threads, ..Options::new(bounds.clone()) };
    let report = check(&options, |_| Next::Go).unwrap_or_else(|broken| panic!("{broken}"));
    assert_eq!(report.coverage, Coverage::Exhausted);
    report.progress
}

/// Bounds small enough for whole clusters to be kept as text, each with other events.
fn tiny() -> Vec<Bounds> {
    let of = Bounds::of_voters;
    let led = |count| Bounds { opening: Opening::Led, elections_max: 0, ..of(count) };
    vec![
        Bounds { proposals_max: 2, crashes_max: 2, faults_max: 2, reads_max: 1, ..of(1) },
        Bounds { in_flight_max: 3, held_max: 1, ..of(2) },
        Bounds { duplicates_max: 1, losses_max: 1, faults_max: 1, in_flight_max: 2, ..of(2) },
        Bounds { crashes_max: 1, faults_max: 1, in_flight_max: 2, ..of(2) },
        Bounds { proposals_max: 1, disconnects_max: 1, faults_max: 1, in_flight_max: 2, ..led(3) },
        Bounds { reads_max: 2, heartbeats_max: 1, in_flight_max: 2, ..led(2) },
        Bounds { peer_downs_max: 1, peer_ups_max: 1, faults_max: 1, quiets_max: 1, ..led(3) },
    ]
}

#[test]
fn the_search_finds_what_a_plain_one_finds_state_for_state() {
    for bounds in tiny() {
        let plain = plain(&bounds);
        let searched = searched(&bounds, Symmetry::Ignored, 1);
        assert_eq!(searched.states, plain.len() as u64, "{bounds}");
        let distinct = prints(&bounds, Symmetry::Ignored, &plain).len();
        assert_eq!(distinct, plain.len(), "fingerprints tell states apart: {bounds}");
    }
}

#[test]
fn renamed_states_are_one_and_no_others() {
    for bounds in tiny() {
        let plain = plain(&bounds);
        let orbits = prints(&bounds, Symmetry::Reduced, &plain).len() as u64;
        let searched = searched(&bounds, Symmetry::Reduced, 1);
        assert_eq!(searched.states, orbits, "{bounds}");
        assert!(searched.states <= plain.len() as u64);
    }
}

#[test]
fn several_threads_find_the_same_number_of_states() {
    let bounds = Bounds { crashes_max: 1, faults_max: 1, in_flight_max: 3, ..Bounds::of_voters(3) };
    let one = searched(&bounds, Symmetry::Reduced, 1);
    let two = searched(&bounds, Symmetry::Reduced, 2);
    assert_eq!((one.states, one.depth), (two.states, two.depth));
    assert!(1_000 < one.states, "there is something to share: {one:?}");
}

#[test]
fn a_learner_is_searched_too() {
    let voters = Configuration::of_voters((1..=3).map(NodeId));
    let learner = Configuration { learners: vec![NodeId(4)], ..voters };
    let bounds = Bounds {
        configuration: learner,
        opening: Opening::Led,
        proposals_max: 1,
        elections_max: 0,
        in_flight_max: 4,
        ..Bounds::of_voters(1)
    };
    assert!(100 < searched(&bounds, Symmetry::Reduced, 1).states);
}

/// An invariant that is too strong: whoever leads knows that its first entry is committed.
const NEVER_NEW: &[ClusterInvariant] = &[ClusterInvariant {
    number: 999,
    name: "who leads knows its no-op committed",
    holds: |members| {
        members.iter().all(|member| {
            member.role() != RoleKind::Leader
                || member.term_at(member.commit_index()) == Some(member.term())
                || member.term() < Term(1)
        })
    },
}];

#[test]
fn what_does_not_hold_is_told_with_the_shortest_way_there() {
    let options = Options { also: NEVER_NEW, ..Options::new(Bounds::of_voters(3)) };
    let broken = check(&options, |_| Next::Go).expect_err("the invariant is too strong");
    assert_eq!(broken.violation.invariant, "invariant 999: who leads knows its no-op committed");
    // The timer, a pre-vote asked and given, the candidate's write, a vote asked, written and given.
    assert_eq!(broken.events, 7, "{broken}");
    assert!(broken.script.ends_with("1 restarts heartbeat, quorum-check\n"), "{broken}");
}

/// An invariant that is too strong: a deposed leader does not know it until it hears of it.
const ONE_LEADER_AT_A_TIME: &[ClusterInvariant] = &[ClusterInvariant {
    number: 998,
    name: "at most one member leads at a time",
    holds: |members| members.iter().filter(|member| member.role() == RoleKind::Leader).count() <= 1,
}];

/// Prints a counterexample that is kept among the scripts of the consensus module, whose own test
/// replays it and compares every line.
fn replays(name: &str, options: &Options) {
    let broken = check(options, |_| Next::Go).expect_err("the invariant is too strong");
    let path = format!("{}/../raft/tests/scripts/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("REWRITE").is_some() {
        std::fs::write(&path, &broken.script).expect("a script can be written");
    }
    let kept = std::fs::read_to_string(&path).expect("the script is kept");
    let lines = |script: &str| -> Vec<String> {
        let says = |line: &&str| cfg!(debug_assertions) || !line.starts_with("mark ");
        script.lines().filter(says).map(str::to_owned).collect()
    };
    assert_eq!(lines(&kept), lines(&broken.script), "{name}");
}

#[test]
fn a_counterexample_replays_as_a_script_of_the_module() {
    let led = Bounds {
        opening: Opening::Led,
        terms_max: 2,
        quiets_max: 1,
        in_flight_max: 4,
        ..Bounds::of_voters(3)
    };
    let options = Options { also: ONE_LEADER_AT_A_TIME, ..Options::new(led) };
    replays("deposed_leader_learns_of_it_late", &options);
}

/// An invariant that is too strong: until a log that is begun anew is written, the one before is on the
/// disk.
const NEVER_BEGUN_ANEW: &[ClusterInvariant] = &[ClusterInvariant {
    number: 997,
    name: "a log that is kept is on the disk",
    holds: |members| {
        members.iter().all(|member| member.first_position().index <= member.durable_index())
    },
}];

#[test]
fn a_peer_behind_the_cut_is_sent_a_snapshot_and_installs_it() {
    let scopes = Preset::Small.scopes(None);
    let scope = scopes.into_iter().find(|scope| scope.name == "a snapshot").expect("it is there");
    let options = Options { also: NEVER_BEGUN_ANEW, ..Options::new(scope.bounds) };
    let broken = check(&options, |_| Next::Go).expect_err("the invariant is too strong");
    assert!(broken.script.contains("needs a snapshot of 2 or later for 2"), "{broken}");
    assert!(broken.script.contains("> install 2 "), "{broken}");
}

#[test]
fn everything_holds_within_the_small_bounds() {
    let mut states = 0;
    for Scope { name, bounds, .. } in Preset::Small.scopes(None) {
        let options = Options { threads: 2, liveness_one_in: 7, ..Options::new(bounds) };
        let report = check(&options, |_| Next::Go).unwrap_or_else(|bad| panic!("{name}: {bad}"));
        assert_eq!(report.coverage, Coverage::Exhausted, "{name}");
        assert!(0 < report.progress.liveness_checks, "{name} is checked for liveness");
        states += report.progress.states;
    }
    assert!(100_000 < states, "{states} states are few");
}
