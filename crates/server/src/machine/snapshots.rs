//! The store's snapshots in the node's words.

use bytes::Bytes;
use jangada::{Chunk, Index, SnapshotError, SnapshotReader, SnapshotStage, StateView, Turn};
use jangada_kv::{
    CHUNK_BYTES, EngineError, Machine, Restoration, RestoreError, RestoreState, SnapshotStream,
};

/// How long the engine is given to work off what waits for it, in microseconds, before it is looked
/// at again: some commits take this long.
const ENGINE_WAIT_US: u64 = 2_000;

/// Opens a view of the store's durable state.
pub(super) fn read(
    machine: &Machine,
    resume: Option<&[u8]>,
) -> Result<Box<dyn SnapshotReader>, SnapshotError> {
    let asked = resume.unwrap_or_default();
    let stream = machine.snapshot(asked).map_err(engine_error)?;
    let stream = stream.ok_or(SnapshotError::Unavailable)?;
    let resumes = !asked.is_empty() && !stream.is_at_beginning();
    Ok(Box::new(Reader { stream, resumes }))
}

/// A view of a store without an engine, which writes its chunks, each behind its length. What is taken
/// at once are references to the rows.
pub(super) fn view(machine: &Machine) -> StateView {
    let sound = "a store in memory is always readable";
    let stream = machine.snapshot(&[]).expect(sound);
    Box::new(move |out| {
        let Some(mut stream) = stream else { return };
        while let Some(chunk) = stream.next_chunk(CHUNK_BYTES).expect(sound) {
            let length = u32::try_from(chunk.len()).expect("a chunk is bounded");
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(&chunk);
        }
    })
}

/// Reads what a [`view`] wrote.
pub(super) fn load(machine: &mut Machine, state: &[u8]) -> Result<(), SnapshotError> {
    let mut restoration = machine.restore();
    let mut rest = state;
    let mut last = None;
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let (chunk, behind) = behind.split_at_checked(length).ok_or_else(cut_short)?;
        restoration.push(&Bytes::copy_from_slice(chunk)).map_err(restore_error)?;
        rest = behind;
        last = restoration.end();
    }
    let (applied, record) = last.filter(|_| rest.is_empty()).ok_or_else(cut_short)?;
    restoration.finish(applied, record).map_err(restore_error)?;
    machine.installed();
    Ok(())
}

fn cut_short() -> SnapshotError {
    SnapshotError::Unfit("the saved state is cut short".to_owned())
}

fn engine_error(error: EngineError) -> SnapshotError {
    match error {
        EngineError::NoSpace(_) => SnapshotError::Full,
        EngineError::Unavailable => SnapshotError::Unavailable,
        other => SnapshotError::Broken(other.to_string()),
    }
}

fn restore_error(error: RestoreError) -> SnapshotError {
    match error {
        RestoreError::Engine(error) => engine_error(error),
        other => SnapshotError::Unfit(other.to_string()),
    }
}

struct Reader {
    stream: SnapshotStream,
    resumes: bool,
}

impl SnapshotReader for Reader {
    fn record(&self) -> Bytes {
        self.stream.record().clone()
    }

    fn resumes(&self) -> bool {
        self.resumes
    }

    fn next(&mut self, bytes_max: usize) -> Result<Chunk, SnapshotError> {
        let bytes = self.stream.next_chunk(bytes_max).map_err(engine_error)?;
        let bytes = bytes.expect("a snapshot is not read behind its last chunk");
        Ok(Chunk { bytes, resume: self.stream.place(), is_last: self.stream.is_ended() })
    }
}

/// A restoration of the store. The engine's writer does the work, wherever it runs.
pub(super) struct Stage {
    restoration: Restoration,
    /// What was wrong with the last order.
    refused: Option<RestoreError>,
    finishing: bool,
}

impl Stage {
    pub(super) fn new(restoration: Restoration) -> Stage {
        Stage { restoration, refused: None, finishing: false }
    }
}

impl SnapshotStage for Stage {
    fn push(&mut self, chunk: Bytes) {
        self.refused = self.restoration.push(&chunk).err();
    }

    fn finish(&mut self, applied: Index, record: Bytes) {
        self.finishing = true;
        self.refused = self.restoration.finish(applied.0, record).err();
    }

    fn turn(&mut self) -> Result<Turn, SnapshotError> {
        if let Some(error) = self.refused.take() {
            return Err(restore_error(error));
        }
        match self.restoration.state() {
            RestoreState::Done => Ok(Turn::Done),
            RestoreState::Taking if !self.finishing && self.restoration.has_room() => {
                Ok(Turn::Done)
            }
            RestoreState::Taking | RestoreState::Finishing => Ok(Turn::Wait(ENGINE_WAIT_US)),
            RestoreState::Failed(error) => Err(restore_error(error)),
        }
    }
}
