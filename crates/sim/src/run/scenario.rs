//! The worlds that a plan can be run in: a state machine, its clients, and who judges them.

use crate::application::store::StoreApplication;
use crate::application::store_clients::{StoreClients, StoreLoad};
use crate::application::tally::TallyApplication;
use crate::application::tally_clients::TallyClients;
use crate::core_world::{self, CoreOptions};
use crate::run::plan::Plan;
use crate::run::{Clients, Failure, Report, run};
use crate::workload::{Coverage, Workload, WorkloadOptions};

/// How many clients the tally has.
const TALLY_CLIENTS: u64 = 6;

/// What came of a run that held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// What happened.
    pub report: Report,
    /// How many requests were answered.
    pub requests: u64,
    /// What was asked through the API and what came of it; empty for worlds without an API.
    pub coverage: Coverage,
}

/// A world that runs plans.
pub trait Scenario: Sync {
    /// The world's name: one word, by which a run can be replayed.
    fn name(&self) -> &'static str;

    /// What is replicated, as a sentence.
    fn about(&self) -> &'static str;

    /// Runs a plan.
    ///
    /// # Errors
    /// The first thing that does not hold.
    fn run(&self, plan: &Plan) -> Result<Held, Box<Failure>>;
}

/// The store that ships, asked through the server's request handling; a model judges every answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreScenario;

/// The store that ships, asked without the API; every history is judged by its revisions.
#[derive(Clone, Copy, Debug, Default)]
pub struct HistoryScenario;

/// The tally, which keeps nothing durable beside the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct TallyScenario;

/// The consensus module alone, each step held to the specification.
#[derive(Clone, Copy, Debug, Default)]
pub struct CoreScenario;

/// Every world of this crate.
pub const SCENARIOS: [&dyn Scenario; 4] =
    [&StoreScenario, &HistoryScenario, &TallyScenario, &CoreScenario];

/// How many members the core world has beside its first voters: with three of those, any majority of
/// them may be replaced.
const CORE_JOINERS: u64 = 2;

/// How many changes of the membership are asked for in a minute of the core world: there is time for
/// most of them to be finished.
const CORE_CHANGES_PER_MINUTE: u64 = 30;

/// How often leadership is to be handed over in a minute of the core world.
const CORE_TRANSFERS_PER_MINUTE: u64 = 20;

/// The world of this name.
#[must_use]
pub fn scenario(name: &str) -> Option<&'static dyn Scenario> {
    SCENARIOS.into_iter().find(|scenario| scenario.name() == name)
}

impl Scenario for StoreScenario {
    fn name(&self) -> &'static str {
        "store"
    }

    fn about(&self) -> &'static str {
        "the key-value store with its engine and API; a model judges every answer"
    }

    fn run(&self, plan: &Plan) -> Result<Held, Box<Failure>> {
        let options = WorkloadOptions::default();
        let clients = plan.clients.unwrap_or(options.clients);
        let mut workload = Workload::new(WorkloadOptions { clients, ..options });
        let (world, choices) = (plan.world(), plan.seed.choices());
        let report = run(StoreApplication, world, choices, plan.duration_us, &mut workload)?;
        let (requests, coverage) = (workload.requests(), workload.coverage().clone());
        Ok(Held { report, requests, coverage })
    }
}

impl Scenario for HistoryScenario {
    fn name(&self) -> &'static str {
        "history"
    }

    fn about(&self) -> &'static str {
        "the key-value store without its API; every history is judged by its revisions"
    }

    fn run(&self, plan: &Plan) -> Result<Held, Box<Failure>> {
        let load = StoreLoad::default();
        let load = StoreLoad { clients: plan.clients.unwrap_or(load.clients), ..load };
        held(StoreApplication, plan, StoreClients::new(load))
    }
}

impl Scenario for TallyScenario {
    fn name(&self) -> &'static str {
        "tally"
    }

    fn about(&self) -> &'static str {
        "a counter that keeps nothing but its log"
    }

    fn run(&self, plan: &Plan) -> Result<Held, Box<Failure>> {
        let clients = TallyClients::new(plan.clients.unwrap_or(TALLY_CLIENTS));
        held(TallyApplication, plan, clients)
    }
}

impl Scenario for CoreScenario {
    fn name(&self) -> &'static str {
        "core"
    }

    fn about(&self) -> &'static str {
        "the consensus module alone; each step is held to the specification"
    }

    /// There are no clients but one source of proposals, so the plan's number of clients is not used.
    fn run(&self, plan: &Plan) -> Result<Held, Box<Failure>> {
        // With changes of the membership in one half of the runs, and rotten logs in the other.
        let mut choices = plan.seed.choices();
        let changes = choices.below(2);
        let options = CoreOptions {
            members: plan.members,
            joiners: changes * CORE_JOINERS,
            changes_per_minute: changes * CORE_CHANGES_PER_MINUTE,
            transfers_per_minute: CORE_TRANSFERS_PER_MINUTE,
            rates: plan.rates(),
            suppressed: plan.suppressed.clone(),
            lines_max: plan.lines_max,
            ..CoreOptions::default()
        };
        let report = core_world::run(options, choices, plan.duration_us)?;
        Ok(Held {
            requests: report.acknowledged + report.reads,
            coverage: Coverage::default(),
            report: Report {
                trace_hash: report.trace_hash,
                events: report.events,
                simulated_us: report.simulated_us,
                commands: report.acknowledged as usize,
                faults: report.faults,
                ..Report::default()
            },
        })
    }
}

/// Runs a plan with clients.
pub(crate) fn held<A: crate::Application>(
    application: A,
    plan: &Plan,
    mut clients: impl Clients<A>,
) -> Result<Held, Box<Failure>> {
    let (world, choices) = (plan.world(), plan.seed.choices());
    let report = run(application, world, choices, plan.duration_us, &mut clients)?;
    Ok(Held { report, requests: clients.requests(), coverage: Coverage::default() })
}
