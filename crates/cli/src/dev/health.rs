//! Asks a member over HTTP whether it serves.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long one answer may take: a member without a leader answers only after its own timeout.
const ANSWER: Duration = Duration::from_secs(2);
/// The most bytes of an answer that are read.
const ANSWER_BYTES_MAX: u64 = 4096;

/// `GET /health`.
///
/// # Errors
///
/// The member's own reason, or why it does not answer.
pub(crate) async fn check(endpoint: &str) -> Result<(), String> {
    match tokio::time::timeout(ANSWER, ask(endpoint)).await {
        Ok(Ok(answer)) => judge(&answer),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {ANSWER:?}")),
    }
}

async fn ask(endpoint: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(endpoint).await?;
    let request = format!("GET /health HTTP/1.1\r\nHost: {endpoint}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The body is `{"health":"true","reason":""}`.
fn judge(answer: &str) -> Result<(), String> {
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let object = body.find('{').zip(body.rfind('}')).and_then(|(from, to)| body.get(from..=to));
    let body: serde_json::Value =
        object.and_then(|object| serde_json::from_str(object).ok()).unwrap_or_default();
    match (body["health"].as_str(), body["reason"].as_str()) {
        (Some("true"), _) => Ok(()),
        (_, Some(reason)) if !reason.is_empty() => Err(reason.to_owned()),
        _ => Err("it answers, but not as a member does".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn answers_are_told_apart() {
        let answer = |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{body}");
        assert_eq!(judge(&answer(r#"{"health":"true","reason":""}"#)), Ok(()));
        assert_eq!(
            judge(&answer(r#"{"health":"false","reason":"RAFT NO LEADER"}"#)),
            Err("RAFT NO LEADER".to_owned())
        );
        assert!(judge(&answer("")).is_err());
        assert!(judge("SSH-2.0").is_err());
    }
}
