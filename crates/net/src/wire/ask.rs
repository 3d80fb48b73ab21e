//! The codec of questions to the leader and their answers. Both lie in the fixed part whole; a
//! configuration is written as in the log (`docs/log-format.md`).

use bytes::{BufMut, Bytes, BytesMut};
use jangada_entry::{
    ADDRESS_BYTES_MAX, CONFIGURATION_MEMBERS_MAX, MEMBER_ADDRESSES_MAX, decode_configuration,
    encode_configuration,
};
use jangada_raft::{CatchUp, Configuration, MemberChange, NodeId};

use super::decode::Fields;
use super::{DecodeError, EncodeError};
use crate::{Answer, Ask, AskRefusal, Basis, PeerMessage};

/// The most bytes of the members and addresses in one question or answer: 256 members with a few
/// addresses of common length each.
pub const MEMBERSHIP_BYTES_MAX: usize = 64 << 10;

/// The bytes before a configuration: process, number, choice.
const QUESTION_BYTES: usize = 24;

mod choice {
    pub(super) const CHANGE_MEMBERS: u8 = 0;
    pub(super) const TRANSFER: u8 = 1;
    pub(super) const CHANGED: u8 = 0;
    pub(super) const TRANSFERRED: u8 = 1;
    pub(super) const REFUSED: u8 = 2;
}

/// Whether the membership wanted can be sent and written at all: its lists are sorted and within
/// their bounds, and so are its addresses.
#[must_use]
pub fn fits(change: &MemberChange) -> bool {
    let sorted = |list: &[NodeId]| list.windows(2).all(|pair| pair[0] < pair[1]);
    let short = |list: &Vec<NodeId>| list.len() <= CONFIGURATION_MEMBERS_MAX && sorted(list);
    let addresses = change.addresses.values();
    let bytes: usize = addresses.clone().flatten().map(|address| 2 + address.len()).sum();
    let lists = change.voters.len() + change.learners.len() + 2 * change.addresses.len();
    [&change.voters, &change.learners].into_iter().all(short)
        && change.addresses.len() <= CONFIGURATION_MEMBERS_MAX
        && addresses.clone().all(|addresses| addresses.len() <= MEMBER_ADDRESSES_MAX)
        && addresses.flatten().all(|address| address.len() <= ADDRESS_BYTES_MAX)
        // While joint, an entry names the voters twice.
        && bytes + 2 * 8 * lists <= MEMBERSHIP_BYTES_MAX
}

/// The fixed part of a question or an answer.
///
/// # Errors
/// If the membership in it is beyond its bounds.
pub(super) fn encode(message: &PeerMessage) -> Result<Bytes, EncodeError> {
    let mut out = BytesMut::with_capacity(256);
    match message {
        PeerMessage::Ask { process, number, ask } => {
            put_number(*process, *number, &mut out);
            put_ask(ask, &mut out)?;
        }
        PeerMessage::Answer { process, number, answer } => {
            put_number(*process, *number, &mut out);
            put_answer(answer, &mut out)?;
        }
        _ => unreachable!("only questions and answers are handed here"),
    }
    Ok(out.freeze())
}

fn put_number(process: u64, number: u64, out: &mut BytesMut) {
    out.put_u64_le(process);
    out.put_u64_le(number);
}

/// A byte that says which it is, one for a detail, and six zeros.
fn put_choice(choice: u8, detail: u8, out: &mut BytesMut) {
    put_based_choice(choice, detail, Basis::ANY, out);
}

/// The same, with the basis of a change in place of the last four zeros.
fn put_based_choice(choice: u8, detail: u8, basis: Basis, out: &mut BytesMut) {
    out.put_u8(choice);
    out.put_u8(detail);
    out.put_bytes(0, 2);
    out.put_u32_le(basis.0);
}

fn put_ask(ask: &Ask, out: &mut BytesMut) -> Result<(), EncodeError> {
    match ask {
        Ask::ChangeMembers { change, basis } => {
            if !fits(change) {
                return Err(EncodeError::Membership);
            }
            let skips = u8::from(change.catch_up == CatchUp::Skip);
            put_based_choice(choice::CHANGE_MEMBERS, skips, *basis, out);
            let MemberChange { voters, learners, addresses, .. } = change.clone();
            let wanted = Configuration { voters, learners, addresses, ..Configuration::default() };
            out.put_slice(&encode_configuration(&wanted));
        }
        Ask::TransferLeadership(to) => {
            put_choice(choice::TRANSFER, u8::from(to.is_some()), out);
            out.put_u64_le(to.map_or(0, |to| to.0));
        }
    }
    Ok(())
}

fn put_answer(answer: &Answer, out: &mut BytesMut) -> Result<(), EncodeError> {
    match answer {
        Answer::Changed { index, configuration } => {
            put_choice(choice::CHANGED, 0, out);
            out.put_u64_le(index.0);
            let bytes = encode_configuration(configuration);
            if super::FIXED_BYTES_MAX - QUESTION_BYTES - 8 < bytes.len() {
                return Err(EncodeError::Membership);
            }
            out.put_slice(&bytes);
        }
        Answer::Transferred(to) => {
            put_choice(choice::TRANSFERRED, 0, out);
            out.put_u64_le(to.0);
        }
        Answer::Refused(reason) => put_choice(choice::REFUSED, *reason as u8, out),
    }
    Ok(())
}

/// Reads a question.
pub(super) fn ask(fields: &mut Fields<'_>) -> Result<PeerMessage, DecodeError> {
    let (process, number) = (fields.u64()?, fields.u64()?);
    let (choice, detail) = (fields.u8()?, fields.u8()?);
    fields.zero(2)?;
    let basis = Basis(fields.u32()?);
    if choice != choice::CHANGE_MEMBERS && basis != Basis::ANY {
        return Err(DecodeError::Reserved);
    }
    let ask = match (choice, detail) {
        (choice::CHANGE_MEMBERS, 0 | 1) => {
            let Configuration { voters, outgoing, learners, target, addresses, forced } =
                decode_configuration(fields.rest())?;
            if !outgoing.is_empty() || !target.is_empty() || forced {
                return Err(DecodeError::Reserved);
            }
            let catch_up = if detail == 1 { CatchUp::Skip } else { CatchUp::First };
            let change = MemberChange { voters, learners, addresses, catch_up };
            if !fits(&change) {
                return Err(DecodeError::Membership);
            }
            Ask::ChangeMembers { change, basis }
        }
        (choice::TRANSFER, named @ (0 | 1)) => {
            let to = NodeId(fields.u64()?);
            if named == 0 && to != NodeId(0) {
                return Err(DecodeError::Reserved);
            }
            Ask::TransferLeadership((named == 1).then_some(to))
        }
        (choice::CHANGE_MEMBERS | choice::TRANSFER, other) | (other, _) => {
            return Err(DecodeError::Choice(other));
        }
    };
    Ok(PeerMessage::Ask { process, number, ask })
}

/// Reads an answer.
pub(super) fn answer(fields: &mut Fields<'_>) -> Result<PeerMessage, DecodeError> {
    let (process, number) = (fields.u64()?, fields.u64()?);
    let (choice, detail) = (fields.u8()?, fields.u8()?);
    fields.zero(6)?;
    if choice != choice::REFUSED && detail != 0 {
        return Err(DecodeError::Reserved);
    }
    let answer = match choice {
        choice::CHANGED => {
            let index = fields.index()?;
            Answer::Changed { index, configuration: decode_configuration(fields.rest())? }
        }
        choice::TRANSFERRED => Answer::Transferred(NodeId(fields.u64()?)),
        choice::REFUSED => {
            Answer::Refused(AskRefusal::of(detail).ok_or(DecodeError::Choice(detail))?)
        }
        other => return Err(DecodeError::Choice(other)),
    };
    Ok(PeerMessage::Answer { process, number, answer })
}
