//! What is made of files and made again when they change.
//!
//! Looked at whenever it is wanted, that is at each handshake: a few `stat`s, microseconds beside the
//! handshake's own arithmetic.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use crate::error::TlsError;

/// What tells two states of a file apart: when it was changed, its size, which file it is (a link may
/// lead to another one).
type Stamp = Option<(SystemTime, u64, u64)>;

type Make<T> = Box<dyn Fn() -> Result<T, TlsError> + Send + Sync>;

/// A value made of files.
pub(crate) struct Reload<T> {
    paths: Vec<PathBuf>,
    make: Make<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    stamps: Vec<Stamp>,
    value: Option<Arc<T>>,
}

impl<T> Reload<T> {
    /// Made of these files; at once, if there are any, so that mistakes show at the start.
    pub(crate) fn new(
        paths: Vec<PathBuf>,
        make: impl Fn() -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Reload<T>, TlsError> {
        let stamps = paths.iter().map(stamp).collect();
        let value = if paths.is_empty() { None } else { Some(Arc::new(make()?)) };
        let state = Mutex::new(State { stamps, value });
        Ok(Reload { paths, make: Box::new(make), state })
    }

    /// The value as of the files now, or as of before if they cannot be used (crate invariant 1).
    pub(crate) fn current(&self) -> Result<Arc<T>, TlsError> {
        let mut state = self.state.lock().expect("nobody panics while holding it");
        // Before the files are read: what changes meanwhile is seen the next time.
        let stamps: Vec<Stamp> = self.paths.iter().map(stamp).collect();
        if let Some(value) = &state.value
            && stamps == state.stamps
        {
            return Ok(Arc::clone(value));
        }
        let made = (self.make)();
        state.stamps = stamps;
        match (made, &state.value) {
            (Ok(made), former) => {
                if former.is_some() {
                    tracing::info!("read the changed certificates and keys again");
                }
                let made = Arc::new(made);
                state.value = Some(Arc::clone(&made));
                Ok(made)
            }
            (Err(error), Some(former)) => {
                tracing::warn!(%error, "changed certificates cannot be used; the former ones stay");
                Ok(Arc::clone(former))
            }
            (Err(error), None) => Err(error),
        }
    }
}

fn stamp(path: &PathBuf) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

impl<T> std::fmt::Debug for Reload<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reload").field("paths", &self.paths).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_counts_and_a_broken_one_does_not() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("number");
        let write = |text: &str| {
            // Another file under the same name, as certificates are exchanged.
            let other = folder.path().join("other");
            std::fs::write(&other, text).expect("a file can be written");
            std::fs::rename(&other, &path).expect("a file can be moved");
        };
        write("1");
        let of = path.clone();
        let reload = Reload::new(vec![path.clone()], move || {
            let text = std::fs::read_to_string(&of).unwrap_or_default();
            text.parse::<u64>().map_err(|error| TlsError::Setting(error.to_string()))
        })
        .expect("the file holds a number");
        assert_eq!(*reload.current().expect("it was read"), 1);
        write("22");
        assert_eq!(*reload.current().expect("it was read"), 22);
        write("none");
        assert_eq!(*reload.current().expect("the former stays"), 22);
        std::fs::remove_file(&path).expect("it is there");
        assert_eq!(*reload.current().expect("the former stays"), 22);
        write("3");
        assert_eq!(*reload.current().expect("it was read"), 3);
    }
}
