//! Requests that begin when they are due, whatever became of those before them.
//!
//! A client that waits for an answer before it asks again asks less often while a server is slow, and so
//! leaves out of its figures what others would have waited ("coordinated omission"). Here requests are due
//! at a fixed rate, and one that begins late has its delay counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// How often requests are let go at the most: fine enough that the wait for it does not show beside a disk's sync,
/// coarse enough to cost little. A runtime's own timers count in milliseconds.
const STEP: Duration = Duration::from_micros(200);

/// How long the thread may take to see that it is to stop.
const STOP_WITHIN: Duration = Duration::from_millis(100);

/// Lets requests go at a rate.
pub(crate) struct Pace {
    begin: Instant,
    per_second: f64,
    due: Arc<Semaphore>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pace {
    /// From now on, so many requests a second, on a thread of its own.
    pub(crate) fn start(per_second: f64) -> Pace {
        let begin = Instant::now();
        let (due, stop) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicBool::new(false)));
        let (released, stopped) = (Arc::clone(&due), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut gone = 0;
            while !stopped.load(Ordering::Relaxed) {
                let all = (begin.elapsed().as_secs_f64() * per_second) as usize + 1;
                released.add_permits(all - gone);
                gone = all;
                let next = begin + Duration::from_secs_f64(gone as f64 / per_second);
                let left = next.saturating_duration_since(Instant::now());
                std::thread::sleep(left.clamp(STEP, STOP_WITHIN));
            }
        });
        Pace { begin, per_second, due, stop, thread: Some(thread) }
    }

    /// Waits until another request is due; answers whether one is.
    pub(crate) async fn wait(&self) -> bool {
        self.due.acquire().await.map(|permit| permit.forget()).is_ok()
    }

    /// No more are due.
    pub(crate) fn end(&self) {
        self.due.close();
    }

    /// When the request of this number is due.
    pub(crate) fn due(&self, number: u64) -> Instant {
        self.begin + Duration::from_secs_f64(number as f64 / self.per_second)
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It does nothing that could panic.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_request_goes_before_it_is_due() {
        let pace = Pace::start(10_000.0);
        crate::runtime::block_on(async {
            for number in 0..200 {
                assert!(pace.wait().await);
                assert!(pace.due(number) <= Instant::now(), "{number}");
            }
            pace.end();
            assert!(!pace.wait().await);
        });
    }
}
