//! The folder a cluster lives in: made here, known by its marker, removed only with it.

use std::fs;
use std::path::{Path, PathBuf};

use jangada_bench::cluster_file::ClusterFile;
use jangada_bench::process;

use super::plan::Plan;
use crate::failure::Failure;

/// A folder that this command made.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes the folder, or takes one that an earlier run made for the same members.
    ///
    /// # Errors
    ///
    /// The folder was not made by this command, is in use, or holds other members.
    pub(super) fn prepare(path: &Path, fresh: bool, plan: &Plan) -> Result<Folder, Failure> {
        let failed = |problem: String| Failure::Failed(format!("{}: {problem}", path.display()));
        let unusable = |error: std::io::Error| failed(error.to_string());
        if path.exists() {
            let marked = ClusterFile::path(path).exists();
            let empty = fs::read_dir(path).map_err(unusable)?.next().is_none();
            if !marked && !empty {
                return Err(failed(
                    "this folder is not empty and was not made by 'jangada dev', so it is left \
                     alone; choose another with --dir"
                        .to_owned(),
                ));
            }
            if marked {
                let file = ClusterFile::read(path)?;
                refuse_running(&file).map_err(failed)?;
                if fresh {
                    fs::remove_dir_all(path).map_err(unusable)?;
                } else {
                    refuse_other_members(&file, plan).map_err(failed)?;
                }
            }
        }
        fs::create_dir_all(path).map_err(unusable)?;
        let folder = Folder { path: fs::canonicalize(path).map_err(unusable)? };
        if !ClusterFile::path(&folder.path).exists() {
            // The marker comes first: whatever follows may then be removed.
            ClusterFile { pid: std::process::id(), members: Vec::new() }.write(&folder.path)?;
        }
        Ok(folder)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A member's data.
    pub(super) fn data(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A member's configuration file.
    pub(super) fn config(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.yml"))
    }

    /// A member's log lines.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.log"))
    }
}

/// A process id may be another program's after a restart of the machine, so the program is
/// compared as well.
fn refuse_running(file: &ClusterFile) -> Result<(), String> {
    let program = |pid: u32| fs::read_link(format!("/proc/{pid}/exe")).ok();
    let own = program(std::process::id());
    let pids = std::iter::once(file.pid).chain(file.members.iter().map(|member| member.pid));
    for pid in pids {
        if pid != std::process::id() && process::runs(pid) && program(pid) == own {
            return Err(format!(
                "process {pid} still uses this folder; stop it first, or choose another with --dir"
            ));
        }
    }
    Ok(())
}

fn refuse_other_members(file: &ClusterFile, plan: &Plan) -> Result<(), String> {
    let planned: Vec<String> = plan.members.iter().map(|member| member.peer()).collect();
    let found: Vec<String> = file.members.iter().map(|member| member.peer.clone()).collect();
    if found.is_empty() || found == planned {
        return Ok(());
    }
    Err(format!(
        "it holds a cluster of {} members on {}; give the same --members and --base-port, begin \
         anew with --fresh, or choose another with --dir",
        found.len(),
        file.endpoints().join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jangada_bench::cluster_file::DevMember;

    fn plan(count: u16) -> Plan {
        Plan::new(count, 2379).expect("they fit")
    }

    /// As an earlier run leaves it, all its processes ended.
    fn used(path: &Path, count: u16) {
        let members = plan(count).members.into_iter().map(|member| DevMember {
            name: member.name.clone(),
            pid: u32::MAX,
            endpoint: member.endpoint(),
            peer: member.peer(),
        });
        let file = ClusterFile { pid: u32::MAX, members: members.collect() };
        file.write(path).expect("a writable folder");
        fs::write(path.join("kept"), "data").expect("a writable folder");
    }

    #[test]
    fn a_foreign_folder_is_left_alone() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let precious = home.path().join("precious");
        fs::write(&precious, "data").expect("a writable folder");
        for fresh in [false, true] {
            let failure = Folder::prepare(home.path(), fresh, &plan(3));
            let sentence = failure.expect_err("a foreign folder").to_string();
            assert!(sentence.contains("was not made by 'jangada dev'"), "{sentence}");
        }
        assert!(precious.exists(), "dev invariant 1");
    }

    #[test]
    fn a_new_folder_is_marked_at_once() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let path = home.path().join("a").join("b");
        let folder = Folder::prepare(&path, false, &plan(3)).expect("a new folder");
        assert!(ClusterFile::path(folder.path()).exists());
    }

    #[test]
    fn an_earlier_run_is_taken_up_or_removed() {
        let home = tempfile::tempdir().expect("a temporary directory");
        used(home.path(), 3);
        let kept = home.path().join("kept");
        Folder::prepare(home.path(), false, &plan(3)).expect("the same members");
        assert!(kept.exists());
        let failure = Folder::prepare(home.path(), false, &plan(5)).expect_err("others");
        assert!(failure.to_string().contains("begin anew with --fresh"), "{failure}");
        Folder::prepare(home.path(), true, &plan(5)).expect("a fresh folder");
        assert!(!kept.exists());
    }

    #[test]
    fn a_folder_in_use_is_left_alone() {
        let home = tempfile::tempdir().expect("a temporary directory");
        used(home.path(), 3);
        // Another process of this very program stands for a cluster that runs.
        let program = std::env::current_exe().expect("this program has a path");
        let mut other = std::process::Command::new(program)
            .args(["--exact", "dev::folder::tests::waits_for_its_input", "--nocapture"])
            .env("JANGADA_TEST_WAIT", "1")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("this program can run");
        let mut file = ClusterFile::read(home.path()).expect("it is there");
        file.pid = other.id();
        file.write(home.path()).expect("a writable folder");
        let failure = Folder::prepare(home.path(), true, &plan(3));
        drop(other.stdin.take());
        other.wait().expect("it ends with its input");
        let sentence = failure.expect_err("the folder is in use").to_string();
        assert!(sentence.contains("still uses this folder"), "{sentence}");
        assert!(home.path().join("kept").exists());
    }

    #[test]
    fn waits_for_its_input() {
        if std::env::var_os("JANGADA_TEST_WAIT").is_some() {
            std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).expect("a pipe");
        }
    }
}
