//! Who may do what while users are in use: a table of etcd's rules, each row as a command that is
//! applied or as a read that is judged.

use bytes::Bytes;
use jangada_kv::auth::{Access, Caller};
use jangada_kv::{
    AlarmAction, AlarmKind, Command, Compare, CompareResult, CompareTarget, DeleteRangeRequest,
    KvError, LeaseCommand, Member, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use crate::auth::auth;
use crate::harness::Subject;

/// `reader` may read [a, m), `writer` may write [c, e) and the key p, `both` may do both with [c, e)
/// through two roles that touch, `open` may do everything from x on, `bare` may do nothing.
fn subject() -> Subject {
    let mut subject = Subject::open(None);
    for line in [
        "user-add root pw",
        "grant-role root root",
        "user-add reader pw",
        "user-add writer pw",
        "user-add both pw",
        "user-add open pw",
        "user-add bare pw",
        "user-add admin pw",
        "grant-role admin root",
        "role-add reads",
        "role-add writes",
        "role-add low",
        "role-add high",
        "role-add opens",
        "read reads a g",
        "read reads f m",
        "write writes c e",
        "write writes p",
        "readwrite low c d",
        "readwrite high d e",
        "readwrite opens x END",
        "grant-role reader reads",
        "grant-role writer writes",
        "grant-role both low",
        "grant-role both high",
        "grant-role open opens",
        "enable",
    ] {
        subject.apply(&Command::Auth(auth(line)));
    }
    subject
}

fn caller(subject: &Subject, user: &str) -> Caller {
    let revision = subject.machine.shared().read().auth().revision();
    Caller { user: user.to_owned(), revision }
}

fn bytes(text: &str) -> Bytes {
    if text == "END" { Bytes::from_static(b"\0") } else { Bytes::copy_from_slice(text.as_bytes()) }
}

fn put(key: &str, prev_kv: bool) -> PutRequest {
    PutRequest { key: bytes(key), prev_kv, ..PutRequest::default() }
}

fn delete(key: &str, range_end: &str, prev_kv: bool) -> DeleteRangeRequest {
    DeleteRangeRequest { key: bytes(key), range_end: bytes(range_end), prev_kv }
}

fn range(key: &str, range_end: &str) -> RangeRequest {
    RangeRequest { key: bytes(key), range_end: bytes(range_end), ..RangeRequest::default() }
}

fn compare(key: &str, range_end: &str) -> Compare {
    Compare {
        result: CompareResult::Equal,
        target: CompareTarget::Version(7),
        key: bytes(key),
        range_end: bytes(range_end),
    }
}

fn txn(compare: Vec<Compare>, success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { compare, success, failure }
}

/// What a row expects.
type Expected = Result<(), KvError>;

const DENIED: Expected = Err(KvError::PermissionDenied);

#[track_caller]
fn applied(subject: &mut Subject, user: &str, command: Command) -> Expected {
    let caller = caller(subject, user);
    subject.reply(&Command::As(caller, Box::new(command))).result.map(|_| ())
}

#[test]
fn writes_are_judged_when_they_are_applied() {
    let mut subject = subject();
    let both_sides = |op: RequestOp| {
        let nested = txn(vec![], vec![], vec![op.clone()]);
        [
            txn(vec![], vec![op.clone()], vec![]),
            txn(vec![], vec![], vec![op]),
            txn(vec![], vec![RequestOp::Txn(nested.clone())], vec![]),
            txn(
                vec![],
                vec![],
                vec![RequestOp::Txn(txn(vec![], vec![RequestOp::Txn(nested)], vec![]))],
            ),
        ]
    };
    let single: Vec<(&str, RequestOp, Expected)> = vec![
        ("writer", RequestOp::Put(put("c", false)), Ok(())),
        ("writer", RequestOp::Put(put("p", false)), Ok(())),
        ("writer", RequestOp::Put(put("c", true)), DENIED),
        ("writer", RequestOp::Put(put("e", false)), DENIED),
        ("writer", RequestOp::Put(put("b", false)), DENIED),
        ("reader", RequestOp::Put(put("c", false)), DENIED),
        ("both", RequestOp::Put(put("c", true)), Ok(())),
        ("bare", RequestOp::Put(put("c", false)), DENIED),
        ("ghost", RequestOp::Put(put("c", false)), DENIED),
        ("root", RequestOp::Put(put("q", true)), Ok(())),
        ("admin", RequestOp::Put(put("q", true)), Ok(())),
        ("open", RequestOp::Put(put("zzz", true)), Ok(())),
        ("writer", RequestOp::DeleteRange(delete("c", "", false)), Ok(())),
        ("writer", RequestOp::DeleteRange(delete("c", "e", false)), Ok(())),
        ("writer", RequestOp::DeleteRange(delete("c", "e", true)), DENIED),
        ("writer", RequestOp::DeleteRange(delete("c", "f", false)), DENIED),
        ("writer", RequestOp::DeleteRange(delete("c", "END", false)), DENIED),
        ("both", RequestOp::DeleteRange(delete("c", "e", true)), Ok(())),
        ("both", RequestOp::DeleteRange(delete("b", "e", true)), DENIED),
        ("open", RequestOp::DeleteRange(delete("x", "END", true)), Ok(())),
        ("open", RequestOp::DeleteRange(delete("w", "END", true)), DENIED),
        ("admin", RequestOp::DeleteRange(delete("END", "END", true)), Ok(())),
    ];
    for (user, op, expected) in single {
        let command = match op.clone() {
            RequestOp::Put(put) => Command::Put(put),
            RequestOp::DeleteRange(delete) => Command::DeleteRange(delete),
            other => panic!("{other:?} is no command"),
        };
        assert_eq!(applied(&mut subject, user, command), expected, "{user}: {op:?}");
        for txn in both_sides(op) {
            let found = applied(&mut subject, user, Command::Txn(txn.clone()));
            assert_eq!(found, expected, "{user}: {txn:?}");
        }
    }
    // A transaction is judged by all of it, whatever of it would run.
    let write = || vec![RequestOp::Put(put("c", false))];
    let rows = [
        ("writer", txn(vec![], write(), write()), Ok(())),
        ("writer", txn(vec![compare("c", "")], write(), vec![]), DENIED),
        ("both", txn(vec![compare("c", "")], write(), vec![]), Ok(())),
        ("both", txn(vec![compare("c", "e")], write(), vec![]), Ok(())),
        ("both", txn(vec![compare("c", "f")], write(), vec![]), DENIED),
        ("both", txn(vec![compare("b", "")], write(), vec![]), DENIED),
        ("writer", txn(vec![], write(), vec![RequestOp::Range(range("c", ""))]), DENIED),
        ("both", txn(vec![], write(), vec![RequestOp::Range(range("c", ""))]), Ok(())),
        ("both", txn(vec![], write(), vec![RequestOp::Range(range("c", "END"))]), DENIED),
    ];
    for (user, txn, expected) in rows {
        let found = applied(&mut subject, user, Command::Txn(txn.clone()));
        assert_eq!(found, expected, "{user}: {txn:?}");
    }
}

#[test]
fn who_ends_or_uses_a_lease_must_be_allowed_to_write_its_keys() {
    let mut subject = subject();
    let grant = |id| Command::Lease(LeaseCommand::Grant { id, ttl: 10 });
    let revoke = |id| Command::Lease(LeaseCommand::Revoke { id });
    let on = |key: &str, lease| Command::Put(PutRequest { lease, ..put(key, false) });
    let rows = [
        ("bare", grant(7), Ok(())),
        ("", grant(8), Err(KvError::UserEmpty)),
        ("ghost", grant(8), Ok(())),
        ("bare", revoke(8), Ok(())),
        ("", revoke(8), Err(KvError::UserEmpty)),
        ("bare", revoke(8), Err(KvError::LeaseNotFound)),
        ("both", on("c", 7), Ok(())),
        ("writer", on("p", 7), Ok(())),
        // The lease holds p.
        ("both", on("d", 7), DENIED),
        ("both", on("d", 9), Err(KvError::LeaseNotFound)),
        ("both", revoke(7), DENIED),
        ("bare", revoke(7), DENIED),
        ("", revoke(7), Err(KvError::UserEmpty)),
    ];
    for (user, command, expected) in rows {
        assert_eq!(applied(&mut subject, user, command.clone()), expected, "{user}: {command:?}");
    }
    let shared = subject.machine.shared();
    let judge = |user: &str, access| shared.read().permit(&caller(&subject, user), access);
    assert_eq!(judge("writer", Access::LeaseWrite(7)), Ok(()));
    assert_eq!(judge("writer", Access::LeaseRead(7)), DENIED);
    assert_eq!(judge("both", Access::LeaseRead(7)), DENIED);
    assert_eq!(judge("admin", Access::LeaseRead(7)), Ok(()));
    assert_eq!(judge("bare", Access::LeaseRead(99)), Ok(()));
    assert_eq!(judge("", Access::LeaseRead(99)), Err(KvError::UserEmpty));
    assert_eq!(applied(&mut subject, "writer", revoke(7)), Ok(()));
}

#[test]
fn what_is_refused_changes_nothing() {
    let mut subject = subject();
    let before = subject.revision();
    let denied =
        txn(vec![], vec![RequestOp::Put(put("c", false)), RequestOp::Put(put("q", false))], vec![]);
    assert_eq!(applied(&mut subject, "writer", Command::Txn(denied)), DENIED);
    assert_eq!(subject.revision(), before);
}

#[test]
fn maintenance_and_users_are_for_root() {
    let mut subject = subject();
    let compact = Command::Compact { revision: 1, physical: false };
    let (action, kind) = (AlarmAction::Activate, AlarmKind::NoSpace);
    let alarm = Command::Alarm { action, member: 1, kind };
    for command in [Command::Auth(auth("role-add x")), compact.clone(), alarm.clone()] {
        let mut run = |user: &str| applied(&mut subject, user, command.clone());
        assert_eq!(run("reader"), DENIED, "{command:?}");
        assert_eq!(run(""), Err(KvError::UserEmpty), "{command:?}");
        assert_eq!(run("ghost"), Err(KvError::UserNotFound), "{command:?}");
        assert_eq!(run("admin"), Ok(()), "{command:?}");
    }
}

#[test]
fn without_a_name_a_client_gets_nothing_and_the_members_go_on() {
    let mut subject = subject();
    let mut run = |command: Command| subject.reply(&command).result.map(|_| ());
    let empty = Err(KvError::UserEmpty);
    assert_eq!(run(Command::Put(put("c", false))), empty);
    assert_eq!(run(Command::DeleteRange(delete("c", "", false))), empty);
    assert_eq!(
        run(Command::Txn(txn(vec![], vec![RequestOp::Put(put("c", false))], vec![]))),
        empty
    );
    assert_eq!(run(Command::Auth(auth("role-add x"))), empty);
    assert_eq!(run(Command::Member(Member::default())), Ok(()));
    assert_eq!(run(Command::Compact { revision: 1, physical: false }), Ok(()));
}

#[test]
fn a_caller_of_an_older_auth_revision_is_refused_data_and_not_maintenance() {
    let mut subject = subject();
    let old = caller(&subject, "admin");
    let later = Caller { revision: old.revision + 9, ..old.clone() };
    subject.apply(&Command::As(old.clone(), Box::new(Command::Auth(auth("role-add x")))));
    let mut run = |caller: &Caller, command: Command| {
        subject.reply(&Command::As(caller.clone(), Box::new(command))).result.map(|_| ())
    };
    let refused = Err(KvError::AuthOldRevision);
    assert_eq!(run(&old, Command::Put(put("c", false))), refused);
    assert_eq!(run(&old, Command::DeleteRange(delete("c", "", false))), refused);
    assert_eq!(run(&later, Command::Put(put("c", false))), Ok(()));
    assert_eq!(run(&old, Command::Compact { revision: 1, physical: false }), Ok(()));
    assert_eq!(run(&old, Command::Auth(auth("role-delete x"))), Ok(()));
}

#[test]
fn an_alarm_is_told_before_a_permission_is_judged() {
    let mut subject = subject();
    let (action, kind) = (AlarmAction::Activate, AlarmKind::NoSpace);
    subject.apply(&Command::Alarm { action, member: 1, kind });
    let nothing = RequestOp::Range(range("q", ""));
    let mut run = |command| applied(&mut subject, "bare", command);
    assert_eq!(run(Command::Put(put("c", false))), Err(KvError::NoSpace));
    assert_eq!(run(Command::DeleteRange(delete("c", "", false))), DENIED);
    assert_eq!(run(Command::Txn(txn(vec![], vec![nothing], vec![]))), DENIED);
}

#[test]
fn reads_are_judged_where_they_are_answered() {
    let subject = subject();
    let shared = subject.machine.shared();
    let judge =
        |user: &str, access: Access<'_>| shared.read().permit(&caller(&subject, user), access);
    let read = |user: &str, key: &str, range_end: &str| {
        judge(user, Access::Read(&bytes(key), &bytes(range_end)))
    };
    for (user, key, range_end, expected) in [
        ("reader", "a", "", Ok(())),
        ("reader", "a", "m", Ok(())),
        ("reader", "e", "h", Ok(())),
        ("reader", "l\u{7f}", "", Ok(())),
        ("reader", "a", "m\0", DENIED),
        ("reader", "m", "", DENIED),
        ("reader", "a", "END", DENIED),
        ("reader", "END", "END", DENIED),
        ("writer", "c", "", DENIED),
        ("both", "c", "e", Ok(())),
        ("open", "x", "END", Ok(())),
        ("open", "y", "z", Ok(())),
        ("open", "w", "END", DENIED),
        ("bare", "c", "", DENIED),
        ("ghost", "c", "", DENIED),
        ("", "c", "", Err(KvError::UserEmpty)),
        ("root", "END", "END", Ok(())),
        ("admin", "END", "END", Ok(())),
        // No key is in it, so the first one counts.
        ("reader", "c", "b", Ok(())),
        ("reader", "q", "b", DENIED),
    ] {
        assert_eq!(read(user, key, range_end), expected, "{user}: {key:?} to {range_end:?}");
    }
    let reads = txn(
        vec![compare("b", "")],
        vec![RequestOp::Range(range("c", "d"))],
        vec![RequestOp::Range(range("l", "m"))],
    );
    assert_eq!(judge("reader", Access::Txn(&reads)), Ok(()));
    assert_eq!(judge("both", Access::Txn(&reads)), DENIED);
    for (user, access, expected) in [
        ("bare", Access::Known, Ok(())),
        ("ghost", Access::Known, Ok(())),
        ("", Access::Known, Err(KvError::UserEmpty)),
        ("bare", Access::Root, DENIED),
        ("ghost", Access::Root, Err(KvError::UserNotFound)),
        ("", Access::Root, Err(KvError::UserEmpty)),
        ("admin", Access::Root, Ok(())),
        ("bare", Access::User("bare"), Ok(())),
        ("bare", Access::User("reader"), DENIED),
        ("admin", Access::User("reader"), Ok(())),
        ("", Access::User(""), Err(KvError::UserEmpty)),
        ("reader", Access::Role("reads"), Ok(())),
        ("reader", Access::Role("writes"), DENIED),
        ("admin", Access::Role("writes"), Ok(())),
    ] {
        assert_eq!(judge(user, access), expected, "{user}: {access:?}");
    }
}

#[test]
fn everybody_may_do_everything_while_users_are_not_in_use() {
    let mut subject = subject();
    assert_eq!(applied(&mut subject, "admin", Command::Auth(auth("disable"))), Ok(()));
    let mut run = |command: Command| subject.reply(&command).result.map(|_| ());
    assert_eq!(run(Command::Put(put("q", true))), Ok(()));
    let ghost = Caller { user: "ghost".to_owned(), revision: 1 };
    assert_eq!(run(Command::As(ghost.clone(), Box::new(Command::Put(put("q", true))))), Ok(()));
    let shared = subject.machine.shared();
    let view = shared.read();
    for access in [Access::Known, Access::Root, Access::Read(b"a", b"\0"), Access::User("x")] {
        assert_eq!(view.permit(&Caller::nobody(), access), Ok(()));
        assert_eq!(view.permit(&ghost, access), Ok(()));
    }
}
