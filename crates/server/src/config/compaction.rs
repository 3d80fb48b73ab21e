//! `--auto-compaction-mode` and `--auto-compaction-retention`, read as etcd reads them.
//!
//! Responsible for what the two say. Not responsible for when anything is compacted.

use std::time::Duration;

use super::error::ConfigError;
use super::settings::Settings;
use super::value::parse_duration;

/// What history is kept when nobody compacts by hand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AutoCompaction {
    /// That of so much time.
    Periodic(Duration),
    /// So many revisions.
    Revision(i64),
}

const RETENTION: &str = "auto-compaction-retention";

impl AutoCompaction {
    /// What the settings say; `None` for no automatic compaction, which is the default.
    ///
    /// # Errors
    /// The retention is none of its mode's.
    pub(super) fn from_settings(
        settings: &Settings,
    ) -> Result<Option<AutoCompaction>, ConfigError> {
        let text = settings.text(RETENTION);
        let by_revision = settings.text("auto-compaction-mode") == "revision";
        let parsed = if by_revision { revisions(text) } else { period(text) };
        let Some(compaction) = parsed else {
            let expected = if by_revision {
                "a number of revisions, such as 1000, or 0 for no automatic compaction"
            } else {
                "a number of hours or a duration, such as 1 or 30m, or 0 for no automatic compaction"
            };
            return Err(ConfigError::InvalidValue {
                name: RETENTION,
                source: settings.source(RETENTION),
                value: text.to_owned(),
                expected: expected.to_owned(),
            });
        };
        Ok(compaction)
    }
}

/// `None` if the text is no number of revisions.
fn revisions(text: &str) -> Option<Option<AutoCompaction>> {
    let kept = if text.is_empty() { 0 } else { text.parse::<i64>().ok()? };
    (0 <= kept).then(|| (0 < kept).then_some(AutoCompaction::Revision(kept)))
}

/// A bare number counts hours. `None` if the text is no period.
fn period(text: &str) -> Option<Option<AutoCompaction>> {
    let kept = match text.parse::<u32>() {
        Ok(hours) => Duration::from_secs(u64::from(hours) * 60 * 60),
        Err(_) if text.is_empty() => Duration::ZERO,
        Err(_) => parse_duration(text)?,
    };
    Some((!kept.is_zero()).then_some(AutoCompaction::Periodic(kept)))
}

#[cfg(test)]
mod tests {
    use super::super::config_tests::config;
    use super::*;

    fn check(line: &str, expect: Option<AutoCompaction>) {
        assert_eq!(config(line).map(|config| config.auto_compaction), Ok(expect), "{line}");
    }

    #[test]
    fn retentions_as_etcd_reads_them() {
        let seconds = |seconds| Some(AutoCompaction::Periodic(Duration::from_secs(seconds)));
        check("", None);
        check("--auto-compaction-mode=revision", None);
        check("--auto-compaction-retention=0", None);
        check("--auto-compaction-retention=0s", None);
        check("--auto-compaction-retention=2", seconds(7200));
        check("--auto-compaction-retention=30m", seconds(1800));
        check("--auto-compaction-mode=periodic --auto-compaction-retention=1h30m", seconds(5400));
        let revisions = "--auto-compaction-mode=revision --auto-compaction-retention=1000";
        check(revisions, Some(AutoCompaction::Revision(1000)));
    }

    #[test]
    fn what_is_no_retention_is_refused() {
        for line in [
            "--auto-compaction-retention=soon",
            "--auto-compaction-retention=-1h",
            "--auto-compaction-mode=revision --auto-compaction-retention=1h",
            "--auto-compaction-mode=revision --auto-compaction-retention=-1",
        ] {
            let error = config(line).expect_err("the line is bad");
            assert!(error.contains("auto-compaction-retention cannot be"), "{line}: {error}");
        }
    }
}
