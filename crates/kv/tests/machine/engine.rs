//! The engine behind the state machine: pace, failures, damage, and etcd's own hashes.

use crate::harness::disk::Disk;
use bytes::{Bytes, BytesMut};
use jangada_kv::{
    Alarm, AlarmAction, AlarmKind, Answer, COMMAND_VERSION, Command, EngineError, EngineThread,
    EngineWriter, Entry, KvError, Machine, Member, Options, Outcome, PutRequest, RangeRequest,
    RequestOp, Turn, TxnRequest,
};

struct Subject {
    machine: Machine,
    index: u64,
}

impl Subject {
    fn open(disk: Option<&Disk>) -> Subject {
        let backend = disk.and_then(Disk::backend);
        let machine = Machine::open(backend, Options::default()).expect("the file opens");
        let index = machine.durable_index();
        Subject { machine, index }
    }

    fn apply(&mut self, command: &Command) -> Outcome {
        let mut payload = BytesMut::new();
        command.encode_into(&mut payload);
        self.index += 1;
        let (index, version) = (self.index, COMMAND_VERSION);
        let entry = Entry { index, term: 1, time_ms: 0, version, payload: &payload };
        let outcome = self.machine.apply_one(entry).expect("it decodes");
        self.machine.end_batch(self.index, Bytes::from(format!("record {}", self.index)));
        outcome
    }

    fn put(&mut self, key: &str, value: &[u8]) {
        let outcome = self.apply(&Command::Put(PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value),
            ..PutRequest::default()
        }));
        assert!(outcome.reply.result.is_ok());
    }

    fn compact(&mut self, revision: i64) {
        let outcome = self.apply(&Command::Compact { revision, physical: false });
        assert_eq!(outcome.reply.result, Ok(Answer::Compact));
    }

    /// Lets the engine take everything; its clock runs as fast as it likes.
    fn settle(&mut self) {
        self.machine.log_durable(self.index);
        let mut now_ms = 0;
        while self.machine.engine_turn(now_ms).expect("the disk is well") != Turn::Idle {
            now_ms += 100;
        }
    }

    fn value(&self, key: &str, revision: i64) -> Result<Option<Bytes>, KvError> {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let range = RangeRequest { key, revision, ..RangeRequest::default() };
        let response = self.machine.shared().range(&range).1?;
        Ok(response.kvs.into_iter().next().map(|kv| kv.value))
    }
}

/// The keys of etcd's own test of its hash: seven in turn, two more at long intervals.
fn etcd_key(at: i64) -> &'static str {
    match (at % 142, at % 71, at % 7) {
        (30, _, _) => "zenek",
        (_, 30, _) => "xavery",
        (_, _, turn) => {
            ["alice", "bob", "celine", "dominik", "eve", "frederica", "gorge"][turn as usize]
        }
    }
}

fn etcd_puts(subject: &mut Subject, first: i64, last: i64) {
    for at in first..=last {
        subject.put(etcd_key(at), at.to_string().as_bytes());
    }
}

/// etcd's own known answers (its test of HashByRev): hash, compacted revision, hashed revision.
const ETCD_HASHES: [(u32, i64, i64); 19] = [
    (4_082_599_214, -1, 35),
    (2_279_933_401, 35, 106),
    (3_284_231_217, 106, 177),
    (126_286_495, 177, 248),
    (900_108_730, 248, 319),
    (2_475_485_232, 319, 390),
    (1_226_296_507, 390, 461),
    (2_503_661_030, 461, 532),
    (4_155_130_747, 532, 603),
    (106_915_399, 603, 674),
    (406_914_006, 674, 745),
    (1_882_211_381, 745, 816),
    (806_177_088, 816, 887),
    (664_311_366, 887, 958),
    (1_496_914_449, 958, 1029),
    (2_434_525_091, 1029, 1100),
    (3_988_652_253, 1100, 1171),
    (1_122_462_288, 1171, 1242),
    (724_436_716, 1242, 1883),
];

#[test]
fn hashes_are_etcds() {
    let disk = Disk::default();
    for disk in [None, Some(&disk)] {
        let mut subject = Subject::open(disk);
        for (round, expected) in ETCD_HASHES.into_iter().enumerate() {
            let first = round as i64 * 71;
            let (count, at) = if round < 18 { (71, first + 35) } else { (1210, first + 605) };
            etcd_puts(&mut subject, first, first + count);
            let hash = || {
                let found = subject.machine.shared().hash_kv(at).expect("the revision exists");
                (found.hash, found.compact_revision, found.hash_revision)
            };
            assert_eq!(hash(), expected);
            // Every other round hashes rows in memory, the others rows in the engine.
            if round % 2 == 0 {
                subject.settle();
            }
            subject.compact(at);
        }
    }
}

#[test]
fn the_engine_never_overtakes_the_log() {
    let disk = Disk::default();
    let mut subject = Subject::open(Some(&disk));
    for _ in 0..10 {
        subject.put("key", &[7; 10_000]);
    }
    assert_eq!(subject.machine.engine_turn(1 << 40), Ok(Turn::Idle));
    subject.machine.log_durable(4);
    let mut now_ms = 0;
    while subject.machine.engine_turn(now_ms).expect("the disk is well") != Turn::Idle {
        now_ms += 100;
        assert!(subject.machine.durable_index() <= 4);
    }
    // Small batches are joined, so the engine may stop short of what the log allows.
    assert!(subject.machine.shared().engine_lag_bytes() > 60_000);
    subject.settle();
    assert_eq!(subject.machine.durable_index(), 10);
    assert_eq!(subject.machine.shared().engine_lag_bytes(), 0);
}

#[test]
fn a_commit_waits_for_its_time() {
    let disk = Disk::default();
    let mut subject = Subject::open(Some(&disk));
    subject.put("key", b"value");
    subject.machine.log_durable(1);
    let options = Options::default();
    let mut now_ms = 5_000;
    let due_ms = now_ms + options.commit_after_ms;
    while now_ms < due_ms {
        let Ok(Turn::Wait(ms)) = subject.machine.engine_turn(now_ms) else {
            panic!("a small batch waits until its time has come");
        };
        assert_eq!(subject.machine.durable_index(), 0);
        now_ms += ms;
    }
    while subject.machine.engine_turn(now_ms).expect("the disk is well") == Turn::More {}
    assert_eq!(subject.machine.durable_index(), 1);
}

#[test]
fn a_commit_does_not_wait_when_much_waits() {
    let disk = Disk::default();
    let mut subject = Subject::open(Some(&disk));
    for at in 0..=Options::default().commit_bytes / 100_000 {
        subject.put(&format!("key {at}"), &[7; 100_000]);
    }
    subject.machine.log_durable(subject.index);
    while subject.machine.engine_turn(0).expect("the disk is well") == Turn::More {}
    assert!(subject.machine.durable_index() > 0);
}

#[test]
fn what_is_durable_comes_back() {
    let disk = Disk::default();
    let mut subject = Subject::open(Some(&disk));
    let member =
        Member { id: 7, name: "one".to_owned(), client_urls: vec!["http://here:2379".to_owned()] };
    subject.apply(&Command::Member(member.clone()));
    let raise = |member, kind| Command::Alarm { action: AlarmAction::Activate, member, kind };
    subject.apply(&raise(7, AlarmKind::NoSpace));
    subject.apply(&raise(8, AlarmKind::NoSpace));
    subject.settle();
    let (action, kind) = (AlarmAction::Deactivate, AlarmKind::NoSpace);
    subject.apply(&Command::Alarm { action, member: 8, kind });
    subject.settle();
    let subject = Subject::open(Some(&disk.crashed()));
    assert_eq!(subject.machine.recovered(), Some(Bytes::from_static(b"record 4")));
    let shared = subject.machine.shared();
    assert_eq!(shared.read().members(), [member]);
    assert_eq!(shared.read().alarms(), [Alarm { kind: AlarmKind::NoSpace, member: 7 }]);
}

#[test]
fn a_compaction_goes_on_after_a_crash() {
    let disk = Disk::default();
    let mut subject = Subject::open(Some(&disk));
    for round in 0..3 {
        for at in 0..3_000 {
            subject.put(&format!("key {at:04}"), &[round; 50]);
        }
    }
    subject.settle();
    let before = subject.machine.shared().read().size_in_use();
    subject.compact(9_001);
    subject.machine.log_durable(subject.index);
    // Turns until a commit holds the compaction, and part of the rows are gone.
    let mut now_ms = 0;
    while subject.machine.durable_index() < subject.index {
        subject.machine.engine_turn(now_ms).expect("the disk is well");
        now_ms += 500;
    }
    let mut subject = Subject::open(Some(&disk.crashed()));
    let halfway = subject.machine.shared().read().size_in_use();
    assert_eq!(subject.value("key 0000", 9_000), Err(KvError::Compacted));
    subject.settle();
    let after = subject.machine.shared().read().size_in_use();
    assert!(after < halfway && after * 3 < before + 1_000, "{before} {halfway} {after}");
    assert_eq!(subject.value("key 2999", 0), Ok(Some(Bytes::from_static(&[2; 50]))));
    let found = Subject::open(Some(&disk)).machine.shared().read().keys();
    assert_eq!(found, 3_000);
}

#[test]
fn a_full_disk_is_waited_for() {
    let disk = Disk::default();
    let mut subject = Subject::open(Some(&disk));
    for at in 0..200 {
        subject.put(&format!("key {:02}", at % 20), &[at; 1_000]);
    }
    subject.settle();
    subject.compact(150);
    for at in 0..3_000 {
        subject.put(&format!("key {:02}", at % 20), &[at as u8; 10_000]);
    }
    disk.set_bytes_max(Some(disk.bytes().len() as u64));
    subject.machine.log_durable(subject.index);
    let mut writer = subject.machine.take_writer().expect("the machine has an engine");
    let durable = subject.machine.durable_index();
    let mut now_ms = 0;
    let error = loop {
        match writer.turn(now_ms) {
            Ok(_) => now_ms += 500,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, EngineError::NoSpace(_)), "{error}");
    writer.close();
    // The newest values are in memory; old ones are read from the file as it is.
    assert_eq!(subject.value("key 19", 0), Ok(Some(Bytes::from(vec![2_999u32 as u8; 10_000]))));
    assert_eq!(subject.value("key 19", 180), Ok(Some(Bytes::from(vec![159; 1_000]))));
    assert_eq!(subject.machine.shared().fault(), None);
    disk.set_bytes_max(None);
    let backend = disk.backend().expect("the disk is there");
    writer.reopen(backend).expect("there is space again");
    writer.flush().expect("there is space again");
    assert!(durable < subject.index);
    assert_eq!(subject.machine.durable_index(), subject.index);
    let restarted = Subject::open(Some(&disk.crashed()));
    for shared in [subject.machine.shared(), restarted.machine.shared()] {
        assert_eq!(shared.hash_kv(0), subject.machine.shared().hash_kv(0));
        let sizes = [shared.read().size_in_use(), subject.machine.shared().read().size_in_use()];
        assert_eq!(sizes[0], sizes[1]);
    }
}

/// A transaction that reads an old version and writes.
fn read_old_and_write(key: &str, revision: i64) -> Command {
    let range = RangeRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        revision,
        ..RangeRequest::default()
    };
    let put = PutRequest { key: "noted".into(), value: "x".into(), ..PutRequest::default() };
    let success = vec![RequestOp::Range(range), RequestOp::Put(put)];
    Command::Txn(TxnRequest { success, ..TxnRequest::default() })
}

#[test]
fn commands_read_old_versions_while_the_disk_is_full() {
    let disk = Disk::default();
    let (mut subject, mut unharmed) = (Subject::open(Some(&disk)), Subject::open(None));
    for at in 0..200 {
        subject.put(&format!("key {:02}", at % 20), &[at; 1_000]);
        unharmed.put(&format!("key {:02}", at % 20), &[at; 1_000]);
    }
    subject.settle();
    for at in 0..3_000 {
        subject.put(&format!("key {:02}", at % 20), &[at as u8; 10_000]);
        unharmed.put(&format!("key {:02}", at % 20), &[at as u8; 10_000]);
    }
    disk.set_bytes_max(Some(disk.bytes().len() as u64));
    subject.machine.log_durable(subject.index);
    let mut writer = subject.machine.take_writer().expect("the machine has an engine");
    let fill = |writer: &mut EngineWriter| {
        let error = (0..).find_map(|turn| writer.turn(turn * 500).err());
        assert!(matches!(error, Some(EngineError::NoSpace(_))), "{error:?}");
    };
    let mut same = |subject: &mut Subject, revision: i64| {
        let command = read_old_and_write("key 19", revision);
        let found = subject.apply(&command);
        assert_eq!(found, unharmed.apply(&command));
    };
    fill(&mut writer);
    let full = disk.bytes();
    // The engine has failed, and its writer has not closed it yet.
    same(&mut subject, 180);
    writer.close();
    same(&mut subject, 160);
    let reopened = writer.reopen(disk.backend().expect("the disk is there"));
    assert!(matches!(reopened, Ok(()) | Err(EngineError::NoSpace(_))), "{reopened:?}");
    same(&mut subject, 140);
    assert_eq!(subject.machine.shared().fault(), None);
    assert_eq!(full.len(), disk.bytes().len());
    if reopened.is_ok() {
        fill(&mut writer);
        writer.close();
    }
    same(&mut subject, 120);
    disk.set_bytes_max(None);
    writer.reopen(disk.backend().expect("the disk is there")).expect("there is space again");
    same(&mut subject, 100);
    subject.machine.log_durable(subject.index);
    writer.flush().expect("there is space again");
    same(&mut subject, 90);
    let restarted = Subject::open(Some(&disk.crashed()));
    let index = restarted.machine.durable_index();
    assert_eq!(index + 1, subject.index);
}

#[test]
fn damage_in_a_row_is_told() {
    let disk = Disk::default();
    let mut subject = Subject::open(Some(&disk));
    subject.put("key", b"a value that can be found in the file");
    subject.settle();
    drop(subject);
    let mut bytes = disk.bytes();
    let needle = b"can be found";
    let places: Vec<usize> = bytes
        .windows(needle.len())
        .enumerate()
        .filter(|(_, window)| window == needle)
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at] ^= 1;
    }
    let opened = Machine::open(Disk::of(bytes).backend(), Options::default());
    let Err(error) = opened else {
        panic!("a damaged row is not served");
    };
    assert!(error.to_string().starts_with("the store's file is damaged"), "{error}");
}

#[test]
fn an_unknown_format_is_refused() {
    let disk = Disk::default();
    drop(Subject::open(Some(&disk)));
    let database = redb::Database::builder().create_with_backend(disk.clone());
    let database = database.expect("the file opens");
    let transaction = database.begin_write().expect("nobody writes");
    let table = redb::TableDefinition::<&str, &[u8]>::new("meta");
    transaction
        .open_table(table)
        .and_then(|mut table| Ok(table.insert("format", &99u64.to_le_bytes()[..]).map(drop)?))
        .expect("the table is there");
    transaction.commit().expect("the disk is well");
    drop(database);
    let opened = Machine::open(disk.backend(), Options::default());
    assert_eq!(opened.err(), Some(EngineError::Format(99)));
}

#[test]
fn a_file_of_something_else_is_refused() {
    let opened = Machine::open(Disk::of(b"not a store".repeat(1000)).backend(), Options::default());
    let error = opened.err().expect("a text is no store");
    assert!(matches!(error, EngineError::Corrupted(_) | EngineError::Io(_)), "{error}");
}

#[test]
fn the_thread_brings_everything_in() {
    let disk = Disk::default();
    let mut subject = Subject::open(Some(&disk));
    let reopen = Box::new(|| Err(std::io::Error::other("the disk was not full")));
    let failed = |error: &EngineError| panic!("the disk is well, yet: {error}");
    let (hear, heard) = std::sync::mpsc::channel();
    let committed = move |took| hear.send(took).expect("the test listens");
    let thread = EngineThread::start(&mut subject.machine, reopen, committed, failed);
    let thread = thread.expect("a thread starts").expect("the machine has an engine");
    for at in 0..2_000u32 {
        subject.put(&format!("key {}", at % 7), &at.to_le_bytes());
        subject.machine.log_durable(u64::from(at) + 1);
    }
    thread.stop().expect("the disk is well");
    assert_eq!(subject.machine.durable_index(), 2_000);
    assert!(0 < heard.iter().count(), "each commit is told");
    let restarted = Subject::open(Some(&disk.crashed()));
    let (found, expected) = (restarted.machine.shared(), subject.machine.shared());
    assert_eq!(found.hash_kv(0), expected.hash_kv(0));
}

#[test]
fn an_undecodable_entry_changes_nothing() {
    let mut subject = Subject::open(None);
    subject.put("key", b"value");
    let entry = Entry { index: 2, term: 1, time_ms: 0, version: COMMAND_VERSION, payload: &[99] };
    let error = subject.machine.apply_one(entry).expect_err("99 is no command");
    assert_eq!(error.index, 2);
    assert!(error.to_string().contains("entry 2 cannot be applied"), "{error}");
    assert_eq!(subject.machine.shared().read().revision(), 2);
}

#[test]
fn what_the_log_may_lose_is_not_in_the_engine() {
    crate::harness::histories::the_engine_waits_for_the_log();
}
