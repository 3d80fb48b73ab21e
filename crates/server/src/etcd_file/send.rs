//! Sends a state as a snapshot file, piece by piece.
//!
//! Invariants:
//! 1. The bytes are never all in memory: a piece, and a page for each level of a tree.
//! 2. The length is known before the first piece, which takes a walk of its own over the rows.

use jangada_kv::EngineError;
use sha2::{Digest, Sha256};

use super::Exported;
use super::buckets::{Buckets, fill};

/// The bytes of a piece; etcd's.
const PIECE_BYTES: usize = 32 << 10;

/// A piece of a snapshot file.
pub(crate) struct Piece {
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// How many of the file follow, its checksum apart.
    pub(crate) remaining: u64,
}

/// Why a file was not sent to its end.
pub(crate) enum SendError {
    /// The engine cannot be read.
    Engine(EngineError),
    /// Whoever takes the pieces takes no more.
    Gone,
}

impl From<EngineError> for SendError {
    fn from(error: EngineError) -> SendError {
        SendError::Engine(error)
    }
}

/// Gives the file's pieces to `take`, and the checksum of its content behind it as the last one, until
/// `take` wants no more.
///
/// # Errors
/// The engine cannot be read.
pub(crate) fn send(
    exported: &Exported,
    take: &mut dyn FnMut(Piece) -> bool,
) -> Result<(), EngineError> {
    match send_all(exported, take) {
        Ok(()) | Err(SendError::Gone) => Ok(()),
        Err(SendError::Engine(error)) => Err(error),
    }
}

fn send_all(exported: &Exported, take: &mut dyn FnMut(Piece) -> bool) -> Result<(), SendError> {
    let content = |content: &mut jangada_bolt::Content<'_, SendError>| {
        fill(exported, content as &mut dyn Buckets<SendError>)
    };
    let plan = jangada_bolt::plan(content)?;
    let mut remaining = plan.bytes();
    let mut gathered = Vec::with_capacity(PIECE_BYTES);
    let mut sum = Sha256::new();
    let mut give = |bytes: Vec<u8>, remaining: u64| {
        if take(Piece { bytes, remaining }) { Ok(()) } else { Err(SendError::Gone) }
    };
    let mut out = |mut bytes: &[u8]| {
        sum.update(bytes);
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE_BYTES - gathered.len()));
            gathered.extend_from_slice(now);
            bytes = later;
            if gathered.len() == PIECE_BYTES {
                remaining -= PIECE_BYTES as u64;
                give(std::mem::replace(&mut gathered, Vec::with_capacity(PIECE_BYTES)), remaining)?;
            }
        }
        Ok(())
    };
    jangada_bolt::write(&plan, &mut out, content)?;
    if !gathered.is_empty() {
        give(gathered, 0)?;
    }
    give(sum.finalize().to_vec(), 0)
}
