//! What a late completion may count for.

use super::*;
use crate::contract::{Range, Term};

fn log_of(terms: &[u64]) -> Log {
    let mut range = Range::empty(Position::default());
    terms.iter().for_each(|term| range.push(Term(*term)));
    Log::new(&range)
}

fn at(index: u64, term: u64) -> Position {
    Position { index: Index(index), term: Term(term) }
}

fn splice(after: u64, last_before: u64) -> Option<Splice> {
    Some(Splice { after: Index(after), last_before: Index(last_before) })
}

#[test]
fn a_completion_counts_up_to_the_log_s_end_as_of_the_write() {
    let state = HardState::default();
    let mut stable = Stable::new(state, Index(1));
    let first = stable.write(state, splice(1, 1));
    let second = stable.write(state, splice(3, 3));
    let log = log_of(&[1, 1, 1, 1, 1]);
    stable.persisted(first, at(3, 1), &log);
    assert_eq!(stable.durable_index(), Index(3));
    stable.persisted(second, at(5, 1), &log);
    assert_eq!(stable.durable_index(), Index(5));
    stable.persisted(first, at(3, 1), &log);
    assert_eq!(stable.durable_index(), Index(5), "a repeated completion changes nothing");
}

#[test]
fn one_completion_may_answer_for_several_writes() {
    let state = HardState::default();
    let mut stable = Stable::new(state, Index(0));
    stable.write(state, splice(0, 0));
    let second = stable.write(HardState { term: Term(2), vote: None }, splice(2, 2));
    assert!(!stable.is_hard_state_durable());
    stable.persisted(second, at(4, 2), &log_of(&[1, 1, 2, 2]));
    assert!(stable.is_hard_state_durable());
    assert_eq!(stable.durable_index(), Index(4));
}

/// The picture of the module's head, with the completion of each of the three writes in turn.
#[test]
fn an_entry_of_the_same_name_does_not_stand_for_the_one_that_was_overwritten() {
    let state = |term| HardState { term: Term(term), vote: None };
    let mut stable = Stable::new(state(2), Index(4));
    let first = stable.write(state(2), splice(4, 4)); // 5 6 7 of term 2
    let second = stable.write(state(3), splice(4, 7)); // 5 of term 3
    let third = stable.write(state(4), splice(4, 5)); // 5 of term 2, 6 of term 4
    let log = log_of(&[1, 1, 1, 1, 2, 4]);
    stable.persisted(first, at(7, 2), &log);
    assert_eq!(stable.durable_index(), Index(4), "7 is gone, and 5 is another 5");
    stable.persisted(second, at(5, 3), &log);
    assert_eq!(stable.durable_index(), Index(4), "5 of term 3 is on the disk, and not in the log");
    stable.persisted(third, at(6, 4), &log);
    assert_eq!(stable.durable_index(), Index(6));
}

/// As above, but write 1 ended in the very entry that came back: its name alone would pass.
#[test]
fn not_even_the_same_index_and_term_count_while_an_overwrite_is_under_way() {
    let state = |term| HardState { term: Term(term), vote: None };
    let mut stable = Stable::new(state(2), Index(4));
    let first = stable.write(state(2), splice(4, 4)); // 5 of term 2
    stable.write(state(3), splice(4, 5)); // 5 of term 3
    stable.write(state(4), splice(4, 5)); // 5 of term 2 again
    let log = log_of(&[1, 1, 1, 1, 2]);
    stable.persisted(first, at(5, 2), &log);
    assert_eq!(stable.durable_index(), Index(4));
}

#[test]
fn dropping_durable_entries_takes_them_back() {
    let state = HardState::default();
    let mut stable = Stable::new(state, Index(5));
    let write = stable.write(state, splice(2, 5));
    assert_eq!(stable.durable_index(), Index(2));
    stable.persisted(write, at(3, 3), &log_of(&[1, 1, 3]));
    assert_eq!(stable.durable_index(), Index(3));
}

/// The log ended at 4 and is begun anew behind 6; a write of 5 and 6 was under way.
#[test]
fn a_log_begun_anew_is_durable_when_that_is_written_and_not_before() {
    let state = HardState::default();
    let mut stable = Stable::new(state, Index(4));
    let before = stable.write(state, splice(4, 4)); // 5 6, of another leader
    let anew = stable.write_anew(state, Index(6));
    let after = stable.write(state, splice(6, 6)); // 7 8
    let begun = at(6, 3);
    let mut range = Range::empty(begun);
    (0..2).for_each(|_| range.push(Term(3)));
    let log = Log::new(&range);
    assert_eq!(stable.durable_index(), Index(4), "what the disk held of the committed stays");
    stable.persisted(before, at(6, 2), &log);
    assert_eq!(stable.durable_index(), Index(4));
    stable.persisted(anew, begun, &log);
    assert_eq!(stable.durable_index(), Index(6));
    stable.persisted(after, at(8, 3), &log);
    assert_eq!(stable.durable_index(), Index(8));
}

/// As in etcd #18055, where the second of two snapshots made an end of the process.
#[test]
fn the_completion_of_a_first_snapshot_stands_for_no_second_one() {
    let state = HardState::default();
    let mut stable = Stable::new(state, Index(9));
    let first = stable.write_anew(state, Index(6));
    assert_eq!(stable.durable_index(), Index(5), "the entries of the old log are gone");
    let second = stable.write_anew(state, Index(8));
    let log = Log::new(&Range::empty(at(8, 2)));
    stable.persisted(first, at(6, 2), &log);
    assert_eq!(stable.durable_index(), Index(5));
    stable.persisted(second, at(8, 2), &log);
    assert_eq!(stable.durable_index(), Index(8));
}

#[test]
fn term_and_vote_wait_for_the_first_write_that_holds_them() {
    let old = HardState::default();
    let new = HardState { term: Term(1), vote: None };
    let mut stable = Stable::new(old, Index(0));
    assert!(stable.is_hard_state_durable(), "what was read back is durable");
    let log = log_of(&[]);
    let first = stable.write(old, None);
    let second = stable.write(new, None);
    stable.write(new, None);
    stable.persisted(first, at(0, 0), &log);
    assert!(!stable.is_hard_state_durable());
    assert_eq!(stable.holding(), second);
    stable.persisted(second, at(0, 0), &log);
    assert!(stable.is_hard_state_durable());
}

#[test]
#[should_panic(expected = "stable invariant 1")]
fn a_write_that_nobody_asked_for_cannot_complete() {
    let mut stable = Stable::new(HardState::default(), Index(0));
    stable.persisted(WriteNumber(1), at(0, 0), &log_of(&[]));
}
