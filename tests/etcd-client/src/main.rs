//! The crate `etcd-client`, unchanged, against the cluster at `JANGADA_TEST_ENDPOINTS`
//! (`host:port`, divided by commas). It works below one prefix and removes what it wrote; only its
//! compaction remains. It ends with status 0, or with what was wrong.

mod watching;

use etcd_client::{
    Client, CompactionOptions, Compare, CompareOp, DeleteOptions, Error, GetOptions, PutOptions,
    SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse,
};

/// All keys of this test are below it.
const PREFIX: &str = "etcd-client-test/";

fn endpoints() -> Vec<String> {
    let given = std::env::var("JANGADA_TEST_ENDPOINTS")
        .expect("set JANGADA_TEST_ENDPOINTS to host:port,host:port of a running cluster");
    given.split(',').map(str::to_owned).collect()
}

fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

async fn clean_client() -> Result<Client, Error> {
    let mut client = Client::connect(endpoints(), None).await?;
    client.delete(PREFIX, Some(DeleteOptions::new().with_prefix())).await?;
    Ok(client)
}

fn refusal(result: Result<impl std::fmt::Debug, Error>) -> (i32, String) {
    match result {
        Err(Error::GRpcStatus(status)) => (status.code() as i32, status.message().to_owned()),
        other => panic!("a refusal was expected, not {other:?}"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut client = clean_client().await?;
    put_and_get(&mut client).await?;
    delete(&mut client).await?;
    transact(&mut client).await?;
    compact(&mut client).await?;
    watching::watch(&mut client).await?;
    lease(&mut client).await?;
    lock_and_lead(&mut client).await?;
    see_the_cluster(&mut client).await
}

async fn put_and_get(client: &mut Client) -> Result<(), Error> {
    for name in ["a", "b", "c"] {
        client.put(key(name), format!("value {name}"), None).await?;
    }
    let again = PutOptions::new().with_prev_key();
    let answer = client.put(key("a"), "second", Some(again)).await?;
    let before = answer.prev_key().expect("there was a value");
    assert_eq!((before.value_str()?, before.version()), ("value a", 1));
    let revision = answer.header().expect("a header").revision();

    let answer = client.get(key("a"), None).await?;
    let found = &answer.kvs()[0];
    assert_eq!((found.value_str()?, found.version()), ("second", 2));
    assert_eq!(found.mod_revision(), revision);
    assert_eq!(answer.count(), 1);

    let options = GetOptions::new()
        .with_prefix()
        .with_limit(2)
        .with_sort(SortTarget::Key, SortOrder::Descend);
    let answer = client.get(PREFIX, Some(options)).await?;
    let keys: Vec<&str> = answer.kvs().iter().map(|kv| kv.key_str()).collect::<Result<_, _>>()?;
    assert_eq!(keys, [key("c"), key("b")]);
    assert!(answer.more());
    assert_eq!(answer.count(), 3);

    let old = GetOptions::new().with_revision(revision - 1);
    assert_eq!(client.get(key("a"), Some(old)).await?.kvs()[0].value_str()?, "value a");
    let keys_only = GetOptions::new().with_prefix().with_keys_only().with_serializable();
    let answer = client.get(PREFIX, Some(keys_only)).await?;
    assert!(answer.kvs().iter().all(|kv| kv.value().is_empty()));
    let count = GetOptions::new().with_prefix().with_count_only();
    let answer = client.get(PREFIX, Some(count)).await?;
    assert_eq!((answer.count(), answer.kvs().len()), (3, 0));
    let from = GetOptions::new().with_range(key("c")).with_min_mod_revision(revision);
    let answer = client.get(key("a"), Some(from)).await?;
    assert_eq!(answer.kvs().len(), 1);

    let future = GetOptions::new().with_revision(revision + 1_000_000);
    let text = "etcdserver: mvcc: required revision is a future revision".to_owned();
    assert_eq!(refusal(client.get(key("a"), Some(future)).await), (11, text));
    let text = "etcdserver: key is not provided".to_owned();
    assert_eq!(refusal(client.put("", "", None).await), (3, text));
    let options = PutOptions::new().with_lease(4711);
    let text = "etcdserver: requested lease not found".to_owned();
    assert_eq!(refusal(client.put(key("a"), "", Some(options)).await), (5, text));
    Ok(())
}

async fn delete(client: &mut Client) -> Result<(), Error> {
    let options = DeleteOptions::new().with_prev_key();
    let answer = client.delete(key("c"), Some(options)).await?;
    assert_eq!(answer.deleted(), 1);
    assert_eq!(answer.prev_kvs()[0].value_str()?, "value c");
    let answer = client.delete(key("c"), None).await?;
    assert_eq!(answer.deleted(), 0);
    Ok(())
}

async fn transact(client: &mut Client) -> Result<(), Error> {
    let holds = Compare::value(key("a"), CompareOp::Equal, "second");
    let nested = Txn::new()
        .when([Compare::version(key("missing"), CompareOp::Equal, 0)])
        .and_then([TxnOp::put(key("nested"), "yes", None)]);
    let txn = Txn::new()
        .when([holds.clone()])
        .and_then([
            TxnOp::put(key("a"), "third", None),
            TxnOp::get(key("a"), None),
            TxnOp::txn(nested),
            TxnOp::delete(key("b"), None),
        ])
        .or_else([TxnOp::get(key("b"), None)]);
    let answer = client.txn(txn).await?;
    assert!(answer.succeeded());
    let responses = answer.op_responses();
    assert_eq!(responses.len(), 4);
    match &responses[1] {
        TxnOpResponse::Get(get) => assert_eq!(get.kvs()[0].value_str()?, "third"),
        other => panic!("a get is answered by a get, not {other:?}"),
    }
    assert_eq!(client.get(key("nested"), None).await?.count(), 1);

    let txn = Txn::new()
        .when([holds])
        .or_else([TxnOp::get(PREFIX, Some(GetOptions::new().with_prefix()))]);
    let answer = client.txn(txn).await?;
    assert!(!answer.succeeded());
    match &answer.op_responses()[0] {
        TxnOpResponse::Get(get) => assert_eq!(get.count(), 2, "a and nested are left"),
        other => panic!("a get is answered by a get, not {other:?}"),
    }

    let twice = [TxnOp::put(key("a"), "1", None), TxnOp::put(key("a"), "2", None)];
    let text = "etcdserver: duplicate key given in txn request".to_owned();
    assert_eq!(refusal(client.txn(Txn::new().and_then(twice)).await), (3, text));
    Ok(())
}

async fn compact(client: &mut Client) -> Result<(), Error> {
    let revision = client.get(key("a"), None).await?.kvs()[0].mod_revision();
    client.compact(revision, Some(CompactionOptions::new().with_physical())).await?;
    assert_eq!(client.get(key("a"), None).await?.kvs()[0].value_str()?, "third");
    let old = GetOptions::new().with_revision(revision - 1);
    let text = "etcdserver: mvcc: required revision has been compacted".to_owned();
    assert_eq!(refusal(client.get(key("a"), Some(old)).await), (11, text.clone()));
    assert_eq!(refusal(client.compact(revision, None).await), (11, text));
    Ok(())
}

async fn lease(client: &mut Client) -> Result<(), Error> {
    let granted = client.lease_grant(600, None).await?;
    let id = granted.id();
    assert!(id != 0 && granted.ttl() == 600);
    client.put(key("leased"), "x", Some(PutOptions::new().with_lease(id))).await?;
    let (mut keeper, mut renewed) = client.lease_keep_alive(id).await?;
    for _ in 0..3 {
        keeper.keep_alive().await?;
        let answer = renewed.message().await?.expect("the stream stands");
        assert_eq!((answer.id(), answer.ttl()), (id, 600));
    }
    let options = etcd_client::LeaseTimeToLiveOptions::new().with_keys();
    let told = client.lease_time_to_live(id, Some(options)).await?;
    assert!((1..=600).contains(&told.ttl()) && told.granted_ttl() == 600);
    assert_eq!(told.keys(), [key("leased").as_bytes()]);
    assert!(client.leases().await?.leases().iter().any(|lease| lease.id() == id));
    client.lease_revoke(id).await?;
    assert_eq!(client.get(key("leased"), None).await?.count(), 0);
    assert_eq!(client.lease_time_to_live(id, None).await?.ttl(), -1);
    let text = "etcdserver: requested lease not found".to_owned();
    assert_eq!(refusal(client.lease_revoke(id).await), (5, text));
    Ok(())
}

async fn lock_and_lead(client: &mut Client) -> Result<(), Error> {
    let held = client.lock(key("lock"), None).await?;
    assert_eq!(client.get(held.key(), None).await?.count(), 1);
    client.unlock(held.key()).await?;
    assert_eq!(client.get(held.key(), None).await?.count(), 0);

    let lease = client.lease_grant(600, None).await?.id();
    let elected = client.campaign(key("election"), "first", lease).await?;
    let leader = elected.leader().expect("its key is told").clone();
    assert_eq!(leader.lease(), lease);
    let told = client.leader(key("election")).await?;
    assert_eq!(told.kv().expect("one leads").value_str()?, "first");
    let mut observed = client.observe(key("election")).await?;
    let first = observed.message().await?.expect("the stream stands");
    assert_eq!(first.kv().expect("one leads").value_str()?, "first");
    let options = etcd_client::ProclaimOptions::new().with_leader(leader.clone());
    client.proclaim("second", Some(options)).await?;
    let second = observed.message().await?.expect("the stream stands");
    assert_eq!(second.kv().expect("one leads").value_str()?, "second");
    client.resign(Some(etcd_client::ResignOptions::new().with_leader(leader))).await?;
    let text = "election: no leader".to_owned();
    assert_eq!(refusal(client.leader(key("election")).await), (2, text));
    client.lease_revoke(lease).await?;
    Ok(())
}

async fn see_the_cluster(client: &mut Client) -> Result<(), Error> {
    let members = client.member_list().await?;
    assert_eq!(members.members().len(), endpoints().len());
    let mut terms = Vec::new();
    let mut leaders = Vec::new();
    for endpoint in endpoints() {
        let mut one = Client::connect([endpoint], None).await?;
        let status = one.status().await?;
        assert!(members.members().iter().any(|member| member.id() == status.leader()));
        assert!(!status.version().is_empty() && 0 < status.raft_index());
        assert!(status.errors().is_empty(), "{:?}", status.errors());
        // Health is a linearizable read of any key, and no alarm.
        one.get("health", None).await?;
        assert!(
            one.alarm(etcd_client::AlarmAction::Get, etcd_client::AlarmType::None, None)
                .await?
                .alarms()
                .is_empty()
        );
        terms.push(status.raft_term());
        leaders.push(status.leader());
    }
    assert!(terms.windows(2).all(|pair| pair[0] == pair[1]), "{terms:?}");
    assert!(leaders.windows(2).all(|pair| pair[0] == pair[1]), "{leaders:?}");
    client.delete(PREFIX, Some(DeleteOptions::new().with_prefix())).await?;
    Ok(())
}
