//! The durable log.

mod disk;

pub use disk::{Disk, File};
