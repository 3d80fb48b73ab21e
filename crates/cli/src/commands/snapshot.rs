//! `snapshot`: saves, examines and restores snapshot files.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jangada_server::config::Invocation;
use jangada_server::etcd_file::{self, Restoration, SnapshotFileError, SnapshotStatus};
use jangada_server::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use jangada_server::proto::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use serde_json::json;
use tonic::Streaming;

use crate::arguments::{self, Format, SnapshotCommand, SnapshotFile, SnapshotRestore};
use crate::client::Client;
use crate::failure::Failure;
use crate::output;

/// Runs one of the commands.
pub(crate) fn run(options: &arguments::Client, snapshot: &SnapshotFile) -> Result<(), Failure> {
    match &snapshot.command {
        SnapshotCommand::Save { file } => save(options, file),
        SnapshotCommand::Status { file } => status(options, file),
        SnapshotCommand::Restore(what) => restore(options, what),
    }
}

/// What was saved.
struct Saved {
    endpoint: String,
    version: String,
    bytes: u64,
}

/// The file gets its name when it is whole: what a failure leaves is no snapshot.
fn save(options: &arguments::Client, path: &Path) -> Result<(), Failure> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let client = Client::new(options);
    let saved = Client::block_on(receive(&client, options.timeout, &part));
    let finished = saved.and_then(|saved| {
        // Its end is the checksum, which tells whether all of it came.
        etcd_file::status(&part)?;
        std::fs::rename(&part, path).map_err(|error| unwritable(path, &error))?;
        Ok(saved)
    });
    let saved = finished.inspect_err(|_| drop(std::fs::remove_file(&part)))?;
    match options.output.unwrap_or(Format::Simple) {
        Format::Json => output::print_json(&json!({
            "endpoint": saved.endpoint,
            "path": path.display().to_string(),
            "version": saved.version,
            "size": saved.bytes,
        }))?,
        Format::Simple | Format::Table => {
            let mut out = io::stdout().lock();
            writeln!(out, "Snapshot saved at {}", path.display())?;
            if !saved.version.is_empty() {
                writeln!(out, "Server version {}", saved.version)?;
            }
        }
    }
    Ok(())
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!("{} cannot be written: {error}", path.display()))
}

/// Writes what the first member says that can be reached.
async fn receive(client: &Client, silence: Duration, path: &Path) -> Result<Saved, Failure> {
    let (endpoint, channel) = client.connect_any().await?;
    let failed = |problem: &str| Failure::Failed(format!("{endpoint}: {problem}"));
    let mut file = File::create(path).map_err(|error| unwritable(path, &error))?;
    let mut maintenance = MaintenanceClient::new(channel);
    let begun = tokio::time::timeout(silence, maintenance.snapshot(SnapshotRequest {})).await;
    let silent = || failed(&format!("silent for {:.1} s; see --timeout", silence.as_secs_f64()));
    let answer = begun.map_err(|_| silent())?.map_err(|status| failed(status.message()))?;
    let mut stream: Streaming<SnapshotResponse> = answer.into_inner();
    let (mut version, mut bytes) = (String::new(), 0);
    loop {
        let message = tokio::time::timeout(silence, stream.message()).await;
        let message = message.map_err(|_| silent())?.map_err(|status| failed(status.message()))?;
        let Some(message) = message else { break };
        file.write_all(&message.blob).map_err(|error| unwritable(path, &error))?;
        bytes += message.blob.len() as u64;
        version = message.version;
    }
    file.sync_all().map_err(|error| unwritable(path, &error))?;
    if bytes % 512 != 32 {
        return Err(failed("the snapshot ended before its checksum came; try again"));
    }
    Ok(Saved { endpoint, version, bytes })
}

fn status(options: &arguments::Client, path: &Path) -> Result<(), Failure> {
    let figures = etcd_file::status(path)?;
    let SnapshotStatus { hash, revision, total_keys, total_bytes } = figures;
    let row = vec![
        format!("{hash:x}"),
        revision.to_string(),
        total_keys.to_string(),
        output::bytes_text(total_bytes),
    ];
    match options.output.unwrap_or(Format::Simple) {
        Format::Simple => writeln!(io::stdout().lock(), "{}", row.join(", "))?,
        Format::Table => {
            output::print_table(&["hash", "revision", "total keys", "total size"], &[row])?;
        }
        Format::Json => output::print_json(&json!({
            "hash": hash,
            "revision": revision,
            "totalKey": total_keys,
            "totalSize": total_bytes,
        }))?,
    }
    Ok(())
}

fn restore(options: &arguments::Client, what: &SnapshotRestore) -> Result<(), Failure> {
    if what.mark_compacted && what.bump_revision == 0 {
        return Err(Failure::Usage(
            "--mark-compacted goes with a --bump-revision above 0".to_owned(),
        ));
    }
    // The server's own flags, so that they mean the same here and there.
    let flag = |name: &str, value: &OsString| {
        let mut word = OsString::from(format!("--{name}="));
        word.push(value);
        word
    };
    let path = |path: &PathBuf| path.clone().into_os_string();
    let text = |text: &String| OsString::from(text);
    let given = [
        ("name", Some(text(&what.name))),
        ("data-dir", what.data_dir.as_ref().map(path)),
        ("wal-dir", what.wal_dir.as_ref().map(path)),
        ("initial-cluster", what.initial_cluster.as_ref().map(text)),
        ("initial-cluster-token", Some(text(&what.initial_cluster_token))),
        ("initial-advertise-peer-urls", Some(text(&what.initial_advertise_peer_urls))),
    ];
    let words = given.iter().filter_map(|(name, value)| Some(flag(name, value.as_ref()?)));
    let Invocation::Serve(config) = Invocation::parse(words, [])? else {
        unreachable!("none of these flags asks for a text")
    };
    let restored = etcd_file::restore(
        &config,
        &Restoration {
            snapshot: what.file.clone(),
            skip_hash_check: what.skip_hash_check,
            bump_revision: what.bump_revision,
        },
    )?;
    if 0 < restored.leases_made_up {
        eprintln!(
            "{} leases that keys hold are not in the snapshot; they were made up, to live as long as \
             a lease may",
            restored.leases_made_up
        );
    }
    let data_dir = config.data_dir.display().to_string();
    match options.output.unwrap_or(Format::Simple) {
        Format::Json => output::print_json(&json!({
            "member_id": restored.member_id,
            "cluster_id": restored.cluster_id,
            "revision": restored.revision,
            "rows": restored.rows,
            "dataDir": data_dir,
        }))?,
        Format::Simple | Format::Table => writeln!(
            io::stdout().lock(),
            "Restored revision {} into {data_dir}, for member {:x} of cluster {:x}",
            restored.revision,
            restored.member_id,
            restored.cluster_id
        )?,
    }
    Ok(())
}

impl From<SnapshotFileError> for Failure {
    fn from(error: SnapshotFileError) -> Failure {
        match error {
            SnapshotFileError::Config(error) => error.into(),
            error => Failure::Failed(error.to_string()),
        }
    }
}
