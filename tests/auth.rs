//! Users, roles and tokens on real processes: on every member, over restarts, and by `etcdctl` beside a
//! real etcd.

#[path = "auth/client.rs"]
mod client;
#[path = "auth/sessions.rs"]
mod sessions;
mod support;

use std::time::Duration;

use client::{Asker, Request};
use support::cluster::{Plan, Program};
use support::{run, until};

/// The hang guard.
const LIMIT: Duration = Duration::from_secs(300);

/// Hashes that take little time.
const COST: u32 = 4;

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
