//! Clients of others from PyPI, unchanged, and one with Python's standard library alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::LIMIT;
use crate::support::cluster::Cluster;
use crate::support::{foreign, run};

/// A Python that can import `module`.
fn python(module: &str) -> Option<PathBuf> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/foreign/bin/python");
    let named = std::env::var_os("JANGADA_PYTHON").map(PathBuf::from);
    named.into_iter().chain([ours, PathBuf::from("python3")]).find(|python| {
        let output = Command::new(python).args(["-c", &format!("import {module}")]).output();
        output.is_ok_and(|output| output.status.success())
    })
}

/// Runs a script of `tests/foreign` against the second of three members, of which it gets the host and
/// the port; it says `passed` when all went well.
fn drive(module: &str, script: &str) {
    let Some(python) = python(module) else {
        return foreign::skip(&format!("Python with the module {module}"));
    };
    run(LIMIT, async {
        let cluster = Cluster::three().await;
        let (_, authority) = cluster.members[1].client_url.split_once("://").expect("it is a URL");
        let (host, port) = authority.split_once(':').expect("it has a port");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/foreign").join(script);
        let output =
            Command::new(python).arg(path).args([host, port]).output().expect("Python runs");
        let (out, error) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && out.trim_end().ends_with("passed"), "{out}\n{error}");
    });
}

#[test]
fn a_python_program_without_any_client_uses_the_gateway() {
    drive("urllib", "gateway.py");
}

#[test]
fn etcd3gw_works_unchanged() {
    drive("etcd3gw", "etcd3gw_client.py");
}

#[test]
fn etcetra_works_unchanged() {
    drive("etcetra", "etcetra_client.py");
}
