//! A load generator for any etcd v3 server, and the floors to print beside its figures.
//!
//! Responsible for measuring: [`load`] drives puts and gets, [`failover`] measures the time
//! without an acknowledged write after a leader is killed and checks that none is lost, [`watch`]
//! counts what reaches watchers while clients write, [`connections`] and [`leases`] tell what very many of
//! them cost, [`floor`] measures what the machine itself can do, [`process`] reads what the servers used. Not
//! responsible for starting servers or for printing.
//!
//! The generator shares the machine with the servers it measures, so it is built to be cheap: one
//! current-thread runtime, requests straight into HTTP/2 connections, no timer for each request.
//! It speaks to a real etcd as well as to this project's server, so that both can be measured in
//! one run.

pub mod cluster_file;
mod connection;
pub mod connections;
mod error;
pub mod failover;
pub mod floor;
pub mod floor_put;
mod http2;
mod latency;
pub mod leases;
pub mod load;
mod operation;
mod pace;
pub mod process;
mod runtime;
pub mod status;
pub mod watch;
mod writers;

pub use connection::Access;
pub use error::BenchError;
pub use latency::{Latency, Recorder};
