//! The member: what it keeps, how it starts, and what can be seen of it.
//!
//! Responsible for construction, views, and the small acts that all roles share: writing, timers.
//! Not responsible for the protocol, which begins in `step.rs`.

use crate::contract::{
    HardState, Index, Limits, NodeId, Output, Position, Range, RecoveryNumber, RoleKind, Standing,
    Start, Term, Timer, Write, WriteNumber,
};
use crate::invariants;
use crate::log::Log;
use crate::membership::Membership;
use crate::progress::Progress;
use crate::role::{Debt, Follower, Role, Stickiness};
use crate::stable::{Splice, Stable};

/// One member's consensus module.
///
/// Everything that figure 2 calls state is here or in the role: `currentTerm` and `votedFor` in
/// `hard_state`, `log[]` in `log` by its terms, `commitIndex` in `commit_index`; `nextIndex[]` and
/// `matchIndex[]` belong to the leader's role and exist only there. `lastApplied` is the driver's.
///
/// It is driven by [`Raft::step`] alone, and holds no clock, no randomness and no payload: two equal
/// members given equal inputs give equal outputs and are equal afterwards.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Raft {
    pub(crate) id: NodeId,
    pub(crate) limits: Limits,
    /// The configurations that belong to the log; the newest is in force.
    pub(crate) membership: Membership,
    /// `currentTerm` and `votedFor`. Made durable by the step that changes them.
    pub(crate) hard_state: HardState,
    pub(crate) log: Log,
    pub(crate) commit_index: Index,
    /// Set until this member holds again all that it may have lost.
    pub(crate) recovering: Option<RecoveryNumber>,
    pub(crate) stable: Stable,
    pub(crate) role: Role,
    /// What was last told by [`Output::Changed`].
    pub(crate) announced: Standing,
    /// The timers that were restarted since the last flush; a second restart would change nothing.
    pub(crate) restarted: Restarted,
}

/// A set of timers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Restarted(u8);

impl Raft {
    /// A member as it starts: a follower that knows no leader and withholds no vote. Its first step
    /// asks for the election timer.
    ///
    /// # Panics
    /// If `start` contradicts itself: a log with terms above the current one, a commit index
    /// outside the log, an ill-formed range, a list of members that is not sorted, a configuration
    /// outside the log.
    #[must_use]
    pub fn new(start: Start) -> Raft {
        let Start {
            id,
            hard_state,
            configuration,
            configurations,
            log,
            commit,
            recovering,
            limits,
        } = start;
        let configurations = match canon!(configuration_is_not_reloaded) {
            true => Vec::new(),
            false => configurations,
        };
        let commit = if canon!(restart_commits_the_whole_log) { log.last } else { commit };
        assert!(log.is_well_formed(), "the log's names form a range");
        assert!(log.prev.index <= commit, "what was cut off the log is committed");
        assert!(0 < limits.inflight_messages_max && 0 < limits.inflight_bytes_max, "room to send");
        let log = Log::new(&log);
        let role = Role::Follower(Follower {
            leader: None,
            stickiness: Stickiness::Free,
            haste: None,
            verified: commit,
            acknowledged: Index(0),
            debt: Debt::Paid,
            recover_to: None,
        });
        let standing = Standing { role: RoleKind::Follower, term: hard_state.term, leader: None };
        let raft = Raft {
            id,
            limits,
            membership: Membership::new(configuration, configurations),
            hard_state,
            stable: Stable::new(hard_state, log.last_index()),
            log,
            commit_index: commit,
            recovering,
            role,
            announced: standing,
            restarted: Restarted::of_start(),
        };
        raft.check_invariants();
        raft
    }

    /// This member.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// `currentTerm`; perhaps not durable yet.
    #[must_use]
    pub fn term(&self) -> Term {
        self.hard_state.term
    }

    /// `votedFor` in the current term; perhaps not durable yet.
    #[must_use]
    pub fn vote(&self) -> Option<NodeId> {
        self.hard_state.vote
    }

    /// The current term and vote; perhaps not durable yet.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The role.
    #[must_use]
    pub fn role(&self) -> RoleKind {
        self.role.kind()
    }

    /// The leader of the current term, if this member knows it; itself if it leads.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Follower(follower) => follower.leader,
            Role::PreCandidate(_) | Role::Candidate(_) => None,
            Role::Leader(_) => Some(self.id),
        }
    }

    /// Role, term and leader, as told by the last [`Output::Changed`].
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing { role: self.role(), term: self.term(), leader: self.leader() }
    }

    /// `commitIndex`: every entry up to here will be applied by every member.
    #[must_use]
    pub fn commit_index(&self) -> Index {
        self.commit_index
    }

    /// The last entry's index, durable or not.
    #[must_use]
    pub fn last_index(&self) -> Index {
        self.log.last_index()
    }

    /// The last entry's name, durable or not.
    #[must_use]
    pub fn last_position(&self) -> Position {
        self.log.last_position()
    }

    /// The entry before the first that the log still names.
    #[must_use]
    pub fn first_position(&self) -> Position {
        self.log.start()
    }

    /// The term of the entry at `index`; `None` where the log does not reach.
    #[must_use]
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.log.term_at(index)
    }

    /// The last entry that is durable in this member's log together with all before it.
    #[must_use]
    pub fn durable_index(&self) -> Index {
        self.stable.durable_index()
    }

    /// Leader: up to where the peer's durable log is known to equal this one's. `None` when this
    /// member does not lead or does not know the peer.
    #[must_use]
    pub fn match_index(&self, peer: NodeId) -> Option<Index> {
        let Role::Leader(leader) = &self.role else { return None };
        if peer == self.id {
            return Some(self.durable_index());
        }
        leader.peers.get(&peer).map(|progress| progress.match_index())
    }

    /// Leader: whether a snapshot was asked for ([`Output::SendSnapshot`]) for the peer, and its end
    /// not told yet.
    #[must_use]
    pub fn is_in_snapshot(&self, peer: NodeId) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        leader.peers.get(&peer).is_some_and(|progress| progress.is_in_snapshot())
    }

    /// Set while this member is recovering: it neither votes nor stands nor counts.
    #[must_use]
    pub fn recovering(&self) -> Option<RecoveryNumber> {
        self.recovering
    }

    /// Whether the current term and vote are durable. The driver begins to install a snapshot only
    /// when the term of the leader that sends it, or a later one, is: see
    /// [`Input::SnapshotInstalled`](crate::Input::SnapshotInstalled).
    #[must_use]
    pub fn is_hard_state_durable(&self) -> bool {
        self.stable.is_hard_state_durable()
    }

    /// Leader: the bytes proposed in this term and not committed.
    #[must_use]
    pub fn uncommitted_bytes(&self) -> u64 {
        let Role::Leader(leader) = &self.role else { return 0 };
        leader.uncommitted.bytes()
    }

    /// Leader: the appends sent to the peer that has the most of them unanswered, and the bytes sent
    /// to the peer that has the most of those.
    #[must_use]
    pub fn fullest_window(&self) -> (usize, u64) {
        let Role::Leader(leader) = &self.role else { return (0, 0) };
        leader.peers.values().map(Progress::window).fold((0, 0), |fullest, (messages, bytes)| {
            (messages.max(fullest.0), bytes.max(fullest.1))
        })
    }

    /// Leader: how many read rounds are open, at most [`OPEN_ROUNDS_MAX`](crate::OPEN_ROUNDS_MAX).
    #[must_use]
    pub fn open_read_rounds(&self) -> usize {
        let Role::Leader(leader) = &self.role else { return 0 };
        leader.reads.open_rounds()
    }

    /// The driver has cut its log before `up_to`, which stays known by name. Earlier names are
    /// forgotten.
    ///
    /// # Panics
    /// If `up_to` is not in the log, or not committed.
    pub fn compact(&mut self, up_to: Position) {
        assert!(up_to.index <= self.commit_index, "only committed entries are cut");
        if up_to.index <= self.log.start().index {
            return;
        }
        self.log.compact(up_to);
        self.membership.compact(up_to.index);
        self.check_invariants();
    }

    /// Asserts every invariant of [`invariants`], the expensive ones too.
    ///
    /// # Panics
    /// With the number and name of the first that does not hold.
    pub fn check_invariants(&self) {
        for invariant in invariants::MEMBER {
            let invariants::Invariant { number, name, .. } = invariant;
            assert!((invariant.holds)(self), "invariant {number}: {name}");
        }
    }

    /// Asks that the term, the vote and, if given, a change of the log become durable. The log has
    /// been changed already; `last_before` is where it ended before that.
    pub(crate) fn write(
        &mut self,
        range: Option<Range>,
        last_before: Index,
        out: &mut Vec<Output>,
    ) -> WriteNumber {
        if canon!(entry_durable_before_its_term) && range.is_some() {
            let hard_state = self.stable.hard_state();
            let splice = range.as_ref().map(|r| Splice { after: r.prev.index, last_before });
            let number = self.stable.write(hard_state, splice);
            out.push(Output::Write(Write { number, hard_state, range, anew: None }));
            return self.write_hard_state(out);
        }
        let splice = range.as_ref().map(|range| Splice { after: range.prev.index, last_before });
        let number = self.stable.write(self.hard_state, splice);
        out.push(Output::Write(Write { number, hard_state: self.hard_state, range, anew: None }));
        number
    }

    /// Writes the term and vote unless the newest write holds them; the write that does.
    ///
    /// A vote in a new term thus makes one write of both, and entries of a new term take the term
    /// along in theirs: no entry is ever on the disk before its term.
    pub(crate) fn write_hard_state(&mut self, out: &mut Vec<Output>) -> WriteNumber {
        if self.stable.hard_state() != self.hard_state {
            self.write(None, self.log.last_index(), out);
        }
        self.stable.holding()
    }

    /// Asks for a timer, once between two flushes: a follower under load hears from its leader many
    /// times in a turn, and setting a timer to the same moment again changes nothing.
    pub(crate) fn restart(&mut self, timer: Timer, out: &mut Vec<Output>) {
        if self.restarted.insert(timer) {
            out.push(Output::Restart(timer));
        }
    }
}

impl Restarted {
    /// The bit of a member that has made no step.
    const START: u8 = 1 << 7;

    /// No timer, and the first step is still to come.
    fn of_start() -> Restarted {
        Restarted(Restarted::START)
    }

    /// Whether this is the first step, once.
    pub(crate) fn take_start(&mut self) -> bool {
        let start = self.0 & Restarted::START != 0;
        self.0 &= !Restarted::START;
        start
    }

    /// Takes all timers out.
    pub(crate) fn clear(&mut self) {
        self.0 = 0;
    }

    /// Adds a timer; whether it is new.
    pub(crate) fn insert(&mut self, timer: Timer) -> bool {
        let news = self.0 & Restarted::bit(timer) == 0;
        self.0 |= Restarted::bit(timer);
        news
    }

    /// Takes a timer out: it has fired.
    pub(crate) fn remove(&mut self, timer: Timer) {
        self.0 &= !Restarted::bit(timer);
    }

    fn bit(timer: Timer) -> u8 {
        match timer {
            Timer::Heartbeat => 1,
            Timer::QuorumCheck => 2,
            Timer::Quiet => 4,
            Timer::Election => 8,
            Timer::ElectionSoon => 16,
            Timer::Transfer => 32,
        }
    }
}
