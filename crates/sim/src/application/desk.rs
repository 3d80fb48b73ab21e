//! Who waits for what: joins what a world answers with what was asked of it.

use std::collections::BTreeMap;

use jangada::ReadBatch;
use jangada_entry::Origin;
use jangada_raft::NodeId;

use crate::world::Happened;

/// What is under way, each with a token of the asker's.
#[derive(Clone, Debug)]
pub struct Desk<T> {
    proposals: BTreeMap<(u64, u64), T>,
    reads: BTreeMap<(NodeId, ReadBatch), T>,
}

/// An answer, with the token of the one who asked.
#[derive(Debug)]
pub enum Answer<T, R> {
    /// The proposal was applied where it was made.
    Replied(T, R),
    /// The proposal did not happen and never will.
    Refused(T),
    /// The proposal may or may not happen.
    Doubtful(T),
    /// The read may run on this member, now.
    ReadReady(T, NodeId),
    /// The read was not served.
    ReadFailed(T),
    /// The caller's timer.
    Timer(u64),
}

impl<T> Default for Desk<T> {
    fn default() -> Desk<T> {
        Desk { proposals: BTreeMap::new(), reads: BTreeMap::new() }
    }
}

impl<T> Desk<T> {
    /// Nobody waits.
    #[must_use]
    pub fn new() -> Desk<T> {
        Desk::default()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.proposals.is_empty() && self.reads.is_empty()
    }

    /// Someone waits for a proposal.
    pub fn proposed(&mut self, origin: Origin, token: T) {
        self.proposals.insert((origin.incarnation, origin.sequence), token);
    }

    /// Someone waits for a read.
    pub fn reads(&mut self, member: NodeId, batch: ReadBatch, token: T) {
        self.reads.insert((member, batch), token);
    }

    /// Sorts out whom an event concerns. An answer to what is no longer waited for concerns nobody.
    pub fn sort<R>(&mut self, happened: Happened<R>) -> Vec<Answer<T, R>> {
        match happened {
            Happened::Replied { origin, reply } => {
                let token = self.proposals.remove(&(origin.incarnation, origin.sequence));
                token.map(|token| Answer::Replied(token, reply)).into_iter().collect()
            }
            Happened::Refused { origin, reason } => {
                let token = self.proposals.remove(&(origin.incarnation, origin.sequence));
                let answer = |token| {
                    use jangada::ProposeError::{InDoubt, Stopped};
                    match reason {
                        InDoubt | Stopped => Answer::Doubtful(token),
                        _ => Answer::Refused(token),
                    }
                };
                token.map(answer).into_iter().collect()
            }
            Happened::Doubtful { process, sequence_max } => self.doubtful(process, sequence_max),
            Happened::ReadReady { member, batch } => {
                let token = self.reads.remove(&(member, batch));
                token.map(|token| Answer::ReadReady(token, member)).into_iter().collect()
            }
            Happened::ReadExpired { member, batch } => {
                let token = self.reads.remove(&(member, batch));
                token.map(Answer::ReadFailed).into_iter().collect()
            }
            Happened::Ended { member, process } => {
                let mut answers = self.doubtful(process, u64::MAX);
                let of_member = (member, ReadBatch(0))..=(member, ReadBatch(u64::MAX));
                let lost: Vec<_> = self.reads.range(of_member).map(|(key, _)| *key).collect();
                let tokens = lost.iter().filter_map(|key| self.reads.remove(key));
                answers.extend(tokens.map(Answer::ReadFailed));
                answers
            }
            Happened::Timer(token) => vec![Answer::Timer(token)],
            Happened::Started { .. } | Happened::Consulted { .. } | Happened::Counselled { .. } => {
                Vec::new()
            }
        }
    }

    fn doubtful<R>(&mut self, process: u64, sequence_max: u64) -> Vec<Answer<T, R>> {
        let range = (process, 0)..=(process, sequence_max);
        let keys: Vec<_> = self.proposals.range(range).map(|(key, _)| *key).collect();
        keys.iter().filter_map(|key| self.proposals.remove(key)).map(Answer::Doubtful).collect()
    }
}
