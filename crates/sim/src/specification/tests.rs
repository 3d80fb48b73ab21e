//! Specifications need tests too: a cluster that does everything right is accepted, and for each
//! rule there is a step that only this rule refuses.

use jangada_raft::{Position, Range};

use super::*;

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);

fn name(term: u64, index: u64) -> Name {
    Name { term: Term(term), index: Index(index) }
}

/// Entries of one term.
fn entries(prev: Name, term: u64, last: u64) -> Splice {
    let prev = Position { index: prev.index, term: prev.term };
    Splice::from(&Range::of_term(prev, Term(term), Index(last)))
}

/// A cluster, and the number of each member's newest write.
#[derive(Clone)]
struct Story {
    cluster: Specification,
    writes: BTreeMap<NodeId, u64>,
}

impl Story {
    fn new() -> Story {
        let configuration = Configuration::of_voters([ONE, TWO, THREE]);
        Story { cluster: Specification::new(&configuration), writes: BTreeMap::new() }
    }

    fn legal(&mut self, id: NodeId, fact: Fact) -> &mut Story {
        let judgement = self.cluster.accept(id, &fact);
        assert_eq!(judgement, Ok(()), "{fact:?}");
        self
    }

    /// The fact is refused by the rule whose name begins so; nothing else has happened.
    #[track_caller]
    fn illegal(&self, id: NodeId, fact: Fact, rule: &str) {
        let violation = self.cluster.clone().accept(id, &fact).expect_err("it is illegal");
        assert!(violation.invariant.starts_with(rule), "{violation}");
    }

    fn write(&self, id: NodeId, splice: Option<Splice>) -> Fact {
        let member = &self.cluster.members[&id];
        let number = WriteNumber(self.writes.get(&id).copied().unwrap_or(0) + 1);
        Fact::Writes { number, term: member.now.term, vote: member.now.vote, splice }
    }

    fn writes(&mut self, id: NodeId, splice: Option<Splice>) -> &mut Story {
        let fact = self.write(id, splice);
        self.legal(id, fact);
        *self.writes.entry(id).or_default() += 1;
        self
    }

    fn persists(&mut self, id: NodeId) -> &mut Story {
        let write = WriteNumber(self.writes[&id]);
        let last = self.cluster.members[&id].now.log.last();
        self.legal(id, Fact::Persists { write, last })
    }

    /// Stands, durably, and asks.
    fn stands(&mut self, id: NodeId, term: u64) -> &mut Story {
        let last = self.cluster.members[&id].now.log.last();
        self.legal(id, Fact::Stands(Term(term))).writes(id, None).persists(id);
        self.legal(id, Fact::AsksForVotes { term: Term(term), last })
    }

    /// Votes, durably, and says so.
    fn votes(&mut self, id: NodeId, candidate: NodeId, term: u64) -> &mut Story {
        let last = Some(self.cluster.members[&candidate].now.log.last());
        if self.cluster.members[&id].now.term < Term(term) {
            self.legal(id, Fact::RaisesTerm(Term(term)));
        }
        self.legal(id, Fact::Votes { candidate, last }).writes(id, None).persists(id);
        self.legal(id, Fact::GivesVote { term: Term(term), to: candidate })
    }

    /// Is elected by itself and another, and opens its term.
    fn elects(&mut self, id: NodeId, voter: NodeId, term: u64) -> &mut Story {
        self.stands(id, term).votes(voter, id, term).legal(id, Fact::Leads(Term(term)));
        self.appends(id, 1).persists(id)
    }

    fn appends(&mut self, id: NodeId, count: u64) -> &mut Story {
        let Member { now, .. } = &self.cluster.members[&id];
        let (last, term) = (now.log.last(), now.term.0);
        self.writes(id, Some(entries(last, term, last.index.0 + count)))
    }

    /// Takes everything that its leader has after `prev`, durably, and acknowledges it.
    fn takes(&mut self, id: NodeId, leader: NodeId, splice: Splice) -> &mut Story {
        let term = self.cluster.members[&leader].now.term;
        if self.cluster.members[&id].now.term < term {
            self.legal(id, Fact::RaisesTerm(term));
        }
        let index = splice.last;
        self.writes(id, Some(splice)).persists(id);
        self.legal(id, Fact::Acknowledges { term, to: leader, index })
    }
}

/// Member 1 leads term 1; entries 1 and 2 are on members 1 and 2, and committed by 1.
fn quiet() -> Story {
    let mut story = Story::new();
    story.elects(ONE, TWO, 1).appends(ONE, 1).persists(ONE);
    story.takes(TWO, ONE, entries(name(0, 0), 1, 2)).legal(ONE, Fact::Commits(Index(2)));
    story
}

#[test]
fn a_term_and_a_read_and_the_next_term_are_legal() {
    let mut story = quiet();
    let beat =
        |to, round| Fact::Beats { term: Term(1), to, round: ReadRound(round), commit: Index(0) };
    let confirm = Fact::Confirms { term: Term(1), to: ONE, round: ReadRound(1) };
    story
        .legal(ONE, Fact::QueuesRead(ReadRound(1)))
        .legal(ONE, beat(TWO, 1))
        .legal(ONE, beat(THREE, 1))
        .legal(TWO, confirm)
        .legal(ONE, Fact::ServesReads { round: ReadRound(1), index: Index(2) })
        .legal(TWO, Fact::Commits(Index(2)))
        .elects(TWO, THREE, 2)
        .takes(THREE, TWO, entries(name(0, 0), 1, 2));
    story.takes(THREE, TWO, entries(name(1, 2), 2, 3)).legal(TWO, Fact::Commits(Index(3)));
    story.takes(ONE, TWO, entries(name(1, 2), 2, 3)).legal(ONE, Fact::Commits(Index(3)));
    assert_eq!(story.cluster.committed(), name(2, 3));
    assert_eq!(story.cluster.terms.keys().collect::<Vec<_>>(), [&Term(2)], "term 1 is past");
    let is = Fact::Is {
        term: Term(2),
        vote: None,
        role: RoleKind::Follower,
        last: name(2, 3),
        commit: Index(3),
    };
    story.legal(ONE, is);
}
