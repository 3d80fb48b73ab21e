//! When the consensus module's timers fire.
//!
//! The module has no clock and no randomness: it asks for a timer to be set anew, and the member
//! draws and keeps the deadline. Deadlines are measured on the member's own monotonic clock alone.

use jangada_raft::Timer;

/// The clocks as the driver reads them at a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Microseconds on a clock that never goes back and has any origin.
    pub monotonic_us: u64,
    /// Milliseconds since the Unix epoch, as the machine believes. Only the leader's is used, to
    /// stamp entries, and never as proof of anything.
    pub wall_ms: u64,
}

/// The range from which an election that follows a broken connection is drawn (microseconds): long
/// enough for the survivors not to collide, short against anything a client notices.
const ELECTION_SOON_US: std::ops::Range<u64> = 1_000..10_000;

/// The deadlines of a member.
#[derive(Debug)]
pub(super) struct Timers {
    heartbeat_interval_us: u64,
    election_timeout_us: u64,
    /// No election timer has been set since the start.
    first: bool,
    /// One place for each timer in [`ALL`].
    deadlines: [Option<u64>; ALL.len()],
    random: fastrand::Rng,
}

const ALL: [Timer; 6] = [
    Timer::Heartbeat,
    Timer::QuorumCheck,
    Timer::Quiet,
    Timer::Election,
    Timer::ElectionSoon,
    Timer::Transfer,
];

impl Timers {
    /// The timers of a member that has just started; none runs until the module asks.
    ///
    /// The member knows of no leader, and a pre-vote disturbs nobody, so the first election comes
    /// after one to three heartbeat intervals: time enough for a leader to make itself heard, and
    /// short enough for a new cluster to serve at once.
    pub(super) fn new(
        heartbeat_interval_us: u64,
        election_timeout_us: u64,
        random: fastrand::Rng,
    ) -> Timers {
        let deadlines = [None; ALL.len()];
        Timers { heartbeat_interval_us, election_timeout_us, first: true, deadlines, random }
    }

    fn place(&mut self, timer: Timer) -> &mut Option<u64> {
        &mut self.deadlines[ALL.iter().position(|t| *t == timer).expect("every timer has a place")]
    }

    pub(super) fn restart(&mut self, timer: Timer, now: Now) {
        let timeout = self.election_timeout_us;
        let after = match timer {
            Timer::Heartbeat => self.heartbeat_interval_us,
            Timer::QuorumCheck | Timer::Quiet | Timer::Transfer => timeout,
            Timer::Election if std::mem::take(&mut self.first) => {
                self.random.u64(self.heartbeat_interval_us..=3 * self.heartbeat_interval_us)
            }
            Timer::Election => self.random.u64(timeout..2 * timeout),
            Timer::ElectionSoon => self.random.u64(ELECTION_SOON_US),
        };
        *self.place(timer) = Some(now.monotonic_us + after);
    }

    /// Takes the next timer that is due, if one is.
    pub(super) fn due(&mut self, now: Now) -> Option<Timer> {
        let at = (0..ALL.len())
            .filter(|at| self.deadlines[*at].is_some_and(|deadline| deadline <= now.monotonic_us))
            .min_by_key(|at| self.deadlines[*at])?;
        self.deadlines[at] = None;
        Some(ALL[at])
    }

    /// When the next timer is due, in microseconds of the monotonic clock.
    pub(super) fn next(&self) -> Option<u64> {
        self.deadlines.iter().flatten().copied().min()
    }
}
