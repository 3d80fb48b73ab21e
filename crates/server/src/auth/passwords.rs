//! Passwords: bcrypt, away from the threads that serve.
//!
//! Responsible for making and checking hashes, a few at a time. A hash is meant to take long: at the
//! default cost some fifty milliseconds of a processor.
//!
//! Invariants:
//! 1. No more than [`HASHES_AT_ONCE_MAX`] are worked on at a time, and no more than [`WAITING_MAX`] wait.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};

use bcrypt::Version;
use bytes::Bytes;
use jangada_kv::auth::PasswordHash;
use tokio::sync::Semaphore;
use tonic::Status;

use crate::errors::ApiError;

/// The costs that bcrypt has.
pub const BCRYPT_COSTS: RangeInclusive<u32> = 4..=31;

/// The cost unless the settings say otherwise; etcd's.
pub const BCRYPT_COST_DEFAULT: u32 = 10;

/// How many hashes are worked on at a time, whatever the machine has: a flood of logins must leave
/// processors to the rest.
const HASHES_AT_ONCE_MAX: usize = 4;

/// How many wait for their turn. Behind so many one would wait for longer than a request may take.
const WAITING_MAX: usize = 256;

/// What bcrypt looks at of a password.
const PASSWORD_BYTES_MAX: usize = 72;

/// What a client is told of a password that bcrypt would cut: Go's sentence, which etcd passes on.
const TOO_LONG: &str = "bcrypt: password length exceeds 72 bytes";

/// Makes and checks hashes.
#[derive(Debug)]
pub(crate) struct Passwords {
    cost: u32,
    places: Semaphore,
    waiting: AtomicUsize,
}

impl Passwords {
    pub(super) fn new(cost: u32) -> Passwords {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let places = (processors / 2).clamp(1, HASHES_AT_ONCE_MAX);
        Passwords { cost, places: Semaphore::new(places), waiting: AtomicUsize::new(0) }
    }

    /// What a password is to be held against.
    ///
    /// # Errors
    /// The password is longer than bcrypt looks at; [`ApiError::TooManyRequests`].
    pub(crate) async fn hash(&self, password: String) -> Result<PasswordHash, Status> {
        if PASSWORD_BYTES_MAX < password.len() {
            return Err(Status::unknown(TOO_LONG));
        }
        let cost = self.cost;
        let parts = self.work(move || bcrypt::hash_with_result(password, cost)).await?;
        let parts = parts.map_err(|error| Status::unknown(format!("bcrypt: {error}")))?;
        // The form that Go's implementation makes, for tools that read it.
        Ok(PasswordHash(Bytes::from(parts.format_for_version(Version::TwoA))))
    }

    /// Whether a password is the one that a hash was made of.
    ///
    /// # Errors
    /// [`ApiError::TooManyRequests`].
    pub(crate) async fn is_right(
        &self,
        password: String,
        hash: PasswordHash,
    ) -> Result<bool, ApiError> {
        self.work(move || {
            let hash = std::str::from_utf8(&hash.0).unwrap_or_default();
            bcrypt::verify(password, hash).unwrap_or(false)
        })
        .await
    }

    /// Does a piece of work on another thread. Without a runtime, as in the simulation, there is none.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return Ok(work());
        };
        let _waits = Waits::begin(&self.waiting).ok_or(ApiError::TooManyRequests)?;
        let place = self.places.acquire().await;
        let _place = place.expect("the semaphore is never closed");
        runtime.spawn_blocking(work).await.map_err(|_| ApiError::Stopped)
    }
}

/// Counted among those that wait or work, until it is dropped.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn begin(count: &'a AtomicUsize) -> Option<Waits<'a>> {
        let before = count.fetch_add(1, Ordering::Relaxed);
        let waits = Waits(count);
        (before < WAITING_MAX).then_some(waits)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: u32 = *BCRYPT_COSTS.start();

    #[tokio::test]
    async fn a_password_is_told_from_others() {
        let passwords = Passwords::new(CHEAP);
        let hash = passwords.hash("secret".to_owned()).await.expect("it is short");
        assert!(hash.0.starts_with(b"$2a$04$"));
        for (password, right) in [("secret", true), ("Secret", false), ("", false)] {
            let found = passwords.is_right(password.to_owned(), hash.clone()).await;
            assert_eq!(found, Ok(right), "{password}");
        }
        let none = PasswordHash::default();
        assert_eq!(passwords.is_right(String::new(), none).await, Ok(false));
    }

    #[tokio::test]
    async fn a_password_that_would_be_cut_is_refused() {
        let passwords = Passwords::new(CHEAP);
        let longest = "x".repeat(PASSWORD_BYTES_MAX);
        let hash = passwords.hash(longest.clone()).await.expect("it is not cut");
        assert_eq!(passwords.is_right(longest, hash).await, Ok(true));
        let refused = passwords.hash("x".repeat(73)).await.expect_err("it is too long");
        assert_eq!(refused.message(), TOO_LONG);
    }

    #[test]
    fn more_than_so_many_do_not_wait() {
        let count = AtomicUsize::new(WAITING_MAX - 1);
        let last = Waits::begin(&count);
        assert!(last.is_some());
        assert!(Waits::begin(&count).is_none());
        drop(last);
        assert_eq!(count.load(Ordering::Relaxed), WAITING_MAX - 1);
    }
}
