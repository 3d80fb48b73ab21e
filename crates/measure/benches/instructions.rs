//! How many instructions the hot paths take: figures that do not depend on how busy a machine is.
//!
//! ```text
//! cargo bench -p jangada-measure --bench instructions              # fails where more are taken
//! cargo bench -p jangada-measure --bench instructions -- --update  # writes down what is taken
//! ```
//!
//! Each path runs in a process of its own under valgrind, once for some rounds and once for three times
//! as many: the difference is what the rounds take, without the start. Nothing on these paths depends
//! on time, randomness or addresses. The counts expected stand in `instructions.json` with the
//! toolchain and the machine's kind that they belong to, since another compiler makes other code.

mod parts;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use bytes::{Bytes, BytesMut};
use clap::Parser;
use comfy_table::{CellAlignment, Table, presets};
use jangada::entry::{Draft, Kind, Origin};
use jangada::wal::{self, Batch, Identity, MemoryDisk, Wal};
use jangada::{Configuration, Frame, NodeId};
use jangada_kv::{COMMAND_VERSION, Entry, Machine, PutFlags, RangeRequest, encode_put};
use jangada_raft::{HardState, Index, Position, Term};
use parts::leader::Leader;
use serde::{Deserialize, Serialize};

/// By how much a count may rise, in per cent: code that nobody touched is inlined otherwise now and then.
const RISE_PERCENT_MAX: f64 = 4.0;
/// Rounds of the first process; the second makes three times as many.
const ROUNDS: u64 = 100;
/// Entries in a batch.
const BATCH: u64 = 64;
/// The size of a value.
const VALUE_BYTES: usize = 256;
/// The keys of the store.
const KEYS: u64 = 1000;

/// A hot path.
struct HotPath {
    name: &'static str,
    /// Runs so many rounds of it.
    run: fn(u64),
    /// The operations of a round.
    operations: u64,
}

const PATHS: [HotPath; 7] = [
    HotPath { name: "raft: batch of 64, 3 members", run: |rounds| raft(3, rounds), operations: 1 },
    HotPath { name: "raft: batch of 64, 5 members", run: |rounds| raft(5, rounds), operations: 1 },
    HotPath { name: "entry: make and check", run: entry, operations: BATCH },
    HotPath { name: "wal: append, entry of 256 B", run: append, operations: BATCH },
    HotPath { name: "kv: apply a put of 256 B", run: apply, operations: BATCH },
    HotPath { name: "kv: get", run: get, operations: BATCH },
    HotPath { name: "kv: range of 100 keys", run: range, operations: 1 },
];

/// Counts the instructions of the hot paths and compares them with what was written down.
#[derive(Parser)]
struct Options {
    /// Write down the counts in place of comparing them
    #[arg(long)]
    update: bool,
    /// Where the counts are written down
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.json"))]
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Run one path, by its place, for so many rounds: what is counted
    #[arg(long, hide = true, num_args = 2, value_names = ["PLACE", "ROUNDS"])]
    run: Option<Vec<u64>>,
    /// Cargo says so to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is written down.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Expected {
    /// The compiler.
    toolchain: String,
    /// Processor and operating system.
    target: String,
    /// Instructions for each operation, by path.
    instructions: BTreeMap<String, u64>,
}

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some([place, rounds]) = options.run.as_deref() {
        let place = usize::try_from(*place).expect("a place among the paths");
        (PATHS[place].run)(*rounds);
        return ExitCode::SUCCESS;
    }
    match count(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Counts, and compares or writes; says whether nothing takes too many.
fn count(options: &Options) -> Result<bool, Failure> {
    let mut counted = Expected {
        toolchain: toolchain()?,
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        instructions: BTreeMap::new(),
    };
    for (place, HotPath { name, operations, .. }) in PATHS.iter().enumerate() {
        let (few, many) = (instructions(place, ROUNDS)?, instructions(place, 3 * ROUNDS)?);
        let each = (many - few) / (2 * ROUNDS * operations);
        counted.instructions.insert((*name).to_owned(), each);
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&counted)?);
    }
    if options.update {
        std::fs::write(&options.file, serde_json::to_string_pretty(&counted)? + "\n")?;
        println!("{} has the counts of now", options.file.display());
        return Ok(true);
    }
    compare(&expected(&options.file)?, &counted, options.json)
}

fn expected(file: &Path) -> Result<Expected, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("{}: {error}; write it with --update", file.display()))?;
    Ok(serde_json::from_str(&text)?)
}

/// Prints both; says whether nothing takes too many.
fn compare(expected: &Expected, counted: &Expected, quiet: bool) -> Result<bool, Failure> {
    let of_the_file = (&expected.toolchain, &expected.target);
    let of_now = (&counted.toolchain, &counted.target);
    if of_the_file != of_now {
        let other = format!(
            "the counts belong to {} on {}, this is {} on {}: write them anew with --update",
            of_the_file.0, of_the_file.1, of_now.0, of_now.1
        );
        return Err(other.into());
    }
    let mut table = Table::new();
    table.load_style(presets::ASCII_BORDERS_ONLY_CONDENSED);
    table.set_header(["path", "instructions", "expected", "change"]);
    let mut risen = Vec::new();
    for (name, count) in &counted.instructions {
        let Some(before) = expected.instructions.get(name) else {
            return Err(format!("nothing is written down of \"{name}\": use --update").into());
        };
        let percent = (*count as f64 / *before as f64 - 1.0) * 100.0;
        let change = format!("{percent:+.1} %");
        table.add_row([name, &count.to_string(), &before.to_string(), &change]);
        if RISE_PERCENT_MAX < percent {
            risen.push(format!("{name} takes {change} instructions"));
        }
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    if !quiet {
        println!("{table}\nInstructions for each operation; {}.", counted.toolchain);
    }
    for risen in &risen {
        eprintln!(
            "{risen}: more than {RISE_PERCENT_MAX} % are too many; if they must be, --update"
        );
    }
    Ok(risen.is_empty())
}

fn toolchain() -> Result<String, Failure> {
    let output = Command::new("rustc").arg("--version").output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split(' ').take(2).collect::<Vec<_>>().join(" "))
}

/// The instructions of a process that runs a path for so many rounds.
fn instructions(place: usize, rounds: u64) -> Result<u64, Failure> {
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["--run", &place.to_string(), &rounds.to_string()])
        // Copies of memory take the same way on every x86-64.
        .env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX2,-AVX512F,-ERMS,-FSRM")
        .output()
        .map_err(|error| format!("valgrind: {error}; it is a package of that name"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let refs = text.lines().find_map(|line| {
        let (label, count) = line.split_once("refs:")?;
        label.trim_end().ends_with('I').then(|| count.trim().replace(',', ""))
    });
    match refs {
        Some(refs) if output.status.success() => Ok(refs.parse()?),
        _ => Err(format!("valgrind counted nothing:\n{text}").into()),
    }
}

// ---- the paths ----

/// All leader inputs of a replicated batch.
fn raft(members: u64, rounds: u64) {
    let mut leader = Leader::elected(members);
    for _ in 0..rounds {
        leader.replicate(BATCH, BATCH * 320);
    }
}

/// The entry at this index.
fn frame(index: u64) -> Frame {
    let mut buffer = Draft::buffer(VALUE_BYTES);
    buffer.resize(buffer.len() + VALUE_BYTES, 7);
    let origin = Origin { incarnation: 1, sequence: index };
    let position = Position { index: Index(index), term: Term(1) };
    Draft::new(buffer, Kind::Command, 1, 0, origin).stamp(position, 0)
}

/// Makes entries, and checks their bytes as the one who receives them does.
fn entry(rounds: u64) {
    for index in 1..=rounds * BATCH {
        let mut bytes = Bytes::copy_from_slice(black_box(frame(index)).bytes());
        black_box(Frame::decode(&mut bytes).expect("what was made is whole"));
    }
}

/// Appends batches to a log on a disk in memory.
fn append(rounds: u64) {
    let options = wal::Options { seed: Some(1), ..wal::Options::default() };
    let identity = Identity { member: 1, incarnation: 1, ..Identity::default() };
    let configuration = Configuration::of_voters([NodeId(1)]);
    let (mut wal, _) = Wal::create(MemoryDisk::new(), options, identity, configuration)
        .expect("a log in an empty folder");
    let hard_state = HardState { term: Term(1), vote: Some(NodeId(1)) };
    for round in 0..rounds {
        let after = Index(round * BATCH);
        let entries: Vec<Frame> = (1..=BATCH).map(|at| frame(after.0 + at)).collect();
        let batch = Batch { hard_state, note: None, after, entries: &entries };
        wal.append(&batch).expect("memory does not fail");
    }
}

/// The key with this number.
fn key(number: u64) -> String {
    format!("/registry/pods/default/{:06}", number % KEYS)
}

/// Applies one batch of puts.
fn put(machine: &mut Machine, round: u64) {
    let first = round * BATCH + 1;
    let payloads: Vec<Bytes> = (first..first + BATCH)
        .map(|index| {
            let mut payload = BytesMut::new();
            let key = key(index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20);
            let value = [7; VALUE_BYTES];
            encode_put(&mut payload, key.as_bytes(), &value, 0, PutFlags::default());
            payload.freeze()
        })
        .collect();
    let entries = payloads.iter().zip(first..).map(|(payload, index)| Entry {
        index,
        term: 1,
        time_ms: 0,
        version: COMMAND_VERSION,
        payload,
    });
    black_box(machine.apply(entries).expect("puts are commands"));
    machine.end_batch(first + BATCH - 1, Bytes::new());
    machine.log_durable(first + BATCH - 1);
}

fn machine() -> Machine {
    Machine::open(None, jangada_kv::Options::default()).expect("memory does not fail")
}

/// Applies puts.
fn apply(rounds: u64) {
    let mut machine = machine();
    (0..rounds).for_each(|round| put(&mut machine, round));
}

/// A store that holds all keys.
fn filled() -> Machine {
    let mut machine = machine();
    (0..4 * KEYS / BATCH).for_each(|round| put(&mut machine, round));
    machine
}

/// Reads single keys.
fn get(rounds: u64) {
    let machine = filled();
    let shared = machine.shared();
    for number in 0..rounds * BATCH {
        let range = RangeRequest { key: key(number * 7).into(), ..RangeRequest::default() };
        black_box(shared.range(&range).1.expect("a key can be read"));
    }
}

/// Reads pages.
fn range(rounds: u64) {
    let machine = filled();
    let shared = machine.shared();
    for number in 0..rounds {
        let (key, range_end) = (key(number * 7).into(), Bytes::from_static(b"\0"));
        let range = RangeRequest { key, range_end, limit: 100, ..RangeRequest::default() };
        black_box(shared.range(&range).1.expect("keys can be read"));
    }
}
