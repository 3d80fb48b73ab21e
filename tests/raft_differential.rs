//! The consensus module beside the crate `raft`: the same schedules, the same committed sequences.
//!
//! That crate's build needs more than ours, so the program is a package of its own
//! (`tests/raft-differential`). `.ci/run` builds it and names it in `JANGADA_RAFT_DIFFERENTIAL`;
//! without that the test is skipped. More schedules: run the program with their number.

mod support;

use std::process::Command;

use support::foreign;

#[test]
fn the_same_schedules_commit_the_same_sequences_as_in_the_crate_raft() {
    let Some(program) = std::env::var_os("JANGADA_RAFT_DIFFERENTIAL") else {
        return foreign::skip("the program of tests/raft-differential (JANGADA_RAFT_DIFFERENTIAL)");
    };
    let output = Command::new(program).arg("60").output().expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
