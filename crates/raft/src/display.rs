//! How the contract's types are written, in one language for scripts, timelines and
//! counterexamples.
//!
//! Responsible for words only: nothing here is read back, and the module itself writes nothing.
//! `5/2` is the entry with index 5 and term 2; `4/1 + [5/2 6/2]` is a range after 4/1.

use std::fmt::{Display, Formatter, Result};

use crate::contract::{
    AppendOutcome, Index, Message, Output, Position, Range, Refused, RoleKind, Standing, Timer,
};

impl Display for Position {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}/{}", self.index, self.term)
    }
}

impl Display for Range {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{} + [", self.prev)?;
        for index in self.first().0..=self.last.0 {
            let index = Index(index);
            let term = self.term_at(index).expect("within the range");
            let space = if index == self.first() { "" } else { " " };
            write!(f, "{space}{}", Position { index, term })?;
        }
        write!(f, "]")
    }
}

impl Display for Timer {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Timer::Heartbeat => "heartbeat",
            Timer::QuorumCheck => "quorum-check",
            Timer::Quiet => "quiet",
            Timer::Election => "election",
            Timer::ElectionSoon => "soon",
        })
    }
}

impl Display for RoleKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            RoleKind::Follower => "follower",
            RoleKind::PreCandidate => "pre-candidate",
            RoleKind::Candidate => "candidate",
            RoleKind::Leader => "leader",
        })
    }
}

impl Display for Standing {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.leader {
            Some(leader) if self.role != RoleKind::Leader => {
                write!(f, "{} of {leader} in term {}", self.role, self.term)
            }
            _ => write!(f, "{} in term {}", self.role, self.term),
        }
    }
}

impl Display for Refused {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Refused::NotLeader(Some(leader)) => write!(f, "{leader} leads"),
            Refused::NotLeader(None) => write!(f, "no leader is known"),
            Refused::Busy => write!(f, "busy"),
        }
    }
}

impl Display for Message {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let answer = |granted| if granted { "yes" } else { "no" };
        match self {
            Message::PreVoteRequest(m) => {
                write!(f, "PreVoteRequest term {} last {}", m.term, m.last)
            }
            Message::PreVoteResponse(m) => {
                write!(f, "PreVoteResponse term {} {}", m.term, answer(m.granted))
            }
            Message::VoteRequest(m) => write!(f, "VoteRequest term {} last {}", m.term, m.last),
            Message::VoteResponse(m) => {
                write!(f, "VoteResponse term {} {}", m.term, answer(m.granted))
            }
            Message::AppendRequest(m) => {
                write!(f, "AppendRequest term {} {} commit {}", m.term, m.range, m.commit)
            }
            Message::AppendResponse(m) => match &m.outcome {
                AppendOutcome::Match(index) => {
                    write!(f, "AppendResponse term {} match {index}", m.term)
                }
                AppendOutcome::Conflict { probe, hint } => {
                    write!(f, "AppendResponse term {} conflict at {probe} hint {hint}", m.term)
                }
            },
            Message::Heartbeat(m) => {
                write!(f, "Heartbeat term {} commit {} round {}", m.term, m.commit, m.round.0)
            }
            Message::HeartbeatResponse(m) => {
                write!(f, "HeartbeatResponse term {} round {}", m.term, m.round.0)
            }
        }
    }
}

impl Display for Output {
    /// What a member does, to be read after its name.
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Output::Write(write) => {
                write!(f, "writes #{}: term {}", write.number.0, write.hard_state.term)?;
                if let Some(vote) = write.hard_state.vote {
                    write!(f, " vote {vote}")?;
                }
                write.range.as_ref().map_or(Ok(()), |range| write!(f, " {range}"))
            }
            Output::Send { to, message } => write!(f, "-> {to}: {message}"),
            Output::SendAfter { after, to, message } => {
                write!(f, "-> {to} after #{}: {message}", after.0)
            }
            Output::Grant(grant) => write!(f, "may send {} to {}", grant.range, grant.peer),
            Output::Assigned { range } => write!(f, "assigns {range}"),
            Output::NoOp { position } => write!(f, "opens its term with {position}"),
            Output::ProposalRefused(refused) => write!(f, "refuses the proposal: {refused}"),
            Output::ReadQueued(round) => write!(f, "queues the read for round {}", round.0),
            Output::ReadRefused(refused) => write!(f, "refuses the read: {refused}"),
            Output::ReadsReady { round, index } => {
                write!(f, "reads up to round {} at index {index}", round.0)
            }
            Output::Commit(index) => write!(f, "commits {index}"),
            Output::Changed(to) => write!(f, "becomes {to}"),
            Output::Restart(timer) => write!(f, "restarts {timer}"),
        }
    }
}
