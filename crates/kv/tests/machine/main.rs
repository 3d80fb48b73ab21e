//! The state machine through its public border: against a naive model, rule by rule, and with its
//! engine.

mod against_model;
mod rules;
mod slices;

mod engine;
mod snapshot;

mod disk;
mod model;
