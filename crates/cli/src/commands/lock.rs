//! `lock` and `elect`: one at a time, among programs that may die.
//!
//! Both hold their place by a lease that they keep alive, and end the lease when they are done, which
//! deletes the key. The key's create revision, which is printed, is a fencing token
//! (`docs/locks-and-elections.md`).

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use bytes::Bytes;
use jangada_server::proto::etcdserverpb::lease_client::LeaseClient;
use jangada_server::proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest, RangeRequest};
use jangada_server::proto::v3electionpb::election_client::ElectionClient;
use jangada_server::proto::v3electionpb::{CampaignRequest, LeaderRequest, LeaderResponse};
use jangada_server::proto::v3lockpb::LockRequest;
use jangada_server::proto::v3lockpb::lock_client::LockClient;
use serde_json::json;
use tonic::Status;

use super::kv::kv_client;
use super::lease::{pause, renew};
use crate::arguments::{self, Elect, Format, Lock};
use crate::client::{Channel, Client};
use crate::failure::Failure;
use crate::output;

/// The variables that tell the command of `lock` which key it holds, and since which revision.
const KEY_VARIABLE: &str = "JANGADA_LOCK_KEY";
const REVISION_VARIABLE: &str = "JANGADA_LOCK_REV";

/// Takes a lock, runs a command or waits to be interrupted, and gives the lock up.
pub(crate) fn lock(options: &arguments::Client, lock: &Lock) -> Result<(), Failure> {
    Client::block_on(async {
        let lease = Held::grant(options, lock.ttl).await?;
        let done = tokio::select! {
            done = locked(options, lock, lease.id) => done,
            gone = lease.keep_alive() => Err(gone),
            interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Failure::from),
        };
        lease.end().await;
        done
    })
}

async fn locked(options: &arguments::Client, lock: &Lock, lease: i64) -> Result<(), Failure> {
    let channel = Client::new(options).connect_any().await?.1;
    let request = LockRequest { name: bytes_of(&lock.name), lease };
    let answer = LockClient::new(channel.clone()).lock(request).await.map_err(failed)?;
    let key = answer.into_inner().key;
    let created = created(channel, &key).await?;
    if lock.command.is_empty() {
        match options.output.unwrap_or(Format::Simple) {
            Format::Json => output::print_json(&json!({
                "key": output::base64(&key),
                "create_revision": created,
            }))?,
            Format::Simple | Format::Table => {
                writeln!(io::stdout(), "{} {created}", key.escape_ascii())?;
            }
        }
        std::future::pending::<()>().await;
    }
    let mut words = lock.command.iter();
    let program = words.next().expect("it was just seen not to be empty");
    let mut child = std::process::Command::new(program)
        .args(words)
        .env(KEY_VARIABLE, OsStr::from_bytes(&key))
        .env(REVISION_VARIABLE, created.to_string())
        .spawn()
        .map_err(|error| {
            Failure::Failed(format!("{} cannot be run: {error}", program.to_string_lossy()))
        })?;
    let ended = tokio::task::spawn_blocking(move || child.wait()).await;
    let status = ended.map_err(io::Error::other).and_then(|status| status);
    let status = status.map_err(|error| Failure::Failed(format!("the command: {error}")))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::Failed(format!("the command ended with {status}")))
}

/// The create revision of a key: the fencing token.
async fn created(channel: Channel, key: &Bytes) -> Result<i64, Failure> {
    let request = RangeRequest { key: key.clone(), ..RangeRequest::default() };
    let answer = kv_client(channel).range(request).await.map_err(failed)?.into_inner();
    let kv = answer.kvs.first();
    let lost = || Failure::Failed("the lock was lost at once; its lease is over".to_owned());
    kv.map(|kv| kv.create_revision).ok_or_else(lost)
}

/// Stands for election and leads until interrupted, or shows who leads.
pub(crate) fn elect(options: &arguments::Client, elect: &Elect) -> Result<(), Failure> {
    let name = bytes_of(&elect.name);
    let Some(proposal) = &elect.proposal else {
        return Client::block_on(listen(options, name));
    };
    Client::block_on(async {
        let lease = Held::grant(options, elect.ttl).await?;
        let done = tokio::select! {
            done = led(options, name, lease.id, bytes_of(proposal)) => done,
            gone = lease.keep_alive() => Err(gone),
            interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Failure::from),
        };
        lease.end().await;
        done
    })
}

async fn led(
    options: &arguments::Client,
    name: Bytes,
    lease: i64,
    value: Bytes,
) -> Result<(), Failure> {
    let channel = Client::new(options).connect_any().await?.1;
    let request = CampaignRequest { name, lease, value: value.clone() };
    let answer = ElectionClient::new(channel).campaign(request).await.map_err(failed)?;
    let leader = answer.into_inner().leader.unwrap_or_default();
    print_leader(options, &leader.key, &value, leader.rev)?;
    std::future::pending().await
}

async fn listen(options: &arguments::Client, name: Bytes) -> Result<(), Failure> {
    let channel = Client::new(options).connect_any().await?.1;
    let answers = ElectionClient::new(channel).observe(LeaderRequest { name }).await;
    let mut answers = answers.map_err(failed)?.into_inner();
    let shown = async {
        while let Some(LeaderResponse { kv, .. }) = answers.message().await.map_err(failed)? {
            let kv = kv.unwrap_or_default();
            print_leader(options, &kv.key, &kv.value, kv.create_revision)?;
        }
        Err(Failure::Failed("the member ended the stream".to_owned()))
    };
    tokio::select! {
        done = shown => done,
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Failure::from),
    }
}

fn print_leader(
    options: &arguments::Client,
    key: &[u8],
    value: &[u8],
    created: i64,
) -> Result<(), Failure> {
    match options.output.unwrap_or(Format::Simple) {
        Format::Json => output::print_json(&json!({
            "key": output::base64(key),
            "value": output::base64(value),
            "create_revision": created,
        }))?,
        Format::Simple | Format::Table => {
            let (key, value) = (key.escape_ascii(), value.escape_ascii());
            writeln!(io::stdout(), "{key} {value} {created}")?;
        }
    }
    Ok(())
}

/// A lease that is kept alive.
struct Held<'a> {
    options: &'a arguments::Client,
    id: i64,
    ttl: i64,
}

impl<'a> Held<'a> {
    async fn grant(options: &'a arguments::Client, ttl: i64) -> Result<Held<'a>, Failure> {
        let client = Client::new(options);
        let granted = client.write(async |channel| {
            let request = LeaseGrantRequest { ttl, id: 0 };
            Ok(LeaseClient::new(channel).lease_grant(request).await?.into_inner())
        });
        let granted = granted.await?;
        Ok(Held { options, id: granted.id, ttl: granted.ttl })
    }

    /// Renews the lease until it is gone; says so.
    async fn keep_alive(&self) -> Failure {
        loop {
            tokio::time::sleep(pause(self.ttl)).await;
            match renew(&Client::new(self.options), self.id).await {
                Ok(renewed) if 0 < renewed.ttl => {}
                Ok(_) => return Failure::Failed("the lease is gone, and the place with it".into()),
                Err(failure) => return failure,
            }
        }
    }

    /// Ends the lease; should that fail, its time will.
    async fn end(&self) {
        let client = Client::new(self.options);
        let request = LeaseRevokeRequest { id: self.id };
        let ended = client.write(async |channel| {
            Ok(LeaseClient::new(channel).lease_revoke(request).await?.into_inner())
        });
        let _ = ended.await;
    }
}

fn bytes_of(text: &OsStr) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn failed(status: Status) -> Failure {
    Failure::Failed(status.message().to_owned())
}
