//! Bytes of an earlier or another log that stand where the log ends.

use jangada_raft::Index;
use jangada_wal::inspect::inspect;
use jangada_wal::{Batch, Disk, File, MemoryDisk, Wal};

use crate::support::{commands, configuration, identity, options, term};

/// A log of several segments, the power going off with the last batch unwritten.
pub(crate) fn log(seed: u64) -> (MemoryDisk, u64) {
    let disk = MemoryDisk::new();
    let (mut wal, _) = Wal::create(disk.clone(), options(seed), identity(), configuration())
        .expect("an empty folder takes a log");
    let mut last = 0;
    for _ in 0..8 {
        let entries = commands(last + 1, last + 2, 1, 300);
        let batch =
            Batch { hard_state: term(1), note: None, after: Index(last), entries: &entries };
        wal.append(&batch).expect("memory takes everything");
        last += 2;
    }
    (disk, last)
}

pub(crate) fn contents(disk: &MemoryDisk, name: &str) -> Vec<u8> {
    let file = disk.open(name).expect("the file is there");
    let mut bytes = vec![0; usize::try_from(file.length().expect("works")).expect("it is small")];
    file.read_at(0, &mut bytes).expect("works");
    bytes
}

pub(crate) fn segments(disk: &MemoryDisk) -> Vec<String> {
    let names = disk.list().expect("works");
    names.into_iter().filter(|name| name.starts_with("segment-")).collect()
}

/// Behind the log's end stand the bytes of another segment, of an earlier state of the same one, or
/// of another log: whatever a disk that lost the zeros of a recycled file may show there.
pub(crate) fn behind_the_end(tried: &mut u64) {
    let (disk, last) = log(1);
    let (other, _) = log(2);
    let names = segments(&disk);
    let newest = names.last().expect("there are segments");
    let mut end = 0;
    inspect(&disk, &mut |finding| {
        if let jangada_wal::inspect::Finding::End { place, .. } = finding {
            end = place.offset;
        }
    })
    .expect("a sound log can be looked at");
    let old = names.iter().map(|name| contents(&disk, name));
    let foreign = segments(&other).into_iter().map(|name| contents(&other, &name));
    for bytes in old.chain(foreign) {
        for from in (0..bytes.len()).step_by(512) {
            *tried += 1;
            let copy = disk.snapshot();
            let length = contents(&copy, newest).len() - end as usize;
            let piece = &bytes[from..bytes.len().min(from + length)];
            copy.open(newest).expect("works").write_at(end, &[piece]).expect("works");
            let (wal, recovered) = Wal::open(copy, options(9), Index(0))
                .unwrap_or_else(|error| panic!("{from}: {error}"));
            assert_eq!(recovered.range.last, Index(last), "{from}");
            let read = wal.read(Index(1), Index(last), u64::MAX).expect("sound");
            assert_eq!(read, commands(1, last, 1, 300), "{from}");
        }
    }
}
