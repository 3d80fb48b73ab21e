//! How the contract's types are written, in one language for scripts, timelines and
//! counterexamples.
//!
//! Responsible for words only: nothing here is read back, and the module itself writes nothing.
//! `5/2` is the entry with index 5 and term 2; `4/1 + [5/2 6/2]` is a range after 4/1.

use std::fmt::{Display, Formatter, Result};

use crate::contract::{
    AppendOutcome, ChangeRefused, Configuration, Index, Message, NodeId, Output, Position, Range,
    RecoveryNumber, Refused, RoleKind, Standing, Timer, TransferEnded,
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
            Timer::Transfer => "transfer",
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
            Refused::HandingOver => write!(f, "handing over"),
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
            Message::VoteRequest(m) => {
                let asked = if m.transfer { " on transfer" } else { "" };
                write!(f, "VoteRequest term {} last {}{asked}", m.term, m.last)
            }
            Message::VoteResponse(m) => {
                write!(f, "VoteResponse term {} {}", m.term, answer(m.granted))
            }
            Message::AppendRequest(m) => {
                write!(f, "AppendRequest term {} {} commit {}", m.term, m.range, m.commit)?;
                write_configurations(f, &m.configurations)
            }
            Message::AppendResponse(m) => {
                match &m.outcome {
                    AppendOutcome::Match(index) => {
                        write!(f, "AppendResponse term {} match {index}", m.term)
                    }
                    AppendOutcome::Conflict { probe, hint } => {
                        write!(f, "AppendResponse term {} conflict at {probe} hint {hint}", m.term)
                    }
                }?;
                write_recovering(f, m.recovering)
            }
            Message::Heartbeat(m) => {
                write!(f, "Heartbeat term {} commit {} round {}", m.term, m.commit, m.round.0)?;
                m.recover_to
                    .map_or(Ok(()), |to| write!(f, " recovery {} to {}", to.number.0, to.last))
            }
            Message::HeartbeatResponse(m) => {
                write!(f, "HeartbeatResponse term {} round {}", m.term, m.round.0)?;
                write_recovering(f, m.recovering)
            }
            Message::TimeoutNow(m) => write!(f, "TimeoutNow term {}", m.term),
        }
    }
}

fn write_recovering(f: &mut Formatter<'_>, recovering: Option<RecoveryNumber>) -> Result {
    recovering.map_or(Ok(()), |number| write!(f, " recovering {}", number.0))
}

fn write_configurations(
    f: &mut Formatter<'_>,
    configurations: &[(Index, Configuration)],
) -> Result {
    configurations.iter().try_for_each(|(index, members)| write!(f, " with {index}: {members}"))
}

impl Display for Configuration {
    /// `{voters}`, then what else there is: `{1 2 3} leaving {1 2 4} learners {5} target {1 2 3 5}`.
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let list = |f: &mut Formatter<'_>, what: &str, members: &[NodeId]| {
            if members.is_empty() && !what.is_empty() {
                return Ok(());
            }
            write!(f, "{what}{{")?;
            for (at, member) in members.iter().enumerate() {
                let space = if at == 0 { "" } else { " " };
                write!(f, "{space}{member}")?;
            }
            write!(f, "}}")
        };
        list(f, "", &self.voters)?;
        list(f, " leaving ", &self.outgoing)?;
        list(f, " learners ", &self.learners)?;
        list(f, " target ", &self.target)
    }
}

impl Display for ChangeRefused {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            ChangeRefused::NotLeader(Some(leader)) => write!(f, "{leader} leads"),
            ChangeRefused::NotLeader(None) => write!(f, "no leader is known"),
            ChangeRefused::UnderWay => write!(f, "another change is under way"),
            ChangeRefused::TooEarly => {
                write!(f, "the leader has committed nothing in its term yet")
            }
            ChangeRefused::HandingOver => write!(f, "handing over"),
            ChangeRefused::Impossible => write!(f, "no such membership is possible"),
            ChangeRefused::Recovering => write!(f, "too many of the voters are recovering"),
        }
    }
}

impl Display for TransferEnded {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            TransferEnded::NotLeader(Some(leader)) => write!(f, "{leader} leads"),
            TransferEnded::NotLeader(None) => write!(f, "no leader is known"),
            TransferEnded::NoVoter => write!(f, "there is no such voter"),
            TransferEnded::TimedOut => write!(f, "nobody took over in time"),
            TransferEnded::Replaced => write!(f, "another transfer took its place"),
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
                write.range.as_ref().map_or(Ok(()), |range| write!(f, " {range}"))?;
                write.anew.as_ref().map_or(Ok(()), |members| write!(f, " anew with {members}"))
            }
            Output::Send { to, message } => write!(f, "-> {to}: {message}"),
            Output::SendAfter { after, to, message } => {
                write!(f, "-> {to} after #{}: {message}", after.0)
            }
            Output::Grant(grant) => write!(f, "may send {} to {}", grant.range, grant.peer),
            Output::Configured { position, configuration } => {
                write!(f, "configures {position}: {configuration}")
            }
            Output::MembersChanged => write!(f, "changes members"),
            Output::ChangeRefused(refused) => write!(f, "refuses the change: {refused}"),
            Output::TransferEnded(ended) => write!(f, "ends the transfer: {ended}"),
            Output::SendSnapshot { peer, at_least } => {
                write!(f, "needs a snapshot of {at_least} or later for {peer}")
            }
            Output::Recovered => write!(f, "has recovered"),
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
