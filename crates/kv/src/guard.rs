//! Turns a panic of the engine into a sentence.
//!
//! redb checks its file where it opens it after a crash, and trusts it otherwise: a page that a disk
//! has damaged can make it index beyond what is there. The member must stop then, and say why. What a
//! panic has left behind is never used again: the engine's owner gives it up after any error but a
//! lack of space.

use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::engine::EngineError;

/// Does something with the engine. A panic becomes [`EngineError::Corrupted`].
pub(crate) fn guarded<T>(act: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let text = text.unwrap_or("it cannot be understood");
        Err(EngineError::Corrupted(text.to_owned()))
    })
}

/// A part of the engine that may be dropped whatever has happened to it.
pub(crate) struct Guarded<T> {
    part: Option<T>,
}

impl<T> Guarded<T> {
    pub(crate) fn new(part: T) -> Guarded<T> {
        Guarded { part: Some(part) }
    }

    /// The part itself; from here on it is the caller's to drop.
    pub(crate) fn into_inner(mut self) -> T {
        self.part.take().expect("it is there until it is taken")
    }
}

impl<T> Deref for Guarded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.part.as_ref().expect("it is there until it is taken")
    }
}

impl<T> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.part.as_mut().expect("it is there until it is taken")
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        let part = self.part.take();
        // What made the engine fail was told when it did.
        let _ = guarded(|| {
            drop(part);
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    #[test]
    fn a_panic_is_an_error_with_its_text_and_a_drop_says_nothing() {
        let result: Result<(), EngineError> = guarded(|| panic!("page {} is odd", 7));
        assert_eq!(result, Err(EngineError::Corrupted("page 7 is odd".to_owned())));
        assert_eq!(guarded(|| Ok(3)), Ok(3));
        drop(Guarded::new(Bomb));
    }
}
