//! The ledger of damage: what each member's disk has lost beyond what a loss of power may take, and
//! what follows from it.
//!
//! Responsible for saying which damage is allowed and which outcome it excuses, so that every failure
//! that is reported is a bug. Not responsible for doing the damage, nor for finding out what a member
//! makes of it.
//!
//! 1. Damage, and errors of state machines, befall a minority at most of whoever decides: of the voters
//!    of each configuration that has been or may come to be in force; each of them as often as may be.
//!    So every entry that a majority has made durable is whole on some member of each majority but the
//!    last one needed: nothing that was acknowledged may be lost, and the others go on.
//! 2. A member that stops or does not start is excused only by damage to what it complains of, and
//!    not where it can do without what the damage took.
//! 3. Nothing excuses wrong data: a member that goes on with damage holds what it held before.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jangada_raft::NodeId;
use jangada_wal::{OpenError, Report, WalError};

use crate::disk::{DamagedPlace, is_of_log};
use crate::faults::Fault;
use crate::invariants::Violation;
use crate::world::seat::Upset;

/// Which of a member's parts keeps its bytes in a damaged file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Part {
    /// The log: a segment, or a file that is to become one.
    Log,
    /// The state machine's engine.
    Engine,
}

/// Where damage stands, as seen from the index up to which the state machine is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// In a batch whose entries the machine holds: the member can do without it.
    Below,
    /// In a batch of which the machine lacks something.
    Above,
}

/// Something that a disk has damaged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// How.
    pub fault: Fault,
    /// Whose bytes they were.
    pub part: Part,
    /// The file.
    pub file: String,
    /// The first byte.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
    /// Where it stands in the log, if it does and that is known.
    pub side: Option<Side>,
    /// Whether the batch holds a configuration, which is in force beyond its index.
    pub configuration: bool,
}

/// How often there was damage, and what members made of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RotCounts {
    /// In entries of the log that the member's state machine held durably.
    pub below: u64,
    /// In entries of the log that it did not, or elsewhere in the log.
    pub above: u64,
    /// In the engine's file.
    pub engine: u64,
    /// The log was read by the other copy of what was damaged.
    pub mended: u64,
    /// The log began behind the damage, in a later life.
    pub cut: u64,
    /// The member refused what it found and stayed down.
    pub refused: u64,
    /// The member stopped when it met the damage, and started again.
    pub stopped: u64,
    /// The log was opened, and the damage meant nothing to it.
    pub harmless: u64,
}

impl RotCounts {
    /// Adds another run's counts.
    pub fn add(&mut self, other: &RotCounts) {
        self.below += other.below;
        self.above += other.above;
        self.engine += other.engine;
        self.mended += other.mended;
        self.cut += other.cut;
        self.refused += other.refused;
        self.stopped += other.stopped;
        self.harmless += other.harmless;
    }
}

impl fmt::Display for RotCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RotCounts { below, above, engine, mended, cut, refused, stopped, harmless } = self;
        write!(
            f,
            "{below} below and {above} above the durable index, {engine} in the engine: {mended} \
             mended, {cut} cut, {refused} refused, {stopped} stopped, {harmless} harmless"
        )
    }
}

impl Damage {
    /// Damage of which nothing more is known than where it is.
    pub(crate) fn at(place: DamagedPlace) -> Damage {
        let part = if is_of_log(&place.file) { Part::Log } else { Part::Engine };
        let DamagedPlace { fault, file, offset, bytes } = place;
        Damage { fault, part, file, offset, bytes, side: None, configuration: false }
    }

    /// Whether the member cannot do without what it took, as far as is known. Where both copies of a
    /// batch's header may be gone, nothing on the disk tells that the machine holds the batch.
    pub(crate) fn is_needed(&self) -> bool {
        self.part == Part::Engine
            || self.side != Some(Side::Below)
            || self.configuration
            || self.fault == Fault::WriteMisdirected
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { fault, file, offset, bytes, side, configuration, .. } = self;
        write!(f, "{}: {bytes} bytes from {offset} of {file}", fault.name())?;
        match side {
            Some(Side::Below) => write!(f, ", which the machine holds")?,
            Some(Side::Above) => write!(f, ", which the machine lacks")?,
            None => {}
        }
        if *configuration { write!(f, ", with a configuration") } else { Ok(()) }
    }
}

/// All damage of a run, and what became of it.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// The voters of each configuration that has been or may come to be in force.
    electorates: BTreeSet<Vec<NodeId>>,
    /// Members whose disk is damaged, or will be.
    marked: BTreeSet<NodeId>,
    /// Members whose machine is to err and has not yet.
    about_to_err: BTreeSet<NodeId>,
    /// Members whose machine has erred and may not hold what the others do.
    astray: BTreeSet<NodeId>,
    /// Members whose machine has ever erred.
    erred: BTreeSet<NodeId>,
    damages: BTreeMap<NodeId, Vec<Damage>>,
    /// Members whose log has been damaged since it was last opened.
    unread: BTreeSet<NodeId>,
    counts: RotCounts,
}

impl Ledger {
    /// The ledger of a cluster that begins with these members, without damage.
    #[must_use]
    pub fn new(members: &[NodeId]) -> Ledger {
        Ledger {
            electorates: BTreeSet::from([members.to_vec()]),
            marked: BTreeSet::new(),
            about_to_err: BTreeSet::new(),
            astray: BTreeSet::new(),
            erred: BTreeSet::new(),
            damages: BTreeMap::new(),
            unread: BTreeSet::new(),
            counts: RotCounts::default(),
        }
    }

    /// Whether a member may be struck (ledger invariant 1).
    #[must_use]
    pub fn may_strike(&self, member: NodeId) -> bool {
        let bears = |voters: &Vec<NodeId>| {
            let struck = voters.iter().filter(|id| **id == member || self.is_struck(**id));
            struck.count() <= voters.len().saturating_sub(1) / 2
        };
        self.is_struck(member) || self.electorates.iter().all(bears)
    }

    /// Whether these may come to decide: a minority of them is struck at most, and none that was not
    /// one of `before`.
    #[must_use]
    pub(crate) fn may_decide(&self, voters: &[NodeId], before: &[NodeId]) -> bool {
        let struck: Vec<_> = voters.iter().filter(|id| self.is_struck(**id)).collect();
        struck.len() <= voters.len().saturating_sub(1) / 2
            && struck.iter().all(|id| before.contains(id))
    }

    /// Whether a member decides, or may come to.
    pub(crate) fn is_to_decide(&self, member: NodeId) -> bool {
        self.electorates.iter().any(|voters| voters.contains(&member))
    }

    /// These may come to decide from here on.
    pub(crate) fn expects(&mut self, voters: &[NodeId]) {
        self.electorates.insert(voters.to_vec());
    }

    /// Whether anything has befallen a member that may have taken what it held, or is about to.
    #[must_use]
    pub fn is_struck(&self, member: NodeId) -> bool {
        [&self.marked, &self.about_to_err, &self.astray].iter().any(|set| set.contains(&member))
    }

    /// A member's machine is to err.
    pub(crate) fn may_err(&mut self, member: NodeId) {
        assert!(self.may_strike(member), "ledger invariant 1");
        self.about_to_err.insert(member);
    }

    /// A member's machine has not erred in all its life, which is over.
    pub(crate) fn never_erred(&mut self, member: NodeId) {
        self.about_to_err.remove(&member);
    }

    /// A member's machine has erred.
    pub(crate) fn goes_astray(&mut self, member: NodeId) {
        assert!(self.may_strike(member), "ledger invariant 1");
        self.about_to_err.remove(&member);
        self.astray.insert(member);
        self.erred.insert(member);
    }

    /// A member holds what the others hold.
    pub(crate) fn comes_back(&mut self, member: NodeId) {
        self.astray.remove(&member);
    }

    /// Whether a member's machine has erred and may not hold what the others do.
    #[must_use]
    pub fn is_astray(&self, member: NodeId) -> bool {
        self.astray.contains(&member)
    }

    /// Whether a member's machine has ever erred.
    #[must_use]
    pub fn has_erred(&self, member: NodeId) -> bool {
        self.erred.contains(&member)
    }

    /// Whether a member's disk is damaged, or may be at any moment.
    #[must_use]
    pub fn is_marked(&self, member: NodeId) -> bool {
        self.marked.contains(&member)
    }

    /// A member's disk is damaged, or will be.
    pub(crate) fn mark(&mut self, member: NodeId) {
        assert!(self.may_strike(member), "ledger invariant 1");
        self.marked.insert(member);
    }

    /// A member's disk has been damaged.
    pub(crate) fn enter(&mut self, member: NodeId, damage: Damage) {
        self.mark(member);
        match (damage.part, damage.side) {
            (Part::Engine, _) => self.counts.engine += 1,
            (Part::Log, Some(Side::Below)) => self.counts.below += 1,
            (Part::Log, _) => self.counts.above += 1,
        }
        if damage.part == Part::Log {
            self.unread.insert(member);
        }
        self.damages.entry(member).or_default().push(damage);
    }

    /// What has been damaged on a member's disk, oldest first.
    #[must_use]
    pub fn damages(&self, member: NodeId) -> &[Damage] {
        self.damages.get(&member).map_or(&[], Vec::as_slice)
    }

    /// What became of it.
    #[must_use]
    pub fn counts(&self) -> RotCounts {
        self.counts
    }

    /// Whether the member's log is damaged in a way that no life of it has seen.
    pub(crate) fn is_unread(&self, member: NodeId) -> bool {
        self.unread.contains(&member)
    }

    /// A member has opened its log.
    pub(crate) fn opened(&mut self, member: NodeId, report: &Report) {
        if !self.unread.remove(&member) {
            return;
        }
        match report {
            Report { cut: Some(_), .. } => self.counts.cut += 1,
            Report { mended: 0, .. } => self.counts.harmless += 1,
            Report { .. } => self.counts.mended += 1,
        }
    }

    /// Judges why a member does not start on an intact disk, as far as errors go.
    ///
    /// # Errors
    /// If no damage excuses it.
    pub(crate) fn refuses(&mut self, member: NodeId, upset: &Upset) -> Result<(), Violation> {
        self.excuses(member, upset, "a member starts on what its disk holds")?;
        self.counts.refused += 1;
        Ok(())
    }

    /// Judges why a process does not go on.
    ///
    /// # Errors
    /// If no damage excuses it.
    pub(crate) fn stops(&mut self, member: NodeId, upset: &Upset) -> Result<(), Violation> {
        self.excuses(member, upset, "a process stops only when its disk fails")?;
        self.counts.stopped += 1;
        Ok(())
    }

    fn excuses(
        &self,
        member: NodeId,
        upset: &Upset,
        invariant: &'static str,
    ) -> Result<(), Violation> {
        let damages = self.damages(member);
        let of = |part: Part| damages.iter().any(|damage| damage.part == part);
        let excused = match upset {
            Upset::Open(OpenError::Rot { .. } | OpenError::Io(_)) => {
                of(Part::Log) && (1 < damages.len() || damages[0].is_needed())
            }
            // An engine that has lost its newest commits falls behind where the log begins.
            Upset::Open(OpenError::Missing { .. }) => of(Part::Log) || of(Part::Engine),
            Upset::Open(_) => false,
            Upset::Wal(WalError::Rot { .. } | WalError::Io(_)) => of(Part::Log),
            Upset::Wal(_) => false,
            Upset::Io(_) | Upset::Start(_) => of(Part::Engine),
            Upset::Removed(_) | Upset::TooOld => false,
        };
        if excused {
            return Ok(());
        }
        let known: Vec<String> = damages.iter().map(ToString::to_string).collect();
        Err(Violation {
            invariant,
            seen: format!("member {member}: {upset}; damage: [{}]", known.join("; ")),
        })
    }
}

#[cfg(test)]
mod tests {
    use jangada_raft::Index;
    use jangada_wal::Place;

    use super::*;

    const ONE: NodeId = NodeId(1);

    fn damage(part: Part, side: Option<Side>) -> Damage {
        let file = match part {
            Part::Log => "segment-1",
            Part::Engine => "engine",
        };
        let place = DamagedPlace {
            fault: Fault::SectorSpoiled,
            file: file.to_owned(),
            offset: 512,
            bytes: 512,
        };
        Damage { side, ..Damage::at(place) }
    }

    fn rot() -> Upset {
        let place = Place { segment: 1, offset: 512 };
        Upset::Open(OpenError::Rot { place, after: Index(3), durable_applied: Index(9) })
    }

    fn of(members: u64) -> Ledger {
        Ledger::new(&(1..=members).map(NodeId).collect::<Vec<_>>())
    }

    #[test]
    fn a_minority_is_damaged_and_no_more() {
        for (members, minority) in [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2)] {
            let mut ledger = of(members);
            let mut marked = 0;
            for member in (1..=members).map(NodeId) {
                if ledger.may_strike(member) {
                    ledger.mark(member);
                    marked += 1;
                    assert!(ledger.may_strike(member), "as often as may be");
                }
            }
            assert_eq!(marked, minority, "of {members}");
        }
    }

    #[test]
    fn a_minority_is_struck_of_those_who_may_come_to_decide_too() {
        let ids = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
        let mut ledger = of(5);
        ledger.mark(NodeId(1));
        assert!(ledger.may_strike(NodeId(2)));
        assert!(!ledger.may_decide(&ids(&[1, 3]), &ids(&[1, 2, 3, 4, 5])), "half of two");
        ledger.expects(&ids(&[1, 2, 3]));
        assert!(!ledger.may_strike(NodeId(2)), "two of three");
        assert!(ledger.may_strike(NodeId(4)) && ledger.may_strike(NodeId(9)));
        ledger.goes_astray(NodeId(9));
        assert!(!ledger.may_decide(&ids(&[2, 3, 9]), &ids(&[2, 3])), "it is new and astray");
        ledger.comes_back(NodeId(9));
        assert!(ledger.may_decide(&ids(&[2, 3, 9]), &ids(&[2, 3])));
        assert!(ledger.has_erred(NodeId(9)) && !ledger.is_struck(NodeId(9)));
    }

    #[test]
    fn only_damage_to_what_is_complained_of_excuses() {
        let engine = || Upset::Io(std::io::Error::other("damaged"));
        let mut ledger = of(3);
        assert!(ledger.refuses(ONE, &rot()).is_err(), "no damage");
        ledger.enter(ONE, damage(Part::Engine, None));
        assert!(ledger.refuses(ONE, &rot()).is_err(), "damage elsewhere");
        assert!(ledger.stops(ONE, &engine()).is_ok());
        assert!(ledger.stops(NodeId(2), &engine()).is_err(), "another's damage");
        ledger.enter(ONE, damage(Part::Log, Some(Side::Above)));
        assert!(ledger.refuses(ONE, &rot()).is_ok());
        let counts = ledger.counts();
        assert_eq!((counts.engine, counts.above, counts.stopped, counts.refused), (1, 1, 1, 1));
    }

    #[test]
    fn what_the_machine_holds_is_no_reason_to_refuse() {
        let mut ledger = of(3);
        ledger.enter(ONE, damage(Part::Log, Some(Side::Below)));
        assert!(ledger.refuses(ONE, &rot()).is_err());
        let report = Report::default();
        ledger.opened(ONE, &report);
        ledger.opened(ONE, &report);
        assert_eq!((ledger.counts().below, ledger.counts().harmless), (1, 1));
    }
}
