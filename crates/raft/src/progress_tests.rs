//! The states of a peer, and every way out of each.

use super::*;

const LIMITS: Limits = Limits {
    append_bytes_max: 100,
    inflight_messages_max: 2,
    inflight_bytes_max: 150,
    uncommitted_bytes_max: 1000,
};

const PROBE: State = State::Probe(Pause::Ready);
const WAITING: State = State::Probe(Pause::Waiting);
const REPLICATE: State = State::Replicate(Nudge::Idle);

fn offer(progress: &Progress, last: u64) -> Option<(u64, u64, u64)> {
    let offer = progress.offer(Index(last), Index(0), &LIMITS)?;
    Some((offer.prev.0, offer.last.0, offer.bytes_max))
}

/// A peer that holds everything up to `index`.
fn replicating(index: u64) -> Progress {
    let mut progress = Progress::new(Index(index).next());
    assert!(progress.advance(Index(index), Index(0)));
    assert_eq!(progress.state(), REPLICATE);
    progress
}

#[test]
fn a_new_peer_is_probed_once_until_it_answers() {
    let mut progress = Progress::new(Index(11));
    assert_eq!(offer(&progress, 20), Some((10, 20, 100)));
    progress.sent(Index(15), 50);
    assert_eq!(progress.state(), WAITING);
    assert_eq!(offer(&progress, 20), None);
    // The answer to the probe: what was sent with it is under way and is not sent again.
    assert!(progress.advance(Index(10), Index(0)));
    assert_eq!(progress.next_index(), Index(16));
    assert_eq!(offer(&progress, 20), Some((15, 20, 100)));
    assert!(progress.is_well_formed(Index(20), &LIMITS));
}

#[test]
fn an_answer_to_something_else_than_the_probe_starts_after_what_it_says() {
    let mut progress = Progress::new(Index(11));
    progress.sent(Index(15), 50);
    assert!(progress.advance(Index(4), Index(0)));
    assert_eq!(progress.next_index(), Index(5));
    assert!(progress.is_well_formed(Index(20), &LIMITS));
}

#[test]
fn the_window_is_bounded_in_messages_and_in_bytes() {
    let mut progress = replicating(10);
    progress.sent(Index(11), 100);
    assert_eq!(offer(&progress, 20), Some((11, 20, 50)), "what is left of the bytes");
    progress.sent(Index(12), 10);
    assert_eq!(offer(&progress, 20), None, "two messages");
    progress.advance(Index(11), Index(0));
    progress.sent(Index(13), 140);
    assert_eq!(offer(&progress, 20), None, "150 bytes");
    progress.advance(Index(13), Index(0));
    assert_eq!(offer(&progress, 20), Some((13, 20, 100)));
    // An entry larger than the window passes, and fills it.
    progress.sent(Index(14), 1000);
    assert_eq!(offer(&progress, 20), None);
    progress.advance(Index(14), Index(0));
    assert_eq!(offer(&progress, 20), Some((14, 20, 100)));
}

#[test]
fn a_conflict_goes_back_to_the_guess_and_never_to_what_matches() {
    for (guess, next) in [(15, 16), (12, 13), (10, 11), (3, 11), (40, 18)] {
        let mut progress = replicating(10);
        progress.sent(Index(18), 10);
        progress.sent(Index(20), 10);
        assert!(progress.regress(Index(18), Index(guess)));
        assert_eq!(progress.next_index(), Index(next), "guess {guess}");
        assert_eq!(progress.state(), PROBE);
        assert!(progress.is_well_formed(Index(20), &LIMITS));
    }
}

#[test]
fn a_stale_conflict_is_ignored() {
    let mut progress = replicating(10);
    progress.sent(Index(18), 10);
    assert!(!progress.regress(Index(10), Index(3)), "it matches by now");
    assert!(!progress.regress(Index(4), Index(3)));
    assert_eq!(progress.state(), REPLICATE);
    let mut progress = Progress::new(Index(11));
    progress.sent(Index(12), 10);
    assert!(!progress.regress(Index(9), Index(3)), "another probe");
    assert_eq!(progress.state(), WAITING);
    assert!(progress.regress(Index(10), Index(3)));
    assert_eq!(progress.next_index(), Index(4));
}

#[test]
fn a_probe_that_cannot_go_lower_waits() {
    let mut progress = replicating(3);
    progress.sent(Index(4), 10);
    progress.sent(Index(5), 10);
    assert!(progress.regress(Index(4), Index(3)));
    assert_eq!((progress.next_index(), progress.state()), (Index(4), PROBE));
    progress.sent(Index(4), 10);
    // Prev is 3 now, which matches; a peer that refuses it all the same is not asked in a loop.
    assert!(!progress.regress(Index(3), Index(2)));
    assert_eq!(progress.state(), WAITING);
    let mut progress = Progress::new(Index(5));
    progress.sent(Index(5), 10);
    assert!(progress.regress(Index(4), Index(9)), "the guess does not help");
    assert_eq!((progress.next_index(), progress.state()), (Index(4), PROBE));
}

#[test]
fn a_loss_allows_one_probe_and_a_second_loss_none() {
    let mut progress = replicating(10);
    progress.sent(Index(12), 10);
    progress.lose(Index(0));
    assert_eq!((progress.next_index(), progress.state()), (Index(11), PROBE));
    progress.sent(Index(12), 10);
    progress.lose(Index(0));
    assert_eq!(offer(&progress, 12), None);
    progress.answer(Index(0), Index(12));
    assert_eq!(offer(&progress, 12), None, "the heartbeat timer has not fired");
    progress.allow_retry();
    progress.answer(Index(0), Index(12));
    assert_eq!(offer(&progress, 12), Some((10, 12, 100)));
    let mut unknown = Progress::new(Index(11));
    unknown.lose(Index(0));
    assert_eq!(unknown.next_index(), Index(11), "a guess is not given up for a loss");
}

#[test]
fn a_peer_that_owes_an_answer_is_nudged_once_for_each_heartbeat() {
    let mut progress = replicating(10);
    progress.allow_retry();
    progress.answer(Index(0), Index(10));
    assert_eq!(offer(&progress, 10), None, "it owes nothing");
    progress.sent(Index(12), 10);
    progress.answer(Index(0), Index(12));
    assert_eq!(offer(&progress, 12), None, "one answer for each heartbeat");
    progress.allow_retry();
    progress.answer(Index(0), Index(12));
    assert_eq!(offer(&progress, 12), Some((12, 12, 0)));
    progress.sent(Index(12), 0);
    assert_eq!(offer(&progress, 12), None);
}

#[test]
fn the_commit_index_is_news_once() {
    let mut progress = replicating(10);
    let offer = |progress: &Progress, commit| progress.offer(Index(10), Index(commit), &LIMITS);
    assert_eq!(offer(&progress, 0), None);
    assert!(offer(&progress, 10).is_some_and(|offer| offer.prev == offer.last));
    progress.granted(Index(10));
    assert!(offer(&progress, 10).is_some(), "a grant alone is no message");
    progress.sent(Index(10), 0);
    assert_eq!(offer(&progress, 10), None);
    // What the peer has not been sent it cannot commit.
    assert_eq!(offer(&progress, 99), None);
}

#[test]
fn signs_of_life_and_read_rounds_are_kept() {
    let mut progress = Progress::new(Index(1));
    assert!(!progress.is_heard());
    progress.hear();
    assert!(progress.is_heard());
    progress.forget_heard();
    assert!(!progress.is_heard());
    progress.confirm(ReadRound(3));
    progress.confirm(ReadRound(2));
    assert_eq!(progress.round(), ReadRound(3));
}

/// The log was cut past what the peer was sent, so what it is sent next names the cut and no entry.
#[test]
fn an_append_at_the_cut_takes_no_place_in_a_full_window() {
    let mut progress = replicating(10);
    progress.sent(Index(11), 10);
    progress.sent(Index(12), 10);
    progress.resume(Index(0), Index(30));
    assert_eq!(offer(&progress, 30), Some((12, 12, 0)));
    progress.sent(Index(20), 0);
    assert!(progress.is_well_formed(Index(30), &LIMITS));
    assert_eq!(progress.next_index(), Index(21));
    assert_eq!(offer(&progress, 30), None, "two messages");
    assert!(progress.regress(Index(20), Index(10)));
    assert_eq!(offer(&progress, 30), Some((10, 30, 100)));
}

#[test]
fn a_peer_in_a_snapshot_is_sent_nothing_until_the_driver_says_how_it_ended() {
    let mut progress = replicating(2);
    progress.sent(Index(4), 10);
    progress.become_snapshot();
    assert_eq!(progress.window(), (0, 0), "what was under way is of no interest any more");
    progress.allow_retry();
    progress.answer(Index(9), Index(12));
    progress.lose(Index(9));
    progress.sent(Index(5), 10);
    assert!(!progress.regress(Index(4), Index(1)), "asked before the snapshot");
    assert!(progress.advance(Index(3), Index(9)), "a late match is true all the same");
    assert_eq!(progress.state(), State::Snapshot);
    assert_eq!(offer(&progress, 12), None);
    assert!(progress.is_well_formed(Index(12), &LIMITS));
    progress.deliver(Index(10));
    assert_eq!(offer(&progress, 12), Some((10, 12, 100)), "right behind the snapshot, at once");
    progress.deliver(Index(12));
    progress.fail(Index(9));
    assert_eq!(offer(&progress, 12), Some((10, 12, 100)), "late word changes nothing");
}

#[test]
fn a_match_from_before_the_snapshot_leads_to_no_other() {
    let mut progress = replicating(2);
    progress.become_snapshot();
    progress.deliver(Index(10));
    progress.sent(Index(12), 10);
    assert!(progress.advance(Index(3), Index(9)));
    assert_eq!(progress.state(), WAITING, "the probe behind the snapshot is under way");
    assert!(progress.advance(Index(10), Index(9)));
    assert_eq!(offer(&progress, 14), Some((12, 14, 100)));
}

#[test]
fn after_a_failure_the_peer_is_asked_at_the_cut_once_it_answers() {
    let mut progress = replicating(2);
    progress.become_snapshot();
    progress.fail(Index(9));
    assert_eq!(offer(&progress, 12), None);
    progress.answer(Index(9), Index(12));
    assert_eq!(offer(&progress, 12), None, "no heartbeat timer has fired since");
    progress.allow_retry();
    progress.answer(Index(9), Index(12));
    assert_eq!(offer(&progress, 12), Some((9, 12, 100)));
}

#[test]
fn a_probe_that_waited_while_the_log_was_cut_starts_at_the_cut() {
    let mut progress = replicating(2);
    progress.lose(Index(0));
    progress.lose(Index(0));
    progress.resume(Index(9), Index(12));
    assert_eq!(offer(&progress, 12), Some((9, 12, 100)));
    let mut progress = replicating(2);
    progress.lose(Index(9));
    assert_eq!(offer(&progress, 12), Some((9, 12, 100)), "what was sent may have arrived");
}

#[test]
fn a_recovering_peer_counts_for_nothing_and_starts_from_nothing() {
    let mut progress = replicating(7);
    progress.confirm(ReadRound(3));
    progress.hear();
    let recovery =
        Recovery { number: crate::RecoveryNumber(1), last: Index(9), round: ReadRound(4) };
    progress.begin_recovery(recovery, Index(9));
    assert_eq!((progress.match_index(), progress.held()), (Index(0), Index(0)));
    assert_eq!(progress.state(), PROBE);
    assert!(progress.advance(Index(5), Index(0)), "what it says in this life is true");
    progress.confirm(ReadRound(4));
    progress.hear();
    assert_eq!((progress.match_index(), progress.held()), (Index(0), Index(5)));
    assert_eq!(progress.round(), ReadRound(0));
    assert!(!progress.is_heard());
    assert_eq!(recovery.answer(ReadRound(3)), None);
    assert!(recovery.answer(ReadRound(4)).is_some());
    progress.end_recovery();
    assert_eq!((progress.match_index(), progress.round()), (Index(5), ReadRound(4)));
    assert!(progress.is_heard());
}
