//! What follows from storage that does not keep everything in the log: snapshots (§7), and logs that
//! have lost a part.
//!
//! A log is kept here from the very first entry, also where the module has cut it: what was cut is
//! committed, and what is committed is known. A snapshot stands for the committed entries that it
//! covers, and a log that is begun anew behind it holds just those.

use super::*;

impl Specification {
    /// Figure 13, rule 7: the whole log goes, and what the snapshot covers takes its place.
    pub(super) fn begins(
        &mut self,
        id: NodeId,
        write: WriteNumber,
        (term, vote): (Term, Option<NodeId>),
        last: Name,
    ) -> Judgement {
        let covered = self.committed_up_to(last)?;
        let member = self.member(id);
        let (role, commit) = (member.role, member.commit);
        require(role == Role::Follower, "a leader keeps its log (figure 3)", || {
            format!("member {id}, {role:?}, begins its log anew behind {last}")
        })?;
        require(commit < last.index, "committed entries stay (§5.4)", || {
            format!("member {id} has committed {commit} and begins its log anew behind {last}")
        })?;
        let held = member.now.log.holds(last);
        require(!held, "a log that holds the snapshot's end is kept (figure 13, rule 6)", || {
            format!("member {id} holds {last} and begins its log anew behind it")
        })?;
        member.now.log = covered.clone();
        let anew = Some(covered);
        self.writes(id, Pending { number: write, term, vote, splice: None, anew })
    }

    /// It comes back with less than was durable. Term and vote are not lost: nobody else knows them.
    pub(super) fn recovers_less(
        &mut self,
        id: NodeId,
        hard_state: (Term, Option<NodeId>),
        log: &Splice,
        commit: Index,
    ) -> Judgement {
        let mut kept = self.committed_up_to(log.prev)?;
        kept.splice(log);
        self.restarts(id, hard_state, commit, |disk| {
            let is_one = (disk.term, disk.vote) == hard_state;
            if is_one {
                disk.log = kept.clone();
            }
            is_one
        })?;
        // What it can have helped to commit, as far as that has come to pass.
        self.member(id).owes = Some(self.committed.last().index);
        for reign in self.reigns() {
            reign.withheld.remove(&id);
        }
        Ok(())
    }

    /// It holds again what it may have lost, so that what it has said since counts.
    pub(super) fn regains(&mut self, id: NodeId) -> Judgement {
        let member = &self.members[&id];
        let owes = member.owes.unwrap_or_default();
        let holds = member.owes.is_some() && member.holds_durably(&self.committed, owes);
        require(holds, "who has recovered holds what was committed before (§5.4.3)", || {
            format!("member {id} owes {owes:?} and has {:?}", member.durable.log.last())
        })?;
        self.member(id).owes = None;
        for reign in self.reigns() {
            let Some((index, round)) = reign.withheld.remove(&id) else { continue };
            let acknowledged = reign.acknowledged.entry(id).or_default();
            *acknowledged = index.max(*acknowledged);
            let confirmed = reign.confirmed.entry(id).or_default();
            *confirmed = round.max(*confirmed);
        }
        Ok(())
    }

    /// Who may have lost what it acknowledged neither votes nor stands.
    pub(super) fn owes_nothing(&self, id: NodeId) -> Judgement {
        let owes = self.members[&id].owes;
        require(owes.is_none(), "who is recovering gives no vote (§5.4.1)", || {
            format!("member {id} votes or stands, and may have lost entries up to {owes:?}")
        })
    }

    /// The committed entries up to this one.
    pub(super) fn committed_up_to(&self, last: Name) -> Result<Names, Violation> {
        let is_committed = self.committed.holds(last);
        require(is_committed, "what is cut off or covered is committed (§7)", || {
            format!("{last} is not; committed is {}", self.committed.last())
        })?;
        let mut names = self.committed.clone();
        names.truncate(last.index);
        Ok(names)
    }

    fn reigns(&mut self) -> impl Iterator<Item = &mut Reign> {
        let leaderships = self.terms.values_mut().filter_map(|history| history.leadership.as_mut());
        leaderships.filter_map(|leadership| leadership.reign.as_mut())
    }
}
