//! The codec of what a member's application asks of the leader's, and of what that answers. Both lie
//! in the fixed part whole; what the bytes mean is the applications' business.

use bytes::{BufMut, Bytes, BytesMut};

use super::decode::Fields;
use super::{DecodeError, EncodeError};
use crate::{ConsultRefusal, PeerMessage};

/// The most bytes of a question or of an answer to it: some thousand small questions together, and
/// little beside the entries that it shares a lane with.
pub const CONSULT_BYTES_MAX: usize = 256 << 10;

const ANSWERED: u8 = 0;
const REFUSED: u8 = 1;

/// The length of the fixed part.
pub(super) fn fixed_bytes(message: &PeerMessage) -> Result<usize, EncodeError> {
    let (head, bytes) = match message {
        PeerMessage::Consult { bytes, .. } => (16, bytes.len()),
        PeerMessage::Counsel { outcome, .. } => (24, outcome.as_ref().map_or(0, Bytes::len)),
        _ => unreachable!("only questions to an application and their answers are handed here"),
    };
    if CONSULT_BYTES_MAX < bytes { Err(EncodeError::Payload(bytes)) } else { Ok(head + bytes) }
}

/// Appends the fixed part.
pub(super) fn put(message: &PeerMessage, out: &mut BytesMut) {
    match message {
        PeerMessage::Consult { process, number, bytes } => {
            out.put_u64_le(*process);
            out.put_u64_le(*number);
            out.put_slice(bytes);
        }
        PeerMessage::Counsel { process, number, outcome } => {
            out.put_u64_le(*process);
            out.put_u64_le(*number);
            let (choice, reason) = match outcome {
                Ok(_) => (ANSWERED, 0),
                Err(reason) => (REFUSED, *reason as u8),
            };
            out.put_u8(choice);
            out.put_u8(reason);
            out.put_bytes(0, 6);
            out.put_slice(outcome.as_ref().map_or(&[], |bytes| bytes));
        }
        _ => unreachable!("only questions to an application and their answers are handed here"),
    }
}

fn rest(fields: &mut Fields<'_>) -> Result<Bytes, DecodeError> {
    let rest = fields.rest();
    if CONSULT_BYTES_MAX < rest.len() {
        return Err(DecodeError::Long);
    }
    Ok(Bytes::copy_from_slice(rest))
}

/// Reads a question.
pub(super) fn consult(fields: &mut Fields<'_>) -> Result<PeerMessage, DecodeError> {
    let (process, number) = (fields.u64()?, fields.u64()?);
    Ok(PeerMessage::Consult { process, number, bytes: rest(fields)? })
}

/// Reads an answer.
pub(super) fn counsel(fields: &mut Fields<'_>) -> Result<PeerMessage, DecodeError> {
    let (process, number) = (fields.u64()?, fields.u64()?);
    let (choice, reason) = (fields.u8()?, fields.u8()?);
    fields.zero(6)?;
    let outcome = match choice {
        ANSWERED if reason == 0 => Ok(rest(fields)?),
        ANSWERED => return Err(DecodeError::Reserved),
        REFUSED => Err(ConsultRefusal::of(reason).ok_or(DecodeError::Choice(reason))?),
        other => return Err(DecodeError::Choice(other)),
    };
    Ok(PeerMessage::Counsel { process, number, outcome })
}
