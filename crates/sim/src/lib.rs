//! The proof: the code that ships, on simulated disks, a simulated network and a simulated clock,
//! with everything going wrong that can, and every history checked.
//!
//! One seed, a byte string, decides everything ([`choices`]); the same seed run twice leaves the
//! same trace hash ([`trace`](run::trace)). The parts under test are never changed for it: the log gets its
//! files through [`jangada_wal::Disk`] ([`disk`]), the engine through its storage backend
//! ([`engine_file`](disk::engine_file)), both by the same rules of damage; members are stepped by the [`world`] as a
//! runtime steps them, and speak over the simulated network ([`net`](world::net)). What goes wrong has names and
//! counters ([`faults`]); what must hold has names, too ([`invariants`]).
//!
//! A [`Plan`] is one run: seed, members, time, faults. A [`Scenario`] runs plans in its world: the
//! store that ships, a tally, the consensus module alone ([`scenario`](run::scenario)), or a state machine of your
//! own ([`Simulation`]). [`sweep()`] runs seed after seed on several threads; [`explore()`] also tells
//! the first that fails as a timeline ([`timeline`](run::timeline)), makes it smaller ([`shrink`](run::shrink)) and gives the file
//! that replays it ([`regression`](run::regression)). Below all that, [`run()`] is one run of an [`Application`] and its
//! [`Clients`]: a while with faults, then calm until all work is finished.
//!
//! The consensus module has two worlds of its own: the [`checker`] walks through all its
//! interleavings in small bounds, and the [`core_world`] runs it alone, fast, for long. Both hold each
//! step against the [`specification`].
//!
//! # Your own state machine
//!
//! ```
//! use jangada::{Frame, Outcome, StateMachine};
//! use jangada_sim::{Plan, Simulation, SweepOptions, explore};
//!
//! #[derive(Default)]
//! struct Counter(u64);
//!
//! impl StateMachine for Counter {
//!     type Reply = u64;
//!     fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<u64>>) {
//!         for _ in commands {
//!             self.0 += 1;
//!             outcomes.push(Outcome { reply: self.0, digest: self.0 });
//!         }
//!     }
//! }
//!
//! let simulation = Simulation::new("counter", Counter::default, |_, _| b"add".to_vec())
//!     .check("no acknowledged command is lost", |counter, sent| {
//!         let acknowledged = sent.acknowledged.len() as u64;
//!         if acknowledged <= counter.0 { Ok(()) } else { Err(format!("only {}", counter.0)) }
//!     });
//! let plan = Plan { duration_us: 1_000_000, ..Plan::default() };
//! let worlds: Vec<&dyn jangada_sim::Scenario> = vec![&simulation];
//! let held = explore(&SweepOptions { plan, worlds, seeds_max: 2, ..SweepOptions::default() });
//! assert_eq!(held.map_err(|found| found.to_string()).map(|held| held.seeds), Ok(2));
//! ```

pub mod application;
pub mod bounds;
pub mod checker;
pub mod choices;
pub mod core_world;
pub mod disk;
pub mod faults;
pub mod history;
pub mod invariants;
pub mod linearizability;
pub mod run;
pub mod specification;
pub mod workload;
pub mod world;

pub use application::Application;
pub use application::simulation::{Sent, Simulation};
pub use bounds::Bounds;
pub use choices::Choices;
pub use disk::engine_file::EngineFile;
pub use disk::ledger::{Ledger, RotCounts};
pub use disk::sectors::SECTOR_BYTES;
pub use disk::{DiskHandle, Moment, SimDisk, SimFile};
pub use faults::{Fault, FaultCounts, FaultRates};
pub use run::explore::{Found, explore};
pub use run::plan::{FaultPlan, Plan};
pub use run::scenario::{Held, Scenario};
pub use run::seed::Seed;
pub use run::sweep::{SweepOptions, sweep};
pub use run::trace::Trace;
pub use run::{Clients, Failure, Report, Rest, run};
pub use world::operator::Deeds;
pub use world::topology::Topology;
pub use world::{World, WorldOptions};
