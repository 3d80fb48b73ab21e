//! Everything the API can be asked, of the server as it ships, from many seeds; every answer is
//! compared with a second store's.

use jangada_server::errors::ApiError;
use jangada_sim::application::store::StoreApplication;
use jangada_sim::faults::FAULTS;
use jangada_sim::workload::coverage::{FEATURES, Outcome};
use jangada_sim::workload::grammar::Mixture;
use jangada_sim::workload::{Coverage, Workload, WorkloadOptions};
use jangada_sim::{Choices, Clients, Failure, FaultRates, Report, WorldOptions, run};

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

fn simulate(
    choices: Choices,
    rates: FaultRates,
    seconds: u64,
    options: WorkloadOptions,
) -> (Result<Report, Box<Failure>>, Workload) {
    let lines_max = variable("JANGADA_SIM_LINES").unwrap_or(0) as usize;
    let world = WorldOptions { rates, lines_max, ..WorldOptions::default() };
    let mut workload = Workload::new(options);
    let result = run(StoreApplication, world, choices, seconds * 1_000_000, &mut workload);
    (result, workload)
}

/// What requests must have come to, in some run or other.
const OUTCOMES: [Outcome; 24] = [
    Outcome::Ok,
    Outcome::Refused(ApiError::EmptyKey),
    Outcome::Refused(ApiError::KeyNotFound),
    Outcome::Refused(ApiError::ValueProvided),
    Outcome::Refused(ApiError::LeaseProvided),
    Outcome::Refused(ApiError::LeaseNotFound),
    Outcome::Refused(ApiError::LeaseExists),
    Outcome::Refused(ApiError::LeaseTtlTooLarge),
    Outcome::Refused(ApiError::TooManyOps),
    Outcome::Refused(ApiError::DuplicateKey),
    Outcome::Refused(ApiError::InvalidSortOption),
    Outcome::Refused(ApiError::Compacted),
    Outcome::Refused(ApiError::FutureRevision),
    Outcome::Refused(ApiError::RequestTooLarge),
    Outcome::Refused(ApiError::UserEmpty),
    Outcome::Refused(ApiError::PermissionDenied),
    Outcome::Refused(ApiError::AuthOldRevision),
    Outcome::Refused(ApiError::NoLeader),
    Outcome::Refused(ApiError::TimeoutLeaderFailed),
    Outcome::Unimplemented,
    Outcome::Undecodable,
    Outcome::Lost,
    Outcome::GivenUp,
    Outcome::Unreachable,
];

/// What watchers and those who keep leases must have come to, in some run or other.
const SEEN: [&str; 15] = [
    "leases granted",
    "leases revoked",
    "leases expired",
    "remainders noted",
    "remainders told",
    "renewals",
    "renewals of what was gone",
    "watchers",
    "watchers refused",
    "watchers ended",
    "watchers ended by a compaction",
    "events",
    "events in fragments",
    "progress",
    "watch streams lost",
];

#[test]
fn every_request_is_answered_as_the_model_answers_it() {
    let first = variable("JANGADA_SIM_SEED").unwrap_or(0);
    let seeds = variable("JANGADA_SIM_SEEDS").unwrap_or(40);
    let seconds = variable("JANGADA_SIM_SECONDS").unwrap_or(10);
    let mut coverage = Coverage::default();
    let (mut requests, mut simulated_us, mut events, mut unknown) = (0, 0, 0, 0);
    for seed in first..first + seeds {
        let mut choices = Choices::of_seed(seed);
        let rates = FaultRates::swarm(&mut choices, &FAULTS);
        // What is large is slow, so it has some seeds of its own.
        let mixture = match seed % 4 {
            0 => Mixture { oversized: 2_500, ..Mixture::default() },
            _ => Mixture { oversized: 0, ..Mixture::default() },
        };
        let options = WorkloadOptions { mixture, ..WorkloadOptions::default() };
        let (result, workload) = simulate(choices, rates, seconds, options);
        let report = result.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        coverage.add(workload.coverage());
        requests += workload.requests();
        let (.., open, proposals) = workload.oracle().kept();
        assert!(open == 0, "seed {seed}: {open} calls without an end");
        assert!(proposals < 400, "seed {seed}: {proposals} proposals may still happen");
        unknown += workload.oracle().happened_unknown();
        simulated_us += report.simulated_us;
        events += report.events;
    }
    println!("{coverage}");
    println!(
        "{seeds} seeds, {requests} requests answered in {} simulated seconds, {} writes happened \
         unknown to their clients, {events} events",
        simulated_us / 1_000_000,
        unknown
    );
    if seeds < 40 {
        return;
    }
    for feature in FEATURES.iter().copied() {
        let answered = coverage.of_feature(feature, Outcome::Ok);
        let asked: u64 = Outcome::all().map(|o| coverage.of_feature(feature, o)).sum();
        let met = if feature.can_succeed() { answered } else { asked };
        assert!(0 < met, "{} was never met", feature.name());
    }
    for outcome in OUTCOMES {
        assert!(0 < coverage.of_outcome(outcome), "no request came to: {}", outcome.name());
    }
    for name in SEEN {
        assert!(coverage.seen().contains_key(name), "never seen: {name}");
    }
    assert!(0 < unknown, "no write happened whose client did not learn of it");
}
