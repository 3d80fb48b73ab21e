//! How fast the log appends, beside the floor of the same disk: a bare write and `fdatasync` of the
//! same number of bytes into a file that was filled with zeros before.
//!
//! `cargo run --release -p jangada-wal --example append -- [folder] [payload bytes] [entries]`

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jangada_entry::{Draft, Frame, Kind, Origin};
use jangada_raft::{Configuration, HardState, Index, NodeId, Position, Term};
use jangada_wal::{Batch, Disk, File, FileDisk, Identity, Options, Wal};

/// How long the measurement takes.
const DURATION: Duration = Duration::from_millis(2800);

/// The floor's file is written from its beginning again when it is full.
const FLOOR_FILE_BYTES: u64 = 64 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().map_or_else(|| PathBuf::from("."), PathBuf::from);
    let payload_bytes: usize = arguments.next().map_or(Ok(256), |text| text.parse())?;
    let entries: usize = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let folder = parent.join(format!("append-{}", std::process::id()));
    let result = measure(&folder, payload_bytes, entries);
    std::fs::remove_dir_all(&folder)?;
    result
}

fn measure(folder: &Path, payload_bytes: usize, entries: usize) -> Result<(), Box<dyn Error>> {
    println!("{entries} entries of {payload_bytes} bytes in each batch");
    let disk = FileDisk::open(folder)?;
    let identity = Identity { cluster: 1, member: 1, incarnation: 0, group: 0 };
    let configuration = Configuration::of_voters([NodeId(1)]);
    let (mut wal, _) = Wal::create(disk.clone(), Options::default(), identity, configuration)?;
    let mut floor = Floor::new(&disk)?;
    let before = wal.bytes();
    append(&mut wal, entries, payload_bytes)?;
    let bytes = usize::try_from(wal.bytes() - before)?;
    let piece = vec![7; bytes];
    let mut times = [Vec::new(), Vec::new()];
    // Turn by turn, so that both meet the same disk.
    let start = Instant::now();
    while start.elapsed() < DURATION {
        times[0].push(append(&mut wal, entries, payload_bytes)?);
        times[1].push(floor.write(&piece)?);
        if let Some(preparation) = wal.preparation() {
            wal.prepared(preparation.run(&disk))?;
        }
    }
    let [log, floor] = times;
    let name = format!("write + fdatasync of {bytes} bytes");
    let log_median = print("append to the log", log, entries);
    let floor_median = print(&name, floor, entries);
    println!("p50 of the log / p50 of the floor: {:.2}", log_median / floor_median);
    Ok(())
}

/// Appends a batch and tells how long it took.
fn append(
    wal: &mut Wal<FileDisk>,
    entries: usize,
    payload_bytes: usize,
) -> Result<Duration, Box<dyn Error>> {
    let after = wal.last_position().index;
    let frames = frames(after, entries, payload_bytes);
    let hard_state = HardState { term: Term(1), vote: Some(NodeId(1)) };
    let batch = Batch { hard_state, note: None, after, entries: &frames };
    let begun = Instant::now();
    wal.append(&batch)?;
    Ok(begun.elapsed())
}

/// Entries behind `after`.
fn frames(after: Index, entries: usize, payload_bytes: usize) -> Vec<Frame> {
    let frame = |at: u64| {
        let mut payload = Draft::buffer(payload_bytes);
        payload.resize(payload.len() + payload_bytes, 7);
        let position = Position { index: Index(after.0 + at), term: Term(1) };
        Draft::new(payload, Kind::Command, 1, 0, Origin::default()).stamp(position, 0)
    };
    (1..=entries as u64).map(frame).collect()
}

/// A file that was filled with zeros, for bare writes.
struct Floor {
    file: <FileDisk as Disk>::File,
    at: u64,
}

impl Floor {
    fn new(disk: &FileDisk) -> Result<Floor, Box<dyn Error>> {
        let file = disk.create("floor")?;
        let zeros = vec![0; 1 << 20];
        for at in (0..FLOOR_FILE_BYTES).step_by(zeros.len()) {
            file.write_at(at, &[&zeros])?;
        }
        file.sync()?;
        Ok(Floor { file, at: 0 })
    }

    /// Writes and syncs, and tells how long it took.
    fn write(&mut self, piece: &[u8]) -> Result<Duration, Box<dyn Error>> {
        if FLOOR_FILE_BYTES < self.at + piece.len() as u64 {
            self.at = 0;
        }
        let begun = Instant::now();
        self.file.write_at(self.at, &[piece])?;
        self.file.sync()?;
        self.at += piece.len() as u64;
        Ok(begun.elapsed())
    }
}

/// Prints a line and returns the median in microseconds.
fn print(name: &str, mut times: Vec<Duration>, entries: usize) -> f64 {
    times.sort_unstable();
    let at = |part: f64| {
        let rank = (times.len() as f64 * part) as usize;
        times[rank.min(times.len() - 1)].as_secs_f64() * 1e6
    };
    let total: f64 = times.iter().map(Duration::as_secs_f64).sum();
    println!(
        "{name}: {:.0} batches/s, {:.0} entries/s, p50 {:.0} us, p99 {:.0} us",
        times.len() as f64 / total,
        (times.len() * entries) as f64 / total,
        at(0.5),
        at(0.99)
    );
    at(0.5)
}
