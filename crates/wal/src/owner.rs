//! Whose log a folder holds, before the log is opened.
//!
//! Responsible for reading an identity out of the segments' headers, so that a member's data
//! directory alone says who it is. Nothing is changed, and nothing else is judged: recovery does
//! that.

use crate::disk::Disk;
use crate::error::OpenError;
use crate::judge::segment_header;
use crate::layout::segment_name;
use crate::options::Identity;
use crate::recover::segment_numbers;
use crate::window::Window;

/// Whose log the folder holds: every sound segment says so. `None` when there is no log, or when no
/// segment's header is sound.
///
/// # Errors
/// If the folder belongs to another program, or the disk fails.
pub fn owner<D: Disk>(disk: &D) -> Result<Option<Identity>, OpenError> {
    for number in segment_numbers(&disk.list()?)? {
        let file = disk.open(&segment_name(number))?;
        let mut window = Window::new(&file)?;
        if let Ok(header) = segment_header(&mut window)
            && header.number == number
        {
            return Ok(Some(header.identity));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use jangada_raft::Configuration;

    use super::*;
    use crate::{MemoryDisk, Options, Wal};

    #[test]
    fn a_log_says_whose_it_is() {
        let disk = MemoryDisk::new();
        assert_eq!(owner(&disk).expect("an empty folder can be read"), None);
        let identity = Identity { cluster: 7, member: 8, incarnation: 9, group: 0 };
        let created =
            Wal::create(disk.clone(), Options::default(), identity, Configuration::default());
        drop(created.expect("a log can be made"));
        assert_eq!(owner(&disk).expect("it can be read"), Some(identity));
    }
}
