//! The codec of what members say about snapshots.

use bytes::{BufMut, Bytes, BytesMut};

use super::decode::Fields;
use super::encode::put_position;
use super::{DecodeError, EncodeError, RECORD_BYTES_MAX, RESUME_BYTES_MAX, kind};
use crate::{SnapshotChunk, SnapshotHead, SnapshotMessage, SnapshotRefusal};

/// The bytes of a chunk's fixed part before its token.
const CHUNK_BYTES: usize = 40;

/// The bytes of a head before its record.
const HEAD_BYTES: usize = 24;

const HAS_HEAD: u8 = 1;
const IS_LAST: u8 = 2;
const RESUMES: u8 = 4;

pub(super) fn kind_of(message: &SnapshotMessage) -> u8 {
    match message {
        SnapshotMessage::Wanted { .. } => kind::SNAPSHOT_WANTED,
        SnapshotMessage::Offer { .. } => kind::SNAPSHOT_OFFER,
        SnapshotMessage::Accept { .. } => kind::SNAPSHOT_ACCEPT,
        SnapshotMessage::Chunk(_) => kind::SNAPSHOT_CHUNK,
        SnapshotMessage::Staged { .. } => kind::SNAPSHOT_STAGED,
        SnapshotMessage::Installed { .. } => kind::SNAPSHOT_INSTALLED,
        SnapshotMessage::Refused { .. } => kind::SNAPSHOT_REFUSED,
    }
}

/// The length of the fixed part.
pub(super) fn fixed_bytes(message: &SnapshotMessage) -> Result<usize, EncodeError> {
    Ok(match message {
        SnapshotMessage::Wanted { .. } => 8,
        SnapshotMessage::Offer { .. }
        | SnapshotMessage::Staged { .. }
        | SnapshotMessage::Installed { .. }
        | SnapshotMessage::Refused { .. } => 16,
        SnapshotMessage::Accept { resume, .. } => {
            let resume = resume.as_deref().unwrap_or_default();
            check(resume, RESUME_BYTES_MAX)?;
            16 + resume.len()
        }
        SnapshotMessage::Chunk(chunk) => {
            check(&chunk.resume, RESUME_BYTES_MAX)?;
            let head = match &chunk.head {
                Some(head) => {
                    check(&head.record, RECORD_BYTES_MAX)?;
                    HEAD_BYTES + head.record.len()
                }
                None => 0,
            };
            CHUNK_BYTES + chunk.resume.len() + head
        }
    })
}

fn check(bytes: &[u8], max: usize) -> Result<(), EncodeError> {
    if max < bytes.len() { Err(EncodeError::Payload(bytes.len())) } else { Ok(()) }
}

fn put_bytes(bytes: &[u8], out: &mut BytesMut) {
    out.put_u32_le(u32::try_from(bytes.len()).expect("bounded by measure"));
    out.extend_from_slice(bytes);
}

pub(super) fn put(message: &SnapshotMessage, out: &mut BytesMut) {
    match message {
        SnapshotMessage::Wanted { at_least } => out.put_u64_le(at_least.0),
        SnapshotMessage::Offer { transfer, term } => {
            out.put_u64_le(*transfer);
            out.put_u64_le(term.0);
        }
        SnapshotMessage::Accept { transfer, resume } => {
            out.put_u64_le(*transfer);
            out.put_u8(u8::from(resume.is_some()));
            out.put_bytes(0, 3);
            put_bytes(resume.as_deref().unwrap_or_default(), out);
        }
        SnapshotMessage::Chunk(chunk) => put_chunk(chunk, out),
        SnapshotMessage::Staged { transfer, number } => {
            out.put_u64_le(*transfer);
            out.put_u64_le(*number);
        }
        SnapshotMessage::Installed { transfer, last } => {
            out.put_u64_le(*transfer);
            out.put_u64_le(last.0);
        }
        SnapshotMessage::Refused { transfer, reason } => {
            out.put_u64_le(*transfer);
            out.put_u8(*reason as u8);
            out.put_bytes(0, 7);
        }
    }
}

fn put_chunk(chunk: &SnapshotChunk, out: &mut BytesMut) {
    out.put_u64_le(chunk.transfer);
    out.put_u64_le(chunk.term.0);
    out.put_u64_le(chunk.number);
    let resumes = chunk.head.as_ref().is_some_and(|head| head.resumes);
    let flags = [(HAS_HEAD, chunk.head.is_some()), (IS_LAST, chunk.is_last), (RESUMES, resumes)];
    out.put_u8(flags.iter().filter(|(_, set)| *set).map(|(flag, _)| flag).sum());
    out.put_bytes(0, 3);
    out.put_u32_le(u32::try_from(chunk.bytes.len()).expect("bounded by measure"));
    out.put_u32_le(crc32c::crc32c(&chunk.bytes));
    put_bytes(&chunk.resume, out);
    if let Some(head) = &chunk.head {
        put_position(head.last, out);
        out.put_u32_le(0);
        put_bytes(&head.record, out);
    }
}

pub(super) fn decode(
    number: u8,
    fields: &mut Fields<'_>,
    payloads: &mut Bytes,
) -> Result<SnapshotMessage, DecodeError> {
    Ok(match number {
        kind::SNAPSHOT_WANTED => SnapshotMessage::Wanted { at_least: fields.index()? },
        kind::SNAPSHOT_OFFER => {
            SnapshotMessage::Offer { transfer: fields.number()?, term: fields.term()? }
        }
        kind::SNAPSHOT_ACCEPT => {
            let transfer = fields.number()?;
            let some = match fields.u8()? {
                0 => false,
                1 => true,
                other => return Err(DecodeError::Choice(other)),
            };
            fields.zero(3)?;
            let resume = fields.bytes(RESUME_BYTES_MAX)?;
            if !some && !resume.is_empty() {
                return Err(DecodeError::Reserved);
            }
            SnapshotMessage::Accept { transfer, resume: some.then_some(resume) }
        }
        kind::SNAPSHOT_CHUNK => SnapshotMessage::Chunk(chunk(fields, payloads)?),
        kind::SNAPSHOT_STAGED => {
            SnapshotMessage::Staged { transfer: fields.number()?, number: fields.number()? }
        }
        kind::SNAPSHOT_INSTALLED => {
            SnapshotMessage::Installed { transfer: fields.number()?, last: fields.index()? }
        }
        kind::SNAPSHOT_REFUSED => {
            let transfer = fields.number()?;
            let reason = match fields.u8()? {
                0 => SnapshotRefusal::Stale,
                1 => SnapshotRefusal::Busy,
                2 => SnapshotRefusal::Unfit,
                other => return Err(DecodeError::Choice(other)),
            };
            fields.zero(7)?;
            SnapshotMessage::Refused { transfer, reason }
        }
        other => return Err(DecodeError::Kind(other)),
    })
}

fn chunk(fields: &mut Fields<'_>, payloads: &mut Bytes) -> Result<SnapshotChunk, DecodeError> {
    let (transfer, term, number) = (fields.number()?, fields.term()?, fields.number()?);
    let flags = fields.u8()?;
    fields.zero(3)?;
    let is_set = |flag: u8| flags & flag == flag;
    if flags & !(HAS_HEAD | IS_LAST | RESUMES) != 0 || (is_set(RESUMES) && !is_set(HAS_HEAD)) {
        return Err(DecodeError::Reserved);
    }
    let length = fields.u32()? as usize;
    let crc = fields.u32()?;
    let resume = fields.bytes(RESUME_BYTES_MAX)?;
    let head = if is_set(HAS_HEAD) {
        let last = fields.position()?;
        fields.zero(4)?;
        let record = fields.bytes(RECORD_BYTES_MAX)?;
        Some(SnapshotHead { last, record, resumes: is_set(RESUMES) })
    } else {
        None
    };
    if payloads.len() < length {
        return Err(DecodeError::Short);
    }
    let bytes = payloads.split_to(length);
    if crc32c::crc32c(&bytes) != crc {
        return Err(DecodeError::ChunkChecksum);
    }
    let is_last = is_set(IS_LAST);
    Ok(SnapshotChunk { transfer, term, number, head, is_last, resume, bytes })
}
