//! State machines that remember every command: one that is durable itself and streams snapshots, and
//! one that keeps nothing durable.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use jangada::{
    Chunk, Frame, Index, Outcome, SnapshotError, SnapshotReader, SnapshotStage, Snapshots,
    StateMachine, StateView, Turn,
};

/// What a machine keeps where a crash does not reach.
#[derive(Clone, Default, Debug)]
pub(crate) struct Kept(Arc<Mutex<Durable>>);

#[derive(Clone, Default, Debug)]
pub(crate) struct Durable {
    pub(crate) applied: u64,
    record: Option<Bytes>,
    rows: Vec<Bytes>,
    staged: Vec<Bytes>,
    /// Whether the machine does what no other does.
    pub(crate) lies: bool,
}

impl Kept {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Durable> {
        self.0.lock().expect("nobody panics under the lock")
    }

    /// The disk is lost.
    pub(crate) fn wipe(&self) {
        *self.lock() = Durable::default();
    }
}

/// A machine of a test.
pub(crate) trait Remembers: StateMachine<Reply = usize> {
    fn open(kept: Kept) -> Self;
    fn rows(&self) -> &[Bytes];
}

/// Durable itself.
pub(crate) struct Streamed {
    kept: Kept,
    rows: Vec<Bytes>,
    /// The batches that may not be durable yet: index, record, number of rows.
    batches: VecDeque<(u64, Bytes, usize)>,
    log_durable: u64,
}

impl Remembers for Streamed {
    fn open(kept: Kept) -> Streamed {
        let mut durable = kept.lock();
        durable.staged.clear();
        let rows = durable.rows.clone();
        drop(durable);
        Streamed { kept, rows, batches: VecDeque::new(), log_durable: 0 }
    }

    fn rows(&self) -> &[Bytes] {
        &self.rows
    }
}

impl Streamed {
    fn commit(&mut self) {
        while let Some((index, record, rows)) = self.batches.front()
            && *index <= self.log_durable
        {
            let mut durable = self.kept.lock();
            durable.applied = *index;
            durable.record = Some(record.clone());
            durable.rows = self.rows[..*rows].to_vec();
            drop(durable);
            self.batches.pop_front();
        }
    }
}

fn remember(rows: &mut Vec<Bytes>, commands: &[Frame], outcomes: &mut Vec<Outcome<usize>>) {
    for command in commands {
        rows.push(Bytes::copy_from_slice(command.payload()));
        outcomes.push(Outcome { reply: rows.len(), digest: rows.len() as u64 });
    }
}

impl StateMachine for Streamed {
    type Reply = usize;

    fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<usize>>) {
        remember(&mut self.rows, commands, outcomes);
        if self.kept.lock().lies {
            outcomes.iter_mut().for_each(|outcome| outcome.digest ^= 1);
        }
    }

    fn recovered(&self) -> Option<Bytes> {
        self.kept.lock().record.clone()
    }

    fn end_batch(&mut self, applied: Index, record: Bytes) {
        self.batches.push_back((applied.0, record, self.rows.len()));
        self.commit();
    }

    fn log_durable(&mut self, index: Index) {
        self.log_durable = self.log_durable.max(index.0);
        self.commit();
    }

    fn durable_index(&self) -> Index {
        Index(self.kept.lock().applied)
    }

    fn snapshots(&self) -> Snapshots {
        Snapshots::Streamed
    }

    fn snapshot(
        &mut self,
        resume: Option<&[u8]>,
    ) -> Result<Box<dyn SnapshotReader>, SnapshotError> {
        let Durable { record, rows, .. } = self.kept.lock().clone();
        let record = record.ok_or(SnapshotError::Unavailable)?;
        let from = resume.and_then(|token| token.try_into().ok()).map(u64::from_le_bytes);
        let from = from.map(|from| from as usize).filter(|from| *from <= rows.len());
        let (at, resumes) = (from.unwrap_or(0), from.is_some());
        Ok(Box::new(Reader { record, rows, at, resumes }))
    }

    fn stage(&mut self) -> Result<Box<dyn SnapshotStage>, SnapshotError> {
        self.kept.lock().staged.clear();
        let kept = self.kept.clone();
        Ok(Box::new(Stage { kept, chunk: None, finish: None, turns: 0 }))
    }

    fn installed(&mut self) {
        self.rows = self.kept.lock().rows.clone();
        self.batches.clear();
    }
}

struct Reader {
    record: Bytes,
    rows: Vec<Bytes>,
    at: usize,
    resumes: bool,
}

impl SnapshotReader for Reader {
    fn record(&self) -> Bytes {
        self.record.clone()
    }

    fn resumes(&self) -> bool {
        self.resumes
    }

    /// One row a chunk, so that a small state takes many.
    fn next(&mut self, _: usize) -> Result<Chunk, SnapshotError> {
        let bytes = self.rows.get(self.at).cloned().unwrap_or_default();
        self.at = self.rows.len().min(self.at + 1);
        let resume = Bytes::copy_from_slice(&(self.at as u64).to_le_bytes());
        Ok(Chunk { bytes, resume, is_last: self.at == self.rows.len() })
    }
}

struct Stage {
    kept: Kept,
    chunk: Option<Bytes>,
    finish: Option<(u64, Bytes)>,
    turns: u64,
}

impl SnapshotStage for Stage {
    fn push(&mut self, chunk: Bytes) {
        self.chunk = Some(chunk);
    }

    fn finish(&mut self, applied: Index, record: Bytes) {
        self.finish = Some((applied.0, record));
    }

    /// Takes its time now and then.
    fn turn(&mut self) -> Result<Turn, SnapshotError> {
        self.turns += 1;
        match self.turns % 3 {
            1 => return Ok(Turn::More),
            2 => return Ok(Turn::Wait(100)),
            _ => {}
        }
        let mut durable = self.kept.lock();
        // An empty chunk ends a state of which everything was staged before.
        durable.staged.extend(self.chunk.take().filter(|chunk| !chunk.is_empty()));
        if let Some((applied, record)) = self.finish.take() {
            durable.rows = std::mem::take(&mut durable.staged);
            durable.applied = applied;
            durable.record = Some(record);
        }
        Ok(Turn::Done)
    }
}

/// Keeps nothing durable.
#[derive(Default)]
pub(crate) struct Whole {
    rows: Vec<Bytes>,
}

impl Remembers for Whole {
    fn open(_: Kept) -> Whole {
        Whole::default()
    }

    fn rows(&self) -> &[Bytes] {
        &self.rows
    }
}

impl StateMachine for Whole {
    type Reply = usize;

    fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<usize>>) {
        remember(&mut self.rows, commands, outcomes);
    }

    fn snapshots(&self) -> Snapshots {
        Snapshots::Whole
    }

    fn view(&self) -> Option<StateView> {
        let rows = self.rows.clone();
        Some(Box::new(move |out| {
            for row in &rows {
                out.extend_from_slice(&(row.len() as u64).to_le_bytes());
                out.extend_from_slice(row);
            }
        }))
    }

    fn load(&mut self, mut state: &[u8]) -> Result<(), SnapshotError> {
        let mut rows = Vec::new();
        while let Some((length, rest)) = state.split_first_chunk::<8>() {
            let length = u64::from_le_bytes(*length) as usize;
            let cut = SnapshotError::Unfit("a row is cut".to_owned());
            let (row, rest) = rest.split_at_checked(length).ok_or(cut)?;
            rows.push(Bytes::copy_from_slice(row));
            state = rest;
        }
        self.rows = rows;
        Ok(())
    }
}
