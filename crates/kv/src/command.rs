//! The commands of the log: what a member proposes and every member applies.
//!
//! Responsible for the bytes of a command (`docs/store-format.md`), for nothing of its meaning.
//! The encoding has a version, which travels in the entry's header; a version or a tag that this
//! build does not know is an error that must stop the process, never be skipped.
//!
//! Invariants:
//! 1. Decoding never panics and never allocates more than a constant times the payload's length.
//! 2. `decode(encode(command)) == command`, and no byte of a payload is left over.

use bytes::{BufMut, Bytes, BytesMut};

use crate::auth::{AuthCommand, Caller, Envelope};
use crate::lease::{LEASE_TAGS, LeaseCommand, decode_lease, encode_lease};
use crate::{
    Compare, CompareResult, CompareTarget, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp,
    SortOrder, SortTarget, TXN_DEPTH_MAX, TxnRequest,
};

/// The version of the encoding that this build writes.
pub const COMMAND_VERSION: u16 = 1;

/// A change to the replicated state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Writes a key.
    Put(PutRequest),
    /// Deletes a range of keys.
    DeleteRange(DeleteRangeRequest),
    /// A transaction that may write.
    Txn(TxnRequest),
    /// Forgets what was superseded at or before a revision.
    Compact {
        /// The oldest revision that stays readable.
        revision: i64,
        /// The client waits until the space is given back. The state machine does not look at it.
        physical: bool,
    },
    /// Raises or clears an alarm.
    Alarm {
        /// What to do.
        action: AlarmAction,
        /// The member the alarm is about; 0 in a deactivation means every member.
        member: u64,
        /// Which alarm.
        kind: AlarmKind,
    },
    /// A member publishes its name and where clients reach it.
    Member(Member),
    /// What the member of this id has published is forgotten: it is a member no longer.
    RetractMember(u64),
    /// About leases.
    Lease(LeaseCommand),
    /// Changes users, roles or permissions.
    Auth(AuthCommand),
    /// Another command, and on whose behalf it is proposed. That one is not of this kind.
    As(Caller, Box<Command>),
}

/// What an alarm command does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AlarmAction {
    /// Raises it.
    Activate,
    /// Clears it.
    Deactivate,
}

/// The alarms of etcd's Maintenance service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum AlarmKind {
    /// A member is out of space: no writes that need more of it.
    NoSpace = 1,
    /// A member's data differ from the others': the store answers nothing.
    Corrupt = 2,
}

/// An alarm that is raised.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Alarm {
    /// Which alarm.
    pub kind: AlarmKind,
    /// The member it is about.
    pub member: u64,
}

/// What a member publishes about itself. Raft's configuration is not here: its one home is the log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Member {
    /// The member's id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
}

/// Why bytes are not a command. The caller must stop: an entry that cannot be understood is never
/// skipped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// A version that this build does not know.
    Version(u16),
    /// A command, operation or enumeration number that this build does not know.
    Tag(u8),
    /// The bytes end inside a field.
    Short,
    /// A number is not encoded as this format encodes it.
    Number,
    /// A text is not UTF-8.
    Text,
    /// Transactions are nested deeper than [`TXN_DEPTH_MAX`].
    Depth,
    /// Bytes follow the command.
    Trailing,
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DecodeError::Version(version) => write!(
                f,
                "the command has version {version}, this build knows {COMMAND_VERSION}; \
                 run a build that knows both"
            ),
            DecodeError::Tag(tag) => write!(
                f,
                "the command contains number {tag}, which this build does not know; \
                 run a newer build"
            ),
            DecodeError::Short => write!(f, "the command is cut short"),
            DecodeError::Number => write!(f, "the command contains a malformed number"),
            DecodeError::Text => write!(f, "the command contains text that is not UTF-8"),
            DecodeError::Depth => {
                write!(f, "the command nests transactions deeper than {TXN_DEPTH_MAX}")
            }
            DecodeError::Trailing => write!(f, "the command is followed by stray bytes"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// The options of a put, as one byte of the encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PutFlags(u8);

const TAG_PUT: u8 = 1;
const TAG_DELETE_RANGE: u8 = 2;
const TAG_TXN: u8 = 3;
const TAG_COMPACT: u8 = 4;
const TAG_ALARM: u8 = 5;
const TAG_MEMBER: u8 = 6;
/// Only inside a transaction.
const TAG_RANGE: u8 = 7;
const TAG_RETRACT_MEMBER: u8 = 8;

impl PutFlags {
    /// [`PutRequest::prev_kv`].
    pub const PREV_KV: PutFlags = PutFlags(1);
    /// [`PutRequest::ignore_value`].
    pub const IGNORE_VALUE: PutFlags = PutFlags(2);
    /// [`PutRequest::ignore_lease`].
    pub const IGNORE_LEASE: PutFlags = PutFlags(4);
    /// A lease follows. Set by the encoder.
    const LEASE: PutFlags = PutFlags(8);

    /// The flags of a request.
    #[must_use]
    pub fn of(put: &PutRequest) -> PutFlags {
        let mut flags = PutFlags(0);
        for (set, flag) in [
            (put.prev_kv, PutFlags::PREV_KV),
            (put.ignore_value, PutFlags::IGNORE_VALUE),
            (put.ignore_lease, PutFlags::IGNORE_LEASE),
        ] {
            if set {
                flags = flags.with(flag);
            }
        }
        flags
    }

    /// These flags and those.
    #[must_use]
    pub const fn with(self, other: PutFlags) -> PutFlags {
        PutFlags(self.0 | other.0)
    }

    const fn has(self, other: PutFlags) -> bool {
        self.0 & other.0 != 0
    }
}

/// A put as it lies in a payload: the hot command, decoded without touching a reference count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PutView<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) lease: i64,
    pub(crate) prev_kv: bool,
    pub(crate) ignore_value: bool,
    pub(crate) ignore_lease: bool,
}

/// Appends a put without building a request first.
pub fn encode_put(buffer: &mut BytesMut, key: &[u8], value: &[u8], lease: i64, flags: PutFlags) {
    buffer.reserve(put_bytes_max(key, value));
    buffer.put_u8(TAG_PUT);
    put_body(buffer, key, value, lease, flags);
}

/// The most bytes that [`encode_put`] appends.
#[must_use]
pub fn put_bytes_max(key: &[u8], value: &[u8]) -> usize {
    // Tag, flags, lease and two lengths.
    2 + 10 + 5 + 5 + key.len() + value.len()
}

impl Command {
    /// Appends the command's bytes.
    pub fn encode_into(&self, buffer: &mut BytesMut) {
        match self {
            Command::Put(put) => {
                encode_put(buffer, &put.key, &put.value, put.lease, PutFlags::of(put));
            }
            Command::DeleteRange(delete) => {
                buffer.put_u8(TAG_DELETE_RANGE);
                delete_body(buffer, delete);
            }
            Command::Txn(txn) => {
                buffer.put_u8(TAG_TXN);
                txn_body(buffer, txn);
            }
            Command::Compact { revision, physical } => {
                buffer.put_u8(TAG_COMPACT);
                signed(buffer, *revision);
                buffer.put_u8(u8::from(*physical));
            }
            Command::Alarm { action, member, kind } => {
                buffer.put_u8(TAG_ALARM);
                buffer.put_u8(match action {
                    AlarmAction::Activate => 1,
                    AlarmAction::Deactivate => 2,
                });
                unsigned(buffer, *member);
                buffer.put_u8(*kind as u8);
            }
            Command::Member(member) => {
                buffer.put_u8(TAG_MEMBER);
                member_body(buffer, member);
            }
            Command::RetractMember(id) => {
                buffer.put_u8(TAG_RETRACT_MEMBER);
                unsigned(buffer, *id);
            }
            Command::Lease(command) => encode_lease(buffer, command),
            Command::Auth(command) => command.encode_into(buffer),
            Command::As(caller, command) => {
                assert!(!matches!(**command, Command::As(..)), "an envelope holds no envelope");
                Envelope::encode(buffer, caller);
                command.encode_into(buffer);
            }
        }
    }

    /// Reads a command. Keys and values share the payload's memory.
    ///
    /// # Errors
    /// The bytes are not a command of this version; the caller must stop.
    pub fn decode(payload: &Bytes, version: u16) -> Result<Command, DecodeError> {
        let reader = Reader::new(payload, version, |field| payload.slice_ref(field))?;
        reader.command()
    }

    /// Reads a command. Keys and values are copied into memory of their own size, so that what the
    /// store keeps never pins a receive buffer.
    pub(crate) fn decode_copied(payload: &[u8], version: u16) -> Result<Command, DecodeError> {
        let reader = Reader::new(payload, version, Bytes::copy_from_slice)?;
        reader.command()
    }
}

/// Reads a put in place; `None` if the payload holds another command.
pub(crate) fn view_put(payload: &[u8], version: u16) -> Result<Option<PutView<'_>>, DecodeError> {
    if payload.first() != Some(&TAG_PUT) {
        return Ok(None);
    }
    let mut reader = Reader::new(payload, version, |_| ())?;
    reader.byte()?;
    let put = reader.put_view()?;
    reader.finish()?;
    Ok(Some(put))
}

/// The row of a published member, without its id.
pub(crate) fn member_body(buffer: &mut BytesMut, member: &Member) {
    unsigned(buffer, member.id);
    field(buffer, member.name.as_bytes());
    unsigned(buffer, member.client_urls.len() as u64);
    for url in &member.client_urls {
        field(buffer, url.as_bytes());
    }
}

/// Reads what [`member_body`] wrote.
pub(crate) fn decode_member(bytes: &[u8]) -> Result<Member, DecodeError> {
    let mut reader = Reader::new(bytes, COMMAND_VERSION, |_| ())?;
    let member = reader.member()?;
    reader.finish()?;
    Ok(member)
}

fn put_body(buffer: &mut BytesMut, key: &[u8], value: &[u8], lease: i64, flags: PutFlags) {
    let flags = if lease == 0 { flags } else { flags.with(PutFlags::LEASE) };
    buffer.put_u8(flags.0);
    if lease != 0 {
        signed(buffer, lease);
    }
    field(buffer, key);
    field(buffer, value);
}

fn delete_body(buffer: &mut BytesMut, delete: &DeleteRangeRequest) {
    buffer.put_u8(u8::from(delete.prev_kv));
    field(buffer, &delete.key);
    field(buffer, &delete.range_end);
}

fn range_body(buffer: &mut BytesMut, range: &RangeRequest) {
    buffer.put_u8(u8::from(range.keys_only) | u8::from(range.count_only) << 1);
    buffer.put_u8(match range.sort_order {
        SortOrder::None => 0,
        SortOrder::Ascend => 1,
        SortOrder::Descend => 2,
    });
    buffer.put_u8(match range.sort_target {
        SortTarget::Key => 0,
        SortTarget::Version => 1,
        SortTarget::Create => 2,
        SortTarget::Mod => 3,
        SortTarget::Value => 4,
    });
    for number in [
        range.limit,
        range.revision,
        range.min_mod_revision,
        range.max_mod_revision,
        range.min_create_revision,
        range.max_create_revision,
    ] {
        signed(buffer, number);
    }
    field(buffer, &range.key);
    field(buffer, &range.range_end);
}

fn txn_body(buffer: &mut BytesMut, txn: &TxnRequest) {
    unsigned(buffer, txn.compare.len() as u64);
    for compare in &txn.compare {
        compare_body(buffer, compare);
    }
    for branch in [&txn.success, &txn.failure] {
        unsigned(buffer, branch.len() as u64);
        for op in branch {
            op_body(buffer, op);
        }
    }
}

fn compare_body(buffer: &mut BytesMut, compare: &Compare) {
    buffer.put_u8(match compare.result {
        CompareResult::Equal => 0,
        CompareResult::Greater => 1,
        CompareResult::Less => 2,
        CompareResult::NotEqual => 3,
    });
    let (tag, number) = match &compare.target {
        CompareTarget::Version(number) => (0, *number),
        CompareTarget::Create(number) => (1, *number),
        CompareTarget::Mod(number) => (2, *number),
        CompareTarget::Lease(number) => (4, *number),
        CompareTarget::Value(value) => {
            buffer.put_u8(3);
            field(buffer, value);
            field(buffer, &compare.key);
            field(buffer, &compare.range_end);
            return;
        }
    };
    buffer.put_u8(tag);
    signed(buffer, number);
    field(buffer, &compare.key);
    field(buffer, &compare.range_end);
}

fn op_body(buffer: &mut BytesMut, op: &RequestOp) {
    match op {
        RequestOp::Range(range) => {
            buffer.put_u8(TAG_RANGE);
            range_body(buffer, range);
        }
        RequestOp::Put(put) => {
            buffer.put_u8(TAG_PUT);
            put_body(buffer, &put.key, &put.value, put.lease, PutFlags::of(put));
        }
        RequestOp::DeleteRange(delete) => {
            buffer.put_u8(TAG_DELETE_RANGE);
            delete_body(buffer, delete);
        }
        RequestOp::Txn(txn) => {
            buffer.put_u8(TAG_TXN);
            txn_body(buffer, txn);
        }
    }
}

/// LEB128: seven bits a byte, the lowest first.
pub(crate) fn unsigned(buffer: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        buffer.put_u8((number as u8) | 0x80);
        number >>= 7;
    }
    buffer.put_u8(number as u8);
}

/// Zigzag, so that small negative numbers are short too.
pub(crate) fn signed(buffer: &mut BytesMut, number: i64) {
    unsigned(buffer, ((number << 1) ^ (number >> 63)) as u64);
}

pub(crate) fn field(buffer: &mut BytesMut, bytes: &[u8]) {
    unsigned(buffer, bytes.len() as u64);
    buffer.put_slice(bytes);
}

/// Reads fields off the front of a payload; `keep` turns a field into what the command holds.
pub(crate) struct Reader<'a, F> {
    rest: &'a [u8],
    keep: F,
}

impl<'a, T, F: Fn(&'a [u8]) -> T> Reader<'a, F> {
    pub(crate) fn new(
        payload: &'a [u8],
        version: u16,
        keep: F,
    ) -> Result<Reader<'a, F>, DecodeError> {
        if version != COMMAND_VERSION {
            return Err(DecodeError::Version(version));
        }
        Ok(Reader { rest: payload, keep })
    }

    pub(crate) fn finish(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }

    /// The next byte, which is still to be read.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        let (&first, rest) = self.rest.split_first().ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(first)
    }

    pub(crate) fn bits(&mut self, known: u8) -> Result<u8, DecodeError> {
        let bits = self.byte()?;
        if bits & !known == 0 { Ok(bits) } else { Err(DecodeError::Tag(bits)) }
    }

    pub(crate) fn unsigned(&mut self) -> Result<u64, DecodeError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::Number);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                // One number has one encoding: no padding with empty groups.
                let padded = byte == 0 && shift > 0;
                return if padded { Err(DecodeError::Number) } else { Ok(number) };
            }
        }
        Err(DecodeError::Number)
    }

    pub(crate) fn signed(&mut self) -> Result<i64, DecodeError> {
        let number = self.unsigned()?;
        Ok(((number >> 1) as i64) ^ -((number & 1) as i64))
    }

    pub(crate) fn slice(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = usize::try_from(self.unsigned()?).map_err(|_| DecodeError::Short)?;
        if length > self.rest.len() {
            return Err(DecodeError::Short);
        }
        let (slice, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(slice)
    }

    pub(crate) fn field(&mut self) -> Result<T, DecodeError> {
        let slice = self.slice()?;
        Ok((self.keep)(slice))
    }

    pub(crate) fn text(&mut self) -> Result<String, DecodeError> {
        let slice = self.slice()?;
        std::str::from_utf8(slice).map(str::to_owned).map_err(|_| DecodeError::Text)
    }

    /// A count of items that take at least one byte each (invariant 1).
    pub(crate) fn count(&mut self) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.unsigned()?).map_err(|_| DecodeError::Short)?;
        if count > self.rest.len() { Err(DecodeError::Short) } else { Ok(count) }
    }

    fn put_view(&mut self) -> Result<PutView<'a>, DecodeError> {
        let known = PutFlags::PREV_KV
            .with(PutFlags::IGNORE_VALUE)
            .with(PutFlags::IGNORE_LEASE)
            .with(PutFlags::LEASE);
        let flags = PutFlags(self.bits(known.0)?);
        let lease = if flags.has(PutFlags::LEASE) { self.signed()? } else { 0 };
        if flags.has(PutFlags::LEASE) && lease == 0 {
            return Err(DecodeError::Number);
        }
        Ok(PutView {
            key: self.slice()?,
            value: self.slice()?,
            lease,
            prev_kv: flags.has(PutFlags::PREV_KV),
            ignore_value: flags.has(PutFlags::IGNORE_VALUE),
            ignore_lease: flags.has(PutFlags::IGNORE_LEASE),
        })
    }

    fn member(&mut self) -> Result<Member, DecodeError> {
        let id = self.unsigned()?;
        let name = self.text()?;
        let count = self.count()?;
        let mut client_urls = Vec::new();
        for _ in 0..count {
            client_urls.push(self.text()?);
        }
        Ok(Member { id, name, client_urls })
    }
}

impl<'a, F: Fn(&'a [u8]) -> Bytes> Reader<'a, F> {
    fn command(mut self) -> Result<Command, DecodeError> {
        let caller = Envelope::open(&mut self)?;
        let command = match self.byte()? {
            TAG_PUT => Command::Put(self.put()?),
            TAG_DELETE_RANGE => Command::DeleteRange(self.delete_range()?),
            TAG_TXN => Command::Txn(self.txn(1)?),
            TAG_COMPACT => {
                Command::Compact { revision: self.signed()?, physical: self.bits(1)? != 0 }
            }
            TAG_ALARM => Command::Alarm {
                action: match self.byte()? {
                    1 => AlarmAction::Activate,
                    2 => AlarmAction::Deactivate,
                    other => return Err(DecodeError::Tag(other)),
                },
                member: self.unsigned()?,
                kind: AlarmKind::of(self.byte()?)?,
            },
            TAG_MEMBER => Command::Member(self.member()?),
            TAG_RETRACT_MEMBER => Command::RetractMember(self.unsigned()?),
            tag if LEASE_TAGS.contains(&tag) => Command::Lease(decode_lease(tag, &mut self)?),
            tag if AuthCommand::has_tag(tag) => Command::Auth(AuthCommand::decode(tag, &mut self)?),
            other => return Err(DecodeError::Tag(other)),
        };
        self.finish()?;
        Ok(match caller {
            Some(caller) => Command::As(caller, Box::new(command)),
            None => command,
        })
    }

    fn put(&mut self) -> Result<PutRequest, DecodeError> {
        let view = self.put_view()?;
        Ok(PutRequest {
            key: (self.keep)(view.key),
            value: (self.keep)(view.value),
            lease: view.lease,
            prev_kv: view.prev_kv,
            ignore_value: view.ignore_value,
            ignore_lease: view.ignore_lease,
        })
    }

    fn delete_range(&mut self) -> Result<DeleteRangeRequest, DecodeError> {
        let prev_kv = self.bits(1)? != 0;
        Ok(DeleteRangeRequest { key: self.field()?, range_end: self.field()?, prev_kv })
    }

    fn range(&mut self) -> Result<RangeRequest, DecodeError> {
        let flags = self.bits(3)?;
        Ok(RangeRequest {
            keys_only: flags & 1 != 0,
            count_only: flags & 2 != 0,
            sort_order: match self.byte()? {
                0 => SortOrder::None,
                1 => SortOrder::Ascend,
                2 => SortOrder::Descend,
                other => return Err(DecodeError::Tag(other)),
            },
            sort_target: match self.byte()? {
                0 => SortTarget::Key,
                1 => SortTarget::Version,
                2 => SortTarget::Create,
                3 => SortTarget::Mod,
                4 => SortTarget::Value,
                other => return Err(DecodeError::Tag(other)),
            },
            limit: self.signed()?,
            revision: self.signed()?,
            min_mod_revision: self.signed()?,
            max_mod_revision: self.signed()?,
            min_create_revision: self.signed()?,
            max_create_revision: self.signed()?,
            key: self.field()?,
            range_end: self.field()?,
        })
    }

    fn txn(&mut self, depth: usize) -> Result<TxnRequest, DecodeError> {
        if depth > TXN_DEPTH_MAX {
            return Err(DecodeError::Depth);
        }
        let mut txn = TxnRequest::default();
        for _ in 0..self.count()? {
            txn.compare.push(self.compare()?);
        }
        for branch in [&mut txn.success, &mut txn.failure] {
            for _ in 0..self.count()? {
                branch.push(match self.byte()? {
                    TAG_RANGE => RequestOp::Range(self.range()?),
                    TAG_PUT => RequestOp::Put(self.put()?),
                    TAG_DELETE_RANGE => RequestOp::DeleteRange(self.delete_range()?),
                    TAG_TXN => RequestOp::Txn(self.txn(depth + 1)?),
                    other => return Err(DecodeError::Tag(other)),
                });
            }
        }
        Ok(txn)
    }

    fn compare(&mut self) -> Result<Compare, DecodeError> {
        let result = match self.byte()? {
            0 => CompareResult::Equal,
            1 => CompareResult::Greater,
            2 => CompareResult::Less,
            3 => CompareResult::NotEqual,
            other => return Err(DecodeError::Tag(other)),
        };
        let target = match self.byte()? {
            0 => CompareTarget::Version(self.signed()?),
            1 => CompareTarget::Create(self.signed()?),
            2 => CompareTarget::Mod(self.signed()?),
            3 => CompareTarget::Value(self.field()?),
            4 => CompareTarget::Lease(self.signed()?),
            other => return Err(DecodeError::Tag(other)),
        };
        Ok(Compare { result, target, key: self.field()?, range_end: self.field()? })
    }
}

impl AlarmKind {
    /// The alarm of this number in etcd's `AlarmType`.
    ///
    /// # Errors
    /// A number that this build does not know.
    pub fn of(number: u8) -> Result<AlarmKind, DecodeError> {
        match number {
            1 => Ok(AlarmKind::NoSpace),
            2 => Ok(AlarmKind::Corrupt),
            other => Err(DecodeError::Tag(other)),
        }
    }
}
