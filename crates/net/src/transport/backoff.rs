//! Pauses between attempts to connect: none before the first, then short ones that double, with
//! jitter, so that members that were cut off together do not come back in step.

use std::time::Duration;

/// The pauses of one lane.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    /// The next pause before jitter; zero for the immediate attempt.
    next: Duration,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration) -> Backoff {
        Backoff { min, max, next: Duration::ZERO }
    }

    /// The next attempt is immediate again.
    pub(super) fn reset(&mut self) {
        self.next = Duration::ZERO;
    }

    /// The pause before the next attempt. `jitter` lies between 0 and 1 and takes off up to half.
    pub(super) fn pause(&mut self, jitter: f64) -> Duration {
        let pause = self.next.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0);
        self.next = (self.next * 2).clamp(self.min, self.max.max(self.min));
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_none_to_the_longest() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(10), ms(100));
        let pauses: Vec<_> = (0..7).map(|_| backoff.pause(0.0)).collect();
        assert_eq!(pauses, [ms(0), ms(10), ms(20), ms(40), ms(80), ms(100), ms(100)]);
        backoff.reset();
        assert_eq!(backoff.pause(0.0), ms(0));
    }

    #[test]
    fn jitter_takes_off_at_most_half() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(10));
        backoff.pause(0.0);
        assert_eq!(backoff.pause(1.0), Duration::from_millis(5));
        assert_eq!(backoff.pause(7.0), Duration::from_millis(5));
    }
}
