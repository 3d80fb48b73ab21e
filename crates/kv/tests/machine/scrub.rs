//! Damage in the engine's file: found while the member runs and at a restart, and healed by a copy.

use bytes::Bytes;
use jangada_kv::{
    Command, EngineError, Machine, Member, Options, RestoreState, Scrub, Scrubbed, Turn, set_aside,
};
use redb::{Database, ReadableTable, TableDefinition};

use crate::harness::Subject;
use crate::harness::disk::Disk;

const KEY: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("key");

fn round(scrub: &mut Scrub) -> Result<(u64, u32), EngineError> {
    let mut turns = 0;
    loop {
        turns += 1;
        match scrub.turn(100)? {
            Scrubbed::More => {}
            Scrubbed::Round { rows } => return Ok((rows, turns)),
            Scrubbed::Nothing => return Ok((0, turns)),
        }
    }
}

#[test]
fn a_round_sees_every_row_of_one_state_while_commands_go_on() {
    let mut subject = Subject::open(Some(&Disk::default()));
    let mut scrub = subject.machine.scrub();
    assert_eq!(scrub.turn(100), Ok(Scrubbed::Nothing), "nothing is durable");
    for at in 0..250 {
        subject.put(&format!("key {at}"), b"value");
    }
    subject.settle();
    assert_eq!(round(&mut scrub), Ok((250, 3)));
    assert_eq!(scrub.turn(100), Ok(Scrubbed::More));
    subject.delete("key 7");
    subject.put("key 8", b"again");
    subject.compact(subject.revision());
    subject.settle();
    assert_eq!(round(&mut scrub), Ok((250, 2)), "the state that the round began with");
    assert_eq!(round(&mut scrub), Ok((249, 3)));
    assert_eq!(Subject::open(None).machine.scrub().turn(1), Ok(Scrubbed::Nothing));
}

#[test]
fn damage_is_found_while_the_member_runs() {
    let disk = Disk::default();
    let mut subject = Subject::open(Some(&disk));
    // More than the engine keeps in memory, or it would not look at the file.
    for at in 0..1_600u32 {
        let value = at.to_le_bytes().repeat(2_000);
        subject.put(&format!("key {at}"), &value);
        if at % 200 == 0 {
            subject.settle();
        }
    }
    subject.settle();
    let mut scrub = subject.machine.scrub();
    assert_eq!(round(&mut scrub).map(|(rows, _)| rows), Ok(1_600));
    for at in [101u32, 202, 303] {
        disk.damage(&at.to_le_bytes().repeat(500));
    }
    let error = round(&mut scrub).expect_err("a page is damaged");
    assert!(error.is_damage(), "{error}");
    let error = round(&mut scrub).expect_err("the next round finds it, too");
    assert!(error.is_damage(), "{error}");
}

#[test]
fn a_row_that_is_gone_is_noticed_at_a_restart() {
    let disk = Disk::default();
    let mut subject = Subject::open(Some(&disk));
    for at in 0..20 {
        subject.put(&format!("key {}", at % 3), b"value");
    }
    subject.settle();
    drop(subject);
    let database = Database::builder().create_with_backend(disk.clone()).expect("it is one");
    let transaction = database.begin_write().expect("nobody else writes");
    {
        let mut rows = transaction.open_table(KEY).expect("it is there");
        let gone = {
            let mut rows = rows.iter().expect("well");
            let row = rows.nth(9).expect("there are more").expect("well");
            row.0.value().to_vec()
        };
        rows.remove(&gone[..]).expect("well");
    }
    transaction.commit().expect("well");
    drop(database);
    let error = Machine::open(disk.backend(), Options::default()).err().expect("a row is gone");
    assert!(error.is_damage() && matches!(error, EngineError::Meta(_)), "{error}");
    assert!(!EngineError::NoSpace(String::new()).is_damage());
    assert!(!EngineError::Format(9).is_damage());
}

#[test]
fn a_damaged_store_is_set_aside_and_filled_by_another() {
    let folder = tempfile::tempdir().expect("there is room");
    let path = folder.path().join("db");
    std::fs::write(&path, vec![7; 100_000]).expect("there is room");
    let open = || jangada_kv::open_file(&path).expect("the file opens");
    let error = Machine::open(Some(open()), Options::default()).err().expect("it is no store");
    assert!(error.is_damage(), "{error}");
    let aside = set_aside(&path).expect("the folder is there");
    assert!(aside.exists() && !path.exists());
    let mut source = Subject::open(Some(&Disk::default()));
    source.work(50);
    source.settle();
    let mut machine = Machine::open(Some(open()), Options::default()).expect("it is new");
    assert_eq!(machine.recovered(), None);
    let mut restoration = machine.restore();
    for chunk in source.chunks(&[]) {
        restoration.push(&chunk).expect("it follows");
    }
    let (applied, record) = restoration.end().expect("the end has come");
    restoration.finish(applied, record).expect("all is there");
    let mut now_ms = 0;
    while machine.engine_turn(now_ms).expect("the disk is well") != Turn::Idle {
        now_ms += 100;
    }
    assert_eq!(restoration.state(), RestoreState::Done);
    machine.installed();
    let hash = |machine: &Machine| machine.shared().hash_kv(0);
    assert_eq!(hash(&machine), hash(&source.machine));
    assert_eq!(machine.durable_index(), source.index);
}

#[test]
fn what_a_member_publishes_twice_is_one_change_and_can_be_retracted() {
    let disk = Disk::default();
    let mut subject = Subject::open(Some(&disk));
    let member = |id: u64, url: &str| Member {
        id,
        name: format!("m{id}"),
        client_urls: vec![url.to_owned()],
    };
    let publish = |subject: &mut Subject, member: Member| {
        subject.apply(&Command::Member(member));
    };
    publish(&mut subject, member(1, "http://a:2379"));
    publish(&mut subject, member(2, "http://b:2379"));
    publish(&mut subject, member(2, "http://b:2379"));
    publish(&mut subject, member(2, "http://c:2379"));
    subject.apply(&Command::RetractMember(1));
    subject.apply(&Command::RetractMember(1));
    subject.apply(&Command::RetractMember(9));
    subject.settle();
    let members = vec![member(2, "http://c:2379")];
    assert_eq!(subject.machine.shared().read().members(), members);
    assert_eq!(subject.revision(), 1, "none of it is a change of keys");
    let again = Subject::open(Some(&disk.crashed()));
    assert_eq!(again.machine.shared().read().members(), members);
    assert_eq!(again.machine.recovered(), Some(Bytes::from(format!("record {}", subject.index))));
}
