//! The paper's section 6 and the thesis' chapters 3.10, 4 and 6.4 as far as membership is concerned,
//! rule by rule: one test for each, named after it. `tests/scripts` has the traces.

mod harness;

use harness::{Cluster, Disk, Event};
use jangada_raft::{
    CatchUp, ChangeRefused, Configuration, Index, Input, MemberChange, Message, NodeId, Output,
    RoleKind, Term, Timer, TransferEnded,
};

fn ids(ids: &[u64]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

fn change(voters: &[u64], catch_up: CatchUp) -> Input {
    Input::ChangeMembers(MemberChange { voters: ids(voters), catch_up, ..MemberChange::default() })
}

/// Voters 1 to `voters`, led by 1 in term 1, all at rest; and some that are to join.
fn led(voters: u64, joiners: u64) -> Cluster {
    let mut cluster = Cluster::new(voters);
    (1..=joiners).for_each(|joiner| cluster.start(NodeId(voters + joiner), Disk::of_joiner()));
    cluster.step(NodeId(1), Input::Timer(Timer::Election));
    cluster.settle();
    assert_eq!(cluster.raft(1).role(), RoleKind::Leader);
    beat(&mut cluster, 1);
    cluster.events.clear();
    cluster
}

fn beat(cluster: &mut Cluster, leader: u64) {
    cluster.step(NodeId(leader), Input::Timer(Timer::Heartbeat));
    cluster.settle();
}

fn configured(cluster: &Cluster) -> Vec<String> {
    let outputs = cluster.events.iter().filter_map(|event| match event {
        Event::Output(_, Output::Configured { configuration, .. }) => {
            Some(configuration.to_string())
        }
        _ => None,
    });
    outputs.collect()
}

fn outputs(cluster: &Cluster, of: u64) -> Vec<&Output> {
    let outputs = cluster.events.iter().filter_map(|event| match event {
        Event::Output(id, output) if id.0 == of => Some(output),
        _ => None,
    });
    outputs.collect()
}

/// Nothing goes in or out of the members.
fn isolate(cluster: &mut Cluster, members: &[u64]) {
    let all: Vec<NodeId> = cluster.members.keys().copied().collect();
    let links = all.iter().flat_map(|from| all.iter().map(move |to| (*from, *to)));
    let is_cut =
        |(from, to): &(NodeId, NodeId)| members.contains(&from.0) != members.contains(&to.0);
    cluster.cut = links.filter(is_cut).collect();
}

// ------------------------------------------------------------------ Section 6

#[test]
fn section_6_a_server_always_uses_the_latest_configuration_in_its_log() {
    let mut cluster = led(3, 0);
    cluster.step(NodeId(1), change(&[1, 2], CatchUp::Skip));
    let joint = "{1 2} leaving {1 2 3}";
    assert_eq!(cluster.raft(1).configuration().to_string(), joint, "appended, not committed");
    assert_eq!(cluster.raft(1).commit_index(), Index(1));
    cluster.flush(NodeId(1));
    let message = cluster.take(NodeId(1), NodeId(2)).expect("entries for 2");
    cluster.step(NodeId(2), Input::Receive { from: NodeId(1), message });
    assert_eq!(cluster.raft(2).configuration().to_string(), joint);
    assert_eq!(cluster.raft(3).configuration().to_string(), "{1 2 3}");
}

#[test]
fn section_6_log_entries_are_replicated_to_all_servers_in_both_configurations() {
    let mut cluster = led(3, 2);
    isolate(&mut cluster, &[3]);
    cluster.step(NodeId(1), change(&[1, 4, 5], CatchUp::Skip));
    cluster.flush(NodeId(1));
    let receivers: Vec<u64> = (2..=5)
        .filter(|to| {
            cluster.network.get(&(NodeId(1), NodeId(*to))).is_some_and(|it| !it.is_empty())
        })
        .collect();
    assert_eq!(receivers, [2, 4, 5], "3 is cut off, and the leader sends to it all the same");
    assert!(cluster.raft(1).match_index(NodeId(3)).is_some());
}

#[test]
fn section_6_agreement_requires_separate_majorities_of_both_configurations() {
    // 1, 2 and 3 are all of the old one; nobody of the new one but 1 can be reached.
    let mut cluster = led(3, 2);
    isolate(&mut cluster, &[4, 5]);
    cluster.step(NodeId(1), change(&[1, 4, 5], CatchUp::Skip));
    cluster.settle();
    assert_eq!(cluster.raft(1).commit_index(), Index(1), "the old majority is not enough");
    // 1, 4 and 5 are all of the new one.
    let mut cluster = led(3, 2);
    cluster.step(NodeId(1), change(&[1, 4, 5], CatchUp::Skip));
    isolate(&mut cluster, &[2, 3]);
    cluster.settle();
    beat(&mut cluster, 1);
    assert_eq!(cluster.raft(1).match_index(NodeId(4)), Some(Index(2)));
    assert_eq!(cluster.raft(1).commit_index(), Index(1), "nor is the new one");
    cluster.cut.clear();
    beat(&mut cluster, 1);
    assert_eq!(cluster.raft(1).configuration().to_string(), "{1 4 5}");
}

#[test]
fn section_6_elections_require_both_majorities_too() {
    let mut cluster = Cluster::with_configuration(Configuration {
        voters: ids(&[1, 4, 5]),
        outgoing: ids(&[1, 2, 3]),
        ..Configuration::default()
    });
    isolate(&mut cluster, &[4, 5]);
    cluster.step(NodeId(2), Input::Timer(Timer::Election));
    cluster.settle();
    assert_eq!(cluster.raft(2).role(), RoleKind::PreCandidate, "1, 2 and 3 are not enough");
    cluster.cut.clear();
    cluster.step(NodeId(2), Input::Timer(Timer::Election));
    cluster.settle();
    let leads = |output: &&&Output| match output {
        Output::Changed(standing) => standing.role == RoleKind::Leader,
        _ => false,
    };
    assert!(outputs(&cluster, 2).iter().any(|output| leads(&output)), "before it hands over");
}

#[test]
fn section_6_once_the_joint_configuration_is_committed_the_new_one_is_created() {
    let mut cluster = led(3, 0);
    cluster.step(NodeId(1), change(&[1, 2], CatchUp::Skip));
    cluster.settle();
    assert_eq!(configured(&cluster), ["{1 2} leaving {1 2 3}", "{1 2}"]);
}

#[test]
fn section_6_a_leader_that_is_not_part_of_the_new_configuration_steps_down_once_it_is_committed() {
    let mut cluster = led(3, 0);
    cluster.step(NodeId(1), change(&[2, 3], CatchUp::Skip));
    cluster.settle();
    assert_eq!(cluster.raft(1).role(), RoleKind::Follower);
    assert_eq!(cluster.raft(1).commit_index(), Index(3), "it committed its own removal");
    let leaders: Vec<u64> =
        [2, 3].into_iter().filter(|id| cluster.raft(*id).role() == RoleKind::Leader).collect();
    assert_eq!(leaders.len(), 1, "and handed over");
    cluster.step(NodeId(1), Input::Timer(Timer::Quiet));
    cluster.step(NodeId(1), Input::Timer(Timer::Election));
    assert_eq!(cluster.raft(1).role(), RoleKind::Follower, "it does not campaign");
}

#[test]
fn section_6_such_a_leader_replicates_but_does_not_count_itself() {
    let mut cluster = led(3, 0);
    cluster.step(NodeId(1), change(&[2, 3], CatchUp::Skip));
    // Until the joint configuration is left all three are needed for nothing but two majorities.
    while configured(&cluster).len() < 2 {
        beat_once(&mut cluster);
    }
    isolate(&mut cluster, &[3]);
    cluster.network.clear();
    cluster.settle();
    beat(&mut cluster, 1);
    assert_eq!(cluster.raft(1).match_index(NodeId(2)), Some(Index(3)));
    assert_eq!(cluster.raft(1).durable_index(), Index(3));
    assert_eq!(cluster.raft(1).commit_index(), Index(2), "1 and 2 hold it, and only 2 counts");
}

/// Delivers one message on each link and completes all writes.
fn beat_once(cluster: &mut Cluster) {
    let links: Vec<_> = cluster.network.keys().copied().collect();
    for (from, to) in links {
        if let Some(message) = cluster.take(from, to) {
            cluster.step(to, Input::Receive { from, message });
        }
    }
    let ids: Vec<NodeId> = cluster.members.keys().copied().collect();
    for id in ids {
        while cluster.persist(id) {}
        cluster.flush(id);
    }
}

#[test]
fn section_6_removed_servers_cannot_disrupt_the_cluster() {
    let mut cluster = led(3, 0);
    isolate(&mut cluster, &[3]);
    cluster.step(NodeId(1), change(&[1, 2], CatchUp::Skip));
    cluster.settle();
    beat(&mut cluster, 1);
    cluster.cut.clear();
    let term = cluster.raft(1).term();
    for _ in 0..5 {
        cluster.step(NodeId(3), Input::Timer(Timer::Quiet));
        cluster.step(NodeId(3), Input::Timer(Timer::Election));
        cluster.settle();
    }
    assert_eq!(cluster.raft(1).standing().role, RoleKind::Leader);
    assert_eq!(cluster.raft(1).term(), term);
}

// ------------------------------------------------------------------ Thesis, chapter 4

#[test]
fn thesis_4_1_no_change_before_the_leader_has_committed_in_its_term() {
    let mut cluster = led(3, 0);
    isolate(&mut cluster, &[1]);
    cluster.step(NodeId(2), Input::Timer(Timer::Quiet));
    cluster.step(NodeId(3), Input::Timer(Timer::Quiet));
    cluster.step(NodeId(2), Input::Timer(Timer::Election));
    while cluster.raft(2).role() != RoleKind::Leader {
        beat_once(&mut cluster);
    }
    cluster.events.clear();
    cluster.step(NodeId(2), change(&[2, 3], CatchUp::Skip));
    let refused = Output::ChangeRefused(ChangeRefused::TooEarly);
    assert!(outputs(&cluster, 2).contains(&&refused));
}

#[test]
fn thesis_4_1_one_change_at_a_time() {
    let mut cluster = led(3, 0);
    cluster.step(NodeId(1), change(&[1, 2], CatchUp::Skip));
    cluster.step(NodeId(1), change(&[1, 3], CatchUp::Skip));
    let refused = Output::ChangeRefused(ChangeRefused::UnderWay);
    assert!(outputs(&cluster, 1).contains(&&refused));
}

#[test]
fn thesis_4_2_1_a_new_server_does_not_vote_before_it_has_caught_up() {
    let mut cluster = led(3, 1);
    isolate(&mut cluster, &[4]);
    cluster.step(NodeId(1), change(&[1, 2, 3, 4], CatchUp::First));
    cluster.settle();
    let first = "{1 2 3} learners {4} target {1 2 3 4}";
    assert_eq!(configured(&cluster), [first]);
    cluster.cut.clear();
    beat(&mut cluster, 1);
    assert_eq!(configured(&cluster), [first, "{1 2 3 4} leaving {1 2 3}", "{1 2 3 4}"]);
}

#[test]
fn thesis_4_2_1_the_next_leader_goes_on_with_it() {
    let mut cluster = led(3, 1);
    isolate(&mut cluster, &[4]);
    cluster.step(NodeId(1), change(&[1, 2, 3, 4], CatchUp::First));
    cluster.settle();
    cluster.crash(NodeId(1), 0);
    cluster.step(NodeId(2), Input::Timer(Timer::Quiet));
    cluster.step(NodeId(3), Input::Timer(Timer::Quiet));
    cluster.step(NodeId(2), Input::Timer(Timer::Election));
    cluster.settle();
    assert_eq!(cluster.raft(2).role(), RoleKind::Leader);
    cluster.cut.clear();
    beat(&mut cluster, 2);
    assert_eq!(cluster.raft(2).configuration().to_string(), "{1 2 3 4}");
}

#[test]
fn thesis_4_2_2_a_removed_leader_may_campaign_until_its_removal_is_committed() {
    let mut cluster = led(2, 0);
    cluster.step(NodeId(1), change(&[2], CatchUp::Skip));
    while configured(&cluster).len() < 2 {
        beat_once(&mut cluster);
    }
    cluster.network.clear();
    while cluster.persist(NodeId(1)) {}
    cluster.crash(NodeId(1), 1);
    cluster.restart(NodeId(1));
    cluster.network.clear();
    assert_eq!(cluster.raft(1).configuration().to_string(), "{2}");
    cluster.step(NodeId(2), Input::Timer(Timer::Quiet));
    cluster.step(NodeId(2), Input::Timer(Timer::Election));
    cluster.settle();
    assert_eq!(cluster.raft(2).role(), RoleKind::PreCandidate, "its log is the shorter one");
    cluster.step(NodeId(1), Input::Timer(Timer::Election));
    cluster.settle();
    assert_eq!(cluster.raft(2).role(), RoleKind::Leader, "1 won, finished, and handed over");
}

#[test]
fn thesis_4_2_3_a_vote_is_withheld_from_a_member_that_was_removed() {
    let mut cluster = led(3, 0);
    let request = jangada_raft::VoteRequest {
        term: Term(9),
        last: cluster.raft(1).last_position(),
        transfer: false,
    };
    let message = Message::VoteRequest(request);
    cluster.step(NodeId(2), Input::Receive { from: NodeId(3), message });
    assert_eq!(cluster.raft(2).term(), Term(1), "not even the term is taken over");
}

#[test]
fn thesis_4_3_any_set_of_members_may_be_replaced_by_any_other_at_once() {
    let mut cluster = led(3, 3);
    cluster.step(NodeId(1), change(&[4, 5, 6], CatchUp::First));
    cluster.settle();
    (0..3).for_each(|_| beat_all(&mut cluster));
    let leads = |id: &u64| cluster.raft(*id).role() == RoleKind::Leader;
    let leader = (4..=6).find(leads).expect("one of the new members leads");
    assert_eq!(cluster.raft(leader).configuration().to_string(), "{4 5 6}");
    let commit = cluster.raft(leader).commit_index();
    assert_eq!(commit, cluster.raft(leader).last_index());
}

fn beat_all(cluster: &mut Cluster) {
    (1..=6).for_each(|id| beat(cluster, id));
}

#[test]
fn thesis_6_4_a_read_is_confirmed_by_the_configuration_in_force() {
    let mut cluster = led(3, 2);
    isolate(&mut cluster, &[4, 5]);
    cluster.step(NodeId(1), change(&[1, 4, 5], CatchUp::Skip));
    cluster.settle();
    cluster.step(NodeId(1), Input::Read);
    cluster.flush(NodeId(1));
    cluster.settle();
    let ready = |cluster: &Cluster| {
        outputs(cluster, 1).iter().any(|output| matches!(output, Output::ReadsReady { .. }))
    };
    assert!(!ready(&cluster), "all of the old configuration confirm, and one of the new");
    cluster.cut.clear();
    beat(&mut cluster, 1);
    assert!(ready(&cluster));
}

// ------------------------------------------------------------------ Thesis, chapter 3.10

#[test]
fn thesis_3_10_the_prior_leader_stops_accepting_requests() {
    let mut cluster = led(3, 0);
    cluster.step(NodeId(1), Input::TransferLeadership { to: Some(NodeId(2)) });
    cluster.step(NodeId(1), Input::Propose { entries: 1, bytes: 10 });
    cluster.step(NodeId(1), change(&[1, 2], CatchUp::Skip));
    let refused = outputs(&cluster, 1);
    let proposal = Output::ProposalRefused(jangada_raft::Refused::HandingOver);
    assert!(refused.contains(&&proposal));
    assert!(refused.contains(&&Output::ChangeRefused(ChangeRefused::HandingOver)));
}

#[test]
fn thesis_3_10_the_target_is_brought_up_to_date_first() {
    let mut cluster = led(3, 0);
    isolate(&mut cluster, &[2]);
    cluster.step(NodeId(1), Input::Propose { entries: 3, bytes: 30 });
    cluster.settle();
    cluster.step(NodeId(1), Input::TransferLeadership { to: Some(NodeId(2)) });
    cluster.flush(NodeId(1));
    let summoned = |cluster: &Cluster| {
        let is_summons = |event: &Event| matches!(event, Event::Sent(_, _, Message::TimeoutNow(_)));
        cluster.events.iter().any(is_summons)
    };
    assert!(!summoned(&cluster), "it lacks entries");
    cluster.cut.clear();
    beat(&mut cluster, 1);
    assert!(summoned(&cluster));
    assert_eq!(cluster.raft(2).role(), RoleKind::Leader);
    assert_eq!(cluster.raft(2).last_index(), Index(5));
}

#[test]
fn thesis_3_10_the_target_starts_an_election_at_once_and_no_vote_is_withheld() {
    let mut cluster = led(3, 0);
    cluster.step(NodeId(1), Input::TransferLeadership { to: Some(NodeId(2)) });
    cluster.flush(NodeId(1));
    cluster.settle();
    assert_eq!(cluster.raft(2).role(), RoleKind::Leader, "though 3 has just heard from 1");
    let asked = |event: &Event| matches!(event, Event::Sent(_, _, Message::PreVoteRequest(_)));
    assert!(!cluster.events.iter().any(asked), "nobody was asked for leave");
}

#[test]
fn thesis_3_10_a_transfer_is_given_up_after_an_election_timeout() {
    let mut cluster = led(3, 0);
    cluster.crash(NodeId(2), 0);
    cluster.step(NodeId(1), Input::TransferLeadership { to: Some(NodeId(2)) });
    assert!(outputs(&cluster, 1).contains(&&Output::Restart(Timer::Transfer)));
    cluster.step(NodeId(1), Input::Timer(Timer::Transfer));
    assert!(outputs(&cluster, 1).contains(&&Output::TransferEnded(TransferEnded::TimedOut)));
    cluster.events.clear();
    cluster.step(NodeId(1), Input::Propose { entries: 1, bytes: 10 });
    let assigned = |output: &&&Output| matches!(output, Output::Assigned { .. });
    assert!(outputs(&cluster, 1).iter().any(|output| assigned(&output)));
}
