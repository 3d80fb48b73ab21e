//! The outgoing side: one task for each lane to each peer dials it, watches it, and dials again.

use std::future::Future;
use std::io::ErrorKind;
use std::pin::pin;
use std::rc::Rc;

use jangada_raft::NodeId;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::backoff::Backoff;
use super::link::Link;
use super::refusals::By;
use super::state::{Condition, Shared};
use super::{DownReason, TransportEvent, socket};
use crate::handshake::{Met, RECORD_BYTES_MAX, Refusal, RefusalCode};
use crate::security::{host_of, is_secured, not_secured};
use crate::session::Outgoing;
use crate::{Lane, host_port};

/// Why an attempt to connect failed.
enum Failure {
    Unreachable(ErrorKind),
    Closed,
    Silent,
    Refused { address: String, refusal: Refusal },
}

/// A connection after its handshake.
struct Connected {
    met: Met,
    link: Rc<Link>,
    session: Outgoing,
}

/// Keeps one lane to one peer open, for as long as the peer is one.
pub(super) async fn keep_lane(shared: Rc<Shared>, peer: NodeId, lane: Lane) {
    let mut backoff = Backoff::new(shared.limits.backoff_min, shared.limits.backoff_max);
    loop {
        let Some(poke) = shared.poke_of(peer) else {
            return;
        };
        let pause = backoff.pause(fastrand::f64());
        let attempt = async {
            if !pause.is_zero() {
                // Either way the next attempt follows: after the pause, or when the peer has given
                // a sign of life.
                let _ = timeout(pause, poke.notified()).await;
            }
            connect(&shared, peer, lane).await
        };
        let attempt = match lane {
            Lane::Control if shared.is_up(peer) => judge_down(&shared, peer, attempt).await,
            Lane::Control | Lane::Entries | Lane::Snapshots => attempt.await,
        };
        match attempt {
            Ok(connected) => {
                let opened = Instant::now();
                keep_open(&shared, connected).await;
                if shared.limits.stable_after <= opened.elapsed() {
                    backoff.reset();
                }
            }
            Err(failure) => {
                tell(&shared, peer, lane, &failure);
                if shared.release_guest(peer) {
                    return;
                }
            }
        }
    }
}

/// The one attempt after which a peer whose control lane broke counts as down: when it fails, or
/// when it takes too long. It goes on in the latter case.
async fn judge_down(
    shared: &Shared,
    peer: NodeId,
    attempt: impl Future<Output = Result<Connected, Failure>>,
) -> Result<Connected, Failure> {
    let mut attempt = pin!(attempt);
    match timeout(shared.limits.silence, attempt.as_mut()).await {
        Ok(Ok(connected)) => Ok(connected),
        Ok(Err(failure)) => {
            shared.down(peer, failure.reason());
            Err(failure)
        }
        Err(_) => {
            shared.down(peer, DownReason::Silent);
            attempt.await
        }
    }
}

/// Tries each of the peer's addresses in turn, until one gives a handshake.
async fn connect(shared: &Shared, peer: NodeId, lane: Lane) -> Result<Connected, Failure> {
    let mut failure = Failure::Unreachable(ErrorKind::AddrNotAvailable);
    let Some((addresses, _)) = shared.dialling(peer, lane) else {
        return Err(failure);
    };
    for address in addresses.iter() {
        let attempt = shake_hands(shared, peer, lane, address);
        match timeout(shared.limits.handshake_timeout, attempt).await {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(error)) => failure = error,
            Err(_) => failure = Failure::Silent,
        }
    }
    Err(failure)
}

async fn shake_hands(
    shared: &Shared,
    peer: NodeId,
    lane: Lane,
    address: &str,
) -> Result<Connected, Failure> {
    let insecure = |error| Failure::insecure(address, &error);
    let secured = match (&shared.security, is_secured(address)) {
        (_, false) => None,
        (Some(security), true) => Some(security.dial(host_of(address)).map_err(insecure)?),
        (None, true) => return Err(insecure(not_secured(address))),
    };
    let stream = TcpStream::connect(host_port(address)).await?;
    socket::configure(&stream, shared.limits.keepalive)?;
    let link = Link::open(stream, secured).await.map_err(|error| match error.kind() {
        ErrorKind::InvalidData => insecure(error),
        _ => Failure::Closed,
    })?;
    let Some((_, mut session)) = shared.dialling(peer, lane) else {
        return Err(Failure::Unreachable(ErrorKind::AddrNotAvailable));
    };
    socket::write(&link, session.queue_mut())?;
    while !session.queue().is_empty() || link.is_pending() {
        link.ready(Interest::WRITABLE).await?;
        socket::write(&link, session.queue_mut())?;
    }
    let mut bytes = [0; RECORD_BYTES_MAX];
    loop {
        link.ready(Interest::READABLE).await?;
        let count = match link.try_read(&mut bytes) {
            Ok(0) => return Err(Failure::Closed),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            // A certificate that the other side does not take shows only after the handshake.
            Err(error) if error.kind() == ErrorKind::InvalidData => return Err(insecure(error)),
            Err(_) => return Err(Failure::Closed),
        };
        match session.receive(&bytes[..count]) {
            Ok(None) => {}
            Ok(Some(met)) => return Ok(Connected { met, link: Rc::new(link), session }),
            Err(refusal) => return Err(Failure::Refused { address: address.to_owned(), refusal }),
        }
    }
}

/// Gives the connection to the senders, and stays with it until it breaks.
async fn keep_open(shared: &Shared, connected: Connected) {
    let Connected { met, link, session } = connected;
    match shared.opened(met, Rc::clone(&link), session) {
        Ok(wake) => {
            let farewell = watch(shared, met, &link, &wake).await;
            shared.lost(met.member, met.lane, farewell.as_ref());
        }
        Err(refusal) => {
            shared.refused(Some(met.member), By::Us, &refusal, || refusal.sentence.clone());
            if met.lane == Lane::Control {
                shared.down(met.member, DownReason::Refused);
            }
        }
    }
}

/// Writes what senders could not, and sees the connection's end at once: the other side says
/// nothing on it but, perhaps, why it closes it.
async fn watch(shared: &Shared, met: Met, link: &Link, wake: &Notify) -> Option<Refusal> {
    let mut bytes = [0; RECORD_BYTES_MAX];
    loop {
        let interest = match shared.condition(met.member, met.lane) {
            Condition::Idle => Interest::READABLE,
            Condition::Blocked => Interest::READABLE | Interest::WRITABLE,
            Condition::Failed => return None,
        };
        let ready = tokio::select! {
            biased;
            ready = link.ready(interest) => ready.ok()?,
            () = wake.notified() => continue,
        };
        if ready.is_writable() {
            shared.resume(met.member, met.lane);
        }
        if ready.is_readable() {
            match link.try_read(&mut bytes) {
                Ok(0) => return None,
                Ok(count) => {
                    if let Err(refusal) = shared.received_on(met.member, met.lane, &bytes[..count])
                    {
                        return Some(refusal);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
    }
}

fn tell(shared: &Shared, peer: NodeId, lane: Lane, failure: &Failure) {
    shared.dial_failed(peer);
    match failure {
        Failure::Refused { address, refusal } => {
            if let RefusalCode::Removed | RefusalCode::Wiped = refusal.code {
                shared.emit(TransportEvent::TurnedAway { by: peer, code: refusal.code });
            }
            shared.refused(Some(peer), By::Them, refusal, || {
                format!("the connection to member {peer} at {address} was refused: {refusal}")
            });
        }
        // The other lane would only say it again.
        _ if lane == Lane::Control => shared.absent(peer, failure.reason()),
        _ => {}
    }
}

impl Failure {
    fn insecure(address: &str, error: &std::io::Error) -> Failure {
        let sentence = format!("the connection could not be secured: {error}");
        let refusal = Refusal { code: RefusalCode::Insecure, sentence };
        Failure::Refused { address: address.to_owned(), refusal }
    }

    fn reason(&self) -> DownReason {
        match self {
            Failure::Unreachable(kind) => DownReason::Unreachable(*kind),
            Failure::Closed => DownReason::Closed,
            Failure::Silent => DownReason::Silent,
            Failure::Refused { .. } => DownReason::Refused,
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::Unreachable(error.kind())
    }
}
