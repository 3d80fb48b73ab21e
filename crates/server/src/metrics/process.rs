//! What the operating system knows of this process: memory, processor time, open files.
//!
//! Read from `/proc` when it is asked for; a system without it leaves these metrics out.

use super::exposition::{Exposition, Kind};

/// Writes the process's metrics.
pub(super) fn expose(exposition: &mut Exposition) {
    let mut gauge = |name: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            exposition.family(name, Kind::Gauge, help).sample(&[], value);
        }
    };
    let open = open_files();
    let limit = open_files_limit();
    gauge("os_fd_used", "The number of used file descriptors.", open);
    gauge("os_fd_limit", "The file descriptor limit.", limit);
    gauge("process_open_fds", "Number of open file descriptors.", open);
    gauge("process_max_fds", "Maximum number of open file descriptors.", limit);
    let (virtual_bytes, resident_bytes) = memory().unzip();
    gauge("process_resident_memory_bytes", "Resident memory size in bytes.", resident_bytes);
    gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", virtual_bytes);
    let most = rustix::process::getrlimit(rustix::process::Resource::As).current;
    gauge(
        "process_virtual_memory_max_bytes",
        "Maximum amount of virtual memory available in bytes.",
        // Without a limit as Go's library has it: the largest number.
        Some(most.map_or(u64::MAX as f64, |most| most as f64)),
    );
    gauge(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        start_time(),
    );
    exposition
        .family(
            "process_cpu_seconds_total",
            Kind::Counter,
            "Total user and system CPU time spent in seconds.",
        )
        .sample(&[], processor_seconds());
}

/// The number of files this process has open, the one that counts them left out.
fn open_files() -> Option<f64> {
    let entries = std::fs::read_dir("/proc/self/fd").ok()?;
    Some(entries.count().saturating_sub(1) as f64)
}

/// The most files this process may have open; `None` if there is no limit.
#[must_use]
pub fn open_files_limit() -> Option<f64> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.map(|limit| limit as f64)
}

/// Virtual and resident size, in bytes.
fn memory() -> Option<(f64, f64)> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let page_bytes = rustix::param::page_size() as f64;
    let mut pages = text.split_ascii_whitespace().map(|field| field.parse::<f64>().ok());
    Some((pages.next()?? * page_bytes, pages.next()?? * page_bytes))
}

/// Seconds since the Unix epoch at which this process started.
fn start_time() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses and may hold anything; the start time
    // in ticks since boot is the twentieth field after it.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: f64 = fields.split_ascii_whitespace().nth(19)?.parse().ok()?;
    let system = std::fs::read_to_string("/proc/stat").ok()?;
    let boot = system.lines().find_map(|line| line.strip_prefix("btime "))?;
    let boot: f64 = boot.trim().parse().ok()?;
    Some(boot + ticks / rustix::param::clock_ticks_per_second() as f64)
}

fn processor_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
