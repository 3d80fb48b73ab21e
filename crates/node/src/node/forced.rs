//! Going on alone: a member whose cluster has lost its majority for good becomes the only voter.
//!
//! Responsible for the entry that says so, which goes into the log before the member runs. Not
//! responsible for who may order it: only an operator can know that the others will never come back.
//!
//! Nothing of the log is dropped. What was committed is in the log of each member of the majority that
//! was lost, and in this one only so far as it had come here; what had come here and was not committed
//! is committed now. Both are better than the alternative: an entry that this member holds may have been
//! acknowledged. From the entry on this member alone decides ([`Configuration::forced`]), and as it
//! applies the entry, the others count as removed.
//!
//! The entry is written once: a member that is the only one already is left as it is.

use std::time::Duration;

use jangada_entry::{CONFIGURATION_VERSION, Draft, Kind, Origin, encode_configuration};
use jangada_net::{Security, inquire};
use jangada_raft::{Configuration, HardState, Index, NodeId, Position};
use jangada_wal::{Batch, Disk, Recovered, Wal, WalError};

use crate::log::last_time_ms;
use crate::notes::Notes;
use crate::record::{NotesError, Record, members_of};

/// Why a member cannot go on alone.
#[derive(Debug)]
pub enum ForceError {
    /// There is no log to go on from.
    NoLog,
    /// The log has lost entries, or some of them are damaged, which the state machine does not hold.
    Damaged {
        /// The log's last entry.
        ends: Index,
    },
    /// The state machine lacks what the log does not hold any more.
    MachineBehind {
        /// The last entry that the state machine has applied.
        applied: Index,
        /// The entry before the log's first.
        begins: Index,
    },
    /// Another member runs: two that each go on alone would be two clusters of one name.
    OthersRun {
        /// The others of the configuration in force.
        others: String,
    },
    /// This member's state differed from what a majority had.
    Quarantined,
    /// The member's notes cannot be read.
    Notes(NotesError),
    /// The log cannot be read or written.
    Log(WalError),
}

impl std::fmt::Display for ForceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const ELSE: &str = "go on from another member that is left, or restore a backup";
        match self {
            ForceError::NoLog => write!(
                f,
                "there is no data to go on from; give the data directory of a member of the cluster \
                 that has lost its majority, or start without forcing a new cluster"
            ),
            ForceError::Damaged { ends } => write!(
                f,
                "the log, which ends with entry {ends}, is damaged in what the state machine does not \
                 hold: {ELSE}"
            ),
            ForceError::MachineBehind { applied, begins } => write!(
                f,
                "the state machine has applied up to entry {applied}, and the log begins behind entry \
                 {begins}: {ELSE}"
            ),
            ForceError::OthersRun { others } => write!(
                f,
                "at least one of the other members ({others}) answers: if a majority of them runs, \
                 nothing is lost, and this member joins them when it is started without forcing a new \
                 cluster; if not, stop them for good first, and empty their data directories"
            ),
            ForceError::Quarantined => {
                write!(
                    f,
                    "this member's state differed from what a majority of the members had: {ELSE}"
                )
            }
            ForceError::Notes(error) => error.fmt(f),
            ForceError::Log(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ForceError {}

/// How long the others are asked whether they run: one that does answers at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether any of the other members answers.
fn answer(
    own: NodeId,
    configuration: &Configuration,
    cluster: u64,
    security: Option<&dyn Security>,
) -> bool {
    let (ours, theirs): (Vec<_>, Vec<_>) =
        configuration.addresses.iter().partition(|(member, _)| **member == own);
    let [ours, theirs] = [ours, theirs]
        .map(|of| of.into_iter().flat_map(|(_, addresses)| addresses.clone()).collect::<Vec<_>>());
    inquire(&theirs, &ours, security, PATIENCE).is_ok_and(|roster| roster.cluster == cluster)
}

/// Makes `own` the only member, found at `addresses`, or where it was found before if there are none.
/// Answers who is given up, nobody if it was alone before.
pub(super) fn go_on_alone<D: Disk>(
    own: NodeId,
    addresses: &[String],
    wal: &mut Wal<D>,
    recovered: &mut Recovered,
    record: &Record,
    security: Option<&dyn Security>,
) -> Result<Vec<NodeId>, ForceError> {
    let notes = Notes::decode(&recovered.note).map_err(ForceError::Notes)?;
    if notes.quarantine.is_some() {
        return Err(ForceError::Quarantined);
    }
    let last = recovered.range.last_position();
    if recovered.recovering || !recovered.faulty.is_empty() {
        return Err(ForceError::Damaged { ends: last.index });
    }
    let (applied, begins) = (record.applied.index, recovered.range.prev.index);
    if applied < begins {
        return Err(ForceError::MachineBehind { applied, begins });
    }
    let mut others: Vec<NodeId> = members_of(&recovered.configuration).collect();
    others.sort_unstable();
    others.dedup();
    others.retain(|member| *member != own);
    if others.is_empty() && recovered.configuration.voters == [own] {
        return Ok(others);
    }
    if answer(own, &recovered.configuration, recovered.identity.cluster, security) {
        let others: Vec<_> = others.iter().map(ToString::to_string).collect();
        return Err(ForceError::OthersRun { others: others.join(", ") });
    }
    let known = recovered.configuration.addresses.get(&own).cloned().unwrap_or_default();
    let addresses = if addresses.is_empty() { known } else { addresses.to_vec() };
    let configuration = Configuration {
        addresses: [(own, addresses)].into(),
        forced: true,
        ..Configuration::of_voters([own])
    };
    // A term that nobody else has ever had: this member votes for itself in it.
    let term = jangada_raft::Term(recovered.hard_state.term.0.max(last.term.0) + 1);
    let position = Position { index: last.index.next(), term };
    let payload = encode_configuration(&configuration);
    let mut buffer = Draft::buffer(payload.len());
    buffer.extend_from_slice(&payload);
    let (kind, group) = (Kind::Configuration, recovered.identity.group);
    let draft = Draft::new(buffer, kind, CONFIGURATION_VERSION, group, Origin::default());
    let time_ms = last_time_ms(wal, recovered).map_err(ForceError::Log)?.max(record.time_ms);
    let entries = [draft.stamp(position, time_ms)];
    let hard_state = HardState { term, vote: Some(own) };
    let batch = Batch { hard_state, note: None, after: last.index, entries: &entries };
    wal.append(&batch).map_err(ForceError::Log)?;
    recovered.hard_state = hard_state;
    recovered.range.push(term);
    recovered.configurations.push((position.index, configuration.clone()));
    recovered.configuration = configuration;
    Ok(others)
}

#[cfg(test)]
mod tests {
    use jangada_wal::{Identity, MemoryDisk, Options};

    use super::*;

    const OWN: NodeId = NodeId(3);

    fn three() -> Configuration {
        let at = |id: u64| (NodeId(id), Vec::new());
        let addresses = [at(1), at(2), at(3)].into();
        Configuration { addresses, ..Configuration::of_voters([1, 2, 3].map(NodeId)) }
    }

    /// The log of a member of three, with so many entries of term 5.
    fn log(entries: u64) -> (MemoryDisk, Wal<MemoryDisk>, Recovered) {
        let disk = MemoryDisk::new();
        let identity = Identity { cluster: 1, member: 3, incarnation: 9, group: 0 };
        let created = Wal::create(disk.clone(), Options::default(), identity, three());
        let (mut wal, _) = created.expect("in memory");
        let term = jangada_raft::Term(5);
        let frame = |index| {
            let draft = Draft::new(Draft::buffer(0), Kind::NoOp, 1, 0, Origin::default());
            draft.stamp(Position { index: Index(index), term }, 1000)
        };
        let entries: Vec<_> = (1..=entries).map(frame).collect();
        let hard_state = HardState { term, vote: None };
        let batch = Batch { hard_state, note: None, after: Index(0), entries: &entries };
        wal.append(&batch).expect("in memory");
        drop(wal);
        let (wal, recovered) = open(&disk);
        (disk, wal, recovered)
    }

    fn open(disk: &MemoryDisk) -> (Wal<MemoryDisk>, Recovered) {
        Wal::open(disk.clone(), Options::default(), Index(0)).expect("in memory")
    }

    #[test]
    fn it_keeps_its_log_and_gives_the_others_up_once() {
        let (disk, mut wal, mut recovered) = log(4);
        let record = Record::default();
        let at = ["http://new:1".to_owned()];
        let given_up = go_on_alone(OWN, &at, &mut wal, &mut recovered, &record, None);
        assert_eq!(given_up.expect("a sound log"), [1, 2].map(NodeId));
        drop(wal);
        let (mut wal, mut again) = open(&disk);
        assert_eq!(again.configuration.voters, [OWN]);
        assert!(again.configuration.forced);
        assert_eq!(again.configuration.addresses, [(OWN, at.to_vec())].into());
        assert_eq!(again.range.last, Index(5), "one entry more than before");
        assert_eq!((again.hard_state.term.0, again.hard_state.vote), (6, Some(OWN)));
        let told = (&recovered.configurations, &recovered.range, recovered.hard_state);
        assert_eq!(told, (&again.configurations, &again.range, again.hard_state));
        let given_up = go_on_alone(OWN, &[], &mut wal, &mut again, &record, None);
        assert_eq!(given_up.expect("a sound log"), [], "it is alone already");
        assert_eq!(wal.last_position().index, Index(5));
    }

    #[test]
    fn a_member_that_has_lost_something_does_not_go_on_alone() {
        let check = |change: fn(&mut Recovered), expect: &str| {
            let (_, mut wal, mut recovered) = log(4);
            change(&mut recovered);
            let record = Record::default();
            let error = go_on_alone(OWN, &[], &mut wal, &mut recovered, &record, None);
            let error = error.expect_err("something is lost").to_string();
            assert!(error.contains(expect), "{error}");
            assert_eq!(wal.last_position().index, Index(4), "nothing is written");
        };
        check(|r| r.recovering = true, "is damaged in what the state machine does not hold");
        check(|r| r.faulty.push(r.range.last_position()), "which ends with entry 4, is damaged");
        check(|r| r.range = r.range.after(Index(2)), "the log begins behind entry 2");
        let quarantined = |r: &mut Recovered| {
            let quarantine = crate::Quarantine { index: Index(1), own: 2, others: 3 };
            r.note = Notes { quarantine: Some(quarantine), ..Notes::default() }.encode();
        };
        check(quarantined, "state differed");
    }
}
