//! Chosen histories of users: what must be refused.

use bytes::Bytes;
use jangada_kv::auth::{
    AuthCommand, Caller, PasswordHash, Permission, PermissionKind, TOKEN_KEY_BYTES, TokenKey,
};
use jangada_kv::{Command, KvError, LeaseCommand, PutRequest, RequestOp, TxnRequest};

use super::Subject;
use super::disk::Disk;

/// What must be refused, each by the known bug that lets it through.
pub(crate) const REFUSED: [&str; 6] = [
    // CVE-2026-33343: the recursion into nested transactions was forgotten.
    "nested_transactions_are_not_judged",
    // The previous value is read by who may only write.
    "previous_values_are_not_judged",
    // What was permitted when a token was made is believed later.
    "old_auth_revisions_are_believed",
    // Who may not write a key ends it with its lease.
    "keys_of_leases_are_not_judged",
    // Judged before the proposal alone, a change of users in between is missed.
    "commands_are_not_judged_when_applied",
    // etcd #14571: authentication is not in force after a restart.
    "users_are_forgotten_at_a_restart",
];

/// Users are in use: root may do everything, u may write the key `a` and not read it.
fn subject(disk: Option<&Disk>) -> Subject {
    let mut subject = Subject::open(disk);
    let text = str::to_owned;
    let add = |name: &str| AuthCommand::UserAdd {
        name: text(name),
        password: PasswordHash(Bytes::from_static(b"hash")),
        no_password: false,
    };
    let (key, range_end) = (Bytes::from_static(b"a"), Bytes::new());
    let permission = Permission { kind: PermissionKind::Write, key, range_end };
    for command in [
        add("root"),
        AuthCommand::UserGrantRole { name: text("root"), role: text("root") },
        AuthCommand::RoleAdd { role: text("r") },
        AuthCommand::RoleGrantPermission { role: text("r"), permission },
        add("u"),
        AuthCommand::UserGrantRole { name: text("u"), role: text("r") },
        AuthCommand::Enable { key: TokenKey([1; TOKEN_KEY_BYTES]) },
    ] {
        subject.apply(&Command::Auth(command));
    }
    subject
}

fn ask(subject: &mut Subject, user: &str, behind: u64, command: Command) -> Result<(), KvError> {
    let revision = subject.machine.shared().read().auth().revision() - behind;
    let caller = Caller { user: user.to_owned(), revision };
    subject.reply(&Command::As(caller, Box::new(command))).result.map(|_| ())
}

fn put(key: &'static str, lease: i64, prev_kv: bool) -> PutRequest {
    PutRequest { key: Bytes::from_static(key.as_bytes()), lease, prev_kv, ..Default::default() }
}

/// Whether what a bug lets through is refused.
pub(crate) fn is_refused(bug: &str) -> bool {
    let mut subject = subject(None);
    let mut ask = |user, behind, command| ask(&mut subject, user, behind, command);
    let denied = Err(KvError::PermissionDenied);
    match bug {
        "nested_transactions_are_not_judged" => {
            let success = vec![RequestOp::Put(put("b", 0, false))];
            let inner = TxnRequest { success, ..TxnRequest::default() };
            let success = vec![RequestOp::Txn(inner)];
            let outer = TxnRequest { success, ..TxnRequest::default() };
            ask("u", 0, Command::Txn(outer)) == denied
        }
        "previous_values_are_not_judged" => ask("u", 0, Command::Put(put("a", 0, true))) == denied,
        "old_auth_revisions_are_believed" => {
            ask("u", 1, Command::Put(put("a", 0, false))) == Err(KvError::AuthOldRevision)
        }
        "keys_of_leases_are_not_judged" => {
            let grant = Command::Lease(LeaseCommand::Grant { id: 7, ttl: 10 });
            assert_eq!(ask("root", 0, grant), Ok(()));
            assert_eq!(ask("root", 0, Command::Put(put("b", 7, false))), Ok(()));
            ask("u", 0, Command::Lease(LeaseCommand::Revoke { id: 7 })) == denied
        }
        "commands_are_not_judged_when_applied" => {
            ask("u", 0, Command::Put(put("b", 0, false))) == denied
        }
        "users_are_forgotten_at_a_restart" => {
            let disk = Disk::default();
            let mut before = self::subject(Some(&disk));
            before.settle();
            Subject::open(Some(&disk.crashed())).machine.shared().is_auth_enabled()
        }
        other => panic!("{other} is no bug"),
    }
}

/// Everything that must be refused is.
pub(crate) fn what_is_not_permitted_is_refused() {
    for bug in REFUSED {
        assert!(is_refused(bug), "{bug}");
    }
}
