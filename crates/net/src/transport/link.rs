//! An outgoing connection: a socket, in plain text or secured.
//!
//! Offers what the transport uses of a socket, under the same names. What is secured and not taken by
//! the socket waits here, at most one buffer of it, and the link says so ([`Link::is_pending`]).

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice, Read, Write};

use tokio::io::{Interest, Ready};
use tokio::net::TcpStream;

use crate::security::Secured;

/// An outgoing connection.
pub(super) struct Link {
    stream: TcpStream,
    secured: Option<RefCell<Box<dyn Secured>>>,
}

/// The socket, for whoever reads or writes without waiting.
struct Raw<'a>(&'a TcpStream);

impl Link {
    /// Shakes hands, if the connection is to be secured.
    ///
    /// # Errors
    /// The connection broke, or ([`ErrorKind::InvalidData`]) one side does not believe the other.
    pub(super) async fn open(
        stream: TcpStream,
        secured: Option<Box<dyn Secured>>,
    ) -> io::Result<Link> {
        let Some(mut secured) = secured else { return Ok(Link { stream, secured: None }) };
        loop {
            while secured.wants_write() {
                match secured.write_secured(&mut Raw(&stream)) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        stream.writable().await?;
                    }
                    Err(error) => return Err(error),
                }
            }
            if !secured.is_handshaking() {
                return Ok(Link { stream, secured: Some(RefCell::new(secured)) });
            }
            stream.readable().await?;
            match secured.read_secured(&mut Raw(&stream)) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => {
                    // The other side is told why, if its socket takes it.
                    let _ = secured.write_secured(&mut Raw(&stream));
                    return Err(error);
                }
            }
        }
    }

    /// Whether bytes that were taken are not in the socket yet.
    pub(super) fn is_pending(&self) -> bool {
        self.secured.as_ref().is_some_and(|secured| secured.borrow().wants_write())
    }

    /// Writes what is pending, as far as the socket takes it.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn flush(&self) -> io::Result<()> {
        let Some(secured) = &self.secured else { return Ok(()) };
        let mut secured = secured.borrow_mut();
        while secured.wants_write() {
            match secured.write_secured(&mut Raw(&self.stream)) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(secured) = &self.secured else { return self.stream.try_write_vectored(slices) };
        self.flush()?;
        if self.is_pending() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = secured.borrow_mut().write(slices)?;
        self.flush()?;
        Ok(count)
    }

    pub(super) fn try_read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        let Some(secured) = &self.secured else { return self.stream.try_read(bytes) };
        let mut secured = secured.borrow_mut();
        loop {
            match secured.read(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                outcome => return outcome,
            }
            if secured.read_secured(&mut Raw(&self.stream))? == 0 {
                return Ok(0);
            }
        }
    }

    /// Waits until one of `interest` is possible.
    pub(super) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        if interest.is_readable()
            && let Some(secured) = &self.secured
            && 0 < secured.borrow_mut().readable()
        {
            return Ok(Ready::READABLE);
        }
        self.stream.ready(interest).await
    }
}

impl Read for Raw<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(bytes)
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
