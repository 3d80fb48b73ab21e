//! One member's process.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use jangada_bench::process;

use super::folder::Folder;
use super::plan::{Member, Plan};
use crate::failure::Failure;
use crate::server::PARENT_VARIABLE;

/// How much of a log is shown when a member ends at once.
const LAST_WORDS_BYTES: u64 = 2048;
/// How many lines of it.
const LAST_WORDS_LINES: usize = 3;

/// A member that was started, whether it still runs or not.
#[derive(Debug)]
pub(super) struct Child {
    name: String,
    process: std::process::Child,
    status: Option<ExitStatus>,
    told: bool,
    config: PathBuf,
    log: PathBuf,
}

impl Child {
    /// Writes the member's configuration file and starts this very program as its server.
    pub(super) fn start(member: &Member, plan: &Plan, folder: &Folder) -> Result<Child, Failure> {
        let failed = |path: &Path, error: io::Error| {
            Failure::Failed(format!("{} cannot be used: {error}", path.display()))
        };
        let config = folder.config(&member.name);
        let text = config_text(member, plan, &folder.data(&member.name));
        std::fs::write(&config, text).map_err(|error| failed(&config, error))?;
        let log = folder.log(&member.name);
        let output = append(&log).map_err(|error| failed(&log, error))?;
        let program = std::env::current_exe().map_err(|error| failed(Path::new("self"), error))?;
        let mut command = Command::new(&program);
        command
            .arg("server")
            .arg("--config-file")
            .arg(&config)
            .env(PARENT_VARIABLE, std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(|error| failed(&log, error))?)
            .stderr(output)
            // Ctrl-C in a terminal goes to this process alone, which then stops its members.
            .process_group(0);
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("ETCD_") {
                command.env_remove(variable);
            }
        }
        let process = command.spawn().map_err(|error| failed(&program, error))?;
        Ok(Child { name: member.name.clone(), process, status: None, told: false, config, log })
    }

    /// The member's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its configuration file.
    pub(super) fn config_path(&self) -> &Path {
        &self.config
    }

    /// Its log lines.
    pub(super) fn log_path(&self) -> &Path {
        &self.log
    }

    /// Whether it ran when it was last looked at.
    pub(super) fn runs(&self) -> bool {
        self.status.is_none()
    }

    /// Whether it runs.
    pub(super) fn still_runs(&mut self) -> bool {
        if self.status.is_none() {
            // A failure to look means that the process was waited for already.
            self.status = self.process.try_wait().unwrap_or(Some(ExitStatus::from_raw(0)));
        }
        self.status.is_none()
    }

    /// How it ended, told once.
    pub(super) fn ended(&mut self) -> Option<String> {
        if self.still_runs() || std::mem::replace(&mut self.told, true) {
            return None;
        }
        self.status.map(|status| match (status.signal(), status.code()) {
            (Some(signal), _) => format!("was killed by signal {signal}"),
            (None, Some(0)) => "has stopped".to_owned(),
            (None, code) => format!("ended with status {}", code.unwrap_or(-1)),
        })
    }

    /// Whether it stopped as it should, or was killed by somebody else before.
    pub(super) fn ended_well(&self) -> bool {
        self.told || self.status.is_some_and(|status| status.success())
    }

    /// The last lines of its log, if it has ended.
    pub(super) fn last_words(&self) -> Option<String> {
        self.status?;
        let mut file = File::open(&self.log).ok()?;
        let length = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS_BYTES))).ok()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(LAST_WORDS_LINES);
        Some(lines[from..].iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))
    }

    /// Asks it to stop.
    pub(super) fn terminate(&mut self) {
        if self.still_runs() {
            // It can end between the look and the signal, which is just as well.
            let _ = process::terminate(self.pid());
        }
    }

    /// Ends it at once.
    pub(super) fn kill(&mut self) {
        // As above; waiting then collects it either way.
        let _ = self.process.kill();
        self.status = self.process.wait().ok();
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// The member's settings; one file of them makes starting a member by hand one short line.
fn config_text(member: &Member, plan: &Plan, data: &Path) -> String {
    let quoted = |text: &str| serde_json::to_string(text).expect("a text is always JSON");
    let client = quoted(&format!("http://{}", member.endpoint()));
    let peer = quoted(&format!("http://{}", member.peer()));
    format!(
        "name: {}\n\
         data-dir: {}\n\
         listen-client-urls: {client}\n\
         advertise-client-urls: {client}\n\
         listen-peer-urls: {peer}\n\
         initial-advertise-peer-urls: {peer}\n\
         initial-cluster: {}\n\
         initial-cluster-token: jangada-dev\n",
        quoted(&member.name),
        quoted(&data.to_string_lossy()),
        quoted(&plan.initial_cluster()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use jangada_server::config::{Invocation, table};

    #[test]
    fn the_configuration_file_is_one_the_server_takes() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let plan = Plan::new(3, 2379).expect("they fit");
        let path = home.path().join("m2.yml");
        let text = config_text(&plan.members[1], &plan, &home.path().join("m2"));
        std::fs::write(&path, text).expect("a writable folder");
        let words = ["--config-file".into(), path.into_os_string()];
        let Ok(Invocation::Serve(config)) = Invocation::parse(words, []) else {
            panic!("the file is good")
        };
        assert_eq!((config.name.as_str(), config.initial.members.len()), ("m2", 3));
        assert_eq!(config.warnings, []);
        assert!(table::find("config-file").is_some());
    }
}
