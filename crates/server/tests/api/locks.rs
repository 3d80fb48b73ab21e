//! The Lock and Election services.

use jangada_kv::{Command, LeaseCommand};
use jangada_server::errors::ApiError;
use jangada_server::proto::etcdserverpb::lease_client::LeaseClient;
use jangada_server::proto::etcdserverpb::{LeaseGrantRequest, RangeRequest};
use jangada_server::proto::mvccpb::KeyValue;
use jangada_server::proto::v3electionpb::election_client::ElectionClient;
use jangada_server::proto::v3electionpb::{
    CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest,
};
use jangada_server::proto::v3lockpb::lock_client::LockClient;
use jangada_server::proto::v3lockpb::{LockRequest, UnlockRequest};
use tonic::{Code, Status};

use crate::support::{Server, assert_refused, bytes};

async fn grant(server: &Server, id: i64) {
    let request = LeaseGrantRequest { id, ttl: 60 };
    let granted = LeaseClient::new(server.channel().await).lease_grant(request).await;
    granted.expect("it is granted");
}

async fn lock(server: &Server, name: &str, lease: i64) -> Result<String, Status> {
    let request = LockRequest { name: bytes(name), lease };
    let answer = LockClient::new(server.channel().await).lock(request).await?.into_inner();
    assert!(0 < answer.header.expect("there is a header").revision);
    Ok(String::from_utf8(answer.key.to_vec()).expect("it is a name and a number"))
}

async fn unlock(server: &Server, key: &str) {
    let request = UnlockRequest { key: bytes(key) };
    LockClient::new(server.channel().await).unlock(request).await.expect("it is answered");
}

async fn get(server: &Server, key: &str) -> Option<KeyValue> {
    let request = RangeRequest { key: bytes(key), ..RangeRequest::default() };
    let answer = server.kv().await.range(request).await.expect("it is read");
    answer.into_inner().kvs.into_iter().next()
}

/// Resolves when so many keys wait under a prefix.
async fn waiting(server: &Server, prefix: &str, count: i64) {
    let (key, range_end) = (bytes(&format!("{prefix}/")), bytes(&format!("{prefix}0")));
    let request = RangeRequest { key, range_end, count_only: true, ..RangeRequest::default() };
    while server.kv().await.range(request.clone()).await.expect("read").into_inner().count != count
    {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_lock_is_a_key_under_its_name_held_by_the_lease() {
    let server = Server::start().await;
    grant(&server, 0x1a2b).await;
    let key = lock(&server, "name", 0x1a2b).await.expect("it is free");
    assert_eq!(key, "name/1a2b");
    let held = get(&server, &key).await.expect("it is there");
    assert_eq!((held.lease, held.value.len()), (0x1a2b, 0));
    assert_eq!(lock(&server, "name", 0x1a2b).await.expect("it is its own already"), key);
    assert_eq!(get(&server, &key).await.expect("it is there").version, 1);
    assert_refused(
        lock(&server, "name", 99).await.map(tonic::Response::new),
        ApiError::LeaseNotFound,
    );
}

#[tokio::test]
async fn a_lock_without_a_lease_is_given_one() {
    let server = Server::start().await;
    let key = lock(&server, "name", 0).await.expect("it is free");
    let held = get(&server, &key).await.expect("it is there");
    assert_eq!(key, format!("name/{:x}", held.lease));
    let store = jangada_server::Backend::store(&server.fake);
    assert_eq!(store.read().lease(held.lease).map(|lease| lease.ttl), Some(60));
}

#[tokio::test]
async fn locks_are_held_in_the_order_in_which_they_were_asked_for() {
    let server = std::sync::Arc::new(Server::start().await);
    for id in 1..=3 {
        grant(&server, id).await;
    }
    let first = lock(&server, "name", 1).await.expect("it is free");
    let mut waiters = Vec::new();
    for id in [3, 2] {
        let waiter = server.clone();
        waiters.push(tokio::spawn(async move { lock(&waiter, "name", id).await }));
        waiting(&server, "name", 1 + waiters.len() as i64).await;
    }
    unlock(&server, &first).await;
    let last = waiters.pop().expect("there are two");
    let next = waiters.pop().expect("there are two").await.expect("it does not panic");
    let next = next.expect("its turn has come");
    assert_eq!(next, "name/3");
    assert!(!last.is_finished());
    let tokens = [get(&server, "name/3").await, get(&server, "name/2").await];
    let [next_at, last_at] = tokens.map(|kv| kv.expect("it is there").create_revision);
    assert!(next_at < last_at, "the fencing token rises");
    // The end of a lease gives a lock up, too.
    server.fake.apply(&Command::Lease(LeaseCommand::Revoke { id: 3 }));
    let key = last.await.expect("it does not panic").expect("its turn has come");
    assert_eq!(key, "name/2");
}

#[tokio::test]
async fn one_whose_lease_ends_while_it_waits_is_told() {
    let server = std::sync::Arc::new(Server::start().await);
    grant(&server, 1).await;
    grant(&server, 2).await;
    lock(&server, "name", 1).await.expect("it is free");
    let waiter = server.clone();
    let waiter = tokio::spawn(async move { lock(&waiter, "name", 2).await });
    waiting(&server, "name", 2).await;
    server.fake.apply(&Command::Lease(LeaseCommand::Revoke { id: 2 }));
    let status = waiter.await.expect("it does not panic").expect_err("it has no place any more");
    assert_eq!((status.code(), status.message()), (Code::Unknown, "mutex: session is expired"));
}

#[tokio::test]
async fn one_who_goes_while_it_waits_gives_its_place_up() {
    let server = std::sync::Arc::new(Server::start().await);
    grant(&server, 1).await;
    grant(&server, 2).await;
    lock(&server, "name", 1).await.expect("it is free");
    let waiter = server.clone();
    let waiter = tokio::spawn(async move { lock(&waiter, "name", 2).await });
    waiting(&server, "name", 2).await;
    waiter.abort();
    waiting(&server, "name", 1).await;
    assert!(get(&server, "name/1").await.is_some());
}

#[tokio::test]
async fn a_key_must_be_named_to_be_unlocked() {
    let server = Server::start().await;
    let unlocked = LockClient::new(server.channel().await).unlock(UnlockRequest::default()).await;
    assert_refused(unlocked, ApiError::EmptyKey);
}

async fn elections(server: &Server) -> ElectionClient<tonic::transport::Channel> {
    ElectionClient::new(server.channel().await)
}

fn campaign(lease: i64, value: &str) -> CampaignRequest {
    CampaignRequest { name: bytes("e"), lease, value: bytes(value) }
}

fn named() -> LeaderRequest {
    LeaderRequest { name: bytes("e") }
}

async fn elected(server: &Server, lease: i64, value: &str) -> LeaderKey {
    let answer = elections(server).await.campaign(campaign(lease, value)).await;
    answer.expect("it is elected").into_inner().leader.expect("the leader's key is told")
}

#[tokio::test]
async fn one_leads_and_the_next_follows_when_it_resigns() {
    let server = std::sync::Arc::new(Server::start().await);
    grant(&server, 10).await;
    grant(&server, 11).await;
    let mut client = elections(&server).await;
    let nobody = client.leader(named()).await.expect_err("nobody leads");
    assert_eq!((nobody.code(), nobody.message()), (Code::Unknown, "election: no leader"));
    let first = elected(&server, 10, "a").await;
    assert_eq!((&first.name[..], &first.key[..], first.lease), (&b"e"[..], &b"e/a"[..], 10));
    let leader = client.leader(named()).await.expect("one leads").into_inner().kv.expect("a key");
    assert_eq!((&leader.value[..], leader.create_revision), (&b"a"[..], first.rev));
    let next = server.clone();
    let next = tokio::spawn(async move { elected(&next, 11, "b").await });
    waiting(&server, "e", 2).await;
    assert!(!next.is_finished());
    client.resign(ResignRequest { leader: Some(first.clone()) }).await.expect("it resigns");
    let second = next.await.expect("it is elected");
    assert_eq!(&second.key[..], b"e/b");
    assert!(first.rev < second.rev);
    // One who leads no longer has nothing to give up, and nothing to say.
    client.resign(ResignRequest { leader: Some(first.clone()) }).await.expect("it is answered");
    let late = ProclaimRequest { leader: Some(first), value: bytes("c") };
    let status = client.proclaim(late).await.expect_err("it does not lead");
    assert_eq!((status.code(), status.message()), (Code::Unknown, "election: not leader"));
    let leader = client.leader(named()).await.expect("one leads").into_inner().kv.expect("a key");
    assert_eq!(&leader.value[..], b"b");
}

#[tokio::test]
async fn a_leader_that_campaigns_again_says_something_else() {
    let server = Server::start().await;
    grant(&server, 10).await;
    let first = elected(&server, 10, "a").await;
    let again = elected(&server, 10, "b").await;
    assert_eq!(first, again);
    let leader = get(&server, "e/a").await.expect("it is there");
    assert_eq!((&leader.value[..], leader.version, leader.lease), (&b"b"[..], 2, 10));
}

#[tokio::test]
async fn an_observer_is_told_each_leader_and_what_it_proclaims() {
    let server = Server::start().await;
    for id in [10, 11] {
        grant(&server, id).await;
    }
    let mut client = elections(&server).await;
    let mut told = client.observe(named()).await.expect("it is answered").into_inner();
    let first = elected(&server, 10, "a").await;
    let mut next = async || {
        let answer = told.message().await.expect("the stream stands").expect("it goes on");
        answer.kv.expect("a key").value
    };
    assert_eq!(next().await, "a");
    let says = ProclaimRequest { leader: Some(first.clone()), value: bytes("b") };
    client.proclaim(says).await.expect("it leads");
    assert_eq!(next().await, "b");
    client.resign(ResignRequest { leader: Some(first) }).await.expect("it leads");
    elected(&server, 11, "c").await;
    assert_eq!(next().await, "c");
}

#[tokio::test]
async fn a_leader_must_be_named() {
    let server = Server::start().await;
    let mut client = elections(&server).await;
    let proclaimed = client.proclaim(ProclaimRequest::default()).await;
    assert_eq!(proclaimed.expect_err("it is refused").code(), Code::InvalidArgument);
    let resigned = client.resign(ResignRequest::default()).await;
    assert_eq!(resigned.expect_err("it is refused").code(), Code::InvalidArgument);
}
