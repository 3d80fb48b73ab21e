//! The state machine through its public border: against a naive model, rule by rule, and with its
//! engine.

#[path = "../harness/mod.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod harness;

mod against_model;
mod auth;
mod auth_checks;
mod leases;
mod rules;
mod slices;

mod engine;
mod snapshot;

mod model;

mod scrub;

mod watch;
