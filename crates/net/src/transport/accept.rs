//! The incoming side: connections that others opened are judged, and then read.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::refusals::By;
use super::state::Shared;
use super::{TransportEvent, socket};
use crate::Duplex;
use crate::handshake::{Known, Met, Refusal, RefusalCode};
use crate::session::{Incoming, Judged};

/// How long the listener waits after a failure, most often for a free file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a connection that is being closed for cause is still read, so that the sentence reaches
/// the other side before its system learns that nobody reads any more.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(500);

/// Accepts connections, for ever.
pub(super) async fn listen(shared: Rc<Shared>, listener: TcpListener, secured: bool) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                let shared_of_task = Rc::clone(&shared);
                shared.accepted(|number| async move {
                    open(shared_of_task, stream, secured, address, number).await;
                });
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// One incoming connection, from its first byte to its end.
async fn open(
    shared: Rc<Shared>,
    stream: TcpStream,
    secured: bool,
    address: SocketAddr,
    number: u64,
) {
    if socket::configure(&stream, shared.limits.keepalive).is_err() {
        return shared.turned_away(number);
    }
    match (secured, shared.security.clone()) {
        (false, _) => serve(shared, stream, address, number).await,
        (true, Some(security)) => {
            let shaking = security.accept(stream, address);
            match timeout(shared.limits.handshake_timeout, shaking).await {
                Ok(Ok(stream)) => serve(shared, stream, address, number).await,
                Ok(Err(error)) => {
                    insecure(&shared, address, &error.to_string());
                    shared.turned_away(number);
                }
                Err(_) => shared.turned_away(number),
            }
        }
        (true, None) => {
            insecure(&shared, address, "this member was started without TLS");
            shared.turned_away(number);
        }
    }
}

fn insecure(shared: &Shared, address: SocketAddr, why: &str) {
    let sentence = format!("rejected connection on peer endpoint from {address}: {why}");
    let refusal = Refusal { code: RefusalCode::Insecure, sentence };
    shared.refused(None, By::Us, &refusal, || refusal.sentence.clone());
}

/// One incoming connection, from its hello to its end.
async fn serve(shared: Rc<Shared>, mut stream: impl Duplex, address: SocketAddr, number: u64) {
    let mut session = Incoming::accept(shared.identity, shared.group);
    let shaking = shake_hands(&shared, &mut stream, &mut session, address);
    let met = match timeout(shared.limits.handshake_timeout, shaking).await {
        Ok(Some(met)) => met,
        Ok(None) | Err(_) => return shared.turned_away(number),
    };
    if !shared.welcomed(met, number) {
        return;
    }
    let refusal = read(&shared, &mut stream, &mut session, met).await;
    shared.ended(met, number, refusal.as_ref().map(|(refusal, _)| refusal));
    if let Some((_, reply)) = refusal {
        // Nobody counts on it: the connection ends either way.
        let _ = timeout(FAREWELL_TIMEOUT, say_farewell(&mut stream, &reply)).await;
    }
}

/// Judges the hello and answers it. `None` when the connection is to be closed.
async fn shake_hands(
    shared: &Rc<Shared>,
    stream: &mut impl Duplex,
    session: &mut Incoming,
    address: SocketAddr,
) -> Option<Met> {
    let judged = loop {
        if stream.read_buf(session.buffer()).await.ok()? == 0 {
            return None;
        }
        match session.judge(|id| shared.known(id)) {
            Ok(None) => {}
            Ok(Some(judged)) => break judged,
            Err(refusal) => {
                shared.refused(None, By::Us, &refusal, || {
                    format!("refused a connection from {address}: {refusal}")
                });
                return None;
            }
        }
    };
    match judged {
        Judged::Inquiry { addresses } => {
            // Whoever asks learns nothing from a member that knows of no cluster yet.
            let roster = shared.roster()?.for_asker(&addresses).encode();
            let _ = timeout(FAREWELL_TIMEOUT, say_farewell(stream, &roster)).await;
            None
        }
        Judged::Welcome { met, addresses, reply } => {
            // A dialer that gave up while its hello lay in the listener's queue must not take the
            // place of its own later connection.
            if socket::is_closed_by_peer(&*stream) {
                return None;
            }
            shared.shown(met.member, addresses);
            send(stream, &reply).await.ok()?;
            Some(met)
        }
        Judged::Refused { from, refusal, reply } => {
            let peer = match shared.known(from) {
                Known::Member(_) => Some(from),
                Known::Guest(_) | Known::Removed | Known::Stranger => None,
            };
            shared.refused(peer, By::Us, &refusal, || {
                format!("refused a connection from {address}: {refusal}")
            });
            // The dialer learns of it by the connection's end if not by the reply.
            let _ = send(stream, &reply).await;
            None
        }
    }
}

/// Delivers what the peer sends, until the connection ends; gives why, where the reason is that
/// what came is no message.
async fn read(
    shared: &Shared,
    stream: &mut impl Duplex,
    session: &mut Incoming,
    met: Met,
) -> Option<(Refusal, bytes::Bytes)> {
    loop {
        let (mut messages, mut bytes) = (0, 0);
        let outcome = loop {
            match session.next_message() {
                Ok(Some((message, length))) => {
                    messages += 1;
                    bytes += length as u64;
                    shared.emit(TransportEvent::Received { from: met.member, message });
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        shared.delivered(met.member, messages, bytes);
        if let Err(error) = outcome {
            return Some(session.farewell(error));
        }
        if stream.read_buf(session.buffer()).await.ok()? == 0 {
            return None;
        }
    }
}

async fn send(stream: &mut impl Duplex, reply: &[u8]) -> std::io::Result<()> {
    stream.write_all(reply).await?;
    stream.flush().await
}

async fn say_farewell(stream: &mut impl Duplex, reply: &[u8]) -> std::io::Result<()> {
    send(stream, reply).await?;
    stream.shutdown().await?;
    let mut discarded = [0; 4096];
    while stream.read(&mut discarded).await? != 0 {}
    Ok(())
}
