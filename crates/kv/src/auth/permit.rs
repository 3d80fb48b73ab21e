//! Who may do what: the one place where that is decided.
//!
//! A command is judged where it is applied, on every member alike; a read where it is answered. Both
//! ask [`Store::permit`], so that no request is judged by another rule than its twin in a transaction.
//! The rules are etcd's, with the repairs that its current versions have: a transaction is judged by
//! all its branches at every depth (CVE-2026-33343), compaction and what members tell of themselves
//! by who asks (CVE-2026-33413).

use super::{Auth, AuthCommand};
use crate::command::Command;
use crate::lease::LeaseCommand;
use crate::store::Store;
use crate::{DeleteRangeRequest, KvError, PutRequest, RequestOp, TxnRequest};

/// Who asks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Caller {
    /// The user's name; empty for one who did not say who he is.
    pub user: String,
    /// The auth revision that the user's token stands for: what he may do is judged by no newer one.
    pub revision: u64,
}

impl Caller {
    /// One who did not say who he is.
    #[must_use]
    pub fn nobody() -> Caller {
        Caller::default()
    }

    /// Whether he did not say who he is.
    #[must_use]
    pub fn is_nobody(&self) -> bool {
        self.user.is_empty() || self.revision == 0
    }
}

/// What is to be done, as far as permissions go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access<'a> {
    /// What every user may do who says who he is.
    Known,
    /// What only users with the role `root` may do.
    Root,
    /// Reading or watching the keys of a range.
    Read(&'a [u8], &'a [u8]),
    /// Seeing the keys of a lease.
    LeaseRead(i64),
    /// Prolonging or ending a lease, or attaching a key to it: as one who may write all its keys.
    LeaseWrite(i64),
    /// Running a transaction.
    Txn(&'a TxnRequest),
    /// Seeing a user: himself, or for `root`.
    User(&'a str),
    /// Seeing a role: those who have it, or for `root`.
    Role(&'a str),
}

/// What is done with a range.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Read,
    Write,
}

impl Store {
    /// Judges what somebody is about to do. Everybody may do everything while users are not in use.
    ///
    /// # Errors
    /// [`KvError::UserEmpty`] to one who does not say who he is, [`KvError::AuthOldRevision`] if
    /// permissions changed after his token was made, [`KvError::UserNotFound`] to a user who is gone,
    /// [`KvError::PermissionDenied`].
    pub(crate) fn permit(&self, caller: &Caller, access: Access<'_>) -> Result<(), KvError> {
        let auth = self.auth();
        if !auth.is_enabled() {
            return Ok(());
        }
        match access {
            Access::Known if caller.is_nobody() => Err(KvError::UserEmpty),
            Access::Known => Ok(()),
            Access::Root => auth.permit_root(caller),
            Access::Read(key, range_end) => auth.permit_range(caller, Verb::Read, key, range_end),
            Access::LeaseRead(id) => self.permit_lease(caller, Verb::Read, id),
            Access::LeaseWrite(id) => self.permit_lease(caller, Verb::Write, id),
            Access::Txn(txn) => self.permit_txn(caller, txn),
            Access::User(name) if caller.user == name && !caller.is_nobody() => Ok(()),
            Access::Role(role) if auth.has_role(caller, role) => Ok(()),
            Access::User(_) | Access::Role(_) => auth.permit_root(caller),
        }
    }

    /// Judges a command. What the members propose on their own account bears no name: it is
    /// maintenance, and never touches a client's keys.
    pub(crate) fn permit_command(
        &self,
        caller: Option<&Caller>,
        command: &Command,
    ) -> Result<(), KvError> {
        let nobody = Caller::nobody();
        let named = caller.unwrap_or(&nobody);
        match command {
            Command::Put(put) => self.permit_put(named, put),
            Command::DeleteRange(delete) => self.auth().permit_delete(named, delete),
            Command::Txn(txn) => self.permit(named, Access::Txn(txn)),
            // A member draws the key that a state from elsewhere lacks; it changes nothing else.
            Command::Auth(AuthCommand::Enable { .. })
                if caller.is_none() && self.auth().token_key().is_none() =>
            {
                Ok(())
            }
            Command::Auth(_) => self.permit(named, Access::Root),
            Command::Lease(LeaseCommand::Grant { .. }) => self.permit(named, Access::Known),
            Command::Lease(LeaseCommand::Revoke { id }) => {
                self.permit(named, Access::LeaseWrite(*id))
            }
            Command::Lease(LeaseCommand::Expire { .. } | LeaseCommand::Checkpoint { .. }) => Ok(()),
            Command::Compact { .. } | Command::Alarm { .. } => {
                caller.map_or(Ok(()), |caller| self.permit(caller, Access::Root))
            }
            Command::Member(_) | Command::RetractMember(_) => Ok(()),
            Command::As(..) => unreachable!("command: an envelope holds no envelope"),
        }
    }

    fn permit_txn(&self, caller: &Caller, txn: &TxnRequest) -> Result<(), KvError> {
        for compare in &txn.compare {
            self.auth().permit_range(caller, Verb::Read, &compare.key, &compare.range_end)?;
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match op {
                RequestOp::Range(range) => {
                    self.auth().permit_range(caller, Verb::Read, &range.key, &range.range_end)?;
                }
                RequestOp::Put(put) => self.permit_put(caller, put)?,
                RequestOp::DeleteRange(delete) => self.auth().permit_delete(caller, delete)?,
                RequestOp::Txn(_) if canon!(nested_transactions_are_not_judged) => {}
                RequestOp::Txn(txn) => self.permit_txn(caller, txn)?,
            }
        }
        Ok(())
    }

    fn permit_put(&self, caller: &Caller, put: &PutRequest) -> Result<(), KvError> {
        self.auth().permit_range(caller, Verb::Write, &put.key, &[])?;
        if put.lease != 0 {
            self.permit_lease(caller, Verb::Write, put.lease)?;
        }
        if put.prev_kv && !canon!(previous_values_are_not_judged) {
            self.auth().permit_range(caller, Verb::Read, &put.key, &[])?;
        }
        Ok(())
    }
}

impl Store {
    /// A lease that is not there has no keys. Whoever could end another's keys with a lease must be
    /// allowed to write them.
    fn permit_lease(&self, caller: &Caller, verb: Verb, id: i64) -> Result<(), KvError> {
        if caller.is_nobody() {
            return Err(KvError::UserEmpty);
        }
        if self.auth().permit_root(caller).is_ok() || canon!(keys_of_leases_are_not_judged) {
            return Ok(());
        }
        let mut keys = self.leases().keys(id).into_iter().flatten();
        keys.try_for_each(|key| self.auth().permit_range(caller, verb, key, &[]))
    }
}

impl Auth {
    fn permit_delete(&self, caller: &Caller, delete: &DeleteRangeRequest) -> Result<(), KvError> {
        let DeleteRangeRequest { key, range_end, prev_kv } = delete;
        self.permit_range(caller, Verb::Write, key, range_end)?;
        if *prev_kv && !canon!(previous_values_are_not_judged) {
            self.permit_range(caller, Verb::Read, key, range_end)?;
        }
        Ok(())
    }

    fn permit_range(
        &self,
        caller: &Caller,
        verb: Verb,
        key: &[u8],
        range_end: &[u8],
    ) -> Result<(), KvError> {
        if caller.is_nobody() {
            return Err(KvError::UserEmpty);
        }
        if caller.revision < self.revision() && !canon!(old_auth_revisions_are_believed) {
            return Err(KvError::AuthOldRevision);
        }
        let user = self.users().get(&caller.user).ok_or(KvError::PermissionDenied)?;
        if user.is_root() {
            return Ok(());
        }
        let granted = self.granted.get(&caller.user).ok_or(KvError::PermissionDenied)?;
        let spans = match verb {
            Verb::Read => &granted.read,
            Verb::Write => &granted.write,
        };
        if spans.cover(key, range_end) { Ok(()) } else { Err(KvError::PermissionDenied) }
    }

    fn permit_root(&self, caller: &Caller) -> Result<(), KvError> {
        if caller.is_nobody() {
            return Err(KvError::UserEmpty);
        }
        let user = self.users().get(&caller.user).ok_or(KvError::UserNotFound)?;
        if user.is_root() { Ok(()) } else { Err(KvError::PermissionDenied) }
    }

    fn has_role(&self, caller: &Caller, role: &str) -> bool {
        let user = self.users().get(&caller.user).filter(|_| !caller.is_nobody());
        user.is_some_and(|user| user.roles.contains(role))
    }
}
