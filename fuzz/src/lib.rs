//! What is fuzzed, and what must hold: one module for each target, each with a function `check` that
//! takes any bytes and stops the process at the first thing that is wrong.
//!
//! A check does more than not to panic: what decodes must encode to the bytes that it came from,
//! what was encoded must decode to what it was, errors are sentences, and memory follows the bytes
//! that are there, never a number that they claim. `cargo fuzz` drives the checks by coverage
//! (`fuzz_targets/`); the tests run them over the seeds of the corpora and over every input that
//! ever failed (`regressions/`).
//!
//! Checksums would keep a fuzzer out of most code. So where a format has them, an input is tried as
//! it is and a second time with its checksums made good.

pub mod config;
pub mod core_schedule;
pub mod grpc;
pub mod peer_message;
pub mod session;
pub mod snapshot_file;
pub mod stored;
pub mod wal_open;
pub mod wal_sealed;
pub mod world_schedule;

mod entry;
mod input;
mod logs;
mod wal_header;

pub use input::Input;

/// A target: its name, its check, and the inputs that a corpus starts with.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name, as `cargo fuzz` knows it.
    pub name: &'static str,
    /// Takes any bytes; panics at the first thing that is wrong.
    pub check: fn(&[u8]),
    /// Sound inputs, made by the code under test.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: [Target; 10] = [
    Target { name: "wal_open", check: wal_open::check, seeds: wal_open::seeds },
    Target { name: "wal_sealed", check: wal_sealed::check, seeds: wal_sealed::seeds },
    Target { name: "peer_message", check: peer_message::check, seeds: peer_message::seeds },
    Target { name: "session", check: session::check, seeds: session::seeds },
    Target { name: "stored", check: stored::check, seeds: stored::seeds },
    Target { name: "snapshot_file", check: snapshot_file::check, seeds: snapshot_file::seeds },
    Target { name: "config", check: config::check, seeds: config::seeds },
    Target { name: "grpc", check: grpc::check, seeds: grpc::seeds },
    Target { name: "core_schedule", check: core_schedule::check, seeds: core_schedule::seeds },
    Target { name: "world_schedule", check: world_schedule::check, seeds: world_schedule::seeds },
];

/// The most letters of an error's text: a few times what an input of libFuzzer has, since an error
/// may tell what was written.
const SENTENCE_BYTES_MAX: usize = 16 << 10;

/// Demands that an error reads as a sentence, whatever the input was.
///
/// # Panics
/// If it does not.
pub fn sentence(error: &dyn std::fmt::Display) {
    let text = error.to_string();
    assert!(text.contains(' '), "an error is a sentence: {text:?}");
    assert!(text.len() <= SENTENCE_BYTES_MAX, "an error fits a line of the log: {}", text.len());
}
