//! Things measured side by side: alternating runs, medians with their spread, one report.
//!
//! Responsible for what the benchmarks of this project have in common: subjects of one scenario take
//! turns, round after round, so that a machine that is busy for a while is busy for all of them;
//! every figure is a median of rounds with the least and the most beside it; and the round trip of a
//! cache line between two cores ([`cache_line`]) is measured in every round, since on shared machines
//! it changes from minute to minute and with it the price of all that hands work between threads. Not
//! responsible for what is measured: the parts of the project are, in `benches/` beside this, and the
//! library beside its peers in a package of its own, `benches/library` at the root.

mod arguments;
pub mod cache_line;
pub mod cpu;
mod report;
mod spread;
mod suite;

pub use arguments::{Arguments, Output};
pub use report::{Measured, MeasuredFigure, Report};
pub use spread::{Spread, short};
pub use suite::{Figure, Subject, Suite};
