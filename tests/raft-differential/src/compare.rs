//! Runs a schedule on two clusters and says where they differ, or where one of them is wrong.
//!
//! Of each cluster: every command is applied at most once, and commands keep the order in which they
//! were proposed; whatever was acknowledged is applied by all members; once everything is healed a
//! leader is elected, takes commands, and all members end with the same sequence. Of both: where the
//! schedule is determined, the same members lead after each action, the same commands are
//! acknowledged, and the sequences are equal; where it is open, both end with the last commands.

use std::collections::BTreeSet;

use crate::cluster::{Cluster, Links};
use crate::schedule::{Action, Kind, LONG_TICKS, Schedule};

/// How many commands are proposed once everything is healed.
const LAST_COMMANDS: u64 = 3;

/// How often, once everything is healed, each member may try to become leader.
const ROUNDS_MAX: u64 = 5;

/// Numbers that no command of a schedule has.
const LAST_FIRST: u64 = 1 << 32;

/// What a schedule came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// Commands that were acknowledged, by both together.
    pub acknowledged: u64,
    /// Commands that a member took and that are nowhere in the end, by both together.
    pub lost: u64,
    /// How often a member began to lead, in the first cluster.
    pub elections: u64,
}

/// One cluster under a schedule, with what was seen of it.
struct Under<'a> {
    name: &'static str,
    cluster: &'a mut dyn Cluster,
    taken: BTreeSet<u64>,
    leaders: BTreeSet<u64>,
    elections: u64,
}

/// Runs a schedule on two clusters.
///
/// # Errors
/// A sentence: what differs, or what is wrong.
pub fn compare<'a>(
    schedule: &Schedule,
    one: (&'static str, &'a mut dyn Cluster),
    other: (&'static str, &'a mut dyn Cluster),
) -> Result<Outcome, String> {
    let mut both = [one, other].map(|(name, cluster)| Under {
        name,
        cluster,
        taken: BTreeSet::new(),
        leaders: BTreeSet::new(),
        elections: 0,
    });
    let mut links = Links::default();
    for (place, action) in schedule.actions.iter().enumerate() {
        change(&mut links, action);
        for under in &mut both {
            under.act(schedule, action, &links);
            under.look(schedule.members);
        }
        let [one, other] = &both;
        if schedule.kind == Kind::Determined {
            let same = one.leaders == other.leaders
                && one.taken == other.taken
                && one.cluster.acknowledged() == other.cluster.acknowledged();
            if !same {
                return Err(format!(
                    "after action {place}, {action:?}: {}; {}",
                    one.describe(),
                    other.describe()
                ));
            }
        }
    }
    for under in &mut both {
        under.heal(schedule.members)?;
        under.judge(schedule.members)?;
    }
    let [one, other] = &both;
    let sequences = [one, other].map(|under| under.cluster.applied(1));
    if schedule.kind == Kind::Determined && sequences[0] != sequences[1] {
        return Err(format!(
            "{} ends with {:?}, {} with {:?}",
            one.name, sequences[0], other.name, sequences[1]
        ));
    }
    let acknowledged = both.iter().map(|under| under.cluster.acknowledged().len() as u64).sum();
    let taken: u64 = both.iter().map(|under| under.taken.len() as u64).sum();
    let kept: u64 = both.iter().map(|under| under.cluster.applied(1).len() as u64).sum();
    Ok(Outcome { acknowledged, lost: taken - kept, elections: both[0].elections })
}

fn change(links: &mut Links, action: &Action) {
    match action {
        Action::Cut(cut) => cut.iter().for_each(|(from, to)| links.cut(*from, *to)),
        Action::Heal => links.heal(),
        _ => {}
    }
}

impl Under<'_> {
    fn act(&mut self, schedule: &Schedule, action: &Action, links: &Links) {
        match action {
            Action::Propose(first) => {
                for member in 1..=schedule.members {
                    self.propose(member, first + member - 1);
                }
            }
            Action::Campaign(member) => self.cluster.campaign(*member),
            Action::Tick(ticks) => {
                for _ in 0..*ticks {
                    self.tick(schedule.members);
                    self.pass(schedule.kind, links);
                }
            }
            Action::Crash(member) => self.cluster.crash(*member),
            Action::Restart(member) => self.cluster.restart(*member),
            Action::Deliver(each) => {
                self.cluster.deliver(links, *each);
            }
            Action::Cut(_) | Action::Heal => {}
        }
        if schedule.kind == Kind::Determined {
            self.cluster.settle(links);
        }
    }

    /// Between two ticks there is time for everything that is under way, or for some of it.
    fn pass(&mut self, kind: Kind, links: &Links) {
        match kind {
            Kind::Determined => self.cluster.settle(links),
            Kind::Open => {
                self.cluster.deliver(links, 2);
            }
        }
    }

    fn tick(&mut self, members: u64) {
        (1..=members).for_each(|member| self.cluster.tick(member));
    }

    fn propose(&mut self, member: u64, command: u64) -> bool {
        let taken = self.cluster.leads(member) && self.cluster.propose(member, command);
        if taken {
            self.taken.insert(command);
        }
        taken
    }

    fn look(&mut self, members: u64) {
        let leaders: BTreeSet<u64> =
            (1..=members).filter(|member| self.cluster.leads(*member)).collect();
        self.elections += leaders.difference(&self.leaders).count() as u64;
        self.leaders = leaders;
    }

    /// Everything works again: a leader must come, take commands, and have them applied by all.
    fn heal(&mut self, members: u64) -> Result<(), String> {
        let links = Links::default();
        (1..=members).for_each(|member| self.cluster.restart(member));
        self.cluster.settle(&links);
        for _ in 0..3 {
            self.tick(members);
            self.cluster.settle(&links);
        }
        for attempt in 0..ROUNDS_MAX * members {
            self.look(members);
            if self.leaders.len() == 1 {
                break;
            }
            for _ in 0..LONG_TICKS {
                self.tick(members);
                self.cluster.settle(&links);
            }
            self.cluster.campaign(attempt % members + 1);
            self.cluster.settle(&links);
        }
        let [leader] = self.leaders.iter().copied().collect::<Vec<_>>()[..] else {
            return Err(format!("{} does not elect a leader: {}", self.name, self.describe()));
        };
        for command in LAST_FIRST..LAST_FIRST + LAST_COMMANDS {
            if !self.propose(leader, command) {
                return Err(format!("{}: leader {leader} takes no command", self.name));
            }
            self.cluster.settle(&links);
        }
        for _ in 0..3 {
            self.tick(members);
            self.cluster.settle(&links);
        }
        Ok(())
    }

    fn judge(&self, members: u64) -> Result<(), String> {
        let sequence = self.cluster.applied(1);
        for member in 2..=members {
            let other = self.cluster.applied(member);
            if other != sequence {
                return Err(format!(
                    "{}: member 1 has applied {sequence:?}, member {member} {other:?}",
                    self.name
                ));
            }
        }
        if !sequence.windows(2).all(|pair| pair[0] < pair[1]) {
            return Err(format!("{}: out of order or twice: {sequence:?}", self.name));
        }
        if let Some(command) = sequence.iter().find(|command| !self.taken.contains(command)) {
            return Err(format!("{}: {command} was taken by nobody: {sequence:?}", self.name));
        }
        let acknowledged = self.cluster.acknowledged();
        if let Some(lost) = acknowledged.iter().find(|it| sequence.binary_search(it).is_err()) {
            return Err(format!(
                "{}: {lost} was acknowledged and is lost: {sequence:?}",
                self.name
            ));
        }
        if !acknowledged.windows(2).all(|pair| pair[0] < pair[1]) {
            return Err(format!("{}: acknowledged out of order: {acknowledged:?}", self.name));
        }
        let ends = (LAST_FIRST..LAST_FIRST + LAST_COMMANDS).all(|last| {
            sequence.binary_search(&last).is_ok() && acknowledged.binary_search(&last).is_ok()
        });
        if !ends {
            return Err(format!("{}: the last commands are not done: {sequence:?}", self.name));
        }
        Ok(())
    }

    fn describe(&self) -> String {
        format!(
            "{}: led by {:?}, has taken {:?}, acknowledged {:?}",
            self.name,
            self.leaders,
            self.taken,
            self.cluster.acknowledged()
        )
    }
}
