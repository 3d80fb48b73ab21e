//! What must hold at every step, across all members: figure 3 of the paper, and what figure 2 says
//! must be durable before it is said.
//!
//! Responsible for judging. Not responsible for observing: the world hands in what it sees. Each
//! invariant is one short method; a violation names it.

use std::collections::{BTreeMap, BTreeSet};

use jangada::LogBatch;
use jangada_entry::Origin;
use jangada_raft::{
    AppendOutcome, Configuration, HardState, Index, Message, NodeId, Position, Range, RoleKind,
    Standing, Term,
};

/// An invariant that does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The invariant.
    pub invariant: &'static str,
    /// What was seen.
    pub seen: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is violated: {}", self.invariant, self.seen)
    }
}

impl std::error::Error for Violation {}

pub(crate) fn require(
    holds: bool,
    invariant: &'static str,
    seen: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { invariant, seen: seen() }) }
}

/// A command as a state machine applied it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AppliedCommand {
    /// The entry's name.
    pub position: Position,
    /// The checksum of the command.
    pub payload_crc: u32,
    /// The cluster time it was applied at, in milliseconds.
    pub time_ms: u64,
    /// Who proposed it.
    pub origin: Origin,
    /// The digest of its effects.
    pub digest: u64,
}

/// What a member's disk is known to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Durable {
    /// Term and vote.
    pub hard_state: HardState,
    /// The log's last entry.
    pub last: Position,
}

/// The names of the entries that a log holds, from index 1. Those that it was cut behind stay: the
/// state machine holds what they did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Names {
    terms: Vec<Term>,
}

impl Names {
    fn term_at(&self, index: Index) -> Option<Term> {
        self.terms.get((index.0 as usize).checked_sub(1)?).copied()
    }

    /// Replaces what comes after an entry; answers the lowest index that holds another entry, or
    /// none, from then on.
    fn splice(&mut self, after: Index, terms: &[Term]) -> Option<Index> {
        let after = (after.0 as usize).min(self.terms.len());
        let behind = &self.terms[after..];
        let same = behind.iter().zip(terms).take_while(|(one, other)| one == other).count();
        let lost = (same < behind.len()).then_some(Index((after + same) as u64 + 1));
        self.terms.truncate(after + same);
        self.terms.extend_from_slice(&terms[same..]);
        lost
    }
}

/// What a batch writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// What the disk holds once the batch is durable.
    pub durable: Durable,
    /// Entries after this one are dropped first.
    pub after: Index,
    /// The terms of the entries that follow it.
    pub terms: Vec<Term>,
    /// Set when the log is begun anew behind a snapshot first: its last entry, which is committed.
    pub anew: Option<Index>,
}

impl Written {
    /// Does to the names of a log what the batch does to the log; answers the lowest index that holds
    /// another entry, or none, from then on. What a snapshot covers stays: the state machine holds
    /// what was committed there.
    fn splice_into(&self, names: &mut Names, committed: &[Term]) -> Option<Index> {
        let of_snapshot = self.anew.and_then(|last| {
            let covered = (last.0 as usize).min(committed.len());
            names.splice(Index(0), &committed[..covered])
        });
        let lost = names.splice(self.after, &self.terms);
        of_snapshot.into_iter().chain(lost).min()
    }
}

impl From<&LogBatch> for Written {
    fn from(batch: &LogBatch) -> Written {
        let durable = Durable { hard_state: batch.hard_state, last: batch.last };
        let terms = batch.entries.iter().map(|frame| frame.position().term).collect();
        let anew = batch.anew.as_ref().map(|(last, _)| last.index);
        Written { durable, after: batch.after, terms, anew }
    }
}

/// What is known of one member.
#[derive(Clone, Debug, Default)]
struct Known {
    durable: Durable,
    /// The log as the batches that are durable have made it.
    names: Names,
    /// The batch that is being written and may or may not be durable.
    under_way: Option<Written>,
    /// Whether the member's disk has damaged what was durable, so that it may have lost some of it.
    damaged: bool,
    /// Of the present life.
    term: Term,
    commit: Index,
    applied: Index,
}

/// Everything seen so far in a run.
#[derive(Clone, Debug, Default)]
pub struct Invariants {
    leaders: BTreeMap<Term, NodeId>,
    votes: BTreeMap<(NodeId, Term), NodeId>,
    /// The terms of committed entries, from index 1.
    committed: Vec<Term>,
    /// By index; none where no member has applied a command yet, or what stands there is none.
    commands: Vec<Option<AppliedCommand>>,
    commands_seen: usize,
    /// Where the digest is that of a machine that was astray, and no other has applied the command yet.
    unsure: BTreeSet<Index>,
    origins: BTreeMap<(u64, u64), Index>,
    refused: BTreeSet<(u64, u64)>,
    /// The latest time on the last command that was seen first.
    time_last: (Index, u64),
    /// By applied index.
    hashes: Vec<Option<u64>>,
    /// The highest index of an acknowledged command.
    acknowledged: Index,
    members: BTreeMap<NodeId, Known>,
    /// Who is asked for a quorum: the newest configuration that is known to be committed, and those
    /// that leaders have put into their logs behind it; none if that is not known, and then none is
    /// asked for.
    configurations: Vec<(Position, Configuration)>,
}

/// The place of an index, which is made if there is none.
fn place_for<T>(list: &mut Vec<Option<T>>, index: Index) -> &mut Option<T> {
    let place = index.0 as usize;
    if list.len() <= place {
        list.resize_with(place + 1, || None);
    }
    &mut list[place]
}

impl Invariants {
    /// Nothing seen yet.
    #[must_use]
    pub fn new() -> Invariants {
        Invariants::default()
    }

    /// Nothing seen yet of these members: a quorum is a quorum of them.
    #[must_use]
    pub fn of(members: &[NodeId]) -> Invariants {
        let first = Configuration::of_voters(members.iter().copied());
        Invariants { configurations: vec![(Position::default(), first)], ..Invariants::default() }
    }

    /// Whether a configuration is known to be committed, or never to be: what once stood at its place
    /// and was rolled back has another term, and behind what is committed no log goes on in an earlier
    /// one, although a leader of the past that was not told may still believe so.
    fn is_committed(&self, position: Position) -> Option<bool> {
        let Some(place) = position.index.0.checked_sub(1) else { return Some(true) };
        match self.committed.get(place as usize) {
            Some(term) => Some(*term == position.term),
            None => self.committed.last().filter(|last| position.term < **last).map(|_| false),
        }
    }

    /// The configurations that a leader may count by: the newest that is committed, and those behind
    /// it.
    fn in_force(&self) -> impl Iterator<Item = &Configuration> {
        let positions = self.configurations.iter().map(|(at, _)| *at);
        let committed = positions.filter(|at| self.is_committed(*at) == Some(true));
        let newest = committed.map(|at| at.index).max().unwrap_or_default();
        let behind = self
            .configurations
            .iter()
            .filter(move |(at, _)| newest <= at.index && self.is_committed(*at) != Some(false));
        behind.map(|(_, configuration)| configuration)
    }

    /// Whether a member is one in any configuration that may be in force.
    #[must_use]
    pub fn is_member(&self, member: NodeId) -> bool {
        self.in_force().any(|configuration| configuration.members().any(|id| id == member))
    }

    /// The newest configuration that is known to be committed.
    #[must_use]
    pub fn configuration(&self) -> Option<&Configuration> {
        let committed =
            self.configurations.iter().filter(|(at, _)| self.is_committed(*at) == Some(true));
        committed.max_by_key(|(at, _)| at.index).map(|(_, configuration)| configuration)
    }

    /// A leader counts by this configuration, which stands at this place of its log, or before it.
    pub fn configures(&mut self, position: Position, configuration: &Configuration) {
        if self.configurations.iter().any(|(known, _)| *known == position) {
            return;
        }
        // What stood there, or behind it, was rolled back; what is committed never is (§6).
        let rolled_back: Vec<Position> = self
            .configurations
            .iter()
            .map(|(known, _)| *known)
            .filter(|known| position.index <= known.index && known.term < position.term)
            .filter(|known| self.is_committed(*known) != Some(true))
            .collect();
        self.configurations.retain(|(known, _)| !rolled_back.contains(known));
        self.configurations.push((position, configuration.clone()));
    }

    /// The highest index known to be committed.
    #[must_use]
    pub fn committed(&self) -> Index {
        Index(self.committed.len() as u64)
    }

    /// How many commands have been applied by some member.
    #[must_use]
    pub fn commands(&self) -> usize {
        self.commands_seen
    }

    /// Where the command of this origin stands in the log, if a member has applied it.
    #[must_use]
    pub fn place_of(&self, origin: Origin) -> Option<Index> {
        self.origins.get(&(origin.incarnation, origin.sequence)).copied()
    }

    /// A member begins to write a batch.
    pub fn writes(&mut self, member: NodeId, batch: Written) {
        self.members.entry(member).or_default().under_way = Some(batch);
    }

    /// The batch is durable.
    ///
    /// # Errors
    /// If it took the place of what was acknowledged and must stay on a quorum of the disks.
    pub fn wrote(&mut self, member: NodeId) -> Result<(), Violation> {
        let known = self.members.entry(member).or_default();
        let Some(under_way) = known.under_way.take() else { return Ok(()) };
        known.durable = under_way.durable;
        let lost = under_way.splice_into(&mut known.names, &self.committed);
        self.still_held(lost)
    }

    /// A member's disk has damaged what was durable: whether the member still holds it is for those
    /// to judge who know the damage, so it counts as held.
    pub fn damaged(&mut self, member: NodeId) {
        self.members.entry(member).or_default().damaged = true;
    }

    /// A member's disk was read back, as it would be after a loss of power at this moment, in which
    /// everything that was not synced is lost.
    ///
    /// # Errors
    /// If it does not hold what was made durable, or holds something else.
    pub fn holds(
        &self,
        member: NodeId,
        hard_state: HardState,
        log: &Range,
    ) -> Result<(), Violation> {
        let Some(known) = self.members.get(&member).filter(|known| !known.damaged) else {
            return Ok(());
        };
        let found = Durable { hard_state, last: log.last_position() };
        let base = log.prev.index.0 as usize;
        let is_behind = known.names.term_at(log.prev.index) != Some(log.prev.term);
        if 0 < base && is_behind && self.committed.get(base - 1) == Some(&log.prev.term) {
            // The machine has installed a snapshot; the log is begun anew behind it.
            return Ok(());
        }
        // A batch under way may be there, too: the log says that it has no space also when it
        // found none for what follows the batch.
        let there = known.under_way.as_ref().filter(|batch| batch.durable == found);
        require(
            known.durable == found || there.is_some(),
            "what is durable is on the disk",
            || {
                format!(
                    "member {member} has made {:?} durable, its disk holds {found:?}",
                    known.durable
                )
            },
        )?;
        let mut names = known.names.clone();
        if let Some(batch) = there {
            batch.splice_into(&mut names, &self.committed);
        }
        let other = (log.prev.index.0 + 1..=log.last.0)
            .map(Index)
            .find(|index| log.term_at(*index) != names.term_at(*index));
        require(other.is_none(), "what is durable is on the disk", || {
            format!("member {member}'s disk holds another entry at {other:?} than was made durable")
        })
    }

    /// Every acknowledged entry from `lost` on is still on a quorum of the disks.
    fn still_held(&self, lost: Option<Index>) -> Result<(), Violation> {
        let Some(lost) = lost else { return Ok(()) };
        for index in lost.0..=self.acknowledged.0 {
            self.is_held(Index(index))?;
        }
        Ok(())
    }

    /// What is acknowledged is durable on a quorum of the disks, which is what figure 3's leader
    /// completeness rests on.
    fn is_held(&self, index: Index) -> Result<(), Violation> {
        let Some(command) = self.commands.get(index.0 as usize).and_then(Option::as_ref) else {
            return Ok(());
        };
        let term = Some(command.position.term);
        let holds = |member: NodeId| {
            let known = self.members.get(&member);
            known.is_some_and(|known| known.damaged || known.names.term_at(index) == term)
        };
        // A configuration is in force as soon as it is appended (§6), so a leader may have counted by
        // any that is newer than the last committed one.
        let held = self.in_force().any(|members| members.agrees(holds));
        let asked = !self.configurations.is_empty();
        require(!asked || held, "what is acknowledged is on a quorum of disks", || {
            let holders: Vec<NodeId> =
                self.members.keys().copied().filter(|member| holds(*member)).collect();
            format!(
                "entry {index} is acknowledged and durable on {holders:?}, asked are {:?}",
                self.configurations
            )
        })
    }

    /// A member has recovered its log after the end of its last life.
    ///
    /// # Errors
    /// If the log holds less than was durable, or something that was never written.
    pub fn recovers(
        &mut self,
        member: NodeId,
        hard_state: HardState,
        log: &Range,
    ) -> Result<(), Violation> {
        let known = self.members.entry(member).or_default();
        let found = Durable { hard_state, last: log.last_position() };
        let under_way = known.under_way.take();
        // The process died after it had installed a snapshot and before its log was begun anew, which
        // is made up for when the log is opened.
        let base = log.prev.index.0 as usize;
        let is_behind = known.names.term_at(log.prev.index) != Some(log.prev.term);
        if 0 < base && is_behind && self.committed.get(base - 1) == Some(&log.prev.term) {
            known.names.splice(Index(0), &self.committed[..base]);
            known.durable.last = log.prev;
        }
        let known_to_be = known.durable;
        let written = under_way.as_ref().is_some_and(|batch| batch.durable == found);
        let expected = known_to_be == found || written;
        if known_to_be != found
            && let Some(batch) = under_way.as_ref().filter(|_| written)
        {
            batch.splice_into(&mut known.names, &self.committed);
        }
        let terms: Vec<Term> = (log.prev.index.0 + 1..=log.last.0)
            .filter_map(|index| log.term_at(Index(index)))
            .collect();
        let lost = known.names.splice(log.prev.index, &terms);
        let (names, damaged) = (std::mem::take(&mut known.names), known.damaged);
        *known =
            Known { durable: found, names, damaged, term: hard_state.term, ..Known::default() };
        // What its disk has damaged the member may have lost, and must get back before it counts again.
        require(
            damaged || (expected && lost.is_none()),
            "durability before acknowledgement",
            || {
                format!(
                    "member {member} held {known_to_be:?} durably, was writing {under_way:?}, and \
                 recovered {found:?}; first lost: {lost:?}"
                )
            },
        )
    }

    /// A member stands like this after a step. `term_at` answers for its log.
    ///
    /// # Errors
    /// If figure 3's properties do not hold.
    pub fn stands(
        &mut self,
        member: NodeId,
        standing: Standing,
        commit: Index,
        last: Index,
        term_at: &dyn Fn(Index) -> Option<Term>,
    ) -> Result<(), Violation> {
        let known = self.members.entry(member).or_default();
        let (term_before, commit_before) = (known.term, known.commit);
        known.term = standing.term;
        known.commit = commit;
        require(term_before <= standing.term, "terms never fall", || {
            format!("member {member} went from term {term_before} to {}", standing.term)
        })?;
        require(commit_before <= commit, "the commit index never falls", || {
            format!("member {member} went from {commit_before} to {commit}")
        })?;
        require(commit <= last, "only what is in the log is committed", || {
            format!("member {member} commits {commit} of a log that ends at {last}")
        })?;
        if standing.role == RoleKind::Leader {
            self.leads(member, standing.term, term_at)?;
        }
        for index in commit_before.0 + 1..=commit.0 {
            let Some(term) = term_at(Index(index)) else { continue };
            self.commits(member, Position { index: Index(index), term })?;
        }
        Ok(())
    }

    /// Election safety (§5.2) and leader completeness (§5.4).
    fn leads(
        &mut self,
        member: NodeId,
        term: Term,
        term_at: &dyn Fn(Index) -> Option<Term>,
    ) -> Result<(), Violation> {
        let before = *self.leaders.entry(term).or_insert(member);
        require(before == member, "election safety", || {
            format!("members {before} and {member} both lead in term {term}")
        })?;
        let newest = self.committed();
        let Some(committed) = self.committed.last().copied() else { return Ok(()) };
        if term < committed {
            return Ok(()); // A leader of the past that has not heard of its successor.
        }
        let held = term_at(newest);
        require(held == Some(committed), "leader completeness", || {
            format!(
                "member {member} leads in term {term} and holds {held:?} where entry {newest} of \
                 term {committed} is committed"
            )
        })
    }

    /// State machine safety, of names (§5.4.3): a committed entry is committed everywhere.
    fn commits(&mut self, member: NodeId, entry: Position) -> Result<(), Violation> {
        let place = entry.index.0 as usize - 1;
        if place == self.committed.len() {
            self.committed.push(entry.term);
        }
        // A restarted member counts from its applied index; what lies between was seen before.
        let Some(known) = self.committed.get(place).copied() else { return Ok(()) };
        require(known == entry.term, "state machine safety", || {
            format!(
                "member {member} commits entry {} of term {}, elsewhere it is of term {known}",
                entry.index, entry.term
            )
        })
    }

    /// A member says something to another.
    ///
    /// # Errors
    /// If what it rests on is not durable (figure 2), or contradicts what it said before.
    pub fn says(&mut self, member: NodeId, to: NodeId, message: &Message) -> Result<(), Violation> {
        let durable = self.members.entry(member).or_default().durable;
        let stable = |term: Term| durable.hard_state.term >= term;
        const NAME: &str = "durability before answer";
        match message {
            Message::VoteResponse(response) if response.granted => {
                let vote = *self.votes.entry((member, response.term)).or_insert(to);
                require(vote == to, "one vote in a term", || {
                    format!("member {member} voted for {vote} and {to} in term {}", response.term)
                })?;
                let voted = durable.hard_state == HardState { term: response.term, vote: Some(to) };
                require(voted || response.term < durable.hard_state.term, NAME, || {
                    format!("member {member} votes for {to}: {response:?}, durable is {durable:?}")
                })
            }
            Message::VoteRequest(request) => require(stable(request.term), NAME, || {
                format!("member {member} stands in term {}, durable is {durable:?}", request.term)
            }),
            // A refusal promises nothing: it may be forgotten in a crash without harm.
            Message::AppendResponse(response) => {
                let AppendOutcome::Match(index) = response.outcome else { return Ok(()) };
                let holds = index <= durable.last.index && stable(response.term);
                require(holds, NAME, || {
                    format!("member {member} answers {response:?}, durable is {durable:?}")
                })
            }
            _ => Ok(()),
        }
    }

    /// A member's state machine has applied a command. Of what came of it nothing is said if the machine
    /// is `astray`, having erred.
    ///
    /// # Errors
    /// If another member applied something else there, or this one skipped or repeated.
    pub fn applies(
        &mut self,
        member: NodeId,
        mut command: AppliedCommand,
        astray: bool,
    ) -> Result<(), Violation> {
        let known = self.members.entry(member).or_default();
        let index = command.position.index;
        let before = known.applied;
        known.applied = index;
        require(before < index, "entries are applied in order", || {
            format!("member {member} applied {index} after {before}")
        })?;
        let place = place_for(&mut self.commands, index);
        let is_new = place.is_none();
        self.commands_seen += usize::from(is_new);
        let first = place.get_or_insert(command);
        if astray && is_new {
            self.unsure.insert(index);
        } else if astray {
            command.digest = first.digest;
        } else if self.unsure.remove(&index) {
            first.digest = command.digest;
        }
        let first = *first;
        let (last, time_ms) = self.time_last;
        if last < index {
            self.time_last = (index, command.time_ms);
            require(time_ms <= command.time_ms, "the cluster's time never goes back", || {
                format!("{} ms at {last}, {} ms at {index}", time_ms, command.time_ms)
            })?;
        }
        require(first == command, "state machine safety", || {
            format!("member {member} applied {command:?}, elsewhere it was {first:?}")
        })?;
        let origin = (command.origin.incarnation, command.origin.sequence);
        let place = *self.origins.entry(origin).or_insert(index);
        require(place == index, "a proposal happens at most once", || {
            format!("proposal {origin:?} stands at {place} and at {index}")
        })?;
        require(!self.refused.contains(&origin), "a refused proposal never happens", || {
            format!("proposal {origin:?} was refused and stands at {index}")
        })
    }

    /// A member has applied everything up to an index; the running hash as of it.
    ///
    /// # Errors
    /// If another member has another hash there.
    pub fn hashes(&mut self, member: NodeId, applied: Index, hash: u64) -> Result<(), Violation> {
        let first = *place_for(&mut self.hashes, applied).get_or_insert(hash);
        require(first == hash, "members are equal at equal indexes", || {
            format!("member {member} has hash {hash:x} at {applied}, another has {first:x}")
        })
    }

    /// Whether this is the running hash of a member that never erred.
    #[must_use]
    pub fn is_the_hash(&self, applied: Index, hash: u64) -> bool {
        self.hashes.get(applied.0 as usize).copied().flatten() == Some(hash)
    }

    /// A proposal was answered: it has happened.
    ///
    /// # Errors
    /// If no member has applied it, or too few disks hold it.
    pub fn acknowledged(&mut self, origin: Origin) -> Result<(), Violation> {
        let place = self.place_of(origin);
        require(place.is_some(), "only what is applied is acknowledged", || {
            format!("{origin:?} is acknowledged and was applied nowhere")
        })?;
        let place = place.unwrap_or_default();
        self.acknowledged = self.acknowledged.max(place);
        self.is_held(place)
    }

    /// A proposal was refused: it will never happen.
    ///
    /// # Errors
    /// If a member has applied it.
    pub fn refused(&mut self, origin: Origin) -> Result<(), Violation> {
        self.refused.insert((origin.incarnation, origin.sequence));
        let place = self.place_of(origin);
        require(place.is_none(), "a refused proposal never happens", || {
            format!("{origin:?} is refused and stands at {place:?}")
        })
    }
}

#[cfg(test)]
#[path = "invariants_tests.rs"]
mod tests;
