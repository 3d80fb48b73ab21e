//! The messages and services of the etcd v3 API, generated from `proto/*.proto`.
//!
//! Responsible for the wire alone. Nothing here decides anything, and no other part of the project
//! sees these types: they are turned into those of [`jangada_kv`] at this edge.
//!
//! The files beside this one are generated and committed, so that a build needs no generator. The
//! test `tests/generated.rs` makes them again and compares; with `JANGADA_REWRITE=1` it writes them.

/// Keys, values, leases, members, users: the API itself.
#[rustfmt::skip]
#[allow(clippy::all)]
pub mod etcdserverpb;

/// The stored key and the event of its change.
#[rustfmt::skip]
#[allow(clippy::all)]
pub mod mvccpb;

/// Users, roles and permissions.
#[rustfmt::skip]
#[allow(clippy::all)]
pub mod authpb;

/// The lock service.
#[rustfmt::skip]
#[allow(clippy::all)]
pub mod v3lockpb;

/// The election service.
#[rustfmt::skip]
#[allow(clippy::all)]
pub mod v3electionpb;

/// The standard health service of gRPC.
#[rustfmt::skip]
#[allow(clippy::all)]
#[path = "grpc.health.v1.rs"]
pub mod health;
