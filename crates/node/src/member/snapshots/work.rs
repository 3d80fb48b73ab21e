//! Work on snapshots that may take long: it is handed to the driver, which does it wherever it likes.

use bytes::Bytes;
use jangada_raft::NodeId;

use super::CHUNK_BYTES;
use crate::snapshot::{Chunk, SnapshotError, SnapshotReader, SnapshotStage, Turn};

/// A piece of work on a snapshot. It is given turns until it is done, and then handed back.
///
/// It may be worked on away from the member's thread, while the member goes on.
pub struct SnapshotWork {
    pub(super) peer: NodeId,
    pub(super) transfer: u64,
    pub(super) task: Task,
}

/// What is to be done.
pub(super) enum Task {
    /// Read the next chunk of a view.
    Read { reader: Box<dyn SnapshotReader>, outcome: Option<Result<Chunk, SnapshotError>> },
    /// Carry out what the stage was ordered.
    Stage {
        stage: Box<dyn SnapshotStage>,
        order: Order,
        outcome: Option<Result<(), SnapshotError>>,
    },
}

/// What a stage was ordered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// To take a chunk: its number, the token behind it, and whether it is the last one.
    Push { number: u64, resume: Bytes, is_last: bool },
    /// To make all of it the machine's state.
    Finish,
}

impl SnapshotWork {
    /// Does a part of the work. What goes wrong concerns the member, who is told when the work is
    /// handed back; only a broken machine is the driver's business.
    ///
    /// # Errors
    /// The machine is broken, in a sentence: the process has to stop.
    pub fn turn(&mut self) -> Result<Turn, String> {
        match &mut self.task {
            Task::Read { reader, outcome } => match reader.next(CHUNK_BYTES) {
                Err(SnapshotError::Broken(sentence)) => Err(sentence),
                read => {
                    *outcome = Some(read);
                    Ok(Turn::Done)
                }
            },
            Task::Stage { stage, outcome, .. } => match stage.turn() {
                Err(SnapshotError::Broken(sentence)) => Err(sentence),
                Err(error) => {
                    *outcome = Some(Err(error));
                    Ok(Turn::Done)
                }
                Ok(Turn::Done) => {
                    *outcome = Some(Ok(()));
                    Ok(Turn::Done)
                }
                Ok(more) => Ok(more),
            },
        }
    }

    /// The other member of the transfer, the transfer's number, and what is done for it.
    #[must_use]
    pub fn name(&self) -> (NodeId, u64, &'static str) {
        let what = match &self.task {
            Task::Read { .. } => "read",
            Task::Stage { order: Order::Push { .. }, .. } => "stage",
            Task::Stage { order: Order::Finish, .. } => "finish",
        };
        (self.peer, self.transfer, what)
    }
}

impl std::fmt::Debug for SnapshotWork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (peer, transfer, what) = self.name();
        write!(f, "SnapshotWork({what} for transfer {transfer} with {peer})")
    }
}
