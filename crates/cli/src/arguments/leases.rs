//! The words of `lease`, `lock` and `elect`.

use std::ffi::OsString;

use clap::{Args, Subcommand};

use super::hexadecimal;

/// The commands of `lease`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Lease {
    #[command(subcommand)]
    pub(crate) command: LeaseCommand,
}

/// What can be done with leases.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum LeaseCommand {
    /// Make a lease; keys put with it go when it is not kept alive.
    #[command(after_help = "\
Example:
  jangada lease grant 60             prints the lease's id
  jangada put worker/7 here --lease 694d8c0cf1e4a2b3")]
    Grant {
        /// Seconds; two at least
        #[arg(allow_negative_numbers = true)]
        ttl: i64,
    },
    /// End a lease and delete its keys.
    #[command(after_help = "\
Example:
  jangada lease revoke 694d8c0cf1e4a2b3")]
    Revoke(LeaseId),
    /// Show how many seconds remain of a lease.
    #[command(
        visible_alias = "time-to-live",
        after_help = "\
Examples:
  jangada lease timetolive 694d8c0cf1e4a2b3
  jangada lease timetolive 694d8c0cf1e4a2b3 --keys

Exit status 1 when there is no such lease."
    )]
    Timetolive {
        #[command(flatten)]
        lease: LeaseId,
        /// Show the keys too
        #[arg(long)]
        keys: bool,
    },
    /// List the leases.
    #[command(after_help = "\
Example:
  jangada lease list")]
    List,
    /// Keep a lease alive until it is interrupted.
    #[command(after_help = "\
Examples:
  jangada lease keep-alive 694d8c0cf1e4a2b3
  jangada lease keep-alive 694d8c0cf1e4a2b3 --once

Exit status 1 when the lease is gone.")]
    KeepAlive {
        #[command(flatten)]
        lease: LeaseId,
        /// Renew it once and end
        #[arg(long)]
        once: bool,
    },
}

/// A lease.
#[derive(Args, Clone, Debug)]
pub(crate) struct LeaseId {
    /// The lease's id, in hexadecimal
    #[arg(value_parser = hexadecimal)]
    pub(crate) id: i64,
}

/// Options of `lock`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Lock {
    /// The lock's name
    pub(crate) name: OsString,
    /// What to run while the lock is held; without it, the lock is held until interrupted
    #[arg(last = true)]
    pub(crate) command: Vec<OsString>,
    /// Seconds after which the lock goes if this program dies
    #[arg(long, default_value_t = 10)]
    pub(crate) ttl: i64,
}

/// Options of `elect`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Elect {
    /// The election's name
    pub(crate) name: OsString,
    /// What the leader proclaims; not with --listen
    #[arg(required_unless_present = "listen", conflicts_with = "listen")]
    pub(crate) proposal: Option<OsString>,
    /// Show who leads instead, and who follows, until interrupted
    #[arg(long, short)]
    pub(crate) listen: bool,
    /// Seconds after which leadership goes if this program dies
    #[arg(long, default_value_t = 10)]
    pub(crate) ttl: i64,
}
