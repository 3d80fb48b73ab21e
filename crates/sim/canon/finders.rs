//! What looks for the bugs: the checks of this project, the cheapest first.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use jangada_raft::{Configuration, NodeId};
use jangada_sim::application::exactly_once_clients::SessionsScenario;
use jangada_sim::application::store::StoreApplication;
use jangada_sim::checker::{Bounds, Next, Opening, Options, check};
use jangada_sim::faults::FAULTS;
use jangada_sim::run;
use jangada_sim::run::plan::{FaultPlan, Plan};
use jangada_sim::run::scenario::{CoreScenario, Scenario, StoreScenario, TallyScenario};
use jangada_sim::run::seed::Seed;
use jangada_sim::workload::{Workload, WorkloadOptions};

use crate::cluster::machines::{Streamed, Whole};
use crate::harness::schedule::{Random, run_with_joiners as run_schedule};
use crate::store_harness;
use crate::{crash_points, histories, leftovers, operators, rot_points, transfers};

/// How many letters of what a check saw are kept.
const WHAT_MAX: usize = 160;

/// How many simulated microseconds a seed of the full worlds and of the core world lasts.
const WORLD_US: u64 = 10_000_000;

/// How many states the model checker looks at within each of its bounds.
const STATES_MAX: u64 = 200_000;

/// Something that may find a bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Finder {
    /// The consensus module's random schedules.
    Schedule,
    /// The consensus module in its own world, held to the specification.
    Core,
    /// The model checker.
    Checker,
    /// The log's crash points.
    Crashes,
    /// The log's failing syncs.
    Syncs,
    /// The log's rot points.
    Rot,
    /// Old bytes behind the log's end.
    Leftovers,
    /// Chosen histories of one member.
    Histories,
    /// Snapshots sent to a member behind the cut, which dies at any point.
    Transfers,
    /// Chosen histories of the store: its leases and users.
    Chosen,
    /// Watchers of the store alone.
    Watchers,
    /// The store alone, restarted and copied.
    Copies,
    /// The full world with a counter.
    Tally,
    /// The full world with a list within sessions.
    Sessions,
    /// The full world with the store.
    Store,
    /// The same, and everything that the API can be asked.
    Requests,
}

/// Every finder.
pub(crate) const ALL: [Finder; 16] = [
    Finder::Schedule,
    Finder::Core,
    Finder::Checker,
    Finder::Crashes,
    Finder::Syncs,
    Finder::Rot,
    Finder::Leftovers,
    Finder::Histories,
    Finder::Transfers,
    Finder::Chosen,
    Finder::Watchers,
    Finder::Copies,
    Finder::Tally,
    Finder::Sessions,
    Finder::Store,
    Finder::Requests,
];

/// What came of one seed, or of all states of a finder that has no seeds.
pub(crate) enum Try {
    Found {
        tried: u64,
        what: String,
    },
    Nothing {
        tried: u64,
    },
    /// Nothing, and there is nothing else to try.
    Exhausted {
        tried: u64,
    },
}

impl Finder {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Finder::Schedule => "schedule",
            Finder::Core => "core",
            Finder::Checker => "checker",
            Finder::Crashes => "crashes",
            Finder::Syncs => "syncs",
            Finder::Rot => "rot",
            Finder::Leftovers => "leftovers",
            Finder::Histories => "histories",
            Finder::Transfers => "transfers",
            Finder::Chosen => "chosen",
            Finder::Watchers => "watchers",
            Finder::Copies => "copies",
            Finder::Tally => "tally",
            Finder::Sessions => "sessions",
            Finder::Store => "store",
            Finder::Requests => "requests",
        }
    }

    pub(crate) fn of_name(name: &str) -> Option<Finder> {
        ALL.into_iter().find(|finder| finder.name() == name)
    }

    /// What is counted.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Finder::Schedule
            | Finder::Core
            | Finder::Watchers
            | Finder::Copies
            | Finder::Tally
            | Finder::Sessions
            | Finder::Store
            | Finder::Requests => "seeds",
            Finder::Checker
            | Finder::Crashes
            | Finder::Syncs
            | Finder::Rot
            | Finder::Leftovers
            | Finder::Histories
            | Finder::Transfers
            | Finder::Chosen => "states",
        }
    }

    pub(crate) fn has_seeds(self) -> bool {
        self.unit() == "seeds"
    }

    /// Tries the next seed, this being the try of that number from this start; or all states.
    pub(crate) fn try_once(self, start: u64, number: u64) -> Try {
        let seed = start + number;
        match self {
            Finder::Schedule => {
                let (cluster, joiners) = (cluster(seed), joiners(seed));
                let random = Random::of_seed(seed);
                one(seen(|| drop(run_schedule(random, &cluster, joiners, 1_500))))
            }
            Finder::Core => world(&CoreScenario, if seed % 4 == 3 { 5 } else { 3 }, seed),
            Finder::Chosen => all(
                9,
                seen(|| {
                    store_harness::histories::the_engine_waits_for_the_log();
                    store_harness::leases::a_deposed_leader_ends_no_lease();
                    store_harness::leases::a_deleted_key_leaves_its_lease();
                    store_harness::users::what_is_not_permitted_is_refused();
                }),
            ),
            Finder::Watchers => one(seen(|| store_harness::watching::run(seed, true))),
            Finder::Copies => one(seen(|| store_harness::histories::run(seed))),
            Finder::Tally => world(&TallyScenario, if seed % 8 == 7 { 5 } else { 3 }, seed),
            Finder::Sessions => world(&SessionsScenario, 3, seed),
            Finder::Store => world(&StoreScenario, 3, seed),
            Finder::Requests => requests(seed),
            Finder::Checker => within(number),
            Finder::Crashes => {
                let mut tally = crash_points::Tally::default();
                let what = seen(|| {
                    crash_points::short_histories(&mut tally);
                    crash_points::released_segments(&mut tally);
                    crash_points::rotten_histories(&mut tally);
                    crash_points::chosen_histories(&mut tally);
                });
                all(tally.states, what)
            }
            Finder::Syncs => all(
                1,
                seen(|| {
                    assert!(0 < crash_points::failed_syncs(), "a failed sync ends the log's work");
                }),
            ),
            Finder::Rot => {
                let mut states = 0;
                let what = seen(|| {
                    rot_points::lost_votes(&mut states);
                    rot_points::each_lost_sector(&mut states);
                    rot_points::each_way_back(&mut states);
                    rot_points::each_flipped_bit(&mut states);
                });
                all(states, what)
            }
            Finder::Leftovers => {
                let mut states = 0;
                let what = seen(|| leftovers::behind_the_end(&mut states));
                all(states, what)
            }
            Finder::Transfers => all(
                2,
                seen(|| {
                    transfers::catches_up::<Streamed>();
                    transfers::catches_up::<Whole>();
                    transfers::crash_points::<Streamed>();
                }),
            ),
            Finder::Histories => all(
                8,
                seen(|| {
                    histories::an_answer_to_an_earlier_life_runs_no_read();
                    histories::entries_read_for_one_place_are_not_sent_for_another();
                    histories::what_is_durable_may_be_replaced_before_it_is_safe_to_store();
                    histories::what_must_be_held_again_is_named_once_leadership_is_confirmed();
                    operators::a_question_waits_for_a_leader_and_is_put_to_it_once();
                    operators::a_change_is_answered_once_when_it_is_applied_here_too();
                    operators::the_leader_answers_a_peer_when_the_change_is_final_and_lets_who_left_go();
                    operators::of_two_changes_made_out_from_the_same_members_the_later_is_not_made(
                    );
                }),
            ),
        }
    }
}

impl fmt::Display for Finder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Finder::Schedule => "random schedules",
            Finder::Core => "core world",
            Finder::Checker => "model checker",
            Finder::Crashes => "crash points of the log",
            Finder::Syncs => "failing syncs of the log",
            Finder::Rot => "rot points of the log",
            Finder::Leftovers => "old bytes behind the log",
            Finder::Histories => "chosen histories of a member",
            Finder::Transfers => "snapshots to a member",
            Finder::Chosen => "chosen histories of the store",
            Finder::Watchers => "watchers of the store",
            Finder::Copies => "restarts and copies of the store",
            Finder::Tally => "full world, counter",
            Finder::Sessions => "full world, sessions",
            Finder::Store => "full world, store",
            Finder::Requests => "full world, all requests",
        })
    }
}

/// The clusters that schedules run on, one after the other.
fn cluster(seed: u64) -> Configuration {
    let ids = |ids: &[u64]| ids.iter().copied().map(NodeId).collect();
    match seed % 8 {
        0..=2 => Configuration::of_voters((1..=3).map(NodeId)),
        3 | 4 => Configuration::of_voters((1..=5).map(NodeId)),
        5 => Configuration::of_voters([NodeId(1)]),
        6 => Configuration {
            voters: ids(&[1, 2, 3]),
            outgoing: ids(&[3, 4, 5]),
            learners: ids(&[6]),
            ..Configuration::default()
        },
        _ => Configuration {
            voters: ids(&[1, 2, 3]),
            learners: ids(&[4, 5]),
            ..Configuration::default()
        },
    }
}

/// How many members more there are in that cluster, which may join; without any the membership stays.
fn joiners(seed: u64) -> u64 {
    match seed % 8 {
        1 | 2 => 3,
        5 => seed / 8 % 3,
        _ => 0,
    }
}

/// All states within the bounds of this number, up to a limit.
fn within(number: u64) -> Try {
    let base = Bounds::of_voters(3);
    let scopes = [
        // Elections: a crash anywhere, a message lost or doubled.
        Bounds {
            terms_max: 2,
            elections_max: 2,
            crashes_max: 1,
            duplicates_max: 1,
            faults_max: 1,
            ..base.clone()
        },
        // Replication: a leader, another one, entries that part.
        Bounds {
            opening: Opening::Led,
            terms_max: 2,
            elections_max: 1,
            quiets_max: 2,
            heartbeats_max: 1,
            proposals_max: 1,
            crashes_max: 1,
            losses_max: 1,
            faults_max: 1,
            ..base.clone()
        },
        // Reads: a leader that may be deposed while it asks.
        Bounds {
            opening: Opening::Led,
            terms_max: 2,
            elections_max: 1,
            quiets_max: 2,
            heartbeats_max: 1,
            proposals_max: 1,
            reads_max: 2,
            duplicates_max: 1,
            faults_max: 1,
            ..base.clone()
        },
        // A single voter.
        Bounds {
            proposals_max: 2,
            reads_max: 1,
            crashes_max: 1,
            faults_max: 1,
            elections_max: 2,
            terms_max: 2,
            ..Bounds::of_voters(1)
        },
    ];
    let Some(bounds) = scopes.get(number as usize) else { return Try::Exhausted { tried: 0 } };
    let options = Options { states_max: STATES_MAX, ..Options::new(bounds.clone()) };
    match check(&options, |_| Next::Go) {
        Ok(report) => Try::Nothing { tried: report.progress.states },
        Err(found) => {
            Try::Found { tried: found.progress.states, what: brief(&found.violation.to_string()) }
        }
    }
}

/// One seed of the store's world, with clients who ask everything.
fn requests(seed: u64) -> Try {
    let plan = plan(3, seed);
    let mut clients = Workload::new(WorkloadOptions::default());
    let (world, choices) = (plan.world(), plan.seed.choices());
    match run(StoreApplication, world, choices, plan.duration_us, &mut clients) {
        Ok(_) => Try::Nothing { tried: 1 },
        Err(failure) => Try::Found { tried: 1, what: brief(&failure.reason) },
    }
}

/// A run in which anything may go wrong.
fn plan(members: u64, seed: u64) -> Plan {
    Plan {
        seed: Seed::Number(seed),
        members,
        duration_us: WORLD_US,
        faults: FaultPlan::drawn_of(FAULTS.to_vec()),
        ..Plan::default()
    }
}

/// One seed of a world.
fn world(scenario: &dyn Scenario, members: u64, seed: u64) -> Try {
    match scenario.run(&plan(members, seed)) {
        Ok(_) => Try::Nothing { tried: 1 },
        Err(failure) => Try::Found { tried: 1, what: brief(&failure.reason) },
    }
}

/// What a check said when it stopped.
fn seen(check: impl FnOnce()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(check)).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    Some(brief(&text.unwrap_or_else(|| "a panic without a word".to_owned())))
}

fn brief(text: &str) -> String {
    text.chars().take(WHAT_MAX).collect()
}

fn one(what: Option<String>) -> Try {
    what.map_or(Try::Nothing { tried: 1 }, |what| Try::Found { tried: 1, what })
}

fn all(tried: u64, what: Option<String>) -> Try {
    what.map_or(Try::Exhausted { tried }, |what| Try::Found { tried, what })
}
