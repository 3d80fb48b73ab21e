//! Limits of connections: that there are any, and that they do something.

use std::time::Duration;

use jangada_server::Settings;

use crate::raw::{
    ACK, CONTINUATION, END_HEADERS, FRAME_BYTES_MAX, GOAWAY, HEADERS, PING, RST_STREAM, Raw,
    SETTINGS, frame, head, message,
};
use crate::support::Server;
use crate::watch_support::{Watching, on};

/// `SETTINGS_MAX_CONCURRENT_STREAMS`.
const MAX_CONCURRENT_STREAMS: u16 = 3;

/// `REFUSED_STREAM`.
const REFUSED_STREAM: u32 = 7;

const WATCH: &str = "/etcdserverpb.Watch/Watch";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";

#[tokio::test]
async fn a_connection_has_no_more_streams_than_the_settings_allow() {
    let settings = Settings { max_concurrent_streams: 2, ..Settings::default() };
    let server = Server::with(settings).await;
    let mut raw = Raw::open(&server.address.to_string()).await;
    let told = raw.until(|frame| frame.kind == SETTINGS && frame.flags == 0).await;
    let payload = told.expect("the server says what it allows").payload;
    let streams =
        payload.chunks(6).find(|setting| setting[..2] == MAX_CONCURRENT_STREAMS.to_be_bytes());
    assert_eq!(streams.expect("it says how many")[2..], 2_u32.to_be_bytes());
    for stream in [1, 3, 5] {
        raw.send(&frame(HEADERS, END_HEADERS, stream, &head(WATCH, &[]))).await;
    }
    let refused = raw.until(|frame| frame.kind == RST_STREAM).await.expect("it goes on");
    assert_eq!((refused.stream, &refused.payload[..]), (5, &REFUSED_STREAM.to_be_bytes()[..]));
    // Others have streams of their own.
    Watching::open(&server).await.create(on("a")).await;
}

#[tokio::test]
async fn headers_beyond_the_limit_are_not_gathered() {
    let server = Server::start().await;
    let mut raw = Raw::open(&server.address.to_string()).await;
    let token = vec![b'x'; 30 << 10];
    let fits = head(STATUS, &[("token", &token)]);
    let (first, rest) = fits.split_at(FRAME_BYTES_MAX);
    let mut call = frame(HEADERS, 0, 1, first);
    let parts: Vec<&[u8]> = rest.chunks(FRAME_BYTES_MAX).collect();
    for (at, part) in parts.iter().enumerate() {
        let flags = if at + 1 == parts.len() { END_HEADERS } else { 0 };
        call.extend(frame(CONTINUATION, flags, 1, part));
    }
    call.extend(frame(crate::raw::DATA, crate::raw::END_STREAM, 1, &message(0, &[])));
    raw.send(&call).await;
    let answered = raw.until(|frame| frame.kind == HEADERS && frame.stream == 1).await;
    assert!(answered.is_some(), "a long token is let through");

    // One that never ends: the server closes the stream or the connection, however much is sent.
    let endless = vec![b'x'; FRAME_BYTES_MAX];
    raw.send(&frame(HEADERS, 0, 3, &head(STATUS, &[]))).await;
    let mut sent = 0;
    while raw.send(&frame(CONTINUATION, 0, 3, &endless)).await && sent < 64 << 20 {
        sent += endless.len();
    }
    assert!(sent < 64 << 20, "the server takes {sent} bytes of headers");
    server
        .kv()
        .await
        .put(jangada_server::proto::etcdserverpb::PutRequest {
            key: "a".into(),
            ..Default::default()
        })
        .await
        .expect("others are served on");
}

#[tokio::test]
async fn a_client_that_does_not_answer_pings_is_given_up() {
    let settings = Settings {
        keepalive_interval: Duration::from_millis(20),
        keepalive_timeout: Duration::from_millis(20),
        ..Settings::default()
    };
    let server = Server::with(settings).await;
    let mut raw = Raw::open(&server.address.to_string()).await;
    let ping = raw.until(|frame| frame.kind == PING).await;
    assert!(ping.is_some(), "a silent client is pinged");
    let ended = raw.until(|frame| frame.kind == GOAWAY).await;
    assert!(ended.is_none_or(|frame| frame.kind == GOAWAY));
    assert!(raw.until(|_| false).await.is_none(), "the connection is closed");
    // One that answers stays; it may take its time, for the machine may be busy.
    let keepalive_timeout = Duration::from_secs(60);
    let keepalive_interval = Duration::from_millis(20);
    let server =
        Server::with(Settings { keepalive_interval, keepalive_timeout, ..Settings::default() })
            .await;
    let mut raw = Raw::open(&server.address.to_string()).await;
    for _ in 0..10 {
        let ping = raw.until(|frame| frame.kind == PING && frame.flags == 0).await;
        let ping = ping.expect("the connection stands");
        raw.send(&frame(PING, ACK, 0, &ping.payload)).await;
    }
}
