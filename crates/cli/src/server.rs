//! The server: etcd's flags in, one member until it is told to stop.

use std::ffi::OsString;
use std::io::{self, Write};

use jangada_server::RunError;
use jangada_server::config::{Invocation, install_log};
use rustix::process::{Pid, Signal};

use crate::failure::Failure;

/// Set by `jangada dev`: the process id of a parent that this member must not outlive.
pub(crate) const PARENT_VARIABLE: &str = "JANGADA_DEV_PARENT";

/// Runs a member, or prints what a flag such as `--version` asks for.
pub(crate) fn run(flags: Vec<OsString>) -> Result<(), Failure> {
    stop_with_parent()?;
    // A variable that is not UTF-8 cannot be one of the settings, whose names are ASCII.
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let config = match Invocation::parse(flags, variables)? {
        Invocation::Print(text) => return Ok(io::stdout().lock().write_all(text.as_bytes())?),
        Invocation::Serve(config) => config,
    };
    install_log(&config.log)?;
    jangada_server::run(*config).map_err(|error| {
        tracing::error!(error = %error, "the member cannot run");
        match error {
            RunError::Config(error) => error.into(),
            error => Failure::Failed(error.to_string()),
        }
    })
}

/// Has the system stop this process when its parent ends, however that ends.
fn stop_with_parent() -> Result<(), Failure> {
    let Some(parent) = std::env::var_os(PARENT_VARIABLE) else { return Ok(()) };
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| Failure::Failed(format!("the parent cannot be watched: {error}")))?;
    // The parent may have ended before the line above.
    let now = rustix::process::getppid().map(Pid::as_raw_nonzero);
    let expected = parent.to_str().and_then(|parent| parent.parse().ok());
    if now == expected {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "the process that {PARENT_VARIABLE} names is not this one's parent; remove the variable to \
         run a member by itself"
    )))
}
