//! A machine with its disk and its clock, as tests of the store drive one; and histories of it that a
//! seed decides, in which it is restarted, copied and broken off.

pub(crate) mod disk;
pub(crate) mod histories;
pub(crate) mod leases;
pub(crate) mod users;
pub(crate) mod watching;

use bytes::{Bytes, BytesMut};
use jangada_kv::auth::{Auth, AuthCommand, PasswordHash, Permission, PermissionKind};
use jangada_kv::{
    Alarm, COMMAND_VERSION, Command, DeleteRangeRequest, Entry, HashKv, Lease, LeaseCommand,
    Machine, Member, Options, PutRequest, Reply, Restoration, RestoreState, Turn,
};

use disk::Disk;

/// Small enough that every state here is many chunks.
pub(crate) const CHUNK: usize = 700;

/// Commits often, so that a restoration is many commits.
pub(crate) const OPTIONS: Options =
    Options { commit_bytes: 2_000, commit_after_ms: 1_000, engine_lag_bytes_max: 1 << 20 };

pub(crate) struct Subject {
    pub(crate) machine: Machine,
    pub(crate) index: u64,
    pub(crate) now_ms: u64,
    pub(crate) dice: u64,
    pub(crate) payloads: Vec<Bytes>,
}

/// What two machines with the same content have in common.
#[derive(Debug, PartialEq)]
pub(crate) struct Content {
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    pub(crate) keys: u64,
    pub(crate) members: Vec<Member>,
    pub(crate) alarms: Vec<Alarm>,
    pub(crate) leases: Vec<(Lease, Vec<Bytes>)>,
    pub(crate) auth: Auth,
    pub(crate) hashes: Vec<HashKv>,
}

impl Subject {
    pub(crate) fn open(disk: Option<&Disk>) -> Subject {
        let backend = disk.and_then(Disk::backend);
        let machine = Machine::open(backend, OPTIONS).expect("the file opens");
        let index = machine.durable_index();
        Subject { machine, index, now_ms: 0, dice: 7, payloads: Vec::new() }
    }

    pub(crate) fn apply(&mut self, command: &Command) {
        let mut payload = BytesMut::new();
        command.encode_into(&mut payload);
        self.apply_payload(&payload.freeze());
    }

    pub(crate) fn apply_payload(&mut self, payload: &Bytes) {
        let result = self.reply_to(payload).result;
        assert!(result.is_ok(), "{result:?}");
    }

    /// Applies a command that may be refused.
    pub(crate) fn reply(&mut self, command: &Command) -> Reply {
        let mut payload = BytesMut::new();
        command.encode_into(&mut payload);
        self.reply_to(&payload.freeze())
    }

    fn reply_to(&mut self, payload: &Bytes) -> Reply {
        self.index += 1;
        self.payloads.push(payload.clone());
        let (index, version) = (self.index, COMMAND_VERSION);
        let entry = Entry { index, term: 1, time_ms: 0, version, payload };
        let outcome = self.machine.apply_one(entry).expect("it decodes");
        self.machine.end_batch(self.index, record(self.index));
        outcome.reply
    }

    pub(crate) fn put(&mut self, key: &str, value: &[u8]) {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let value = Bytes::copy_from_slice(value);
        self.apply(&Command::Put(PutRequest { key, value, ..PutRequest::default() }));
    }

    pub(crate) fn delete(&mut self, key: &str) {
        let key = Bytes::copy_from_slice(key.as_bytes());
        self.apply(&Command::DeleteRange(DeleteRangeRequest { key, ..Default::default() }));
    }

    pub(crate) fn compact(&mut self, revision: i64) {
        self.apply(&Command::Compact { revision, physical: false });
    }

    pub(crate) fn revision(&self) -> i64 {
        self.machine.shared().read().revision()
    }

    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % sides
    }

    /// Changes of all kinds.
    pub(crate) fn work(&mut self, commands: usize) {
        for _ in 0..commands {
            let key = format!("key {}", self.roll(40));
            match self.roll(23) {
                20..=22 => self.work_on_leases(&key),
                0..=13 => {
                    let length = self.roll(120) as usize;
                    self.put(&key, &vec![self.dice as u8; length]);
                }
                14..=17 => self.delete(&key),
                18 => {
                    let (low, high) =
                        (self.machine.shared().read().compact_revision(), self.revision());
                    if low < high {
                        let above = self.roll(u64::try_from(high - low).expect("it is above") * 2);
                        let above = above.saturating_sub(u64::try_from(high - low).expect("above"));
                        let revision = high - i64::try_from(above).expect("it is small");
                        self.compact(revision.max(1));
                    }
                }
                _ if self.roll(3) == 0 => self.change_auth(),
                _ => {
                    let id = self.roll(5);
                    let client_urls = vec![format!("http://{}:2379", self.dice % 9)];
                    let member = Member { id, name: format!("m{id}"), client_urls };
                    match self.roll(3) {
                        0 => self.apply(&Command::RetractMember(id)),
                        _ => self.apply(&Command::Member(member)),
                    }
                }
            }
        }
    }

    fn work_on_leases(&mut self, key: &str) {
        let known = self.machine.shared().read().leases();
        let some = self.roll(known.len().max(1) as u64) as usize;
        let command = match (self.roll(6), known.get(some)) {
            (0..=2, Some(lease)) => {
                let key = Bytes::copy_from_slice(key.as_bytes());
                let (value, lease) = (Bytes::from_static(b"leased"), lease.name.id);
                Command::Put(PutRequest { key, value, lease, ..PutRequest::default() })
            }
            (3, Some(Lease { name, .. })) => {
                Command::Lease(LeaseCommand::Expire { term: 1, leases: vec![*name] })
            }
            (4, Some(Lease { name, ttl, .. })) => {
                let leases = vec![(*name, ttl / 2)];
                Command::Lease(LeaseCommand::Checkpoint { term: 1, leases })
            }
            _ => {
                let id = 1 + self.index as i64;
                Command::Lease(LeaseCommand::Grant { id, ttl: 10 })
            }
        };
        self.apply(&command);
    }

    /// A user or a role comes, changes or goes: whatever is possible.
    fn change_auth(&mut self) {
        let (name, role) = (format!("u{}", self.roll(4)), format!("r{}", self.roll(3)));
        let auth = self.machine.shared().read().auth().clone();
        let command = match (auth.roles().get(&role), auth.users().get(&name)) {
            (None, _) => AuthCommand::RoleAdd { role },
            (Some(_), None) => {
                let password = PasswordHash(Bytes::from(format!("hash of {name}")));
                AuthCommand::UserAdd { name, password, no_password: false }
            }
            (Some(_), Some(user)) => match self.roll(5) {
                0 if user.roles.contains(&role) => AuthCommand::UserRevokeRole { name, role },
                0 | 1 => AuthCommand::UserGrantRole { name, role },
                2 => AuthCommand::UserDelete { name },
                3 => AuthCommand::RoleDelete { role },
                _ => {
                    let key = Bytes::from(format!("key {}", self.roll(40)));
                    let range_end = Bytes::from_static(b"\0");
                    let kind = PermissionKind::ReadWrite;
                    let permission = Permission { kind, key, range_end };
                    AuthCommand::RoleGrantPermission { role, permission }
                }
            },
        };
        self.apply(&Command::Auth(command));
    }

    /// One turn of the engine; its clock runs as fast as it likes.
    pub(crate) fn turn(&mut self) -> Turn {
        self.machine.log_durable(self.index);
        self.now_ms += 100;
        self.machine.engine_turn(self.now_ms).expect("the disk is well")
    }

    /// The same before the log's own writes are done: it holds nothing durably of what came since.
    pub(crate) fn turn_without_log(&mut self) -> Turn {
        self.now_ms += 100;
        self.machine.engine_turn(self.now_ms).expect("the disk is well")
    }

    pub(crate) fn settle(&mut self) {
        while self.turn() != Turn::Idle {}
    }

    pub(crate) fn content(&self) -> Content {
        let shared = self.machine.shared();
        let (revision, compacted) = {
            let view = shared.read();
            (view.revision(), view.compact_revision())
        };
        let hashed = (compacted.max(1)..=revision).step_by(7).chain([revision]);
        let hashes = hashed.map(|at| shared.hash_kv(at).expect("it is not compacted")).collect();
        let view = shared.read();
        Content {
            revision,
            compacted,
            keys: view.keys(),
            members: view.members(),
            alarms: view.alarms(),
            leases: view
                .leases()
                .into_iter()
                .map(|lease| {
                    let keys = view.lease_keys(lease.name.id).expect("it was just seen");
                    (lease, keys.cloned().collect())
                })
                .collect(),
            auth: view.auth().clone(),
            hashes,
        }
    }

    /// All chunks of the present durable state from a place on.
    pub(crate) fn chunks(&self, place: &[u8]) -> Vec<Bytes> {
        let mut stream =
            self.machine.snapshot(place).expect("the disk is well").expect("it has a state");
        let mut chunks = Vec::new();
        while let Some(chunk) = stream.next_chunk(CHUNK).expect("the disk is well") {
            chunks.push(chunk);
        }
        assert!(stream.is_ended());
        chunks
    }

    /// Gives chunks to a restoration, and the engine its turns.
    pub(crate) fn push(&mut self, restoration: &mut Restoration, chunks: &[Bytes]) {
        for chunk in chunks {
            restoration.push(chunk).expect("the chunk follows");
            assert_eq!(restoration.state(), RestoreState::Taking);
            self.turn();
        }
    }

    pub(crate) fn finish(&mut self, restoration: &mut Restoration) {
        let (applied, record) = restoration.end().expect("the end has come");
        restoration.finish(applied, record).expect("all is there");
        while restoration.state() == RestoreState::Finishing {
            self.turn();
        }
        assert_eq!(restoration.state(), RestoreState::Done);
        self.machine.installed();
        self.index = applied;
        assert_eq!(self.machine.recovered(), Some(self::record(applied)));
    }

    pub(crate) fn restore(&mut self, chunks: &[Bytes]) {
        let mut restoration = self.machine.restore();
        self.push(&mut restoration, chunks);
        self.finish(&mut restoration);
    }
}

pub(crate) fn record(index: u64) -> Bytes {
    Bytes::from(format!("record {index}"))
}
