//! Counts of gRPC calls, under the names of the Go interceptors that etcd uses.
//!
//! Every method of the API is listed from the start with zeros, so that a rate over a scrape that
//! has seen no call yet is a zero and not a gap.

use std::time::{Duration, Instant};

use tonic::Code;

use super::exposition::{Exposition, Kind};
use super::value::{Counter, Histogram};
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
    /// How long calls take, if that is measured.
    handling: Option<Histogram>,
}

/// The upper bounds of the buckets of times, in milliseconds: those of Go's library.
const HANDLING_MILLIS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

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

    /// When a call begins, if its time is measured.
    #[must_use]
    pub fn begin(&self) -> Option<Instant> {
        self.handling.is_some().then(Instant::now)
    }

    /// Notes how long a call took that began then.
    pub fn took(&self, begin: Option<Instant>) {
        if let (Some(handling), Some(begin)) = (&self.handling, begin) {
            handling.observe(begin.elapsed());
        }
    }
}

impl Default for Calls {
    fn default() -> Calls {
        Calls { counts: METHODS.iter().map(|_| CallCounts::default()).collect() }
    }
}

impl Calls {
    /// Counts that measure times, too.
    #[must_use]
    pub fn timed() -> Calls {
        let bounds = HANDLING_MILLIS.map(Duration::from_millis);
        let handling = || Some(Histogram::up_to(&bounds));
        let counts = || CallCounts { handling: handling(), ..CallCounts::default() };
        Calls { counts: METHODS.iter().map(|_| counts()).collect() }
    }

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
        if self.counts.iter().all(|counts| counts.handling.is_none()) {
            return;
        }
        let mut family = exposition.family(
            "grpc_server_handling_seconds",
            Kind::Histogram,
            "Histogram of response latency (seconds) of gRPC that had been application-level handled \
             by the server.",
        );
        for (method, counts) in METHODS.iter().zip(&self.counts) {
            let [service, method, kind] = method.labels();
            if let Some(handling) = &counts.handling {
                family.histogram(&[method, service, kind], handling);
            }
        }
    }
}
