//! What applying and reading cost, beside a bare map as the floor.
//!
//! `cargo run --release -p jangada-kv --example apply [keys] [overwrites]` puts so many keys with
//! values of 256 bytes in random order, overwrites each so many times, reads ranges, restarts, and
//! prints rates and memory. The store runs in memory, then with an engine on a file in the
//! temporary directory.
//!
//! With the words `restart FILE` behind the numbers it measures restarts alone, from a file that it
//! makes if it is not there and keeps.

// A measurement needs a clock; the state machine has none.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use jangada_kv::{
    COMMAND_VERSION, Command, Entry, Machine, Options, PutFlags, RangeRequest, StorageBackend,
    Turn, encode_put,
};

const VALUE_BYTES: usize = 256;
/// Commands to a batch, as a busy node would apply them.
const BATCH: usize = 256;
/// Keys to a page of a listing.
const PAGE: i64 = 1000;
/// Restarts of which the median is reported.
const RESTARTS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| match arguments.get(at) {
        Some(argument) => argument.parse::<usize>(),
        None => Ok(default),
    };
    let (keys, overwrites) = (number(0, 100_000)?, number(1, 4)?);
    match arguments.get(2).map(String::as_str) {
        None => run_all(keys, overwrites),
        Some("floor") => {
            floor(keys, overwrites);
            Ok(())
        }
        Some("memory") => {
            let mut machine = Machine::open(None, Options::default())?;
            measure("store in memory", &mut machine, keys, overwrites)
        }
        Some("engine") => run_engine(keys, overwrites),
        Some("restart") => {
            let path = arguments.get(3).ok_or("restart needs a file")?;
            run_restart(keys, overwrites, path.as_ref())
        }
        Some(other) => Err(format!("{other} is none of floor, memory, engine, restart").into()),
    }
}

/// Runs each part in a process of its own, so that memory is told apart.
fn run_all(keys: usize, overwrites: usize) -> Result<(), Box<dyn std::error::Error>> {
    println!("{keys} keys, {overwrites} overwrites of each, values of {VALUE_BYTES} bytes\n");
    for part in ["floor", "memory", "engine"] {
        let mut command = std::process::Command::new(std::env::current_exe()?);
        let status = command.args([&keys.to_string(), &overwrites.to_string(), part]).status()?;
        if !status.success() {
            return Err(format!("the part {part} failed").into());
        }
    }
    Ok(())
}

fn run_engine(keys: usize, overwrites: usize) -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("store");
    let mut machine = Machine::open(Some(file(&path)?), Options::default())?;
    measure("store with engine", &mut machine, keys, overwrites)?;
    drop(machine);
    restart(&path)
}

fn run_restart(
    keys: usize,
    overwrites: usize,
    path: &std::path::Path,
) -> Result<(), Box<dyn std::error::Error>> {
    if !path.exists() {
        let mut machine = Machine::open(Some(file(path)?), Options::default())?;
        let start = Watch::start();
        load(&mut machine, &mut 0, keys, overwrites, start)?;
        settle(&mut machine, start)?;
    }
    restart(path)
}

/// Restarts a few times and reports the median beside a plain read of the file.
fn restart(path: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
    let (mut reads, mut restarts) = (Vec::new(), Vec::new());
    let (mut bytes, mut found, mut grown) = (0, 0, 0);
    for _ in 0..RESTARTS {
        let start = Watch::start();
        bytes = read_whole(path)?;
        reads.push(start.seconds());
        let before = resident_bytes();
        let start = Watch::start();
        let machine = Machine::open(Some(file(path)?), Options::default())?;
        restarts.push(start.seconds());
        found = machine.shared().read().keys();
        grown = resident_bytes().saturating_sub(before);
    }
    let (read, read_cpu) = median(&mut reads);
    let (wall, cpu) = median(&mut restarts);
    println!(
        "plain read (floor): {} MiB in {read:.2} s, {read_cpu:.2} s of processor",
        bytes >> 20
    );
    println!(
        "restart: {found} keys in {wall:.2} s, {cpu:.2} s of processor, {:.1} times the floor; \
         {} MiB resident, {} MiB at the peak",
        wall / read,
        grown >> 20,
        status_bytes("VmHWM:") >> 20
    );
    Ok(())
}

fn median(seconds: &mut [(f64, f64)]) -> (f64, f64) {
    seconds.sort_by(|a, b| a.0.total_cmp(&b.0));
    seconds[seconds.len() / 2]
}

/// Reads a file from its beginning to its end, in pieces as the engine's cache could hold them.
fn read_whole(path: &std::path::Path) -> std::io::Result<usize> {
    let (mut file, mut buffer) = (std::fs::File::open(path)?, vec![0; 64 << 10]);
    let mut bytes = 0;
    loop {
        match std::io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(bytes),
            read => bytes += read,
        }
    }
}

fn file(path: &std::path::Path) -> Result<Box<dyn StorageBackend>, Box<dyn std::error::Error>> {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    Ok(Box::new(redb::backends::FileBackend::new(file)?))
}

/// The keys in an order without pattern: multiplication by an odd number permutes.
fn key(at: usize, keys: usize) -> String {
    let mixed = (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    format!("/registry/pods/default/{:012x}/{}", mixed, at % keys)
}

fn value(round: usize) -> Vec<u8> {
    (0..VALUE_BYTES).map(|at| (at * 31 + round) as u8).collect()
}

fn floor(keys: usize, overwrites: usize) {
    let before = resident_bytes();
    let mut map = BTreeMap::<Vec<u8>, Vec<u8>>::new();
    let start = Watch::start();
    for round in 0..=overwrites {
        let value = value(round);
        for at in 0..keys {
            map.insert(key(at, keys).into_bytes(), value.clone());
        }
    }
    report("bare map (floor)", "puts", keys * (overwrites + 1), start);
    memory("bare map (floor)", before, map.len());
    let start = Watch::start();
    let bytes: usize = map.iter().map(|(key, value)| key.len() + value.len()).sum();
    report("bare map (floor)", "keys walked", map.len(), start);
    println!("  ({} MiB of keys and values)\n", bytes >> 20);
}

fn measure(
    name: &str,
    machine: &mut Machine,
    keys: usize,
    overwrites: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    let before = resident_bytes();
    let mut index = 0;
    let start = Watch::start();
    load(machine, &mut index, keys, overwrites, start)?;
    report(name, "puts", keys * (overwrites + 1), start);
    memory(name, before, keys);
    settle(machine, start)?;
    memory(&format!("{name}, settled"), before, keys);
    let shared = machine.shared();
    println!("  ({} MiB in use, {} MiB on disk)", in_use(&shared), shared.read().size() >> 20);

    let newest = shared.read().revision();
    list(name, "at the newest revision", &shared, 0)?;
    list(name, "at half the revisions", &shared, newest - (newest / 2))?;
    let start = Watch::start();
    let count = RangeRequest { count_only: true, ..everything() };
    let counted = shared.range(&count).1.map_err(refused)?.count;
    report(name, "keys counted", usize::try_from(counted)?, start);

    let start = Watch::start();
    for at in 0..keys {
        let range = RangeRequest { key: key(at, keys).into(), ..RangeRequest::default() };
        let response = shared.range(&range).1.map_err(refused)?;
        assert_eq!(response.kvs[0].version, overwrites as i64 + 1);
    }
    report(name, "single gets", keys, start);

    let start = Watch::start();
    let mut payload = BytesMut::new();
    Command::Compact { revision: newest, physical: true }.encode_into(&mut payload);
    flush(machine, &mut index, &mut vec![payload.freeze()])?;
    settle(machine, start)?;
    report(name, "versions compacted", keys * overwrites, start);
    println!("  ({} MiB in use, {} MiB on disk)\n", in_use(&shared), shared.read().size() >> 20);
    Ok(())
}

/// Puts all keys, once and then as often again as there are overwrites.
fn load(
    machine: &mut Machine,
    index: &mut u64,
    keys: usize,
    overwrites: usize,
    start: Watch,
) -> Result<(), Box<dyn std::error::Error>> {
    let (mut buffer, mut batch) = (BytesMut::new(), Vec::with_capacity(BATCH));
    for round in 0..=overwrites {
        let value = value(round);
        for at in 0..keys {
            encode_put(&mut buffer, key(at, keys).as_bytes(), &value, 0, PutFlags::default());
            batch.push(buffer.split().freeze());
            if batch.len() == BATCH || at + 1 == keys {
                flush(machine, index, &mut batch)?;
                while machine.engine_turn(elapsed_ms(start))? == Turn::More {}
            }
        }
    }
    Ok(())
}

/// Lists everything in pages, from the last key of one page to the next.
fn list(
    name: &str,
    what: &str,
    shared: &jangada_kv::Shared,
    revision: i64,
) -> Result<(), Box<dyn std::error::Error>> {
    let start = Watch::start();
    let mut range = RangeRequest { limit: PAGE, revision, ..everything() };
    let mut listed = 0;
    loop {
        let page = shared.range(&range).1.map_err(refused)?;
        listed += page.kvs.len();
        match page.kvs.last() {
            Some(last) if page.more => {
                let mut next = BytesMut::from(&last.key[..]);
                next.extend_from_slice(b"\0");
                range.key = next.freeze();
            }
            _ => break,
        }
    }
    report(name, &format!("keys listed {what}"), listed, start);
    Ok(())
}

fn in_use(shared: &jangada_kv::Shared) -> u64 {
    shared.read().size_in_use() >> 20
}

fn everything() -> RangeRequest {
    let (key, range_end) = (Bytes::from_static(b"\0"), Bytes::from_static(b"\0"));
    RangeRequest { key, range_end, ..RangeRequest::default() }
}

fn refused(error: jangada_kv::KvError) -> String {
    format!("the read was refused: {error:?}")
}

fn flush(
    machine: &mut Machine,
    index: &mut u64,
    batch: &mut Vec<Bytes>,
) -> Result<(), Box<dyn std::error::Error>> {
    let first = *index + 1;
    let entries = batch.iter().zip(first..).map(|(payload, index)| Entry {
        index,
        term: 1,
        time_ms: 0,
        version: COMMAND_VERSION,
        payload,
    });
    machine.apply(entries)?;
    *index += batch.len() as u64;
    machine.end_batch(*index, Bytes::new());
    machine.log_durable(*index);
    batch.clear();
    Ok(())
}

/// Lets the engine finish; its clock runs fast here, so that nothing waits.
fn settle(machine: &mut Machine, start: Watch) -> Result<(), Box<dyn std::error::Error>> {
    let mut fast_ms = elapsed_ms(start);
    while machine.engine_turn(fast_ms)? != Turn::Idle {
        fast_ms += 10;
    }
    Ok(())
}

fn elapsed_ms(start: Watch) -> u64 {
    u64::try_from(start.wall.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn report(name: &str, what: &str, count: usize, start: Watch) {
    let (wall, cpu) = start.seconds();
    let (rate, micros) = (count as f64 / wall, cpu * 1e6 / count.max(1) as f64);
    println!("{name}: {rate:.0} {what}/s, {micros:.3} us of processor each");
}

/// Measures the time that passes, and the processor's time that this thread gets of it.
#[derive(Clone, Copy)]
struct Watch {
    wall: Instant,
    cpu_nanos: u64,
}

impl Watch {
    fn start() -> Watch {
        Watch { wall: Instant::now(), cpu_nanos: cpu_nanos() }
    }

    fn seconds(self) -> (f64, f64) {
        let cpu = cpu_nanos().saturating_sub(self.cpu_nanos) as f64 / 1e9;
        (self.wall.elapsed().as_secs_f64(), cpu)
    }
}

/// The processor's time of this thread; 0 where the system does not tell.
fn cpu_nanos() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    status.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
}

fn memory(name: &str, before: usize, keys: usize) {
    let grown = resident_bytes().saturating_sub(before);
    let peak = status_bytes("VmHWM:") >> 20;
    println!(
        "{name}: {} MiB resident, {} bytes a key; the process's peak is {peak} MiB",
        grown >> 20,
        grown / keys.max(1)
    );
}

fn resident_bytes() -> usize {
    status_bytes("VmRSS:")
}

/// A figure of the process's own status; 0 where the system does not tell.
fn status_bytes(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kib.unwrap_or(0) << 10
}
