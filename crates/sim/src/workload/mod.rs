//! The workload: clients who ask all that the API can be asked, and who check every answer.
//!
//! A request begins as a decoded message and goes the way it goes in the server: its bytes are
//! decoded by the server's code, checked, turned into a command or a read, proposed through the
//! shipped handle, and the answer's bytes come back the same way. Only sockets and HTTP are left
//! out, and the clock is the simulator's.
//!
//! | part | responsible for |
//! |---|---|
//! | [`request`] | what can be asked |
//! | [`grammar`] | asking it, from [`Choices`](crate::Choices) |
//! | [`service`] | the server's side of every process, polled by hand |
//! | [`model`] | what the store should answer: a second store, as plain as can be |
//! | [`oracle`] | comparing, as soon as an answer is there |
//! | [`coverage`] | what was asked of whom while what went wrong, and what came of it |
//! | [`events`] | what watchers should be told |
//! | [`watchers`] | who watches, from where on, and where next when a stream is lost |
//! | [`watch_judge`] | comparing what they are told with what they should be |
//! | [`keepers`] | who keeps leases alive, and asks how much remains of them |
//! | [`lease_judge`] | whether leases live as long as was promised, and no longer than they may |
//! | [`users`] | users as they should be: who may do what |
//! | [`clients`] | who asks, when, and what they do without an answer |

pub mod clients;
pub mod coverage;
pub mod events;
pub mod grammar;
pub mod keepers;
pub mod lease_judge;
pub mod model;
pub mod oracle;
pub mod request;
pub mod rules;
pub mod service;
pub mod users;
pub mod watch_judge;
pub mod watchers;

pub use clients::{Workload, WorkloadOptions};
pub use coverage::Coverage;
