use super::*;

fn names(terms: &[u64]) -> Names {
    let mut names = Names::default();
    for term in terms {
        let prev = names.last();
        names.splice(&Splice {
            prev,
            last: prev.index.next(),
            first_term: Term(*term),
            more: Vec::new(),
        });
    }
    names
}

/// Every log of up to four entries and three terms.
fn logs() -> Vec<Vec<u64>> {
    let mut logs = vec![Vec::new()];
    let mut from = 0;
    for _ in 0..4 {
        let end = logs.len();
        for place in from..end {
            for term in logs[place].last().copied().unwrap_or(1)..=3 {
                let mut log = logs[place].clone();
                log.push(term);
                logs.push(log);
            }
        }
        from = end;
    }
    logs
}

#[test]
fn runs_answer_as_lists_of_terms_do() {
    for one in logs() {
        let left = names(&one);
        for index in 0..6_u64 {
            let term = if index == 0 { Some(&0) } else { one.get(index as usize - 1) };
            assert_eq!(left.term_at(Index(index)), term.copied().map(Term));
            let mut cut = left.clone();
            cut.truncate(Index(index));
            assert_eq!(cut, names(&one[..one.len().min(index as usize)]));
            let kept: u64 =
                left.runs_after(Index(index)).map(|(_, first, last)| last.0 + 1 - first.0).sum();
            assert_eq!(kept, (one.len() as u64).saturating_sub(index), "{one:?} after {index}");
        }
        for other in logs() {
            let right = names(&other);
            for index in 0..6 {
                let equal = index <= one.len().min(other.len()) && one[..index] == other[..index];
                assert_eq!(left.agrees(&right, Index(index as u64)), equal, "{one:?} {other:?}");
            }
        }
    }
}

#[test]
fn a_splice_is_the_range_it_was_made_of() {
    for log in logs() {
        for after in 0..log.len() {
            let whole = names(&log);
            let term = whole.term_at(Index(after as u64)).expect("within");
            let mut range = Range::empty(Position { index: Index(after as u64), term });
            log[after..].iter().for_each(|term| range.push(Term(*term)));
            let splice = Splice::from(&range);
            assert!(whole.holds_all(&splice));
            let mut copy = names(&log[..after]);
            copy.splice(&splice);
            assert_eq!(copy, whole);
            let mut other = log.clone();
            *other.last_mut().expect("not empty") += 1;
            assert!(!names(&other).holds_all(&splice));
            assert!(!names(&log[..log.len() - 1]).holds_all(&splice));
        }
    }
}
