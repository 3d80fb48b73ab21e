//! What a sweep came to: as a table for people, as JSON for programs.

use std::io::{self, Write};
use std::time::Duration;

use jangada_sim::Seed;
use jangada_sim::faults::FAULTS;
use jangada_sim::run::sweep::{Progress, SweepOptions};
use serde_json::{Map, Value, json};

use crate::output;

/// A sweep that has ended.
pub(super) struct Summary<'a> {
    pub(super) options: &'a SweepOptions<'a>,
    pub(super) progress: &'a Progress,
    pub(super) elapsed: Duration,
}

/// How many for each second.
pub(super) fn rate(count: u64, elapsed: Duration) -> f64 {
    let seconds = elapsed.as_secs_f64();
    if seconds == 0.0 { 0.0 } else { (count as f64 / seconds).round() }
}

impl Summary<'_> {
    /// As JSON.
    pub(super) fn json(&self) -> Value {
        let (progress, elapsed) = (self.progress, self.elapsed);
        let count = |fault: &jangada_sim::Fault| {
            (fault.name().to_owned(), json!(progress.faults.of(*fault)))
        };
        let faults: Map<String, Value> = FAULTS.iter().map(count).collect();
        let first_seed = match &self.options.plan.seed {
            Seed::Number(number) => json!(number),
            bytes @ Seed::Bytes(_) => json!(bytes.to_string()),
        };
        let rot = progress.rot;
        let coverage = progress.coverage.by_name().map(|(name, outcomes)| {
            let outcomes = outcomes.into_iter().map(|(outcome, count)| (outcome, json!(count)));
            let outcomes = outcomes.map(|(outcome, count)| (outcome.to_owned(), count));
            (name.to_owned(), Value::Object(outcomes.collect()))
        });
        let coverage: Map<String, Value> = coverage.collect();
        json!({
            "first_seed": first_seed,
            "seeds": progress.seeds,
            "members": self.options.plan.members,
            "simulated_seconds": progress.simulated_us as f64 / 1e6,
            "seconds": elapsed.as_secs_f64(),
            "threads": self.options.threads,
            "events": progress.events,
            "events_per_second": rate(progress.events, elapsed),
            "requests": progress.requests,
            "requests_per_second": rate(progress.requests, elapsed),
            "faults": faults,
            "damage": {
                "below": rot.below,
                "above": rot.above,
                "engine": rot.engine,
                "mended": rot.mended,
                "cut": rot.cut,
                "refused": rot.refused,
                "stopped": rot.stopped,
                "harmless": rot.harmless,
            },
            "deeds": {
                "changes": progress.deeds.changes,
                "transfers": progress.deeds.transfers,
                "removed": progress.deeds.removed,
                "snapshots": progress.deeds.snapshots,
                "recovered": progress.deeds.recovered,
            },
            "coverage": coverage,
            "never_met": progress.coverage.blind_spots(),
            "trace_hash": format!("{:016x}", progress.trace_hash),
        })
    }

    /// As a table.
    pub(super) fn print(&self) -> io::Result<()> {
        let (progress, elapsed) = (self.progress, self.elapsed);
        let seconds = elapsed.as_secs_f64();
        let simulated = progress.simulated_us as f64 / 1e6;
        let mut rows = vec![
            ("seeds that held".to_owned(), seeds_text(&self.options.plan.seed, progress.seeds)),
            ("simulated time".to_owned(), format!("{:.2} h", simulated / 3600.0)),
            ("time".to_owned(), format!("{seconds:.1} s on {} threads", self.options.threads)),
            ("simulated s/s".to_owned(), format!("{:.0}", simulated / seconds.max(1e-9))),
            ("events /s".to_owned(), format!("{:.0}", rate(progress.events, elapsed))),
            ("answered requests".to_owned(), progress.requests.to_string()),
            ("requests /s".to_owned(), format!("{:.0}", rate(progress.requests, elapsed))),
            ("faults".to_owned(), progress.faults.total().to_string()),
        ];
        let happened = FAULTS.iter().filter(|fault| 0 < progress.faults.of(**fault));
        rows.extend(
            happened.map(|fault| {
                (format!("  {}", fault.name()), progress.faults.of(*fault).to_string())
            }),
        );
        let rows: Vec<_> = rows.into_iter().map(|(what, value)| vec![what, value]).collect();
        output::print_table(&["simulation", "value"], &rows)?;
        let mut out = io::stdout().lock();
        writeln!(out, "calm: {}", progress.rest)?;
        writeln!(out, "highest: {}", progress.bounds)?;
        writeln!(out, "damage: {}", progress.rot)?;
        writeln!(out, "deeds: {}", progress.deeds)?;
        writeln!(out, "trace hash: {:016x}", progress.trace_hash)
    }
}

/// The seeds by name.
fn seeds_text(first: &Seed, count: u64) -> String {
    match count.checked_sub(1).and_then(|others| first.after(others)) {
        None => "0".to_owned(),
        Some(last) if last == *first => format!("1 ({first})"),
        Some(last) => format!("{count} ({first} to {last})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_by_name() {
        assert_eq!(seeds_text(&Seed::Number(5), 0), "0");
        assert_eq!(seeds_text(&Seed::Number(5), 1), "1 (5)");
        assert_eq!(seeds_text(&Seed::Number(5), 3), "3 (5 to 7)");
        assert_eq!(seeds_text(&Seed::Bytes(vec![1]), 1), "1 (0x01)");
    }
}
