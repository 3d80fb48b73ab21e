//! The closed contract of the consensus module: every [`Input`] it takes, every [`Output`] it
//! gives, and the messages that members exchange. There is nothing else.
//!
//! The module sees *headers only*. By Log Matching (§5.3) an index and a term name a command, so
//! payload bytes never enter. Whoever drives the module (the node, the simulator, the model
//! checker) keeps the payloads beside it and attaches them where a range of entries is named.

use std::collections::BTreeMap;

/// A term: a logical clock that rises with each election (§5.1). Terms start at 0, before any
/// election; the first leader has term 1 or above.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Term(pub u64);

/// The place of an entry in the log. The first entry has index 1; 0 is the place before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Index(pub u64);

/// Names a member for as long as it lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct NodeId(pub u64);

impl Index {
    /// The place after this one.
    #[must_use]
    pub fn next(self) -> Index {
        Index(self.0 + 1)
    }

    /// The place before this one; the place before 0 is 0.
    #[must_use]
    pub fn previous(self) -> Index {
        Index(self.0.saturating_sub(1))
    }
}

impl std::fmt::Display for Term {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Display for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Display for NodeId {
    /// Members are written in hexadecimal, as etcd's tools write them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// An entry's name: its index and the term of the leader that made it (Log Matching, §5.3).
///
/// Not ordered on purpose: "more up to date" (§5.4.1) compares the term first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Position {
    /// The entry's place.
    pub index: Index,
    /// The entry's term.
    pub term: Term,
}

/// What must be durable before a vote or an acknowledgement leaves the member (figure 2,
/// "persistent state"), beside the log itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct HardState {
    /// `currentTerm`.
    pub term: Term,
    /// `votedFor` in that term.
    pub vote: Option<NodeId>,
}

/// Who votes and who only listens. In force when appended (§6).
///
/// While `outgoing` is not empty the configuration is joint: every decision needs a majority of
/// `voters` *and* a majority of `outgoing`. Each list is sorted and without duplicates.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Configuration {
    /// The voters of the newest configuration (`C_new`).
    pub voters: Vec<NodeId>,
    /// The voters of the configuration being left (`C_old`); empty unless joint.
    pub outgoing: Vec<NodeId>,
    /// Members that receive the log and do not vote (thesis §4.2.1). A voter that is to become a
    /// learner stands here from the start, and votes until the joint configuration is left.
    pub learners: Vec<NodeId>,
    /// The voters that the leader moves to as soon as those of them that are learners have caught up
    /// (thesis §4.2.1); empty unless a change waits for that.
    pub target: Vec<NodeId>,
    /// Where members are found. Kept with the members they belong to, so that they change, and are
    /// rolled back, together; the module hands them on and never reads them.
    pub addresses: BTreeMap<NodeId, Vec<String>>,
    /// Put into the log by an operator who has given the other members up: this one alone votes,
    /// whatever was in force before. The module never makes such a configuration, and takes it for what
    /// it is: the others' quorums do not overlap with its own, so they must never run again.
    pub forced: bool,
}

/// The membership that somebody wants: see [`Input::ChangeMembers`].
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct MemberChange {
    /// The voters wanted: any set, however different from the present one; at least one.
    pub voters: Vec<NodeId>,
    /// The learners wanted; none of them among the voters.
    pub learners: Vec<NodeId>,
    /// Where the members wanted are found. Members that are not named keep their addresses; what is
    /// said of others is dropped.
    pub addresses: BTreeMap<NodeId, Vec<String>>,
    /// How new voters come in.
    pub catch_up: CatchUp,
}

/// How a voter that is new comes in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum CatchUp {
    /// As a learner first; the voters change once all new ones hold the log (thesis §4.2.1). Until
    /// then quorums are what they were.
    #[default]
    First,
    /// At once. Until they hold the log the cluster may lack a quorum.
    Skip,
}

/// A stretch of entries of one term: the term, and the index where it starts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Run {
    /// The term of every entry of the run.
    pub term: Term,
    /// The index of the run's first entry.
    pub first: Index,
}

/// The names of a contiguous range of entries, without their payloads: what stands before the
/// range, and the terms within it. The range is `prev.index + 1 ..= last`, and may be empty.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Range {
    /// The entry before the range.
    pub prev: Position,
    /// The last entry of the range; `prev.index` when the range is empty.
    pub last: Index,
    /// The term of the range's first entry, when there is one.
    pub first_term: Term,
    /// Where later terms start within the range, in order. Almost always empty, and then the range
    /// costs no allocation.
    pub more: Vec<Run>,
}

/// Numbers the writes a member asks of its own log, from 1, without gaps, within one life of the
/// process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct WriteNumber(pub u64);

/// Numbers the leader's read rounds (thesis §6.4): one counter that only rises within a term. A
/// quorum that confirms round n confirms every round up to n.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ReadRound(pub u64);

/// The timers that drive the module. The driver owns the clock and the randomness.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Timer {
    /// Leader: time for a heartbeat to every peer. Periodic.
    Heartbeat,
    /// Leader: one election timeout has passed since the last such check. A leader that has not
    /// heard from a quorum in between steps down (thesis §6.2). Periodic.
    QuorumCheck,
    /// The minimum election timeout has passed without word from the leader. From here on votes
    /// are no longer withheld (thesis §4.2.3).
    Quiet,
    /// The randomised election timeout (one to two times the minimum) has passed.
    Election,
    /// As `Election`, but drawn from 1 to 10 ms: asked for after [`Input::PeerDown`].
    ElectionSoon,
    /// Leader: the minimum election timeout has passed since a transfer of leadership began (thesis
    /// §3.10). It is given up.
    Transfer,
}

/// Everything that can happen to the module.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Input {
    /// A timer fired. One that the module has no use for in its present role is ignored.
    Timer(Timer),
    /// A message from another member arrived. For a [`Message::AppendRequest`] the driver holds the
    /// payloads until this step's [`Output::Write`] has said which of them enter the log.
    Receive {
        /// The member that sent it.
        from: NodeId,
        /// What it sent.
        message: Message,
    },
    /// Every write up to `write` is durable; `last` was the last entry of the log as of that write.
    /// The term matters: a late completion for entries that have been overwritten since must not
    /// count for those that took their place.
    Persisted {
        /// The newest write that is durable.
        write: WriteNumber,
        /// The last entry of the log as of that write.
        last: Position,
    },
    /// The driver holds `entries` commands of `bytes` in all and wants them in the log. Answered by
    /// [`Output::Assigned`] or [`Output::ProposalRefused`] in the same step.
    Propose {
        /// How many commands; at least 1.
        entries: u64,
        /// Their size in bytes, frames included.
        bytes: u64,
    },
    /// A client waits for a linearizable read. Answered in the same step by [`Output::ReadQueued`]
    /// or [`Output::ReadRefused`]. Any number of reads may share the round that is named.
    Read,
    /// The driver has sent entries under a [`Grant`]: everything after the grant's `prev` up to and
    /// including `last`, which is `grant.range.prev.index` when nothing but the commit index was
    /// sent. Given in the step order of the sends, and only for a grant of the present term. Answered by
    /// nothing; a flush follows.
    Sent {
        /// The grant's peer.
        peer: NodeId,
        /// The last entry sent.
        last: Index,
        /// The bytes of entries sent, frames included; 0 exactly when no entry was sent.
        bytes: u64,
    },
    /// What was sent to this peer on the lane of entries may be lost (the connection broke, the
    /// queue was full, a grant could not be honoured). Replication to it goes back to probing. It says
    /// nothing about a snapshot that is under way, whose end is told apart.
    Unreachable(NodeId),
    /// A hint, never proof: the peer's process is probably gone (its control lane broke and one
    /// immediate reconnect got no handshake).
    PeerDown(NodeId),
    /// The same peer shook hands again on the control lane; takes [`Input::PeerDown`] back.
    PeerUp(NodeId),
    /// Another membership is wanted. Answered in the same step by [`Output::Configured`] or
    /// [`Output::ChangeRefused`]. What is wanted already is answered by neither: there is nothing to
    /// do. One that waits for learners to catch up may be replaced by another.
    ChangeMembers(MemberChange),
    /// The leader is to hand over to `to`, or to whichever voter has most of the log (thesis §3.10).
    /// Proposals are refused meanwhile. Answered by [`Output::TransferEnded`] or, when it succeeds, by
    /// [`Output::Changed`]. Answered by neither where there is nothing to do: `to` leads, or it is being
    /// handed over to, or nobody is named and a transfer is under way.
    TransferLeadership {
        /// The voter that is to lead.
        to: Option<NodeId>,
    },
    /// The driver has reasons to give its leader up: the member forgets it, and withholds no vote for
    /// its sake until it is heard again. No election is begun.
    ForgetLeader,
    /// A leader whose storage is stuck steps down and is silent; anyone else is left alone.
    StepDown,
    /// The snapshot that this leader's driver was to send has been installed by the peer. Entries go
    /// on behind it; if the log was cut past it meanwhile, another snapshot is asked for. Ignored
    /// where none is under way.
    SnapshotDelivered {
        /// The peer.
        peer: NodeId,
        /// The last entry that the snapshot covers.
        last: Index,
    },
    /// The snapshot for the peer was not delivered, or nobody knows; it is asked for again once the
    /// peer has answered a heartbeat and does not hold the log from the cut on. Ignored where none is
    /// under way.
    SnapshotFailed(NodeId),
    /// The driver has installed a snapshot, durably, in the state machine of this member. The log is
    /// begun anew behind it unless it holds the snapshot's last entry; an [`Output::Write`] with
    /// [`Write::anew`] says so. One that is not news is ignored.
    ///
    /// The installation may begin only when the term of the member that sends the snapshot, or a
    /// later one, is this member's and durable ([`crate::Raft::is_hard_state_durable`]): who knows an
    /// entry to be committed must not follow a leader that was deposed before that. Any term that this
    /// member has by the time of this input will do.
    SnapshotInstalled {
        /// The last entry that the snapshot covers: committed, whoever sent it.
        last: Position,
        /// The configuration in force at that entry.
        configuration: Configuration,
    },
    /// The driver has no more inputs at hand: whatever is to be sent goes out. Between two flushes
    /// sends are held back, so that inputs that come together are answered together.
    Flush,
}

/// Everything the module asks of its driver, in order.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Output {
    /// Make this durable. Writes may be merged and are completed in order.
    Write(Write),
    /// Send at once.
    Send {
        /// The receiver.
        to: NodeId,
        /// The message.
        message: Message,
    },
    /// Send once the write `after` is durable, never before (figure 2: "updated on stable storage
    /// before responding to RPCs").
    SendAfter {
        /// The write to wait for.
        after: WriteNumber,
        /// The receiver.
        to: NodeId,
        /// The message.
        message: Message,
    },
    /// Entries may be sent. Given on [`Input::Flush`]; void once the term or the role changes.
    Grant(Grant),
    /// The entries of the last [`Input::Propose`] got these names; an [`Output::Write`] of the same
    /// range follows.
    Assigned {
        /// The entries' names.
        range: Range,
    },
    /// The leader starts its term with an entry of its own without a command (§8). The driver makes
    /// the frame; an [`Output::Write`] of the same range follows.
    NoOp {
        /// The entry's name.
        position: Position,
    },
    /// A configuration goes into the leader's log, wanted by somebody or following from an earlier one
    /// (§6). The driver makes the frame; an [`Output::Write`] of the same range follows.
    Configured {
        /// The entry's name.
        position: Position,
        /// The entry's content.
        configuration: Configuration,
    },
    /// The configuration in force has changed: appended, rolled back, or installed; or a leader has let
    /// go of a member that was removed. Both can be asked of the module
    /// ([`crate::Raft::configuration`], [`crate::Raft::departing`]).
    MembersChanged,
    /// The last [`Input::ChangeMembers`] was refused.
    ChangeRefused(ChangeRefused),
    /// A transfer of leadership did not begin or was given up; this member leads on, unless a
    /// configuration without it is committed: then it steps down.
    TransferEnded(TransferEnded),
    /// The peer needs entries that were cut off the log: a snapshot is to be sent to it. Answered some
    /// time by [`Input::SnapshotDelivered`] or [`Input::SnapshotFailed`], and not given again for this
    /// peer before that; void once the term or the role changes.
    SendSnapshot {
        /// The receiver.
        peer: NodeId,
        /// What the snapshot must cover at least.
        at_least: Index,
    },
    /// This member holds again all that it may have lost: it votes and counts from here on. The driver
    /// makes that durable at its leisure: until it is, the next start is recovering once more.
    Recovered,
    /// The last [`Input::Propose`] was refused; nothing of it will happen.
    ProposalRefused(Refused),
    /// The last [`Input::Read`] waits for this round.
    ReadQueued(ReadRound),
    /// The last [`Input::Read`] was refused.
    ReadRefused(Refused),
    /// Reads that wait for `round` or an earlier one may run as soon as `index` is applied.
    ReadsReady {
        /// The newest confirmed round.
        round: ReadRound,
        /// The read index (thesis §6.4).
        index: Index,
    },
    /// The commit index has risen to this.
    Commit(Index),
    /// Role, term or leader changed. Reads queued under an earlier term or role are void, and so are
    /// grants.
    Changed(Standing),
    /// Set this timer anew, whatever it was. `Election` is drawn afresh at each restart.
    Restart(Timer),
}

/// What the module wants made durable.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Write {
    /// The number by which its completion is reported.
    pub number: WriteNumber,
    /// The term and vote in force.
    pub hard_state: HardState,
    /// The change of the log, if any: everything after `range.prev` is dropped, then the range is
    /// appended. The frames are those of the proposal, the no-op, the configuration or the message of
    /// this step.
    pub range: Option<Range>,
    /// Set when the log is begun anew behind a snapshot: nothing of it is kept, `range` is empty, its
    /// `prev` is the snapshot's last entry, and this is the configuration in force there.
    pub anew: Option<Configuration>,
}

/// Leave to send entries of the leader's log to a peer.
///
/// The driver sends a prefix of `range` of at most `bytes_max` bytes (but at least one entry when
/// the range has any, so that an entry larger than the window passes), builds the message with
/// [`Grant::request`], and reports [`Input::Sent`]. A grant replaces every earlier one for the same
/// peer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Grant {
    /// The receiver.
    pub peer: NodeId,
    /// The leader's term.
    pub term: Term,
    /// What may be sent; empty when only the commit index is news.
    pub range: Range,
    /// The most bytes of entries to send.
    pub bytes_max: u64,
    /// The leader's commit index.
    pub commit: Index,
    /// The configurations among the range's entries, by index.
    pub configurations: Vec<(Index, Configuration)>,
}

/// Why a proposal or a read was refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refused {
    /// This member does not lead; it believes that the named one does.
    NotLeader(Option<NodeId>),
    /// Too many bytes are proposed and not committed yet; try again after a while.
    Busy,
    /// Leadership is being handed over; within an election timeout there is a leader again, perhaps
    /// this one.
    HandingOver,
}

/// Why a change of the membership was refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ChangeRefused {
    /// This member does not lead; it believes that the named one does.
    NotLeader(Option<NodeId>),
    /// The last change is not committed, or still joint: one at a time (§6).
    UnderWay,
    /// The leader has not committed an entry of its term yet (thesis §4.1, as corrected in 2015).
    TooEarly,
    /// Leadership is being handed over.
    HandingOver,
    /// Nobody would vote, a member is named twice, or there are too many.
    Impossible,
    /// Without the members that are recovering, the voters wanted are no quorum of themselves: the
    /// leader could not confirm its leadership, and so they would never recover.
    Recovering,
}

/// Why a transfer of leadership did not happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TransferEnded {
    /// This member does not lead; it believes that the named one does.
    NotLeader(Option<NodeId>),
    /// The one named is no voter, or does not stay one, or there is no other voter.
    NoVoter,
    /// It did not take over within an election timeout.
    TimedOut,
    /// Another transfer took its place.
    Replaced,
}

/// The three roles of figure 4, and the one before candidacy (thesis §9.6).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RoleKind {
    /// Answers leaders and candidates.
    Follower,
    /// Asks whether it could win, without raising its term.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Serves clients and replicates the log.
    Leader,
}

/// Who this member is at the moment, and whom it believes to lead.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Standing {
    /// Its role.
    pub role: RoleKind,
    /// Its current term.
    pub term: Term,
    /// The leader of that term, if known.
    pub leader: Option<NodeId>,
}

/// What members say to one another.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// Would you vote for me? (thesis §9.6)
    PreVoteRequest(PreVoteRequest),
    /// The answer to a pre-vote.
    PreVoteResponse(PreVoteResponse),
    /// RequestVote (§5.2).
    VoteRequest(VoteRequest),
    /// The answer to RequestVote.
    VoteResponse(VoteResponse),
    /// AppendEntries (§5.3). The only message that payloads travel with.
    AppendRequest(AppendRequest),
    /// The answer to AppendEntries.
    AppendResponse(AppendResponse),
    /// Word from the leader, apart from the log (§5.2), carrying the read round (thesis §6.4).
    Heartbeat(Heartbeat),
    /// The answer to a heartbeat.
    HeartbeatResponse(HeartbeatResponse),
    /// Stand for election at once: the leader hands over (thesis §3.10).
    TimeoutNow(TimeoutNow),
}

/// The leader of `term` asks the receiver to stand for election, without waiting and without asking
/// around first.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TimeoutNow {
    /// The leader's term.
    pub term: Term,
}

/// Numbers a recovery: drawn by the driver for each start in the *recovering* state, never used
/// before by this member, so that an answer to an earlier life is told apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RecoveryNumber(pub u64);

/// What a member that may have lost acknowledged entries has to hold before it counts again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RecoverTo {
    /// The recovery that this answers.
    pub number: RecoveryNumber,
    /// The leader's last entry when it heard of the recovery; it has confirmed its leadership since.
    pub last: Index,
}

/// Asks whether the sender could win an election, were it to hold one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PreVoteRequest {
    /// The term the sender would stand for: its own plus one.
    pub term: Term,
    /// The sender's last entry.
    pub last: Position,
}

/// The answer to a [`PreVoteRequest`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PreVoteResponse {
    /// A grant mirrors the asked term; a refusal carries the voter's own term, so that a stale
    /// candidate catches up.
    pub term: Term,
    /// Whether the voter would vote for the asker.
    pub granted: bool,
}

/// `RequestVote` of figure 2.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct VoteRequest {
    /// The candidate's term.
    pub term: Term,
    /// The candidate's last entry.
    pub last: Position,
    /// Whether the leader itself asked the candidate to stand: then no vote is withheld for that
    /// leader's sake (thesis §4.2.3).
    pub transfer: bool,
}

/// The answer to a [`VoteRequest`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct VoteResponse {
    /// The voter's term.
    pub term: Term,
    /// Whether the candidate got the vote.
    pub granted: bool,
}

/// `AppendEntries` of figure 2, without the payloads.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AppendRequest {
    /// The leader's term.
    pub term: Term,
    /// The entry before the new ones, and the new ones' names.
    pub range: Range,
    /// The leader's commit index.
    pub commit: Index,
    /// The configurations among the new entries, by index: the only content that the module reads.
    pub configurations: Vec<(Index, Configuration)>,
}

/// The answer to one or several [`AppendRequest`]s.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AppendResponse {
    /// The follower's term.
    pub term: Term,
    /// Whether the entries fitted.
    pub outcome: AppendOutcome,
    /// Set while the follower is recovering: nothing of it counts.
    pub recovering: Option<RecoveryNumber>,
}

/// Whether a follower's log holds what the leader said stands before the new entries.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum AppendOutcome {
    /// The follower's log equals the leader's up to here, durably.
    Match(Index),
    /// The follower does not hold the entry at `probe` with the term the leader named.
    Conflict {
        /// The `prev` index of the refused request: tells a late refusal from a fresh one. Place 1,
        /// with the hint before it, when a request of an older term is refused.
        probe: Index,
        /// The follower's best guess at the last entry both may hold: at most `probe - 1`, of a term
        /// not above the one the leader named.
        hint: Position,
    },
}

/// Word from the leader.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Heartbeat {
    /// The leader's term.
    pub term: Term,
    /// The leader's commit index, at most what this follower is known to hold.
    pub commit: Index,
    /// The newest read round that has been opened.
    pub round: ReadRound,
    /// For a follower that said it is recovering.
    pub recover_to: Option<RecoverTo>,
}

/// The answer to a [`Heartbeat`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HeartbeatResponse {
    /// The follower's term.
    pub term: Term,
    /// The round of the heartbeat; 0 when a heartbeat of an older term is refused, whose rounds are
    /// not those of the present one.
    pub round: ReadRound,
    /// Set while the follower is recovering: nothing of it counts.
    pub recovering: Option<RecoveryNumber>,
}

/// What the module starts from.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Start {
    /// This member.
    pub id: NodeId,
    /// The durable term and vote.
    pub hard_state: HardState,
    /// The configuration in force at the entry before the log's first: the bootstrap configuration of
    /// a log that was never cut; empty for a member that is to join, until it learns of one.
    pub configuration: Configuration,
    /// The configurations among the durable log's entries, by index. The last one is in force (§6).
    pub configurations: Vec<(Index, Configuration)>,
    /// The durable log's names: `prev` is where the retained log begins. Where the log does not hold
    /// the last entry that the state machine has applied, by index *and* term (a crash between the
    /// installation of a snapshot and the log, or rot), the driver has begun it anew behind that one.
    pub log: Range,
    /// What is known to be committed: the state machine's durable applied index.
    pub commit: Index,
    /// Set when this member may have lost entries that it had acknowledged: it starts *recovering*. It
    /// does not vote, stand or count until it durably holds all that a leader of at least its own term
    /// held when that leader confirmed its leadership after this start. What may be lost are entries:
    /// `hard_state` is the newest that was durable all the same, for nobody else knows this member's
    /// vote. Each start draws another number, and is one in this state until [`Output::Recovered`] has
    /// been made durable.
    pub recovering: Option<RecoveryNumber>,
    /// The bounds.
    pub limits: Limits,
}

/// The module's bounds. Each has a default with its reason.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Limits {
    /// The most bytes of entries in one append.
    pub append_bytes_max: u64,
    /// The most appends sent to one peer and not answered.
    pub inflight_messages_max: usize,
    /// The most bytes sent to one peer and not answered.
    pub inflight_bytes_max: u64,
    /// The most bytes proposed and not committed; beyond it proposals are refused as busy.
    pub uncommitted_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            // One append is one write and one sync on the follower: large enough to amortise both,
            // small enough that a heartbeat's thread is not held up by copying it.
            append_bytes_max: 1 << 20,
            // The follower coalesces, so a deep window buys little; a few hide the round trip.
            inflight_messages_max: 64,
            inflight_bytes_max: 8 << 20,
            // A leader cut off from its quorum must not grow without bound.
            uncommitted_bytes_max: 64 << 20,
        }
    }
}

impl Grant {
    /// The message that sends this grant's entries up to `last`.
    ///
    /// # Panics
    /// If `last` lies outside the grant.
    #[must_use]
    pub fn request(&self, last: Index) -> AppendRequest {
        let within = self.configurations.iter().filter(|(index, _)| *index <= last);
        AppendRequest {
            term: self.term,
            range: self.range.prefix(last),
            commit: self.commit,
            configurations: within.cloned().collect(),
        }
    }
}

impl Range {
    /// An empty range after `prev`.
    #[must_use]
    pub fn empty(prev: Position) -> Range {
        Range { prev, last: prev.index, first_term: Term(0), more: Vec::new() }
    }

    /// A range of entries of one term.
    #[must_use]
    pub fn of_term(prev: Position, term: Term, last: Index) -> Range {
        Range { prev, last, first_term: term, more: Vec::new() }
    }

    /// Whether the range holds no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.last == self.prev.index
    }

    /// The first entry's index; one past `last` when the range is empty.
    #[must_use]
    pub fn first(&self) -> Index {
        self.prev.index.next()
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.last.0 - self.prev.index.0
    }

    /// The term of the entry at `index`, or of `prev`; `None` outside the range.
    #[must_use]
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.prev.index {
            return Some(self.prev.term);
        }
        if index < self.prev.index || self.last < index {
            return None;
        }
        let later = self.more.iter().rev().find(|run| run.first <= index);
        Some(later.map_or(self.first_term, |run| run.term))
    }

    /// The name of the range's last entry, or `prev` when it is empty.
    #[must_use]
    pub fn last_position(&self) -> Position {
        let term = self.term_at(self.last).expect("last lies within the range");
        Position { index: self.last, term }
    }

    /// The same range, ending at `last`.
    ///
    /// # Panics
    /// If `last` lies outside the range.
    #[must_use]
    pub fn prefix(&self, last: Index) -> Range {
        assert!(self.prev.index <= last && last <= self.last, "prefix within the range");
        if last == self.prev.index {
            return Range::empty(self.prev);
        }
        let more = self.more.iter().copied().filter(|run| run.first <= last).collect();
        Range { prev: self.prev, last, first_term: self.first_term, more }
    }

    /// The rest of the same range, after `prev`, which lies within it.
    ///
    /// # Panics
    /// If `prev` lies outside the range.
    #[must_use]
    pub fn after(&self, prev: Index) -> Range {
        let term = self.term_at(prev).expect("a range is cut within itself");
        let position = Position { index: prev, term };
        if prev == self.last {
            return Range::empty(position);
        }
        let first_term = self.term_at(prev.next()).expect("prev lies before the last entry");
        let more = self.more.iter().copied().filter(|run| prev.next() < run.first).collect();
        Range { prev: position, last: self.last, first_term, more }
    }

    /// Whether this is a range at all: terms rise from run to run, and each run lies within. Whoever
    /// decodes foreign bytes asks this before handing them to the module, which asserts it.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        if self.last <= self.prev.index {
            return self.last == self.prev.index
                && self.first_term == Term(0)
                && self.more.is_empty();
        }
        let mut before = Run { term: self.first_term, first: self.first() };
        let rises = self.more.iter().all(|run| {
            let rises =
                before.term < run.term && before.first < run.first && run.first <= self.last;
            before = *run;
            rises
        });
        self.prev.term <= self.first_term && rises
    }

    /// Adds an entry of `term` at the end.
    ///
    /// # Panics
    /// If `term` is below that of the last entry: terms never fall along a log.
    pub fn push(&mut self, term: Term) {
        let before = self.last_position().term;
        assert!(before <= term, "terms never fall along a log");
        if self.is_empty() {
            self.first_term = term;
        } else if before < term {
            self.more.push(Run { term, first: self.last.next() });
        }
        self.last = self.last.next();
    }
}

impl Configuration {
    /// A configuration of voters alone, sorted and without duplicates.
    #[must_use]
    pub fn of_voters(voters: impl IntoIterator<Item = NodeId>) -> Configuration {
        let mut voters: Vec<NodeId> = voters.into_iter().collect();
        voters.sort_unstable();
        voters.dedup();
        Configuration { voters, ..Configuration::default() }
    }

    /// Whether the configuration is in between two others (§6).
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }
}
