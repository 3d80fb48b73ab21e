//! The model checker: the shipped consensus module, through all interleavings in small bounds.
//!
//! Responsible for walking through every state of a small cluster that a sequence of events can lead
//! to, for checking each, and for telling how a bad one is reached. What runs is
//! [`jangada_raft::Raft`] itself, not a model of it; around it stands a driver that keeps the
//! contract and nothing else (`member.rs`), and a network that may do anything to a message but
//! change it.
//!
//! # What can happen
//!
//! | event | bounded by |
//! |---|---|
//! | a message under way arrives, in any order | it is there |
//! | a message is lost; arrives and stays under way | `losses_max`; `duplicates_max` |
//! | a connection breaks: what is on it is lost, its sender hears of it | `disconnects_max` |
//! | each timer fires, where it has a meaning | one bound for each |
//! | a member is told that a peer seems gone, or is back | `peer_downs_max`, `peer_ups_max` |
//! | a command is proposed to a leader; a read | `proposals_max`, `reads_max` |
//! | any number of a member's writes under way become durable at once, however late | |
//! | a log is cut behind all that the member has applied | `cuts_max` |
//! | a snapshot that a leader was asked for arrives, late, twice or never; it fails | `snapshot_failures_max` |
//! | a log comes back without its last entries, and its member recovers | `rots_max` |
//! | a process ends: any number of its writes under way survive, the rest is lost | `crashes_max` |
//! | it comes back, at any later time | |
//! | an input comes together with the next, without a flush between them | `held_max` |
//!
//! Writes are completed in order, for that is the contract; messages that wait for one leave with its
//! completion. A crash may come before any of it, with all that was sent before still under way.
//!
//! That matters for what leaves a member before its term is durable (`election.rs` of the module):
//! conflicts, answers to heartbeats, and refusals. A follower that learns of a new leader by its
//! append or heartbeat answers at once; it may crash with the write of the term still under way, come
//! back in the old term, and vote or follow there, and its answer arrives at any time before or after
//! that. The scopes "a new leader and a crash" (conflicts, for the new leader holds an entry that
//! others lack) and "reads and a crash" (answers that confirm a read round) walk through all of it.
//!
//! # What is checked
//!
//! After each step, what one member can see (`member.rs`); along each path, what has happened
//! (`history.rs`); in each state, what all can see together (`judge.rs`). From a sample of the states
//! the faults end, and a leader must be elected and all work be done (`liveness.rs`). An assertion of
//! the module that fails is a violation like any other.
//!
//! # How
//!
//! - **Everything is met once.** Member states, messages and histories have numbers; a state of the
//!   cluster is a handful of them. What a turn makes of a member state is remembered, so the module
//!   is stepped once for each member state and event, and the search runs on numbers (`tables.rs`).
//! - **Symmetry.** Members are alike. A state's fingerprint is the least over all renamings that keep
//!   the configuration (`expand.rs`).
//! - **Writes are numbered from the newest durable one**, so that two members which differ by their
//!   past only are one (`Raft::renumber_writes`).
//! - **Breadth first**, in layers, on several threads (`search.rs`). The first violation has one of the
//!   shortest paths; it is told as a scenario script (`script.rs`).
//!
//! The tests hold the search against a plain one without any of this, state for state.

mod bounds;
mod presets;

mod expand;
mod search;
mod tables;

mod acts;
mod history;
mod judge;
mod liveness;
mod member;
mod parcel;
mod violation;

mod script;
mod stage;

mod fingerprint;
mod permutations;

#[cfg(test)]
mod tests;

use jangada_raft::invariants::ClusterInvariant;

pub use bounds::{Bounds, COUNT_MAX, MEMBERS_MAX, Opening};
pub use member::Refinement;
pub use presets::{Preset, Scope, UNCOVERED};
pub use search::{Next, Progress};
pub use tables::Met;
pub use violation::Violation;

use expand::State;
use member::{Ground, Numbering};

use search::{Ended, Reach};
use stage::Stage;
use tables::Tables;

/// What to check, and how far.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much may happen.
    pub bounds: Bounds,
    /// Whether states that differ by a renaming of the members are one.
    pub symmetry: Symmetry,
    /// Whether each step is held against the specification.
    pub refinement: Refinement,
    /// How many threads search, up to 8. With one, the counterexample is the same in every run.
    pub threads: usize,
    /// The search stops when it has found so many states. One takes 30 to 50 bytes, and some more
    /// while it is in the newest two layers.
    pub states_max: u64,
    /// From how many states liveness is checked at most.
    pub liveness_max: u64,
    /// One state in so many is taken for it, by its fingerprint.
    pub liveness_one_in: u64,
    /// Invariants of a cluster to check beside the module's own.
    pub also: &'static [ClusterInvariant],
}

/// Whether states that differ by a renaming of the members are one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Symmetry {
    /// They are.
    Reduced,
    /// They are not: for tests of the reduction.
    Ignored,
}

/// What a search without a violation has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Report {
    /// How far it came.
    pub progress: Progress,
    /// What it met, each thing once.
    pub met: Met,
    /// Whether everything within the bounds was seen.
    pub coverage: Coverage,
}

/// Whether a search has seen everything within its bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Coverage {
    /// It has.
    Exhausted,
    /// It was stopped by `states_max` or by its caller.
    Stopped,
}

/// A violation, and how it comes about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counterexample {
    /// What does not hold.
    pub violation: Violation,
    /// The path to it as a scenario script; see `crates/raft/tests/scripts.rs`.
    pub script: String,
    /// How many events the path has, the opening's not counted.
    pub events: u64,
    /// How far the search was.
    pub progress: Progress,
}

impl Options {
    /// Everything within these bounds, on one thread.
    #[must_use]
    pub fn new(bounds: Bounds) -> Options {
        Options {
            bounds,
            symmetry: Symmetry::Reduced,
            refinement: Refinement::Checked,
            threads: 1,
            states_max: u64::MAX,
            liveness_max: 200,
            liveness_one_in: 97,
            also: &[],
        }
    }
}

impl std::fmt::Display for Counterexample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Counterexample { violation, script, events, progress } = self;
        writeln!(f, "{violation}")?;
        writeln!(f, "after {events} events, {} states seen:\n", progress.states)?;
        write!(f, "{script}")
    }
}

impl std::error::Error for Counterexample {}

/// Walks through everything that can happen within the bounds, and tells the first violation.
///
/// `progress` is asked every few milliseconds whether to go on.
///
/// # Errors
/// The first violation found, with the script that leads to it.
///
/// # Panics
/// If a bound is out of range; see [`COUNT_MAX`] and [`MEMBERS_MAX`].
pub fn check(
    options: &Options,
    progress: impl FnMut(&Progress) -> Next,
) -> Result<Report, Box<Counterexample>> {
    let bounds = &options.bounds;
    let members = bounds.members();
    let ground = Ground::new(bounds, Numbering::Canonical, options.refinement);
    let permutations = match options.symmetry {
        Symmetry::Reduced => permutations::keeping(bounds),
        Symmetry::Ignored => permutations::identity(&members),
    };
    let mut stage = Stage::new(bounds, &ground);
    let opening = stage.open(bounds.opening, &ground);
    let tables = Tables::new(bounds.clone(), ground, permutations);
    let root = State {
        members: stage.members.into_values().map(|member| tables.member(member)).collect(),
        past: tables.past(stage.history),
        ..State::default()
    };
    let reach = Reach {
        threads: options.threads.clamp(1, search::THREADS_MAX),
        states_max: options.states_max,
        liveness_max: options.liveness_max,
        liveness_one_in: options.liveness_one_in.max(1),
        also: options.also,
    };
    let (progress, coverage) = match search::search(&tables, &reach, &root, progress) {
        Ended::Exhausted(progress) => (progress, Coverage::Exhausted),
        Ended::Stopped(progress) => (progress, Coverage::Stopped),
        Ended::Broken { progress, deeds, violation } => {
            let events = deeds.len() as u64;
            let script = script::told(bounds, &opening, &deeds, &violation);
            return Err(Box::new(Counterexample { violation, script, events, progress }));
        }
    };
    Ok(Report { progress, met: tables.met(), coverage })
}
