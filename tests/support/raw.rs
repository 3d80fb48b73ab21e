//! HTTP/2 frame by frame, to say what no library says.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a client says first (RFC 9113, section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// The largest frame that may be sent to one who has not said otherwise.
pub(crate) const FRAME_BYTES_MAX: usize = 16 << 10;

/// How long anything may take before the test is given up.
const HANG: Duration = Duration::from_secs(60);

/// A frame.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame is small").to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header as it is: neither indexed nor compressed (RFC 7541, section 6.2.2).
fn header(block: &mut Vec<u8>, name: &str, value: &[u8]) {
    block.push(0);
    for text in [name.as_bytes(), value] {
        // A number of seven bits, and what is above it.
        if text.len() < 127 {
            block.push(text.len() as u8);
        } else {
            block.push(127);
            let mut rest = text.len() - 127;
            while 128 <= rest {
                block.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            block.push(rest as u8);
        }
        block.extend(text);
    }
}

/// The head of a gRPC call, with more headers.
pub(crate) fn head(path: &str, more: &[(&str, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    let usual = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    for (name, value) in usual {
        header(&mut block, name, value.as_bytes());
    }
    for (name, value) in more {
        header(&mut block, name, value);
    }
    block
}

/// A message of gRPC that claims to be so long.
pub(crate) fn message(claimed: u32, bytes: &[u8]) -> Vec<u8> {
    let mut message = vec![0];
    message.extend(claimed.to_be_bytes());
    message.extend(bytes);
    message
}

/// A connection.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
}

impl Raw {
    /// Connects and says nothing yet. `address` is `host:port`.
    pub(crate) async fn connect(address: &str) -> Raw {
        Raw { stream: TcpStream::connect(address).await.expect("the server accepts") }
    }

    /// Connects and says that HTTP/2 is spoken, as every client does.
    pub(crate) async fn open(address: &str) -> Raw {
        let mut raw = Raw::connect(address).await;
        let begin = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(SETTINGS, ACK, 0, &[])].concat();
        assert!(raw.send(&begin).await, "a server that has just accepted listens");
        raw
    }

    /// Sends; answers whether the server still takes it.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        let sent = tokio::time::timeout(HANG, self.stream.write_all(bytes)).await;
        sent.expect("the server reads or closes").is_ok()
    }

    /// A call with its one message, whole.
    pub(crate) async fn call(&mut self, stream: u32, path: &str, message: &[u8]) -> bool {
        let head = frame(HEADERS, END_HEADERS, stream, &head(path, &[]));
        let data = frame(DATA, END_STREAM, stream, message);
        self.send(&[head, data].concat()).await
    }

    /// The next frame; `None` when the server has closed the connection.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let read = async {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            self.stream.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            Some(Frame { kind: head[3], flags: head[4], stream, payload })
        };
        tokio::time::timeout(HANG, read).await.expect("the server says something or closes")
    }

    /// Reads on until a frame is found, or the server has closed the connection.
    pub(crate) async fn until(&mut self, found: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if found(&frame) {
                return Some(frame);
            }
        }
    }
}
