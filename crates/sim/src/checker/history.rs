//! What has happened so far, as far as it decides what may happen: the ghost state.
//!
//! Responsible for the properties of figure 3 that one instant does not show, and for reads:
//!
//! 1. Election Safety: a term has one leader, ever.
//! 2. State Machine Safety: nobody commits another entry than was committed there before.
//! 3. A follower commits nothing that no leader has committed.
//! 4. Leader Completeness: who wins a term holds whatever leaders of earlier terms have committed.
//!    What counts is the term in which an entry was committed, not the one in which it was made, and
//!    not when: a leader that was cut off may win its term late and lack what later terms committed.
//! 5. A leader commits by counting only when the last entry is of its own term (figure 8).
//! 6. A read runs at an index that covers all that was committed before it came (thesis §6.4). What
//!    was acknowledged to a client is committed, so this is linearizability.

use std::collections::BTreeMap;

use jangada_raft::{Index, NodeId, ReadRound, Term};

use super::member::{Ground, Refinement};
use super::violation::Violation;
use crate::specification::{self, Specification};

/// Something that a member did in a turn.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Fact {
    /// It has won a term; its log as of then.
    Leads { term: Term, log: Vec<Term> },
    /// It commits this log, leading a term or not.
    Commits { leads: Option<Term>, log: Vec<Term> },
    /// A read waits for this round.
    QueuesRead { round: ReadRound },
    /// Reads up to this round may run at this index.
    ServesReads { round: ReadRound, index: Index },
    /// Its reads are void.
    ForgetsReads,
    /// The specification is to judge this.
    Acts(specification::Fact),
    /// Its writes are numbered so much lower from here on.
    RenumbersWrites(u64),
}

/// A committed entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct Committed {
    /// The entry's term.
    pub(crate) term: Term,
    /// The lowest term whose leader has committed it.
    pub(crate) by: Term,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub(crate) struct History {
    leaders: BTreeMap<Term, NodeId>,
    /// The committed entries from index 1.
    pub(crate) committed: Vec<Committed>,
    /// The reads that wait, by leader and round, and the least index at which they may run.
    reads: BTreeMap<(NodeId, ReadRound), Index>,
    /// What the specification remembers, if steps are held against it.
    specification: Option<Specification>,
}

impl History {
    /// Nothing has happened yet.
    pub(crate) fn new(ground: &Ground) -> History {
        let joiners = ground.joiners.iter().copied();
        let specification = (ground.refinement == Refinement::Checked)
            .then(|| Specification::with_joiners(&ground.configuration, joiners));
        History { specification, ..History::default() }
    }

    /// Takes a fact down, or says why it must not be.
    pub(crate) fn accept(&mut self, member: NodeId, fact: &Fact) -> Result<(), Violation> {
        match fact {
            Fact::Leads { term, log } => self.lead(member, *term, log),
            Fact::Commits { leads, log } => self.commit(member, *leads, log),
            Fact::QueuesRead { round } => {
                let least = Index(self.committed.len() as u64);
                let read = self.reads.entry((member, *round)).or_insert(least);
                *read = least.max(*read);
                Ok(())
            }
            Fact::ServesReads { round, index } => self.serve(member, *round, *index),
            Fact::ForgetsReads => {
                self.reads.retain(|(leader, _), _| *leader != member);
                Ok(())
            }
            Fact::Acts(fact) => {
                let Some(specification) = &mut self.specification else { return Ok(()) };
                let judged = specification.accept(member, fact);
                judged.map_err(|broken| {
                    let rule = format!("the specification: {}", broken.invariant);
                    Violation::new(&rule, broken.seen)
                })
            }
            Fact::RenumbersWrites(lower_by) => {
                if let Some(specification) = &mut self.specification {
                    specification.renumber_writes(member, *lower_by);
                }
                Ok(())
            }
        }
    }

    /// The same history, every member being called what `name` says.
    pub(crate) fn renamed(&self, name: &dyn Fn(NodeId) -> NodeId) -> History {
        let leaders = self.leaders.iter().map(|(term, leader)| (*term, name(*leader)));
        let reads = self.reads.iter().map(|((leader, round), at)| ((name(*leader), *round), *at));
        History {
            leaders: leaders.collect(),
            committed: self.committed.clone(),
            reads: reads.collect(),
            specification: self.specification.as_ref().map(|rules| rules.relabel(name)),
        }
    }

    /// The terms of the committed entries.
    pub(crate) fn committed_log(&self) -> Vec<Term> {
        self.committed.iter().map(|entry| entry.term).collect()
    }

    fn lead(&mut self, member: NodeId, term: Term, log: &[Term]) -> Result<(), Violation> {
        let leader = *self.leaders.entry(term).or_insert(member);
        if leader != member {
            let detail = format!("{leader} and {member} lead term {term}");
            return Err(Violation::new("election safety", detail));
        }
        let lacks = self
            .committed
            .iter()
            .enumerate()
            .find(|(at, entry)| entry.by < term && log.get(*at) != Some(&entry.term));
        if let Some((at, entry)) = lacks {
            let (index, held) = (at + 1, log.get(at));
            let detail = format!(
                "{member} wins term {term} without {index}/{}, committed in term {}; it has {held:?}",
                entry.term, entry.by
            );
            return Err(Violation::new("leader completeness", detail));
        }
        Ok(())
    }

    fn commit(
        &mut self,
        member: NodeId,
        leads: Option<Term>,
        log: &[Term],
    ) -> Result<(), Violation> {
        let known = self.committed.iter().zip(log).position(|(entry, term)| entry.term != *term);
        if let Some(at) = known {
            let (index, was, is) = (at + 1, self.committed[at].term, log[at]);
            let detail = format!("{member} commits {index}/{is}, and {index}/{was} was committed");
            return Err(Violation::new("state machine safety", detail));
        }
        let Some(leads) = leads else {
            if self.committed.len() < log.len() {
                let detail = format!("{member} follows and commits up to {}", log.len());
                return Err(Violation::new("only leaders commit first", detail));
            }
            return Ok(());
        };
        if log.last() != Some(&leads) {
            let detail = format!("{member} leads term {leads} and commits up to {}", log.len());
            return Err(Violation::new("a leader commits its own term", detail));
        }
        for entry in self.committed.iter_mut().take(log.len()) {
            entry.by = entry.by.min(leads);
        }
        let more = log.iter().skip(self.committed.len());
        let more: Vec<Committed> = more.map(|term| Committed { term: *term, by: leads }).collect();
        self.committed.extend(more);
        Ok(())
    }

    fn serve(&mut self, member: NodeId, round: ReadRound, index: Index) -> Result<(), Violation> {
        let served = |(leader, waits): &(NodeId, ReadRound)| *leader == member && *waits <= round;
        let least = self.reads.iter().filter(|(read, _)| served(read)).map(|(_, at)| *at).max();
        self.reads.retain(|read, _| !served(read));
        match least.filter(|least| index < *least) {
            Some(least) => {
                let detail = format!(
                    "{member} serves round {} at {index}, and {least} was committed before",
                    round.0
                );
                Err(Violation::new("reads are linearizable", detail))
            }
            None => Ok(()),
        }
    }
}
