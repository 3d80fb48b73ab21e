//! The CPU time that was used: it says what work costs also where others use the cores, too.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What the calling thread has used since it began.
#[must_use]
pub fn thread() -> Duration {
    read(ClockId::ThreadCPUTime)
}

/// What all threads of this process have used since it began, also those that have ended.
#[must_use]
pub fn process() -> Duration {
    read(ClockId::ProcessCPUTime)
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).expect("time that was used is not negative");
    let nanoseconds = u32::try_from(time.tv_nsec).expect("below a thousand million");
    Duration::new(seconds, nanoseconds)
}

#[cfg(test)]
mod tests {
    #[test]
    fn work_uses_time() {
        let (thread, process) = (super::thread(), super::process());
        let mut sum = 0_u64;
        while super::thread() == thread {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(process < super::process());
    }
}
