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

#[test]
fn storage_is_told_of_and_survives() {
    let mut story = quiet();
    let vote = Some(ONE);
    story.illegal(
        TWO,
        Fact::Writes { number: WriteNumber(9), term: Term(2), vote, splice: None },
        "term and vote are written",
    );
    story.legal(TWO, Fact::RaisesTerm(Term(2)));
    let is = Fact::Is {
        term: Term(2),
        vote: None,
        role: RoleKind::Follower,
        last: name(1, 2),
        commit: Index(0),
    };
    story.illegal(TWO, is.clone(), "term and vote are written");
    story.writes(TWO, None).legal(TWO, is);
    let wrong_end = Fact::Persists { write: WriteNumber(story.writes[&TWO]), last: name(1, 1) };
    story.illegal(TWO, wrong_end.clone(), "a completion names its log's end");
    story.persists(TWO).legal(TWO, wrong_end); // Late by now, and no news.

    let log = entries(name(0, 0), 1, 2);
    let recovers = |term, vote, log: &Splice, commit| Fact::Recovers {
        term: Term(term),
        vote,
        log: log.clone(),
        commit: Index(commit),
    };
    let lost = "what is durable survives a crash";
    story.illegal(TWO, recovers(1, Some(ONE), &log, 0), lost);
    story.illegal(TWO, recovers(2, Some(ONE), &log, 0), lost);
    story.illegal(TWO, recovers(2, None, &entries(name(0, 0), 1, 1), 0), lost);
    story.illegal(TWO, recovers(2, None, &entries(name(0, 0), 2, 2), 0), lost);
    story.illegal(TWO, recovers(2, None, &log, 3), "only what is committed is learnt");
    story.legal(TWO, recovers(2, None, &entries(name(1, 1), 1, 2), 1));
}

#[test]
fn of_the_writes_under_way_the_first_few_survive() {
    let mut story = quiet();
    story.appends(ONE, 1).appends(ONE, 2);
    for (last, survives) in [(2, true), (3, true), (4, false), (5, true), (6, false)] {
        let log = entries(name(0, 0), 1, last);
        let fact = Fact::Recovers { term: Term(1), vote: Some(ONE), log, commit: Index(0) };
        let judgement = story.cluster.clone().accept(ONE, &fact);
        assert_eq!(judgement.is_ok(), survives, "{last}");
    }
}

#[test]
fn terms_only_rise() {
    let story = quiet();
    story.illegal(TWO, Fact::RaisesTerm(Term(1)), "the term only rises");
    story.illegal(TWO, Fact::RaisesTerm(Term(0)), "the term only rises");
    story.illegal(TWO, Fact::Stands(Term(1)), "a candidate raises its term by one");
    story.illegal(TWO, Fact::Stands(Term(3)), "a candidate raises its term by one");
    story.illegal(ONE, Fact::Stands(Term(2)), "a candidate raises its term by one");
}

#[test]
fn a_vote_is_given_once_durably_and_to_whom_is_up_to_date() {
    let mut story = quiet();
    story.stands(THREE, 1);
    let asked = Some(name(0, 0));
    let vote = Fact::Votes { candidate: THREE, last: asked };
    story.illegal(TWO, vote.clone(), "one vote in a term");
    // Member 3 stands in term 2 with an empty log.
    story.stands(THREE, 2).legal(TWO, Fact::RaisesTerm(Term(2)));
    story.illegal(TWO, vote, "only an up-to-date candidate gets a vote");
    let own_log = "votes go to a candidate that asked with its own log";
    story.illegal(TWO, Fact::Votes { candidate: THREE, last: Some(name(1, 2)) }, own_log);
    story.illegal(TWO, Fact::Votes { candidate: THREE, last: None }, own_log);
    story.illegal(TWO, Fact::Votes { candidate: ONE, last: Some(name(1, 2)) }, own_log);
    let says = Fact::GivesVote { term: Term(2), to: ONE };
    story.illegal(TWO, says.clone(), "a vote is durable before it leaves");
    story.legal(ONE, Fact::RaisesTerm(Term(2))).writes(ONE, None).persists(ONE).stands(ONE, 3);
    story.legal(TWO, Fact::RaisesTerm(Term(3)));
    story.legal(TWO, Fact::Votes { candidate: ONE, last: Some(name(1, 2)) }).writes(TWO, None);
    let says = Fact::GivesVote { term: Term(3), to: ONE };
    story.illegal(TWO, says.clone(), "a vote is durable before it leaves");
    story.persists(TWO).legal(TWO, says);
    story.illegal(
        TWO,
        Fact::GivesVote { term: Term(3), to: THREE },
        "a vote is durable before it leaves",
    );
}

#[test]
fn a_candidate_asks_with_a_durable_vote_and_its_own_log() {
    let mut story = quiet();
    story.legal(TWO, Fact::Stands(Term(2))).writes(TWO, None);
    let asks = |last| Fact::AsksForVotes { term: Term(2), last };
    story.illegal(TWO, asks(name(1, 2)), "a candidate's own vote is durable before it asks");
    story.persists(TWO);
    story.illegal(TWO, asks(name(1, 3)), "a candidate names its log");
    story.legal(TWO, asks(name(1, 2)));
}

#[test]
fn a_leader_is_elected_by_a_quorum_of_durable_votes() {
    let mut story = Story::new();
    story.illegal(ONE, Fact::Leads(Term(0)), "only a candidate of the term");
    story.stands(ONE, 1);
    story.illegal(ONE, Fact::Leads(Term(1)), "a leader has a quorum of durable votes");
    story.illegal(ONE, Fact::Leads(Term(2)), "only a candidate of the term");
    story.legal(TWO, Fact::RaisesTerm(Term(1)));
    story.legal(TWO, Fact::Votes { candidate: ONE, last: Some(name(0, 0)) }).writes(TWO, None);
    story.illegal(ONE, Fact::Leads(Term(1)), "a leader has a quorum of durable votes");
    story.persists(TWO).legal(ONE, Fact::Leads(Term(1)));
}

/// The rules above keep these from ever coming up, so the stage is set by hand.
#[test]
fn figure_3_is_asked_for_whatever_led_there() {
    let mut story = quiet();
    story.stands(THREE, 1);
    let history = story.cluster.terms.get_mut(&Term(1)).expect("it has begun");
    history.votes = BTreeMap::from([(TWO, THREE), (THREE, THREE)]);
    story.illegal(THREE, Fact::Leads(Term(1)), "election safety");

    // The disk tells of another vote than the one it was known to hold.
    let mut story = quiet();
    story.legal(TWO, Fact::StepsDown).appends(ONE, 1).writes(TWO, Some(entries(name(1, 2), 1, 3)));
    story.cluster.terms.get_mut(&Term(1)).expect("it has begun").votes.insert(TWO, THREE);
    let fact = Fact::Persists { write: WriteNumber(story.writes[&TWO]), last: name(1, 3) };
    story.illegal(TWO, fact, "one vote in a term");

    let mut story = quiet();
    story.stands(THREE, 1).stands(THREE, 2);
    let history = story.cluster.terms.get_mut(&Term(2)).expect("it has begun");
    history.votes = BTreeMap::from([(TWO, THREE), (THREE, THREE)]);
    story.illegal(THREE, Fact::Leads(Term(2)), "leader completeness");

    // Member 2 leads term 2 without entry 3, which member 1 commits late.
    let mut story = quiet();
    story.appends(ONE, 1).persists(ONE).elects(TWO, THREE, 2);
    let leadership = story.cluster.terms.get_mut(&Term(1)).and_then(|it| it.leadership.as_mut());
    let reign = leadership.and_then(|it| it.reign.as_mut()).expect("it leads");
    reign.acknowledged.insert(TWO, Index(3));
    story.illegal(ONE, Fact::Commits(Index(3)), "leader completeness");
    story.cluster.terms.get_mut(&Term(2)).expect("begun").leadership = None;
    story.cluster.committed.splice(&entries(name(1, 2), 2, 3));
    story.illegal(ONE, Fact::Commits(Index(3)), "state machine safety");
}

#[test]
fn a_leader_only_appends_and_only_its_own() {
    let story = quiet();
    let append = |splice| story.write(ONE, Some(splice));
    story.illegal(ONE, append(entries(name(1, 1), 1, 2)), "leader append-only");
    story.illegal(ONE, append(entries(name(1, 3), 1, 4)), "leader append-only");
    story.illegal(ONE, append(entries(name(1, 2), 2, 3)), "a leader appends entries of its own");
    story.illegal(ONE, append(entries(name(1, 2), 1, 2)), "a leader appends entries of its own");
    let offers =
        |term, splice, commit| Fact::Offers { term: Term(term), splice, commit: Index(commit) };
    let held = "a leader sends what it holds";
    story.illegal(ONE, offers(1, entries(name(1, 1), 1, 3), 2), held);
    story.illegal(ONE, offers(2, entries(name(1, 1), 1, 2), 2), held);
    story.illegal(TWO, offers(1, entries(name(1, 1), 1, 2), 0), held);
    story.illegal(ONE, offers(1, entries(name(1, 1), 1, 2), 3), "a leader tells what it has");
}

#[test]
fn a_follower_takes_what_its_leader_holds_where_it_fits() {
    let mut story = quiet();
    let take = |story: &Story, splice| story.write(THREE, Some(splice));
    let held = "a follower takes what its term's leader holds";
    story.illegal(THREE, take(&story, entries(name(0, 0), 1, 1)), held);
    story.legal(THREE, Fact::RaisesTerm(Term(1))).writes(THREE, None);
    story.illegal(THREE, take(&story, entries(name(0, 0), 1, 3)), held);
    story.illegal(THREE, take(&story, entries(name(0, 0), 2, 1)), held);
    story.illegal(THREE, take(&story, entries(name(1, 1), 1, 2)), "entries join the log");
    story.writes(THREE, Some(entries(name(0, 0), 1, 2)));
    // A late request must not cut the log to its own end.
    let late = entries(name(0, 0), 1, 1);
    story.illegal(THREE, take(&story, late), "entries are dropped from the first conflict only");

    // Member 2's log is another than its leader's: nothing fits on top of it. And what is committed
    // stays. Neither can come up by the rules, so the stage is set by hand.
    let mut story = quiet();
    story.legal(TWO, Fact::Commits(Index(2)));
    let log = &mut story.cluster.members.get_mut(&TWO).expect("a member").now.log;
    log.splice(&entries(name(0, 0), 3, 2));
    let splice = entries(name(0, 0), 1, 2);
    story.illegal(TWO, story.write(TWO, Some(splice)), "committed entries stay");
    let mut story = quiet();
    story.appends(ONE, 1);
    let log = &mut story.cluster.members.get_mut(&TWO).expect("a member").now.log;
    *log = Names::default();
    log.splice(&entries(name(0, 0), 0, 1));
    log.splice(&entries(name(0, 1), 1, 2));
    let splice = entries(name(1, 2), 1, 3);
    story.illegal(TWO, story.write(TWO, Some(splice)), "log matching");
}

#[test]
fn an_acknowledgement_is_durable_and_equal_to_the_leaders_log() {
    let mut story = quiet();
    let term = Term(1);
    let acknowledges = |index, to| Fact::Acknowledges { term, to, index: Index(index) };
    let equal = "an acknowledged log equals the leader's";
    story.illegal(THREE, acknowledges(1, ONE), equal);
    story.illegal(TWO, acknowledges(2, THREE), equal);
    story.illegal(TWO, acknowledges(3, ONE), equal);
    story.legal(THREE, Fact::RaisesTerm(term)).writes(THREE, Some(entries(name(0, 0), 1, 2)));
    let durable = "what is acknowledged is durable";
    story.illegal(THREE, acknowledges(2, ONE), durable);
    story.illegal(THREE, acknowledges(0, ONE), durable); // The term is not durable either.
    story.persists(THREE).legal(THREE, acknowledges(2, ONE));
}

/// The disk holds (3, term 1) once more only when the third of three writes is done: a crash after
/// the second leaves another entry there.
#[test]
fn what_is_being_overwritten_is_not_durable() {
    let mut story = quiet();
    story.appends(ONE, 1).takes(TWO, ONE, entries(name(1, 2), 1, 3));
    let member = story.cluster.members.get_mut(&TWO).expect("a member");
    for splice in [entries(name(1, 2), 2, 3), entries(name(1, 2), 1, 3)] {
        let (number, term, vote) = (WriteNumber(9), Term(1), None);
        member.pending.push_back(Pending { number, term, vote, splice: Some(splice), anew: None });
    }
    let acknowledges = Fact::Acknowledges { term: Term(1), to: ONE, index: Index(3) };
    story.illegal(TWO, acknowledges, "what is acknowledged is durable");
    let acknowledges = Fact::Acknowledges { term: Term(1), to: ONE, index: Index(2) };
    story.legal(TWO, acknowledges);
}

/// Figure 8: member 1 leads term 3 with an entry of term 1 on a quorum.
#[test]
fn a_leader_counts_its_own_term_on_a_durable_quorum() {
    let mut story = Story::new();
    story.elects(ONE, TWO, 1);
    story.illegal(ONE, Fact::Commits(Index(1)), "a commit is durable on a quorum");
    story.legal(THREE, Fact::RaisesTerm(Term(1))).elects(THREE, TWO, 2);
    story.legal(ONE, Fact::RaisesTerm(Term(2))).elects(ONE, TWO, 3).appends(ONE, 1);
    story.takes(TWO, ONE, entries(name(0, 0), 1, 1));
    story.illegal(ONE, Fact::Commits(Index(1)), "a leader counts its own term");
    story.illegal(ONE, Fact::Commits(Index(2)), "a commit is durable on a quorum");
    story.takes(TWO, ONE, entries(name(1, 1), 3, 3));
    // Member 1's own entry 3 is not durable, and member 2's alone is no quorum.
    story.illegal(ONE, Fact::Commits(Index(3)), "a commit is durable on a quorum");
    story.legal(ONE, Fact::Commits(Index(2))).persists(ONE).legal(ONE, Fact::Commits(Index(3)));
    story.illegal(ONE, Fact::Commits(Index(2)), "the commit index never falls");
    story.legal(THREE, Fact::StepsDown);
    story.illegal(THREE, Fact::Commits(Index(1)), "only what is committed is learnt");
    story.illegal(TWO, Fact::Commits(Index(4)), "only what is committed is learnt");
}

#[test]
fn a_joint_configuration_needs_both_majorities() {
    let configuration = Configuration {
        voters: vec![ONE],
        outgoing: vec![ONE, TWO, THREE],
        learners: vec![NodeId(4)],
        ..Configuration::default()
    };
    let halves = Halves::from(&configuration);
    let agrees = |ids: &[u64]| halves.agree(|id| ids.contains(&id.0));
    assert!(agrees(&[1, 2]) && agrees(&[1, 3]));
    assert!(!agrees(&[1, 4]) && !agrees(&[2, 3, 4]) && !agrees(&[1]));
    assert!(!Halves::default().agree(|_| true), "nobody is no majority");
}

#[test]
fn reads_wait_for_a_round_that_opens_after_they_came() {
    let mut story = quiet();
    let term = Term(1);
    let beats = |round, commit| Fact::Beats {
        term,
        to: TWO,
        round: ReadRound(round),
        commit: Index(commit),
    };
    let confirms =
        |term, round| Fact::Confirms { term: Term(term), to: ONE, round: ReadRound(round) };
    let serves = |round, index| Fact::ServesReads { round: ReadRound(round), index: Index(index) };
    story.illegal(TWO, Fact::QueuesRead(ReadRound(1)), "reads wait with a leader");
    story.illegal(TWO, serves(1, 2), "a leader serves reads");
    story.illegal(TWO, beats(1, 0), "only a leader sends heartbeats");
    story.illegal(ONE, beats(0, 3), "a heartbeat commits what is held");
    story.legal(ONE, Fact::QueuesRead(ReadRound(1)));
    story.illegal(TWO, confirms(1, 1), "only an open round is confirmed");
    story.legal(ONE, beats(1, 2));
    story.illegal(ONE, beats(0, 2), "read rounds rise");
    story.illegal(ONE, Fact::QueuesRead(ReadRound(1)), "a read never joins a round already sent");
    story.illegal(ONE, serves(1, 2), "a quorum confirms a read round");
    story.illegal(THREE, confirms(1, 1), "a round is confirmed in its own term");
    story.legal(TWO, confirms(1, 1));
    story.illegal(ONE, serves(1, 1), "reads see all that was committed before");
    story.illegal(ONE, serves(1, 0), "reads wait for a commit of the leader's term");
    story.illegal(ONE, serves(1, 3), "reads wait for a commit of the leader's term");
    story.legal(ONE, serves(1, 2));
    // The next one is not served by the answers to the last.
    story.legal(ONE, Fact::QueuesRead(ReadRound(2))).legal(ONE, beats(2, 2));
    story.illegal(ONE, serves(2, 2), "a quorum confirms a read round");
    story.legal(ONE, Fact::StepsDown);
    story.illegal(ONE, serves(1, 2), "a leader serves reads");
}

#[test]
fn a_step_ends_where_its_acts_lead() {
    let story = quiet();
    let now = (Term(1), Some(ONE), RoleKind::Leader, name(1, 2), Index(2));
    let is = |(term, vote, role, last, commit)| Fact::Is { term, vote, role, last, commit };
    story.clone().legal(ONE, is(now));
    let others = [
        (Term(2), now.1, now.2, now.3, now.4),
        (now.0, None, now.2, now.3, now.4),
        (now.0, now.1, RoleKind::Follower, now.3, now.4),
        (now.0, now.1, now.2, name(1, 3), now.4),
        (now.0, now.1, now.2, now.3, Index(1)),
    ];
    for other in others {
        story.illegal(ONE, is(other), "a step is a row of legal acts");
    }
}

#[test]
fn renamed_clusters_are_equal_where_their_members_did_the_same() {
    let name = |id: NodeId| NodeId(id.0 % 3 + 1);
    let mut one = Story::new();
    one.elects(ONE, TWO, 1).appends(ONE, 1).takes(TWO, ONE, entries(Name::default(), 1, 1));
    one.legal(ONE, Fact::Commits(Index(1))).legal(ONE, Fact::QueuesRead(ReadRound(1)));
    let mut other = Story::new();
    other.elects(TWO, THREE, 1).appends(TWO, 1).takes(THREE, TWO, entries(Name::default(), 1, 1));
    other.legal(TWO, Fact::Commits(Index(1))).legal(TWO, Fact::QueuesRead(ReadRound(1)));
    assert_ne!(one.cluster, other.cluster);
    assert_eq!(one.cluster.relabel(&name), other.cluster);
}

#[test]
fn the_sentence_names_the_rule_and_its_section() {
    let violation = quiet().cluster.accept(TWO, &Fact::Leads(Term(1))).expect_err("illegal");
    let sentence = "only a candidate of the term becomes its leader (figure 4) is violated: \
                    member 2 leads term 1";
    assert_eq!(violation.to_string(), sentence);
}
