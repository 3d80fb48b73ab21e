//! Whether a change may be proposed: etcd's `--strict-reconfig-check` and what holds without it.

use super::{Change, NewRole};
use crate::backend::{Connection, Member};
use crate::config::Url;
use crate::errors::ApiError;

/// What the checks are held against.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// `--strict-reconfig-check`: refuse what leaves too few members that run.
    pub strict: bool,
    /// `--max-learners`.
    pub learners_max: usize,
}

/// Whether the change may be proposed by member `own`, in etcd's order of checks.
///
/// # Errors
/// etcd's.
pub fn check(change: &Change, own: u64, members: &[Member], rules: Rules) -> Result<(), ApiError> {
    match change {
        Change::Add { id, peer_urls, role } => {
            check_urls(peer_urls)?;
            if rules.strict {
                check_healthy_to_add(*role, members)?;
            }
            check_new(*id, peer_urls, *role, members, rules)
        }
        Change::Remove { id } => check_remove(*id, own, members, rules),
        Change::Update { id, peer_urls } => {
            check_urls(peer_urls)?;
            if !members.iter().any(|member| member.id == *id) {
                return Err(ApiError::MemberNotFound);
            }
            check_unused(peer_urls, members.iter().filter(|member| member.id != *id))
        }
        Change::Promote { id } => check_promote(*id, members, rules),
    }
}

/// At least one URL, each by itself usable, none twice. etcd does not look at the URLs of an update,
/// and ends when it cannot use them.
fn check_urls(peer_urls: &[String]) -> Result<(), ApiError> {
    let usable = |url: &String| url.parse::<Url>().is_ok_and(|url| !url.host().is_empty());
    if peer_urls.is_empty() || !peer_urls.iter().all(usable) {
        return Err(ApiError::MemberBadUrls);
    }
    Ok(())
}

fn voters(members: &[Member]) -> impl Iterator<Item = &Member> {
    members.iter().filter(|member| !member.is_learner)
}

/// A member has started when it has told its name.
fn is_started(member: &&Member) -> bool {
    !member.name.is_empty()
}

fn quorum_of(voters: usize) -> usize {
    voters / 2 + 1
}

/// A voter comes only when the started ones are a quorum of the grown cluster, so that it does not
/// hang on the new one alone. One that grows to two is the exception: there is no other way.
fn check_started_to_add(members: &[Member]) -> Result<(), ApiError> {
    let started = voters(members).filter(is_started).count();
    let grown = voters(members).count() + 1;
    if (started, grown) == (1, 2) || quorum_of(grown) <= started {
        return Ok(());
    }
    Err(ApiError::MemberNotEnoughStarted)
}

fn check_healthy_to_add(role: NewRole, members: &[Member]) -> Result<(), ApiError> {
    if role != NewRole::Learner {
        check_started_to_add(members)?;
    }
    let connected = voters(members).filter(|m| m.connection == Connection::Lasting).count();
    let count = voters(members).count();
    // Alone, or a quorum of what is to be.
    if count <= 1 || quorum_of(count + 1) <= connected {
        return Ok(());
    }
    Err(ApiError::Unhealthy)
}

fn check_new(
    id: u64,
    peer_urls: &[String],
    role: NewRole,
    members: &[Member],
    rules: Rules,
) -> Result<(), ApiError> {
    if members.iter().any(|member| member.id == id) {
        return Err(ApiError::MemberExists);
    }
    check_unused(peer_urls, members.iter())?;
    let learners = members.iter().filter(|member| member.is_learner).count();
    if role == NewRole::Learner && rules.learners_max <= learners {
        return Err(ApiError::TooManyLearners);
    }
    Ok(())
}

fn check_unused<'m>(
    peer_urls: &[String],
    mut others: impl Iterator<Item = &'m Member>,
) -> Result<(), ApiError> {
    if others.any(|member| member.peer_urls.iter().any(|url| peer_urls.contains(url))) {
        return Err(ApiError::PeerUrlsExist);
    }
    Ok(())
}

fn check_remove(id: u64, own: u64, members: &[Member], rules: Rules) -> Result<(), ApiError> {
    let leaving = members.iter().find(|member| member.id == id);
    if leaving.is_some_and(|member| member.is_learner) {
        return Ok(());
    }
    let staying = || voters(members).filter(|member| member.id != id);
    if rules.strict {
        let started = staying().filter(is_started).count();
        if staying().count() == 0 || started < quorum_of(staying().count()) {
            return Err(ApiError::MemberNotEnoughStarted);
        }
        check_healthy_to_remove(leaving, own, members)?;
    }
    if leaving.is_none() {
        return Err(ApiError::MemberNotFound);
    }
    if staying().count() == 0 {
        // membership invariant 2
        return Err(ApiError::MemberNotEnoughStarted);
    }
    Ok(())
}

/// A voter that does not run may always go. One that runs may go while enough others do.
fn check_healthy_to_remove(
    leaving: Option<&Member>,
    own: u64,
    members: &[Member],
) -> Result<(), ApiError> {
    let runs = |member: &Member| member.id == own || member.connection != Connection::None;
    if !leaving.is_some_and(runs) {
        return Ok(());
    }
    let count = voters(members).count();
    let connected = voters(members).filter(|m| m.connection == Connection::Lasting).count();
    if connected < 1 + quorum_of(count - 1) {
        return Err(ApiError::Unhealthy);
    }
    Ok(())
}

fn check_promote(id: u64, members: &[Member], rules: Rules) -> Result<(), ApiError> {
    let found = members.iter().find(|member| member.id == id);
    let member = found.ok_or(ApiError::MemberNotFound)?;
    if !member.is_learner {
        return Err(ApiError::MemberNotLearner);
    }
    if rules.strict {
        // It has caught up, or will have, so it counts as started.
        let started = voters(members).filter(is_started).count() + 1;
        if started < quorum_of(voters(members).count() + 1) {
            return Err(ApiError::MemberNotEnoughStarted);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members by id: `s` started, `-` not, `l` a started learner; capital letters and `=` are connected
    /// for long, `f` is a started voter connected lately.
    fn members(text: &str) -> Vec<Member> {
        let member = |(position, letter): (usize, char)| {
            let id = position as u64 + 1;
            Member {
                id,
                name: if "-=".contains(letter) { String::new() } else { format!("m{id}") },
                peer_urls: vec![format!("http://h{id}:1")],
                client_urls: Vec::new(),
                is_learner: "lL".contains(letter),
                connection: match letter {
                    'S' | 'L' | '=' => Connection::Lasting,
                    'f' => Connection::Fresh,
                    _ => Connection::None,
                },
            }
        };
        text.chars().enumerate().map(member).collect()
    }

    const STRICT: Rules = Rules { strict: true, learners_max: 1 };
    const LAX: Rules = Rules { strict: false, learners_max: 1 };

    fn add(role: NewRole) -> Change {
        Change::Add { id: 9, peer_urls: vec!["http://h9:1".to_owned()], role }
    }

    /// `OK`, or the error. Member 1 is asked.
    fn judged(text: &str, change: &Change, rules: Rules) -> Result<(), ApiError> {
        check(change, 1, &members(text), rules)
    }

    #[test]
    fn a_voter_comes_when_enough_others_run() {
        use ApiError::{MemberNotEnoughStarted as TooFew, Unhealthy};
        let cases = [
            ("S", Ok(())),
            ("SS", Ok(())),
            ("S-", Err(TooFew)),
            ("SSS", Ok(())),
            ("SSs", Err(Unhealthy)),
            ("SSf", Err(Unhealthy)),
            ("SS-", Err(TooFew)),
            ("SSSS", Ok(())),
            ("SSSs", Ok(())),
            ("SSss", Err(Unhealthy)),
            ("SSL", Ok(())),
            ("SL", Ok(())),
        ];
        for (text, expect) in cases {
            assert_eq!(judged(text, &add(NewRole::Voter), STRICT), expect, "{text}");
            assert_eq!(judged(text, &add(NewRole::VoterAtOnce), STRICT), expect, "{text}");
            assert_eq!(judged(text, &add(NewRole::Voter), LAX), Ok(()), "{text}");
        }
    }

    #[test]
    fn a_learner_comes_while_there_are_not_too_many() {
        let judged = |text, rules| judged(text, &add(NewRole::Learner), rules);
        assert_eq!(judged("S-=", STRICT), Err(ApiError::Unhealthy));
        assert_eq!(judged("SSS", STRICT), Ok(()));
        assert_eq!(judged("SSSl", STRICT), Err(ApiError::TooManyLearners));
        assert_eq!(judged("SSSl", Rules { learners_max: 2, ..STRICT }), Ok(()));
    }

    #[test]
    fn urls_are_urls_and_used_once() {
        let change = |peer_urls: &[&str]| Change::Add {
            id: 9,
            peer_urls: peer_urls.iter().map(|url| (*url).to_owned()).collect(),
            role: NewRole::Voter,
        };
        for bad in [&[][..], &["h:1"], &["http://h"], &["http://:1"], &["http://a:1", "x"]] {
            let update =
                Change::Update { id: 2, peer_urls: bad.iter().map(|u| (*u).into()).collect() };
            assert_eq!(
                judged("SSS", &change(bad), STRICT),
                Err(ApiError::MemberBadUrls),
                "{bad:?}"
            );
            assert_eq!(judged("SSS", &update, STRICT), Err(ApiError::MemberBadUrls), "{bad:?}");
        }
        let taken = change(&["http://h10:1", "http://h3:1"]);
        assert_eq!(judged("SSS", &taken, STRICT), Err(ApiError::PeerUrlsExist));
        let to = |id, url: &str| Change::Update { id, peer_urls: vec![url.to_owned()] };
        assert_eq!(judged("SSS", &to(3, "http://h3:1"), STRICT), Ok(()), "its own");
        assert_eq!(judged("SSS", &to(2, "http://h3:1"), STRICT), Err(ApiError::PeerUrlsExist));
        assert_eq!(judged("SSS", &to(7, "http://h7:1"), STRICT), Err(ApiError::MemberNotFound));
        let again =
            Change::Add { id: 2, peer_urls: vec!["http://h9:1".to_owned()], role: NewRole::Voter };
        assert_eq!(judged("SSS", &again, STRICT), Err(ApiError::MemberExists));
    }

    #[test]
    fn a_voter_goes_while_enough_others_run() {
        use ApiError::{MemberNotEnoughStarted as TooFew, MemberNotFound, Unhealthy};
        let cases = [
            ("SSS", 2, Ok(())),
            ("SSS", 1, Ok(())),
            ("SSS", 9, Err(MemberNotFound)),
            // One is down: only that one may go.
            ("SSs", 2, Err(Unhealthy)),
            ("SSs", 3, Ok(())),
            ("SSf", 2, Err(Unhealthy)),
            ("SSf", 3, Err(Unhealthy)),
            ("SSSS", 4, Ok(())),
            ("SSSSS", 4, Ok(())),
            ("SSSSs", 4, Ok(())),
            ("SSSss", 2, Err(Unhealthy)),
            ("SSSss", 5, Ok(())),
            ("SS", 2, Ok(())),
            ("S", 1, Err(TooFew)),
            ("S-", 1, Err(TooFew)),
            ("S-", 2, Ok(())),
            ("SL", 1, Err(TooFew)),
            ("Sl", 2, Ok(())),
        ];
        for (text, id, expect) in cases {
            assert_eq!(judged(text, &Change::Remove { id }, STRICT), expect, "{text} {id}");
        }
        assert_eq!(judged("SSs", &Change::Remove { id: 2 }, LAX), Ok(()));
        let last = judged("SL", &Change::Remove { id: 1 }, LAX);
        assert_eq!(last, Err(TooFew), "membership invariant 2");
    }

    #[test]
    fn only_a_learner_is_promoted() {
        let judged = |text, id| judged(text, &Change::Promote { id }, STRICT);
        assert_eq!(judged("SSSL", 4), Ok(()));
        assert_eq!(judged("SSSL", 3), Err(ApiError::MemberNotLearner));
        assert_eq!(judged("SSSL", 9), Err(ApiError::MemberNotFound));
        assert_eq!(judged("S--L", 4), Err(ApiError::MemberNotEnoughStarted));
    }
}
