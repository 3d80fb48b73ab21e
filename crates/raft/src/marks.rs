//! Coverage marks: names for the branches that a test is meant to reach.
//!
//! A test that passes because its case never came up proves nothing. The code says
//! `mark!(stale_rejection_ignored)` where the case is decided; the scenario scripts print the marks
//! that each command reached, and the randomised tests demand that every mark was reached.
//!
//! Marks exist in builds with debug assertions only. They are no part of a member's state.

#[cfg(debug_assertions)]
thread_local! {
    static REACHED: std::cell::RefCell<std::collections::BTreeSet<&'static str>> =
        const { std::cell::RefCell::new(std::collections::BTreeSet::new()) };
}

/// The marks that this thread has reached since the last call, in the order of their names. Always
/// empty in builds without debug assertions.
#[must_use]
pub fn take() -> Vec<&'static str> {
    #[cfg(debug_assertions)]
    return REACHED
        .with(|reached| std::mem::take(&mut *reached.borrow_mut()).into_iter().collect());
    #[cfg(not(debug_assertions))]
    Vec::new()
}

/// Takes note that the mark `name` was reached; said through `mark!`.
#[inline]
pub(crate) fn reach(name: &'static str) {
    #[cfg(debug_assertions)]
    REACHED.with(|reached| reached.borrow_mut().insert(name));
    #[cfg(not(debug_assertions))]
    let _ = name;
}

macro_rules! mark {
    ($name:ident) => {
        crate::marks::reach(stringify!($name))
    };
}
