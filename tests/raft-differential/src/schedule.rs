//! Schedules: what clients do and what goes wrong, decided by a seed and by nothing that an
//! implementation does.

/// One thing that happens to both clusters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Every member that leads is asked to take a command of its own; the numbers are as many as
    /// there are members, from this one on.
    Propose(u64),
    /// A member's election timer fires.
    Campaign(u64),
    /// All clocks go on by one, so many times.
    Tick(u64),
    /// These links lose everything from here on, in one direction each.
    Cut(Vec<(u64, u64)>),
    /// All links work.
    Heal,
    /// A process ends.
    Crash(u64),
    /// A process begins.
    Restart(u64),
    /// On each link so many messages arrive; all others wait.
    Deliver(usize),
}

/// How much a schedule leaves open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Messages are delivered until there are none after each action, links are cut both ways, and
    /// time passes before what was cut is heard of again: everything that Raft leaves open is decided by
    /// the schedule, so both clusters must do the same, step by step.
    Determined,
    /// Anything goes; the clusters may differ in what they lose.
    Open,
}

/// A schedule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schedule {
    /// How much it leaves open.
    pub kind: Kind,
    /// How many members there are.
    pub members: u64,
    /// What happens.
    pub actions: Vec<Action>,
}

/// Longer than any leader stays without a quorum, and than any member withholds its vote.
pub const LONG_TICKS: u64 = 25;

impl Schedule {
    /// The schedule of a seed.
    pub fn of_seed(seed: u64) -> Schedule {
        let mut random = fastrand::Rng::with_seed(seed);
        let kind = if random.bool() { Kind::Determined } else { Kind::Open };
        let members = if random.u8(..4) == 0 { 5 } else { 3 };
        let mut draft = Draft { random, kind, members, actions: Vec::new(), commands: 0 };
        draft.push(Action::Campaign(1));
        draft.push(Action::Tick(1));
        for _ in 0..draft.random.u64(10..40) {
            draft.scene();
        }
        Schedule { kind, members, actions: draft.actions }
    }
}

struct Draft {
    random: fastrand::Rng,
    kind: Kind,
    members: u64,
    actions: Vec<Action>,
    commands: u64,
}

impl Draft {
    fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn member(&mut self) -> u64 {
        self.random.u64(1..=self.members)
    }

    fn propose(&mut self) {
        for _ in 0..self.random.u64(1..4) {
            let first = self.commands;
            self.commands += self.members;
            self.push(Action::Propose(first));
        }
    }

    /// A few actions that belong together.
    fn scene(&mut self) {
        if self.kind == Kind::Open && self.random.bool() {
            let each = self.random.usize(1..4);
            self.push(Action::Deliver(each));
        }
        match self.random.u8(..14) {
            0..4 => self.propose(),
            4 => {
                let ticks = self.random.u64(1..4);
                self.push(Action::Tick(ticks));
            }
            5 => {
                // Of no use while a leader is heard, in either implementation.
                let member = self.member();
                self.push(Action::Campaign(member));
            }
            6 => {
                let member = self.member();
                self.push(Action::Crash(member));
                self.propose();
            }
            7 | 8 => {
                let member = self.member();
                self.push(Action::Restart(member));
                self.push(Action::Tick(2));
            }
            9 | 10 => {
                self.cut();
                self.propose();
                let ticks = *self.random.choice(&[1, 3, LONG_TICKS]).expect("not empty");
                self.push(Action::Tick(ticks));
                for _ in 0..self.random.u8(..3) {
                    let member = self.member();
                    self.push(Action::Campaign(member));
                    self.push(Action::Tick(1));
                }
                self.propose();
            }
            11 => {
                self.push(Action::Heal);
                self.push(Action::Tick(3));
            }
            _ => {
                // A new leader without a fault: everyone loses patience first.
                self.cut_all();
                self.push(Action::Tick(LONG_TICKS));
                self.push(Action::Heal);
                let member = self.member();
                self.push(Action::Campaign(member));
                self.push(Action::Tick(2));
            }
        }
    }

    /// Cuts some links on top of those that are cut.
    fn cut(&mut self) {
        let mut links = Vec::new();
        let shape = self.random.u8(..3);
        let alone = self.member();
        for from in 1..=self.members {
            for to in from + 1..=self.members {
                let is_apart = match shape {
                    0 => from == alone || to == alone,
                    1 => (from <= self.members / 2) != (to <= self.members / 2),
                    _ => self.random.u8(..10) < 4,
                };
                if !is_apart {
                    continue;
                }
                let ways = match self.kind {
                    Kind::Determined => [true, true],
                    Kind::Open => [self.random.u8(..4) != 0, self.random.u8(..4) != 0],
                };
                let both = [(from, to), (to, from)].into_iter().zip(ways);
                links.extend(both.filter(|(_, is_cut)| *is_cut).map(|(link, _)| link));
            }
        }
        self.push(Action::Cut(links));
        if self.kind == Kind::Determined {
            self.push(Action::Tick(1));
        }
    }

    fn cut_all(&mut self) {
        let all = 1..=self.members;
        let links = all.clone().flat_map(|from| all.clone().map(move |to| (from, to)));
        let links = links.filter(|(from, to)| from != to).collect();
        self.push(Action::Cut(links));
    }
}
