//! Judges every answer as soon as it is there, against a second store to which the log's commands
//! are applied in the log's order.
//!
//! Responsible for: which moment of the store an answer may show, comparing the whole answer with the
//! model's at that moment, and what an error promises. What clients *do* is not its business.
//!
//! 1. A write's answer is what the model gives where its command stands in the log; it stands there
//!    once, was asked for, and behind all that was acknowledged before it was asked.
//! 2. A read's answer is what the model gives for what the member had applied. A linearizable one
//!    shows all that was acknowledged before it was asked; a serializable one, all that this process
//!    has shown or acknowledged before.
//! 3. What was refused before it was proposed, or with an error that promises it, never happens.
//! 4. What is wrong with a request whatever the store holds is refused, and leaves no trace.
//! 5. The work for an answer does not grow with the history, and what nobody can ask for any more is
//!    forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use jangada_entry::Origin;
use jangada_raft::{Index, NodeId};
use jangada_server::errors::ApiError;
use jangada_server::proto::etcdserverpb as pb;
use prost::Message;

use super::coverage::{Feature, Features, Outcome};
use super::model::{Answer, Carried, Expected, Model, Moment};
use super::request::{Kind, Request};
use super::rules;
use super::service::{Answered, CLUSTER_ID, CallId, Ordered, Refusal};
use super::users::Caller;
use crate::invariants::{AppliedCommand, Violation};

/// What is compared when an answer is judged.
const NAME: &str = "every answer is the model's";

/// A call without an end.
struct Open {
    member: NodeId,
    request: Arc<Request>,
    demands_leader: bool,
    /// Whether it is refused whatever the store holds.
    rule: Result<(), ApiError>,
    /// What had been acknowledged when it was asked.
    acknowledged: Index,
    /// Who asks, and what the process that is asked had shown.
    name: Option<&'static str>,
    shown: Index,
    /// Where its command stands and what came of it, once it is applied.
    applied: Option<(Index, Expected)>,
    origin: Option<Origin>,
}

/// A proposal whose command may still come.
struct Proposal {
    call: CallId,
    request: Arc<Request>,
    acknowledged: Index,
    name: Option<&'static str>,
    /// Whom it names.
    caller: Option<Caller>,
}

/// What an answer taught.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Learned {
    /// What came of the call.
    pub outcome: Outcome,
    /// What the answer showed beside what was asked.
    pub shown: Features,
    /// The store's revision, if the answer named it.
    pub revision: Option<i64>,
}

/// What an entry did to leases.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Leased {
    /// Nothing.
    Nothing,
    /// A client was granted this one.
    Granted(i64),
    /// A client has ended this one.
    Revoked(i64),
    /// What a lessor proposed was carried out.
    Carried(Carried),
}

/// Knows what every answer must be.
#[derive(Default)]
pub struct Oracle {
    model: Model,
    open: BTreeMap<CallId, Open>,
    proposals: BTreeMap<(u64, u64), Proposal>,
    refused: BTreeSet<(u64, u64)>,
    /// What lessors have proposed and no member has applied.
    ordered: BTreeMap<(u64, u64), Ordered>,
    /// The highest entry whose effects a linearizable answer has shown.
    acknowledged: Index,
    /// The highest entry whose effects each process has shown or acknowledged.
    shown: BTreeMap<u64, Index>,
    /// Commands that were applied although their client did not learn of it.
    happened_unknown: u64,
}

fn require(holds: bool, seen: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { invariant: NAME, seen: seen() }) }
}

impl Oracle {
    /// Judges from an empty store on.
    #[must_use]
    pub fn new() -> Oracle {
        Oracle::default()
    }

    /// The store as it should be.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// How many commands were applied of which the client did not learn.
    #[must_use]
    pub fn happened_unknown(&self) -> u64 {
        self.happened_unknown
    }

    /// How many versions, moments, calls and proposals are kept.
    #[must_use]
    pub fn kept(&self) -> (usize, usize, usize, usize) {
        let (versions, moments) = self.model.kept();
        (versions, moments, self.open.len(), self.proposals.len())
    }

    /// A call begins.
    pub fn asked(
        &mut self,
        id: CallId,
        member: NodeId,
        request: Arc<Request>,
        demands_leader: bool,
    ) {
        let acknowledged = self.acknowledged;
        let rule = rules::check(&request);
        let open = Open {
            member,
            request,
            demands_leader,
            rule,
            acknowledged,
            name: None,
            shown: Index(0),
            applied: None,
            origin: None,
        };
        self.open.insert(id, open);
    }

    /// It is somebody of this name who calls, and this process that is called.
    pub fn names(&mut self, id: CallId, name: Option<&'static str>, process: Option<u64>) {
        let shown = process.and_then(|process| self.shown.get(&process)).copied();
        if let Some(open) = self.open.get_mut(&id) {
            (open.name, open.shown) = (name, shown.unwrap_or_default());
        }
    }

    /// A proposal names who asks.
    ///
    /// # Errors
    /// If it is another one, or judged by what nobody has changed yet.
    pub fn enclosed(&mut self, origin: Origin, caller: Caller) -> Result<(), Violation> {
        let proposal = self.proposals.get_mut(&(origin.incarnation, origin.sequence));
        let Some(proposal) = proposal else { return Ok(()) };
        let newest = self.model.users_at(self.model.now()).revision;
        let right = caller.name == proposal.name.unwrap_or_default() && caller.revision <= newest;
        require(right, || format!("{caller:?} for {:?} at {newest}", proposal.name))?;
        proposal.caller = Some(caller);
        Ok(())
    }

    /// A call has made a proposal.
    ///
    /// # Errors
    /// If it is not one that may.
    pub fn proposed(&mut self, id: CallId, origin: Origin) -> Result<(), Violation> {
        let Some(open) = self.open.get_mut(&id) else { return Ok(()) };
        let may = open.request.kind().is_logged() && open.origin.is_none() && open.rule.is_ok();
        require(may, || format!("a proposal of {:?}", open.request))?;
        open.origin = Some(origin);
        let (request, acknowledged) = (Arc::clone(&open.request), open.acknowledged);
        let (name, caller) = (open.name, None);
        let proposal = Proposal { call: id, request, acknowledged, name, caller };
        self.proposals.insert((origin.incarnation, origin.sequence), proposal);
        Ok(())
    }

    /// A lessor has made a proposal.
    pub fn ordered(&mut self, ordered: Ordered) {
        let Origin { incarnation, sequence } = ordered.origin;
        self.ordered.insert((incarnation, sequence), ordered);
    }

    /// The next command of the log was applied somewhere. Answers what it did to leases.
    ///
    /// # Errors
    /// If nobody asked for it, or it stands where it cannot.
    pub fn applied(&mut self, command: &AppliedCommand) -> Result<Leased, Violation> {
        let index = command.position.index;
        let origin = (command.origin.incarnation, command.origin.sequence);
        require(!self.refused.contains(&origin), || {
            format!("entry {index} is a command of {origin:?}, whose client was told it never is")
        })?;
        if let Some(ordered) = self.ordered.remove(&origin) {
            // It is for the lessor's own term alone.
            require(ordered.term == command.position.term, || {
                format!("{:?} of term {} stands at {index}", ordered.command, ordered.term)
            })?;
            return Ok(Leased::Carried(self.model.carry_out(index, &ordered.command)));
        }
        let proposal = self.proposals.remove(&origin);
        let Some(proposal) = proposal else {
            return require(false, || format!("entry {index} is a command that nobody asked for"))
                .map(|()| Leased::Nothing);
        };
        let Proposal { call, request, acknowledged, caller, .. } = proposal;
        require(acknowledged < index, || {
            format!("{request:?} stands at {index}, asked after {acknowledged} was acknowledged")
        })?;
        let expected = self.model.apply(index, &request, caller.as_ref());
        let leased = match (&*request, &expected) {
            (_, Err(_)) => Leased::Nothing,
            (Request::LeaseGrant(grant), _) => Leased::Granted(grant.id),
            (Request::LeaseRevoke(revoke), _) => Leased::Revoked(revoke.id),
            _ => Leased::Nothing,
        };
        match self.open.get_mut(&call) {
            Some(open) => open.applied = Some((index, expected)),
            None => self.happened_unknown += 1,
        }
        Ok(leased)
    }

    /// The highest entry that whoever reads from now on sees.
    #[must_use]
    pub fn acknowledged(&self) -> Index {
        self.acknowledged
    }

    /// A call ends without an answer: whether it happened is not known.
    pub fn gave_up(&mut self, id: CallId) {
        if let Some(open) = self.open.remove(&id) {
            self.happened_unknown += u64::from(open.applied.is_some());
        }
    }

    /// Nobody can look any more at what was before this entry.
    pub fn forget(&mut self, before: Index) {
        self.model.forget(before);
    }

    /// A process has shown what happened up to a revision, by telling of it: whoever reads later sees
    /// it.
    pub fn saw(&mut self, process: u64, revision: i64) {
        if let Some(index) = self.model.index_of(revision) {
            self.acknowledged = self.acknowledged.max(index);
            self.show(process, index);
        }
    }

    /// The revision that a process has shown or acknowledged; 0 if that is not known.
    #[must_use]
    pub fn shown_revision(&self, process: u64) -> i64 {
        let index = self.shown.get(&process).copied();
        index.and_then(|index| self.model.revision_at(index)).unwrap_or_default()
    }

    /// No process with a lower name of this member will answer any more.
    pub fn ended(&mut self, process: u64) {
        self.shown.remove(&process);
    }

    /// A call is answered.
    ///
    /// # Errors
    /// What is wrong with the answer.
    pub fn answered(&mut self, id: CallId, answered: &Answered) -> Result<Learned, Violation> {
        let open = self.open.remove(&id).expect("a call ends once");
        let asked = Arc::clone(&open.request);
        let told = |violation: Violation| Violation {
            seen: format!(
                "{}; asked of {}: {}; answered: {}",
                violation.seen,
                open.member,
                brief(&asked),
                brief(&answered.result)
            ),
            ..violation
        };
        let learned = match &answered.result {
            Err(refusal) => self.refused(&open, refusal, answered),
            Ok(bytes) => self.succeeded(&open, bytes, answered),
        };
        learned.map_err(told)
    }

    // ---- errors ----

    fn refused(
        &mut self,
        open: &Open,
        refusal: &Refusal,
        answered: &Answered,
    ) -> Result<Learned, Violation> {
        let learned = |outcome| Learned { outcome, shown: Features::default(), revision: None };
        match &*open.request {
            Request::Unserved(_) if refusal.code == UNIMPLEMENTED => {
                return Ok(learned(Outcome::Unimplemented));
            }
            Request::Garbage(_) if refusal.code == INTERNAL => {
                return Ok(learned(Outcome::Undecodable));
            }
            _ => {}
        }
        let Some(error) = ApiError::of_text(&refusal.text) else {
            return Err(Violation {
                invariant: NAME,
                seen: "an error that is none of the API's".to_owned(),
            });
        };
        require(error.code() as i32 == refusal.code, || "an error with another's code".to_owned())?;
        let kind = open.request.kind();
        match error {
            // The call demanded a leader, or none was found in time: nothing happened.
            ApiError::NoLeader => {
                require(open.demands_leader || kind.is_logged(), || "nobody leads".to_owned())?;
                self.never_happened(open)?;
            }
            // It is not taken up at all; the member may vote by the time it answers.
            ApiError::NotSupportedForLearner => self.never_happened(open)?,
            // A member that was set aside serves nobody until its state is looked through, even where
            // it has come to hold the right one.
            ApiError::Corrupt if answered.quarantined => self.never_happened(open)?,
            // A version that only the engine has, where the engine is damaged: a read changes nothing.
            ApiError::Corrupt if answered.damaged => {
                require(!kind.is_logged(), || "a write is answered as a read".to_owned())?;
            }
            // The alarm is raised: the log's command has been refused.
            ApiError::NoSpace if open.applied.is_some() => {
                self.refused_for_a_reason(open, error, answered)?;
            }
            // The leader's disk is nearly full, or it has too much in hand.
            ApiError::TooManyRequests | ApiError::NoSpace => {
                require(kind.is_logged(), || "a read is refused as too much".to_owned())?;
                self.never_happened(open)?;
            }
            // It is refused before it is looked at, by what the member knew.
            ApiError::UserEmpty | ApiError::UserNotFound | ApiError::PermissionDenied
                if open.origin.is_none() && open.request.needs().is_some() =>
            {
                require(self.could_be(open, answered, Err(error)), || "he may".to_owned())?;
                self.never_happened(open)?;
            }
            // Permissions changed while it was read.
            ApiError::AuthOldRevision if !kind.is_logged() => {
                let (first, last) = answered.applied;
                let moments = self.model.moments(first, last).into_iter().flatten();
                let revisions = moments.map(|moment| self.model.users_at(moment).revision);
                let changed = revisions.collect::<BTreeSet<u64>>().len() != 1;
                require(changed, || "permissions did not change".to_owned())?;
            }
            // It may or may not happen (a read has no effect either way).
            ApiError::Timeout => {}
            ApiError::TimeoutLeaderFailed => {
                require(kind.is_logged(), || "a read in doubt".to_owned())?;
            }
            _ => {
                let is_call = !matches!(*open.request, Request::Unserved(_) | Request::Garbage(_));
                require(is_call, || "an error that cannot be".to_owned())?;
                self.refused_for_a_reason(open, error, answered)?;
            }
        }
        Ok(learned(Outcome::Refused(error)))
    }

    /// Invariant 3.
    fn never_happened(&mut self, open: &Open) -> Result<(), Violation> {
        require(open.applied.is_none(), || "it happened, and is refused".to_owned())?;
        if let Some(Origin { incarnation, sequence }) = open.origin {
            self.proposals.remove(&(incarnation, sequence));
            self.refused.insert((incarnation, sequence));
        }
        Ok(())
    }

    /// An error that the request or the store gives rise to, and not the cluster's state.
    fn refused_for_a_reason(
        &mut self,
        open: &Open,
        error: ApiError,
        answered: &Answered,
    ) -> Result<(), Violation> {
        if let Err(expected) = open.rule {
            // Invariant 4.
            return require(error == expected && open.origin.is_none(), || {
                format!("it breaks the rule \"{expected}\"")
            });
        }
        if open.request.kind().is_logged() {
            let expected = open.applied.as_ref();
            let right = expected.is_some_and(|(_, expected)| *expected == Err(error));
            require(right, || format!("the model has {}", brief(&expected)))?;
            let (index, _) = open.applied.as_ref().expect("just seen");
            return self.acknowledge(open, *index, answered);
        }
        self.read(open, answered, &Err(error)).map(drop)
    }

    // ---- answers ----

    fn succeeded(
        &mut self,
        open: &Open,
        bytes: &Bytes,
        answered: &Answered,
    ) -> Result<Learned, Violation> {
        let request = &*open.request;
        require(open.rule.is_ok(), || "it is refused by rule".to_owned())?;
        require(self.could_be(open, answered, Ok(())), || "he may not".to_owned())?;
        let decoded = decode(request, bytes)?;
        let Some((mut answer, header)) = decoded else {
            // Figures of the member itself, which no model has.
            return Ok(Learned {
                outcome: Outcome::Ok,
                shown: Features::default(),
                revision: None,
            });
        };
        let header = header.ok_or_else(|| Violation {
            invariant: NAME,
            seen: "an answer without a header".to_owned(),
        })?;
        let wanted = (CLUSTER_ID, open.member.0, answered.term);
        require((header.cluster_id, header.member_id, header.raft_term) == wanted, || {
            format!("its header is not {wanted:?}")
        })?;
        let shown = shown(&answer);
        let revision = header.revision;
        if request.kind() == Kind::MemberList || request.kind() == Kind::LinearizableMemberList {
            // A server that has just joined knows of nobody, and may say so to a serializable read.
            let unknown = request.kind() == Kind::MemberList && names_nobody(&answer);
            let right = (unknown || members_are_right(&answer)) && revision == 0;
            require(right, || "another list of members".to_owned())?;
            if request.kind() == Kind::LinearizableMemberList {
                self.is_not_stale(open, answered)?;
            }
            return Ok(Learned { outcome: Outcome::Ok, shown, revision: None });
        }
        restore_header(&mut answer, revision);
        if request.kind().is_logged() {
            let Some((index, expected)) = &open.applied else {
                return require(false, || "no member has applied it".to_owned())
                    .map(|()| unreachable!("just refused"));
            };
            require(*expected == Ok(answer), || format!("the model has {}", brief(expected)))?;
            self.acknowledge(open, *index, answered)?;
        } else {
            self.read(open, answered, &Ok(answer))?;
        }
        Ok(Learned { outcome: Outcome::Ok, shown, revision: Some(revision) })
    }

    /// Whether who asks could be judged so before his request was looked at, by something that the
    /// member knew from when it was asked until it answered.
    fn could_be(&self, open: &Open, answered: &Answered, judged: Result<(), ApiError>) -> bool {
        let Some(needs) = open.request.needs() else { return true };
        let (_, last) = answered.applied;
        let Some(mut moments) = self.model.moments(open.shown, last) else { return true };
        moments.any(|moment| {
            let users = self.model.users_at(moment);
            users.check(&users.caller(open.name), needs) == judged
        })
    }

    /// A write is acknowledged: whoever asks from here on sees it. The member that answers has applied
    /// it.
    fn acknowledge(
        &mut self,
        open: &Open,
        index: Index,
        answered: &Answered,
    ) -> Result<(), Violation> {
        let (_, last) = answered.applied;
        require(index <= last, || {
            format!("{} acknowledges entry {index} and has applied up to {last}", open.member)
        })?;
        self.acknowledged = self.acknowledged.max(index);
        self.show(answered.process, last);
        Ok(())
    }

    fn show(&mut self, process: u64, index: Index) {
        let shown = self.shown.entry(process).or_default();
        *shown = index.max(*shown);
    }

    /// Invariant 2, as far as order goes.
    fn is_not_stale(&mut self, open: &Open, answered: &Answered) -> Result<(), Violation> {
        let (first, last) = answered.applied;
        if open.request.kind().is_linearizable_read() {
            let bound = open.acknowledged;
            require(bound <= first, || {
                format!("it shows entry {first}, asked after {bound} was acknowledged")
            })?;
            self.acknowledged = self.acknowledged.max(first);
        }
        let bound = self.shown.get(&answered.process).copied().unwrap_or_default();
        require(bound <= last, || format!("this process has shown {bound}, and then {last}"))?;
        self.show(answered.process, first);
        Ok(())
    }

    /// Invariant 2.
    fn read(&mut self, open: &Open, answered: &Answered, seen: &Expected) -> Result<(), Violation> {
        self.is_not_stale(open, answered)?;
        let (first, last) = answered.applied;
        let Some(moments) = self.model.moments(first, last) else {
            // A server that has just joined may show, to a serializable read, what the model has long
            // forgotten.
            if !open.request.kind().is_linearizable_read() {
                return Ok(());
            }
            return require(false, || format!("entry {first} lies before what may be shown"));
        };
        let moments: Vec<Moment> = moments.collect();
        // An answer that is read in slices is that of its first slice; what is compacted meanwhile
        // ends it.
        let begun = moments[0];
        let expected = self.model.read(&open.request, begun, open.name);
        let compacted = |moment: &Moment| begun.compacted < moment.compacted;
        let ended = *seen == Err(ApiError::Compacted) && moments.iter().any(compacted);
        require(*seen == expected || ended, || {
            format!("the model has {} at entry {first}", brief(&expected))
        })
    }
}

/// The codes of `Unimplemented` and `Internal`.
const UNIMPLEMENTED: i32 = 12;
const INTERNAL: i32 = 13;

/// What is said of something large.
fn brief(what: &impl std::fmt::Debug) -> String {
    const CHARACTERS_MAX: usize = 3_000;
    let mut text = format!("{what:?}");
    if let Some((at, _)) = text.char_indices().nth(CHARACTERS_MAX) {
        text.truncate(at);
        text.push_str(" ...");
    }
    text
}

type Decoded = (Answer, Option<pb::ResponseHeader>);

/// The answer and its header; `None` for an answer that has no model.
fn decode(request: &Request, bytes: &Bytes) -> Result<Option<Decoded>, Violation> {
    fn message<M: Message + Default>(bytes: &Bytes) -> Result<M, Violation> {
        M::decode(bytes.clone()).map_err(|error| Violation {
            invariant: NAME,
            seen: format!("an answer that cannot be decoded: {error}"),
        })
    }
    Ok(Some(match request {
        Request::Range(_) => {
            let mut answer: pb::RangeResponse = message(bytes)?;
            let header = answer.header.take();
            (Answer::Range(answer), header)
        }
        Request::Put(_) => {
            let mut answer: pb::PutResponse = message(bytes)?;
            let header = answer.header.take();
            (Answer::Put(answer), header)
        }
        Request::DeleteRange(_) => {
            let mut answer: pb::DeleteRangeResponse = message(bytes)?;
            let header = answer.header.take();
            (Answer::DeleteRange(answer), header)
        }
        Request::Txn(_) => {
            let mut answer: pb::TxnResponse = message(bytes)?;
            let header = answer.header.take();
            (Answer::Txn(answer), header)
        }
        Request::Compact(_) => {
            let mut answer: pb::CompactionResponse = message(bytes)?;
            let header = answer.header.take();
            (Answer::Compact(answer), header)
        }
        Request::MemberList(_) => {
            let mut answer: pb::MemberListResponse = message(bytes)?;
            let header = answer.header.take();
            (Answer::MemberList(answer), header)
        }
        Request::Alarm(_) => {
            let mut answer: pb::AlarmResponse = message(bytes)?;
            let header = answer.header.take();
            (Answer::Alarm(answer), header)
        }
        Request::LeaseGrant(_) => {
            let mut answer: pb::LeaseGrantResponse = message(bytes)?;
            let header = answer.header.take();
            (Answer::LeaseGrant(answer), header)
        }
        Request::LeaseRevoke(_) => {
            let mut answer: pb::LeaseRevokeResponse = message(bytes)?;
            let header = answer.header.take();
            (Answer::LeaseRevoke(answer), header)
        }
        Request::LeaseLeases => {
            let mut answer: pb::LeaseLeasesResponse = message(bytes)?;
            let header = answer.header.take();
            (Answer::LeaseLeases(answer), header)
        }
        Request::Auth(_) => {
            // All of them are answered with a header alone.
            let mut answer: pb::AuthEnableResponse = message(bytes)?;
            let header = answer.header.take();
            (Answer::Auth(answer), header)
        }
        Request::Status => {
            let answer: pb::StatusResponse = message(bytes)?;
            require(answer.header.is_some(), || "a status without a header".to_owned())?;
            return Ok(None);
        }
        Request::Unserved(_) | Request::Garbage(_) => {
            return require(false, || "it cannot be answered".to_owned()).map(|()| None);
        }
    }))
}

/// Puts the header back with the revision alone, as the model has it.
fn restore_header(answer: &mut Answer, revision: i64) {
    let header = Some(pb::ResponseHeader { revision, ..pb::ResponseHeader::default() });
    match answer {
        Answer::Range(answer) => answer.header = header,
        Answer::Put(answer) => answer.header = header,
        Answer::DeleteRange(answer) => answer.header = header,
        Answer::Txn(answer) => answer.header = header,
        Answer::Compact(answer) => answer.header = header,
        Answer::MemberList(answer) => answer.header = header,
        Answer::Alarm(answer) => answer.header = header,
        Answer::LeaseGrant(answer) => answer.header = header,
        Answer::LeaseRevoke(answer) => answer.header = header,
        Answer::LeaseLeases(answer) => answer.header = header,
        Answer::Auth(answer) => answer.header = header,
    }
}

/// What an answer shows that the request alone does not tell.
fn shown(answer: &Answer) -> Features {
    let mut shown = Features::default();
    match answer {
        Answer::Range(range) if range.more => shown.add(Feature::More),
        Answer::DeleteRange(delete) if delete.deleted == 0 => shown.add(Feature::DeletedNone),
        Answer::Txn(txn) if txn.succeeded => shown.add(Feature::Succeeded),
        Answer::Txn(_) => shown.add(Feature::Failed),
        _ => {}
    }
    shown
}

fn names_nobody(answer: &Answer) -> bool {
    matches!(answer, Answer::MemberList(list) if list.members.is_empty())
}

fn members_are_right(answer: &Answer) -> bool {
    let Answer::MemberList(list) = answer else { return false };
    // Who the members are is judged elsewhere; that somebody votes, and nobody is there twice, here.
    let rise = list.members.windows(2).all(|pair| pair[0].id < pair[1].id);
    rise && list.members.iter().any(|member| !member.is_learner)
}

#[cfg(test)]
#[path = "oracle_tests.rs"]
mod tests;
