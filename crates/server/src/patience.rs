//! How long a connection may take to say what it speaks.
//!
//! A client of HTTP/2 begins with 24 bytes that are always the same, one of HTTP/1.1 with the head of its
//! first request. Who connects and says neither, or a byte now and then, would hold a place for nothing.
//!
//! Responsible for the time up to there. How long the head of a request of HTTP/1.1 may take, and whether
//! a silent client of HTTP/2 is still there, is looked after by the protocols themselves.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// What a client of HTTP/2 says first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a client may take to say what it speaks: as long as for the head of a request of HTTP/1.1.
pub(crate) const PREFACE_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection that fails when its client has not said in time what it speaks.
pub(crate) struct Patient<S> {
    stream: S,
    /// Until it has.
    waiting: Option<Waiting>,
}

struct Waiting {
    deadline: Pin<Box<Sleep>>,
    /// How many bytes of the preface have come.
    received: usize,
}

impl<S> Patient<S> {
    /// Waits for so long.
    pub(crate) fn new(stream: S, patience: Duration) -> Patient<S> {
        let deadline = Box::pin(tokio::time::sleep(patience));
        Patient { stream, waiting: Some(Waiting { deadline, received: 0 }) }
    }
}

impl Waiting {
    /// Whether what has come makes clear what the client speaks.
    fn is_over(&mut self, read: &[u8]) -> bool {
        let rest = &PREFACE[self.received..];
        self.received += read.len().min(rest.len());
        rest.len() <= read.len() || !rest.starts_with(read)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let Some(waiting) = &mut self.waiting else { return read };
        match read {
            Poll::Pending if waiting.deadline.as_mut().poll(context).is_ready() => {
                let problem = "the client has not said in time what it speaks";
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, problem)))
            }
            Poll::Ready(Ok(())) if waiting.is_over(&buffer.filled()[before..]) => {
                self.waiting = None;
                read
            }
            read => read,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_says_nothing_or_too_little_is_given_up() {
        for said in [&b""[..], b"PRI", &PREFACE[..23]] {
            let (mut client, server) = duplex(64);
            client.write_all(said).await.expect("there is room");
            let mut server = Patient::new(server, PREFACE_TIMEOUT);
            let mut read = vec![0; said.len()];
            server.read_exact(&mut read).await.expect("it came");
            let error = server.read_u8().await.expect_err("nothing more comes");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_said_what_it_speaks_may_be_silent() {
        for said in [PREFACE, b"GET / HTTP/1.0\r\n\r\n", b"P"] {
            let (mut client, server) = duplex(64);
            let mut server = Patient::new(server, PREFACE_TIMEOUT);
            let reader = tokio::spawn(async move {
                let mut read = vec![0; said.len() + 2];
                server.read_exact(&mut read).await.map(|_| read)
            });
            for byte in said {
                client.write_u8(*byte).await.expect("there is room");
                tokio::task::yield_now().await;
            }
            // Not the preface any more, where it was a part of it.
            client.write_u8(b'x').await.expect("there is room");
            tokio::time::sleep(10 * PREFACE_TIMEOUT).await;
            client.write_u8(b'y').await.expect("there is room");
            let read = reader.await.expect("it does not panic").expect("it is read");
            assert_eq!(read, [said, b"xy"].concat());
        }
    }
}
