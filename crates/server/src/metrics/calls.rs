//! Counts of gRPC calls, under the names of the Go interceptors that etcd uses.
//!
//! Every method of the API is listed from the start with zeros, so that a rate over a scrape that
//! has seen no call yet is a zero and not a gap.

use tonic::Code;

use super::exposition::{Exposition, Kind};
use super::value::Counter;
use crate::grpc::methods::{METHODS, Method};

/// The number of gRPC codes, `OK` included.
const CODES: usize = 17;

/// The codes' names as Go writes them, by number.
const CODE_NAMES: [&str; CODES] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Takes one of a method's counts.
type Count = fn(&CallCounts) -> u64;

/// The counts of one method.
#[derive(Debug, Default)]
pub struct CallCounts {
    /// Calls begun.
    pub started: Counter,
    /// Messages received from clients.
    pub received: Counter,
    /// Messages sent to clients.
    pub sent: Counter,
    handled: [Counter; CODES],
}

/// The counts of all methods.
#[derive(Debug)]
pub struct Calls {
    counts: Vec<CallCounts>,
}

impl CallCounts {
    /// Notes the end of a call.
    pub fn handled(&self, code: Code) {
        self.handled[code as usize].increment();
    }
}

impl Default for Calls {
    fn default() -> Calls {
        Calls { counts: METHODS.iter().map(|_| CallCounts::default()).collect() }
    }
}

impl Calls {
    /// The counts of a method.
    #[must_use]
    pub fn of(&self, method: Method) -> &CallCounts {
        &self.counts[method.place()]
    }

    /// Writes them all.
    pub fn expose(&self, exposition: &mut Exposition) {
        let simple: [(&str, &str, Count); 3] = [
            (
                "grpc_server_started_total",
                "Total number of RPCs started on the server.",
                |counts| counts.started.get(),
            ),
            (
                "grpc_server_msg_received_total",
                "Total number of RPC messages received on the server.",
                |counts| counts.received.get(),
            ),
            (
                "grpc_server_msg_sent_total",
                "Total number of RPC messages sent by the server.",
                |counts| counts.sent.get(),
            ),
        ];
        for (name, help, count) in simple {
            let mut family = exposition.family(name, Kind::Counter, help);
            for (method, counts) in METHODS.iter().zip(&self.counts) {
                let [service, method, kind] = method.labels();
                family.sample(&[method, service, kind], count(counts));
            }
        }
        let mut family = exposition.family(
            "grpc_server_handled_total",
            Kind::Counter,
            "Total number of RPCs completed on the server, regardless of success or failure.",
        );
        for (method, counts) in METHODS.iter().zip(&self.counts) {
            let [service, method, kind] = method.labels();
            for (code, count) in CODE_NAMES.into_iter().zip(&counts.handled) {
                family.sample(&[("grpc_code", code), method, service, kind], count.get());
            }
        }
    }
}
