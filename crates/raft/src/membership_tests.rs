//! The configurations of a log, held against the log itself.

use super::*;

/// Voter 1 and as many more as the number says: told apart by it, and following one another.
fn numbered(number: u64) -> Configuration {
    let learners = vec![NodeId(100 + number)];
    Configuration { learners, ..Configuration::of_voters([NodeId(1)]) }
}

/// A log as it would be kept with its entries: for each the configuration, if it is one.
#[derive(Clone)]
struct Plain {
    start: u64,
    base: Configuration,
    entries: Vec<Option<Configuration>>,
}

impl Plain {
    fn at(&self, index: u64) -> Configuration {
        let held = &self.entries[..(index - self.start) as usize];
        held.iter().rev().flatten().next().unwrap_or(&self.base).clone()
    }

    fn last(&self) -> u64 {
        self.start + self.entries.len() as u64
    }
}

/// All rows of up to four acts: an append of a plain entry or a configuration behind any entry, which
/// cuts off what is there, and a cut at any entry.
fn walk(plain: &Plain, membership: &Membership, depth: u64, seen: &mut u64) {
    *seen += 1;
    assert!(membership.is_well_formed(Index(plain.start), Index(plain.last())));
    assert_eq!(*membership.current(), plain.at(plain.last()));
    for index in plain.start..=plain.last() {
        assert_eq!(*membership.at(Index(index)), plain.at(index), "at {index}");
    }
    if depth == 0 {
        return;
    }
    for after in plain.start..=plain.last() {
        for is_configuration in [false, true] {
            let mut plain = plain.clone();
            plain.entries.truncate((after - plain.start) as usize);
            let configuration = is_configuration.then(|| numbered(*seen));
            plain.entries.push(configuration.clone());
            let mut membership = membership.clone();
            let before = membership.current().clone();
            let appended = configuration.map(|it| (Index(after + 1), it));
            // What lies outside of the range is another request's.
            let stray = (Index(after + 2), numbered(0));
            let changed = membership.splice(
                Index(after),
                Index(after + 1),
                appended.into_iter().chain([stray]),
            );
            assert!(changed || before == *membership.current());
            walk(&plain, &membership, depth - 1, seen);
        }
        let mut plain = plain.clone();
        plain.base = plain.at(after);
        plain.entries.drain(..(after - plain.start) as usize);
        plain.start = after;
        let mut membership = membership.clone();
        membership.compact(Index(after));
        walk(&plain, &membership, depth - 1, seen);
    }
}

#[test]
fn the_newest_configuration_of_the_log_is_in_force_whatever_is_cut_off_it() {
    let base = numbered(0);
    let membership = Membership::new(base.clone(), Vec::new());
    let plain = Plain { start: 3, base, entries: Vec::new() };
    let mut seen = 0;
    walk(&plain, &membership, 5, &mut seen);
    assert!(5_000 < seen);
}

#[test]
fn a_log_that_is_begun_anew_has_one_configuration() {
    let mut membership = Membership::new(numbered(1), vec![(Index(2), numbered(2))]);
    assert!(!membership.restart(numbered(2)), "it was in force already");
    assert!(membership.logged().is_empty());
    assert!(membership.restart(numbered(3)));
    assert_eq!(*membership.at(Index(9)), numbered(3));
}

#[test]
fn what_a_message_carries_is_what_lies_in_its_range() {
    let logged = [2, 5, 7].map(|index| (Index(index), numbered(index))).to_vec();
    let membership = Membership::new(numbered(0), logged);
    let within = |after, last| -> Vec<u64> {
        let within = membership.within(Index(after), Index(last));
        within.iter().map(|(index, _)| index.0).collect()
    };
    assert_eq!(within(0, 9), [2, 5, 7]);
    assert_eq!(within(2, 7), [5, 7]);
    assert_eq!(within(2, 4), [0; 0]);
    assert_eq!(within(7, 7), [0; 0]);
    assert_eq!(within(9, 3), [0; 0]);
}
