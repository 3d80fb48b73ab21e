//! What the machine itself can do: the bounds below which no server can go.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use crate::error::BenchError;
use crate::latency::{Latency, Recorder};

/// The size of one write of the disk's floor.
const BLOCK_BYTES: usize = 4096;
/// The file written over and over, so that no write makes it grow.
const FILE_BYTES: usize = 4 << 20;
/// Enough for a p99; about 60 ms on a fast disk.
const WRITES: usize = 500;
/// The size of a ping.
const PING_BYTES: usize = 64;
/// Enough for a p99; about 40 ms.
const PINGS: usize = 3000;

/// Both floors.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Floor {
    /// Write 4 KiB into a file that is already written, then fdatasync.
    pub fdatasync: Latency,
    /// 64 bytes there and back over loopback TCP.
    pub ping_pong: Latency,
}

/// Measures both floors, the disk's in a file made and removed in `folder`.
///
/// # Errors
///
/// [`BenchError::Floor`].
pub fn measure(folder: &Path) -> Result<Floor, BenchError> {
    let disk = |error| BenchError::Floor { what: "write and fdatasync", error };
    let loopback = |error| BenchError::Floor { what: "loopback ping-pong", error };
    Ok(Floor {
        fdatasync: fdatasync(folder).map_err(disk)?,
        ping_pong: ping_pong().map_err(loopback)?,
    })
}

fn fdatasync(folder: &Path) -> io::Result<Latency> {
    let path = folder.join(format!(".jangada-floor-{}", std::process::id()));
    let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    let outcome = write_and_sync(file);
    std::fs::remove_file(&path)?;
    outcome
}

fn write_and_sync(mut file: File) -> io::Result<Latency> {
    file.write_all(&vec![1; FILE_BYTES])?;
    file.sync_all()?;
    let mut recorder = Recorder::default();
    let block = [2; BLOCK_BYTES];
    for number in 0..WRITES {
        let offset = number * BLOCK_BYTES % FILE_BYTES;
        let begin = Instant::now();
        file.seek(SeekFrom::Start(offset as u64))?;
        file.write_all(&block)?;
        file.sync_data()?;
        recorder.record(begin.elapsed());
    }
    Ok(recorder.latency())
}

fn ping_pong() -> io::Result<Latency> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let echo = std::thread::spawn(move || answer(server));
    let mut recorder = Recorder::default();
    let mut ping = [3; PING_BYTES];
    for _ in 0..PINGS {
        let begin = Instant::now();
        client.write_all(&ping)?;
        client.read_exact(&mut ping)?;
        recorder.record(begin.elapsed());
    }
    drop(client);
    // The answering side ends when the client is gone; its end says nothing more.
    let _ = echo.join();
    Ok(recorder.latency())
}

fn answer(mut server: TcpStream) -> io::Result<()> {
    let mut ping = [0; PING_BYTES];
    loop {
        server.read_exact(&mut ping)?;
        server.write_all(&ping)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_floors_are_measured_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let floor = measure(folder.path()).expect("a writable directory");
        assert_eq!(floor.fdatasync.count, WRITES as u64);
        assert_eq!(floor.ping_pong.count, PINGS as u64);
        assert_eq!(folder.path().read_dir().expect("it is there").count(), 0);
    }

    #[test]
    fn a_folder_that_is_not_there_gets_a_sentence() {
        let error = measure(Path::new("/nowhere/at/all")).expect_err("no such folder");
        assert!(error.to_string().starts_with("the floor (write and fdatasync)"), "{error}");
    }
}
