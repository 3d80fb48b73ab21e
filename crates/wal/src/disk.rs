//! The only way to files. Everything the log does to a disk goes through [`Disk`], so that a test
//! can stand in for the machine and break it.

use std::io;

/// A folder on a disk.
///
/// Names are plain file names without a path. What a method has done is durable only after
/// [`File::sync`] (for contents and length) and [`Disk::sync_directory`] (for names).
pub trait Disk: Send + 'static {
    /// An open file.
    type File: File;

    /// Creates an empty file and opens it.
    ///
    /// # Errors
    /// If the name exists, or the disk fails.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Opens a file that exists, to read and write.
    ///
    /// # Errors
    /// If there is no such name, or the disk fails.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Gives a file another name, in one step; a file of that name is replaced.
    ///
    /// # Errors
    /// If the disk fails.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// If the disk fails.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names in the folder, sorted.
    ///
    /// # Errors
    /// If the disk fails.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes creations, renames and removals durable.
    ///
    /// # Errors
    /// If the disk fails; never to be tried again.
    fn sync_directory(&self) -> io::Result<()>;
}

/// An open file.
pub trait File: Send + 'static {
    /// The length in bytes.
    ///
    /// # Errors
    /// If the disk fails.
    fn length(&self) -> io::Result<u64>;

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// If the file ends before the buffer is full ([`io::ErrorKind::UnexpectedEof`]), or the disk
    /// fails.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes the slices one after the other from `offset` on, as few system calls as possible; the
    /// file grows when needed.
    ///
    /// # Errors
    /// If the disk is full ([`io::ErrorKind::StorageFull`]) or fails; part may have been written.
    fn write_at(&self, offset: u64, slices: &[&[u8]]) -> io::Result<()>;

    /// Makes contents and length durable.
    ///
    /// # Errors
    /// If the disk fails. After a failed sync nothing is known about the file: the caller stops the
    /// process and never tries again (Rebello et al., ATC '20).
    fn sync(&self) -> io::Result<()>;
}
