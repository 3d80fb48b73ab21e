//! When the history is compacted although nobody asks: etcd's two modes, by etcd's rules.
//!
//! Responsible for the rule, a stepped part, and for the task that follows it. Not responsible for
//! compacting: what the rule says is proposed like any client's compaction.
//!
//! *By time.* The newest revision is noted ten times in a period (of an hour at most); when a whole
//! period has passed, what was noted at its beginning is compacted, and after that once in a period, or
//! once in an hour if the period is longer; a note is let go when the next one comes, so a tenth more is
//! kept than is asked for. *By revisions.* Every five minutes all but the newest
//! so many are compacted.
//!
//! Invariants:
//! 1. Every member notes revisions, only the leader compacts: one that comes to lead knows what the
//!    revision was a period ago.
//! 2. What was compacted once is not asked for again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use jangada_kv::{Command, KvError};

use super::served::Served;
use crate::backend::Backend;
use crate::config::AutoCompaction;

/// Periods longer than this are looked at as often as one of this length.
const INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);

/// How often a revision is noted in a period.
const NOTES: u32 = 10;

/// How often the mode by revisions compacts.
const REVISION_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Says when to compact.
#[derive(Debug)]
pub(super) struct Compactor {
    mode: Mode,
    /// When to look next.
    due: Duration,
    /// What was compacted last.
    last: i64,
}

#[derive(Debug)]
enum Mode {
    Periodic(Periodic),
    /// How many revisions are kept.
    Revision(i64),
}

#[derive(Debug)]
struct Periodic {
    period: Duration,
    /// The revisions noted within the period, oldest first.
    noted: VecDeque<i64>,
    /// When it was compacted last; at first when the member started.
    done: Duration,
    /// How long after that it may be compacted again.
    pause: Duration,
}

impl Periodic {
    fn interval(&self) -> Duration {
        self.period.min(INTERVAL_MAX)
    }

    fn note_interval(&self) -> Duration {
        self.interval() / NOTES
    }

    /// A note at both ends of the period.
    fn notes_max(&self) -> usize {
        // The longest period that can be written, in the shortest interval it has, is bounded.
        let interval = self.note_interval().max(Duration::from_nanos(1));
        usize::try_from(self.period.as_nanos() / interval.as_nanos()).unwrap_or(usize::MAX) + 1
    }

    fn note(&mut self, revision: i64) {
        self.noted.push_back(revision);
        while self.notes_max() < self.noted.len() {
            self.noted.pop_front();
        }
    }
}

impl Compactor {
    /// `now` is the time since whenever; `revision` the newest there is.
    pub(super) fn new(settings: AutoCompaction, now: Duration, revision: i64) -> Compactor {
        let (mode, interval) = match settings {
            AutoCompaction::Periodic(period) => {
                let noted = VecDeque::from([revision]);
                let periodic = Periodic { period, noted, done: now, pause: period };
                let interval = periodic.note_interval();
                (Mode::Periodic(periodic), interval)
            }
            AutoCompaction::Revision(kept) => (Mode::Revision(kept), REVISION_INTERVAL),
        };
        Compactor { mode, due: now + interval, last: 0 }
    }

    /// When it wants to be stepped next.
    pub(super) fn due(&self) -> Duration {
        self.due
    }

    /// What to compact to now, if anything.
    pub(super) fn step(&mut self, now: Duration, revision: i64, leads: bool) -> Option<i64> {
        if now < self.due {
            return None;
        }
        let (to, interval) = match &mut self.mode {
            Mode::Periodic(periodic) => {
                let oldest = periodic.noted.front().copied();
                let rested = periodic.pause <= now.saturating_sub(periodic.done);
                // What is looked at was noted before this moment, as in etcd.
                periodic.note(revision);
                (oldest.filter(|_| rested), periodic.note_interval())
            }
            Mode::Revision(kept) => (Some(revision - *kept), REVISION_INTERVAL),
        };
        self.due = now + interval;
        // compaction invariants 1 and 2
        to.filter(|to| leads && 0 < *to && *to != self.last)
    }

    /// It was compacted to a revision, now or before.
    pub(super) fn compacted(&mut self, now: Duration, revision: i64) {
        self.last = revision;
        if let Mode::Periodic(periodic) = &mut self.mode {
            periodic.done = now;
            periodic.pause = periodic.interval();
        }
    }
}

/// Compacts by the rule for as long as the member runs.
pub(super) async fn tend(settings: AutoCompaction, backend: Served) {
    let begin = Instant::now();
    let revision = || backend.store().read().revision();
    let mut compactor = Compactor::new(settings, begin.elapsed(), revision());
    loop {
        tokio::time::sleep(compactor.due().saturating_sub(begin.elapsed())).await;
        let status = backend.status();
        let leads = status.leader == Some(status.member_id);
        let Some(to) = compactor.step(begin.elapsed(), revision(), leads) else { continue };
        tracing::info!(revision = to, "starting auto compaction");
        match backend.propose(Command::Compact { revision: to, physical: false }).await {
            Ok(reply) if matches!(reply.result, Ok(_) | Err(KvError::Compacted)) => {
                compactor.compacted(begin.elapsed(), to);
            }
            Ok(reply) => {
                tracing::warn!(revision = to, answer = ?reply.result, "auto compaction failed");
            }
            Err(error) => tracing::warn!(revision = to, %error, "auto compaction failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps once a second for so long; the store gains a revision a second. Answers the seconds and
    /// revisions of what was compacted.
    fn run(settings: AutoCompaction, seconds: u64, leads: impl Fn(u64) -> bool) -> Vec<(u64, i64)> {
        let at = |second| Duration::from_secs(second);
        let mut compactor = Compactor::new(settings, at(0), 1);
        let mut compacted = Vec::new();
        for second in 1..=seconds {
            let revision = 1 + i64::try_from(second).expect("a test is short");
            if let Some(to) = compactor.step(at(second), revision, leads(second)) {
                compacted.push((second, to));
                compactor.compacted(at(second), to);
            }
        }
        compacted
    }

    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;

    #[test]
    fn a_short_period_is_waited_for_and_then_followed() {
        let settings = AutoCompaction::Periodic(Duration::from_secs(10 * MINUTE));
        let compacted = run(settings, 35 * MINUTE, |_| true);
        let expected = [(10, 0), (20, 9), (30, 19)];
        let expected = expected.map(|(at, to)| (at * MINUTE, 1 + (to * MINUTE) as i64));
        assert_eq!(compacted, expected, "what there was eleven minutes ago");
    }

    #[test]
    fn a_long_period_is_waited_for_once_and_then_followed_each_hour() {
        let settings = AutoCompaction::Periodic(Duration::from_secs(5 * HOUR));
        let compacted = run(settings, 7 * HOUR + 1, |_| true);
        let noted = [0, 54, 114].map(|minutes| 1 + (minutes * MINUTE) as i64);
        let expected = [(5 * HOUR, noted[0]), (6 * HOUR, noted[1]), (7 * HOUR, noted[2])];
        assert_eq!(compacted, expected);
    }

    #[test]
    fn who_comes_to_lead_knows_what_there_was() {
        let settings = AutoCompaction::Periodic(Duration::from_secs(HOUR));
        let compacted = run(settings, 100 * MINUTE, |second| 90 * MINUTE <= second);
        assert_eq!(compacted, [(90 * MINUTE, 1 + (24 * MINUTE) as i64)]);
    }

    #[test]
    fn so_many_revisions_are_kept() {
        let compacted = run(AutoCompaction::Revision(400), 15 * MINUTE, |_| true);
        assert_eq!(
            compacted,
            [(10 * MINUTE, 201), (15 * MINUTE, 501)],
            "below 400 there is nothing"
        );
    }

    #[test]
    fn what_stands_still_is_compacted_once() {
        let at = Duration::from_secs;
        let mut compactor = Compactor::new(AutoCompaction::Revision(5), at(0), 10);
        assert_eq!(compactor.step(at(299), 10, true), None);
        assert_eq!(compactor.step(at(300), 10, true), Some(5));
        assert_eq!(compactor.step(at(600), 10, true), Some(5), "it failed, so it is tried again");
        compactor.compacted(at(600), 5);
        assert_eq!(compactor.step(at(900), 10, true), None);
        assert_eq!(compactor.step(at(1200), 11, false), None, "another leads");
        assert_eq!(compactor.step(at(1500), 11, true), Some(6));
    }
}
