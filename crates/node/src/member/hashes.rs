//! The running hash, compared all the time.
//!
//! Every entry that a member applies is chained into a hash, with its effects. Members that hold the
//! same hash at the same index have done the same; one that does not has a state that nobody else has:
//! a bit fell over, or the state machine is not deterministic. The leader asks every member, itself
//! among them, for the hash at an index of its choice, and compares.
//!
//! Against a majority of the voters the odd one is *quarantined*: it serves no reads and takes no
//! proposals, does not vote, stand or lead (a leader hands over first), and its machine is replaced by
//! another member's snapshot. That it is stands in its log's notes, so that a restart in between changes
//! nothing. Where no majority agrees, nobody can tell who is right, and the operator
//! is told.
//!
//! Responsible for asking, answering and judging; for the state of being quarantined. Not responsible
//! for the snapshot that ends it.
//!
//! Invariants:
//! 1. Hashes are compared at equal indexes only.
//! 2. Nobody is called odd unless a majority of the voters, by their own answers, agree with one
//!    another and not with it.

use std::collections::{BTreeMap, VecDeque};

use jangada_net::PeerMessage;
use jangada_raft::{Index, Input, NodeId, RoleKind};

use super::{Effect, Member, ProposeError};
use crate::machine::StateMachine;
use crate::snapshot::Snapshots;

/// How often the leader asks (microseconds): a message of a few bytes for each member.
const ASK_INTERVAL_US: u64 = 1_000_000;

/// Of how many of the newest entries the hash is known. Who is asked is rarely ahead of the leader, and
/// asked again a second later.
const RECENT_MAX: usize = 4096;

/// How many questions wait for this member to apply so far: one that is behind by more of them is
/// asked again when it has caught up.
const QUESTIONS_MAX: usize = 8;

/// How many questions of the leader wait for answers, at most.
const ROUNDS_MAX: usize = 64;

/// How long the leader waits for the answers of all before it judges without (microseconds): as long
/// as a member that has just restarted needs to catch up.
const ROUND_US: u64 = 10_000_000;

/// A question of the leader, and what was answered.
#[derive(Debug)]
struct Round {
    index: Index,
    asked_us: u64,
    answers: BTreeMap<NodeId, u64>,
}

/// What the answers to a question say.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Verdict {
    /// Not all have answered, and nobody is odd so far.
    Open,
    /// All have answered alike.
    Equal,
    /// A majority holds this hash, and these do not.
    Odd { right: u64, odd: Vec<NodeId> },
    /// There are different hashes, and no majority holds one of them, whoever answers still.
    Split,
}

/// Why a member is quarantined.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Quarantine {
    /// Where its state differed from what a majority has.
    pub index: Index,
    /// Its own hash there.
    pub own: u64,
    /// That of the majority.
    pub others: u64,
}

/// The hashes that a member knows and has been asked for.
#[derive(Debug, Default)]
pub(super) struct Hashes {
    /// Of the newest entries applied, the last of which is at `last`.
    recent: VecDeque<u64>,
    last: Index,
    /// To be answered once they are applied, and who asked.
    questions: VecDeque<(Index, NodeId)>,
    /// As the leader.
    rounds: VecDeque<Round>,
    ask_us: u64,
    /// Where the members disagree without a majority, until they agree again.
    split: Option<Index>,
    quarantine: Option<Quarantine>,
    /// Since when a leader that is quarantined hands over.
    hands_over_us: Option<u64>,
}

impl Hashes {
    pub(super) fn new(applied: Index, hash: u64) -> Hashes {
        let recent = VecDeque::from([hash]);
        Hashes { recent, last: applied, ..Hashes::default() }
    }

    /// The next entry was applied.
    pub(super) fn chained(&mut self, index: Index, hash: u64) {
        if index != self.last.next() {
            self.recent.clear(); // A snapshot came in between.
        }
        self.last = index;
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(hash);
    }

    fn at(&self, index: Index) -> Option<u64> {
        let back = usize::try_from(self.last.0.checked_sub(index.0)?).ok()?;
        self.recent.get(self.recent.len().checked_sub(back + 1)?).copied()
    }

    pub(super) fn quarantine(&self) -> Option<Quarantine> {
        self.quarantine
    }

    pub(super) fn split(&self) -> Option<Index> {
        self.split
    }
}

/// Judges the answers so far. `members` are all that were asked.
fn judge(answers: &BTreeMap<NodeId, u64>, voters: &[NodeId], members: &[NodeId]) -> Verdict {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    for voter in voters {
        if let Some(hash) = answers.get(voter) {
            *counts.entry(*hash).or_default() += 1;
        }
    }
    let majority = voters.len() / 2 + 1;
    let most = counts.iter().max_by_key(|(_, count)| **count).map(|(hash, count)| (*hash, *count));
    let Some((right, count)) = most else { return Verdict::Open };
    if majority <= count {
        let odd: Vec<_> =
            answers.iter().filter(|(_, hash)| **hash != right).map(|(id, _)| *id).collect();
        if !odd.is_empty() {
            return Verdict::Odd { right, odd };
        }
        let all = members.iter().all(|member| answers.contains_key(member));
        return if all { Verdict::Equal } else { Verdict::Open };
    }
    let silent = voters.iter().filter(|voter| !answers.contains_key(voter)).count();
    match 1 < counts.len() && count + silent < majority {
        true => Verdict::Split,
        false => Verdict::Open,
    }
}

impl<M: StateMachine> Member<M> {
    /// Why this member is quarantined, if it is.
    #[must_use]
    pub fn quarantine(&self) -> Option<Quarantine> {
        self.hashes.quarantine
    }

    pub(super) fn is_quarantined(&self) -> bool {
        self.hashes.quarantine.is_some()
    }

    /// Another member asks for the hash at an index.
    pub(super) fn hash_asked(&mut self, from: NodeId, index: Index) {
        if let Some(hash) = self.hashes.at(index) {
            self.send(from, PeerMessage::HashAnswer { index, hash });
            return;
        }
        // What lies behind the newest ones is not known any more; the leader will ask for another.
        if self.hashes.last < index && self.hashes.questions.len() < QUESTIONS_MAX {
            self.hashes.questions.push_back((index, from));
        }
    }

    /// Nobody is served any more: what waits is refused, and what is under way may or may not happen.
    fn refuse_all(&mut self) {
        for (draft, _) in std::mem::take(&mut self.held) {
            let (sequence, reason) = (draft.origin().sequence, ProposeError::Quarantined);
            self.effects.push(Effect::Refuse { sequence, reason });
        }
        self.held_bytes = 0;
        self.doubt();
        self.reads.expired(u64::MAX, &mut self.runnable);
        self.effects.extend(self.runnable.drain(..).map(Effect::ReadRefused));
    }

    /// Answers what can be answered since more was applied.
    fn answer_hashes(&mut self) {
        let waiting = std::mem::take(&mut self.hashes.questions);
        for (index, from) in waiting {
            self.hash_asked(from, index);
        }
    }

    /// A member answers the leader.
    pub(super) fn hash_answered(&mut self, from: NodeId, index: Index, hash: u64) {
        if self.raft.role() != RoleKind::Leader {
            return;
        }
        if let Some(round) = self.hashes.rounds.iter_mut().find(|round| round.index == index) {
            round.answers.insert(from, hash);
            self.judge_round(index);
        }
    }

    /// The leader says that a majority holds another hash than this member.
    pub(super) fn hash_differs(&mut self, from: NodeId, index: Index, others: u64) {
        if self.leader() != Some(from) {
            return;
        }
        // Seen for oneself, or not believed.
        if let Some(own) = self.hashes.at(index).filter(|own| *own != others) {
            self.enter_quarantine(Quarantine { index, own, others });
        }
    }

    fn enter_quarantine(&mut self, quarantine: Quarantine) {
        if self.is_quarantined() {
            return;
        }
        self.quarantined(quarantine);
        self.effects.push(Effect::Quarantined(quarantine));
        self.withdraw_snapshots();
        self.refuse_all();
        self.queue_notes();
    }

    fn quarantined(&mut self, quarantine: Quarantine) {
        self.hashes.quarantine = Some(quarantine);
        // A machine without snapshots is built anew from the log when the process starts again.
        if self.machine.snapshots() != Snapshots::None {
            self.want_snapshot(self.record.applied.index);
        }
    }

    /// This member was quarantined when its process ended. What it holds durably may be what is wrong,
    /// and so may what would come of applying more to it; save where the machine is built anew from the
    /// log's beginning, and compared again as it grows.
    pub(super) fn stay_quarantined(&mut self, quarantine: Quarantine) {
        if self.machine.snapshots() == Snapshots::None && self.record.applied.index == Index(0) {
            self.queue_notes();
            return;
        }
        self.quarantined(quarantine);
    }

    /// The machine was replaced by a snapshot whose record has this hash.
    pub(super) fn replaced_by_snapshot(&mut self) {
        let ask_us = self.hashes.ask_us;
        let (applied, hash) = (self.record.applied.index, self.record.hash);
        let was_quarantined = self.is_quarantined();
        self.hashes = Hashes { ask_us, ..Hashes::new(applied, hash) };
        if was_quarantined {
            self.queue_notes();
        }
    }

    /// Leadership began or ended.
    pub(super) fn forget_rounds(&mut self) {
        self.hashes.rounds.clear();
        self.hashes.questions.clear();
        self.hashes.split = None;
    }

    /// Asks, answers, and judges what has waited long enough.
    pub(super) fn tend_hashes(&mut self) {
        self.answer_hashes();
        if self.raft.role() != RoleKind::Leader {
            self.hashes.hands_over_us = None;
            return;
        }
        let now_us = self.now.monotonic_us;
        self.hand_over_quarantined();
        while let Some(round) = self.hashes.rounds.front()
            && round.asked_us + ROUND_US <= now_us
        {
            let index = round.index;
            self.judge_late(index);
            self.hashes.rounds.retain(|round| round.index != index);
        }
        if self.hashes.ask_us <= now_us {
            self.hashes.ask_us = now_us + ASK_INTERVAL_US;
            self.ask_for_hashes();
        }
    }

    fn ask_for_hashes(&mut self) {
        let index = self.hashes.last;
        let own = self.hashes.at(index).expect("the hash of the last entry applied is known");
        let now_us = self.now.monotonic_us;
        let members = self.compared();
        match self.hashes.rounds.iter_mut().find(|round| round.index == index) {
            // Nothing was applied since: who has not answered is asked again.
            Some(_) => {}
            None => {
                if self.hashes.rounds.len() == ROUNDS_MAX {
                    self.hashes.rounds.pop_front();
                }
                let answers = BTreeMap::from([(self.id, own)]);
                self.hashes.rounds.push_back(Round { index, asked_us: now_us, answers });
            }
        }
        let round = self.hashes.rounds.iter().find(|round| round.index == index);
        let answered = |member: &NodeId| round.is_some_and(|r| r.answers.contains_key(member));
        let silent: Vec<_> = members.into_iter().filter(|member| !answered(member)).collect();
        for member in silent {
            self.send(member, PeerMessage::HashQuestion { index });
        }
    }

    /// All members whose states are to be alike.
    fn compared(&self) -> Vec<NodeId> {
        let configuration = self.raft.configuration();
        configuration.voters.iter().chain(&configuration.learners).copied().collect()
    }

    fn verdict(&self, index: Index) -> Verdict {
        let round = self.hashes.rounds.iter().find(|round| round.index == index);
        let Some(round) = round else { return Verdict::Open };
        judge(&round.answers, &self.raft.configuration().voters, &self.compared())
    }

    fn judge_round(&mut self, index: Index) {
        match self.verdict(index) {
            Verdict::Open => {}
            Verdict::Equal => self.hashes.split = None,
            Verdict::Split => self.hashes_split(index),
            Verdict::Odd { right, odd } => {
                for member in odd {
                    if member != self.id {
                        let differs = PeerMessage::HashDiffers { index, hash: right };
                        self.send(member, differs);
                    } else if let Some(own) = self.hashes.at(index) {
                        self.enter_quarantine(Quarantine { index, own, others: right });
                    }
                }
            }
        }
    }

    /// Not all have answered, and none of them may ever.
    fn judge_late(&mut self, index: Index) {
        let round = self.hashes.rounds.iter().find(|round| round.index == index);
        let Some(round) = round else { return };
        let mut hashes = round.answers.values();
        let first = hashes.next();
        let differ = hashes.any(|hash| Some(hash) != first);
        if differ && self.verdict(index) == Verdict::Open {
            self.hashes_split(index);
        }
    }

    fn hashes_split(&mut self, index: Index) {
        if self.hashes.split.replace(index).is_some() {
            return; // The operator has been told.
        }
        let round = self.hashes.rounds.iter().find(|round| round.index == index);
        let hashes = round.map(|round| round.answers.clone()).unwrap_or_default();
        self.effects.push(Effect::HashesDiffer { index, hashes });
    }

    /// A quarantined leader hands over to a member of the majority, and if nobody takes over within an
    /// election timeout, it steps down.
    fn hand_over_quarantined(&mut self) {
        let Some(quarantine) = self.hashes.quarantine else { return };
        let now_us = self.now.monotonic_us;
        match self.hashes.hands_over_us {
            None => {
                self.hashes.hands_over_us = Some(now_us);
                let to = self.right_voter(quarantine);
                self.input(Input::TransferLeadership { to });
            }
            Some(since_us) if since_us + 2 * self.options.election_timeout_us <= now_us => {
                self.input(Input::StepDown);
            }
            Some(_) => {}
        }
    }

    /// A voter that holds the hash of the majority.
    fn right_voter(&self, quarantine: Quarantine) -> Option<NodeId> {
        let round = self.hashes.rounds.iter().find(|round| round.index == quarantine.index)?;
        let voters = &self.raft.configuration().voters;
        let is_right = |voter: &&NodeId| round.answers.get(voter) == Some(&quarantine.others);
        voters.iter().find(is_right).copied()
    }

    /// When there is something to do next, in microseconds of the monotonic clock.
    pub(super) fn hashes_next_us(&self) -> Option<u64> {
        let leads = self.raft.role() == RoleKind::Leader;
        leads.then_some(self.hashes.ask_us.max(self.now.monotonic_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: std::ops::RangeInclusive<u64>) -> Vec<NodeId> {
        numbers.map(NodeId).collect()
    }

    fn check(voters: u64, answers: &[(u64, u64)], expect: &Verdict) {
        let answers = answers.iter().map(|(id, hash)| (NodeId(*id), *hash)).collect();
        assert_eq!(&judge(&answers, &ids(1..=voters), &ids(1..=voters)), expect, "{answers:?}");
    }

    fn odd(right: u64, odd: &[u64]) -> Verdict {
        Verdict::Odd { right, odd: odd.iter().copied().map(NodeId).collect() }
    }

    #[test]
    fn only_a_majority_of_the_voters_makes_another_odd() {
        check(3, &[(1, 7)], &Verdict::Open);
        check(3, &[(1, 7), (2, 7)], &Verdict::Open);
        check(3, &[(1, 7), (2, 7), (3, 7)], &Verdict::Equal);
        check(3, &[(1, 7), (2, 8)], &Verdict::Open);
        check(3, &[(1, 7), (2, 8), (3, 8)], &odd(8, &[1]));
        check(3, &[(1, 7), (2, 8), (3, 9)], &Verdict::Split);
        check(2, &[(1, 7), (2, 8)], &Verdict::Split);
        check(4, &[(1, 7), (2, 7), (3, 8), (4, 8)], &Verdict::Split);
        check(5, &[(1, 7), (2, 7), (3, 8)], &Verdict::Open);
        check(5, &[(1, 7), (2, 7), (3, 8), (4, 7)], &odd(7, &[3]));
        check(5, &[(1, 7), (2, 7), (3, 8), (4, 8), (5, 9)], &Verdict::Split);
        check(1, &[(1, 7)], &Verdict::Equal);
    }

    #[test]
    fn a_learner_can_be_odd_and_makes_nobody_odd() {
        let answers = [(1, 7), (2, 7), (3, 8), (4, 8), (5, 8)];
        let answers = answers.into_iter().map(|(id, hash)| (NodeId(id), hash)).collect();
        let verdict = judge(&answers, &ids(1..=2), &ids(1..=5));
        assert_eq!(verdict, odd(7, &[3, 4, 5]));
    }

    #[test]
    fn the_newest_hashes_are_known_and_no_others() {
        let mut hashes = Hashes::new(Index(10), 1);
        for index in 11..=20 {
            hashes.chained(Index(index), index);
        }
        assert_eq!((hashes.at(Index(10)), hashes.at(Index(15))), (Some(1), Some(15)));
        assert_eq!((hashes.at(Index(9)), hashes.at(Index(21))), (None, None));
        for index in 21..20 + RECENT_MAX as u64 {
            hashes.chained(Index(index), index);
        }
        assert_eq!(hashes.at(Index(19)), None);
        assert_eq!(hashes.at(Index(20)), Some(20));
    }
}
