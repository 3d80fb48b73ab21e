//! Known bugs of others, each put back by a switch, to show that the checks find them.
//!
//! The code says `canon!(name)` where a bug would take another way. In builds without the feature
//! `canon`, which is every build that ships, that is the constant `false`, and the way is not there.
//! With the feature, one bug at a time can be put back for the whole process. This crate knows no
//! other that has such switches, so it has its own. Which bugs there are, and what finds them, is
//! told by `docs/canon.md`.

#[cfg(feature = "canon")]
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// The number of the bug that is put back; 0 for none.
#[cfg(feature = "canon")]
static PUT_BACK: AtomicU64 = AtomicU64::new(0);

/// Whether the code has come to the place of that bug since.
#[cfg(feature = "canon")]
static REACHED: AtomicBool = AtomicBool::new(false);

/// Puts a bug back for the whole process in place of the one before, or none.
#[cfg(feature = "canon")]
pub fn put_back(bug: Option<&str>) {
    REACHED.store(false, Relaxed);
    PUT_BACK.store(bug.map_or(0, number_of), Relaxed);
}

/// Whether the code has come to the place of the bug that is put back: it may be at work.
#[cfg(feature = "canon")]
#[must_use]
pub fn is_reached() -> bool {
    REACHED.load(Relaxed)
}

/// Whether the bug of this number is put back; said through `canon!`.
#[cfg(feature = "canon")]
#[inline]
#[must_use]
pub fn is_back(number: u64) -> bool {
    let back = PUT_BACK.load(Relaxed) == number;
    if back {
        REACHED.store(true, Relaxed);
    }
    back
}

/// No bug is ever put back in a build without the feature `canon`.
#[cfg(not(feature = "canon"))]
#[inline(always)]
#[must_use]
pub const fn is_back(_number: u64) -> bool {
    false
}

/// The number that stands for a bug's name, never 0 (FNV-1a).
#[must_use]
pub const fn number_of(name: &str) -> u64 {
    let bytes = name.as_bytes();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        at += 1;
    }
    hash | 1
}

/// Whether the bug of this name is put back: always `false` without the feature `canon`.
macro_rules! canon {
    ($bug:ident) => {
        crate::canon::is_back(const { crate::canon::number_of(stringify!($bug)) })
    };
}
