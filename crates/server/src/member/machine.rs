//! The store of a member that runs: the engine's file in its folder, and the engine's thread.

use std::path::Path;
use std::sync::Arc;

use jangada_kv::{EngineError, EngineThread, Machine, Options};

pub(super) use crate::machine::KvMachine;
use crate::metrics::Histogram;

/// The engine's file in the member's folder.
const FILE: &str = "db";

/// Opens the store in `directory`, and starts the thread that makes it durable; `commits` hears how long
/// that takes.
pub(super) fn open(
    directory: &Path,
    options: Options,
    commits: Arc<Histogram>,
) -> Result<(KvMachine, EngineThread), EngineError> {
    let io = |error: std::io::Error| EngineError::Io(error.to_string());
    let path: Arc<Path> = directory.join(FILE).into();
    let backend = jangada_kv::open_file(&path).map_err(io)?;
    let mut machine = Machine::open(Some(backend), options)?;
    let reopen = Box::new(move || jangada_kv::open_file(&path));
    let committed = move |took| commits.observe(took);
    let failed = |error: &EngineError| super::broken(error);
    let thread = EngineThread::start(&mut machine, reopen, committed, failed);
    let thread = thread.map_err(io)?.expect("a machine with an engine has its writer once");
    Ok((KvMachine::new(machine), thread))
}
