//! Clients of others over the JSON gateway and over gRPC, from Python, against three members.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::cluster::Cluster;
use support::{foreign, run};

/// The hang guard.
const LIMIT: Duration = Duration::from_secs(180);

/// A Python that can import `module`.
fn python(module: &str) -> Option<PathBuf> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/foreign/bin/python");
    let named = std::env::var_os("JANGADA_PYTHON").map(PathBuf::from);
    named.into_iter().chain([ours, PathBuf::from("python3")]).find(|python| {
        let output = Command::new(python).args(["-c", &format!("import {module}")]).output();
        output.is_ok_and(|output| output.status.success())
    })
}

/// Runs a script of `tests/foreign` with these arguments; it says `passed` when all went well.
fn drive(module: &str, script: &str, arguments: &[&str]) {
    let Some(python) = python(module) else {
        return foreign::skip(&format!("Python with the module {module}"));
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/foreign").join(script);
    let output = Command::new(python).arg(path).args(arguments).output().expect("Python runs");
    let (out, error) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.trim_end().ends_with("passed"), "{out}\n{error}");
}

#[test]
fn a_python_client_of_the_gateway_finds_everything_as_etcd_has_it() {
    run(LIMIT, async {
        let cluster = Cluster::three().await;
        drive("urllib", "gateway.py", &[&cluster.members[1].client_url]);
    });
}

#[test]
fn a_python_client_of_grpc_works_unchanged() {
    run(LIMIT, async {
        let cluster = Cluster::three().await;
        let (_, authority) = cluster.members[1].client_url.split_once("://").expect("it is a URL");
        let (host, port) = authority.split_once(':').expect("it has a port");
        drive("etcetra", "etcetra_client.py", &[host, port]);
    });
}
