//! One run from one seed: the world, its clients, the calm at the end, and the report. Below it, what
//! makes many of them: plans, sweeps over seeds, and what becomes of a run that failed.

pub mod explore;
pub mod plan;
pub mod regression;
pub mod scenario;
pub mod seed;
pub mod shrink;
pub mod sweep;
pub mod timeline;
pub mod trace;

pub(crate) mod panics;

use crate::application::Application;
use crate::bounds::Bounds;
use crate::choices::Choices;
use crate::disk::ledger::RotCounts;
use crate::faults::FaultCounts;
use crate::invariants::Violation;
use crate::run::panics::caught;
use crate::run::timeline::Line;
use crate::world::operator::Deeds;
use crate::world::{World, WorldOptions};

/// How long the members have to settle once nothing goes wrong any more, in microseconds: until the last
/// of them has started again, ten election timeouts for a leader, and as much again to replay their
/// logs and finish what is under way.
const SETTLE_US: u64 = 30_000_000;

/// The clients of a run: what they ask, and what they make of the answers.
pub trait Clients<A: Application> {
    /// Called before anything happens.
    fn begin(&mut self, world: &mut World<A>);

    /// Called after every event. Takes [`World::happened`] until it is empty.
    ///
    /// # Errors
    /// An answer that must not be.
    fn turn(&mut self, world: &mut World<A>) -> Result<(), Violation>;

    /// Whether the clients have had enough before the time is up.
    fn have_enough(&self) -> bool {
        false
    }

    /// Faults have stopped; nothing new is to be asked.
    fn finish(&mut self);

    /// Whether no client waits for an answer.
    fn is_idle(&self) -> bool;

    /// Called when all members have settled: looks at the whole.
    ///
    /// # Errors
    /// What does not fit.
    fn judge(&mut self, world: &mut World<A>) -> Result<(), Violation>;

    /// How many requests were answered.
    fn requests(&self) -> u64;
}

/// What came of a run that held.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// The hash over everything that happened.
    pub trace_hash: u64,
    /// How many events and effects there were.
    pub events: u64,
    /// The simulated time, in microseconds.
    pub simulated_us: u64,
    /// How many commands were applied.
    pub commands: usize,
    /// What went wrong, how often.
    pub faults: FaultCounts,
    /// What became of damage to members' files.
    pub rot: RotCounts,
    /// What queues, windows and buffers held at most.
    pub bounds: Bounds,
    /// How the run came to rest.
    pub rest: Rest,
    /// What came of what operators asked, and of what members do about their disks.
    pub deeds: Deeds,
}

/// How a run came to rest once faults had stopped, as its slowest member did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rest {
    /// How many members stayed cut off or down.
    pub left_out: usize,
    /// How long it took until there was a leader, in microseconds.
    pub leader_after_us: u64,
    /// How long it took until all pending work was done and the members had converged, in
    /// microseconds.
    pub settled_after_us: u64,
}

impl std::fmt::Display for Rest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let timeout_us = jangada::Options::default().election_timeout_us as f64;
        let (leader, settled) = (self.leader_after_us as f64, self.settled_after_us as f64);
        write!(
            f,
            "a leader within {:.1} election timeouts, all work done within {:.1}; {} members stayed \
             cut off or down",
            leader / timeout_us,
            settled / timeout_us,
            self.left_out
        )
    }
}

impl Rest {
    /// The slower of two, and the sum of who was left out.
    #[must_use]
    pub fn and(self, other: Rest) -> Rest {
        Rest {
            left_out: self.left_out + other.left_out,
            leader_after_us: self.leader_after_us.max(other.leader_after_us),
            settled_after_us: self.settled_after_us.max(other.settled_after_us),
        }
    }
}

/// What came of a run that did not hold.
#[derive(Clone, Debug, Default)]
pub struct Failure {
    /// The invariant that does not hold; for a part under test that stopped, where it did.
    pub invariant: String,
    /// What does not hold, or what a part under test said when it stopped.
    pub reason: String,
    /// When, in simulated microseconds.
    pub simulated_us: u64,
    /// How the members stood.
    pub members: String,
    /// What happened, in words; empty unless lines are kept.
    pub timeline: Vec<Line>,
    /// The newest lines of the trace.
    pub lines: Vec<String>,
    /// What had gone wrong until then.
    pub faults: FaultCounts,
    /// How many occurrences of each fault were drawn, those left out among them.
    pub struck: FaultCounts,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "after {} simulated microseconds: {}", self.simulated_us, self.reason)?;
        writeln!(f, "faults: {}", self.faults)?;
        write!(f, "{}", self.members)
    }
}

impl std::error::Error for Failure {}

fn seen(invariant: &'static str, seen: String) -> Violation {
    Violation { invariant, seen }
}

/// Runs a world for a while with faults, then without until it has settled.
///
/// # Errors
/// The first thing that does not hold. A panic of a part under test is one.
pub fn run<A: Application>(
    application: A,
    options: WorldOptions,
    choices: Choices,
    duration_us: u64,
    clients: &mut impl Clients<A>,
) -> Result<Report, Box<Failure>> {
    let mut world = World::new(application, options, choices);
    let result = caught(|| drive(&mut world, duration_us, clients));
    let (invariant, reason) = match result {
        Ok(Ok(rest)) => {
            return Ok(Report {
                trace_hash: world.trace().hash(),
                events: world.trace().events(),
                simulated_us: world.now_us(),
                commands: world.invariants().commands(),
                faults: world.counts().clone(),
                rot: world.rot(),
                bounds: world.bounds().clone(),
                rest,
                deeds: world.deeds(),
            });
        }
        Ok(Err(violation)) => (violation.invariant.to_owned(), violation.to_string()),
        Err(panic) => {
            let invariant = format!("the assertion at {}", panic.place);
            let reason = format!("a part stopped at {}: {}", panic.place, panic.said);
            (invariant, reason)
        }
    };
    Err(Box::new(Failure {
        invariant,
        reason,
        simulated_us: world.now_us(),
        members: world.describe(),
        timeline: world.timeline().lines(),
        lines: world.trace().lines(),
        faults: world.counts().clone(),
        struck: world.struck().clone(),
    }))
}

fn drive<A: Application>(
    world: &mut World<A>,
    duration_us: u64,
    clients: &mut impl Clients<A>,
) -> Result<Rest, Violation> {
    clients.begin(world);
    while !clients.have_enough() && world.advance(duration_us)? {
        clients.turn(world)?;
    }
    world.calm();
    clients.finish();
    let calm_us = world.now_us();
    let end_us = calm_us + SETTLE_US;
    while world.advance(end_us)? {
        clients.turn(world)?;
        world.look_for_leader()?;
        let Some(leader_after_us) = world.leader_after_us() else { continue };
        if clients.is_idle() && world.has_settled() {
            clients.judge(world)?;
            let settled_after_us = world.now_us() - calm_us;
            return Ok(Rest { left_out: world.left_out(), leader_after_us, settled_after_us });
        }
    }
    Err(seen(
        "once faults stop, all pending work finishes",
        format!(
            "after {SETTLE_US} us without faults; clients idle: {}; members:\n{}",
            clients.is_idle(),
            world.describe()
        ),
    ))
}
