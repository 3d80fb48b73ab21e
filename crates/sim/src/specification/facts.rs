//! What one step of one member says, in the words of the specification: the refinement mapping.
//!
//! Responsible for reading facts off a step of the module. It knows one member and one step and
//! judges nothing; equal steps give equal facts, so a checker computes them once.

use jangada_raft::{
    AppendOutcome, HardState, Index, Input, Message, NodeId, Output, Raft, ReadRound, RoleKind,
    Start, Term, WriteNumber,
};

use super::membership::Halves;
use super::names::{Name, Splice};

/// Something that a member did, and that the specification allows or not.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Fact {
    /// Its disk holds every write up to this one, after which the log ended so.
    Persists {
        /// The write.
        write: WriteNumber,
        /// The log's last entry as of it.
        last: Name,
    },
    /// It takes over a higher term, as a follower.
    RaisesTerm(Term),
    /// It becomes a candidate of this term.
    Stands(Term),
    /// It votes for the candidate, which has named its log's last entry; `None` when nobody asked.
    Votes {
        /// The candidate.
        candidate: NodeId,
        /// The candidate's last entry, as its request says.
        last: Option<Name>,
    },
    /// It becomes the leader of this term.
    Leads(Term),
    /// It gives up leading or standing, its term staying.
    StepsDown,
    /// It asks its disk for term, vote and a change of the log: what a leader appends, or what
    /// a follower takes.
    Writes {
        /// The write.
        number: WriteNumber,
        /// The term in it.
        term: Term,
        /// The vote in it.
        vote: Option<NodeId>,
        /// The change of the log.
        splice: Option<Splice>,
    },
    /// A request for votes leaves it.
    AsksForVotes {
        /// The term.
        term: Term,
        /// The last entry it names.
        last: Name,
    },
    /// A vote leaves it.
    GivesVote {
        /// The term.
        term: Term,
        /// The candidate.
        to: NodeId,
    },
    /// It offers entries of its log, and says how far it has committed.
    Offers {
        /// The term.
        term: Term,
        /// The entries.
        splice: Splice,
        /// The commit index.
        commit: Index,
    },
    /// An acknowledgement leaves it.
    Acknowledges {
        /// The term.
        term: Term,
        /// To whom.
        to: NodeId,
        /// Up to where its log equals the leader's, durably.
        index: Index,
    },
    /// A heartbeat leaves it.
    Beats {
        /// The term.
        term: Term,
        /// To whom.
        to: NodeId,
        /// The newest read round.
        round: ReadRound,
        /// How far the receiver may commit.
        commit: Index,
    },
    /// The answer to a read round leaves it.
    Confirms {
        /// The term.
        term: Term,
        /// To whom.
        to: NodeId,
        /// The round.
        round: ReadRound,
    },
    /// It makes a configuration, which the write that follows appends.
    Configures {
        /// The entry.
        name: Name,
        /// Who is counted from there on.
        halves: Halves,
    },
    /// It goes by the configuration whose entry is here.
    GoesBy {
        /// The entry's place; `None` when it was cut off, or there is none.
        at: Option<Index>,
        /// Up to where its log was cut.
        start: Index,
    },
    /// It asks another to stand in its place.
    Summons {
        /// The term.
        term: Term,
        /// Whom it asks.
        to: NodeId,
    },
    /// It commits up to here.
    Commits(Index),
    /// A read came and waits for this round.
    QueuesRead(ReadRound),
    /// Reads that wait for the round or an earlier one may run at this index.
    ServesReads {
        /// The round.
        round: ReadRound,
        /// The read index.
        index: Index,
    },
    /// So it stands at the end of the step.
    Is {
        /// `currentTerm`.
        term: Term,
        /// `votedFor`.
        vote: Option<NodeId>,
        /// The role.
        role: RoleKind,
        /// The last entry.
        last: Name,
        /// `commitIndex`.
        commit: Index,
    },
    /// It begins its log anew behind a snapshot, and asks its disk for that.
    Begins {
        /// The write.
        number: WriteNumber,
        /// The term in it.
        term: Term,
        /// The vote in it.
        vote: Option<NodeId>,
        /// The last entry that the snapshot covers.
        last: Name,
    },
    /// It learns from a snapshot how far the cluster has committed.
    LearnsCommit(Index),
    /// It begins a new life, and may have lost some of what was durable in its log.
    RecoversLess {
        /// The term.
        term: Term,
        /// The vote.
        vote: Option<NodeId>,
        /// The log that is left.
        log: Splice,
        /// What it knows to be committed.
        commit: Index,
    },
    /// It holds again what it may have lost.
    Regains,
    /// It begins a new life with what its disk gave back.
    Recovers {
        /// The term.
        term: Term,
        /// The vote.
        vote: Option<NodeId>,
        /// The log that was kept; what was cut before it is as it was.
        log: Splice,
        /// What it knows to be committed.
        commit: Index,
    },
}

/// What a step says. `released` is what leaves the member in this step beside [`Output::Send`]: the
/// messages that waited for the write which this input completes, and, if the driver likes, appends
/// sent under grants (the grants themselves are judged anyhow).
#[must_use]
pub fn facts(
    before: &Raft,
    input: &Input,
    outputs: &[Output],
    released: &[(NodeId, Message)],
    after: &Raft,
) -> Vec<Fact> {
    let mut facts = Vec::new();
    observe(&Glimpse::of(before), input, outputs, released, after, &mut facts);
    facts
}

/// What a member's new life begins with.
#[must_use]
pub fn recovery(start: &Start) -> Fact {
    let HardState { term, vote } = start.hard_state;
    let (log, commit) = (Splice::from(&start.log), start.commit);
    match start.recovering {
        None => Fact::Recovers { term, vote, log, commit },
        Some(_) => Fact::RecoversLess { term, vote, log, commit },
    }
}

/// What has to be remembered of a member before a step: so much cheaper than the member itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Glimpse {
    term: Term,
    vote: Option<NodeId>,
    role: RoleKind,
    last: Name,
    commit: Index,
    configured_at: Option<Index>,
}

impl Glimpse {
    /// What is seen of a member.
    #[must_use]
    pub fn of(raft: &Raft) -> Glimpse {
        Glimpse {
            term: raft.term(),
            vote: raft.vote(),
            role: raft.role(),
            last: raft.last_position().into(),
            commit: raft.commit_index(),
            configured_at: raft.configuration_index(),
        }
    }
}

/// As [`facts`], into a vector that is used again.
pub fn observe(
    before: &Glimpse,
    input: &Input,
    outputs: &[Output],
    released: &[(NodeId, Message)],
    after: &Raft,
    facts: &mut Vec<Fact>,
) {
    if let Input::Persisted { write, last } = input {
        facts.push(Fact::Persists { write: *write, last: (*last).into() });
    }
    for (to, message) in released {
        says(*to, message, facts);
    }
    let now = Glimpse::of(after);
    moves(before, &now, input, facts);
    for output in outputs {
        match output {
            Output::Write(write) if write.anew.is_some() => facts.push(Fact::Begins {
                number: write.number,
                term: write.hard_state.term,
                vote: write.hard_state.vote,
                last: write.range.as_ref().map(|range| range.prev).unwrap_or_default().into(),
            }),
            Output::Write(write) => facts.push(Fact::Writes {
                number: write.number,
                term: write.hard_state.term,
                vote: write.hard_state.vote,
                splice: write.range.as_ref().map(Splice::from),
            }),
            Output::Send { to, message } => says(*to, message, facts),
            Output::Grant(grant) => facts.push(Fact::Offers {
                term: grant.term,
                splice: Splice::from(&grant.range),
                commit: grant.commit,
            }),
            Output::Configured { position, configuration } => facts
                .push(Fact::Configures { name: (*position).into(), halves: configuration.into() }),
            Output::Commit(index) if matches!(input, Input::SnapshotInstalled { .. }) => {
                facts.push(Fact::LearnsCommit(*index));
            }
            Output::Commit(index) => facts.push(Fact::Commits(*index)),
            Output::Recovered => facts.push(Fact::Regains),
            Output::ReadQueued(round) => facts.push(Fact::QueuesRead(*round)),
            Output::ReadsReady { round, index } => {
                facts.push(Fact::ServesReads { round: *round, index: *index });
            }
            // A held message is a fact when it leaves. The entries of `Assigned` and `NoOp` are in
            // the write that follows, and a change of standing shows in the member itself.
            Output::SendAfter { .. }
            | Output::Assigned { .. }
            | Output::NoOp { .. }
            | Output::MembersChanged
            | Output::ChangeRefused(_)
            | Output::TransferEnded(_)
            | Output::SendSnapshot { .. } => {}
            Output::Changed(_) | Output::Restart(_) => {}
            // Nothing happened.
            Output::ProposalRefused(_) | Output::ReadRefused(_) => {}
        }
    }
    if *before != now {
        let Glimpse { term, vote, role, last, commit, configured_at: at } = now;
        let start = after.first_position().index;
        facts.push(Fact::GoesBy { at, start });
        facts.push(Fact::Is { term, vote, role, last, commit });
    }
}

/// How term, vote and role have moved.
fn moves(before: &Glimpse, now: &Glimpse, input: &Input, facts: &mut Vec<Fact>) {
    let stands = now.role == RoleKind::Candidate
        && (before.role != RoleKind::Candidate || before.term != now.term);
    if stands {
        return facts.push(Fact::Stands(now.term));
    }
    let raises = before.term != now.term;
    if raises {
        facts.push(Fact::RaisesTerm(now.term));
    }
    let vote_before = before.vote.filter(|_| !raises);
    if let Some(candidate) = now.vote.filter(|_| vote_before != now.vote) {
        let last = match input {
            Input::Receive { from, message: Message::VoteRequest(request) }
                if *from == candidate && request.term == now.term =>
            {
                Some(request.last.into())
            }
            _ => None,
        };
        facts.push(Fact::Votes { candidate, last });
    }
    let contends = |role| matches!(role, RoleKind::Candidate | RoleKind::Leader);
    if now.role == RoleKind::Leader && (raises || before.role != RoleKind::Leader) {
        facts.push(Fact::Leads(now.term));
    } else if !raises && contends(before.role) && !contends(now.role) {
        facts.push(Fact::StepsDown);
    }
}

/// What a message promises, if anything.
fn says(to: NodeId, message: &Message, facts: &mut Vec<Fact>) {
    let fact = match message {
        Message::VoteRequest(request) => {
            Fact::AsksForVotes { term: request.term, last: request.last.into() }
        }
        Message::VoteResponse(response) if response.granted => {
            Fact::GivesVote { term: response.term, to }
        }
        Message::AppendRequest(request) => Fact::Offers {
            term: request.term,
            splice: Splice::from(&request.range),
            commit: request.commit,
        },
        Message::AppendResponse(response) => match response.outcome {
            AppendOutcome::Match(index) => Fact::Acknowledges { term: response.term, to, index },
            AppendOutcome::Conflict { .. } => return, // A refusal promises nothing.
        },
        Message::Heartbeat(heartbeat) => Fact::Beats {
            term: heartbeat.term,
            to,
            round: heartbeat.round,
            commit: heartbeat.commit,
        },
        Message::HeartbeatResponse(response) if ReadRound(0) < response.round => {
            Fact::Confirms { term: response.term, to, round: response.round }
        }
        // Refusals and pre-votes promise nothing, and round 0 confirms nothing.
        Message::VoteResponse(_)
        | Message::HeartbeatResponse(_)
        | Message::PreVoteRequest(_)
        | Message::PreVoteResponse(_) => return,
        Message::TimeoutNow(summons) => Fact::Summons { term: summons.term, to },
    };
    // A request for votes goes to every voter and is one fact.
    if facts.last() != Some(&fact) {
        facts.push(fact);
    }
}
