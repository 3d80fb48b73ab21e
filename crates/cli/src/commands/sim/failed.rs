//! A run that does not hold: told as a timeline, made smaller, and written to a file that replays it.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use jangada_sim::run::explore::{Told, dissect, tell};
use jangada_sim::run::regression::Regression;
use jangada_sim::run::scenario::scenario;
use jangada_sim::run::shrink::Attempts;
use jangada_sim::run::sweep::{FailedSeed, Next};
use jangada_sim::{FaultPlan, Plan, Scenario};
use serde_json::{Value, json};

use super::interrupt::Interrupt;
use crate::arguments::{Client, Format, Sweep};
use crate::failure::Failure;
use crate::output;

/// Tells a seed that failed.
pub(super) fn seed(
    client: &Client,
    wish: &Sweep,
    worlds: &[&dyn Scenario],
    failed: &FailedSeed,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let world = worlds.iter().find(|world| world.name() == failed.world);
    let world = world.expect("a seed fails in one of the worlds that were run");
    let bar = progress_bar(wish.shrink);
    let found = dissect(*world, &failed.plan, &failed.failure, wish.shrink, |attempts| {
        bar.set_position(u64::from(attempts.runs));
        bar.set_message(attempts_text(attempts));
        if interrupt.is_pressed() { Next::Stop } else { Next::Seed }
    });
    bar.finish_and_clear();
    let regression = found.smallest.regression();
    let file =
        wish.save.clone().unwrap_or_else(|| format!("{}.regression", regression.name).into());
    std::fs::write(&file, regression.to_string()).map_err(|error| {
        Failure::Failed(format!("{} cannot be written: {error}", file.display()))
    })?;
    let report = Report {
        told: &found.smallest,
        first: &found.first,
        seeds: failed.before.seeds,
        runs: found.runs,
        file: &file,
    };
    match client.output.unwrap_or(Format::Simple) {
        Format::Json => output::print_json(&report.json())?,
        Format::Simple | Format::Table => {
            let mut out = io::stdout().lock();
            writeln!(out, "{}", report.text(wish.trace, out.is_terminal()))?;
        }
    }
    Err(Failure::Failed(format!("{failed}")))
}

/// Runs a file that was written for a failed run.
pub(super) fn replay(client: &Client, wish: &Sweep, file: &Path) -> Result<(), Failure> {
    let unreadable = |error: String| Failure::Failed(format!("{}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| unreadable(error.to_string()))?;
    let regression: Regression = text.parse().map_err(unreadable)?;
    let Some(world) = scenario(&regression.world) else {
        return Err(unreadable(format!(
            "there is no world {:?} here; a state machine of your own is replayed by its own program",
            regression.world
        )));
    };
    let told =
        world.run(&regression.plan).err().map(|failure| tell(world, &regression.plan, &failure));
    if client.output == Some(Format::Json) {
        let violated = told.as_ref().map(|told| told.failure.invariant.clone());
        output::print_json(&json!({
            "name": regression.name,
            "holds": told.is_none(),
            "violated": violated,
            "violated_once": regression.violated,
        }))?;
    }
    let Some(told) = told else {
        if client.output != Some(Format::Json) {
            let Regression { name, violated, .. } = &regression;
            writeln!(io::stdout(), "{name} holds; once it did not: {violated}")?;
        }
        return Ok(());
    };
    if client.output != Some(Format::Json) {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", story(&told, wish.trace, out.is_terminal()))?;
    }
    Err(Failure::Failed(format!("{} does not hold: {}", regression.name, told.failure.invariant)))
}

/// A failed seed with what became of it.
struct Report<'a> {
    told: &'a Told,
    first: &'a Told,
    seeds: u64,
    runs: u32,
    file: &'a Path,
}

impl Report<'_> {
    fn text(&self, events: usize, colours: bool) -> String {
        let (before, after) = (self.first.failure.faults.total(), self.told.failure.faults.total());
        let (first, small) = (seconds(self.first), seconds(self.told));
        let mut text = story(self.told, events, colours);
        text.push('\n');
        let file = self.file.display();
        let mut line = |line: String| writeln!(text, "{line}").expect("text grows");
        line(String::new());
        line(format!("{} seeds held before it.", self.seeds));
        if 0 < self.runs {
            line(format!(
                "Made smaller in {} runs: from {before} faults in {first} s to {after} in {small} s.",
                self.runs
            ));
        }
        line(format!("The run above:    jangada sim --replay {file}"));
        line(format!("As it was found:  {}", command(self.first)));
        text.truncate(text.trim_end().len());
        text
    }

    fn json(&self) -> Value {
        let failure = &self.told.failure;
        json!({
            "seeds_before": self.seeds,
            "seed": self.first.plan.seed.to_string(),
            "world": self.told.world,
            "violated": failure.invariant,
            "reason": failure.reason,
            "simulated_seconds": failure.simulated_us as f64 / 1e6,
            "timeline": failure.timeline.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "runs": self.runs,
            "replay": command(self.first),
            "file": self.file.display().to_string(),
        })
    }
}

fn seconds(told: &Told) -> f64 {
    told.plan.duration_us as f64 / 1e6
}

/// The timeline with the last raw events before it, if any are wanted.
fn story(told: &Told, events: usize, colours: bool) -> String {
    let lines = &told.failure.lines;
    let mut text = String::new();
    for line in &lines[lines.len().saturating_sub(events)..] {
        writeln!(text, "{line}").expect("text grows");
    }
    let said = told.to_string();
    if colours {
        text.push_str(&said.replace(&told.failure.reason, &red(&told.failure.reason)));
    } else {
        text.push_str(&said);
    }
    text
}

fn red(text: &str) -> String {
    format!("\u{1b}[1;31m{text}\u{1b}[0m")
}

/// The command that does the same again.
fn command(told: &Told) -> String {
    let Plan { seed, members, clients, duration_us, faults, .. } = &told.plan;
    let seconds = duration_us / 1_000_000;
    let mut command = format!(
        "jangada sim --seed {seed} --seeds 1 --world {} --members {members} --seconds {seconds}",
        told.world
    );
    if let Some(clients) = clients {
        command.push_str(&format!(" --clients {clients}"));
    }
    if *faults != FaultPlan::all() {
        command.push_str(&format!(" --faults {faults}"));
    }
    command
}

fn attempts_text(attempts: &Attempts) -> String {
    let Attempts { smaller, plan, .. } = attempts;
    let seconds = plan.duration_us as f64 / 1e6;
    format!("making it smaller: {smaller} times, {} members, {seconds:.1} s", plan.members)
}

fn progress_bar(runs_max: u32) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:24} {pos:>4} runs  {msg}")
        .expect("the template is a constant");
    ProgressBar::new(u64::from(runs_max)).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command};
    use clap::Parser;
    use jangada::{Frame, Outcome, StateMachine};
    use jangada_sim::{Simulation, SweepOptions, sweep};

    struct Nothing;

    impl StateMachine for Nothing {
        type Reply = ();

        fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<()>>) {
            outcomes.extend(commands.iter().map(|_| Outcome { reply: (), digest: 0 }));
        }
    }

    #[test]
    fn a_failed_seed_is_told_made_smaller_and_written_down() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("found.regression");
        let simulation = Simulation::new("elsewhere", || Nothing, |_, _| vec![7])
            .check("pigs fly", |_, _| Err("they walk".to_owned()));
        let words = ["jangada", "sim", "--shrink", "20", "--save"];
        let arguments = Arguments::try_parse_from(
            words.iter().map(ToString::to_string).chain([file.display().to_string()]),
        )
        .expect("a good line");
        let Command::Sim(sim) = arguments.command else { panic!("another command") };
        let plan = Plan { duration_us: 1_000_000, ..Plan::default() };
        let worlds: Vec<&dyn Scenario> = vec![&simulation];
        let options = SweepOptions { plan, worlds: worlds.clone(), ..SweepOptions::default() };
        let failed = sweep(&options, |_| Next::Seed).expect_err("pigs do not fly");
        let interrupt = Interrupt::default();
        let said = seed(&arguments.client, &sim.sweep, &worlds, &failed, &interrupt);
        let said = said.expect_err("it failed").to_string();
        assert!(said.contains("pigs fly is violated"), "{said}");
        let text = std::fs::read_to_string(&file).expect("it was written");
        let regression: Regression = text.parse().expect("as it is read");
        assert_eq!((regression.violated.as_str(), regression.plan.members), ("pigs fly", 1));
    }

    #[test]
    fn a_report_has_the_timeline_the_reason_and_both_commands() {
        let simulation = Simulation::new("elsewhere", || Nothing, |_, _| vec![7])
            .check("pigs fly", |_, _| Err("they walk".to_owned()));
        let faults: FaultPlan = "paused,power-lost=0.01".parse().expect("known faults");
        let plan = Plan { duration_us: 1_000_000, members: 1, faults, ..Plan::default() };
        let failure = simulation.run(&plan).expect_err("pigs do not fly");
        let told = tell(&simulation, &plan, &failure);
        let file = Path::new("a.regression");
        let report = Report { told: &told, first: &told, seeds: 3, runs: 0, file };
        let text = report.text(5, true);
        for part in [
            "becomes leader of term",
            "\u{1b}[1;31mpigs fly is violated",
            "3 seeds held before it",
            "jangada sim --replay a.regression",
            "jangada sim --seed 0 --seeds 1 --world elsewhere --members 1 --seconds 1 \
             --faults paused,power-lost=0.01",
        ] {
            assert!(text.contains(part), "{part:?} is missing in:\n{text}");
        }
        assert!(!report.text(0, false).contains('\u{1b}'));
        assert_eq!(report.json()["violated"], "pigs fly");
    }
}
