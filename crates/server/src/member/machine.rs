//! The store of a member that runs: the engine's file in its folder, and the engine's thread.

use std::path::Path;
use std::sync::Arc;

use jangada_kv::{EngineError, EngineThread, Machine, Options};

pub(super) use crate::machine::KvMachine;

/// The engine's file in the member's folder.
const FILE: &str = "db";

/// Opens the store in `directory`, and starts the thread that makes it durable.
pub(super) fn open(
    directory: &Path,
    options: Options,
) -> Result<(KvMachine, EngineThread), EngineError> {
    let io = |error: std::io::Error| EngineError::Io(error.to_string());
    let path: Arc<Path> = directory.join(FILE).into();
    let backend = jangada_kv::open_file(&path).map_err(io)?;
    let mut machine = Machine::open(Some(backend), options)?;
    let reopen = Box::new(move || jangada_kv::open_file(&path));
    let thread = EngineThread::start(&mut machine, reopen, |error| super::broken(error));
    let thread = thread.map_err(io)?.expect("a machine with an engine has its writer once");
    Ok((KvMachine::new(machine), thread))
}
