//! The rows of users, roles and settings: in the engine, in snapshots and in the running hash
//! (`docs/store-format.md`).
//!
//! Invariants:
//! 1. A row is read back as what was written, and foreign bytes are refused, never believed.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    Auth, PasswordHash, Permission, PermissionKind, Role, TOKEN_KEY_BYTES, TokenKey, User,
};
use crate::COMMAND_VERSION;
use crate::command::{DecodeError, Reader, field, unsigned};

/// The auth revision before any change, as etcd has it.
const FIRST_REVISION: u64 = 1;

/// What stands beside users and roles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Settings {
    pub(crate) enabled: bool,
    pub(crate) revision: u64,
    pub(crate) key: Option<TokenKey>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { enabled: false, revision: FIRST_REVISION, key: None }
    }
}

/// A change of one row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum AuthNote {
    Settings(Settings),
    User(String, User),
    UserGone(String),
    Role(String, Role),
    RoleGone(String),
}

const SETTINGS: u8 = b's';
const USER: u8 = b'u';
const ROLE: u8 = b'r';

const NO_PASSWORD: u8 = 1;

impl AuthNote {
    /// The row's key: what it is about.
    pub(crate) fn row_key(&self) -> Bytes {
        let (kind, name) = match self {
            AuthNote::Settings(_) => (SETTINGS, ""),
            AuthNote::User(name, _) | AuthNote::UserGone(name) => (USER, &name[..]),
            AuthNote::Role(name, _) | AuthNote::RoleGone(name) => (ROLE, &name[..]),
        };
        let mut key = BytesMut::with_capacity(1 + name.len());
        key.put_u8(kind);
        key.put_slice(name.as_bytes());
        key.freeze()
    }

    /// The row's value; `None` if the row goes.
    pub(crate) fn row(&self) -> Option<Bytes> {
        let mut row = BytesMut::new();
        match self {
            AuthNote::Settings(settings) => {
                row.put_u8(u8::from(settings.enabled));
                unsigned(&mut row, settings.revision);
                field(&mut row, settings.key.as_ref().map_or(&[][..], |key| &key.0));
            }
            AuthNote::User(_, user) => {
                row.put_u8(if user.no_password { NO_PASSWORD } else { 0 });
                unsigned(&mut row, user.generation);
                field(&mut row, &user.password.0);
                unsigned(&mut row, user.roles.len() as u64);
                user.roles.iter().for_each(|role| field(&mut row, role.as_bytes()));
            }
            AuthNote::Role(_, role) => {
                unsigned(&mut row, role.permissions.len() as u64);
                role.permissions.iter().for_each(|permission| permission.encode(&mut row));
            }
            AuthNote::UserGone(_) | AuthNote::RoleGone(_) => return None,
        }
        Some(row.freeze())
    }

    /// What the running hash covers of the change.
    pub(crate) fn digest(&self) -> u64 {
        let row = self.row();
        let row = row.as_ref().map_or(u64::MAX, |row| u64::from(crc32c::crc32c(row)));
        row ^ u64::from(crc32c::crc32c(&self.row_key())) << 32
    }

    /// Reads a row.
    pub(crate) fn decode(row_key: &[u8], row: &[u8]) -> Result<AuthNote, DecodeError> {
        let (&kind, name) = row_key.split_first().ok_or(DecodeError::Short)?;
        let name = std::str::from_utf8(name).map_err(|_| DecodeError::Text)?.to_owned();
        let mut reader = Reader::new(row, COMMAND_VERSION, Bytes::copy_from_slice)?;
        let note = match kind {
            SETTINGS if name.is_empty() => AuthNote::Settings(Settings {
                enabled: reader.bits(1)? != 0,
                revision: reader.unsigned()?,
                key: match reader.slice()? {
                    [] => None,
                    key => Some(TokenKey::of(key)?),
                },
            }),
            USER => {
                let no_password = reader.bits(NO_PASSWORD)? != 0;
                let generation = reader.unsigned()?;
                let password = PasswordHash(reader.field()?);
                let count = reader.count()?;
                let roles = (0..count).map(|_| reader.text()).collect::<Result<_, _>>()?;
                AuthNote::User(name, User { password, no_password, generation, roles })
            }
            ROLE => {
                let count = reader.count()?;
                let permissions = (0..count).map(|_| Permission::decode(&mut reader));
                let permissions = permissions.collect::<Result<_, _>>()?;
                AuthNote::Role(name, Role { permissions })
            }
            other => return Err(DecodeError::Tag(other)),
        };
        reader.finish()?;
        Ok(note)
    }
}

impl Permission {
    pub(super) fn encode(&self, buffer: &mut BytesMut) {
        buffer.put_u8(self.kind as u8);
        field(buffer, &self.key);
        field(buffer, &self.range_end);
    }

    pub(super) fn decode<'a, F: Fn(&'a [u8]) -> Bytes>(
        reader: &mut Reader<'a, F>,
    ) -> Result<Permission, DecodeError> {
        let kind = PermissionKind::of(reader.byte()?)?;
        Ok(Permission { kind, key: reader.field()?, range_end: reader.field()? })
    }
}

impl PermissionKind {
    /// The kind of this number in etcd's `authpb.Permission.Type`.
    ///
    /// # Errors
    /// A number that this build does not know.
    pub fn of(number: u8) -> Result<PermissionKind, DecodeError> {
        match number {
            0 => Ok(PermissionKind::Read),
            1 => Ok(PermissionKind::Write),
            2 => Ok(PermissionKind::ReadWrite),
            other => Err(DecodeError::Tag(other)),
        }
    }
}

impl TokenKey {
    pub(super) fn of(bytes: &[u8]) -> Result<TokenKey, DecodeError> {
        <[u8; TOKEN_KEY_BYTES]>::try_from(bytes).map(TokenKey).map_err(|_| DecodeError::Short)
    }
}

impl Auth {
    /// All rows: what a snapshot brings, and what is written in place of another state's.
    pub(crate) fn rows(&self) -> impl Iterator<Item = AuthNote> + '_ {
        let users = self.users.iter();
        let users = users.map(|(name, user)| AuthNote::User(name.clone(), user.clone()));
        let roles = self.roles.iter();
        let roles = roles.map(|(name, role)| AuthNote::Role(name.clone(), role.clone()));
        std::iter::once(AuthNote::Settings(self.settings)).chain(roles).chain(users)
    }

    /// The state that rows make, in whatever order they come.
    ///
    /// # Errors
    /// A row that is none.
    pub(crate) fn of_rows<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        rows: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Auth, DecodeError> {
        let mut auth = Auth::default();
        for (row_key, row) in rows {
            let note = AuthNote::decode(row_key.as_ref(), row.as_ref())?;
            if let AuthNote::Settings(settings) = &note
                && settings.revision < auth.settings.revision
            {
                return Err(DecodeError::Number);
            }
            auth.take(&note);
        }
        Ok(auth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_make_the_state_that_they_were_made_of() {
        let mut auth = Auth::default();
        let key = Some(TokenKey([7; TOKEN_KEY_BYTES]));
        auth.take(&AuthNote::Settings(Settings { enabled: true, revision: 9, key }));
        let permission = Permission {
            kind: PermissionKind::ReadWrite,
            key: Bytes::from_static(b"a"),
            range_end: Bytes::from_static(b"\0"),
        };
        auth.take(&AuthNote::Role("r".to_owned(), Role { permissions: vec![permission] }));
        auth.take(&AuthNote::Role("gone".to_owned(), Role::default()));
        auth.take(&AuthNote::RoleGone("gone".to_owned()));
        let password = PasswordHash(Bytes::from_static(b"hash"));
        let roles = ["r".to_owned(), "root".to_owned()].into();
        let user = User { password, no_password: false, generation: 4, roles };
        auth.take(&AuthNote::User("u".to_owned(), user));
        let rows: Vec<_> = auth
            .rows()
            .map(|note| (note.row_key(), note.row().expect("a row that is there has a value")))
            .collect();
        assert_eq!(Auth::of_rows(rows.iter().cloned()), Ok(auth.clone()));
        assert_eq!(Auth::of_rows(rows.into_iter().rev()), Ok(auth));
    }

    #[test]
    fn foreign_rows_are_refused() {
        let decode = AuthNote::decode;
        assert_eq!(decode(b"", b""), Err(DecodeError::Short));
        assert_eq!(decode(b"x", b""), Err(DecodeError::Tag(b'x')));
        assert_eq!(decode(b"s", b"\x02\x01\x00"), Err(DecodeError::Tag(2)));
        assert_eq!(decode(b"s", b"\x01\x01\x01k"), Err(DecodeError::Short));
        assert_eq!(decode(b"s", b"\x01\x01\x00\x00"), Err(DecodeError::Trailing));
        assert_eq!(decode(b"u\xff", b""), Err(DecodeError::Text));
        assert_eq!(Auth::of_rows([(b"s", b"\x01\x00\x00")]), Err(DecodeError::Number));
    }

    #[test]
    fn secrets_are_not_printed() {
        let settings = Settings { enabled: true, revision: 1, key: Some(TokenKey([65; 32])) };
        let password = PasswordHash(Bytes::from_static(b"$2a$10$abc"));
        let user = User { password, ..User::default() };
        let printed = format!("{settings:?} {:?}", AuthNote::User("u".to_owned(), user));
        assert!(!printed.contains("65") && !printed.contains("$2a"), "{printed}");
    }
}
