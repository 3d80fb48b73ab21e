//! The proof: the code that ships, on simulated disks, a simulated network and a simulated clock,
//! with everything going wrong that can, and every history checked.
//!
//! One seed, a byte string, decides everything ([`choices`]); the same seed run twice leaves the
//! same trace hash ([`trace`]). The parts under test are never changed for it: the log gets its
//! files through [`jangada_wal::Disk`] ([`disk`]), the engine through its storage backend
//! ([`engine_file`]), both by the same rules of damage ([`sectors`]).

pub mod choices;
pub mod disk;
pub mod engine_file;
pub mod faults;
pub mod history;
pub mod trace;

mod sectors;

pub use choices::Choices;
pub use disk::{DiskHandle, SimDisk, SimFile};
pub use engine_file::EngineFile;
pub use faults::{Fault, FaultCounts, FaultRates};
pub use sectors::SECTOR_BYTES;
pub use trace::Trace;
