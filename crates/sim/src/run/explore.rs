//! From a seed that fails to something that a person can work with: the run again with its timeline,
//! a smaller run that fails in the same way, and the file that replays it.

use std::fmt::{self, Write};

use crate::run::Failure;
use crate::run::plan::Plan;
use crate::run::regression::Regression;
use crate::run::scenario::Scenario;
use crate::run::shrink::{Attempts, shrink};
use crate::run::sweep::{FailedSeed, Next, Progress, SweepOptions, sweep};

/// How many raw events of a failed run are kept.
pub const EVENTS_MAX: usize = 10_000;

/// How many lines of a timeline are shown: what fits two screens.
pub const TIMELINE_LINES_MAX: usize = 80;

/// How many runs are tried to make a failing one smaller.
pub const SHRINK_RUNS_MAX: u32 = 400;

/// A run that fails, told in full.
#[derive(Clone, Debug)]
pub struct Told {
    /// The name of the world.
    pub world: String,
    /// The run.
    pub plan: Plan,
    /// How it fails, with its timeline and its last events.
    pub failure: Box<Failure>,
}

/// A failing seed, and the smallest run that fails as it does.
#[derive(Clone, Debug)]
pub struct Found {
    /// The run as the seed decides it.
    pub first: Told,
    /// The smallest run that was found.
    pub smallest: Told,
    /// How many runs were tried for it.
    pub runs: u32,
}

/// Runs a failing plan once more, with its timeline.
///
/// A run that does not fail again, or in another way, has read something that its seed does not
/// decide: a clock, a hash map's order, another thread. Then that is what is told.
#[must_use]
pub fn tell(world: &dyn Scenario, plan: &Plan, failure: &Failure) -> Told {
    let told = Plan { lines_max: EVENTS_MAX, ..plan.clone() };
    let failure = match world.run(&told) {
        Err(again) if again.invariant == failure.invariant => again,
        other => {
            let again = match other {
                Ok(_) => "holds".to_owned(),
                Err(again) => format!("fails otherwise: {}", again.reason),
            };
            let invariant = "the same seed does the same twice".to_owned();
            let reason = format!(
                "{invariant} is violated: run again, the seed {again}. Something in it is not \
                 decided by the seed. The first time it was: {}",
                failure.reason
            );
            Box::new(Failure { invariant, reason, ..failure.clone() })
        }
    };
    Told { world: world.name().to_owned(), plan: plan.clone(), failure }
}

/// Tells a failing run and makes it smaller.
pub fn dissect(
    world: &dyn Scenario,
    plan: &Plan,
    failure: &Failure,
    runs_max: u32,
    progress: impl FnMut(&Attempts) -> Next,
) -> Found {
    let first = tell(world, plan, failure);
    let small = shrink(world, plan, &first.failure, runs_max, progress);
    let smallest = tell(world, &small.plan, &small.failure);
    Found { first, smallest, runs: small.runs }
}

/// Runs seed after seed; the first that fails is told and made smaller.
///
/// # Errors
/// The first seed that does not hold.
pub fn explore(options: &SweepOptions<'_>) -> Result<Progress, Box<Found>> {
    sweep(options, |_| Next::Seed).map_err(|failed| {
        let FailedSeed { world, plan, failure, .. } = *failed;
        let world = options.worlds.iter().copied().find(|known| known.name() == world);
        let world = world.expect("a seed fails in one of the worlds");
        Box::new(dissect(world, &plan, &failure, SHRINK_RUNS_MAX, |_| Next::Seed))
    })
}

impl Told {
    /// The file that replays the run.
    #[must_use]
    pub fn regression(&self) -> Regression {
        let name = format!("{}-{}", self.world, short(&self.plan.seed.to_string()));
        Regression::new(name, &self.world, &self.plan, &self.failure.invariant)
    }

    /// The newest lines of the timeline, and what did not hold.
    #[must_use]
    pub fn story(&self) -> String {
        let failure = &self.failure;
        let mut text = String::new();
        // The world of the consensus module alone has no timeline; its raw events are few.
        let lines: Vec<String> = match failure.timeline.is_empty() {
            false => failure.timeline.iter().map(ToString::to_string).collect(),
            true => failure.lines.clone(),
        };
        let hidden = lines.len().saturating_sub(TIMELINE_LINES_MAX);
        if 0 < hidden {
            writeln!(text, "  ... {hidden} lines before").expect("text grows");
        }
        for line in &lines[hidden..] {
            writeln!(text, "{line}").expect("text grows");
        }
        let seconds = failure.simulated_us as f64 / 1e6;
        write!(text, "{seconds:>10.6} s  {}", failure.reason).expect("text grows");
        text
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Told { world, plan, .. } = self;
        let seconds = plan.duration_us as f64 / 1e6;
        writeln!(f, "world {world}, seed {}, {} members, {seconds} s", plan.seed, plan.members)?;
        writeln!(f, "{}", self.story())?;
        write!(f, "faults: {}", self.failure.faults)
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, small) = (&self.first.failure, &self.smallest.failure);
        writeln!(f, "seed {} fails: {}", self.first.plan.seed, first.reason)?;
        let (before, after) = (first.faults.total(), small.faults.total());
        writeln!(f, "made smaller in {} runs, from {before} faults to {after}:", self.runs)?;
        writeln!(f, "\n{}\n", self.smallest)?;
        write!(f, "the run as a file:\n{}", self.smallest.regression())
    }
}

impl std::error::Error for Found {}

/// A text that can stand in a file's name.
fn short(text: &str) -> &str {
    &text[..text.len().min(20)]
}
