//! Real damage: a disk that is full, a log that lost its end, a log with a wrong bit.
//!
//! A damaged member either recovers what it had or stops with a sentence; it never serves wrong
//! data. The two others go on meanwhile, and nothing acknowledged is lost.

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use jangada_server::proto::etcdserverpb::alarm_request::AlarmAction;
use jangada_server::proto::etcdserverpb::{AlarmRequest, AlarmType, PutRequest, RangeRequest};
use support::client::Client;
use support::cluster::{Cluster, Plan, Program, get_http};
use support::{run, until};

/// The hang guard.
const LIMIT: Duration = Duration::from_secs(300);

/// The member that is damaged.
const DAMAGED: usize = 2;

/// Keys and values whose puts were acknowledged.
#[derive(Default)]
struct Acknowledged {
    puts: BTreeMap<String, Vec<u8>>,
    count: u64,
}

impl Acknowledged {
    /// Puts a new key with a value that no other key has. Whether it was acknowledged.
    async fn put(&mut self, client: &mut Client, bytes: usize) -> bool {
        self.count += 1;
        let key = format!("key {:08}", self.count);
        let mut value = key.clone().into_bytes();
        value.resize(bytes, b'.');
        let request = PutRequest {
            key: key.clone().into(),
            value: value.clone().into(),
            ..PutRequest::default()
        };
        let done = client.put(request).await.is_ok();
        if done {
            self.puts.insert(key, value);
        }
        done
    }

    async fn fill(&mut self, client: &mut Client, count: usize, bytes: usize) {
        for _ in 0..count {
            until(async || self.put(client, bytes).await.then_some(())).await;
        }
    }

    /// Reads every key from one member, linearizably.
    async fn verify(&self, client: &mut Client) {
        let request = RangeRequest {
            key: b"\0".as_slice().into(),
            range_end: b"\0".as_slice().into(),
            ..RangeRequest::default()
        };
        let answer = until(|| {
            let (mut client, request) = (client.clone(), request.clone());
            async move { client.range(request).await.ok() }
        })
        .await;
        let found: BTreeMap<String, Vec<u8>> = answer
            .kvs
            .into_iter()
            .map(|kv| (String::from_utf8_lossy(&kv.key).into_owned(), kv.value.to_vec()))
            .collect();
        for (key, value) in &self.puts {
            let found = found.get(key);
            assert!(found == Some(value), "{key:?} is {} instead", describe(found));
        }
    }
}

fn describe(value: Option<&Vec<u8>>) -> String {
    value.map_or("missing".to_owned(), |value| format!("{} bytes", value.len()))
}

/// How a member ends up after it was started.
enum Settled {
    Serves,
    Ended(ExitStatus),
}

async fn settled(cluster: &mut Cluster, member: usize) -> Settled {
    let address = cluster.members[member].client_url.trim_start_matches("http://").to_owned();
    until(async || {
        if let Some(status) = cluster.process(member).status() {
            return Some(Settled::Ended(status));
        }
        let answer = get_http(&address, "/health").await?;
        answer.contains("\"health\":\"true\"").then_some(Settled::Serves)
    })
    .await
}

/// What is done to a file of the log, at a part of what is written in it, in percent.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// Its end is cut off.
    Truncate { file: Which, percent: u64 },
    /// One bit is wrong.
    Flip { file: Which, percent: u64 },
}

#[derive(Clone, Copy, Debug)]
enum Which {
    Oldest,
    Newest,
}

const DAMAGES: [Damage; 8] = [
    Damage::Flip { file: Which::Oldest, percent: 50 },
    Damage::Truncate { file: Which::Newest, percent: 50 },
    Damage::Flip { file: Which::Newest, percent: 30 },
    Damage::Flip { file: Which::Newest, percent: 70 },
    Damage::Truncate { file: Which::Newest, percent: 95 },
    Damage::Flip { file: Which::Newest, percent: 98 },
    Damage::Truncate { file: Which::Oldest, percent: 40 },
    Damage::Truncate { file: Which::Newest, percent: 0 },
];

impl Damage {
    fn strike(self, data: &Path) {
        let (Damage::Truncate { file, percent } | Damage::Flip { file, percent }) = self;
        let mut segments = segments(data);
        segments.sort();
        let path = match file {
            Which::Oldest => segments.first(),
            Which::Newest => segments.last(),
        };
        let path = path.expect("a member has a log");
        let bytes = fs::read(path).expect("a segment can be read");
        // The rest of the file is zeros that wait to be written.
        let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        let place = written * percent / 100;
        let file = File::options().write(true).open(path).expect("a segment can be written");
        match self {
            Damage::Truncate { .. } => file.set_len(place).expect("a file can be cut"),
            Damage::Flip { .. } => {
                let position = usize::try_from(place).expect("a segment fits in memory");
                file.write_all_at(&[bytes[position] ^ 0x10], place).expect("a byte can be written");
            }
        }
    }
}

/// The segments of a log (docs/log-format.md), wherever they lie below the data directory.
fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder can be listed") {
        let path = entry.expect("a folder can be listed").path();
        if path.is_dir() {
            found.extend(segments(&path));
        } else if path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"segment-"))
        {
            found.push(path);
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp starts");
    assert!(status.success(), "a folder can be copied");
}

#[test]
fn a_damaged_log_is_recovered_or_refused_and_rot_comes_back_from_the_others() {
    run(LIMIT, async {
        let mut cluster = Cluster::three().await;
        let mut acknowledged = Acknowledged::default();
        let mut writer = cluster.client(0);
        let (mut served, mut refused) = (0, 0);
        for damage in DAMAGES {
            acknowledged.fill(&mut writer, 150, 2000).await;
            cluster.kill(DAMAGED).await;
            let data = cluster.members[DAMAGED].data.clone();
            let whole = cluster.home().join("whole");
            copy(&data, &whole);
            damage.strike(&data);
            let said = cluster.process(DAMAGED).log().len();
            cluster.start(DAMAGED);
            // The others go on, whatever becomes of the third.
            acknowledged.fill(&mut writer, 20, 100).await;
            match settled(&mut cluster, DAMAGED).await {
                Settled::Serves => served += 1,
                Settled::Ended(status) => {
                    refused += 1;
                    let is_flip = matches!(damage, Damage::Flip { .. });
                    let tail = cluster.process(DAMAGED).tail();
                    assert!(
                        !is_flip,
                        "what has rotted comes back from the others: {damage:?} {tail}"
                    );
                    let log = cluster.process(DAMAGED).log()[said..].to_owned();
                    assert!(!status.success(), "{damage:?}: {log}");
                    assert!(!log.contains("panicked"), "{damage:?}: {log}");
                    assert!(log.contains("the log"), "{damage:?} must be explained:\n{log}");
                    // It never ran on the damaged log, so its state before that is still true.
                    fs::remove_dir_all(&data).expect("a folder can be removed");
                    fs::rename(&whole, &data).expect("a folder can be moved");
                    cluster.start(DAMAGED);
                    cluster.ready(DAMAGED).await;
                }
            }
            if whole.exists() {
                fs::remove_dir_all(&whole).expect("a folder can be removed");
            }
            for member in 0..3 {
                acknowledged.verify(&mut cluster.client(member)).await;
            }
        }
        println!("of {} damages {served} were recovered, {refused} refused", DAMAGES.len());
        assert!(0 < served, "some damage must be within recovery");
    });
}

/// A small file system in memory; unmounted when dropped.
struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// `None` where this process may not mount.
    fn mount(folder: &Path, mebibytes: u32) -> Option<SmallDisk> {
        fs::create_dir_all(folder).expect("a folder can be made");
        let size = format!("size={mebibytes}m,mode=0700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder);
        let mounted = rustix::process::geteuid().is_root()
            && mount.status().is_ok_and(|status| status.success());
        mounted.then(|| SmallDisk { folder: folder.to_owned() })
    }

    fn grow(&self, mebibytes: u32) {
        let size = format!("remount,size={mebibytes}m");
        let status = Command::new("mount").args(["-o", &size]).arg(&self.folder).status();
        assert!(status.is_ok_and(|status| status.success()), "the small disk can be made larger");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a failed test may still have a process on it.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}

/// Beyond this a disk of 24 MiB is full for certain.
const PUTS_MAX: usize = 1000;

#[test]
fn a_full_disk_is_said_and_loses_nothing() {
    run(LIMIT, async {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let path = folder.path().join("small");
        let Some(disk) = SmallDisk::mount(&path, 24) else {
            return eprintln!("skipped: mounting a small disk needs root");
        };
        let plan = Plan::new(Program::Jangada, 3).folder(DAMAGED, &path.join("data"));
        let mut cluster = plan.start().await;
        let mut acknowledged = Acknowledged::default();
        let mut writer = cluster.client(0);
        let full = |cluster: &mut Cluster| {
            cluster.process(DAMAGED).log().to_lowercase().contains("no space")
        };
        // What is refused is over at once: the member needs a moment to say why.
        let mut puts = 0;
        until(async || {
            while !full(&mut cluster) && puts < PUTS_MAX {
                if !acknowledged.put(&mut writer, 64 << 10).await {
                    return None;
                }
                puts += 1;
            }
            full(&mut cluster).then_some(())
        })
        .await;
        assert!(!acknowledged.puts.is_empty());
        for member in [0, 1] {
            acknowledged.verify(&mut cluster.client(member)).await;
        }
        disk.grow(512);
        if !cluster.is_running(DAMAGED) {
            cluster.start(DAMAGED);
        }
        // The alarm would end by itself after a minute; whoever has made room need not wait for that.
        let disarm = AlarmRequest {
            action: AlarmAction::Deactivate.into(),
            member_id: 0,
            alarm: AlarmType::Nospace.into(),
        };
        let address = cluster.members[DAMAGED].client_url.trim_start_matches("http://").to_owned();
        until(async || {
            cluster.client(0).alarm(disarm).await.ok()?;
            let health = get_http(&address, "/health").await?;
            health.contains("\"health\":\"true\"").then_some(())
        })
        .await;
        acknowledged.fill(&mut writer, 20, 1000).await;
        // Killed and started again: what was written around the full disk is good on disk, too.
        cluster.kill(DAMAGED).await;
        cluster.start(DAMAGED);
        cluster.ready(DAMAGED).await;
        for member in 0..3 {
            acknowledged.verify(&mut cluster.client(member)).await;
        }
    });
}
