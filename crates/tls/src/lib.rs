//! TLS for clients and between members: etcd's files, flags and rules, over rustls.
//!
//! Responsible for: reading certificates, keys and lists of revoked certificates, and reading them
//! again when the files change; who may connect; whom to trust when connecting; certificates of our
//! own making. Not responsible for connections, nor for who a connected client is allowed to be.
//!
//! Invariants:
//! 1. A file that cannot be used when it is read again changes nothing: what was in force stays so,
//!    and that is told once.
//! 2. No session is resumed: every connection is judged by the files as they are when it is made.
//! 3. No key is ever written to a log or into an error.

mod accept;
mod certificate;
mod dial;
mod error;
mod files;
mod origin;
mod protocol;
mod reload;
mod self_signed;
mod stream;
mod verify;

pub use accept::{Acceptor, AcceptorSettings};
pub use certificate::Certificate;
pub use dial::{Dialer, DialerSettings, Trust};
pub use error::TlsError;
pub use files::KeyPair;
pub use origin::check_origin;
pub use protocol::{CIPHER_SUITES, Protocol, TlsVersion};
pub use rustls::ClientConnection;
pub use self_signed::self_signed;
pub use stream::Stream;
pub use tokio_rustls::client::TlsStream;
