//! The networked runtime's thread for snapshots: reads views, has chunks staged, writes and saves states, so
//! that neither the event thread nor the log waits for it.
//!
//! Several pieces of work take turns, so that a transfer that waits for its disk holds up no other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jangada_wal::Disk;

use crate::handle::Shared;
use crate::machine::StateMachine;
use crate::member::{Event, SnapshotWork};
use crate::saved::{SavedState, UnsavedState};
use crate::snapshot::Turn;

/// What the thread is asked to do.
pub(crate) enum SnapshotJob {
    Work(SnapshotWork),
    Save(UnsavedState),
}

/// How long a full disk is given before a state is saved again.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// Starts the thread. It ends once the sender is dropped, whatever is under way.
pub(crate) fn start<M: StateMachine, D: Disk>(
    disk: D,
    shared: Arc<Shared<M>>,
) -> std::io::Result<(mpsc::Sender<SnapshotJob>, JoinHandle<()>)> {
    let (jobs, receiver) = mpsc::channel();
    let thread = SnapshotThread { disk, shared, works: VecDeque::new(), unsaved: None };
    let handle = std::thread::Builder::new()
        .name("jangada-snapshot".into())
        .spawn(move || thread.run(&receiver))?;
    Ok((jobs, handle))
}

struct SnapshotThread<M: StateMachine, D: Disk> {
    disk: D,
    shared: Arc<Shared<M>>,
    /// Work under way, and from when on it goes on.
    works: VecDeque<(Instant, SnapshotWork)>,
    /// A state that found the disk full, and when it is tried again.
    unsaved: Option<(Instant, SavedState)>,
}

impl<M: StateMachine, D: Disk> SnapshotThread<M, D> {
    fn run(mut self, jobs: &mpsc::Receiver<SnapshotJob>) {
        loop {
            let next = self.works.iter().map(|(at, _)| *at).min();
            let next = next.into_iter().chain(self.unsaved.as_ref().map(|(at, _)| *at)).min();
            let job = match next {
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => jobs.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match job {
                Ok(SnapshotJob::Work(work)) => self.works.push_back((Instant::now(), work)),
                Ok(SnapshotJob::Save(state)) => {
                    self.unsaved = Some((Instant::now(), state.write()));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.turn();
        }
    }

    /// Gives each piece of work that is due a turn.
    fn turn(&mut self) {
        for _ in 0..self.works.len() {
            let (at, mut work) = self.works.pop_front().expect("as many as there were");
            if Instant::now() < at {
                self.works.push_back((at, work));
                continue;
            }
            match work.turn().unwrap_or_else(|sentence| broken(&sentence)) {
                Turn::Done => self.shared.push(Event::SnapshotWorked(work)),
                Turn::More => self.works.push_back((Instant::now(), work)),
                Turn::Wait(microseconds) => {
                    let at = Instant::now() + Duration::from_micros(microseconds);
                    self.works.push_back((at, work));
                }
            }
        }
        let Some((_, state)) = self.unsaved.take_if(|(at, _)| *at <= Instant::now()) else {
            return;
        };
        match state.save(&self.disk) {
            Ok(()) => self.shared.push(Event::StateSaved(state.told())),
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                tracing::error!("there is no space to save the state; free some on the disk");
                self.unsaved = Some((Instant::now() + FULL_RETRY, state));
            }
            Err(error) => broken(&format!("the state cannot be saved: {error}")),
        }
    }
}

/// The disk or the machine failed: the process stops, and what it finds when it starts again decides.
fn broken<T>(sentence: &str) -> T {
    tracing::error!("{sentence}");
    eprintln!("jangada: {sentence}");
    std::process::abort()
}
