//! How long a client waits, by gRPC's header `Grpc-Timeout`.

use std::pin::Pin;
use std::time::Duration;

use http::HeaderMap;
use tokio::time::{Instant, Sleep};
use tonic::Status;

use super::too_late;

/// The moment from which the client no longer waits, if it said so.
pub(super) type Deadline = Option<Pin<Box<Sleep>>>;

/// The deadline that a request names.
///
/// # Errors
/// It is none.
pub(super) fn of(headers: &HeaderMap) -> Result<Deadline, Status> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    let duration = parse(&text)
        .ok_or_else(|| Status::invalid_argument(format!("invalid grpc-timeout: {text}")))?;
    Ok(Some(Box::pin(tokio::time::sleep(duration))))
}

/// Digits and a unit.
fn parse(text: &str) -> Option<Duration> {
    let digits = text.strip_suffix(['H', 'M', 'S', 'm', 'u', 'n'])?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    let seconds = |each: u64| Duration::from_secs(count.saturating_mul(each));
    Some(match text.as_bytes().last()? {
        b'H' => seconds(3600),
        b'M' => seconds(60),
        b'S' => seconds(1),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        _ => Duration::from_nanos(count),
    })
}

/// What `work` comes to, unless the deadline comes first.
///
/// # Errors
/// Those of `work`, and [`too_late`].
pub(super) async fn within<T>(
    deadline: Deadline,
    work: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let Some(deadline) = deadline else { return work.await };
    // Timers are as coarse as a millisecond.
    if deadline.deadline() <= Instant::now() {
        return Err(too_late());
    }
    tokio::select! {
        biased;
        () = deadline => Err(too_late()),
        done = work => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        assert_eq!(parse("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(parse("1M"), Some(Duration::from_secs(60)));
        assert_eq!(parse("15m"), Some(Duration::from_millis(15)));
        assert_eq!(parse("1n"), Some(Duration::from_nanos(1)));
        assert_eq!(parse("18446744073709551615H"), Some(Duration::from_secs(u64::MAX)));
        for wrong in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "99999999999999999999S"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
