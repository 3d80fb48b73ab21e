//! Filling a new engine with rows of etcd's: what is taken, and what is not.

use bytes::Bytes;
use jangada_kv::{Import, ImportError, ImportRest, Machine, Options, RangeRequest};
use redb::backends::InMemoryBackend;

fn row_key(main: i64, sub: u64, tombstone: bool) -> Vec<u8> {
    let mark: &[u8] = if tombstone { b"t" } else { b"" };
    [main.to_be_bytes().as_slice(), b"_", &sub.to_be_bytes(), mark].concat()
}

/// `mvccpb.KeyValue` of a key of one letter, created at this revision.
fn message(key: u8, main: u8, lease: u8) -> Vec<u8> {
    let mut message = vec![0x0a, 1, key, 0x10, main, 0x18, main, 0x20, 1, 0x2a, 1, b'v'];
    if lease != 0 {
        message.extend([0x30, lease]);
    }
    message
}

fn begin() -> Import {
    Import::begin(Box::new(InMemoryBackend::new())).expect("memory can be written")
}

fn rest() -> ImportRest {
    ImportRest { applied: 1, record: Bytes::from_static(b"record"), ..ImportRest::default() }
}

#[test]
fn rows_that_are_none_are_told() {
    let cases: [(Vec<u8>, Vec<u8>, &str); 6] = [
        (b"short".to_vec(), message(b'a', 3, 0), "key is malformed"),
        (row_key(2, 0, false), message(b'a', 2, 0), "out of order"),
        (row_key(-3, 0, false), message(b'a', 3, 0), "key is malformed"),
        (row_key(3, 0, false), vec![0x0a, 200, 1], "message is malformed"),
        (row_key(4, 0, false), message(b'a', 3, 0), "different revisions"),
        (row_key(3, u64::MAX, false), message(b'a', 3, 0), "key is malformed"),
    ];
    for (key, message_of_it, what) in cases {
        let mut import = begin();
        import.row(&row_key(2, 0, false), &message(b'b', 2, 0)).expect("it is one");
        let error = import.row(&key, &message_of_it).expect_err("it is none");
        assert!(matches!(error, ImportError::Row { after: 2, .. }), "{error:?}");
        assert!(error.to_string().contains(what), "{what}: {error}");
    }
}

#[test]
fn a_row_that_only_names_a_revision_raises_it() {
    let mut import = begin();
    import.row(&row_key(2, 0, false), &message(b'a', 2, 0)).expect("it is one");
    import.row(&row_key(1_000, 0, false), &[]).expect("it names a revision");
    let imported = import.finish(rest()).expect("memory can be written");
    assert_eq!((imported.revision, imported.rows), (1_000, 1));
}

#[test]
fn a_key_whose_lease_is_missing_keeps_one() {
    let file = std::sync::Arc::new(InMemoryBackend::new());
    let mut import = Import::begin(Box::new(Shared(file.clone()))).expect("memory can be written");
    import.row(&row_key(2, 0, false), &message(b'a', 2, 7)).expect("it is one");
    import.row(&row_key(3, 0, false), &message(b'b', 3, 8)).expect("it is one");
    import.row(&row_key(4, 0, false), &message(b'c', 4, 9)).expect("it is one");
    import.row(&row_key(5, 0, true), &[0x0a, 1, b'c']).expect("it is a deletion");
    let rest = ImportRest { leases: vec![(7, 60, 20)], compacted: Some(3), ..rest() };
    assert_eq!(import.finish(rest).expect("memory can be written").leases_made_up, 1);
    let machine = Machine::open(Some(Box::new(Shared(file))), Options::default());
    let machine = machine.expect("it opens as any other");
    assert_eq!(machine.recovered().as_deref(), Some(&b"record"[..]));
    let shared = machine.shared();
    let view = shared.read();
    let leases: Vec<_> = view.leases().iter().map(|l| (l.name.id, l.remaining)).collect();
    assert_eq!(leases, [(7, 20), (8, jangada_kv::LEASE_TTL_MAX)], "no key holds 9 any more");
    assert_eq!((view.revision(), view.compact_revision()), (5, 3));
    let all = RangeRequest { key: "a".into(), range_end: "z".into(), ..RangeRequest::default() };
    assert_eq!(view.range(&all).expect("it can be read").count, 2);
}

#[test]
fn a_store_that_is_there_is_left_alone() {
    let file = std::sync::Arc::new(InMemoryBackend::new());
    let import = Import::begin(Box::new(Shared(file.clone()))).expect("memory can be written");
    import.finish(rest()).expect("memory can be written");
    let again = Import::begin(Box::new(Shared(file)));
    assert_eq!(again.err(), Some(ImportError::Exists));
}

/// A file that outlives the engine over it.
#[derive(Debug)]
struct Shared(std::sync::Arc<InMemoryBackend>);

impl jangada_kv::StorageBackend for Shared {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.0.write(offset, data)
    }
}
