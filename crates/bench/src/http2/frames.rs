//! Frames of HTTP/2 (RFC 9113, sections 4 and 6), as far as a client that makes gRPC calls needs them.

/// What a client says first (section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's header.
pub(super) const HEADER_BYTES: usize = 9;
/// The longest payload that anybody sends unless the other side allows more; this one does not.
pub(super) const PAYLOAD_MAX: usize = 16_384;
/// The largest flow-control window (section 6.9.1), in bytes.
pub(super) const WINDOW_MAX: u32 = (1 << 31) - 1;
/// The window of a connection, and of a stream unless the settings say otherwise, in bytes.
pub(super) const WINDOW_DEFAULT: i64 = 65_535;
/// The highest number of a stream.
pub(super) const STREAM_MAX: u32 = (1 << 31) - 1;

/// The kinds of frame.
pub(super) mod kind {
    pub(in super::super) const DATA: u8 = 0;
    pub(in super::super) const HEADERS: u8 = 1;
    pub(in super::super) const RST_STREAM: u8 = 3;
    pub(in super::super) const SETTINGS: u8 = 4;
    pub(in super::super) const PING: u8 = 6;
    pub(in super::super) const GOAWAY: u8 = 7;
    pub(in super::super) const WINDOW_UPDATE: u8 = 8;
    pub(in super::super) const CONTINUATION: u8 = 9;
}

/// The flags of frames.
pub(super) mod flag {
    pub(in super::super) const ACK: u8 = 0x1;
    pub(in super::super) const END_STREAM: u8 = 0x1;
    pub(in super::super) const END_HEADERS: u8 = 0x4;
    pub(in super::super) const PADDED: u8 = 0x8;
    pub(in super::super) const PRIORITY: u8 = 0x20;
}

/// The settings that matter here (section 6.5.2).
pub(super) mod setting {
    pub(in super::super) const HEADER_TABLE_SIZE: u16 = 1;
    pub(in super::super) const ENABLE_PUSH: u16 = 2;
    pub(in super::super) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(in super::super) const INITIAL_WINDOW_SIZE: u16 = 4;
}

/// A frame's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    /// The header that begins here, if all of it is there.
    pub(super) fn read(bytes: &[u8]) -> Option<Head> {
        let [a, b, c, kind, flags, s, t, u, v] = *bytes.first_chunk::<HEADER_BYTES>()?;
        Some(Head {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([s, t, u, v]) & STREAM_MAX,
        })
    }

    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The payload without its padding and without a priority (sections 6.1 and 6.2).
    pub(super) fn content(self, payload: &[u8]) -> Option<&[u8]> {
        let mut content = payload;
        let mut padding = 0;
        if self.has(flag::PADDED) {
            let (length, rest) = content.split_first()?;
            (padding, content) = (usize::from(*length), rest);
        }
        if self.kind == kind::HEADERS && self.has(flag::PRIORITY) {
            content = content.get(5..)?;
        }
        content.get(..content.len().checked_sub(padding)?)
    }
}

/// Appends a frame.
pub(super) fn write(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    write_head(out, kind, flags, stream, payload.len());
    out.extend_from_slice(payload);
}

/// Appends a frame's header; its payload follows.
pub(super) fn write_head(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, length: usize) {
    assert!(length <= PAYLOAD_MAX, "a frame is no longer than every peer takes");
    out.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

/// Appends a SETTINGS frame.
pub(super) fn write_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    write_head(out, kind::SETTINGS, 0, 0, settings.len() * 6);
    for (setting, value) in settings {
        out.extend_from_slice(&setting.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// The settings that a SETTINGS frame names.
pub(super) fn settings(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> + '_ {
    let (settings, _) = payload.as_chunks::<6>();
    settings.iter().map(|[a, b, s, t, u, v]| {
        (u16::from_be_bytes([*a, *b]), u32::from_be_bytes([*s, *t, *u, *v]))
    })
}

/// The first four bytes of a payload as a number.
pub(super) fn number(payload: &[u8]) -> Option<u32> {
    payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        write(&mut out, kind::DATA, flag::END_STREAM, 7, b"abc");
        let head = Head::read(&out).expect("all of it is there");
        assert_eq!(head, Head { length: 3, kind: kind::DATA, flags: 1, stream: 7 });
        assert_eq!(head.content(&out[HEADER_BYTES..]), Some(&b"abc"[..]));
        assert_eq!(Head::read(&out[..HEADER_BYTES - 1]), None);
        out.clear();
        write_settings(&mut out, &[(3, 100), (4, 1 << 20)]);
        let read: Vec<_> = settings(&out[HEADER_BYTES..]).collect();
        assert_eq!(read, [(3, 100), (4, 1 << 20)]);
    }

    #[test]
    fn padding_and_priority_are_no_content() {
        let head = |kind, flags| Head { length: 0, kind, flags, stream: 1 };
        let padded = head(kind::DATA, flag::PADDED);
        assert_eq!(padded.content(b"\x02abc\0\0"), Some(&b"abc"[..]));
        assert_eq!(padded.content(b"\x09abc"), None, "more padding than there is");
        assert_eq!(padded.content(b""), None);
        let both = head(kind::HEADERS, flag::PADDED | flag::PRIORITY);
        assert_eq!(both.content(b"\x01\0\0\0\0\0ab\0"), Some(&b"ab"[..]));
    }
}
