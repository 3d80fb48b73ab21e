//! The headers of the log's segments and batches.

use bytes::Bytes;
use jangada_entry::Kind;
use jangada_wal::fuzz::{check_batch_header, check_segment_header, header_bytes, headers};

use crate::entry::{configurations, frame};

/// Reads the input as either header, as it is and with its length and its checksum made good.
///
/// # Panics
/// At the first thing that is wrong.
pub(crate) fn check(data: &[u8]) {
    let _ = check_segment_header(data);
    let _ = check_batch_header(data);
    if data.len() < 512 {
        // A file has whole sectors; what an input leaves out is zeros there.
        let mut sector = data.to_vec();
        sector.resize(512, 0);
        either(&mut sector);
    }
    either(&mut data.to_vec());
    let mut fitted = data.to_vec();
    if fit(&mut fitted) {
        either(&mut fitted);
    }
}

fn either(bytes: &mut [u8]) {
    if header_bytes(bytes).is_none_or(|length| bytes.len() < length) {
        return;
    }
    jangada_wal::fuzz::seal(bytes);
    let segment = check_segment_header(bytes);
    let batch = check_batch_header(bytes);
    assert!(!(segment && batch), "no bytes are both");
}

/// Makes a header that begins with either magic end where the input ends.
fn fit(bytes: &mut [u8]) -> bool {
    let Ok(length) = u32::try_from(bytes.len()) else { return false };
    let at = match bytes {
        [b'j', b'b', b'a', b't', ..] => 56,
        [b'j', b'a', b'n', b'g', ..] => 12,
        _ => return false,
    };
    let Some(field) = bytes.get_mut(at..at + 4) else { return false };
    field.copy_from_slice(&length.to_le_bytes());
    true
}

/// Headers with and without entries, notes and outgoing voters.
#[must_use]
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (configuration, entries) in configurations().into_iter().zip([0, 1, 5]) {
        let frames: Vec<_> =
            (1..=entries).map(|index| frame(Kind::Command, index, 2, &[7; 30])).collect();
        let note = Bytes::from(vec![3; entries as usize * 4]);
        seeds.extend(headers(configuration, note, &frames));
    }
    seeds
}
