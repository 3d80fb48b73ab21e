//! The crate `etcd-client`, unchanged, against three members of Jangada.
//!
//! Its build needs protoc, so it is a package of its own (`tests/etcd-client`). `.ci/run` builds it
//! and names the program in `JANGADA_ETCD_CLIENT`; without that the test is skipped.

mod support;

use std::process::Command;
use std::time::Duration;

use support::cluster::Cluster;
use support::process::Process;
use support::{foreign, run};

/// The hang guard.
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn the_crate_etcd_client_finds_what_it_needs() {
    let Some(program) = std::env::var_os("JANGADA_ETCD_CLIENT") else {
        return foreign::skip("the program of tests/etcd-client (JANGADA_ETCD_CLIENT)");
    };
    run(LIMIT, async {
        let cluster = Cluster::three().await;
        let endpoints: Vec<&str> = cluster
            .members
            .iter()
            .map(|member| member.client_url.trim_start_matches("http://"))
            .collect();
        let mut command = Command::new(program);
        command.env("JANGADA_TEST_ENDPOINTS", endpoints.join(","));
        let log = cluster.home().join("etcd-client.log");
        let mut process = Process::start("etcd-client", command, &log);
        let status = process.ended().await;
        assert!(status.success(), "{status}\n{}", process.log());
    });
}
