//! One child process: its log file, its signals, its end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;

/// How much of a log is shown when a test fails.
const SHOWN_LINES: usize = 60;

/// A running or ended child. Dropping it kills it.
pub(crate) struct Process {
    name: String,
    pid: Pid,
    log: PathBuf,
    exit: watch::Receiver<Option<ExitStatus>>,
    waiter: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts `command`; both its outputs are appended to `log`.
    pub(crate) fn start(name: &str, mut command: Command, log: &Path) -> Process {
        let file =
            File::options().create(true).append(true).open(log).expect("a log can be opened");
        let other = file.try_clone().expect("a file can be cloned");
        command.stdin(Stdio::null()).stdout(file).stderr(other);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let pid =
            i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a pid is positive");
        let (sender, exit) = watch::channel(None);
        let waiter = std::thread::spawn(move || {
            let status = child.wait().expect("a child can be waited for");
            sender.send_replace(Some(status));
        });
        Process { name: name.to_owned(), pid, log: log.to_owned(), exit, waiter: Some(waiter) }
    }

    /// The process id.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// How it ended, if it has.
    pub(crate) fn status(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Sends a signal, unless it has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.status().is_none() {
            // It may end in this very moment; then there is nothing to signal.
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let status = self.exit.wait_for(Option::is_some).await.expect("the waiter sends once");
        status.expect("waited for")
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub(crate) async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.ended().await;
    }

    /// All that it has written.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until its log contains `text`. If it ends without, the log is shown.
    pub(crate) async fn logged(&mut self, text: &str) {
        super::until(|| {
            let ended = self.status().is_some();
            let found = self.log().contains(text);
            assert!(
                found || !ended,
                "{} ended without saying {text:?}:\n{}",
                self.name,
                self.log()
            );
            std::future::ready(found.then_some(()))
        })
        .await;
    }

    /// The end of the log, for a failure.
    pub(crate) fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {} ({:?}), end of its log:\n{}", self.name, self.status(), self.tail());
        }
        // A stopped process takes SIGKILL too.
        self.signal(Signal::KILL);
        if let Some(waiter) = self.waiter.take() {
            let _ = waiter.join();
        }
    }
}
