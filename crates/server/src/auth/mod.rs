//! Who asks, and whether he may: what every request passes before it is carried out.
//!
//! Responsible for the token or certificate that a caller shows, for passwords, and for judging what
//! is answered without a command; what users, roles and permissions are and mean is the store's
//! (`jangada_kv::auth`), which judges each command again where it is applied. Not responsible for the
//! Auth service (`grpc/auth.rs`).
//!
//! Invariants:
//! 1. While users are in use a client's command travels with its caller, so that every member judges
//!    it alike; one without is a member's own.
//! 2. A read is judged by the state that it is answered from, after its barrier, and given up if
//!    permissions changed while it was answered.
//! 3. Neither a password nor a token is ever logged or kept.

mod jwt;
mod passwords;
mod simple;

use std::sync::Arc;
use std::time::Duration;

use http::{Extensions, HeaderMap};
use jangada_kv::auth::{Access, Caller};
use jangada_kv::{Command, Shared};

use crate::backend::Backend;
use crate::errors::ApiError;
use crate::grpc::methods::Method;
pub use jwt::{Jwt, JwtError};
use passwords::Passwords;
pub use passwords::{BCRYPT_COST_DEFAULT, BCRYPT_COSTS};
use simple::SimpleTokens;

/// What a caller's tokens are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TokenSettings {
    /// Signed with a key that all members have (`--auth-token simple`).
    Simple {
        /// How long one is good without being used (`--auth-token-ttl`).
        ttl: Duration,
    },
    /// JSON Web Tokens, signed with the operator's key (`--auth-token jwt,...`).
    Jwt(Jwt),
}

/// The settings of the API's callers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuthSettings {
    /// The tokens.
    pub tokens: TokenSettings,
    /// The cost of a password's hash, as the power of two (`--bcrypt-cost`).
    pub bcrypt_cost: u32,
    /// Whether the common name of a client's certificate says who asks when no token does
    /// (`--client-cert-auth`).
    pub certificates: bool,
}

impl Default for AuthSettings {
    fn default() -> AuthSettings {
        let tokens = TokenSettings::Simple { ttl: Duration::from_secs(300) };
        AuthSettings { tokens, bcrypt_cost: BCRYPT_COST_DEFAULT, certificates: false }
    }
}

/// The common name of the certificate that a client's connection has shown and that was verified. Who
/// accepts TLS connections puts it into the extensions of their requests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommonName(pub Arc<str>);

/// What a request shows of who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    pub(crate) headers: &'a HeaderMap,
    common_name: Option<&'a str>,
}

/// The same, kept for as long as a stream is open.
#[derive(Clone, Debug)]
pub(crate) struct OwnedAsker {
    headers: HeaderMap,
    common_name: Option<Box<str>>,
}

impl OwnedAsker {
    pub(crate) fn borrow(&self) -> Asker<'_> {
        Asker { headers: &self.headers, common_name: self.common_name.as_deref() }
    }
}

impl<'a> Asker<'a> {
    pub(crate) fn into_owned(self) -> OwnedAsker {
        let common_name = self.common_name.map(Box::from);
        OwnedAsker { headers: self.headers.clone(), common_name }
    }

    /// Who asks over a connection.
    pub(crate) fn new(headers: &'a HeaderMap, extensions: &'a Extensions) -> Asker<'a> {
        let common_name = extensions.get::<CommonName>().map(|CommonName(name)| &name[..]);
        Asker { headers, common_name }
    }

    /// Who asks by a certificate, unless the metadata says otherwise.
    pub(crate) fn of_certificate(headers: &'a HeaderMap, common_name: &'a str) -> Asker<'a> {
        Asker { headers, common_name: Some(common_name) }
    }

    /// Who asks by metadata alone.
    pub(crate) fn of_metadata(headers: &'a HeaderMap) -> Asker<'a> {
        Asker { headers, common_name: None }
    }

    /// The token: gRPC's, or the one of the JSON gateway, whose scheme may be left out.
    fn token(&self) -> Option<&'a [u8]> {
        let token = self.headers.get("token").or_else(|| self.headers.get("authorization"))?;
        let token = token.as_bytes();
        Some(token.strip_prefix(b"Bearer ").unwrap_or(token))
    }
}

/// What judges callers. A member has one.
#[derive(Debug)]
pub(crate) struct Guard {
    tokens: Tokens,
    pub(crate) passwords: Passwords,
    certificates: bool,
}

#[derive(Debug)]
enum Tokens {
    Simple(SimpleTokens),
    Jwt(Jwt),
}

/// What is needed of who asks, beyond what the request's own handler or the log sees to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Needs {
    /// Nothing here: anybody may ask, or what may be asked depends on the message.
    Nothing,
    /// A caller who says who he is.
    Known,
    /// One with the role `root`.
    Root,
}

/// What each method needs, as in etcd. What the log or a handler judges by its message is judged there.
fn needs(method: Method) -> Needs {
    use Method as M;
    match method {
        M::Authenticate | M::HealthCheck | M::HealthWatch => Needs::Nothing,
        M::Range | M::RangeStream | M::Put | M::DeleteRange | M::Txn | M::Compact | M::Watch => {
            Needs::Nothing
        }
        M::LeaseKeepAlive | M::Alarm | M::UserGet | M::RoleGet => Needs::Nothing,
        M::Lock | M::Unlock | M::Campaign | M::Proclaim | M::Leader | M::Observe | M::Resign => {
            Needs::Nothing
        }
        // The log judges them.
        M::AuthEnable
        | M::AuthDisable
        | M::UserAdd
        | M::UserDelete
        | M::UserChangePassword
        | M::UserGrantRole
        | M::UserRevokeRole
        | M::RoleAdd
        | M::RoleDelete
        | M::RoleGrantPermission
        | M::RoleRevokePermission => Needs::Nothing,
        // Judged after a barrier.
        M::AuthStatus | M::UserList | M::RoleList => Needs::Nothing,
        M::LeaseGrant | M::LeaseRevoke | M::LeaseTimeToLive | M::LeaseLeases => Needs::Known,
        M::MemberList | M::Status => Needs::Known,
        M::MemberAdd | M::MemberRemove | M::MemberUpdate | M::MemberPromote => Needs::Root,
        M::Defragment | M::Hash | M::HashKv | M::Snapshot | M::MoveLeader | M::Downgrade => {
            Needs::Root
        }
    }
}

/// A read that was judged: by which auth revision, if users are in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Judged(Option<u64>);

impl Judged {
    /// Refuses if permissions changed since (invariant 2).
    pub(crate) fn still_holds(self, store: &Shared) -> Result<(), ApiError> {
        match self.0 {
            Some(revision) if store.read().auth().revision() != revision => {
                Err(ApiError::AuthOldRevision)
            }
            _ => Ok(()),
        }
    }
}

impl Guard {
    pub(crate) fn new(settings: &AuthSettings) -> Guard {
        let tokens = match &settings.tokens {
            TokenSettings::Simple { ttl } => Tokens::Simple(SimpleTokens::new(*ttl)),
            TokenSettings::Jwt(jwt) => Tokens::Jwt(jwt.clone()),
        };
        let passwords = Passwords::new(settings.bcrypt_cost);
        Guard { tokens, passwords, certificates: settings.certificates }
    }

    /// Who asks; `None` while users are not in use, when nobody is asked. Somebody who shows nothing is
    /// [nobody](Caller::nobody).
    ///
    /// # Errors
    /// [`ApiError::InvalidAuthToken`].
    pub(crate) async fn caller<B: Backend>(
        &self,
        backend: &B,
        asker: Asker<'_>,
    ) -> Result<Option<Caller>, ApiError> {
        if !backend.store().is_auth_enabled() {
            return Ok(None);
        }
        // Rare beside the rest: it must not make the future of every call as large.
        Box::pin(self.identify(backend, asker)).await.map(Some)
    }

    async fn identify<B: Backend>(
        &self,
        backend: &B,
        asker: Asker<'_>,
    ) -> Result<Caller, ApiError> {
        let identified = self.identify_now(backend, asker);
        // The token may be good by what this member has not applied yet.
        if identified.is_err() && backend.read_barrier().await.is_ok() {
            return self.identify_now(backend, asker);
        }
        identified
    }

    /// Who asks, by what this member knows at this moment.
    fn identify_now<B: Backend>(&self, backend: &B, asker: Asker<'_>) -> Result<Caller, ApiError> {
        if let Some(token) = asker.token() {
            return self.read_token(backend, token).ok_or(ApiError::InvalidAuthToken);
        }
        match asker.common_name.filter(|_| self.certificates && !is_of_gateway(asker.headers)) {
            Some(name) => {
                let revision = backend.store().read().auth().revision();
                Ok(Caller { user: name.to_owned(), revision })
            }
            None => Ok(Caller::nobody()),
        }
    }

    fn read_token<B: Backend>(&self, backend: &B, token: &[u8]) -> Option<Caller> {
        match &self.tokens {
            Tokens::Simple(tokens) => {
                tokens.read(backend.store().read().auth(), backend.time_ms(), token)
            }
            Tokens::Jwt(jwt) => jwt.read(token),
        }
    }

    /// A token for a user whose password was found right. `None` if this member has the key for
    /// verifying alone.
    pub(crate) fn issue<B: Backend>(&self, backend: &B, user: &str) -> Option<String> {
        let view = backend.store().read();
        match &self.tokens {
            Tokens::Simple(tokens) => tokens.issue(view.auth(), backend.time_ms(), user),
            Tokens::Jwt(jwt) => jwt.issue(user, view.auth().revision()),
        }
    }

    /// What a method needs of whoever asks, before its message is looked at.
    ///
    /// # Errors
    /// [`ApiError::InvalidAuthToken`], and those of [`jangada_kv::View::permit`].
    pub(crate) async fn check_method<B: Backend>(
        &self,
        backend: &B,
        method: Method,
        asker: Asker<'_>,
    ) -> Result<(), ApiError> {
        let access = match needs(method) {
            Needs::Nothing => return Ok(()),
            Needs::Known => Access::Known,
            Needs::Root => Access::Root,
        };
        self.judge(backend, asker, access).await.map(|_| ())
    }

    /// Judges a read, or whatever else leaves no command in the log.
    ///
    /// # Errors
    /// [`ApiError::InvalidAuthToken`], and those of [`jangada_kv::View::permit`].
    pub(crate) async fn judge<B: Backend>(
        &self,
        backend: &B,
        asker: Asker<'_>,
        access: Access<'_>,
    ) -> Result<Judged, ApiError> {
        let Some(caller) = self.caller(backend, asker).await? else {
            return Ok(Judged(None));
        };
        if canon!(reads_are_not_judged) {
            return Ok(Judged(None));
        }
        let view = backend.store().read();
        view.permit(&caller, access)?;
        Ok(Judged(view.auth().is_enabled().then(|| view.auth().revision())))
    }

    /// Judges a watcher by what this member knows at this moment: a stream cannot wait for a barrier, and
    /// a client whose token is not known yet gets another one.
    ///
    /// # Errors
    /// As of [`Guard::judge`]; whoever is gone may not do it.
    pub(crate) fn judge_now<B: Backend>(
        &self,
        backend: &B,
        asker: Asker<'_>,
        access: Access<'_>,
    ) -> Result<(), ApiError> {
        if !backend.store().is_auth_enabled() {
            return Ok(());
        }
        let caller = self.identify_now(backend, asker)?;
        Ok(backend.store().read().permit(&caller, access)?)
    }

    /// A client's command, with its caller while users are in use (invariant 1).
    ///
    /// # Errors
    /// [`ApiError::InvalidAuthToken`].
    pub(crate) async fn enclose<B: Backend>(
        &self,
        backend: &B,
        asker: Asker<'_>,
        command: Command,
    ) -> Result<Command, ApiError> {
        Ok(match self.caller(backend, asker).await? {
            Some(caller) => Command::As(caller, Box::new(command)),
            None => command,
        })
    }
}

/// Whether a gateway sent the call on: its certificate is its own, not that of who asks.
fn is_of_gateway(headers: &HeaderMap) -> bool {
    headers.contains_key("grpcgateway-accept")
}
