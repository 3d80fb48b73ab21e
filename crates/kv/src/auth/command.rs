//! The bytes of the commands about users (`docs/store-format.md`), and of the envelope that says on
//! whose behalf another command is proposed.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Caller, PasswordHash, Permission, TokenKey};
use crate::command::{DecodeError, Reader, field, unsigned};

/// A change of users, roles, permissions, or of whether they are in use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AuthCommand {
    /// Puts users in use.
    Enable {
        /// The key that tokens are signed with from now on, drawn by the member that was asked.
        key: TokenKey,
    },
    /// Puts users out of use.
    Disable,
    /// Adds a user.
    UserAdd {
        /// The user.
        name: String,
        /// What the password is held against.
        password: PasswordHash,
        /// Whether there is no password.
        no_password: bool,
    },
    /// Removes a user.
    UserDelete {
        /// The user.
        name: String,
    },
    /// Gives a user another password.
    UserChangePassword {
        /// The user.
        name: String,
        /// What the password is held against.
        password: PasswordHash,
    },
    /// Gives a user a role.
    UserGrantRole {
        /// The user.
        name: String,
        /// The role.
        role: String,
    },
    /// Takes a role from a user.
    UserRevokeRole {
        /// The user.
        name: String,
        /// The role.
        role: String,
    },
    /// Adds a role.
    RoleAdd {
        /// The role.
        role: String,
    },
    /// Removes a role, also from the users who have it.
    RoleDelete {
        /// The role.
        role: String,
    },
    /// Gives a role a permission, in place of one for the same range.
    RoleGrantPermission {
        /// The role.
        role: String,
        /// The permission.
        permission: Permission,
    },
    /// Takes the permission for a range from a role.
    RoleRevokePermission {
        /// The role.
        role: String,
        /// The range's first key.
        key: Bytes,
        /// The range's end.
        range_end: Bytes,
    },
}

/// Says on whose behalf the command behind it is proposed. It stands in front of a command, at most
/// once, and only if users are in use where the command is proposed.
pub struct Envelope;

const TAG_ENVELOPE: u8 = 24;
const TAG_ENABLE: u8 = 25;
const TAG_DISABLE: u8 = 26;
const TAG_USER_ADD: u8 = 27;
const TAG_USER_DELETE: u8 = 28;
const TAG_USER_CHANGE_PASSWORD: u8 = 29;
const TAG_USER_GRANT_ROLE: u8 = 30;
const TAG_USER_REVOKE_ROLE: u8 = 31;
const TAG_ROLE_ADD: u8 = 32;
const TAG_ROLE_DELETE: u8 = 33;
const TAG_ROLE_GRANT_PERMISSION: u8 = 34;
const TAG_ROLE_REVOKE_PERMISSION: u8 = 35;

impl Envelope {
    /// Whether a command's bytes begin with one.
    #[must_use]
    pub fn is_first_of(command: &[u8]) -> bool {
        command.first() == Some(&TAG_ENVELOPE)
    }

    /// The most bytes that [`Envelope::encode`] appends.
    #[must_use]
    pub fn bytes_max(caller: &Caller) -> usize {
        1 + 10 + caller.user.len() + 10
    }

    /// Appends the envelope; the command's own bytes follow.
    pub fn encode(buffer: &mut BytesMut, caller: &Caller) {
        buffer.put_u8(TAG_ENVELOPE);
        field(buffer, caller.user.as_bytes());
        unsigned(buffer, caller.revision);
    }

    /// Reads who asks off the front, if there is an envelope.
    pub(crate) fn open<'a, T, F: Fn(&'a [u8]) -> T>(
        reader: &mut Reader<'a, F>,
    ) -> Result<Option<Caller>, DecodeError> {
        if reader.peek() != Some(TAG_ENVELOPE) {
            return Ok(None);
        }
        reader.byte()?;
        Ok(Some(Caller { user: reader.text()?, revision: reader.unsigned()? }))
    }
}

impl AuthCommand {
    /// Whether a tag is one of these commands'.
    pub(crate) fn has_tag(tag: u8) -> bool {
        (TAG_ENABLE..=TAG_ROLE_REVOKE_PERMISSION).contains(&tag)
    }

    pub(crate) fn encode_into(&self, buffer: &mut BytesMut) {
        let mut put = |tag: u8, fields: &[&[u8]]| {
            buffer.put_u8(tag);
            fields.iter().for_each(|bytes| field(buffer, bytes));
        };
        match self {
            AuthCommand::Enable { key } => put(TAG_ENABLE, &[&key.0]),
            AuthCommand::Disable => put(TAG_DISABLE, &[]),
            AuthCommand::UserAdd { name, password, no_password } => {
                put(TAG_USER_ADD, &[name.as_bytes(), &password.0]);
                buffer.put_u8(u8::from(*no_password));
            }
            AuthCommand::UserDelete { name } => put(TAG_USER_DELETE, &[name.as_bytes()]),
            AuthCommand::UserChangePassword { name, password } => {
                put(TAG_USER_CHANGE_PASSWORD, &[name.as_bytes(), &password.0]);
            }
            AuthCommand::UserGrantRole { name, role } => {
                put(TAG_USER_GRANT_ROLE, &[name.as_bytes(), role.as_bytes()]);
            }
            AuthCommand::UserRevokeRole { name, role } => {
                put(TAG_USER_REVOKE_ROLE, &[name.as_bytes(), role.as_bytes()]);
            }
            AuthCommand::RoleAdd { role } => put(TAG_ROLE_ADD, &[role.as_bytes()]),
            AuthCommand::RoleDelete { role } => put(TAG_ROLE_DELETE, &[role.as_bytes()]),
            AuthCommand::RoleGrantPermission { role, permission } => {
                put(TAG_ROLE_GRANT_PERMISSION, &[role.as_bytes()]);
                permission.encode(buffer);
            }
            AuthCommand::RoleRevokePermission { role, key, range_end } => {
                put(TAG_ROLE_REVOKE_PERMISSION, &[role.as_bytes(), key, range_end]);
            }
        }
    }

    /// Reads what follows a tag for which [`AuthCommand::has_tag`] holds.
    pub(crate) fn decode<'a, F: Fn(&'a [u8]) -> Bytes>(
        tag: u8,
        reader: &mut Reader<'a, F>,
    ) -> Result<AuthCommand, DecodeError> {
        Ok(match tag {
            TAG_ENABLE => AuthCommand::Enable { key: TokenKey::of(reader.slice()?)? },
            TAG_DISABLE => AuthCommand::Disable,
            TAG_USER_ADD => AuthCommand::UserAdd {
                name: reader.text()?,
                password: PasswordHash(reader.field()?),
                no_password: reader.bits(1)? != 0,
            },
            TAG_USER_DELETE => AuthCommand::UserDelete { name: reader.text()? },
            TAG_USER_CHANGE_PASSWORD => AuthCommand::UserChangePassword {
                name: reader.text()?,
                password: PasswordHash(reader.field()?),
            },
            TAG_USER_GRANT_ROLE => {
                AuthCommand::UserGrantRole { name: reader.text()?, role: reader.text()? }
            }
            TAG_USER_REVOKE_ROLE => {
                AuthCommand::UserRevokeRole { name: reader.text()?, role: reader.text()? }
            }
            TAG_ROLE_ADD => AuthCommand::RoleAdd { role: reader.text()? },
            TAG_ROLE_DELETE => AuthCommand::RoleDelete { role: reader.text()? },
            TAG_ROLE_GRANT_PERMISSION => AuthCommand::RoleGrantPermission {
                role: reader.text()?,
                permission: Permission::decode(reader)?,
            },
            TAG_ROLE_REVOKE_PERMISSION => AuthCommand::RoleRevokePermission {
                role: reader.text()?,
                key: reader.field()?,
                range_end: reader.field()?,
            },
            other => return Err(DecodeError::Tag(other)),
        })
    }
}
