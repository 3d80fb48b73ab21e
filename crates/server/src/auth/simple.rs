//! etcd's simple tokens, made so that every member knows them and a restart forgets none.
//!
//! Responsible for their bytes and for how long they are good. A token names a user, says when it was
//! made, and is signed with a key of the replicated state; nothing of it is kept. As etcd's it is good
//! for so long after its last use: each member remembers the uses that it has seen itself.
//!
//! Invariants:
//! 1. A token is good only in the time of use in which it was made (its key goes with that), for a user
//!    who has the password that he had then.
//! 2. What is remembered of uses is bounded.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jangada_kv::auth::{Auth, Caller};

/// The first byte of a token: the form of what follows.
const FORM: u8 = 1;

/// Form, time and generation; the user's name and the tag follow.
const HEAD_BYTES: usize = 1 + 8 + 8;

/// The bytes of the tag: half of what HMAC-SHA-256 makes, as RFC 2104 allows.
const TAG_BYTES: usize = 16;

/// A longer text is no token: names of users are short, and headers have a limit of their own.
const TOKEN_CHARACTERS_MAX: usize = 8 << 10;

/// How many tokens' uses are remembered; a token beyond them is good for its time from when it was made.
const USES_MAX: usize = 1 << 16;

/// What tells one token from another.
type Tag = [u8; TAG_BYTES];

/// Makes and reads tokens.
#[derive(Debug)]
pub(super) struct SimpleTokens {
    ttl_ms: u64,
    /// When each was last used, in the cluster's time.
    uses: Mutex<HashMap<Tag, u64>>,
}

impl SimpleTokens {
    pub(super) fn new(ttl: Duration) -> SimpleTokens {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        SimpleTokens { ttl_ms, uses: Mutex::default() }
    }

    /// A token for a user; `None` if there is no such user or users were never in use.
    pub(super) fn issue(&self, auth: &Auth, now_ms: u64, user: &str) -> Option<String> {
        let generation = auth.users().get(user)?.generation;
        let mut token = Vec::with_capacity(HEAD_BYTES + user.len() + TAG_BYTES);
        token.push(FORM);
        token.extend_from_slice(&now_ms.to_le_bytes());
        token.extend_from_slice(&generation.to_le_bytes());
        token.extend_from_slice(user.as_bytes());
        let tag = tag(auth, &token)?;
        token.extend_from_slice(&tag);
        Some(BASE64.encode(token))
    }

    /// Whose token it is, if it is one and good. What the user may do is judged by the present auth
    /// revision, as with etcd's.
    pub(super) fn read(&self, auth: &Auth, now_ms: u64, token: &[u8]) -> Option<Caller> {
        if TOKEN_CHARACTERS_MAX < token.len() {
            return None;
        }
        let bytes = BASE64.decode(token).ok()?;
        let (signed, shown) = bytes.split_at_checked(bytes.len().checked_sub(TAG_BYTES)?)?;
        let own = tag(auth, signed)?;
        constant_time::verify_slices_are_equal(&own, shown).ok()?;
        let (head, user) = signed.split_at_checked(HEAD_BYTES)?;
        let number = |at: usize| head[at..at + 8].try_into().map(u64::from_le_bytes).ok();
        let (made_ms, generation) = (number(1)?, number(9)?);
        let user = std::str::from_utf8(user).ok().filter(|_| head[0] == FORM)?;
        let known = auth.users().get(user)?.generation == generation;
        let good = known && self.is_fresh(own, made_ms, now_ms);
        good.then(|| Caller { user: user.to_owned(), revision: auth.revision() })
    }

    /// Whether a token was made or used a short while ago, and so is used now.
    fn is_fresh(&self, tag: Tag, made_ms: u64, now_ms: u64) -> bool {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |at_ms: u64| now_ms <= at_ms.saturating_add(self.ttl_ms);
        if !fresh(made_ms) && !uses.get(&tag).copied().is_some_and(fresh) {
            uses.remove(&tag);
            return false;
        }
        if USES_MAX <= uses.len() && !uses.contains_key(&tag) {
            uses.retain(|_, at_ms| fresh(*at_ms));
            if USES_MAX <= uses.len() {
                return true;
            }
        }
        uses.insert(tag, now_ms);
        true
    }
}

fn tag(auth: &Auth, signed: &[u8]) -> Option<Tag> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &auth.token_key()?.0);
    let whole = hmac::sign(&key, signed);
    whole.as_ref()[..TAG_BYTES].try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{Bytes, BytesMut};
    use jangada_kv::auth::{AuthCommand, PasswordHash, TOKEN_KEY_BYTES, TokenKey};
    use jangada_kv::{COMMAND_VERSION, Command, Entry, Machine, Options};

    /// The state that commands about users make.
    fn state(commands: Vec<AuthCommand>) -> Auth {
        let mut machine = Machine::open(None, Options::default()).expect("memory opens");
        for (index, command) in (1..).zip(commands) {
            let revision = machine.shared().read().auth().revision();
            let caller = Caller { user: "root".to_owned(), revision };
            let mut payload = BytesMut::new();
            Command::As(caller, Box::new(Command::Auth(command))).encode_into(&mut payload);
            let version = COMMAND_VERSION;
            let entry = Entry { index, term: 1, time_ms: index, version, payload: &payload };
            let outcome = machine.apply_one(entry).expect("it decodes");
            assert!(outcome.reply.result.is_ok(), "{:?}", outcome.reply.result);
            machine.end_batch(index, Bytes::new());
        }
        machine.shared().read().auth().clone()
    }

    fn add(name: &str) -> AuthCommand {
        let password = PasswordHash(Bytes::from_static(b"hash"));
        AuthCommand::UserAdd { name: name.to_owned(), password, no_password: false }
    }

    fn enable(key: u8) -> AuthCommand {
        AuthCommand::Enable { key: TokenKey([key; TOKEN_KEY_BYTES]) }
    }

    fn users() -> Vec<AuthCommand> {
        let role = || "root".to_owned();
        vec![add("root"), AuthCommand::UserGrantRole { name: role(), role: role() }, add("u")]
    }

    fn with(mut commands: Vec<AuthCommand>, more: Vec<AuthCommand>) -> Auth {
        commands.extend(more);
        state(commands)
    }

    const TTL: Duration = Duration::from_secs(1);

    #[test]
    fn another_member_reads_a_token_and_nobody_else_makes_one() {
        let auth = with(users(), vec![enable(1)]);
        let token = SimpleTokens::new(TTL).issue(&auth, 500, "u").expect("u exists");
        let other = SimpleTokens::new(TTL);
        let caller = other.read(&auth, 600, token.as_bytes()).expect("it is good");
        assert_eq!((&caller.user[..], caller.revision), ("u", auth.revision()));
        assert_eq!(SimpleTokens::new(TTL).issue(&auth, 500, "ghost"), None);
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(other.read(&auth, 600, &bytes), None, "changed at {at}");
            assert_eq!(other.read(&auth, 600, &bytes[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn a_token_is_good_for_a_while_after_its_last_use() {
        let auth = with(users(), vec![enable(1)]);
        let tokens = SimpleTokens::new(TTL);
        let token = tokens.issue(&auth, 1_000, "u").expect("u exists");
        let good = |at_ms| tokens.read(&auth, at_ms, token.as_bytes()).is_some();
        assert!(good(1_000) && good(2_000), "up to its time");
        assert!(good(3_000), "a time after the last use");
        assert!(!good(4_001), "no use for longer than that");
        assert!(!good(4_002));
    }

    #[test]
    fn another_password_or_time_of_use_makes_a_token_void_and_a_role_does_not() {
        let base = || {
            let mut commands = users();
            commands.push(enable(1));
            commands
        };
        let tokens = SimpleTokens::new(TTL);
        let token = tokens.issue(&state(base()), 0, "u").expect("u exists");
        let good = |more| tokens.read(&with(base(), more), 0, token.as_bytes()).is_some();
        let (name, role) = (|| "u".to_owned(), || "root".to_owned());
        let password = || PasswordHash(Bytes::from_static(b"other"));
        assert!(good(vec![]));
        assert!(good(vec![AuthCommand::UserGrantRole { name: name(), role: role() }]));
        assert!(!good(vec![AuthCommand::UserChangePassword {
            name: name(),
            password: password()
        }]));
        assert!(!good(vec![AuthCommand::UserDelete { name: name() }]));
        assert!(!good(vec![AuthCommand::UserDelete { name: name() }, add("u")]));
        assert!(!good(vec![AuthCommand::Disable, enable(2)]));
    }
}
