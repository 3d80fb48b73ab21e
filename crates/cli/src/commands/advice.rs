//! What to do about a refusal of the cluster, for people who do not know etcd's texts by heart.

use jangada_server::errors::ApiError;

use crate::failure::Failure;

/// The failure with advice behind the cluster's own words, where there is some.
pub(crate) fn given(failure: Failure) -> Failure {
    match failure {
        Failure::Failed(sentence) => match ApiError::of_text(&sentence).and_then(advice) {
            Some(advice) => Failure::Failed(format!("{sentence}: {advice}")),
            None => Failure::Failed(sentence),
        },
        other => other,
    }
}

fn advice(error: ApiError) -> Option<&'static str> {
    Some(match error {
        ApiError::MemberBadUrls => "write each as http://host:port",
        ApiError::PeerUrlsExist => {
            "another member has one of these URLs; 'member list' shows whose it is"
        }
        ApiError::MemberNotFound => "'member list' shows the ids of the members",
        ApiError::MemberNotLearner => "it votes already, or will by itself once it holds the log",
        ApiError::LearnerNotReady => {
            "start its server if it does not run, wait until it holds the log, and try again"
        }
        ApiError::TooManyLearners => {
            "promote or remove one first, or raise --max-learners of the servers"
        }
        ApiError::MemberNotEnoughStarted => {
            "the change would leave too few members that run; start those that 'member list' shows \
             as unstarted, or remove them"
        }
        ApiError::Unhealthy => {
            "the change would hang on members that are not connected, or not for five seconds yet; \
             start those that are down, or wait, and try again"
        }
        ApiError::BadLeaderTransferee => "name a voter by its id, as 'member list' shows it",
        ApiError::TimeoutLeaderTransfer => {
            "the member named did not take over; the old one leads on"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_gets_advice_and_the_rest_stays() {
        let told = |text: &str| given(Failure::Failed(text.to_owned())).to_string();
        let unhealthy = told("etcdserver: unhealthy cluster");
        assert!(unhealthy.starts_with("etcdserver: unhealthy cluster: the change"), "{unhealthy}");
        assert_eq!(told("etcdserver: no leader"), "etcdserver: no leader");
        assert_eq!(told("something else"), "something else");
    }
}
