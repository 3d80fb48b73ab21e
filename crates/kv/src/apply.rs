//! What commands mean.
//!
//! Everything here is deterministic: the same command on the same state leaves the same state and
//! the same answer on every member. A command is checked in full before its first change, so that
//! a refusal leaves nothing behind.

use bytes::Bytes;

use crate::command::{
    Alarm, AlarmAction, AlarmKind, Command, DecodeError, Member, PutView, member_body, view_put,
};
use crate::engine::EngineError;
use crate::interval::Interval;
use crate::lease::{LeaseAnswer, LeaseCommand};
use crate::machine::Entry;
use crate::range::ReadError;
use crate::store::{Changes, Store, Write};
use crate::validate::contains_put;
use crate::{
    DeleteRangeRequest, KvError, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp,
    ResponseOp, TxnRequest, TxnResponse,
};

/// The answer to a command that was not refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// To [`Command::Put`].
    Put(PutResponse),
    /// To [`Command::DeleteRange`].
    DeleteRange(crate::DeleteRangeResponse),
    /// To [`Command::Txn`].
    Txn(TxnResponse),
    /// To [`Command::Compact`].
    Compact,
    /// To [`Command::Alarm`]: the alarms that it named and that are or were raised.
    Alarm(Vec<Alarm>),
    /// To [`Command::Member`] and [`Command::RetractMember`].
    Member,
    /// To [`Command::Lease`].
    Lease(LeaseAnswer),
    /// To [`Command::Auth`].
    Auth,
}

/// The answer to a command, for the client that waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// The store's revision for the answer's header: the command's own if it changed anything.
    pub revision: i64,
    /// The answer, or why the command was refused. A refused command changed nothing.
    pub result: Result<Answer, KvError>,
}

/// What an applied command leaves behind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The answer.
    pub reply: Reply,
    /// A digest of the effects: rows written and removed, and the answer.
    pub digest: u64,
}

impl Store {
    /// Applies one command.
    pub(crate) fn apply(&mut self, entry: &Entry<'_>) -> Result<Outcome, DecodeError> {
        let Entry { payload, version, .. } = *entry;
        let mut changes = self.begin();
        let result = match view_put(payload, version)? {
            Some(put) if !self.auth().is_enabled() => {
                self.apply_put(&mut changes, put).map(Answer::Put)
            }
            _ => self.execute_for(&mut changes, Command::decode_copied(payload, version)?, entry),
        };
        self.end(&changes);
        let reply = Reply { revision: self.revision(), result };
        changes.digest.mix_result(reply.revision, &reply.result);
        Ok(Outcome { reply, digest: changes.digest.finish() })
    }

    /// Judges who asks, if users are in use, then does what is asked. As in etcd what no user may do
    /// because of an alarm is refused as that.
    fn execute_for(
        &mut self,
        changes: &mut Changes,
        command: Command,
        entry: &Entry<'_>,
    ) -> Result<Answer, KvError> {
        let (caller, command) = match command {
            Command::As(caller, command) => (Some(caller), *command),
            command => (None, command),
        };
        if self.auth().is_enabled() && !canon!(commands_are_not_judged_when_applied) {
            self.refuse_while_raised(need_of(&command))?;
            self.permit_command(caller.as_ref(), &command)?;
        }
        self.execute(changes, command, entry)
    }

    fn execute(
        &mut self,
        changes: &mut Changes,
        command: Command,
        entry: &Entry<'_>,
    ) -> Result<Answer, KvError> {
        match command {
            Command::Put(put) => {
                self.refuse_while_raised(Need::Space)?;
                self.check_put(&put)?;
                Ok(Answer::Put(self.put_request(changes, put)))
            }
            Command::DeleteRange(delete) => {
                self.refuse_while_raised(Need::Integrity)?;
                Ok(Answer::DeleteRange(self.delete_request(changes, &delete)))
            }
            Command::Txn(txn) => {
                let need = if contains_put(&txn) { Need::Space } else { Need::Integrity };
                self.refuse_while_raised(need)?;
                self.apply_txn(changes, txn).map(Answer::Txn)
            }
            Command::Compact { revision, .. } => self.apply_compact(changes, revision),
            Command::Alarm { action, member, kind } => {
                Ok(self.apply_alarm(changes, action, Alarm { kind, member }))
            }
            Command::Member(member) => Ok(self.apply_member(changes, member)),
            Command::RetractMember(id) => {
                changes.digest.mix(u64::from(self.retract(id)));
                Ok(Answer::Member)
            }
            Command::Lease(command) => {
                let grants = matches!(command, LeaseCommand::Grant { .. });
                self.refuse_while_raised(if grants { Need::Space } else { Need::Integrity })?;
                self.apply_lease(changes, command, entry)
            }
            Command::Auth(command) => self.apply_auth(changes, command).map(|()| Answer::Auth),
            Command::As(..) => unreachable!("command: an envelope holds no envelope"),
        }
    }

    /// The hot command, without a request built from it.
    fn apply_put(
        &mut self,
        changes: &mut Changes,
        put: PutView<'_>,
    ) -> Result<PutResponse, KvError> {
        self.refuse_while_raised(Need::Space)?;
        self.check_put_fields(put.key, put.lease, put.ignore_value || put.ignore_lease)?;
        let write = Write {
            key: put.key,
            value: (!put.ignore_value).then(|| Bytes::copy_from_slice(put.value)),
            lease: (!put.ignore_lease).then_some(put.lease),
            prev_kv: put.prev_kv,
        };
        Ok(PutResponse { prev_kv: self.put(changes, write) })
    }

    fn put_request(&mut self, changes: &mut Changes, put: PutRequest) -> PutResponse {
        let write = Write {
            key: &put.key,
            value: (!put.ignore_value).then_some(put.value),
            lease: (!put.ignore_lease).then_some(put.lease),
            prev_kv: put.prev_kv,
        };
        PutResponse { prev_kv: self.put(changes, write) }
    }

    fn delete_request(
        &mut self,
        changes: &mut Changes,
        delete: &DeleteRangeRequest,
    ) -> crate::DeleteRangeResponse {
        self.delete(changes, Interval::new(&delete.key, &delete.range_end), delete.prev_kv)
    }

    fn check_put(&self, put: &PutRequest) -> Result<(), KvError> {
        self.check_put_fields(&put.key, put.lease, put.ignore_value || put.ignore_lease)
    }

    /// Inside a transaction etcd looks for the key before it looks for the lease; outside it does
    /// so afterwards.
    fn check_put_within(&self, put: &PutRequest) -> Result<(), KvError> {
        self.check_put_fields(&put.key, 0, put.ignore_value || put.ignore_lease)?;
        self.check_put(put)
    }

    fn check_put_fields(&self, key: &[u8], lease: i64, keeps: bool) -> Result<(), KvError> {
        if key.is_empty() {
            return Err(KvError::EmptyKey);
        }
        if lease != 0 && !self.leases().contains(lease) {
            return Err(KvError::LeaseNotFound);
        }
        if keeps && !self.keys().get(key).is_some_and(|(_, record)| record.is_live()) {
            return Err(KvError::KeyNotFound);
        }
        Ok(())
    }

    fn refuse_while_raised(&self, need: Need) -> Result<(), KvError> {
        if self.alarms().is_empty() || need == Need::Nothing {
            return Ok(());
        }
        if self.is_raised(AlarmKind::Corrupt) {
            return Err(KvError::Corrupt);
        }
        if need == Need::Space && self.is_raised(AlarmKind::NoSpace) {
            return Err(KvError::NoSpace);
        }
        Ok(())
    }

    fn apply_txn(
        &mut self,
        changes: &mut Changes,
        txn: TxnRequest,
    ) -> Result<TxnResponse, KvError> {
        let mut path = Vec::new();
        self.choose(&txn, &mut path);
        let refused = self.check_branch(&txn, &mut path.iter(), Check::Puts);
        if refused.is_err() && canon!(refused_transaction_leaves_something_behind) {
            self.run(changes, txn, &mut path.into_iter());
            return refused.map(|()| TxnResponse::default());
        }
        refused?;
        self.check_branch(&txn, &mut path.iter(), Check::Ranges)?;
        Ok(self.run(changes, txn, &mut path.into_iter()))
    }

    /// Decides which branch is taken at every level, on the state before the transaction: compares
    /// within do not see what the transaction writes.
    pub(crate) fn choose(&self, txn: &TxnRequest, path: &mut Vec<Branch>) {
        let holds = txn.compare.iter().all(|compare| self.holds(compare));
        let branch = if holds { Branch::Success } else { Branch::Failure };
        path.push(branch);
        for op in branch.of(txn) {
            if let RequestOp::Txn(txn) = op {
                self.choose(txn, path);
            }
        }
    }

    /// Checks the operations that will run. Puts come before ranges, as in etcd.
    pub(crate) fn check_branch<'p>(
        &self,
        txn: &TxnRequest,
        path: &mut impl Iterator<Item = &'p Branch>,
        check: Check,
    ) -> Result<(), KvError> {
        let branch = path.next().expect("txn: the path has a branch for every level");
        for op in branch.of(txn) {
            match (op, check) {
                (RequestOp::Put(put), Check::Puts) => self.check_put_within(put)?,
                (RequestOp::Range(range), Check::Ranges) => self.check_revision(range)?,
                (RequestOp::Txn(txn), _) => self.check_branch(txn, path, check)?,
                (RequestOp::Put(_) | RequestOp::Range(_) | RequestOp::DeleteRange(_), _) => {}
            }
        }
        Ok(())
    }

    /// A negative revision that is not -1 counts as compacted inside a transaction, as in etcd.
    fn check_revision(&self, range: &RangeRequest) -> Result<(), KvError> {
        match range.revision {
            0 => Ok(()),
            revision if self.revision() < revision => Err(KvError::FutureRevision),
            revision
                if revision < self.compact_revision()
                    && !canon!(transaction_reads_a_compacted_revision) =>
            {
                Err(KvError::Compacted)
            }
            _ => Ok(()),
        }
    }

    fn run(
        &mut self,
        changes: &mut Changes,
        txn: TxnRequest,
        path: &mut impl Iterator<Item = Branch>,
    ) -> TxnResponse {
        let branch = path.next().expect("txn: the path has a branch for every level");
        let succeeded = branch == Branch::Success;
        let ops = if succeeded { txn.success } else { txn.failure };
        let mut responses = Vec::with_capacity(ops.len());
        for op in ops {
            responses.push(match op {
                RequestOp::Range(range) => ResponseOp::Range(self.range_within(changes, &range)),
                RequestOp::Put(put) => ResponseOp::Put(self.put_request(changes, put)),
                RequestOp::DeleteRange(delete) => {
                    ResponseOp::DeleteRange(self.delete_request(changes, &delete))
                }
                RequestOp::Txn(txn) => ResponseOp::Txn(self.run(changes, txn, path)),
            });
        }
        TxnResponse { succeeded, responses }
    }

    /// A range inside a transaction sees what the transaction has written. Every member must answer
    /// the same, so one whose engine just ran out of space reads what it needs aside.
    fn range_within(&mut self, changes: &Changes, range: &RangeRequest) -> RangeResponse {
        let mut response = self.try_range_within(changes, range);
        if let Err(ReadError::Engine(EngineError::NoSpace(_) | EngineError::Unavailable)) = response
        {
            response = match self.history_mut().read_aside() {
                Ok(()) => self.try_range_within(changes, range),
                Err(error) => Err(ReadError::Engine(error)),
            };
        }
        match response {
            Ok(response) => response,
            Err(ReadError::Kv(error)) => {
                panic!("txn: a range is refused ({error:?}) after its check has passed")
            }
            Err(ReadError::Engine(error)) => {
                panic!("the engine cannot be read while a command is applied: {error}")
            }
        }
    }

    fn try_range_within(
        &self,
        changes: &Changes,
        range: &RangeRequest,
    ) -> Result<RangeResponse, ReadError> {
        let plan = self.plan(range, self.revision_within(changes))?;
        plan.finish(range).map_err(ReadError::Engine)
    }

    fn apply_compact(&mut self, changes: &mut Changes, revision: i64) -> Result<Answer, KvError> {
        self.refuse_while_raised(Need::Integrity)?;
        if revision <= self.compact_revision() {
            return Err(KvError::Compacted);
        }
        if self.revision() < revision {
            return Err(KvError::FutureRevision);
        }
        self.compact_to(revision);
        changes.digest.mix(revision as u64);
        Ok(Answer::Compact)
    }

    fn apply_alarm(&mut self, changes: &mut Changes, action: AlarmAction, alarm: Alarm) -> Answer {
        let mut named = Vec::new();
        match action {
            AlarmAction::Activate => {
                self.raise(alarm);
                named.push(alarm);
            }
            AlarmAction::Deactivate => {
                named.extend(self.alarms().iter().copied().filter(|raised| {
                    raised.kind == alarm.kind
                        && (alarm.member == 0 || raised.member == alarm.member)
                }));
                for alarm in &named {
                    self.clear(*alarm);
                }
            }
        }
        changes.digest.mix(self.alarms().len() as u64);
        Answer::Alarm(named)
    }

    fn apply_member(&mut self, changes: &mut Changes, member: Member) -> Answer {
        let mut row = bytes::BytesMut::new();
        member_body(&mut row, &member);
        changes.digest.mix(u64::from(crc32c::crc32c(&row)));
        self.publish(member);
        Answer::Member
    }
}

/// What a command needs of the store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Nothing.
    Nothing,
    /// That it is not known to be corrupt.
    Integrity,
    /// That, and room to grow.
    Space,
}

/// What a command needs that is judged before who asks.
fn need_of(command: &Command) -> Need {
    match command {
        Command::Put(_) => Need::Space,
        Command::Txn(txn) if contains_put(txn) => Need::Space,
        Command::Lease(LeaseCommand::Grant { .. }) => Need::Space,
        Command::Txn(_) | Command::DeleteRange(_) | Command::Compact { .. } | Command::Lease(_) => {
            Need::Integrity
        }
        _ => Need::Nothing,
    }
}

/// Which operations to check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Check {
    Puts,
    Ranges,
}

/// Which branch of a transaction is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Branch {
    Success,
    Failure,
}

impl Branch {
    pub(crate) fn of(self, txn: &TxnRequest) -> &[RequestOp] {
        match self {
            Branch::Success => &txn.success,
            Branch::Failure => &txn.failure,
        }
    }
}
