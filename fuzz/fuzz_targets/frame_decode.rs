//! Whatever decodes as an entry encodes back to the same bytes; nothing panics.

#![no_main]

use bytes::Bytes;
use jangada_entry::{Frame, HEADER_BYTES, Kind, decode_configuration, encode_configuration};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes::copy_from_slice(data);
    while let Ok(frame) = Frame::decode(&mut bytes) {
        let header = frame.header();
        assert_eq!(header.encode()[..], frame.bytes()[..HEADER_BYTES]);
        if header.kind == Kind::Configuration {
            let _ = decode_configuration(frame.payload());
        }
    }
    if let Ok(configuration) = decode_configuration(data) {
        assert_eq!(encode_configuration(&configuration), data);
    }
});
