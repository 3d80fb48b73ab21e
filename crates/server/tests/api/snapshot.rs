//! `Maintenance.Snapshot`, and what becomes of its file.

use std::path::Path;

use jangada_kv::auth::{AuthCommand, PasswordHash};
use jangada_kv::{
    AlarmAction, AlarmKind, Command, DeleteRangeRequest, LeaseCommand, Machine, Options,
    PutRequest, RangeRequest,
};
use jangada_server::backend::Backend;
use jangada_server::config::{Config, Invocation};
use jangada_server::errors::ApiError;
use jangada_server::etcd_file::{Restoration, Restored, SnapshotFileError, restore, status};
use jangada_server::proto::etcdserverpb as pb;
use pb::maintenance_client::MaintenanceClient;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::support::{Fake, Server, assert_refused, bytes};

fn put(fake: &Fake, key: &str, value: &str, lease: i64) {
    let put = PutRequest { key: bytes(key), value: bytes(value), lease, ..PutRequest::default() };
    fake.apply(&Command::Put(put)).result.expect("it is put");
}

/// Puts, overwrites, deletes and compacts; ends at revision 208.
fn fill(fake: &Fake) {
    fake.apply(&Command::Lease(LeaseCommand::Grant { id: 77, ttl: 60 })).result.expect("granted");
    put(fake, "leased", "1", 77);
    put(fake, "long", &"x".repeat(100_000), 0);
    for n in 0..200 {
        put(fake, &format!("key-{}", n % 50), &format!("value {n}"), 0);
    }
    put(fake, "gone", "1", 0);
    for key in ["gone", "key-7"] {
        let delete = DeleteRangeRequest { key: bytes(key), ..DeleteRangeRequest::default() };
        fake.apply(&Command::DeleteRange(delete)).result.expect("it is deleted");
    }
    fake.apply(&Command::Compact { revision: 100, physical: false }).result.expect("compacted");
    put(fake, "key-7", "again", 0);
    let alarm =
        Command::Alarm { action: AlarmAction::Activate, member: 5, kind: AlarmKind::NoSpace };
    fake.apply(&alarm).result.expect("it is raised");
    let name = "somebody".to_owned();
    let password = PasswordHash(bytes("what bcrypt made"));
    let user = AuthCommand::UserAdd { name, password, no_password: false };
    fake.apply(&Command::Auth(user)).result.expect("it is added");
}

/// The whole stream, checked on the way.
async fn take(server: &Server) -> Vec<u8> {
    let mut maintenance = MaintenanceClient::new(server.channel().await);
    let answer = maintenance.snapshot(pb::SnapshotRequest {}).await.expect("it is served");
    let mut stream = answer.into_inner();
    let mut file = Vec::new();
    let mut remaining = None;
    while let Some(message) = stream.message().await.expect("the stream goes on") {
        let pb::SnapshotResponse { header, remaining_bytes, blob, version } = message;
        assert_eq!((header, version.as_str()), (None, "3.6.0"));
        if let Some(remaining) = remaining {
            let sum = remaining == 0;
            assert_eq!(remaining_bytes, if sum { 0 } else { remaining - blob.len() as u64 });
        }
        remaining = Some(remaining_bytes);
        file.extend_from_slice(&blob);
    }
    assert_eq!(remaining, Some(0));
    let (content, sum) = file.split_at(file.len() - 32);
    assert_eq!(Sha256::digest(content).as_slice(), sum, "the checksum stands behind the content");
    assert_eq!(file.len() % 512, 32, "etcd's tools look for it so");
    file
}

async fn snapshot(fake_of: &Server, folder: &TempDir) -> std::path::PathBuf {
    let path = folder.path().join("snapshot.db");
    std::fs::write(&path, take(fake_of).await).expect("there is space");
    path
}

fn config(folder: &Path) -> Config {
    let line = format!(
        "--name a --data-dir {} --initial-cluster a=http://10.0.0.1:2380,b=http://10.0.0.2:2380 \
         --initial-advertise-peer-urls http://10.0.0.1:2380",
        folder.display()
    );
    let words = line.split_whitespace().map(Into::into);
    let invocation = Invocation::parse(words, []).expect("a good line");
    let Invocation::Serve(config) = invocation else { panic!("the line means a server") };
    *config
}

fn restored(
    snapshot: &Path,
    data: &Path,
    bump_revision: u64,
) -> Result<Restored, SnapshotFileError> {
    let snapshot = snapshot.to_owned();
    restore(&config(data), &Restoration { snapshot, skip_hash_check: false, bump_revision })
}

fn open(data: &Path) -> Machine {
    let backend = jangada_kv::open_file(&data.join("db")).expect("the store is there");
    Machine::open(Some(backend), Options::default()).expect("the store opens")
}

fn everything(revision: i64) -> RangeRequest {
    let (key, range_end) = (bytes("\0"), bytes("\0"));
    RangeRequest { key, range_end, revision, ..RangeRequest::default() }
}

#[tokio::test]
async fn a_snapshot_brings_every_revision_back() {
    let server = Server::start().await;
    fill(&server.fake);
    let folder = TempDir::new().expect("a temporary folder can be made");
    let path = snapshot(&server, &folder).await;
    let figures = status(&path).expect("the file is sound");
    assert_eq!(figures.revision, 207);
    assert_eq!(figures.total_bytes + 32, path.metadata().expect("it is there").len());
    let data = folder.path().join("data");
    let done = restored(&path, &data, 0).expect("it is restored");
    assert_eq!((done.revision, done.leases_made_up), (207, 0));
    let (store, machine) = (server.fake.store(), open(&data));
    let shared = machine.shared();
    assert_eq!(shared.hash_kv(0), store.hash_kv(0), "compacted and newest revision included");
    for revision in 100..=207 {
        let expected = store.range(&everything(revision)).1.expect("it is not compacted");
        assert_eq!(shared.range(&everything(revision)).1, Ok(expected), "at revision {revision}");
    }
    assert!(shared.range(&everything(99)).1.is_err(), "it is compacted");
    let view = shared.read();
    let leases: Vec<_> = view.leases().iter().map(|l| (l.name.id, l.ttl, l.remaining)).collect();
    assert_eq!(leases, [(77, 60, 60)]);
    assert_eq!(view.alarms(), [], "alarms are those of the old members");
    let password = &view.auth().users()["somebody"].password;
    assert_eq!(password.0, bytes("what bcrypt made"));
}

#[tokio::test]
async fn a_raised_revision_lets_nobody_take_old_for_new() {
    let server = Server::start().await;
    fill(&server.fake);
    let folder = TempDir::new().expect("a temporary folder can be made");
    let path = snapshot(&server, &folder).await;
    let data = folder.path().join("data");
    let done = restored(&path, &data, 1_000_000).expect("it is restored");
    assert_eq!(done.revision, 1_000_207);
    let machine = open(&data);
    let (revision, found) = machine.shared().range(&everything(0));
    assert_eq!(revision, 1_000_207);
    let expected = server.fake.store().range(&everything(0)).1;
    assert_eq!(found, expected, "the newest of each key is there");
    assert!(machine.shared().range(&everything(207)).1.is_err(), "history is compacted");
}

#[tokio::test]
async fn an_empty_store_has_a_snapshot_too() {
    let server = Server::start().await;
    let folder = TempDir::new().expect("a temporary folder can be made");
    let path = snapshot(&server, &folder).await;
    let data = folder.path().join("data");
    assert_eq!(restored(&path, &data, 0).expect("it is restored").revision, 1);
    assert_eq!(open(&data).shared().read().keys(), 0);
}

#[tokio::test]
async fn what_is_damaged_or_in_the_way_is_refused() {
    let server = Server::start().await;
    fill(&server.fake);
    let folder = TempDir::new().expect("a temporary folder can be made");
    let path = snapshot(&server, &folder).await;
    let refused = |what: &str| {
        let error = restored(&path, &folder.path().join(what), 0).expect_err("it is refused");
        error.to_string()
    };
    assert!(refused("").contains("is not empty"));
    let file = std::fs::read(&path).expect("it is there");
    let mut damaged = file.clone();
    damaged[20_000] ^= 1;
    std::fs::write(&path, damaged).expect("there is space");
    assert!(refused("one").contains("checksum"), "{}", refused("two"));
    assert!(status(&path).expect_err("it is damaged").to_string().contains("checksum"));
    std::fs::write(&path, &file[..file.len() - 32]).expect("there is space");
    assert!(refused("three").contains("--skip-hash-check"));
    let what = Restoration { snapshot: path, skip_hash_check: true, bump_revision: 0 };
    restore(&config(&folder.path().join("four")), &what).expect("it need not have a checksum");
    let unknown = Restoration { snapshot: folder.path().join("none"), ..what };
    restore(&config(&folder.path().join("five")), &unknown).expect_err("there is no such file");
}

#[tokio::test]
async fn no_more_snapshots_are_sent_at_a_time_than_a_few() {
    let server = Server::start().await;
    for n in 0..8 {
        put(&server.fake, &format!("{n}"), &"x".repeat(1 << 20), 0);
    }
    let mut maintenance = MaintenanceClient::new(server.channel().await);
    let one = maintenance.snapshot(pb::SnapshotRequest {}).await.expect("it is served");
    let _two = maintenance.snapshot(pb::SnapshotRequest {}).await.expect("it is served");
    let three = maintenance.snapshot(pb::SnapshotRequest {}).await;
    assert_refused(three, ApiError::TooManyRequests);
    drop(one);
    // The one that nobody reads any more ends by itself.
    while let Err(refused) = maintenance.snapshot(pb::SnapshotRequest {}).await {
        assert_eq!(refused.message(), ApiError::TooManyRequests.text());
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn everything_is_hashed_but_what_differs_among_members() {
    let (one, two) = (Server::start().await, Server::start().await);
    for server in [&one, &two] {
        fill(&server.fake);
    }
    // An entry that changes nothing.
    one.fake.apply(&Command::Member(Default::default()));
    two.fake.apply(&Command::Member(Default::default()));
    two.fake.apply(&Command::Member(Default::default()));
    let mut hashes = Vec::new();
    for server in [&one, &two] {
        let mut maintenance = MaintenanceClient::new(server.channel().await);
        let answer = maintenance.hash(pb::HashRequest {}).await.expect("it is served").into_inner();
        assert_eq!(answer.header.expect("it has a header").revision, 207);
        hashes.push(answer.hash);
    }
    assert_eq!(hashes[0], hashes[1]);
    let (action, kind) = (AlarmAction::Deactivate, AlarmKind::NoSpace);
    two.fake.apply(&Command::Alarm { action, member: 5, kind });
    let mut maintenance = MaintenanceClient::new(two.channel().await);
    let answer = maintenance.hash(pb::HashRequest {}).await.expect("it is served").into_inner();
    assert_ne!(answer.hash, hashes[1], "an alarm is hashed");
}
