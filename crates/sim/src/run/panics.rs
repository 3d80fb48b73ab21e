//! A part under test that stops says why: the panic is caught, kept as a reason, and not printed by
//! the standard library beside the report.

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

/// A panic that was caught.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Panic {
    /// The file and line.
    pub(crate) place: String,
    /// What it said.
    pub(crate) said: String,
}

impl Panic {
    /// Lets it go on, for whoever catches it further out.
    pub(crate) fn goes_on(self) -> ! {
        CAUGHT.set(Some(self));
        panic::resume_unwind(Box::new(()))
    }
}

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    static CAUGHT: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Does something that may panic. Panics of other threads, and of this one elsewhere, are told as
/// ever.
pub(crate) fn caught<T>(act: impl FnOnce() -> T) -> Result<T, Panic> {
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if CATCHING.get() {
                CAUGHT.set(Some(seen(info)));
            } else {
                usual(info);
            }
        }));
    });
    let outer = CATCHING.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(act));
    CATCHING.set(outer);
    result.map_err(|_| {
        let unseen = || Panic { place: String::new(), said: "a panic without a word".to_owned() };
        CAUGHT.take().unwrap_or_else(unseen)
    })
}

fn seen(info: &PanicHookInfo<'_>) -> Panic {
    let payload = info.payload();
    let text = payload.downcast_ref::<String>().cloned();
    let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    let place = info.location().map(|place| format!("{}:{}", place.file(), place.line()));
    Panic { place: place.unwrap_or_default(), said: text.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_caught_with_its_words_and_its_place() {
        let panic = caught(|| panic!("sums hold")).expect_err("it panics");
        assert_eq!(panic.said, "sums hold");
        assert!(panic.place.contains("panics.rs:"), "{}", panic.place);
        assert_eq!(caught(|| 7), Ok(7));
        let outer = caught(|| caught(|| panic!("sums hold")).map_err(|panic| panic.goes_on()));
        assert_eq!(
            outer.map(|inner: Result<(), ()>| inner).expect_err("it panics").said,
            "sums hold"
        );
    }
}
