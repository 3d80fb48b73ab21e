//! The same random requests to a real etcd and to Jangada: the answers must be equal.
//!
//! Each etcd on this machine is a reference of its own. Compared are whole answers: keys, values,
//! revisions, versions, counts, `more`, headers' revisions, error codes and error texts. Cluster
//! ids, member ids and terms are each cluster's own. The few differences among etcd's own versions
//! are listed in `differential/table.rs`.
//!
//! `JANGADA_SEED` runs another sequence.

mod support;

#[path = "differential/answers.rs"]
mod answers;
#[path = "differential/gateway.rs"]
mod gateway;
#[path = "differential/generator.rs"]
mod generator;
#[path = "differential/hashes.rs"]
mod hashes;
#[path = "differential/members.rs"]
mod members;
#[path = "differential/space.rs"]
mod space;
#[path = "differential/table.rs"]
mod table;
#[path = "differential/watch.rs"]
mod watch;

use std::collections::BTreeMap;
use std::time::Duration;

use answers::{Answer, ask};
use generator::{Generator, Request};
use jangada_server::proto::etcdserverpb::RangeRequest;
use support::client::Client;
use support::cluster::{Cluster, Plan, Program};
use support::foreign::{self, Etcd};
use support::http::Http;

/// How many requests each reference and Jangada are asked.
const REQUESTS: usize = 10_000;

/// After so many requests the hashes of both are compared.
const HASHED_EACH: usize = 500;

/// The hang guard.
const LIMIT: Duration = Duration::from_secs(600);

fn seed() -> u64 {
    let given = std::env::var("JANGADA_SEED").ok().map(|seed| seed.parse().expect("a number"));
    given.unwrap_or(20_261)
}

/// Three members of Jangada, asked through one that may follow.
async fn ours() -> (Cluster, Client) {
    let cluster = Cluster::three().await;
    let client = cluster.client(1);
    (cluster, client)
}

/// One member of a real etcd. It keeps nothing durable on purpose: only its answers matter here.
async fn reference(etcd: &Etcd) -> (Cluster, Client) {
    let cluster = Plan::new(Program::Etcd(etcd.clone()), 1).start().await;
    let client = cluster.client(0);
    (cluster, client)
}

/// Runs the whole sequence against both and says which known differences occurred.
async fn compare(seed: u64, etcd: &Etcd, theirs: &mut Client, ours: &mut Client) {
    let mut generator = Generator::new(seed);
    let mut met: BTreeMap<&str, usize> = BTreeMap::new();
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    for position in 0..REQUESTS {
        let request = generator.next();
        let expected = async {
            if table::is_deadly(&etcd.version, &request) {
                None
            } else {
                Some(ask(theirs, &request).await)
            }
        };
        let (expected, found) = tokio::join!(expected, ask(ours, &request));
        let expected = expected.unwrap_or(Answer::NotAsked);
        if let Answer::Refused(_, text) = &expected {
            *refused.entry(text.clone()).or_default() += 1;
        }
        if let Some(revision) = expected.revision() {
            generator.revision = generator.revision.max(revision);
            if let Request::Compact(request) = &request {
                generator.compacted = generator.compacted.max(request.revision);
            }
        }
        if position % HASHED_EACH == 0 {
            hashes::compare(generator.compacted, generator.revision, theirs, ours).await;
        }
        if expected == found {
            continue;
        }
        let known = table::DIFFERENCES
            .iter()
            .find(|known| (known.explains)(&etcd.version, &request, &expected, &found));
        match known {
            Some(known) => *met.entry(known.name).or_default() += 1,
            None => panic!(
                "seed {seed}, request {position}: {}\netcd {} answers: {}\nJangada answers: {}",
                shorten(&request),
                etcd.version,
                shorten(&expected),
                shorten(&found)
            ),
        }
    }
    compare_past(&generator, theirs, ours).await;
    println!("etcd {}: {REQUESTS} requests, refusals: {refused:#?}", etcd.version);
    for known in &table::DIFFERENCES {
        println!("{} times {}: {}", met.get(known.name).unwrap_or(&0), known.name, known.reason);
    }
    assert!(10 <= refused.len(), "bad requests must be among them: {refused:?}");
}

/// Everything in the store at every tenth revision that is left.
async fn compare_past(generator: &Generator, theirs: &mut Client, ours: &mut Client) {
    for revision in (generator.compacted.max(1)..=generator.revision).step_by(10) {
        let (key, range_end) = (b"\0".as_slice().into(), b"\0".as_slice().into());
        let all = RangeRequest { key, range_end, revision, ..RangeRequest::default() };
        let request = Request::Range(all);
        let (expected, found) = tokio::join!(ask(theirs, &request), ask(ours, &request));
        assert!(expected == found, "at revision {revision}: {expected:?}\n{found:?}");
    }
}

/// Large values are not worth printing whole.
fn shorten(value: &impl std::fmt::Debug) -> String {
    let mut text = format!("{value:#?}");
    if 6000 < text.len() {
        text =
            format!("{} ... ({} bytes)", text.chars().take(6000).collect::<String>(), text.len());
    }
    text
}

#[test]
fn jangada_answers_as_etcd_does() {
    foreign::beside_etcds(LIMIT, async |etcd| {
        println!("against etcd {}", etcd.version);
        let (_reference, mut theirs) = reference(etcd).await;
        let (_cluster, mut ours) = ours().await;
        compare(seed(), etcd, &mut theirs, &mut ours).await;
    });
}

#[test]
fn the_gateway_answers_as_etcds_does() {
    foreign::beside_etcds(LIMIT, async |etcd| {
        let (reference, _) = reference(etcd).await;
        let (cluster, _) = ours().await;
        let mut theirs = Http::connect(&reference.members[0].client_url).await;
        let mut ours = Http::connect(&cluster.members[1].client_url).await;
        gateway::compare(seed(), &etcd.version, &mut theirs, &mut ours).await;
    });
}

#[test]
fn members_leaders_and_alarms_are_answered_as_etcd_does() {
    let etcds = foreign::etcds();
    if etcds.is_empty() {
        return foreign::skip("etcd");
    }
    support::run(LIMIT, async {
        let ours = Plan::new(Program::Jangada, 1).start().await;
        let found = members::transcript(&ours).await;
        let ours = Cluster::three().await;
        let found_of_follower = members::ask_a_follower(&ours).await;
        for etcd in &etcds {
            let theirs = Plan::new(Program::Etcd(etcd.clone()), 1).start().await;
            let expected = table::known_of_members(&members::transcript(&theirs).await);
            println!("etcd {}:\n{expected}", etcd.version);
            assert_eq!(found, expected, "etcd {}", etcd.version);
            let theirs = Plan::new(Program::Etcd(etcd.clone()), 3).start().await;
            let expected = members::ask_a_follower(&theirs).await;
            assert_eq!(found_of_follower, expected, "etcd {}", etcd.version);
        }
    });
}

#[test]
fn requests_without_space_are_answered_as_etcd_does() {
    foreign::beside_etcds(LIMIT, async |etcd| {
        let ours = Plan::new(Program::Jangada, 1).start().await;
        let theirs = Plan::new(Program::Etcd(etcd.clone()), 1).start().await;
        space::compare_under_alarm(seed(), &etcd.version, &theirs, &ours).await;
        let small = |program| Plan::new(program, 1).flag("quota-backend-bytes", 1);
        let ours = small(Program::Jangada).start().await;
        let theirs = small(Program::Etcd(etcd.clone())).start().await;
        space::compare_without_space(seed(), &etcd.version, &theirs, &ours).await;
    });
}

#[test]
fn watchers_are_told_what_etcd_tells_them() {
    foreign::beside_etcds(LIMIT, async |etcd| {
        let (reference, _) = reference(etcd).await;
        let (cluster, _) = ours().await;
        let mut theirs = watch::Side::open(&reference, 0).await;
        let mut ours = watch::Side::open(&cluster, 1).await;
        watch::compare(seed(), &etcd.version, &mut theirs, &mut ours).await;
    });
}
