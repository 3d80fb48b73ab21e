//! The roles of figure 4, each owning the state that has a meaning only in that role, and the
//! transitions between them.
//!
//! Responsible for the transitions: the `become_*` methods are the only places that assign the role.
//! Not responsible for deciding when to take one.
//!
//! ```text
//!                 election timeout             quorum of             quorum of votes,
//!                 or PeerDown                  pre-votes             own one durable
//!   Follower -------------------> PreCandidate ---------> Candidate -----------------> Leader
//!      ^                               |                      |                          |
//!      +-- higher term, or a leader ---+----------------------+-- higher term, or -------+
//!                                                                 no quorum heard
//! ```

use std::collections::BTreeMap;

use crate::contract::{HardState, Index, NodeId, Output, RoleKind, Standing, Term, Timer};
use crate::membership::peers_of;
use crate::progress::Progress;
use crate::raft::Raft;
use crate::reads::Reads;
use crate::transfer::Transfer;
use crate::uncommitted::Uncommitted;

/// What a member is at the moment, with what belongs to that.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Role {
    Follower(Follower),
    PreCandidate(Campaign),
    Candidate(Campaign),
    Leader(Leader),
}

/// Answers leaders and candidates.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Follower {
    /// The leader of the present term, once it was heard from.
    pub(crate) leader: Option<NodeId>,
    /// Whether votes are withheld for that leader's sake.
    pub(crate) stickiness: Stickiness,
    /// Set when the leader's process is probably gone.
    pub(crate) haste: Option<Haste>,
    /// The log equals that of the present term's leader up to here. Commit indexes from the leader
    /// count only so far: what lies beyond may still be overwritten (the bound of figure 2,
    /// AppendEntries rule 5, is "index of last new entry" and not "end of the log").
    pub(crate) verified: Index,
    /// The highest match that was acknowledged to the present term's leader.
    pub(crate) acknowledged: Index,
    /// Whether a request waits for its acknowledgement.
    pub(crate) debt: Debt,
    /// What the present term's leader says that this member must hold to have recovered.
    pub(crate) recover_to: Option<Index>,
}

/// Whether a live leader is protected from elections (thesis §4.2.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Stickiness {
    /// A leader was heard from, and `Quiet` has not fired since: votes are withheld.
    Withheld,
    /// Votes are given.
    Free,
}

/// Whether the leader is owed an acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Debt {
    /// A request was verified and not acknowledged.
    Owed,
    /// Nothing is owed.
    Paid,
}

/// Asks whether it could win, or asks for votes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Campaign {
    /// Who answered what, this member included.
    pub(crate) votes: BTreeMap<NodeId, bool>,
    /// Set when the campaign was started by [`crate::Input::PeerDown`].
    pub(crate) haste: Option<Haste>,
}

/// An election that is held because the leader's process seems gone, and is therefore retried soon.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Haste {
    /// The leader that seems gone.
    pub(crate) suspect: NodeId,
    /// The term that it led.
    pub(crate) term: Term,
    /// How many refusals are answered by another attempt.
    pub(crate) retries_left: u32,
    /// Whether `ElectionSoon` is running, so that several refusals of one attempt count once.
    pub(crate) attempt: Attempt,
}

/// Where a hasty election stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Attempt {
    /// `ElectionSoon` was asked for.
    Scheduled,
    /// Votes or pre-votes were asked for.
    Made,
}

/// Serves clients and replicates the log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Leader {
    /// The no-op that opened the term (§8).
    pub(crate) term_start: Index,
    /// Every other member of the configuration in force, and those that depart.
    pub(crate) peers: BTreeMap<NodeId, Progress>,
    /// Members that were removed and are still sent the log, to learn of it; each with how many quorum
    /// checks it has left.
    pub(crate) departing: BTreeMap<NodeId, u8>,
    /// What the log held at the last quorum check, or when the configuration last changed: learners
    /// have caught up who hold it before the next check (thesis §4.2.1).
    pub(crate) round: Index,
    /// Set while leadership is being handed over.
    pub(crate) transfer: Option<Transfer>,
    /// Reads and the rounds that confirm them.
    pub(crate) reads: Reads,
    /// What was proposed in this term and is not committed.
    pub(crate) uncommitted: Uncommitted,
}

/// A hasty election is retried this often. An attempt fails while the voters have not noticed the
/// leader's end themselves, which they do at once when its port refuses and after 50 ms when it is
/// silent; at 1 to 10 ms each, sixteen attempts last some 90 ms. After that the election timer rules.
const HASTY_RETRIES_MAX: u32 = 16;

impl Haste {
    pub(crate) fn new(suspect: NodeId, term: Term) -> Haste {
        let retries_left = HASTY_RETRIES_MAX;
        Haste { suspect, term, retries_left, attempt: Attempt::Scheduled }
    }

    /// Whether `peer` is the suspect, the term being still the one that it led.
    pub(crate) fn suspects(&self, peer: NodeId, term: Term) -> bool {
        self.suspect == peer && self.term == term
    }
}

impl Role {
    pub(crate) fn kind(&self) -> RoleKind {
        match self {
            Role::Follower(_) => RoleKind::Follower,
            Role::PreCandidate(_) => RoleKind::PreCandidate,
            Role::Candidate(_) => RoleKind::Candidate,
            Role::Leader(_) => RoleKind::Leader,
        }
    }
}

impl Raft {
    /// Becomes a follower in `term`, of `leader` if it is known. A follower stays one, but with a
    /// clean slate: what it verified against one term's leader says nothing about the next one's.
    pub(crate) fn become_follower(
        &mut self,
        term: Term,
        leader: Option<NodeId>,
        out: &mut Vec<Output>,
    ) {
        assert!(self.hard_state.term <= term, "invariant 1: the term never falls");
        assert!(leader != Some(self.id), "a member does not follow itself");
        if self.hard_state.term < term || canon!(vote_is_forgotten_on_stepping_down) {
            self.hard_state = HardState { term, vote: None };
        }
        let before = self.role.kind();
        // Committed entries are in every later leader's log (Leader Completeness, §5.4.3).
        let verified = match &self.role {
            Role::Follower(follower) if canon!(verified_against_a_former_leader) => {
                follower.verified
            }
            _ => self.commit_index,
        };
        self.role = Role::Follower(Follower {
            leader,
            stickiness: Stickiness::Free,
            haste: None,
            verified,
            acknowledged: Index(0),
            debt: Debt::Paid,
            recover_to: None,
        });
        self.announce(out);
        // A follower's election timer keeps running when only the term rises: a member that cannot
        // win must not put off, by asking, the elections of those who can.
        if before != RoleKind::Follower {
            self.restart(Timer::Quiet, out);
            self.restart(Timer::Election, out);
        }
    }

    /// Becomes a pre-candidate: asks around, at an unchanged term, whether it could win (thesis
    /// §9.6). The former leader is forgotten, and with it every reason to withhold a vote.
    pub(crate) fn become_pre_candidate(&mut self, haste: Option<Haste>, out: &mut Vec<Output>) {
        assert!(self.role.kind() != RoleKind::Leader, "a leader does not campaign");
        assert!(self.may_campaign(), "only a voter campaigns");
        assert!(self.may_stand(), "invariant 21: a recovering member does not stand");
        let votes = BTreeMap::from([(self.id, true)]);
        self.role = Role::PreCandidate(Campaign { votes, haste });
        self.announce(out);
        self.restart(Timer::Election, out);
    }

    /// Becomes a candidate: raises the term and votes for itself (§5.2). The own vote is counted
    /// when it is durable, like everyone else's. A follower takes this way only when its leader hands
    /// over to it (thesis §3.10).
    pub(crate) fn become_candidate(&mut self, out: &mut Vec<Output>) {
        assert!(self.may_campaign(), "only a voter campaigns");
        let haste = match &self.role {
            Role::PreCandidate(campaign) => campaign.haste,
            Role::Follower(_) => None,
            _ => panic!("a candidate has asked around, or was asked by its leader"),
        };
        let term = Term(self.hard_state.term.0 + 1);
        self.hard_state = HardState { term, vote: Some(self.id) };
        self.role = Role::Candidate(Campaign { votes: BTreeMap::new(), haste });
        self.announce(out);
        self.restart(Timer::Election, out);
    }

    /// Becomes the leader, and opens its term with an entry of its own (§8).
    pub(crate) fn become_leader(&mut self, out: &mut Vec<Output>) {
        assert!(self.role.kind() == RoleKind::Candidate, "only a candidate becomes leader");
        assert!(self.hard_state.vote == Some(self.id), "invariant 7: a leader voted for itself");
        assert!(self.stable.is_hard_state_durable(), "invariant 8: its vote is durable");
        assert!(self.stable.hard_state() == self.hard_state, "invariant 8: its vote was written");
        let next = self.log.last_index().next();
        self.role = Role::Leader(Leader {
            term_start: next,
            peers: peers_of(self.membership.current(), self.id, next),
            departing: BTreeMap::new(),
            round: next,
            transfer: None,
            reads: Reads::default(),
            uncommitted: Uncommitted::default(),
        });
        self.announce(out);
        self.restart(Timer::Heartbeat, out);
        self.restart(Timer::QuorumCheck, out);
        self.append_no_op(out);
        assert!(self.log.last_index() == next, "invariant 9: the term starts with a no-op");
    }

    /// Says so when role, term or leader have changed.
    pub(crate) fn announce(&mut self, out: &mut Vec<Output>) {
        let standing: Standing = self.standing();
        if self.announced != standing {
            self.announced = standing;
            out.push(Output::Changed(standing));
        }
    }
}
