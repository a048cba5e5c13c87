//! What a service's answer means.

use std::{error::Error, time::Duration};

use protocol::{Failure, codes, limits, time::Timestamp};
use reqwest::{Response, StatusCode, header};
use serde_json::{Value, json};

use crate::{address::Refused, client::Astray, definition};

/// What a failure shows of a body.
const EXCERPT_BYTES_MAX: usize = 2 * 1024;

/// The longest wait that a service may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The result in an answer.
pub(crate) async fn read(response: Response, wanted: definition::Response, bytes_max: usize) -> Result<Value, Failure> {
    let status = response.status();
    if !status.is_success() {
        let after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let after = after.and_then(|text| retry_after(text, protocol::time::now()));
        // How it ends matters less than what it begins with.
        let body = body(response, EXCERPT_BYTES_MAX).await.unwrap_or_else(|cut| cut.read);
        return Err(refusal(status, after, &body));
    }
    let body = match body(response, bytes_max).await {
        Ok(body) => body,
        Err(Cut { failure, .. }) => return Err(failure),
    };
    match wanted {
        definition::Response::Text => Ok(Value::String(String::from_utf8_lossy(&body).into_owned())),
        definition::Response::Json if body.is_empty() => Ok(Value::Null),
        definition::Response::Json => serde_json::from_slice(&body).map_err(|error| {
            Failure::new(codes::HTTP_BODY_INVALID, format!("the answer is not JSON: {error}"))
                .details(json!({ "status": status.as_u16(), "body": excerpt(&body) }))
        }),
    }
}

/// A body that was not read to its end.
struct Cut {
    read: Vec<u8>,
    failure: Failure,
}

async fn body(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, Cut> {
    let mut read = Vec::new();
    loop {
        match response.chunk().await {
            Ok(None) => return Ok(read),
            Ok(Some(chunk)) => {
                let room = bytes_max - read.len();
                read.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() > room {
                    let message = format!("the answer has more than {bytes_max} bytes");
                    return Err(Cut { read, failure: Failure::new(codes::RESULT_TOO_LARGE, message) });
                }
            }
            Err(error) => return Err(Cut { read, failure: unreachable(error) }),
        }
    }
}

/// The failure of a status that is no success.
fn refusal(status: StatusCode, after: Option<Duration>, body: &[u8]) -> Failure {
    let failure = Failure::new(codes::HTTP_STATUS, format!("the service answered {status}"))
        .details(json!({ "status": status.as_u16(), "body": excerpt(body) }));
    let is_passing = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
    match after {
        Some(after) if is_passing => failure.retry_after(after),
        None if is_passing => failure.retry(),
        _ => failure.give_up(),
    }
}

/// Seconds, or a moment as HTTP writes it.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let after = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let moment = chrono::DateTime::parse_from_rfc2822(text).ok()?;
            (moment.to_utc() - now).to_std().unwrap_or_default()
        }
    };
    Some(after.min(RETRY_AFTER_MAX))
}

/// The failure of a call that had no answer.
pub(crate) fn unreachable(error: reqwest::Error) -> Failure {
    // URLs may have secrets in their query.
    let error = error.without_url();
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    let mut causes = Vec::new();
    while let Some(current) = cause {
        if let Some(refused) = current.downcast_ref::<Refused>() {
            return Failure::new(codes::ADDRESS_REFUSED, refused.to_string());
        }
        if let Some(astray) = current.downcast_ref::<Astray>() {
            return Failure::new(codes::ADDRESS_REFUSED, astray.to_string());
        }
        causes.push(limits::truncate(&current.to_string(), limits::ATTEMPT_MESSAGE_BYTES_MAX));
        cause = current.source();
    }
    let last = causes.last().cloned().unwrap_or_default();
    let mut failure = Failure::new(codes::HTTP_UNREACHABLE, format!("the service cannot be called: {last}"));
    failure.causes = causes;
    failure
}

fn excerpt(body: &[u8]) -> String {
    limits::truncate(&String::from_utf8_lossy(body), EXCERPT_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_status_means() {
        let second = Duration::from_secs(1);
        for (status, after, retryable, waits) in [
            (429, None, true, None),
            (429, Some(second), true, Some(second)),
            (500, None, true, None),
            (503, Some(second), true, Some(second)),
            (400, Some(second), false, None),
            (404, None, false, None),
            (408, None, false, None),
            (304, None, false, None),
        ] {
            let failure = refusal(StatusCode::from_u16(status).unwrap(), after, b"no");
            assert_eq!((failure.retryable, failure.retry_after), (retryable, waits), "{status}");
            assert_eq!(failure.details.unwrap(), json!({"status": status, "body": "no"}));
        }
    }

    #[test]
    fn how_long_a_service_may_ask_for() {
        let now = protocol::time::parse("2030-01-01T00:00:00Z").unwrap();
        for (text, expected) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("99999999", Some(86_400)),
            ("Tue, 01 Jan 2030 00:00:30 GMT", Some(30)),
            ("Mon, 31 Dec 2029 23:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(retry_after(text, now).map(|after| after.as_secs()), expected, "{text}");
        }
    }
}
