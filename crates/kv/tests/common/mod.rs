//! What the tests share: a naive model of the store and a file in memory that can crash.

pub(crate) mod disk;
pub(crate) mod model;
