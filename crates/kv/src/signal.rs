//! Wakes the thread that runs the engine's writer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A wake-up that costs one load while the thread is awake.
#[derive(Default)]
pub(crate) struct Signal {
    /// Whether the thread is about to sleep or sleeps until woken.
    idle: AtomicBool,
    woken: Mutex<bool>,
    condition: Condvar,
}

impl Signal {
    /// Wakes the thread if it sleeps until woken.
    pub(crate) fn wake(&self) {
        if self.idle.load(Ordering::SeqCst) {
            self.wake_always();
        }
    }

    /// Wakes the thread however it sleeps.
    pub(crate) fn wake_always(&self) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.condition.notify_one();
    }

    /// Announces that the thread is about to sleep until woken. It must look for work once more
    /// before it does: work that came before the announcement woke nobody.
    pub(crate) fn announce_idle(&self) {
        self.idle.store(true, Ordering::SeqCst);
    }

    /// Takes the announcement back.
    pub(crate) fn withdraw_idle(&self) {
        self.idle.store(false, Ordering::SeqCst);
    }

    /// Sleeps until woken or, if given, for as long.
    pub(crate) fn sleep(&self, timeout: Option<Duration>) {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        match timeout {
            Some(timeout) => {
                let slept = self.condition.wait_timeout_while(woken, timeout, |woken| !*woken);
                woken = slept.unwrap_or_else(PoisonError::into_inner).0;
            }
            None => {
                let slept = self.condition.wait_while(woken, |woken| !*woken);
                woken = slept.unwrap_or_else(PoisonError::into_inner);
            }
        }
        *woken = false;
    }
}
