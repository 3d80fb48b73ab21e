//! The rules: one method for each legal act, in the order of figure 2.

use super::*;
use crate::world::queue::take_first;

/// Storage.
impl Specification {
    /// Writes complete in order. A late word about one is no news.
    pub(super) fn persists(&mut self, id: NodeId, write: WriteNumber, last: Name) -> Judgement {
        let member = self.member(id);
        let mut votes = Vec::new();
        let mut is_news = false;
        while let Some(done) = take_first(&mut member.pending, |next| next.number <= write) {
            is_news = true;
            member.durable.write(&done);
            votes.extend(done.vote.map(|vote| (done.term, vote)));
        }
        let found = member.durable.log.last();
        require(!is_news || last == found, "a completion names its log's end (contract)", || {
            format!("member {id} is told that write {} ends at {last}, not {found}", write.0)
        })?;
        for (term, vote) in votes {
            self.votes_durably(id, term, vote)?;
        }
        self.forget();
        Ok(())
    }

    fn votes_durably(&mut self, id: NodeId, term: Term, vote: NodeId) -> Judgement {
        let known = *self.terms.entry(term).or_default().votes.entry(id).or_insert(vote);
        require(known == vote, "one vote in a term (§5.2)", || {
            format!("member {id} has durably voted for {known} and for {vote} in term {term}")
        })
    }

    /// Figure 2, "persistent state": whatever changed is written, all of it and nothing else. The
    /// log was changed by the act that came with the write.
    pub(super) fn writes(&mut self, id: NodeId, write: Pending) -> Judgement {
        let member = self.member(id);
        let now = (member.now.term, member.now.vote);
        require((write.term, write.vote) == now, "term and vote are written (figure 2)", || {
            format!("member {id} writes {write:?}; its term and vote are {now:?}")
        })?;
        member.pending.push_back(write);
        Ok(())
    }

    /// A crash leaves what was durable, and of the writes under way any number of the first.
    pub(super) fn recovers(
        &mut self,
        id: NodeId,
        (term, vote): (Term, Option<NodeId>),
        log: &Splice,
        commit: Index,
    ) -> Judgement {
        // The state machine may have been ahead of the log: then the driver has begun the log anew
        // behind what the machine has applied.
        let begun = log.first().is_none() && commit == log.prev.index;
        let begun = begun.then(|| self.committed_up_to(log.prev).ok()).flatten();
        self.restarts(id, (term, vote), commit, |disk| {
            let is_kept = disk.is((term, vote), log);
            let is_behind = !is_kept && (disk.term, disk.vote) == (term, vote);
            if let Some(begun) = begun.as_ref().filter(|_| is_behind) {
                disk.log = begun.clone();
                return true;
            }
            is_kept
        })
    }

    /// It comes back with the first of its disk's possible states that will do.
    pub(super) fn restarts(
        &mut self,
        id: NodeId,
        (term, vote): (Term, Option<NodeId>),
        commit: Index,
        mut will_do: impl FnMut(&mut Persistent) -> bool,
    ) -> Judgement {
        let member = self.member(id);
        let mut disk = member.durable.clone();
        let mut votes = Vec::new();
        let mut pending = std::mem::take(&mut member.pending).into_iter();
        while !will_do(&mut disk) {
            let Some(write) = pending.next() else {
                return require(false, "what is durable survives a crash (figure 2)", || {
                    format!("member {id} recovers term {term}, vote {vote:?} and another log")
                });
            };
            disk.write(&write);
            votes.extend(write.vote.map(|vote| (write.term, vote)));
        }
        *member = Member { now: disk.clone(), durable: disk, ..Member::default() };
        self.ends_reign(id);
        for (term, vote) in votes {
            self.votes_durably(id, term, vote)?;
        }
        self.forget();
        self.learns_commit(id, commit)
    }
}

/// Elections (§5.2, §5.4.1).
impl Specification {
    pub(super) fn raises_term(&mut self, id: NodeId, term: Term) -> Judgement {
        self.ends_reign(id);
        let member = self.member(id);
        let before = member.now.term;
        (member.now.term, member.now.vote) = (term, None);
        member.role = Role::Follower;
        require(before < term, "the term only rises (figure 2, all servers)", || {
            format!("member {id} goes from term {before} to {term}")
        })
    }

    pub(super) fn stands(&mut self, id: NodeId, term: Term) -> Judgement {
        let member = self.member(id);
        let (before, role) = (member.now.term, member.role);
        (member.now.term, member.now.vote) = (term, Some(id));
        member.role = Role::Candidate;
        let last = member.now.log.last();
        self.terms.entry(term).or_default().stood.insert(id, last);
        self.owes_nothing(id)?;
        let raises = term.0 == before.0 + 1 && role != Role::Leader;
        require(raises, "a candidate raises its term by one (figure 2, candidates)", || {
            format!("member {id}, {role:?} in term {before}, stands in term {term}")
        })?;
        self.may_stand(id)
    }

    pub(super) fn votes(&mut self, id: NodeId, candidate: NodeId, last: Option<Name>) -> Judgement {
        let member = self.member(id);
        let (term, before) = (member.now.term, member.now.vote);
        member.now.vote = Some(candidate);
        let own = member.now.log.last();
        self.owes_nothing(id)?;
        let is_new = before.is_none_or(|before| before == candidate);
        require(is_new, "one vote in a term (§5.2)", || {
            format!("member {id} votes for {before:?} and {candidate} in term {term}")
        })?;
        let stood = self.terms.get(&term).and_then(|history| history.stood.get(&candidate));
        let asked = last.is_some() && last == stood.copied();
        require(asked, "votes go to a candidate that asked with its own log (§5.2)", || {
            format!("member {id} votes for {candidate} of {last:?}, which stood with {stood:?}")
        })?;
        require(Some(own) <= last, "only an up-to-date candidate gets a vote (§5.4.1)", || {
            format!("member {id} holds {own} and votes for {candidate}, which holds {last:?}")
        })
    }

    pub(super) fn asks_for_votes(&mut self, id: NodeId, term: Term, last: Name) -> Judgement {
        let history = self.terms.get(&term);
        let stood = history.and_then(|history| history.stood.get(&id)).copied();
        let durable = self.has_voted_durably(id, term, id);
        require(durable, "a candidate's own vote is durable before it asks (figure 2)", || {
            format!("member {id} asks for votes in term {term}")
        })?;
        require(self.is_past(term) || stood == Some(last), "a candidate names its log", || {
            format!("member {id} stood in term {term} with {stood:?} and says {last} (§5.4.1)")
        })
    }

    pub(super) fn gives_vote(&mut self, id: NodeId, term: Term, to: NodeId) -> Judgement {
        let durable = self.has_voted_durably(id, term, to);
        require(durable, "a vote is durable before it leaves (figure 2)", || {
            format!("member {id} says that it votes for {to} in term {term}")
        })
    }

    fn has_voted_durably(&self, id: NodeId, term: Term, candidate: NodeId) -> bool {
        let vote = self.terms.get(&term).and_then(|history| history.votes.get(&id));
        self.is_past(term) || vote == Some(&candidate)
    }

    /// Election safety, and leader completeness by what it rests on and by what it says (§5.4.3).
    pub(super) fn leads(&mut self, id: NodeId, term: Term) -> Judgement {
        let stands = self.member(id).role == Role::Candidate && self.member(id).now.term == term;
        self.member(id).role = Role::Leader;
        require(stands, "only a candidate of the term becomes its leader (figure 4)", || {
            format!("member {id} leads term {term}")
        })?;
        let history = self.terms.get(&term).cloned().unwrap_or_default();
        let for_it = |voter| history.votes.get(&voter) == Some(&id);
        require(
            self.counted_by(id).agree(for_it),
            "a leader has a quorum of durable votes (§5.2)",
            || format!("member {id} leads term {term} by {:?}", history.votes),
        )?;
        let other = history.leadership.as_ref().map(|leadership| leadership.leader);
        require(other.is_none(), "election safety (figure 3)", || {
            format!("members {other:?} and {id} both lead in term {term}")
        })?;
        let log = self.members[&id].now.log.clone();
        let committed = self.committed_before(term);
        let complete = log.agrees(&self.committed, committed);
        require(complete, "leader completeness (figure 3)", || {
            format!("member {id} leads term {term} without all of the committed {committed}")
        })?;
        let elected_at = log.last().index;
        let reign = Some(Reign::default());
        let leadership = Leadership { leader: id, log, elected_at, reign };
        self.terms.entry(term).or_default().leadership = Some(leadership);
        Ok(())
    }

    pub(super) fn steps_down(&mut self, id: NodeId) -> Judgement {
        self.ends_reign(id);
        self.member(id).role = Role::Follower;
        Ok(())
    }

    fn ends_reign(&mut self, id: NodeId) {
        let Member { now: Persistent { term, .. }, role, .. } = &self.members[&id];
        let (term, role) = (*term, *role);
        let history = self.terms.get_mut(&term).filter(|_| role == Role::Leader);
        if let Some(leadership) = history.and_then(|history| history.leadership.as_mut()) {
            leadership.reign = None;
        }
    }
}

/// The log (§5.3).
impl Specification {
    pub(super) fn appends(&mut self, id: NodeId, splice: &Splice) -> Judgement {
        let member = self.member(id);
        let (term, last) = (member.now.term, member.now.log.last());
        require(splice.prev == last, "leader append-only (figure 3)", || {
            format!("member {id}, whose log ends with {last}, writes after {}", splice.prev)
        })?;
        let own = splice.runs().all(|(of, ..)| of == term) && splice.first().is_some();
        require(own, "a leader appends entries of its own term (§5.3)", || {
            format!("member {id} appends {splice:?} in term {term}")
        })?;
        member.now.log.splice(splice);
        let history = self.terms.get_mut(&term);
        let leadership = history.and_then(|history| history.leadership.as_mut());
        leadership.expect("a leader has a term").log.splice(splice);
        Ok(())
    }

    pub(super) fn takes(&mut self, id: NodeId, splice: &Splice) -> Judgement {
        let member = &self.members[&id];
        let (term, role, commit) = (member.now.term, member.role, member.commit);
        let before = member.now.log.last();
        let leadership = self.leadership(term).filter(|_| role == Role::Follower);
        let held = leadership.is_some_and(|leadership| leadership.log.holds_all(splice));
        require(held, "a follower takes what its term's leader holds (§5.3)", || {
            format!("member {id}, {role:?} in term {term}, takes {splice:?}")
        })?;
        let joins = member.now.log.holds(splice.prev);
        require(joins, "entries join the log where it equals the leader's (§5.3)", || {
            format!("member {id} takes {splice:?} into a log that ends with {before}")
        })?;
        let at = splice.first().map(|first| first.index).unwrap_or_default();
        let differs = member.now.log.term_at(at) != splice.first().map(|first| first.term);
        require(differs, "entries are dropped from the first conflict only (figure 2)", || {
            format!("member {id}, whose log ends with {before}, takes {splice:?}")
        })?;
        require(commit <= splice.prev.index, "committed entries stay (§5.4)", || {
            format!("member {id} has committed {commit} and takes {splice:?}")
        })?;
        let mut log = member.now.log.clone();
        log.splice(splice);
        let leaders = &self.leadership(term).expect("checked above").log;
        require(log.agrees(leaders, splice.last), "log matching (figure 3)", || {
            format!("member {id} takes {splice:?} onto another log than its leader's")
        })?;
        self.member(id).now.log = log;
        Ok(())
    }

    pub(super) fn offers(
        &mut self,
        id: NodeId,
        term: Term,
        splice: &Splice,
        commit: Index,
    ) -> Judgement {
        let leadership = self.leadership(term).filter(|leadership| leadership.leader == id);
        let held = leadership.is_some_and(|leadership| leadership.log.holds_all(splice));
        require(self.is_past(term) || held, "a leader sends what it holds (§5.3)", || {
            format!("member {id} sends {splice:?} in term {term}")
        })?;
        let known = self.members[&id].commit;
        require(commit <= known, "a leader tells what it has committed (§5.3)", || {
            format!("member {id} has committed {known} and says {commit}")
        })
    }

    pub(super) fn acknowledges(
        &mut self,
        id: NodeId,
        term: Term,
        to: NodeId,
        index: Index,
    ) -> Judgement {
        if self.is_past(term) {
            return Ok(());
        }
        let member = &self.members[&id];
        let leadership = self.leadership(term).filter(|leadership| leadership.leader == to);
        let equal =
            leadership.is_some_and(|leadership| member.now.log.agrees(&leadership.log, index));
        require(equal, "an acknowledged log equals the leader's (§5.3)", || {
            format!("member {id} acknowledges {index} to {to} in term {term}")
        })?;
        let log = &leadership.expect("checked above").log;
        let durable = term <= member.durable.term && member.holds_durably(log, index);
        require(durable, "what is acknowledged is durable (figure 2)", || {
            format!("member {id} acknowledges {index} in term {term}; {:?}", member.durable)
        })?;
        let counts = member.owes.is_none();
        if let Some(reign) = self.reign(to, term) {
            let acknowledged = match counts {
                true => reign.acknowledged.entry(id).or_default(),
                false => &mut reign.withheld.entry(id).or_default().0,
            };
            *acknowledged = index.max(*acknowledged);
        }
        Ok(())
    }
}

/// Commitment (§5.3, §5.4.2).
impl Specification {
    /// Figure 2, last rule for leaders; and state machine safety (figure 3).
    pub(super) fn commits(&mut self, id: NodeId, index: Index) -> Judgement {
        let member = &self.members[&id];
        let term = member.now.term;
        let leadership = self.leadership(term).expect("a leader has a term");
        let log = &leadership.log;
        require(
            log.term_at(index) == Some(term),
            "a leader counts its own term (§5.4.2)",
            || format!("member {id} commits {index} of {:?} in term {term}", log.term_at(index)),
        )?;
        let reign = leadership.reign.as_ref().expect("it leads");
        let holds = |voter| match voter == id {
            true => member.holds_durably(log, index),
            false => reign.acknowledged.get(&voter).is_some_and(|known| index <= *known),
        };
        let (_, counted) = self.in_force(log, log.last().index);
        require(counted.agree(holds), "a commit is durable on a quorum (§5.3)", || {
            format!("member {id} commits {index} in term {term} by {:?}", reign.acknowledged)
        })?;
        let both = index.min(self.committed.last().index);
        require(log.agrees(&self.committed, both), "state machine safety (figure 3)", || {
            format!("member {id} commits {index} in term {term} over another's entries")
        })?;
        let later = self.terms.range(Term(term.0 + 1)..);
        let mut later = later.filter_map(|(_, history)| history.leadership.as_ref());
        let lacks = later.find(|leader| !leader.log.agrees(log, index));
        require(lacks.is_none(), "leader completeness (figure 3)", || {
            format!(
                "member {id} commits {index} in term {term}; a later leader lacks it: {lacks:?}"
            )
        })?;
        if self.committed.last().index < index {
            self.committed = log.clone();
            self.committed.truncate(index);
            match self.committed_in.last_mut().filter(|(at, _)| *at == term) {
                Some((_, up_to)) => *up_to = index,
                None => self.committed_in.push((term, index)),
            }
        }
        self.rises_commit(id, index)
    }

    /// Whoever does not lead commits what the cluster has committed.
    pub(super) fn learns_commit(&mut self, id: NodeId, index: Index) -> Judgement {
        let equal = self.members[&id].now.log.agrees(&self.committed, index);
        require(
            equal,
            "only what is committed is learnt to be (figure 2, AppendEntries 5)",
            || format!("member {id} commits {index}; committed is {}", self.committed.last()),
        )?;
        self.rises_commit(id, index)
    }

    fn rises_commit(&mut self, id: NodeId, index: Index) -> Judgement {
        let member = self.member(id);
        let before = std::mem::replace(&mut member.commit, index);
        require(before <= index, "the commit index never falls (figure 2)", || {
            format!("member {id} goes from commit {before} to {index}")
        })
    }
}

/// Reads (§8, thesis §6.4).
impl Specification {
    pub(super) fn beats(
        &mut self,
        id: NodeId,
        term: Term,
        to: NodeId,
        round: ReadRound,
        commit: Index,
    ) -> Judgement {
        let known = self.members[&id].commit;
        let Some(reign) = self.reign(id, term) else {
            return require(false, "only a leader sends heartbeats (§5.2)", || {
                format!("member {id} sends one in term {term}")
            });
        };
        let acknowledged = reign.acknowledged.get(&to).copied().unwrap_or_default();
        let before = std::mem::replace(&mut reign.opened, round);
        require(before <= round, "read rounds rise (thesis §6.4)", || {
            format!("member {id} sends round {} after {}", round.0, before.0)
        })?;
        require(
            commit <= known.min(acknowledged),
            "a heartbeat commits what is held (§5.3)",
            || format!("member {id} tells {to} to commit {commit}; it acknowledged {acknowledged}"),
        )
    }

    /// A read is confirmed by answers to what was sent after it came.
    pub(super) fn queues_read(&mut self, id: NodeId, round: ReadRound) -> Judgement {
        let term = self.members[&id].now.term;
        let committed = self.committed.last().index;
        let Some(reign) = self.reign(id, term) else {
            return require(false, "reads wait with a leader (§8)", || {
                format!("member {id} queues one in term {term}")
            });
        };
        reign.reads.insert(round, committed);
        let opened = reign.opened;
        require(opened < round, "a read never joins a round already sent (thesis §6.4)", || {
            format!("member {id} lets a read join round {}, {} is sent", round.0, opened.0)
        })
    }

    pub(super) fn confirms(
        &mut self,
        id: NodeId,
        term: Term,
        to: NodeId,
        round: ReadRound,
    ) -> Judgement {
        let (now, counts) = (self.members[&id].now.term, self.members[&id].owes.is_none());
        require(term == now, "a round is confirmed in its own term (thesis §6.4)", || {
            format!("member {id} in term {now} confirms round {} of term {term}", round.0)
        })?;
        let Some(reign) = self.reign(to, term) else { return Ok(()) };
        let opened = reign.opened;
        let confirmed = match counts {
            true => reign.confirmed.entry(id).or_default(),
            false => &mut reign.withheld.entry(id).or_default().1,
        };
        *confirmed = round.max(*confirmed);
        require(round <= opened, "only an open round is confirmed (thesis §6.4)", || {
            format!("member {id} confirms round {} of {}", round.0, opened.0)
        })
    }

    pub(super) fn serves_reads(&mut self, id: NodeId, round: ReadRound, index: Index) -> Judgement {
        let (term, commit) = (self.members[&id].now.term, self.members[&id].commit);
        let leadership = self.leadership(term).filter(|leadership| leadership.leader == id);
        let Some((leadership, reign)) = leadership.and_then(|it| Some((it, it.reign.as_ref()?)))
        else {
            return require(false, "a leader serves reads (§8)", || {
                format!("member {id} serves round {} in term {term}", round.0)
            });
        };
        let confirmed =
            |voter| voter == id || reign.confirmed.get(&voter).is_some_and(|known| round <= *known);
        require(
            self.counted_by(id).agree(confirmed),
            "a quorum confirms a read round (thesis §6.4)",
            || format!("member {id} serves round {} by {:?}", round.0, reign.confirmed),
        )?;
        let own_term = leadership.elected_at < index && index <= commit;
        require(own_term, "reads wait for a commit of the leader's term (thesis §6.4)", || {
            format!("member {id}, elected at {}, serves at {index}", leadership.elected_at)
        })?;
        let before = reign.reads.range(..=round).map(|(_, committed)| *committed).max();
        require(before <= Some(index), "reads see all that was committed before (§8)", || {
            format!("member {id} serves reads at {index} that came when {before:?} was committed")
        })?;
        let reign = self.reign(id, term).expect("checked above");
        reign.reads = reign.reads.split_off(&ReadRound(round.0 + 1));
        Ok(())
    }
}

/// The refinement itself.
impl Specification {
    /// The member stands where its acts lead, and has asked its disk for all of that.
    pub(super) fn is(
        &mut self,
        id: NodeId,
        (term, vote, role): (Term, Option<NodeId>, RoleKind),
        last: Name,
        commit: Index,
    ) -> Judgement {
        let member = self.member(id);
        let role = match role {
            RoleKind::Follower | RoleKind::PreCandidate => Role::Follower,
            RoleKind::Candidate => Role::Candidate,
            RoleKind::Leader => Role::Leader,
        };
        let now = (member.now.term, member.now.vote, member.role);
        let ends = (member.now.log.last(), member.commit);
        require(
            now == (term, vote, role) && ends == (last, commit),
            "a step is a row of legal acts (refinement)",
            || {
                format!(
                    "member {id} is {:?}; its acts lead to {now:?}, log and commit {ends:?}",
                    (term, vote, role, last, commit)
                )
            },
        )?;
        let newest = member.pending.back().map(|write| (write.term, write.vote));
        let written = newest.unwrap_or((member.durable.term, member.durable.vote));
        require(written == (term, vote), "term and vote are written (figure 2)", || {
            format!("member {id} is in term {term} with vote {vote:?}; written is {written:?}")
        })
    }
}

impl Persistent {
    /// Whether a disk that holds this gives back that.
    fn is(&self, hard_state: (Term, Option<NodeId>), log: &Splice) -> bool {
        (self.term, self.vote) == hard_state
            && self.log.holds_all(log)
            && self.log.last().index == log.last
    }
}
