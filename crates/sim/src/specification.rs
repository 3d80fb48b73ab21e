//! Raft once more, as short as it can be said: an executable specification in the manner of
//! figures 2 and 3 and of the thesis's formal specification (thesis §8.1, appendix B).
//!
//! Responsible for saying which acts of a member are legal, given everything that happened to the
//! whole cluster before. Not responsible for when to do what: timers, windows, retries, pre-votes
//! and hints are no concern of safety, and map to nothing. It sees only what a step of the module
//! shows ([`facts()`]), keeps its own account of logs, disks, votes and commits, and counts quorums
//! by itself; so the module and the specification are wrong together only where the same mistake
//! was made twice.
//!
//! Every step of every member must map to a row of legal acts. At the end of a step that changed
//! anything the member must stand where those acts lead ([`Fact::Is`]).
//!
//! What it keeps of the past is what later acts are judged by: for each term the votes that became
//! durable, the candidates' logs, and the leader's log as it grew; the durable acknowledgements; what
//! was committed, and in which term. A term that all members have durably left decides nothing any
//! more and is forgotten, so that equal futures have equal states.

mod facts;
mod membership;
pub(crate) mod names;
mod rules;
mod snapshots;

use std::collections::{BTreeMap, VecDeque};

use jangada_raft::{Configuration, Index, NodeId, ReadRound, RoleKind, Term, WriteNumber};

use crate::invariants::{Violation, require};
use names::Names;

pub use facts::{Fact, Glimpse, facts, observe, recovery};
pub use membership::Halves;
pub use names::{Name, Splice};

/// A cluster, by the rules.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Specification {
    /// Who decides before any entry says otherwise.
    first: Halves,
    /// What the entries that are configurations say, by their names (§6).
    configurations: BTreeMap<Name, Halves>,
    members: BTreeMap<NodeId, Member>,
    terms: BTreeMap<Term, History>,
    committed: Names,
    /// In which term how far was committed.
    committed_in: Vec<(Term, Index)>,
}

/// One member's state (figure 2).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
struct Member {
    now: Persistent,
    durable: Persistent,
    /// Writes under way: a crash leaves any number of the first of them done.
    pending: VecDeque<Pending>,
    role: Role,
    commit: Index,
    /// Set while it may have lost what it acknowledged: how far had been committed by then.
    owes: Option<Index>,
}

/// Figure 2, "persistent state".
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
struct Persistent {
    term: Term,
    vote: Option<NodeId>,
    log: Names,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Pending {
    number: WriteNumber,
    term: Term,
    vote: Option<NodeId>,
    splice: Option<Splice>,
    /// The log that takes the place of the whole one before.
    anew: Option<Names>,
}

/// The paper's three roles; who asks for pre-votes is a follower still.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
enum Role {
    #[default]
    Follower,
    Candidate,
    Leader,
}

/// What happened in one term.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
struct History {
    /// Who has durably voted for whom.
    votes: BTreeMap<NodeId, NodeId>,
    /// The last entry of each candidate.
    stood: BTreeMap<NodeId, Name>,
    leadership: Option<Leadership>,
}

/// What the leader of a term did.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
struct Leadership {
    leader: NodeId,
    /// Its log, which only grows; also after it stopped leading, for its entries travel on.
    log: Names,
    /// The log when it was elected ended here.
    elected_at: Index,
    /// While it leads.
    reign: Option<Reign>,
}

/// What is counted for a leader while it leads.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
struct Reign {
    acknowledged: BTreeMap<NodeId, Index>,
    opened: ReadRound,
    confirmed: BTreeMap<NodeId, ReadRound>,
    /// What was acknowledged and confirmed by those who may have lost something, and does not count.
    withheld: BTreeMap<NodeId, (Index, ReadRound)>,
    /// For each round that reads wait for: what was committed when the last of them came.
    reads: BTreeMap<ReadRound, Index>,
}

type Judgement = Result<(), Violation>;

impl Specification {
    /// A cluster whose members have done nothing yet.
    #[must_use]
    pub fn new(configuration: &Configuration) -> Specification {
        Specification::with_joiners(configuration, [])
    }

    /// The same, with others beside them that know nobody yet and may be added.
    #[must_use]
    pub fn with_joiners(
        configuration: &Configuration,
        joiners: impl IntoIterator<Item = NodeId>,
    ) -> Specification {
        let members = configuration.members().chain(joiners);
        Specification {
            first: configuration.into(),
            configurations: BTreeMap::new(),
            members: members.map(|id| (id, Member::default())).collect(),
            terms: BTreeMap::new(),
            committed: Names::default(),
            committed_in: Vec::new(),
        }
    }

    /// How far the cluster has committed.
    #[must_use]
    pub fn committed(&self) -> Name {
        self.committed.last()
    }

    /// Takes a row of facts about one member, in order.
    ///
    /// # Errors
    /// The first that is not legal.
    pub fn accept_all(&mut self, member: NodeId, facts: &[Fact]) -> Judgement {
        facts.iter().try_for_each(|fact| self.accept(member, fact))
    }

    /// Takes a fact about one member.
    ///
    /// # Errors
    /// If no rule allows it; the violation names the rule that forbids it, and its section.
    ///
    /// # Panics
    /// If the member is not of the configuration.
    pub fn accept(&mut self, id: NodeId, fact: &Fact) -> Judgement {
        match fact {
            Fact::Persists { write, last } => self.persists(id, *write, *last),
            Fact::RaisesTerm(term) => self.raises_term(id, *term),
            Fact::Stands(term) => self.stands(id, *term),
            Fact::Votes { candidate, last } => self.votes(id, *candidate, *last),
            Fact::Leads(term) => self.leads(id, *term),
            Fact::StepsDown => self.steps_down(id),
            Fact::Writes { number, term, vote, splice } => {
                match (splice, self.members[&id].role) {
                    (Some(splice), Role::Leader) => self.appends(id, splice)?,
                    (Some(splice), _) => self.takes(id, splice)?,
                    (None, _) => {}
                }
                let (term, vote, splice) = (*term, *vote, splice.clone());
                self.writes(id, Pending { number: *number, term, vote, splice, anew: None })
            }
            Fact::Begins { number, term, vote, last } => {
                self.begins(id, *number, (*term, *vote), *last)
            }
            Fact::AsksForVotes { term, last } => self.asks_for_votes(id, *term, *last),
            Fact::GivesVote { term, to } => self.gives_vote(id, *term, *to),
            Fact::Offers { term, splice, commit } => self.offers(id, *term, splice, *commit),
            Fact::Acknowledges { term, to, index } => self.acknowledges(id, *term, *to, *index),
            Fact::Beats { term, to, round, commit } => self.beats(id, *term, *to, *round, *commit),
            Fact::Confirms { term, to, round } => self.confirms(id, *term, *to, *round),
            Fact::Configures { name, halves } => self.configures(id, *name, halves),
            Fact::GoesBy { at, start } => self.goes_by(id, *at, *start),
            Fact::Summons { term, to } => self.summons(id, *term, *to),
            Fact::Commits(index) => match self.members[&id].role {
                Role::Leader => self.commits(id, *index),
                Role::Follower | Role::Candidate => self.learns_commit(id, *index),
            },
            Fact::QueuesRead(round) => self.queues_read(id, *round),
            Fact::ServesReads { round, index } => self.serves_reads(id, *round, *index),
            Fact::Is { term, vote, role, last, commit } => {
                self.is(id, (*term, *vote, *role), *last, *commit)
            }
            Fact::Recovers { term, vote, log, commit } => {
                self.recovers(id, (*term, *vote), log, *commit)
            }
            Fact::RecoversLess { term, vote, log, commit } => {
                self.recovers_less(id, (*term, *vote), log, *commit)
            }
            Fact::Regains => self.regains(id),
            Fact::LearnsCommit(index) => self.learns_commit(id, *index),
        }
    }

    /// The writes under way of a member are numbered so much lower from here on.
    pub fn renumber_writes(&mut self, id: NodeId, lower_by: u64) {
        let pending = self.member(id).pending.iter_mut();
        pending.for_each(|write| write.number.0 = write.number.0.saturating_sub(lower_by));
    }

    /// The same cluster with its members named otherwise.
    #[must_use]
    pub fn relabel(&self, name: &dyn Fn(NodeId) -> NodeId) -> Specification {
        fn keys<V: Clone>(
            map: &BTreeMap<NodeId, V>,
            name: &dyn Fn(NodeId) -> NodeId,
        ) -> BTreeMap<NodeId, V> {
            map.iter().map(|(id, value)| (name(*id), value.clone())).collect()
        }
        let mut renamed = self.clone();
        renamed.first = self.first.relabel(name);
        renamed.configurations.values_mut().for_each(|halves| *halves = halves.relabel(name));
        renamed.members = keys(&self.members, name);
        for member in renamed.members.values_mut() {
            let of_writes = member.pending.iter_mut().map(|write| &mut write.vote);
            let votes = of_writes.chain([&mut member.now.vote, &mut member.durable.vote]);
            votes.for_each(|vote| *vote = vote.map(name));
        }
        for history in renamed.terms.values_mut() {
            history.votes = keys(&history.votes, name);
            history.votes.values_mut().for_each(|candidate| *candidate = name(*candidate));
            history.stood = keys(&history.stood, name);
            let Some(leadership) = &mut history.leadership else { continue };
            leadership.leader = name(leadership.leader);
            let Some(reign) = &mut leadership.reign else { continue };
            reign.acknowledged = keys(&reign.acknowledged, name);
            reign.confirmed = keys(&reign.confirmed, name);
            reign.withheld = keys(&reign.withheld, name);
        }
        renamed
    }

    fn member(&mut self, id: NodeId) -> &mut Member {
        self.members.get_mut(&id).expect("the member is of the configuration")
    }

    fn leadership(&self, term: Term) -> Option<&Leadership> {
        self.terms.get(&term)?.leadership.as_ref()
    }

    /// What is counted for this member, which leads this term.
    fn reign(&mut self, id: NodeId, term: Term) -> Option<&mut Reign> {
        let leadership = self.terms.get_mut(&term)?.leadership.as_mut()?;
        leadership.reign.as_mut().filter(|_| leadership.leader == id)
    }

    /// Whether all members have durably left the term: nothing that is said in it moves anyone.
    fn is_past(&self, term: Term) -> bool {
        self.members.values().all(|member| term < member.durable.term)
    }

    /// How far terms before this one have committed.
    fn committed_before(&self, term: Term) -> Index {
        let before = self.committed_in.iter().filter(|(at, _)| *at < term);
        before.map(|(_, index)| *index).max().unwrap_or_default()
    }

    /// Forgets the terms that are past. What was committed in them counts as committed from the
    /// start.
    fn forget(&mut self) {
        let oldest = self.members.values().map(|member| member.durable.term).min();
        let oldest = oldest.unwrap_or_default();
        if self.terms.keys().next().is_none_or(|first| oldest <= *first) {
            return;
        }
        self.terms = self.terms.split_off(&oldest);
        let index = self.committed_before(oldest);
        self.committed_in.retain(|(term, _)| oldest <= *term);
        self.committed_in.insert(0, (Term(0), index));
    }
}

impl Persistent {
    fn write(&mut self, write: &Pending) {
        (self.term, self.vote) = (write.term, write.vote);
        if let Some(anew) = &write.anew {
            self.log = anew.clone();
        }
        if let Some(splice) = &write.splice {
            self.log.splice(splice);
        }
    }
}

impl Member {
    /// Whether the disk holds this log up to `index`, whatever of the writes under way is done.
    fn holds_durably(&self, log: &Names, index: Index) -> bool {
        let splices = || self.pending.iter().filter_map(|write| write.splice.as_ref());
        let begins = self.pending.iter().any(|write| write.anew.is_some());
        if !self.durable.log.agrees(log, index) {
            return false;
        }
        if !begins && splices().all(|splice| index <= splice.prev.index) {
            return true;
        }
        let mut disk = self.durable.clone();
        self.pending.iter().all(|write| {
            disk.write(write);
            disk.log.agrees(log, index)
        })
    }
}

#[cfg(test)]
mod tests;
