//! Every log of up to five entries and three terms, against a plain list of terms.

use super::*;

/// Every list of at most `length` terms that never falls and stays within 1 to `terms`.
fn lists(length: usize, terms: u64) -> Vec<Vec<u64>> {
    let mut all = vec![vec![]];
    let mut grown: Vec<Vec<u64>> = all.clone();
    for _ in 0..length {
        grown = grown
            .iter()
            .flat_map(|list| {
                let least = list.last().copied().unwrap_or(1);
                (least..=terms).map(|term| [list.clone(), vec![term]].concat())
            })
            .collect();
        all.extend(grown.iter().cloned());
    }
    all
}

fn range_of(prev: Position, terms: &[u64]) -> Range {
    let mut range = Range::empty(prev);
    terms.iter().for_each(|term| range.push(Term(*term)));
    range
}

fn log_of(terms: &[u64]) -> Log {
    Log::new(&range_of(Position::default(), terms))
}

fn terms_of(log: &Log) -> Vec<u64> {
    let first = log.start().index.0 + 1;
    let term_at = |index| log.term_at(Index(index)).expect("within the log").0;
    (first..=log.last_index().0).map(term_at).collect()
}

fn position(terms: &[u64], index: usize) -> Position {
    let term = if index == 0 { 0 } else { terms[index - 1] };
    Position { index: Index(index as u64), term: Term(term) }
}

#[test]
fn a_log_answers_as_the_list_of_its_terms() {
    for terms in lists(5, 3) {
        let log = log_of(&terms);
        assert!(log.is_well_formed());
        assert_eq!(terms_of(&log), terms);
        assert_eq!(log.last_position(), position(&terms, terms.len()));
        assert_eq!(log.term_at(Index(terms.len() as u64 + 1)), None);
        for prev in 0..=terms.len() {
            for last in prev..=terms.len() {
                let range = log.range(Index(prev as u64), Index(last as u64), 8);
                assert!(range.is_well_formed(), "{range:?}");
                assert_eq!(range, range_of(position(&terms, prev), &terms[prev..last]));
                let after = range.after(range.last);
                assert_eq!(after, Range::empty(range.last_position()));
                assert_eq!(range.after(range.prev.index), range);
            }
        }
    }
}

#[test]
fn a_range_stops_at_the_bound_of_its_terms() {
    let log = log_of(&[1, 1, 2, 3, 3, 4]);
    assert_eq!(log.range(Index(0), Index(6), 0).last, Index(2));
    assert_eq!(log.range(Index(0), Index(6), 1).last, Index(3));
    assert_eq!(log.range(Index(0), Index(6), 2).last, Index(5));
    assert_eq!(log.range(Index(0), Index(4), 2).last, Index(4));
    assert_eq!(log.range(Index(0), Index(6), 3).last, Index(6));
}

#[test]
fn the_first_difference_is_where_the_lists_part() {
    for ours in lists(4, 3) {
        let log = log_of(&ours);
        for theirs in lists(4, 3) {
            for prev in 0..=theirs.len() {
                let range = range_of(position(&theirs, prev), &theirs[prev..]);
                // Only lists that Log Matching allows: where one entry is equal, all before are.
                let equal = |at: usize| ours.get(at).is_some_and(|term| *term == theirs[at]);
                let matching = (0..theirs.len()).all(|at| !equal(at) || (0..at).all(equal));
                if !matching || !log.holds(range.prev) {
                    continue;
                }
                let expected = (prev..theirs.len()).find(|at| !equal(*at));
                let expected = expected.map(|at| Index(at as u64 + 1));
                assert_eq!(log.first_difference(&range), expected, "{ours:?} {theirs:?} {prev}");
            }
        }
    }
}

#[test]
fn a_hint_never_skips_an_entry_that_both_logs_hold() {
    for ours in lists(5, 3) {
        let log = log_of(&ours);
        for index in 0..=6 {
            for term in 0..=3 {
                let limit = Position { index: Index(index), term: Term(term) };
                let found = log.last_not_above(limit);
                let fits = |at: &usize| *at as u64 <= index && position(&ours, *at).term.0 <= term;
                let expected = (0..=ours.len()).rev().find(fits).unwrap_or(0);
                assert_eq!(found, position(&ours, expected), "{ours:?} {limit:?}");
            }
        }
    }
}

#[test]
fn a_splice_keeps_what_lies_before_it() {
    for before in lists(4, 3) {
        for kept in 0..=before.len() {
            for tail in lists(3, 4) {
                let least = position(&before, kept).term.0;
                if tail.first().is_some_and(|term| *term < least) {
                    continue;
                }
                let mut log = log_of(&before);
                log.splice(&range_of(position(&before, kept), &tail));
                assert!(log.is_well_formed(), "{log:?}");
                assert_eq!(terms_of(&log), [&before[..kept], &tail[..]].concat());
            }
        }
    }
}

#[test]
fn a_cut_forgets_what_lies_before_it_and_nothing_else() {
    for terms in lists(5, 3) {
        for cut in 0..=terms.len() {
            let mut log = log_of(&terms);
            log.compact(position(&terms, cut));
            assert!(log.is_well_formed(), "{terms:?} {cut} {log:?}");
            assert_eq!(log.start(), position(&terms, cut));
            assert_eq!(terms_of(&log), terms[cut..]);
            assert_eq!(log.last_position(), position(&terms, terms.len()));
            assert_eq!(log.term_at(Index(cut as u64).previous()).is_some(), cut == 0);
        }
    }
}

#[test]
fn the_later_term_is_newer_and_then_the_longer_log() {
    let log = log_of(&[1, 1, 2]);
    let at = |index, term| Position { index: Index(index), term: Term(term) };
    for (other, newer) in
        [(at(3, 2), true), (at(4, 2), true), (at(1, 3), true), (at(2, 2), false), (at(9, 1), false)]
    {
        assert_eq!(log.is_no_newer_than(other), newer, "{other:?}");
    }
}
