//! When the alarm NOSPACE is raised for a full disk, and when it ends.
//!
//! Responsible for the rule alone; whoever steps it looks at the figures and proposes what it says. Not
//! responsible for the alarm of a used-up quota: the request that found it so raises that.
//!
//! Invariants:
//! 1. A member raises and ends its own alarm. The leader ends those of members that cannot, because
//!    they are gone.
//! 2. An alarm ends by itself only after its cause has been away for [`CALM`].

use std::time::Duration;

use jangada_kv::{AlarmAction, AlarmKind, Command};

/// How long there must be enough space before the alarm ends, so that it does not come and go.
const CALM: Duration = Duration::from_secs(60);

/// Space is enough when less than this part of the quota, in percent, is used.
const ENOUGH_PERCENT: u64 = 90;

/// Between two proposals: one that was lost is made again, one that is under way is given time.
const RETRY: Duration = Duration::from_secs(5);

/// What there is to see.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// This member.
    pub own: u64,
    /// Whether this member leads.
    pub leads: bool,
    /// Whether this member's disk is full.
    pub disk_full: bool,
    /// The bytes held against the quota.
    pub in_use: u64,
    /// The quota; `None` for none.
    pub quota: Option<u64>,
    /// The members about which NOSPACE is raised.
    pub raised: Vec<u64>,
    /// The members that this one is connected to.
    pub connected: Vec<u64>,
}

/// Watches over the space.
#[derive(Debug)]
pub struct Space {
    calm: Duration,
    enough_since: Option<Duration>,
    proposed_at: Option<Duration>,
}

impl Default for Space {
    fn default() -> Space {
        Space::new(CALM)
    }
}

impl Space {
    /// An alarm ends once its cause has been away for so long; a minute where nobody waits for it.
    #[must_use]
    pub fn new(calm: Duration) -> Space {
        Space { calm, enough_since: None, proposed_at: None }
    }

    /// What to propose now, if anything.
    pub fn step(&mut self, now: Duration, sight: &Sight) -> Option<Command> {
        let used_percent = |quota: u64| sight.in_use.saturating_mul(100) / quota.max(1);
        let fits = sight.quota.is_none_or(|quota| used_percent(quota) < ENOUGH_PERCENT);
        if fits && !sight.disk_full {
            self.enough_since.get_or_insert(now);
        } else {
            self.enough_since = None;
        }
        let change = self.change(now, sight)?;
        if self.proposed_at.is_some_and(|at| now < at + RETRY) {
            return None;
        }
        self.proposed_at = Some(now);
        Some(change)
    }

    fn change(&self, now: Duration, sight: &Sight) -> Option<Command> {
        let alarm = |action, member| Command::Alarm { action, member, kind: AlarmKind::NoSpace };
        if sight.disk_full && !sight.raised.contains(&sight.own) {
            return Some(alarm(AlarmAction::Activate, sight.own));
        }
        if self.enough_since.is_none_or(|since| now < since + self.calm) {
            return None;
        }
        // space invariant 1
        let ends = |member: &u64| {
            *member == sight.own || (sight.leads && !sight.connected.contains(member))
        };
        let member = sight.raised.iter().copied().find(ends)?;
        Some(alarm(AlarmAction::Deactivate, member))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight() -> Sight {
        Sight { own: 1, quota: Some(1000), in_use: 100, ..Sight::default() }
    }

    fn alarm(action: AlarmAction, member: u64) -> Option<Command> {
        Some(Command::Alarm { action, member, kind: AlarmKind::NoSpace })
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_full_disk_raises_the_alarm_until_it_is_raised() {
        let mut space = Space::default();
        let full = Sight { disk_full: true, ..sight() };
        assert_eq!(space.step(seconds(0), &sight()), None);
        assert_eq!(space.step(seconds(1), &full), alarm(AlarmAction::Activate, 1));
        assert_eq!(space.step(seconds(2), &full), None, "it is under way");
        assert_eq!(space.step(seconds(6), &full), alarm(AlarmAction::Activate, 1));
        let raised = Sight { raised: vec![1], ..full };
        assert_eq!(space.step(seconds(100), &raised), None);
    }

    #[test]
    fn the_alarm_ends_once_there_has_been_space_for_a_minute() {
        let mut space = Space::default();
        let raised = |in_use| Sight { raised: vec![1], in_use, ..sight() };
        assert_eq!(space.step(seconds(0), &raised(950)), None);
        assert_eq!(space.step(seconds(10), &raised(890)), None);
        assert_eq!(space.step(seconds(69), &raised(890)), None);
        assert_eq!(space.step(seconds(70), &raised(890)), alarm(AlarmAction::Deactivate, 1));
        assert_eq!(space.step(seconds(71), &raised(900)), None, "it is full again");
        assert_eq!(space.step(seconds(130), &raised(890)), None);
        assert_eq!(space.step(seconds(190), &raised(890)), alarm(AlarmAction::Deactivate, 1));
    }

    #[test]
    fn the_leader_ends_the_alarms_of_those_that_are_gone() {
        let gone = |leads| {
            let mut space = Space::default();
            let sight = Sight { leads, raised: vec![2, 3], connected: vec![2], ..sight() };
            assert_eq!(space.step(seconds(0), &sight), None);
            space.step(seconds(60), &sight)
        };
        assert_eq!(gone(true), alarm(AlarmAction::Deactivate, 3), "member 2 ends its own");
        assert_eq!(gone(false), None);
    }
}
