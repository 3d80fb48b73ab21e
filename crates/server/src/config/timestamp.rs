//! The time as etcd's log lines write it, in UTC.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

/// Appends `2006-01-02T15:04:05.999999Z`: microseconds, without zeros at the end.
pub(super) fn append(line: &mut String, now: SystemTime) {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (year, month, day) = date_of(since.as_secs() / 86_400);
    let second = since.as_secs() % 86_400;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    write!(line, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
        .expect("writing to a string cannot fail");
    let microseconds = since.subsec_micros();
    if microseconds != 0 {
        let digits = format!("{microseconds:06}");
        line.push('.');
        line.push_str(digits.trim_end_matches('0'));
    }
    line.push('Z');
}

/// The civil date of a day counted from 1970-01-01, by eras of 400 years that begin in March.
fn date_of(days: u64) -> (u64, u64, u64) {
    const DAYS_PER_ERA: u64 = 146_097;
    const DAYS_TO_EPOCH: u64 = 719_468;
    let days = days + DAYS_TO_EPOCH;
    let day_of_era = days % DAYS_PER_ERA;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = days / DAYS_PER_ERA * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        let check = |seconds: u64, microseconds: u64, expect: &str| {
            let mut line = String::new();
            let since = Duration::from_secs(seconds) + Duration::from_micros(microseconds);
            append(&mut line, SystemTime::UNIX_EPOCH + since);
            assert_eq!(line, expect);
        };
        check(0, 0, "1970-01-01T00:00:00Z");
        check(951_782_400, 0, "2000-02-29T00:00:00Z");
        check(1_136_214_245, 999_999, "2006-01-02T15:04:05.999999Z");
        check(1_767_366_245, 120_000, "2026-01-02T15:04:05.12Z");
        check(4_107_542_399, 1, "2100-02-28T23:59:59.000001Z");
        check(4_107_542_400, 0, "2100-03-01T00:00:00Z");
    }
}
