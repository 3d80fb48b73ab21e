//! What several benchmarks measure.

pub(crate) mod leader;
