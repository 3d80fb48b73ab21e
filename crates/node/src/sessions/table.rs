//! The sessions that are open, and the replies that may be asked for again.
//!
//! Responsible for: who is known, what was answered, what is forgotten when. Not responsible for the
//! machine whose replies they are.
//!
//! Invariants:
//! 1. What the table holds follows from the commands of the log alone: their order, their indexes and
//!    the cluster time stamped on them. How they are grouped into batches, and the clock of the
//!    member, change nothing.
//! 2. It never holds more than its limits.
//! 3. A reply is kept until its client has said that it has it, or the session ends.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};
use jangada_raft::Index;

use super::command::{SessionId, word};
use crate::record::mix;

/// What sessions may hold. The limits belong to the state machine, as its code does: they must be the
/// same on every member, for the whole life of the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionLimits {
    /// The most sessions. When another is opened, the one not used for longest ends.
    pub sessions_max: usize,
    /// The most commands of one session that are applied and whose answer its client has not
    /// acknowledged. What is beyond is refused, and may be proposed again.
    pub replies_max: usize,
    /// The most bytes of stored replies of one session. A reply that does not fit is not kept: a
    /// duplicate of its command is told so, and is not applied either.
    pub session_bytes_max: usize,
    /// The most bytes of the whole table as it is stored with each batch of a durable machine and
    /// in each snapshot. When it would be more, sessions not used for longest end.
    pub table_bytes_max: usize,
    /// A session that is not used for so long ends, by the time that the leader stamps on entries
    /// (milliseconds).
    pub timeout_ms: u64,
}

impl Default for SessionLimits {
    fn default() -> SessionLimits {
        SessionLimits {
            // A session is one client process; a few dozen bytes each.
            sessions_max: 1024,
            // As many as a client keeps under way at a time without feeling the limit.
            replies_max: 64,
            session_bytes_max: 64 << 10,
            // It is written with each batch of a durable machine, so it must stay small against one.
            table_bytes_max: 1 << 20,
            // LogCabin's: an hour is longer than any interruption that a client should outlive.
            timeout_ms: 3_600_000,
        }
    }
}

impl SessionLimits {
    /// Tells other limits apart.
    pub(super) fn fingerprint(&self) -> u64 {
        let words = [
            self.sessions_max as u64,
            self.replies_max as u64,
            self.session_bytes_max as u64,
            self.table_bytes_max as u64,
        ];
        words.into_iter().fold(self.timeout_ms, mix)
    }
}

/// The version of the table's encoding.
const VERSION: u16 = 1;

/// The bytes of an empty table: version, limits, number of sessions.
const TABLE_BYTES: usize = 2 + 8 + 4;

/// The bytes of a session without replies: id, last use (index and time), acknowledged, replies.
const SESSION_BYTES: usize = 8 + 8 + 8 + 8 + 4;

/// The bytes of a reply beside its own: serial and length.
const REPLY_BYTES: usize = 8 + 4;

/// The length that stands for a reply that is not kept.
const NOT_KEPT: u32 = u32::MAX;

/// A command's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Stored {
    Kept(Bytes),
    /// It was too large.
    NotKept,
}

impl Stored {
    fn bytes(&self) -> usize {
        match self {
            Stored::Kept(bytes) => bytes.len(),
            Stored::NotKept => 0,
        }
    }
}

/// A session that is open.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Open {
    /// The last entry that used it, and the cluster time of that.
    used_at: Index,
    used_ms: u64,
    answered_up_to: u64,
    replies: BTreeMap<u64, Stored>,
    /// Of the replies alone.
    reply_bytes: usize,
}

impl Open {
    fn bytes(&self) -> usize {
        SESSION_BYTES + self.replies.len() * REPLY_BYTES + self.reply_bytes
    }
}

/// What is to be done with a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It is new: it is applied, and its reply is stored.
    Apply,
    /// It was applied before.
    Again(Stored),
    /// The client has said that it has the answer.
    Answered,
    /// Too many answers are not acknowledged.
    TooMany,
    /// The session has ended, or never was.
    Unknown,
}

/// The sessions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Table {
    limits: SessionLimits,
    sessions: BTreeMap<SessionId, Open>,
    /// By their last use, the one not used for longest first.
    by_use: BTreeSet<(Index, SessionId)>,
    bytes: usize,
}

impl Table {
    pub(super) fn new(limits: SessionLimits) -> Table {
        assert!(0 < limits.sessions_max && 0 < limits.replies_max, "room for one at least");
        let largest = SESSION_BYTES + limits.replies_max * REPLY_BYTES + limits.session_bytes_max;
        assert!(TABLE_BYTES + largest <= limits.table_bytes_max, "one session fits into the table");
        let (sessions, by_use) = (BTreeMap::new(), BTreeSet::new());
        Table { limits, sessions, by_use, bytes: TABLE_BYTES }
    }

    pub(super) fn limits(&self) -> &SessionLimits {
        &self.limits
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn holds(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Ends the sessions that have not been used for too long by the cluster's time `now_ms`. Gives a
    /// digest of which they were; 0 if there were none.
    pub(super) fn expire(&mut self, now_ms: u64) -> u64 {
        let mut digest = 0;
        while let Some((_, session)) = self.by_use.first() {
            let session = *session;
            let used_ms = self.sessions[&session].used_ms;
            if now_ms.saturating_sub(used_ms) < self.limits.timeout_ms {
                return digest;
            }
            self.close(session);
            digest = mix(digest, session.0);
        }
        digest
    }

    /// Opens a session. Gives a digest of those that had to end for it.
    pub(super) fn open(&mut self, session: SessionId, now_ms: u64) -> u64 {
        let mut digest = 0;
        if self.sessions.len() == self.limits.sessions_max {
            digest = self.close_oldest();
        }
        let used_at = Index(session.0);
        let open = Open {
            used_at,
            used_ms: now_ms,
            answered_up_to: 0,
            replies: BTreeMap::new(),
            reply_bytes: 0,
        };
        self.bytes += open.bytes();
        self.by_use.insert((used_at, session));
        let before = self.sessions.insert(session, open);
        assert!(before.is_none(), "an entry opens one session");
        self.fit(digest)
    }

    /// Ends a session; false if there is none of that name.
    pub(super) fn close(&mut self, session: SessionId) -> bool {
        let Some(open) = self.sessions.remove(&session) else { return false };
        self.bytes -= open.bytes();
        let listed = self.by_use.remove(&(open.used_at, session));
        assert!(listed, "every session is listed by its last use");
        true
    }

    /// The session is used by the entry at `index`; false if there is none of that name.
    pub(super) fn touch(&mut self, session: SessionId, index: Index, now_ms: u64) -> bool {
        let Some(open) = self.sessions.get_mut(&session) else { return false };
        self.by_use.remove(&(open.used_at, session));
        self.by_use.insert((index, session));
        (open.used_at, open.used_ms) = (index, now_ms);
        true
    }

    /// Tells what is to be done with a command, and forgets what its client has acknowledged.
    pub(super) fn judge(
        &mut self,
        session: SessionId,
        serial: u64,
        answered_up_to: u64,
    ) -> Verdict {
        let Some(open) = self.sessions.get_mut(&session) else { return Verdict::Unknown };
        if open.answered_up_to < answered_up_to {
            open.answered_up_to = answered_up_to;
            let before = open.bytes();
            open.replies = open.replies.split_off(&(answered_up_to + 1));
            open.reply_bytes = open.replies.values().map(Stored::bytes).sum();
            self.bytes -= before - open.bytes();
        }
        if serial <= open.answered_up_to {
            return Verdict::Answered;
        }
        if let Some(stored) = open.replies.get(&serial) {
            return Verdict::Again(stored.clone());
        }
        if self.limits.replies_max <= open.replies.len() {
            return Verdict::TooMany;
        }
        Verdict::Apply
    }

    /// Stores the reply of a command that was judged to be applied. Gives a digest of the sessions
    /// that had to end for it.
    pub(super) fn store(&mut self, session: SessionId, serial: u64, reply: Bytes) -> u64 {
        let open = self.sessions.get_mut(&session).expect("its command was just judged");
        let fits = open.reply_bytes + reply.len() <= self.limits.session_bytes_max;
        let stored = if fits { Stored::Kept(reply) } else { Stored::NotKept };
        open.reply_bytes += stored.bytes();
        self.bytes += REPLY_BYTES + stored.bytes();
        let before = open.replies.insert(serial, stored);
        assert!(before.is_none(), "a command is applied once");
        self.fit(0)
    }

    /// Ends sessions until the table is within its size. The newest is never among them: it fits
    /// alone.
    fn fit(&mut self, mut digest: u64) -> u64 {
        while self.limits.table_bytes_max < self.bytes {
            digest = mix(digest, self.close_oldest());
        }
        digest
    }

    /// Ends the session not used for longest, and names it.
    fn close_oldest(&mut self) -> u64 {
        let (_, session) = *self.by_use.first().expect("a full table has a session");
        self.close(session);
        session.0
    }

    // ---- stored with the machine, and in snapshots ----

    /// Appends the table's bytes.
    pub(super) fn encode(&self, bytes: &mut BytesMut) {
        let start = bytes.len();
        bytes.put_u16_le(VERSION);
        bytes.put_u64_le(self.limits.fingerprint());
        bytes.put_u32_le(self.sessions.len() as u32);
        for (session, open) in &self.sessions {
            bytes.put_u64_le(session.0);
            bytes.put_u64_le(open.used_at.0);
            bytes.put_u64_le(open.used_ms);
            bytes.put_u64_le(open.answered_up_to);
            bytes.put_u32_le(open.replies.len() as u32);
            for (serial, stored) in &open.replies {
                bytes.put_u64_le(*serial);
                match stored {
                    Stored::Kept(reply) => {
                        bytes.put_u32_le(reply.len() as u32);
                        bytes.extend_from_slice(reply);
                    }
                    Stored::NotKept => bytes.put_u32_le(NOT_KEPT),
                }
            }
        }
        assert!(bytes.len() - start == self.bytes, "table invariant 2: its size is known");
    }

    /// Reads a table back.
    ///
    /// # Errors
    /// If the bytes are none of a known version, or one with other limits.
    pub(super) fn decode(limits: SessionLimits, bytes: &[u8]) -> Result<Table, SessionsError> {
        let damaged = SessionsError::Damaged;
        let (version, mut rest) = bytes.split_first_chunk::<2>().ok_or(damaged)?;
        match u16::from_le_bytes(*version) {
            VERSION => {}
            other => return Err(SessionsError::Version(other)),
        }
        if word(&mut rest).ok_or(damaged)? != limits.fingerprint() {
            return Err(SessionsError::Limits);
        }
        let mut table = Table::new(limits);
        for _ in 0..half(&mut rest).ok_or(damaged)? {
            let (session, open) = decode_session(&mut rest).ok_or(damaged)?;
            table.bytes += open.bytes();
            let listed = table.by_use.insert((open.used_at, session));
            if table.sessions.insert(session, open).is_some() || !listed {
                return Err(damaged);
            }
        }
        let within = table.sessions.len() <= limits.sessions_max
            && table.bytes <= limits.table_bytes_max
            && table.sessions.values().all(|open| open.replies.len() <= limits.replies_max);
        if !rest.is_empty() || !within {
            return Err(damaged);
        }
        Ok(table)
    }
}

fn half(rest: &mut &[u8]) -> Option<u32> {
    let (half, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(u32::from_le_bytes(*half))
}

fn decode_session(rest: &mut &[u8]) -> Option<(SessionId, Open)> {
    let session = SessionId(word(rest)?);
    let (used_at, used_ms, answered_up_to) = (Index(word(rest)?), word(rest)?, word(rest)?);
    let mut replies = BTreeMap::new();
    let mut reply_bytes = 0;
    for _ in 0..half(rest)? {
        let serial = word(rest)?;
        let stored = match half(rest)? {
            NOT_KEPT => Stored::NotKept,
            length => {
                let (reply, after) = rest.split_at_checked(length as usize)?;
                *rest = after;
                reply_bytes += reply.len();
                Stored::Kept(Bytes::copy_from_slice(reply))
            }
        };
        if serial <= answered_up_to || replies.insert(serial, stored).is_some() {
            return None;
        }
    }
    let open = Open { used_at, used_ms, answered_up_to, replies, reply_bytes };
    Some((session, open))
}

/// Why stored sessions cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionsError {
    /// They are of a version that this program does not know.
    Version(u16),
    /// They were kept under other limits.
    Limits,
    /// The machine was run without sessions before.
    Without,
    /// They are cut short, too long or contradict themselves.
    Damaged,
}

impl std::fmt::Display for SessionsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SessionsError::Version(version) => write!(
                f,
                "the stored sessions are of version {version}, which this program does not know; \
                 start a version of the program that is at least as new as the one that wrote them"
            ),
            SessionsError::Limits => f.write_str(
                "the stored sessions were kept under other limits; they cannot change in the life \
                 of a cluster, so start with those it was created with",
            ),
            SessionsError::Without => f.write_str(
                "this state machine was run without sessions before, so its log holds commands \
                 that would be misread; run it without them, or start an empty cluster",
            ),
            SessionsError::Damaged => f.write_str(
                "the stored sessions are cut short or contradict themselves; restore the member \
                 from a backup, or remove it and add it anew",
            ),
        }
    }
}

impl std::error::Error for SessionsError {}
