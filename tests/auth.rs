//! Users, roles and tokens on real processes: on every member, over restarts, and beside a real etcd.

#[path = "auth/client.rs"]
mod client;
#[path = "auth/sessions.rs"]
mod sessions;
mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use client::{Asker, Request};
use support::cluster::{Cluster, Plan, Program};
use support::{foreign, run, until};

/// The hang guard.
const LIMIT: Duration = Duration::from_secs(300);

/// Hashes that take little time.
const COST: u32 = 4;

/// Random requests for each etcd.
const REQUESTS: usize = 1_200;

const BEGIN: &[&str] = &[
    "user-add root",
    "grant-role root root",
    "role-add r",
    "grant r readwrite a c",
    "user-add u",
    "grant-role u r",
    "enable",
];

#[test]
fn a_token_is_good_on_every_member_and_outlives_a_restart() {
    run(LIMIT, async {
        let plan = Plan::new(Program::Jangada, 3).flag("bcrypt-cost", COST);
        let mut cluster = plan.start().await;
        let mut first = Asker::new(&cluster.members[0].client_url);
        for line in BEGIN {
            first
                .ask(&Request::of(line), None)
                .await
                .unwrap_or_else(|status| panic!("{line}: {status}"));
        }
        let token = first.login("u").await.expect("the password is right");
        for round in 0..2 {
            for member in 0..3 {
                let mut asker = Asker::new(&cluster.members[member].client_url);
                // At once, also where users have not come into use yet.
                let put = asker.ask(&Request::of("put a"), Some(&token)).await;
                assert!(put.is_ok(), "round {round}, member {member}: {put:?}");
                let get = asker.ask(&Request::of("get a"), Some(&token)).await;
                assert!(get.is_ok(), "round {round}, member {member}: {get:?}");
                for (line, token, text) in [
                    ("put d", Some(&token), "etcdserver: permission denied"),
                    ("put a", Some(&format!("{token}x")), "etcdserver: invalid auth token"),
                    ("put a", None, "etcdserver: user name is empty"),
                    ("get a", None, "etcdserver: user name is empty"),
                ] {
                    let refused = asker.ask(&Request::of(line), token.map(|t| &t[..])).await;
                    let refused = refused.expect_err(line);
                    assert_eq!(refused.message(), text, "round {round}, member {member}: {line}");
                }
            }
            if round == 0 {
                for member in 0..3 {
                    cluster.kill(member).await;
                }
                cluster.start_all().await;
            }
        }
        // What is taken on one member counts on all of them.
        let root = first.login("root").await.expect("the password is right");
        let taken = first.ask(&Request::of("revoke-role u r"), Some(&root)).await;
        assert!(taken.is_ok(), "{taken:?}");
        for member in &cluster.members {
            let mut asker = Asker::new(&member.client_url);
            let refused = asker.ask(&Request::of("get a"), Some(&token)).await;
            let refused = refused.expect_err("the role is taken");
            assert_eq!(refused.message(), "etcdserver: permission denied");
        }
    });
}

#[test]
fn a_member_that_joins_and_one_that_lost_its_store_know_the_users() {
    run(LIMIT, async {
        let plan = Plan::new(Program::Jangada, 1).flag("bcrypt-cost", COST);
        let mut cluster = plan.start().await;
        let mut first = Asker::new(&cluster.members[0].client_url);
        let joined = cluster.lay_out();
        cluster.join(joined, 0, true).await;
        for line in BEGIN {
            first
                .ask(&Request::of(line), None)
                .await
                .unwrap_or_else(|status| panic!("{line}: {status}"));
        }
        let token = first.login("u").await.expect("the password is right");
        first.ask(&Request::of("put a"), Some(&token)).await.expect("u may");
        let mut asker = Asker::new(&cluster.members[joined].client_url);
        let allowed = Request::of("get-stale a");
        // Before it has the store it knows neither the users nor the key.
        until(async || {
            let shown = asker.clone().ask(&allowed, Some(&token)).await.ok()?;
            (!shown.contains("kvs: []")).then_some(())
        })
        .await;
        let refused = asker.ask(&Request::of("get-stale d"), Some(&token)).await;
        assert_eq!(refused.expect_err("u may not").message(), "etcdserver: permission denied");
    });
}

/// Each user's name is his password.
const USERS: [&str; 5] = ["root", "u1", "u2", "u3", "ghost"];

#[test]
fn random_requests_are_answered_as_etcd_does() {
    foreign::beside_etcds(LIMIT, async |etcd| {
        let theirs = Plan::new(Program::Etcd(etcd.clone()), 1).flag("bcrypt-cost", COST);
        let theirs = theirs.start().await;
        let ours = Plan::new(Program::Jangada, 1).flag("bcrypt-cost", COST).start().await;
        let seed = std::env::var("JANGADA_SEED").ok().and_then(|seed| seed.parse().ok());
        compare(seed.unwrap_or(5), &etcd.version, &theirs, &ours).await;
    });
}

/// Two clusters are asked the same, by the same users; the tokens are renewed when either wants that.
async fn compare(seed: u64, version: &str, theirs: &Cluster, ours: &Cluster) {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut theirs = Asker::new(&theirs.members[0].client_url);
    let mut ours = Asker::new(&ours.members[0].client_url);
    let mut tokens: BTreeMap<&str, (String, String)> = BTreeMap::new();
    let (mut refused, mut known) = (BTreeMap::<String, usize>::new(), BTreeMap::new());
    for position in 0..REQUESTS {
        let request = match BEGIN.get(position) {
            Some(first) => Request::of(first),
            None => Request::random(&mut dice),
        };
        let user = USERS.get(dice.usize(..USERS.len() + 2)).copied();
        // Root most of the time, or nothing would change.
        let user = if dice.usize(..3) == 0 { Some("root") } else { user };
        if let Some(user) = user
            && !tokens.contains_key(user)
        {
            let both = (theirs.login(user).await, ours.login(user).await);
            match both {
                (Ok(expected), Ok(found)) => drop(tokens.insert(user, (expected, found))),
                (Err(expected), Err(found)) => {
                    let texts = (expected.message(), found.message());
                    assert_eq!(texts.1, texts.0, "seed {seed}, {position}: login of {user}");
                }
                both => panic!("seed {seed}, {position}: login of {user}: {both:?}"),
            }
        }
        let of_user = user.and_then(|user| tokens.get(user));
        let expected = theirs.ask(&request, of_user.map(|tokens| &tokens.0[..])).await;
        let found = ours.ask(&request, of_user.map(|tokens| &tokens.1[..])).await;
        let comparable = |answer: &Result<String, tonic::Status>| match answer {
            Ok(text) => text.clone(),
            Err(status) => format!("refused: {:?} {}", status.code(), status.message()),
        };
        let (expected, found) = (comparable(&expected), comparable(&found));
        if let Some(user) = user
            && expected.contains("invalid auth token")
        {
            tokens.remove(user);
        }
        if expected.starts_with("refused") {
            *refused.entry(expected.clone()).or_default() += 1;
        }
        if expected == found {
            continue;
        }
        match client::known(version, &request, &expected, &found) {
            Some(name) => *known.entry(name).or_insert(0) += 1,
            None => panic!(
                "seed {seed}, request {position}, {user:?} asks {request:?}\n\
                 etcd {version}: {expected}\nJangada: {found}"
            ),
        }
    }
    println!("etcd {version}: {REQUESTS} requests, refusals: {refused:#?}, known: {known:#?}");
    assert!(6 <= refused.len(), "requests that are refused must be among them: {refused:?}");
}
