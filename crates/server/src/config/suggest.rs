//! Finds the name a mistyped one was probably meant to be.

/// The most letters of a name that is compared: no setting's name has half as many. A key of a file
/// can have a million, and comparing takes time with each.
const WRITTEN_BYTES_MAX: usize = 128;

/// The candidate with the smallest edit distance, if it is close enough to be a help: at most a
/// third of the letters wrong. Earlier candidates win a tie.
pub(super) fn nearest(
    written: &str,
    candidates: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    if WRITTEN_BYTES_MAX < written.len() {
        return None;
    }
    let limit = (written.len() / 3).max(1);
    candidates
        .map(|candidate| (distance(written.as_bytes(), candidate.as_bytes()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The number of letters to insert, remove, change or swap with their neighbour, row by row.
fn distance(left: &[u8], right: &[u8]) -> usize {
    let mut above: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for i in 0..left.len() {
        let mut next = vec![i + 1];
        for j in 0..right.len() {
            let change = row[j] + usize::from(left[i] != right[j]);
            let mut least = change.min(next[j] + 1).min(row[j + 1] + 1);
            let swapped = 0 < i && 0 < j && left[i] == right[j - 1] && left[i - 1] == right[j];
            if swapped {
                least = least.min(above[j - 1] + 1);
            }
            next.push(least);
        }
        above = std::mem::replace(&mut row, next);
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::{WRITTEN_BYTES_MAX, distance, nearest};

    /// Found while its fuzz target was written: a key of a megabyte in a configuration file was
    /// compared, letter by letter, with the name of every setting.
    #[test]
    fn a_name_that_is_far_too_long_is_near_none() {
        let name = "listen-client-urls";
        assert_eq!(nearest(&format!("{name}x"), [name].into_iter()), Some(name));
        let long = name.repeat(1 << 16);
        assert_eq!(nearest(&long, [name].into_iter()), None);
        let longest = crate::config::table::all().map(|setting| setting.name.len()).max();
        assert!(longest.is_some_and(|longest| 2 * longest <= WRITTEN_BYTES_MAX), "{longest:?}");
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance(b"", b"abc"), 3);
        assert_eq!(distance(b"kitten", b"sitting"), 3);
        assert_eq!(distance(b"same", b"same"), 0);
        assert_eq!(distance(b"nmae", b"name"), 1);
    }
}
