//! The log alone: frames, bytes and syncs for each second, as the node drives it.
//!
//! ```text
//! cargo bench -p jangada-measure --bench log -- [--dir DIRECTORY]
//! ```
//!
//! The floor is a bare loop on the same disk: the same bytes in one write, then fdatasync, over and
//! over a file that is already written. The loop that appends to a growing file is what a log does
//! that prepares nothing. Only the time within the calls counts, not that of making entries.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Parser;
use jangada::entry::{Draft, Kind, Origin};
use jangada::wal::{self, FileDisk, Identity, Preparation, Prepared, Wal};
use jangada::{Configuration, Frame, Log, LogBatch, LogCut, NodeId};
use jangada_measure::{Arguments, Figure, Subject, Suite};
use jangada_raft::{HardState, Index, Position, Term, WriteNumber};

/// The size of a frame's payload.
const PAYLOAD_BYTES: usize = 256;
/// Writes of a log are whole sectors.
const SECTOR: usize = 512;
/// The floor's file: as large as a segment of the log becomes.
const FILE_BYTES: usize = 64 << 20;
/// What the log retains: some segments, so that it is cut while it is measured.
const TRAILING_BYTES: u64 = 128 << 20;
/// How often the log is cut, in batches: as seldom as the node does it, at some thousand syncs for
/// each second.
const CUT_BATCHES: u64 = 1024;
/// Written before anything is measured, until segments have the size that they keep.
const WARM_UP_BYTES: u64 = 160 << 20;

/// Frames, bytes and syncs for each second that the log makes durable.
#[derive(Parser)]
struct Options {
    /// Where the files are: on the disk to measure
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,
    #[command(flatten)]
    arguments: Arguments,
}

fn main() -> io::Result<()> {
    let Options { dir, arguments } = Options::parse();
    std::fs::create_dir_all(&dir)?;
    let mut suite = Suite::new("log", &arguments);
    for frames in [1, 16, 64, 256] {
        let scenario = format!("batches of {frames}");
        if !suite.wants(&scenario) {
            continue;
        }
        let folder = tempfile::tempdir_in(&dir)?;
        let mut driven = Driven::open(&folder.path().join("log"), frames);
        let mut floor = Bare::over(&folder.path().join("floor"), driven.batch_bytes())?;
        let mut growing = Bare::growing(&folder.path().join("growing"), driven.batch_bytes())?;
        driven.warm_up();
        let subjects = vec![
            Subject::new("jangada-wal", |time| driven.run(time)),
            Subject::new("floor: write + fdatasync", |time| floor.run(time, frames)),
            Subject::new("growing file + fdatasync", |time| growing.run(time, frames)),
        ];
        suite.scenario(&scenario, subjects);
    }
    suite.finish();
    Ok(())
}

/// What was made durable in a run.
#[derive(Default)]
struct Sum {
    syncs: u64,
    bytes: u64,
    time: Duration,
}

impl Sum {
    fn figures(&self, frames: usize) -> Vec<Figure> {
        let seconds = self.time.as_secs_f64();
        let syncs = self.syncs as f64 / seconds;
        vec![
            Figure::new("syncs", "/s", syncs),
            Figure::new("frames", "/s", syncs * frames as f64),
            Figure::new("bytes", "/s", self.bytes as f64 / seconds),
        ]
    }
}

/// The log with its background thread, as the node's log thread has it.
struct Driven {
    wal: Wal<FileDisk>,
    preparations: Option<mpsc::Sender<Preparation>>,
    prepared: mpsc::Receiver<Prepared>,
    preparing: bool,
    background: Option<JoinHandle<()>>,
    configuration: Configuration,
    frames: usize,
    last: Position,
    batches: u64,
}

impl Driven {
    fn open(folder: &Path, frames: usize) -> Driven {
        let disk = FileDisk::open(folder).expect("a new folder");
        let configuration = Configuration::of_voters([NodeId(1)]);
        let identity = Identity { member: 1, ..Identity::default() };
        let options = wal::Options::default();
        let (wal, _) = Wal::create(disk.clone(), options, identity, configuration.clone())
            .expect("a log in a new folder");
        let (preparations, to_run) = mpsc::channel::<Preparation>();
        let (done, prepared) = mpsc::channel();
        let background = std::thread::spawn(move || {
            for preparation in to_run {
                if done.send(preparation.run(&disk)).is_err() {
                    return;
                }
            }
        });
        let mut driven = Driven {
            wal,
            preparations: Some(preparations),
            prepared,
            preparing: false,
            background: Some(background),
            configuration,
            frames,
            last: Position::default(),
            batches: 0,
        };
        driven.prepare();
        driven
    }

    /// The bytes of one batch's frames, in whole sectors.
    fn batch_bytes(&self) -> usize {
        let frame = jangada::entry::HEADER_BYTES + PAYLOAD_BYTES;
        (frame * self.frames).next_multiple_of(SECTOR)
    }

    fn warm_up(&mut self) {
        let mut bytes = 0;
        // Large batches, so that it takes no time worth speaking of.
        let frames = std::mem::replace(&mut self.frames, 1024);
        while bytes < WARM_UP_BYTES {
            bytes += self.append().bytes;
        }
        self.frames = frames;
    }

    fn run(&mut self, time: Duration) -> Vec<Figure> {
        let mut sum = Sum::default();
        while sum.time < time {
            let one = self.append();
            sum.syncs += 1;
            sum.bytes += one.bytes;
            sum.time += one.time;
        }
        sum.figures(self.frames)
    }

    /// Makes one batch durable, and does what the log thread does behind each.
    fn append(&mut self) -> Sum {
        let after = self.last.index;
        let entries: Vec<Frame> = (1..=self.frames as u64).map(|at| frame(after.0 + at)).collect();
        self.last = entries.last().expect("a batch has entries").position();
        let bytes = entries.iter().map(|frame| frame.bytes().len() as u64).sum();
        self.batches += 1;
        let batch = LogBatch {
            number: WriteNumber(self.batches),
            last: self.last,
            hard_state: HardState { term: Term(1), vote: Some(NodeId(1)) },
            note: None,
            anew: None,
            after,
            entries,
        };
        let begin = Instant::now();
        Log::append(&mut self.wal, &batch).expect("the disk has space");
        self.prepare();
        if self.batches.is_multiple_of(CUT_BATCHES) {
            let cut = LogCut {
                up_to: self.last,
                configuration: self.configuration.clone(),
                trailing_bytes: TRAILING_BYTES,
                needed: None,
            };
            Log::cut(&mut self.wal, &cut).expect("the disk works");
        }
        Sum { syncs: 1, bytes, time: begin.elapsed() }
    }

    fn prepare(&mut self) {
        while let Ok(prepared) = self.prepared.try_recv() {
            self.preparing = false;
            self.wal.prepared(prepared).expect("the disk has space");
        }
        if !self.preparing
            && let Some(preparation) = self.wal.preparation()
            && let Some(preparations) = &self.preparations
        {
            self.preparing = preparations.send(preparation).is_ok();
        }
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.preparations = None;
        if let Some(background) = self.background.take() {
            let ended = background.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the background thread panicked");
        }
    }
}

/// The entry at this index.
fn frame(index: u64) -> Frame {
    let mut buffer = Draft::buffer(PAYLOAD_BYTES);
    buffer.resize(buffer.len() + PAYLOAD_BYTES, 7);
    let origin = Origin { incarnation: 1, sequence: index };
    let position = Position { index: Index(index), term: Term(1) };
    Draft::new(buffer, Kind::Command, 1, 0, origin).stamp(position, 0)
}

/// A bare file.
struct Bare {
    file: File,
    bytes: Vec<u8>,
    offset: usize,
    /// Where it begins anew, if it does not grow.
    end: Option<usize>,
}

impl Bare {
    /// A file that is written over and over.
    fn over(path: &Path, bytes: usize) -> io::Result<Bare> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(&vec![1; FILE_BYTES])?;
        file.sync_all()?;
        Ok(Bare { file, bytes: vec![2; bytes], offset: 0, end: Some(FILE_BYTES) })
    }

    /// A file that grows with every write, anew in each run.
    fn growing(path: &Path, bytes: usize) -> io::Result<Bare> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        Ok(Bare { file, bytes: vec![2; bytes], offset: 0, end: None })
    }

    fn run(&mut self, time: Duration, frames: usize) -> Vec<Figure> {
        if self.end.is_none() {
            self.file.set_len(0).expect("the disk works");
            self.offset = 0;
        }
        let mut sum = Sum::default();
        let begin = Instant::now();
        while sum.time < time {
            if self.end.is_some_and(|end| end < self.offset + self.bytes.len()) {
                self.offset = 0;
            }
            self.file.write_all_at(&self.bytes, self.offset as u64).expect("the disk works");
            self.file.sync_data().expect("the disk works");
            self.offset += self.bytes.len();
            sum.syncs += 1;
            sum.bytes += self.bytes.len() as u64;
            sum.time = begin.elapsed();
        }
        sum.figures(frames)
    }
}
