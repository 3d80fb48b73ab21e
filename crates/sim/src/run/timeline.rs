//! A failed run as a person reads it: who led, what went wrong, and what clients were told, each in
//! words and in the order of simulated time.
//!
//! Responsible for what matters; every single event is the [`Trace`](crate::Trace)'s. It is fed only
//! when it is kept, so runs that nobody reads do not pay for it. What clients are told would push
//! out all else, so the newest of both are kept apart and joined when they are read.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use jangada_entry::Origin;
use jangada_raft::{NodeId, RoleKind, Standing, Term};

use crate::faults::{FAULTS, Fault, FaultCounts};

/// How many lines about members and faults are kept: some minutes of a bad run.
const LINES_MAX: usize = 2_000;

/// How many lines about clients are kept: what they saw shortly before the end.
const CLIENT_LINES_MAX: usize = 40;

/// How many characters of a command or an answer are shown.
const SHOWN_MAX: usize = 72;

/// Whom a line is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// All, or the network between them.
    World,
    /// A member or its machine.
    Member(NodeId),
    /// The clients of a member.
    Clients(NodeId),
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// When, in simulated microseconds.
    pub at_us: u64,
    /// Whom it is about.
    pub who: Who,
    /// What happened, in words.
    pub text: String,
    number: u64,
}

/// What happened so far.
#[derive(Clone, Debug)]
pub struct Timeline {
    is_kept: bool,
    lines: VecDeque<Line>,
    client_lines: VecDeque<Line>,
    numbered: u64,
    standing: BTreeMap<NodeId, (RoleKind, Term)>,
    asked: BTreeMap<(u64, u64), (u64, String)>,
    /// The faults that have been told or wait in `small`.
    counted: FaultCounts,
    /// Faults of single messages and syncs since the last line: they are told together.
    small: FaultCounts,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.at_us as f64 / 1e6;
        let who = match self.who {
            Who::World => String::new(),
            Who::Member(member) => format!("member {member}"),
            Who::Clients(member) => format!("client of {member}"),
        };
        write!(f, "{seconds:>10.6} s  {who:<12} {}", self.text)
    }
}

/// The beginning of a text.
#[must_use]
pub fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

impl Timeline {
    /// An empty timeline, which stays empty unless it `is_kept`.
    #[must_use]
    pub fn new(is_kept: bool) -> Timeline {
        Timeline {
            is_kept,
            lines: VecDeque::new(),
            client_lines: VecDeque::new(),
            numbered: 0,
            standing: BTreeMap::new(),
            asked: BTreeMap::new(),
            counted: FaultCounts::default(),
            small: FaultCounts::default(),
        }
    }

    /// Whether anybody will read it.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Adds a line.
    pub fn tell(&mut self, at_us: u64, who: Who, what: fmt::Arguments<'_>) {
        if !self.is_kept {
            return;
        }
        if matches!(who, Who::Clients(_)) {
            return self.push(at_us, who, what.to_string());
        }
        if 0 < self.small.total() {
            let small = std::mem::take(&mut self.small);
            self.push(at_us, Who::World, format!("until here: {small}"));
        }
        self.push(at_us, who, what.to_string());
    }

    /// Takes note of how a member stands; a change of its role is told.
    pub(crate) fn stands(&mut self, at_us: u64, member: NodeId, standing: &Standing) {
        if !self.is_kept {
            return;
        }
        let new = (standing.role, standing.term);
        let old = self.standing.insert(member, new);
        if old == Some(new) {
            return;
        }
        let (role, term) = new;
        let who = Who::Member(member);
        match (old.map(|(role, _)| role), role) {
            (_, RoleKind::Leader) => {
                self.tell(at_us, who, format_args!("becomes leader of term {term}"));
            }
            (_, RoleKind::Candidate) => {
                self.tell(at_us, who, format_args!("stands for election in term {term}"));
            }
            (Some(RoleKind::Leader), _) => {
                self.tell(at_us, who, format_args!("leads no more; it is in term {term}"));
            }
            _ => {}
        }
    }

    /// A process has ended: the next one begins as a follower.
    pub(crate) fn ended(&mut self, member: NodeId) {
        self.standing.remove(&member);
    }

    /// A client asks for a command.
    pub(crate) fn asked(&mut self, at_us: u64, origin: Origin, describe: impl FnOnce() -> String) {
        if self.is_kept {
            let place = (origin.incarnation, origin.sequence);
            self.asked.insert(place, (at_us, shortened(&describe())));
        }
    }

    /// A client is answered.
    pub(crate) fn answered(
        &mut self,
        at_us: u64,
        member: NodeId,
        origin: Origin,
        answer: fmt::Arguments<'_>,
    ) {
        if !self.is_kept {
            return;
        }
        let asked = self.asked.remove(&(origin.incarnation, origin.sequence));
        if let Some((asked_us, command)) = asked {
            let answer = shortened(&answer.to_string());
            let after_ms = (at_us - asked_us) as f64 / 1e3;
            let text = format!("{command}: {answer} (asked {after_ms:.1} ms ago)");
            self.push(at_us, Who::Clients(member), text);
        }
    }

    /// Takes note of what has gone wrong. Faults that `tell` was not called for are told by their
    /// sentence; those of single messages and syncs are told together before the next line.
    pub(crate) fn counts(&mut self, at_us: u64, counts: &FaultCounts) {
        if !self.is_kept || self.counted == *counts {
            return;
        }
        for fault in FAULTS {
            let fresh = counts.of(fault) - self.counted.of(fault);
            match kind(fault) {
                _ if fresh == 0 => {}
                Kind::Told => {}
                Kind::Small => (0..fresh).for_each(|_| self.small.count(fault)),
                Kind::Large => self.tell(at_us, Who::World, format_args!("{}", fault.sentence())),
            }
        }
        self.counted = counts.clone();
    }

    /// Everything that is kept, in order.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        let mut lines: Vec<Line> = self.lines.iter().chain(&self.client_lines).cloned().collect();
        lines.sort_by_key(|line| line.number);
        lines
    }

    fn push(&mut self, at_us: u64, who: Who, text: String) {
        self.numbered += 1;
        let line = Line { at_us, who, text, number: self.numbered };
        let (lines, lines_max) = match who {
            Who::Clients(_) => (&mut self.client_lines, CLIENT_LINES_MAX),
            Who::World | Who::Member(_) => (&mut self.lines, LINES_MAX),
        };
        if lines.len() == lines_max {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// How a fault gets into the timeline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// By whoever makes it happen.
    Told,
    /// Together with others of its kind.
    Small,
    /// By its sentence.
    Large,
}

fn kind(fault: Fault) -> Kind {
    match fault {
        Fault::Partition
        | Fault::PartitionOneWay
        | Fault::PairCut
        | Fault::PartitionBridge
        | Fault::PartitionChain
        | Fault::ProcessKilled
        | Fault::PowerLost
        | Fault::Paused
        | Fault::ClockJumped
        | Fault::ClockDrifted
        | Fault::BitFlipped => Kind::Told,
        Fault::MessageLost
        | Fault::MessageDuplicated
        | Fault::MessageReordered
        | Fault::MessageDelayed
        | Fault::ConnectionReset
        | Fault::LinkSlow
        | Fault::SyncSlow => Kind::Small,
        _ => Kind::Large,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_that_nobody_reads() {
        let mut timeline = Timeline::new(false);
        timeline.tell(1, Who::World, format_args!("the network heals"));
        let origin = Origin { incarnation: 1, sequence: 1 };
        timeline.asked(1, origin, || panic!("nobody reads it"));
        assert_eq!(timeline.lines(), []);
    }

    #[test]
    fn lines_say_who_and_when_and_small_faults_come_together() {
        let mut timeline = Timeline::new(true);
        let mut counts = FaultCounts::default();
        for at_us in 1..=3 {
            counts.count(Fault::MessageLost);
            timeline.counts(at_us, &counts);
        }
        counts.count(Fault::SyncFailed);
        timeline.counts(2_113_000, &counts);
        let origin = Origin { incarnation: 1, sequence: 1 };
        timeline.asked(2_200_000, origin, || "put a".to_owned());
        timeline.answered(2_201_500, NodeId(3), origin, format_args!("revision 2"));
        let lines: Vec<String> = timeline.lines().iter().map(ToString::to_string).collect();
        let expect = [
            "  2.113000 s               until here: message-lost 3",
            "  2.113000 s               a sync fails",
            "  2.201500 s  client of 3  put a: revision 2 (asked 1.5 ms ago)",
        ];
        assert_eq!(lines, expect);
    }

    #[test]
    fn what_clients_are_told_pushes_out_nothing_else() {
        let mut timeline = Timeline::new(true);
        timeline.tell(1, Who::Member(NodeId(1)), format_args!("starts"));
        for at_us in 2..5_000 {
            timeline.tell(at_us, Who::Clients(NodeId(1)), format_args!("an answer"));
        }
        let lines = timeline.lines();
        assert_eq!((lines.len(), lines[0].text.as_str()), (CLIENT_LINES_MAX + 1, "starts"));
        assert_eq!(lines[CLIENT_LINES_MAX].at_us, 4_999);
    }

    #[test]
    fn roles_are_told_when_they_change() {
        let mut timeline = Timeline::new(true);
        let standing = |role, term| Standing { role, term: Term(term), leader: None };
        for (role, term) in [
            (RoleKind::Follower, 1),
            (RoleKind::Candidate, 2),
            (RoleKind::Leader, 2),
            (RoleKind::Leader, 2),
            (RoleKind::Follower, 3),
            (RoleKind::Follower, 4),
        ] {
            timeline.stands(1, NodeId(1), &standing(role, term));
        }
        let said: Vec<String> = timeline.lines().into_iter().map(|line| line.text).collect();
        let expect = [
            "stands for election in term 2",
            "becomes leader of term 2",
            "leads no more; it is in term 3",
        ];
        assert_eq!(said, expect);
    }
}
