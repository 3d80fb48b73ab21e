//! What other processes use, read from `/proc`.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, setrlimit};
use serde::Serialize;

/// What a process has used since it began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Usage {
    /// User and system time.
    pub cpu: Duration,
    /// Memory in use, in bytes.
    pub resident_bytes: u64,
    /// The most memory that was in use, in bytes.
    pub resident_peak_bytes: u64,
}

/// The usage of a process; `None` when there is no such process, or no `/proc`.
#[must_use]
pub fn usage(pid: u32) -> Option<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let resident_bytes = labelled(&status, "VmRSS:")? * 1024;
    let resident_peak_bytes = labelled(&status, "VmHWM:")? * 1024;
    Some(Usage { cpu: cpu_of(&stat)?, resident_bytes, resident_peak_bytes })
}

/// The usage of all these processes together; `None` without any, or when one is gone.
#[must_use]
pub fn usage_of_all(pids: &[u32]) -> Option<Usage> {
    let all: Option<Vec<Usage>> = pids.iter().map(|pid| usage(*pid)).collect();
    let all = all.filter(|all| !all.is_empty())?;
    Some(all.into_iter().fold(Usage::default(), |sum, usage| Usage {
        cpu: sum.cpu + usage.cpu,
        resident_bytes: sum.resident_bytes + usage.resident_bytes,
        resident_peak_bytes: sum.resident_peak_bytes + usage.resident_peak_bytes,
    }))
}

/// The bytes that the machine has written to the disk that holds this folder; `None` where the system does
/// not tell. Those of a process (`write_bytes` in its `/proc/<pid>/io`) are of no use: they count a whole
/// folio of a file, up to megabytes, whenever a byte of it is changed.
#[must_use]
pub fn written_bytes(folder: &Path) -> Option<u64> {
    let device = rustix::fs::stat(folder).ok()?.st_dev;
    let numbers = (rustix::fs::major(device), rustix::fs::minor(device));
    written_of(&std::fs::read_to_string("/proc/diskstats").ok()?, numbers)
}

/// The tenth field of a device's line, in units of 512 bytes.
fn written_of(diskstats: &str, (major, minor): (u32, u32)) -> Option<u64> {
    diskstats.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let is_it = fields.next()? == major.to_string() && fields.next()? == minor.to_string();
        let sectors: u64 = fields.nth(7).filter(|_| is_it)?.parse().ok()?;
        Some(sectors * 512)
    })
}

/// Raises this process's limit of open files as far as the system lets it.
pub fn raise_files_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // What cannot be raised shows by connections that cannot be opened.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Fields 14 and 15 of `/proc/<pid>/stat`, in clock ticks. The second field is the program's name
/// in parentheses and may itself hold blanks, so the count begins behind the last parenthesis.
fn cpu_of(stat: &str) -> Option<Duration> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
    Some(Duration::from_nanos((user + system) * 1_000_000_000 / ticks_per_second))
}

/// The number behind a label.
fn labelled(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(label))?;
    line[label.len()..].split_ascii_whitespace().next()?.parse().ok()
}

/// Sends SIGKILL.
///
/// # Errors
///
/// What the system said: there is no such process, or it is not ours.
pub fn kill(pid: u32) -> Result<(), String> {
    signal(pid, Signal::KILL)
}

/// Sends SIGTERM.
///
/// # Errors
///
/// As [`kill`].
pub fn terminate(pid: u32) -> Result<(), String> {
    signal(pid, Signal::TERM)
}

fn signal(pid: u32, signal: Signal) -> Result<(), String> {
    let raw = i32::try_from(pid).ok().filter(|raw| 1 < *raw);
    let pid = raw.and_then(Pid::from_raw).ok_or("that is no process id".to_owned())?;
    rustix::process::kill_process(pid, signal).map_err(|error| error.to_string())
}

/// Whether there is such a process that still runs; one that has ended and was not waited for
/// does not count.
#[must_use]
pub fn runs(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().next());
    state.is_some_and(|state| state != "Z" && state != "X")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_does_not_confuse() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0 1 2 3";
        let ticks = rustix::param::clock_ticks_per_second();
        let expect = Duration::from_nanos(200 * 1_000_000_000 / ticks);
        assert_eq!(cpu_of(stat), Some(expect));
    }

    #[test]
    fn a_disk_is_found_by_its_numbers() {
        let text =
            " 259 0 nvme0n1 5 0 4 0 3 0 16 0 0 0 0\n 259 1 nvme0n1p1 1 0 1 0 1 0 7 0 0 0 0\n";
        assert_eq!(written_of(text, (259, 1)), Some(7 * 512));
        assert_eq!(written_of(text, (259, 0)), Some(16 * 512));
        assert_eq!(written_of(text, (8, 0)), None);
    }

    #[test]
    fn this_process_runs_and_uses_memory() {
        let pid = std::process::id();
        let usage = usage(pid).expect("this process is there");
        assert!(runs(pid));
        assert!(0 < usage.resident_bytes && usage.resident_bytes <= usage.resident_peak_bytes);
    }

    #[test]
    fn what_is_no_process_is_not_signalled() {
        for pid in [0, 1, u32::MAX] {
            assert!(kill(pid).is_err(), "{pid}");
        }
    }
}
