//! `log dump` and `log check`: a member's log, read offline, also when it is damaged.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use jangada_wal::inspect::{BatchFinding, Damage, End, EntryFinding, Finding, SegmentFinding};
use jangada_wal::{FileDisk, Place, inspect};
use serde_json::{Value, json};

use crate::arguments::{self, Format, Log, LogCommand};
use crate::failure::Failure;
use crate::output;

/// Reads a log and prints it, or only what is wrong with it.
pub(crate) fn run(options: &arguments::Client, log: &Log) -> Result<(), Failure> {
    let json = options.output == Some(Format::Json);
    match &log.command {
        LogCommand::Dump { dir } => dump(dir, json),
        LogCommand::Check { dir } => check(dir, json),
    }
}

/// Goes through the log and prints what `text` makes of each finding.
fn walk(dir: &Path, text: impl Fn(&Finding) -> Option<String>) -> Result<inspect::Totals, Failure> {
    let failed = |problem: String| Failure::Failed(format!("{}: {problem}", dir.display()));
    let disk = FileDisk::read_only(dir).map_err(|error| {
        failed(format!("{error}; name the directory of a log, such as default.etcd/wal"))
    })?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut written = Ok(());
    let totals = inspect::inspect(&disk, &mut |finding| {
        if let Some(line) = text(&finding).filter(|_| written.is_ok()) {
            written = writeln!(out, "{line}");
        }
    })
    .map_err(|error| failed(error.to_string()))?;
    written.and_then(|()| out.flush())?;
    Ok(totals)
}

fn dump(dir: &Path, json: bool) -> Result<(), Failure> {
    let totals = walk(dir, |finding| {
        Some(if json { finding_json(finding).to_string() } else { finding_text(finding) })
    })?;
    if json {
        return Ok(output::print_json(&totals_json(&totals))?);
    }
    Ok(writeln!(io::stdout().lock(), "{}", totals_text(&totals))?)
}

fn check(dir: &Path, json: bool) -> Result<(), Failure> {
    let totals = walk(dir, |finding| match finding {
        Finding::Damage(_) | Finding::Dropped(_) if json => Some(finding_json(finding).to_string()),
        Finding::Damage(_) | Finding::Dropped(_) | Finding::End { end: End::Torn, .. } if !json => {
            Some(finding_text(finding))
        }
        _ => None,
    })?;
    if json {
        output::print_json(&totals_json(&totals))?;
    } else {
        writeln!(io::stdout().lock(), "{}", totals_text(&totals))?;
    }
    match totals.damaged {
        0 => Ok(()),
        damaged => Err(Failure::Failed(format!(
            "the log is damaged in {damaged} places; 'jangada log dump' shows what is sound around \
             them"
        ))),
    }
}

fn totals_text(totals: &inspect::Totals) -> String {
    format!(
        "{} segments, {} batches, {} entries, {} damaged places, {} more dropped{}",
        totals.segments,
        totals.batches,
        totals.entries,
        totals.damaged,
        totals.dropped,
        if totals.recovering {
            "; the member has lost entries and does not vote until the others have given them back"
        } else {
            ""
        }
    )
}

fn totals_json(totals: &inspect::Totals) -> Value {
    json!({"totals": {
        "segments": totals.segments,
        "batches": totals.batches,
        "entries": totals.entries,
        "damaged": totals.damaged,
        "dropped": totals.dropped,
        "recovering": totals.recovering,
    }})
}

fn place_text(place: &Place) -> String {
    format!("segment {} byte {}", place.segment, place.offset)
}

fn finding_text(finding: &Finding) -> String {
    match finding {
        Finding::Segment(segment) => segment_text(segment),
        Finding::Batch(batch) => batch_text(batch),
        Finding::Entry(entry) => entry_text(entry),
        Finding::Damage(damage) => format!("DAMAGED: {}", damage_text(damage)),
        Finding::Dropped(damage) => {
            format!("damaged, and dropped by a later segment: {}", damage_text(damage))
        }
        Finding::End { place, end } => format!("  {}: {}", place_text(place), end_text(*end)),
        Finding::Spare { name } => format!("spare file {name}"),
    }
}

fn end_text(end: End) -> &'static str {
    match end {
        End::Unwritten => "nothing is written behind this",
        End::Continued => "the next segment goes on",
        End::Torn => "a batch that is not whole: it was being written at the end, or is just now",
    }
}

fn segment_text(segment: &SegmentFinding) -> String {
    let voters: Vec<String> =
        segment.configuration.voters.iter().map(ToString::to_string).collect();
    format!(
        "segment {}: {} bytes, term {}, vote {}, starts behind entry {} of term {}, voters {}{}",
        segment.number,
        segment.file_bytes,
        segment.hard_state.term,
        segment.hard_state.vote.map_or("none".to_owned(), |vote| vote.to_string()),
        segment.start.index,
        segment.start.term,
        voters.join(", "),
        if segment.recovering { ", recovering" } else { "" }
    )
}

fn batch_text(batch: &BatchFinding) -> String {
    format!(
        "  batch {} at {}: {} bytes, term {}, vote {}, {} entries behind {}{}{}",
        batch.sequence,
        place_text(&batch.place),
        batch.bytes,
        batch.hard_state.term,
        batch.hard_state.vote.map_or("none".to_owned(), |vote| vote.to_string()),
        batch.entries,
        batch.after.index,
        batch.note_bytes.map_or(String::new(), |bytes| format!(", note of {bytes} bytes")),
        if batch.mirrored { "" } else { ", one of its two headers is bad" }
    )
}

fn entry_text(entry: &EntryFinding) -> String {
    let kind = entry
        .header
        .as_ref()
        .map_or_else(|| format!("kind {}", entry.kind), |header| format!("{:?}", header.kind));
    format!(
        "    entry {} term {} {kind}, {} bytes",
        entry.position.index, entry.position.term, entry.bytes
    )
}

fn damage_text(damage: &Damage) -> String {
    match damage {
        Damage::SegmentHeader { number } => {
            format!("segment {number}: neither copy of its header is sound")
        }
        Damage::Format { number, found } => format!(
            "segment {number} is of format {found}, which this version does not know; read it \
             with the version that wrote it"
        ),
        Damage::Truncated { place, file_bytes } => {
            format!("{}: the file ends here and had {file_bytes} bytes", place_text(place))
        }
        Damage::Batch { place, until } => {
            format!("{}: no batch is sound from here to byte {until}", place_text(place))
        }
        Damage::Mirror { place } => {
            format!("{}: one of the batch's two headers is bad", place_text(place))
        }
        Damage::Frame { place, position } => format!(
            "{}: entry {} of term {} is bad",
            place_text(place),
            position.index,
            position.term
        ),
    }
}

fn place_json(place: &Place) -> Value {
    json!({"segment": place.segment, "offset": place.offset})
}

fn finding_json(finding: &Finding) -> Value {
    match finding {
        Finding::Segment(segment) => json!({"segment": {
            "number": segment.number,
            "file_bytes": segment.file_bytes,
            "term": segment.hard_state.term.0,
            "vote": segment.hard_state.vote.map(|vote| vote.to_string()),
            "start_index": segment.start.index.0,
            "start_term": segment.start.term.0,
            "note_bytes": segment.note_bytes,
            "recovering": segment.recovering,
        }}),
        Finding::Batch(batch) => json!({"batch": {
            "place": place_json(&batch.place),
            "bytes": batch.bytes,
            "sequence": batch.sequence,
            "term": batch.hard_state.term.0,
            "vote": batch.hard_state.vote.map(|vote| vote.to_string()),
            "after_index": batch.after.index.0,
            "entries": batch.entries,
            "note_bytes": batch.note_bytes,
            "mirrored": batch.mirrored,
        }}),
        Finding::Entry(entry) => json!({"entry": {
            "index": entry.position.index.0,
            "term": entry.position.term.0,
            "place": place_json(&entry.place),
            "bytes": entry.bytes,
            "kind": entry.kind,
            "sound": entry.header.is_some(),
        }}),
        Finding::Damage(damage) => json!({"damage": damage_text(damage)}),
        Finding::Dropped(damage) => json!({"dropped": damage_text(damage)}),
        Finding::End { place, end } => {
            json!({"end": {"place": place_json(place), "why": end_text(*end)}})
        }
        Finding::Spare { name } => json!({"spare": name}),
    }
}
