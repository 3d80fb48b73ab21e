//! Ranges that are read in slices answer what a read at once would have answered.

use bytes::{Bytes, BytesMut};
use jangada_kv::{
    COMMAND_VERSION, Command, DeleteRangeRequest, Entry, KvError, Machine, Options, PutRequest,
    RangeRequest, RangeResponse, RangeSlices, SortOrder, SortTarget, Turn,
};

use crate::harness::disk::Disk;

/// More than a few slices hold.
const KEYS: usize = 5_000;

struct Subject {
    machine: Machine,
    index: u64,
}

impl Subject {
    /// Every third key is changed, every seventh deleted.
    fn new(disk: Option<&Disk>) -> Subject {
        let machine = Machine::open(disk.and_then(Disk::backend), Options::default());
        let mut subject = Subject { machine: machine.expect("it opens"), index: 0 };
        for at in 0..KEYS {
            subject.put(at, at % 500);
        }
        for at in (0..KEYS).step_by(3) {
            subject.put(at, 3);
        }
        for at in (0..KEYS).step_by(7) {
            let delete = DeleteRangeRequest { key: key(at), ..DeleteRangeRequest::default() };
            subject.apply(&Command::DeleteRange(delete));
        }
        subject
    }

    fn put(&mut self, at: usize, value_bytes: usize) {
        let value = Bytes::from(vec![at as u8; value_bytes]);
        self.apply(&Command::Put(PutRequest { key: key(at), value, ..PutRequest::default() }));
    }

    fn apply(&mut self, command: &Command) {
        let mut payload = BytesMut::new();
        command.encode_into(&mut payload);
        self.index += 1;
        let (index, version) = (self.index, COMMAND_VERSION);
        let entry = Entry { index, term: 1, time_ms: 0, version, payload: &payload };
        let outcome = self.machine.apply_one(entry).expect("it decodes");
        assert!(outcome.reply.result.is_ok());
        self.machine.end_batch(self.index, Bytes::new());
        self.machine.log_durable(self.index);
        while self.machine.engine_turn(self.index * 10).expect("the disk is well") == Turn::More {}
    }

    /// Reads in slices, with a change after each.
    fn sliced(&mut self, range: &RangeRequest) -> (usize, i64, RangeResponse) {
        let shared = self.machine.shared();
        let (mut slices, mut kvs, mut taken) = (RangeSlices::new(range.clone()), Vec::new(), 0);
        while !slices.is_done() {
            kvs.extend(slices.next(&shared).expect("it is not refused"));
            taken += 1;
            self.put(taken * 577 % KEYS, 9);
        }
        let response = RangeResponse { kvs, more: slices.more(), count: slices.count() };
        (taken, slices.revision(), response)
    }
}

fn key(at: usize) -> Bytes {
    format!("key {at:05}").into()
}

fn all() -> RangeRequest {
    let (key, range_end) = (Bytes::from_static(b"key"), Bytes::from_static(b"\0"));
    RangeRequest { key, range_end, ..RangeRequest::default() }
}

#[test]
fn slices_are_the_whole() {
    let disk = Disk::default();
    for mut subject in [Subject::new(None), Subject::new(Some(&disk))] {
        let descending = RangeRequest { sort_order: SortOrder::Descend, ..all() };
        let cases = [
            all(),
            descending.clone(),
            RangeRequest { limit: 1_500, ..all() },
            RangeRequest { limit: 1_500, ..descending },
            RangeRequest { limit: 512, ..all() },
            RangeRequest { limit: 100_000, keys_only: true, ..all() },
            RangeRequest { revision: 4_000, ..all() },
            RangeRequest { revision: 4_000, limit: 700, ..all() },
            RangeRequest { min_mod_revision: 5_500, ..all() },
            RangeRequest { min_mod_revision: 5_500, limit: 600, ..all() },
            RangeRequest { range_end: key(2_500), ..all() },
            RangeRequest { key: key(9), range_end: key(3), ..all() },
        ];
        for range in cases {
            let (revision, expected) = subject.machine.shared().range(&range);
            let (taken, found_revision, found) = subject.sliced(&range);
            assert!(found.kvs.len() <= taken * 512, "{range:?}");
            assert_eq!(found_revision, revision, "{range:?}");
            assert_eq!(Ok(found), expected, "{range:?}");
        }
    }
}

#[test]
fn a_compaction_between_slices_ends_the_read() {
    let mut subject = Subject::new(None);
    let shared = subject.machine.shared();
    let mut slices = RangeSlices::new(all());
    assert!(!slices.next(&shared).expect("it is not refused").is_empty());
    subject.put(1, 1);
    let revision = shared.read().revision();
    subject.apply(&Command::Compact { revision, physical: false });
    assert_eq!(slices.next(&shared), Err(KvError::Compacted));
}

#[test]
fn what_cannot_be_sliced_is_told() {
    assert!(RangeSlices::fit(&all()));
    assert!(!RangeSlices::fit(&RangeRequest { range_end: Bytes::new(), ..all() }));
    assert!(!RangeSlices::fit(&RangeRequest { count_only: true, ..all() }));
    assert!(!RangeSlices::fit(&RangeRequest { sort_target: SortTarget::Value, ..all() }));
}
