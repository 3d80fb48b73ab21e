//! Judges what becomes of leases in time.
//!
//! Responsible for the promises: whoever is told that a lease has so many seconds may count on them
//! from the moment in which he asked, and a lease that nobody keeps is soon gone. Not responsible for
//! which leases there are at an entry of the log ([`super::model`]).
//!
//! Time is the world's. A lessor counts by its own member's clock, which may be faster than the world's
//! by some percent, so promises are held to that much less; and to that much more when a lease is to go.
//!
//! 1. No lessor ends a lease before the time is over that was promised to whoever was granted it, has
//!    renewed it, or has asked how much remains.
//! 2. A lease is renewed while it is there, and only then; its time is what it was granted for.
//! 3. What is told to remain is no less than what was promised before.
//! 4. Once nothing goes wrong, a lease goes within its time, an election timeout and two seconds,
//!    counted from when a member leads or somebody renewed it last.

use std::collections::BTreeMap;

use bytes::Bytes;
use jangada_raft::Index;

use crate::invariants::Violation;
use crate::world::chaos::DRIFT;

/// What is compared.
const EARLY: &str = "leases never end early";
const FENCED: &str = "leases are renewed while they are there";
const LATE: &str = "leases that nobody keeps end";

/// How long the end of a lease may take once its time is over, in microseconds: a step of the lessor,
/// an order that is given again after half a second, and the round of the log.
const SLACK_US: u64 = 2_000_000;

/// The election timeout of the members, which a new leader gives on top, in microseconds.
const ELECTION_TIMEOUT_US: u64 = 1_000_000;

const SECOND_US: u64 = 1_000_000;

/// A lease from its grant to its end.
#[derive(Clone, Debug)]
struct Life {
    granted: Index,
    ttl: i64,
    begun_us: u64,
    ended: Option<End>,
    /// Before this it does not end by itself.
    promised_us: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct End {
    at_us: u64,
    /// By a lessor, and not by a client.
    expired: bool,
}

/// The answer to one who asked how much remains.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// The lease.
    pub id: i64,
    /// The seconds that remain; -1 for a lease that is gone.
    pub ttl: i64,
    /// The seconds that it was granted for.
    pub granted_ttl: i64,
    /// Its keys, if they were asked for.
    pub keys: Vec<Bytes>,
}

/// When something was asked, and when it was answered.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// When it was asked, in microseconds.
    pub asked_us: u64,
    /// When it was answered, in microseconds.
    pub told_us: u64,
}

/// Knows what was promised of which lease.
#[derive(Clone, Debug, Default)]
pub struct LeaseJudge {
    lives: BTreeMap<i64, Vec<Life>>,
}

/// The microseconds that pass at least while the fastest clock counts so many seconds.
fn least_us(seconds: i64) -> u64 {
    let counted = u128::try_from(seconds).unwrap_or_default() * u128::from(SECOND_US);
    let passed = counted * u128::from(SECOND_US) / u128::from(SECOND_US + DRIFT);
    u64::try_from(passed).unwrap_or(u64::MAX)
}

/// The microseconds that pass at most while the slowest clock counts so many.
fn most_us(counted_us: u64) -> u64 {
    let passed = u128::from(counted_us) * u128::from(SECOND_US) / u128::from(SECOND_US - DRIFT);
    u64::try_from(passed).unwrap_or(u64::MAX)
}

fn violated(invariant: &'static str, seen: String) -> Violation {
    Violation { invariant, seen }
}

impl Life {
    /// Whether it was there at some moment of the span.
    fn meets(&self, span: Span) -> bool {
        self.begun_us <= span.told_us && self.ended.is_none_or(|end| span.asked_us <= end.at_us)
    }

    /// Whether it was there at every moment of the span.
    fn fills(&self, span: Span) -> bool {
        self.begun_us < span.asked_us && self.ended.is_none_or(|end| span.told_us < end.at_us)
    }

    /// Whether it has not ended by itself before this.
    fn keeps(&self, until_us: u64) -> bool {
        self.ended.is_none_or(|end| !end.expired || until_us <= end.at_us)
    }
}

impl LeaseJudge {
    /// A lease is granted.
    pub fn granted(&mut self, id: i64, granted: Index, ttl: i64, now_us: u64) {
        let promised_us = now_us.saturating_add(least_us(ttl));
        let life = Life { granted, ttl, begun_us: now_us, ended: None, promised_us };
        self.lives.entry(id).or_default().push(life);
    }

    /// A lease has ended.
    ///
    /// # Errors
    /// Invariant 1.
    pub fn ended(&mut self, id: i64, expired: bool, now_us: u64) -> Result<(), Violation> {
        let life = self.lives.get_mut(&id).and_then(|lives| lives.last_mut());
        let life = life.expect("the model ends what was granted");
        life.ended = Some(End { at_us: now_us, expired });
        if expired && now_us < life.promised_us {
            let (granted, ttl, early_us) = (life.granted, life.ttl, life.promised_us - now_us);
            return Err(violated(
                EARLY,
                format!(
                    "lease {id} of entry {granted}, granted for {ttl} s, is ended {early_us} us \
                     before the time that was promised"
                ),
            ));
        }
        Ok(())
    }

    /// A client was told that a lease is renewed for so many seconds; 0 if it is gone.
    ///
    /// # Errors
    /// Invariant 2.
    pub fn renewed(&mut self, id: i64, ttl: i64, span: Span) -> Result<(), Violation> {
        if ttl == 0 {
            return self.gone(id, span);
        }
        self.promise(id, ttl, ttl, span)
    }

    /// What was promised of a lease until now, for [`LeaseJudge::remains`].
    #[must_use]
    pub fn promised_us(&self, id: i64) -> u64 {
        let life = self.lives.get(&id).and_then(|lives| lives.last());
        life.map_or(0, |life| life.promised_us)
    }

    /// A client was told how much remains; `promised_us` is what was promised when it asked.
    ///
    /// # Errors
    /// Invariants 2 and 3.
    pub fn remains(&mut self, told: &Told, promised_us: u64, span: Span) -> Result<(), Violation> {
        let Told { id, ttl, granted_ttl, .. } = *told;
        if ttl == -1 && granted_ttl == 0 && told.keys.is_empty() {
            return self.gone(id, span);
        }
        if ttl < 0 || granted_ttl < ttl {
            return Err(violated(FENCED, format!("{told:?}")));
        }
        let lives = self.lives.get(&id).into_iter().flatten();
        let met: Vec<&Life> = lives.filter(|life| life.meets(span)).collect();
        if let [only] = met[..]
            && only.begun_us < span.asked_us
        {
            // Whole seconds are told.
            let promised_us = promised_us.saturating_sub(span.told_us);
            let told_us = u64::try_from(ttl + 1).unwrap_or_default().saturating_mul(SECOND_US);
            if told_us < promised_us {
                return Err(violated(
                    FENCED,
                    format!("{told:?}, and {promised_us} us were promised: {only:?}"),
                ));
            }
        }
        self.promise(id, granted_ttl, ttl, span)
    }

    /// A client was told that a lease, granted for `ttl` seconds, has so many more.
    fn promise(&mut self, id: i64, ttl: i64, seconds: i64, span: Span) -> Result<(), Violation> {
        let until_us = span.asked_us.saturating_add(least_us(seconds));
        let lives = self.lives.entry(id).or_default();
        let may = |life: &&mut Life| life.ttl == ttl && life.meets(span) && life.keeps(until_us);
        let mut meant: Vec<&mut Life> = lives.iter_mut().filter(may).collect();
        match &mut meant[..] {
            [] => Err(violated(
                FENCED,
                format!("lease {id} of {ttl} s is told to have {seconds} s: {span:?}, {lives:?}"),
            )),
            [life] => {
                life.promised_us = life.promised_us.max(until_us);
                Ok(())
            }
            // Which one was meant is not known.
            _ => Ok(()),
        }
    }

    /// A client was told that a lease is gone.
    fn gone(&self, id: i64, span: Span) -> Result<(), Violation> {
        let life = self.lives.get(&id).into_iter().flatten().find(|life| life.fills(span));
        let Some(life) = life else { return Ok(()) };
        Err(violated(FENCED, format!("lease {id} is told to be gone: {span:?}, {life:?}")))
    }

    /// Nothing goes wrong any more, a member leads since then, and nobody has renewed anything since.
    ///
    /// # Errors
    /// Invariant 4.
    pub fn calm(&self, since_us: u64, now_us: u64) -> Result<(), Violation> {
        for (id, lives) in &self.lives {
            let Some(life) = lives.last().filter(|life| life.ended.is_none()) else { continue };
            let ttl_us = u64::try_from(life.ttl).unwrap_or_default().saturating_mul(SECOND_US);
            let counted_us = most_us(ttl_us.saturating_add(ELECTION_TIMEOUT_US));
            let last_us = since_us.max(life.begun_us).saturating_add(counted_us);
            if last_us.saturating_add(SLACK_US) < now_us {
                return Err(violated(
                    LATE,
                    format!("lease {id} is there at {now_us} us, calm since {since_us}: {life:?}"),
                ));
            }
        }
        Ok(())
    }

    /// Whether no lease of so many seconds or less is there.
    #[must_use]
    pub fn are_gone(&self, ttl_max: i64) -> bool {
        let mut last = self.lives.values().filter_map(|lives| lives.last());
        last.all(|life| life.ended.is_some() || ttl_max < life.ttl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: i64 = 7;

    fn judge() -> LeaseJudge {
        let mut judge = LeaseJudge::default();
        judge.granted(ID, Index(3), 2, 1_000_000);
        judge
    }

    fn span(asked_us: u64, told_us: u64) -> Span {
        Span { asked_us, told_us }
    }

    fn broken(result: Result<(), Violation>) -> &'static str {
        result.expect_err("a promise is broken").invariant
    }

    #[test]
    fn a_lease_ends_when_its_time_is_over_and_not_before() {
        // The fastest clock counts two seconds in 1.904761 of them.
        assert_eq!(judge().ended(ID, true, 2_904_761), Ok(()));
        assert_eq!(broken(judge().ended(ID, true, 2_904_760)), EARLY);
        assert_eq!(judge().ended(ID, false, 1_000_001), Ok(()));
    }

    #[test]
    fn whoever_renews_is_promised_the_time_from_when_he_asked() {
        let mut judge = judge();
        judge.renewed(ID, 2, span(2_000_000, 2_800_000)).expect("it is there");
        assert_eq!(broken(judge.clone().ended(ID, true, 3_904_760)), EARLY);
        assert_eq!(judge.ended(ID, true, 3_904_761), Ok(()));
        // An answer from the past of what is over.
        assert_eq!(broken(judge.clone().renewed(ID, 2, span(3_904_762, 3_904_800))), FENCED);
        // It was there when it was asked for, but it has not lived as long as is told.
        assert_eq!(broken(judge.clone().renewed(ID, 2, span(3_000_000, 3_904_800))), FENCED);
        assert_eq!(judge.renewed(ID, 0, span(3_000_000, 3_904_800)), Ok(()));
    }

    #[test]
    fn what_is_there_is_not_told_to_be_gone_nor_to_have_another_time() {
        let mut judge = judge();
        assert_eq!(broken(judge.renewed(ID, 0, span(1_000_001, 1_500_000))), FENCED);
        assert_eq!(judge.renewed(ID, 0, span(999_999, 1_500_000)), Ok(()));
        assert_eq!(broken(judge.renewed(ID, 3, span(1_000_001, 1_500_000))), FENCED);
    }

    #[test]
    fn what_remains_is_no_less_than_was_promised_and_is_a_promise() {
        let told = |ttl| Told { id: ID, ttl, granted_ttl: 2, keys: Vec::new() };
        let mut judge = LeaseJudge::default();
        judge.granted(ID, Index(3), 5, 0);
        let told = |ttl| Told { granted_ttl: 5, ..told(ttl) };
        let promised_us = judge.promised_us(ID);
        let asked = span(500_000, 600_000);
        assert_eq!(broken(judge.remains(&told(2), promised_us, asked)), FENCED);
        assert_eq!(broken(judge.remains(&told(6), promised_us, asked)), FENCED);
        assert_eq!(judge.remains(&told(4), promised_us, asked), Ok(()));
        assert_eq!(judge.remains(&told(5), promised_us, asked), Ok(()));
        assert_eq!(broken(judge.ended(ID, true, 5_200_000)), EARLY);
    }

    #[test]
    fn what_nobody_keeps_goes() {
        let mut judge = judge();
        assert!(!judge.are_gone(2) && judge.are_gone(1));
        let last_us = 1_500_000 + most_us(3_000_000) + SLACK_US;
        assert_eq!(judge.calm(1_500_000, last_us), Ok(()));
        assert_eq!(broken(judge.calm(1_500_000, last_us + 1)), LATE);
        judge.ended(ID, true, last_us).expect("it is over");
        assert_eq!(judge.calm(1_500_000, u64::MAX), Ok(()));
        assert!(judge.are_gone(2));
    }
}
