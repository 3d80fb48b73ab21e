//! The thin runtime of the engine's writer: a thread and a clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use redb::StorageBackend;

use crate::engine::EngineError;
use crate::machine::Machine;
use crate::shared::Shared;
use crate::signal::Signal;
use crate::writer::{EngineWriter, Turn};

/// How long to wait before a file that had no space is opened again.
const NO_SPACE_RETRY: Duration = Duration::from_secs(1);

/// Opens the engine's file again after it had no space.
pub type Reopen = Box<dyn FnMut() -> std::io::Result<Box<dyn StorageBackend>> + Send>;

/// Runs a machine's engine writer on a thread of its own.
pub struct EngineThread {
    signal: Arc<Signal>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), EngineError>>>,
}

impl EngineThread {
    /// Takes the machine's writer and runs it. `committed` hears how long each commit took, and should
    /// only note it. `reopen` opens the same file again; it is used when the disk was full. `failed` hears of an error after which nothing more is written: the
    /// member must stop. `None` if the machine has no engine or its writer is taken.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        machine: &mut Machine,
        reopen: Reopen,
        committed: impl FnMut(Duration) + Send + 'static,
        failed: impl FnOnce(&EngineError) + Send + 'static,
    ) -> std::io::Result<Option<EngineThread>> {
        let Some(writer) = machine.take_writer() else {
            return Ok(None);
        };
        let (signal, stop) = (machine.signal(), Arc::new(AtomicBool::new(false)));
        let run = Run {
            writer,
            shared: machine.shared(),
            reopen,
            committed: Box::new(committed),
            signal: Arc::clone(&signal),
            stop: Arc::clone(&stop),
        };
        let thread = std::thread::Builder::new().name("engine".to_owned()).spawn(move || {
            let result = run.run();
            if let Err(error) = &result {
                failed(error);
            }
            result
        })?;
        Ok(Some(EngineThread { signal, stop, thread: Some(thread) }))
    }

    /// Commits all that the log allows, then ends the thread.
    ///
    /// # Errors
    /// The engine failed, now or before.
    ///
    /// # Panics
    /// If the thread panicked.
    pub fn stop(mut self) -> Result<(), EngineError> {
        self.request_stop();
        let thread = self.thread.take().expect("runtime: the thread is joined once");
        thread.join().expect("the engine's thread panicked")
    }

    fn request_stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.signal.wake_always();
    }
}

impl Drop for EngineThread {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.request_stop();
            // An error was told to `failed`, a panic was printed.
            drop(thread.join());
        }
    }
}

struct Run {
    writer: EngineWriter,
    shared: Shared,
    reopen: Reopen,
    committed: Box<dyn FnMut(Duration) + Send>,
    signal: Arc<Signal>,
    stop: Arc<AtomicBool>,
}

impl Run {
    fn run(mut self) -> Result<(), EngineError> {
        // It paces the engine and touches no state.
        #[allow(clippy::disallowed_methods)]
        let start = Instant::now();
        while !self.stopping() {
            let now_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
            match self.turn(now_ms)? {
                Turn::More => std::thread::yield_now(),
                Turn::Wait(ms) => self.signal.sleep(Some(Duration::from_millis(ms))),
                Turn::Idle => {
                    self.signal.announce_idle();
                    if self.turn(now_ms)? == Turn::Idle && !self.stopping() {
                        self.signal.sleep(None);
                    }
                    self.signal.withdraw_idle();
                }
            }
        }
        self.timed(EngineWriter::flush)
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// A turn that waits for space when there is none.
    fn turn(&mut self, now_ms: u64) -> Result<Turn, EngineError> {
        match self.timed(|writer| writer.turn(now_ms)) {
            Err(EngineError::NoSpace(_) | EngineError::Unavailable) => {
                self.writer.close();
                self.signal.sleep(Some(NO_SPACE_RETRY));
                self.try_reopen().map(|()| Turn::More)
            }
            other => other,
        }
    }

    /// Lets the writer work, and tells how long that took if it ended with a commit: then the engine
    /// holds more than before.
    fn timed<T>(
        &mut self,
        work: impl FnOnce(&mut EngineWriter) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        #[allow(clippy::disallowed_methods)] // for the figures alone; it touches no state
        let start = Instant::now();
        let before = self.shared.durable_index();
        let done = work(&mut self.writer)?;
        if before < self.shared.durable_index() {
            (self.committed)(start.elapsed());
        }
        Ok(done)
    }

    /// Opening may find no space again; then the next turn fails likewise and comes back here.
    fn try_reopen(&mut self) -> Result<(), EngineError> {
        let opened = (self.reopen)().map_err(|error| EngineError::Io(error.to_string()))?;
        match self.writer.reopen(opened) {
            Err(EngineError::NoSpace(_)) => Ok(()),
            other => other,
        }
    }
}
