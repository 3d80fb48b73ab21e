//! The commands about users: etcd's checks and its auth revision, row by row; their bytes; and that a
//! restart and a snapshot bring everything back.

use bytes::{Bytes, BytesMut};
use jangada_kv::auth::{
    Auth, AuthCommand, AuthParts, Caller, PasswordHash, Permission, PermissionKind,
    TOKEN_KEY_BYTES, TokenKey,
};
use jangada_kv::{COMMAND_VERSION, Command, DecodeError, Import, ImportRest, KvError, PutRequest};

use crate::harness::disk::Disk;
use crate::harness::{Subject, record};

/// One command about users, as a test writes it.
pub(crate) fn auth(line: &str) -> AuthCommand {
    let words: Vec<&str> = line.split(' ').collect();
    let name = |at: usize| words.get(at).copied().unwrap_or_default().to_owned();
    let bytes = |at: usize| match name(at).as_str() {
        "END" => Bytes::from_static(b"\0"),
        word => Bytes::copy_from_slice(word.as_bytes()),
    };
    let password = |at: usize| PasswordHash(bytes(at));
    match words[0] {
        "enable" => AuthCommand::Enable { key: TokenKey([words.len() as u8; TOKEN_KEY_BYTES]) },
        "disable" => AuthCommand::Disable,
        "user-add" => {
            AuthCommand::UserAdd { name: name(1), password: password(2), no_password: false }
        }
        "user-add-bare" => {
            AuthCommand::UserAdd { name: name(1), password: password(2), no_password: true }
        }
        "user-delete" => AuthCommand::UserDelete { name: name(1) },
        "passwd" => AuthCommand::UserChangePassword { name: name(1), password: password(2) },
        "grant-role" => AuthCommand::UserGrantRole { name: name(1), role: name(2) },
        "revoke-role" => AuthCommand::UserRevokeRole { name: name(1), role: name(2) },
        "role-add" => AuthCommand::RoleAdd { role: name(1) },
        "role-delete" => AuthCommand::RoleDelete { role: name(1) },
        "revoke" => {
            AuthCommand::RoleRevokePermission { role: name(1), key: bytes(2), range_end: bytes(3) }
        }
        kind => {
            let kind = match kind {
                "read" => PermissionKind::Read,
                "write" => PermissionKind::Write,
                "readwrite" => PermissionKind::ReadWrite,
                other => panic!("{other} is no command"),
            };
            let permission = Permission { kind, key: bytes(2), range_end: bytes(3) };
            AuthCommand::RoleGrantPermission { role: name(1), permission }
        }
    }
}

/// Runs commands one after the other: each with what it answers and how much the auth revision rises.
#[track_caller]
fn check(lines: &[(&str, Result<u64, KvError>)]) -> Auth {
    let mut subject = Subject::open(None);
    for (line, expected) in lines {
        let before = subject.machine.shared().read().auth().revision();
        let result = subject.reply(&Command::Auth(auth(line))).result;
        let after = subject.machine.shared().read().auth().revision();
        assert_eq!(result.map(|_| after - before), *expected, "{line}");
    }
    subject.machine.shared().read().auth().clone()
}

#[test]
fn users_are_checked_as_in_etcd() {
    use KvError as E;
    let auth = check(&[
        ("user-add  x", Err(E::UserEmpty)),
        ("user-add a hash", Ok(1)),
        ("user-add a hash", Err(E::UserAlreadyExists)),
        ("user-add-bare b ignored", Ok(1)),
        ("passwd nobody x", Err(E::UserNotFound)),
        ("passwd a other", Ok(1)),
        ("passwd b ignored", Ok(1)),
        ("grant-role nobody r", Err(E::UserNotFound)),
        ("grant-role a r", Err(E::RoleNotFound)),
        ("role-add r", Ok(1)),
        ("grant-role a r", Ok(1)),
        ("grant-role a r", Ok(0)),
        ("grant-role a root", Ok(1)),
        ("revoke-role nobody r", Err(E::UserNotFound)),
        ("revoke-role b r", Err(E::RoleNotGranted)),
        ("revoke-role a r", Ok(1)),
        ("user-delete nobody", Err(E::UserNotFound)),
        ("user-delete b", Ok(1)),
    ]);
    assert_eq!(auth.revision(), 1 + 9);
    let a = &auth.users()["a"];
    assert_eq!((a.generation, a.password.0.as_ref()), (4, &b"other"[..]));
    assert_eq!(auth.users().len(), 1);
}

#[test]
fn roles_are_checked_as_in_etcd() {
    use KvError as E;
    let auth = check(&[
        ("role-add ", Err(E::RoleEmpty)),
        ("role-add r", Ok(1)),
        ("role-add r", Err(E::RoleAlreadyExists)),
        ("read nothing a", Err(E::RoleNotFound)),
        ("read r  b", Err(E::InvalidAuthManagement)),
        ("read r b a", Err(E::InvalidAuthManagement)),
        ("read r b b", Err(E::InvalidAuthManagement)),
        ("read r b c", Ok(1)),
        ("write r b d", Ok(1)),
        ("readwrite r a END", Ok(1)),
        ("read r c", Ok(1)),
        // A range has one permission, the last.
        ("read r b d", Ok(1)),
        ("revoke nothing a", Err(E::RoleNotFound)),
        ("revoke r a", Err(E::PermissionNotGranted)),
        ("revoke r a b", Err(E::PermissionNotGranted)),
        ("revoke r a END", Ok(1)),
        ("user-add u", Ok(1)),
        ("grant-role u r", Ok(1)),
        ("role-delete nothing", Err(E::RoleNotFound)),
        ("role-add s", Ok(1)),
        ("read s k", Ok(1)),
        ("role-delete r", Ok(1)),
    ]);
    assert!(auth.users()["u"].roles.is_empty(), "a role that goes is taken from its users");
    assert_eq!(auth.roles().keys().collect::<Vec<_>>(), ["s"]);
}

#[test]
fn permissions_stand_in_the_order_of_keys() {
    let auth = check(&[
        ("role-add r", Ok(1)),
        ("read r b c", Ok(1)),
        ("read r a", Ok(1)),
        ("write r b d", Ok(1)),
        ("readwrite r b c", Ok(1)),
    ]);
    let listed = auth.roles()["r"].permissions.iter();
    let listed: Vec<_> = listed.map(|p| (&p.key[..], &p.range_end[..], p.kind)).collect();
    let expected = [
        (&b"a"[..], &b""[..], PermissionKind::Read),
        (b"b", b"c", PermissionKind::ReadWrite),
        (b"b", b"d", PermissionKind::Write),
    ];
    assert_eq!(listed, expected);
}

#[test]
fn root_is_needed_before_and_kept_after() {
    use KvError as E;
    // While users are in use a command needs a name; so these are proposed by root.
    let mut subject = Subject::open(None);
    let mut run = |line: &str| {
        let revision = subject.machine.shared().read().auth().revision();
        let caller = Caller { user: "root".to_owned(), revision };
        let command = Command::As(caller, Box::new(Command::Auth(auth(line))));
        let result = subject.reply(&command).result;
        let after = subject.machine.shared().read().auth().revision();
        result.map(|_| after - revision)
    };
    for (line, expected) in [
        ("enable", Err(E::RootUserNotExist)),
        ("user-add root pw", Ok(1)),
        ("enable", Err(E::RootRoleNotExist)),
        ("disable", Ok(0)),
        ("grant-role root root", Ok(1)),
        ("role-add root", Ok(1)),
        ("user-delete root", Ok(1)),
        ("user-add root pw", Ok(1)),
        ("grant-role root root", Ok(1)),
        ("enable", Ok(0)),
        ("enable", Ok(0)),
        ("user-delete root", Err(E::InvalidAuthManagement)),
        ("revoke-role root root", Err(E::InvalidAuthManagement)),
        ("role-delete root", Err(E::InvalidAuthManagement)),
        ("passwd root other", Ok(1)),
        ("disable", Ok(1)),
        ("disable", Ok(0)),
        ("role-delete root", Ok(1)),
        ("user-delete root", Ok(1)),
    ] {
        assert_eq!(run(line), expected, "{line}");
    }
}

#[test]
fn each_time_of_use_has_a_key_of_its_own() {
    let mut subject = Subject::open(None);
    let as_root = |subject: &mut Subject, line: &str| {
        let revision = subject.machine.shared().read().auth().revision();
        let caller = Caller { user: "root".to_owned(), revision };
        subject.apply(&Command::As(caller, Box::new(Command::Auth(auth(line)))));
        subject.machine.shared().read().auth().token_key().copied()
    };
    for line in ["user-add root pw", "grant-role root root"] {
        assert_eq!(as_root(&mut subject, line), None);
    }
    let first = as_root(&mut subject, "enable");
    assert!(first.is_some());
    assert_eq!(as_root(&mut subject, "enable again"), first, "they are in use already");
    as_root(&mut subject, "disable");
    let second = as_root(&mut subject, "enable again");
    assert!(second.is_some() && second != first);
}

#[test]
fn users_are_back_after_a_restart_and_in_a_snapshot() {
    let disk = Disk::default();
    let mut subject = Subject::open(Some(&disk));
    for line in [
        "user-add root pw",
        "grant-role root root",
        "role-add r",
        "role-add gone",
        "readwrite r a END",
        "user-add u pw",
        "user-add gone pw",
        "grant-role u r",
        "user-delete gone",
        "role-delete gone",
        "enable",
    ] {
        subject.apply(&Command::Auth(auth(line)));
    }
    subject.settle();
    let expected = subject.machine.shared().read().auth().clone();
    assert!(expected.is_enabled() && subject.machine.shared().is_auth_enabled());

    let restarted = Subject::open(Some(&disk.crashed()));
    assert_eq!(*restarted.machine.shared().read().auth(), expected);
    assert!(restarted.machine.shared().is_auth_enabled(), "in force from the first moment");
    assert_eq!(restarted.machine.recovered(), Some(record(subject.index)));

    for target in [None, Some(Disk::default())] {
        let mut target = Subject::open(target.as_ref());
        target.apply(&Command::Auth(auth("user-add of-its-own pw")));
        target.restore(&subject.chunks(&[]));
        assert_eq!(*target.machine.shared().read().auth(), expected);
        assert!(target.machine.shared().is_auth_enabled());
    }
}

#[test]
fn users_from_elsewhere_get_a_key_once() {
    let mut subject = Subject::open(None);
    for line in ["user-add root pw", "grant-role root root"] {
        subject.apply(&Command::Auth(auth(line)));
    }
    let users = subject.machine.shared().read().auth().users().clone();
    let parts = AuthParts { enabled: true, revision: 9, users, ..AuthParts::default() };
    let disk = Disk::default();
    let import = Import::begin(disk.backend().expect("there is a disk")).expect("it is well");
    let auth_from_elsewhere = Auth::of_parts(parts).expect("root is there");
    let rest = ImportRest {
        applied: 1,
        record: record(1),
        auth: auth_from_elsewhere,
        ..ImportRest::default()
    };
    import.finish(rest).expect("the disk is well");
    let mut subject = Subject::open(Some(&disk));
    let key = |subject: &Subject| subject.machine.shared().read().auth().token_key().copied();
    assert!(subject.machine.shared().is_auth_enabled() && key(&subject).is_none());
    // A member's own proposal, which nobody's name stands on.
    subject.apply(&Command::Auth(auth("enable")));
    let drawn = key(&subject);
    assert!(drawn.is_some());
    let again = subject.reply(&Command::Auth(auth("enable again"))).result.map(|_| ());
    assert_eq!((again, key(&subject)), (Err(KvError::UserEmpty), drawn));
}

/// Every command about users.
const LINES: [&str; 13] = [
    "enable",
    "disable",
    "user-add a pw",
    "user-add-bare a",
    "user-delete a",
    "passwd a pw",
    "grant-role a r",
    "revoke-role a r",
    "role-add r",
    "role-delete r",
    "read r a b",
    "readwrite r a END",
    "revoke r a b",
];

#[test]
fn commands_are_read_back_with_and_without_a_caller() {
    let put = PutRequest { key: Bytes::from_static(b"k"), ..PutRequest::default() };
    let commands = LINES.iter().map(|line| Command::Auth(auth(line))).chain([Command::Put(put)]);
    for command in commands {
        let caller = Caller { user: "somebody".to_owned(), revision: 300 };
        for command in [command.clone(), Command::As(caller, Box::new(command))] {
            let mut payload = BytesMut::new();
            command.encode_into(&mut payload);
            let payload = payload.freeze();
            assert_eq!(Command::decode(&payload, COMMAND_VERSION), Ok(command));
            for end in 0..payload.len() {
                assert!(Command::decode(&payload.slice(..end), COMMAND_VERSION).is_err());
            }
        }
    }
}

#[test]
fn an_envelope_holds_no_envelope() {
    let decode = |bytes: &'static [u8]| {
        Command::decode(&Bytes::from_static(bytes), COMMAND_VERSION).expect_err("it is none")
    };
    assert_eq!(decode(b"\x18\x01a\x01\x18\x01b\x01\x1a"), DecodeError::Tag(24));
    assert_eq!(decode(b"\x18\x01a\x01"), DecodeError::Short);
    assert_eq!(decode(b"\x18\x01\xff\x01\x1a"), DecodeError::Text);
}
