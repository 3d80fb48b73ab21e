//! Exactly once: sessions around any state machine (thesis section 6.3).
//!
//! A client whose proposal ends in doubt cannot tell whether it happened. Proposed again, it may be
//! applied twice. A session closes the gap: each command names its client's session and a serial
//! number, the state machine remembers what it answered, and a command that comes again gets the
//! answer of the first time. [`Sessions`] is that memory, as a state machine around yours;
//! [`Session`] is the client's side, which asks again until it has the one answer.
//!
//! Responsible for: which command is applied and which is not. Not responsible for: the order of a
//! client's commands (several may be under way at a time), and commands that are proposed without a
//! session ([`SessionCommand::Plain`]), which are applied as often as they stand in the log.
//!
//! Invariants, beside those of the table:
//! 1. A command of a session is applied at most once, and never after the session has ended.
//! 2. The table is stored with the machine it stands for: in the same transaction, in the same
//!    snapshot. One without the other would apply a command again, or answer one that never happened.
//! 3. There is no clock here: sessions expire by the time stamped on the entries.

mod client;
mod command;
mod reply;
mod snapshot;
mod table;

use bytes::{BufMut, Bytes, BytesMut};
use jangada_entry::{Draft, Frame, Kind};
use jangada_raft::{Index, canon};

pub use client::{Session, SessionAnswer, SessionError};
pub use command::{SessionCommand, SessionId};
pub use reply::StoredReply;
pub use table::{SessionLimits, SessionsError};

use crate::machine::{Outcome, StateMachine};
use crate::record::mix;
use crate::snapshot::{SnapshotError, SnapshotReader, SnapshotStage, Snapshots, StateView};
use snapshot::{Reader, Stage, Staged};
use table::{Stored, Table, Verdict};

/// Marks a record that holds sessions beside the node's own notes. The notes begin with their
/// version, which is far below.
const MARK: u32 = u32::from_le_bytes(*b"JSES");

/// What a command through sessions is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SessionReply<R> {
    /// The session is open under this name.
    Opened(SessionId),
    /// The machine's answer, now or when the command was applied first.
    Applied(R),
    /// The session was in use, and is.
    Kept,
    /// The session is closed.
    Closed,
    /// Nothing was applied.
    Refused(SessionRefusal),
}

/// Why a command was not applied. It follows from the log alone, as everything does that a machine
/// answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SessionRefusal {
    /// The session has expired or was closed, or there never was one of that name.
    Unknown,
    /// The client has said that it has the answer.
    Answered,
    /// Too many of the session's answers are not acknowledged: see [`SessionLimits::replies_max`].
    TooMany,
    /// The command was applied before, and its answer was too large to be kept: see
    /// [`SessionLimits::session_bytes_max`].
    NotKept,
    /// The bytes are no [`SessionCommand`].
    Unreadable,
}

/// A state machine that applies each command of a session once, however often it stands in the log.
///
/// Everything that is proposed to it is a [`SessionCommand`]; what reads ask is up to the machine
/// within, see [`Sessions::machine`].
#[derive(Debug)]
pub struct Sessions<M> {
    machine: M,
    table: Table,
    /// The table of another member's snapshot that is being staged.
    staged: Staged,
    inner: Vec<Frame>,
}

impl<M: StateMachine<Reply: StoredReply>> Sessions<M> {
    /// Sessions around a machine, with the limits that suit most.
    ///
    /// # Errors
    /// If what the machine has recovered holds no sessions that can be read.
    pub fn new(machine: M) -> Result<Sessions<M>, SessionsError> {
        Sessions::with_limits(machine, SessionLimits::default())
    }

    /// Sessions around a machine.
    ///
    /// # Errors
    /// If what the machine has recovered holds no sessions that can be read.
    ///
    /// # Panics
    /// If the limits leave no room for a single session.
    pub fn with_limits(machine: M, limits: SessionLimits) -> Result<Sessions<M>, SessionsError> {
        let table = match machine.recovered() {
            None => Table::new(limits),
            Some(record) => Table::decode(limits, &split(&record)?.1)?,
        };
        Ok(Sessions { machine, table, staged: Staged::default(), inner: Vec::new() })
    }

    /// The machine within.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// How many sessions are open.
    #[must_use]
    pub fn open_sessions(&self) -> usize {
        self.table.len()
    }

    /// The bytes of the table as it is stored; never above [`SessionLimits::table_bytes_max`].
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        self.table.bytes()
    }

    /// Whether the session is open.
    #[must_use]
    pub fn is_open(&self, session: SessionId) -> bool {
        self.table.holds(session)
    }

    fn apply_one(&mut self, frame: &Frame) -> Outcome<SessionReply<M::Reply>> {
        let header = frame.header();
        let (index, now_ms) = (header.position.index, header.time_ms);
        let expired = self.table.expire(now_ms);
        let Some(command) = SessionCommand::decode(frame.payload()) else {
            return refused(SessionRefusal::Unreadable, expired);
        };
        match command {
            SessionCommand::Plain(command) => {
                let Outcome { reply, digest } = self.apply_within(frame, command);
                let digest = if expired == 0 { digest } else { mix(digest, expired) };
                Outcome { reply: SessionReply::Applied(reply), digest }
            }
            SessionCommand::Open => {
                let session = SessionId(index.0);
                let ended = self.table.open(session, now_ms);
                let limits = self.table.limits().fingerprint();
                let digest = mix(mix(limits, ended), expired);
                Outcome { reply: SessionReply::Opened(session), digest }
            }
            SessionCommand::KeepAlive(session) => {
                if !self.table.touch(session, index, now_ms) {
                    return refused(SessionRefusal::Unknown, expired);
                }
                Outcome { reply: SessionReply::Kept, digest: mix(session.0, expired) }
            }
            SessionCommand::Close(session) => {
                if !self.table.close(session) {
                    return refused(SessionRefusal::Unknown, expired);
                }
                Outcome { reply: SessionReply::Closed, digest: mix(!session.0, expired) }
            }
            SessionCommand::Propose { session, serial, answered_up_to, command } => {
                self.table.touch(session, index, now_ms);
                let verdict = self.table.judge(session, serial, answered_up_to);
                self.carry_out(frame, (session, serial), verdict, command, expired)
            }
        }
    }

    /// Does with a session's command what the table says (sessions invariant 1).
    fn carry_out(
        &mut self,
        frame: &Frame,
        (session, serial): (SessionId, u64),
        verdict: Verdict,
        command: &[u8],
        expired: u64,
    ) -> Outcome<SessionReply<M::Reply>> {
        match verdict {
            Verdict::Again(_) if canon!(session_duplicate_is_applied_again) => {
                let Outcome { reply, digest } = self.apply_within(frame, command);
                Outcome { reply: SessionReply::Applied(reply), digest }
            }
            Verdict::Unknown if canon!(command_of_an_ended_session_is_applied) => {
                let Outcome { reply, digest } = self.apply_within(frame, command);
                Outcome { reply: SessionReply::Applied(reply), digest }
            }
            Verdict::Apply => {
                let Outcome { reply, digest } = self.apply_within(frame, command);
                let mut stored = BytesMut::new();
                reply.store(&mut stored);
                let ended = self.table.store(session, serial, stored.freeze());
                let digest = mix(mix(digest, mix(session.0, serial)), mix(ended, expired));
                Outcome { reply: SessionReply::Applied(reply), digest }
            }
            Verdict::Again(Stored::Kept(bytes)) => {
                let reply = M::Reply::restore(&bytes).expect("a reply is read as it was stored");
                let digest = mix(crc32c::crc32c(&bytes).into(), expired);
                Outcome { reply: SessionReply::Applied(reply), digest }
            }
            Verdict::Again(Stored::NotKept) => refused(SessionRefusal::NotKept, expired),
            Verdict::Answered => refused(SessionRefusal::Answered, expired),
            Verdict::TooMany => refused(SessionRefusal::TooMany, expired),
            Verdict::Unknown => refused(SessionRefusal::Unknown, expired),
        }
    }

    /// Lets the machine within apply its own part of a command, under the same name and time.
    ///
    /// One at a time: whether the next command is applied may depend on this one's reply, and must
    /// not depend on how a member happens to group its entries.
    fn apply_within(&mut self, frame: &Frame, command: &[u8]) -> Outcome<M::Reply> {
        let header = frame.header();
        let mut buffer = Draft::buffer(command.len());
        buffer.extend_from_slice(command);
        let (version, group, origin) = (header.version, header.group, header.origin);
        let draft = Draft::new(buffer, Kind::Command, version, group, origin);
        self.inner.push(draft.stamp(header.position, header.time_ms));
        let mut outcomes = Vec::with_capacity(1);
        self.machine.apply(&self.inner, &mut outcomes);
        self.inner.clear();
        assert!(outcomes.len() == 1, "one outcome for each command");
        outcomes.pop().expect("there is one")
    }
}

fn refused<R>(refusal: SessionRefusal, expired: u64) -> Outcome<SessionReply<R>> {
    Outcome { reply: SessionReply::Refused(refusal), digest: mix(refusal as u64, expired) }
}

/// The record that goes down to the machine within: the node's notes, and the table.
fn extend(notes: &[u8], table: &Table) -> Bytes {
    let mut bytes = BytesMut::with_capacity(8 + notes.len() + table.bytes());
    bytes.put_u32_le(MARK);
    bytes.put_u32_le(notes.len() as u32);
    bytes.extend_from_slice(notes);
    table.encode(&mut bytes);
    bytes.freeze()
}

/// Divides a stored record into the node's notes and the table.
fn split(record: &Bytes) -> Result<(Bytes, Bytes), SessionsError> {
    let (notes, table) = divide(record)?;
    Ok((record.slice_ref(notes), record.slice_ref(table)))
}

/// Divides what is marked into the part whose length it names, and the rest.
fn divide(marked: &[u8]) -> Result<(&[u8], &[u8]), SessionsError> {
    let (mark, rest) = marked.split_first_chunk::<4>().ok_or(SessionsError::Without)?;
    if u32::from_le_bytes(*mark) != MARK {
        return Err(SessionsError::Without);
    }
    let (length, rest) = rest.split_first_chunk::<4>().ok_or(SessionsError::Damaged)?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or(SessionsError::Damaged)
}

impl<M: StateMachine> Sessions<M> {
    /// The length of the table, and the table.
    fn save_table(&self, out: &mut Vec<u8>) {
        let mut table = BytesMut::new();
        match canon!(session_table_is_left_out_of_snapshots) {
            true => Table::new(*self.table.limits()).encode(&mut table),
            false => self.table.encode(&mut table),
        }
        out.put_u32_le(MARK);
        out.put_u32_le(table.len() as u32);
        out.extend_from_slice(&table);
    }
}

impl<M: StateMachine<Reply: StoredReply>> StateMachine for Sessions<M> {
    type Reply = SessionReply<M::Reply>;

    fn level_of(version: u16) -> u16 {
        M::level_of(version)
    }

    fn apply(&mut self, commands: &[Frame], outcomes: &mut Vec<Outcome<Self::Reply>>) {
        for command in commands {
            let outcome = self.apply_one(command);
            outcomes.push(outcome);
        }
    }

    fn recovered(&self) -> Option<Bytes> {
        let record = self.machine.recovered()?;
        Some(split(&record).expect("it was read when the sessions were made").0)
    }

    fn is_essential(&self, version: u16, command: &[u8]) -> bool {
        match SessionCommand::decode(command) {
            Some(SessionCommand::Plain(command) | SessionCommand::Propose { command, .. }) => {
                self.machine.is_essential(version, command)
            }
            // It frees a little, and takes less.
            Some(SessionCommand::Close(_)) => true,
            Some(SessionCommand::Open | SessionCommand::KeepAlive(_)) | None => false,
        }
    }

    fn end_batch(&mut self, applied: Index, record: Bytes) {
        // A machine that is saved as a whole keeps nothing beside.
        let is_saved = self.machine.snapshots() == Snapshots::Whole;
        let record = if is_saved { record } else { extend(&record, &self.table) };
        self.machine.end_batch(applied, record);
    }

    fn log_durable(&mut self, index: Index) {
        self.machine.log_durable(index);
    }

    fn durable_index(&self) -> Index {
        self.machine.durable_index()
    }

    fn snapshots(&self) -> Snapshots {
        self.machine.snapshots()
    }

    /// The length of the table, the table, and the machine's own state.
    fn save(&self, out: &mut Vec<u8>) {
        self.save_table(out);
        self.machine.save(out);
    }

    /// As [`Sessions::save`]; the table, which is bounded, is written at once.
    fn view(&self) -> Option<StateView> {
        let machine = self.machine.view()?;
        let mut table = Vec::new();
        self.save_table(&mut table);
        Some(Box::new(move |out| {
            out.extend_from_slice(&table);
            machine(out);
        }))
    }

    fn load(&mut self, state: &[u8]) -> Result<(), SnapshotError> {
        let unfit = |error: SessionsError| SnapshotError::Unfit(error.to_string());
        let (table, machine) = divide(state).map_err(unfit)?;
        let table = Table::decode(*self.table.limits(), table).map_err(unfit)?;
        self.machine.load(machine)?;
        self.table = table;
        Ok(())
    }

    fn snapshot(
        &mut self,
        resume: Option<&[u8]>,
    ) -> Result<Box<dyn SnapshotReader>, SnapshotError> {
        let machine = self.machine.snapshot(snapshot::within(resume))?;
        Ok(Box::new(Reader::new(machine, resume, *self.table.limits())?))
    }

    fn stage(&mut self) -> Result<Box<dyn SnapshotStage>, SnapshotError> {
        let machine = self.machine.stage()?;
        Ok(Box::new(Stage::new(machine, *self.table.limits(), self.staged.clone())))
    }

    fn installed(&mut self) {
        self.machine.installed();
        let staged = snapshot::lock(&self.staged).take();
        self.table = staged.expect("a snapshot without sessions is not finished");
    }
}
