//! Who is counted: the configurations in the logs (§6), and to whom leadership is handed (thesis
//! §3.10).
//!
//! A configuration is known by the name of its entry, and the one in force for a log is the newest
//! whose entry that log holds: nothing has to be rolled back here, nor read again after a crash.

use super::*;

/// Who decides. While there is an old half, both have to agree.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Halves {
    /// The voters of the newest configuration.
    pub voters: Vec<NodeId>,
    /// Those of the one that is being left; empty unless joint.
    pub outgoing: Vec<NodeId>,
}

impl From<&Configuration> for Halves {
    fn from(configuration: &Configuration) -> Halves {
        let Configuration { voters, outgoing, .. } = configuration;
        Halves { voters: voters.clone(), outgoing: outgoing.clone() }
    }
}

impl Halves {
    /// A majority of the voters; of both halves while there are two (§6).
    pub(super) fn agree(&self, yes: impl Fn(NodeId) -> bool) -> bool {
        let majority = |voters: &[NodeId]| {
            let count = voters.iter().filter(|voter| yes(**voter)).count();
            voters.is_empty() || voters.len() < 2 * count
        };
        !self.voters.is_empty() && majority(&self.voters) && majority(&self.outgoing)
    }

    /// Whether the member is counted in one of the halves.
    pub(super) fn count(&self, id: NodeId) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// Whether these may stand right after those in a log: then whatever quorum the ones have, and
    /// whatever quorum the others, somebody is in both.
    fn follow(&self, before: &Halves) -> bool {
        match (before.outgoing.is_empty(), self.outgoing.is_empty()) {
            (true, true) | (false, true) => self.voters == before.voters,
            (true, false) => self.outgoing == before.voters,
            (false, false) => false,
        }
    }

    pub(super) fn relabel(&self, name: &dyn Fn(NodeId) -> NodeId) -> Halves {
        let sorted = |list: &[NodeId]| {
            let mut list: Vec<NodeId> = list.iter().map(|id| name(*id)).collect();
            list.sort_unstable();
            list
        };
        Halves { voters: sorted(&self.voters), outgoing: sorted(&self.outgoing) }
    }
}

impl Specification {
    /// The newest configuration whose entry a log holds up to an index, and that entry's place; the
    /// first one, at place 0, when it holds none.
    pub(super) fn in_force(&self, log: &Names, up_to: Index) -> (Index, &Halves) {
        let held = |(name, _): &(&Name, &Halves)| name.index <= up_to && log.holds(**name);
        let newest = self.configurations.iter().rev().find(held);
        newest.map_or((Index(0), &self.first), |(name, halves)| (name.index, halves))
    }

    /// Who is counted for a member, by its own log.
    pub(super) fn counted_by(&self, id: NodeId) -> &Halves {
        let log = &self.members[&id].now.log;
        self.in_force(log, log.last().index).1
    }

    /// A leader makes a configuration, which its next write will append.
    pub(super) fn configures(&mut self, id: NodeId, name: Name, halves: &Halves) -> Judgement {
        let member = &self.members[&id];
        let (term, commit, last) = (member.now.term, member.commit, member.now.log.last());
        let (at, before) = self.in_force(&member.now.log, last.index);
        let leads = member.role == Role::Leader && name.term == term;
        require(
            leads && name.index == last.index.next(),
            "a leader makes configurations (§6)",
            || format!("member {id}, {:?} in term {term} at {last}, makes {name}", member.role),
        )?;
        require(
            halves.follow(before),
            "a configuration follows from the one before (§6)",
            || format!("member {id} puts {halves:?} after {before:?}"),
        )?;
        require(at <= commit, "one change at a time, and none over an open one (§6)", || {
            format!("member {id} has committed {commit}; the last configuration is at {at}")
        })?;
        let elected_at = self.leadership(term).map(|leadership| leadership.elected_at);
        require(
            elected_at < Some(commit),
            "no change before the own term commits (thesis §4.1)",
            || format!("member {id} was elected at {elected_at:?} and has committed {commit}"),
        )?;
        self.configurations.insert(name, halves.clone());
        Ok(())
    }

    /// The member goes by the newest configuration of its log: its entry is at `at`, or was cut off
    /// with everything up to `start`.
    pub(super) fn goes_by(&self, id: NodeId, at: Option<Index>, start: Index) -> Judgement {
        let log = &self.members[&id].now.log;
        let (newest, _) = self.in_force(log, log.last().index);
        let same = at.map_or(newest <= start, |at| newest == at);
        require(same, "the newest configuration of a log is in force (§6)", || {
            format!("member {id} goes by {at:?}; the newest is at {newest}, the log cut at {start}")
        })
    }

    /// Whoever campaigns is a voter by its newest configuration, or by the newest that it knows to be
    /// committed (thesis §4.2.2).
    pub(super) fn may_stand(&self, id: NodeId) -> Judgement {
        let member = &self.members[&id];
        let committed = self.in_force(&member.now.log, member.commit).1;
        let newest = self.counted_by(id);
        require(
            newest.count(id) || committed.count(id),
            "only voters stand (thesis §4.2.2)",
            || format!("member {id} stands; it knows {newest:?}, and {committed:?} as committed"),
        )
    }

    /// A leader asks a member to stand in its place.
    pub(super) fn summons(&self, id: NodeId, term: Term, to: NodeId) -> Judgement {
        let leadership = self.leadership(term).filter(|leadership| leadership.leader == id);
        let Some((leadership, reign)) = leadership.and_then(|it| Some((it, it.reign.as_ref()?)))
        else {
            return require(false, "only a leader hands over (thesis §3.10)", || {
                format!("member {id} asks {to} to stand in term {term}")
            });
        };
        let last = leadership.log.last().index;
        let held = reign.acknowledged.get(&to).copied().unwrap_or_default();
        require(held == last, "who is asked to stand holds the whole log (thesis §3.10)", || {
            format!("member {id} asks {to}, which holds {held} of {last}")
        })?;
        let (_, newest) = self.in_force(&leadership.log, last);
        require(newest.voters.contains(&to), "leadership goes to a voter (thesis §3.10)", || {
            format!("member {id} asks {to}, and voters are {newest:?}")
        })
    }
}
