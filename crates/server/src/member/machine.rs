//! The store of a member that runs: the engine's file in its folder, and the engine's thread.

use std::path::Path;
use std::sync::Arc;

use jangada_kv::{EngineError, EngineThread, Machine, Options};

pub(super) use crate::machine::KvMachine;
use crate::metrics::Histogram;

/// The engine's file in the member's folder.
pub(crate) const STORE_FILE: &str = "db";

/// Opens the store in `directory`, and starts the thread that makes it durable; `commits` hears how long
/// that takes.
///
/// A damaged engine is set aside when `others` have the state: the member starts with an empty one, and
/// is sent a snapshot. Its log is whole, so it may vote meanwhile.
pub(super) fn open(
    directory: &Path,
    options: Options,
    commits: Arc<Histogram>,
    others: bool,
) -> Result<(KvMachine, EngineThread), EngineError> {
    let io = |error: std::io::Error| EngineError::Io(error.to_string());
    let path: Arc<Path> = directory.join(STORE_FILE).into();
    let mut machine = match open_machine(&path, options) {
        Err(error) if others && error.is_damage() => {
            let aside = jangada_kv::set_aside(&path).map_err(io)?;
            tracing::error!(
                aside = %aside.display(),
                "{error}; it is set aside, and the other members' state is taken"
            );
            open_machine(&path, options)?
        }
        opened => opened?,
    };
    let reopen = Box::new(move || jangada_kv::open_file(&path));
    let committed = move |took| commits.observe(took);
    let failed = |error: &EngineError| super::broken(error);
    let thread = EngineThread::start(&mut machine, reopen, committed, failed);
    let thread = thread.map_err(io)?.expect("a machine with an engine has its writer once");
    Ok((KvMachine::new(machine), thread))
}

fn open_machine(path: &Path, options: Options) -> Result<Machine, EngineError> {
    let io = |error: std::io::Error| EngineError::Io(error.to_string());
    let backend = jangada_kv::open_file(path).map_err(io)?;
    Machine::open(Some(backend), options)
}
