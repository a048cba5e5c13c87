//! From a message of the log to a fact. Whatever cannot be read becomes a fact that changes nothing.

use chrono::{DateTime, Utc};
use protocol::{ContentType, Failure, Headers, Outcome, RequestId, Status, StepName, codes, header, limits};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{Event, Fact, Started, StepOutcome, TimerName};
use crate::Payload;

impl Fact {
    /// Reads a message of a run's log. `tail` is its subject behind the run's id: `started`, `step.scan.0.outcome`,
    /// `timer.run`, `timer.run.fired`, `signal.approve`, `cancel`, `pause`, `resume`.
    pub fn read(tail: &str, sequence: u64, at: DateTime<Utc>, headers: &Headers, body: &[u8]) -> Self {
        let event = event(tail, headers, body)
            .unwrap_or_else(|why| Event::Unreadable { name: limits::truncate(tail, limits::ID_BYTES_MAX), why });
        Self { sequence, at, event }
    }
}

impl TimerName {
    /// As one token of a subject.
    pub fn render(&self) -> String {
        match self {
            Self::Run => "run".to_owned(),
            Self::Step { step, item } => format!("{step}~{item}"),
        }
    }

    /// The inverse of [`TimerName::render`].
    pub fn parse(token: &str) -> Option<Self> {
        if token == "run" {
            return Some(Self::Run);
        }
        let (step, item) = token.split_once('~')?;
        Some(Self::Step { step: StepName::parse(step).ok()?, item: number(item)? })
    }
}

impl Serialize for TimerName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.render())
    }
}

fn event(tail: &str, headers: &Headers, body: &[u8]) -> Result<Event, String> {
    let tokens: Vec<&str> = tail.split('.').collect();
    let timer = |token: &str| TimerName::parse(token).ok_or_else(|| format!("`{token}` is the name of no timer"));
    let name = |token: &str| StepName::parse(token).map_err(|error| error.to_string());
    Ok(match tokens.as_slice() {
        ["started"] => Event::Started(Box::new(started(body)?)),
        ["step", step, item, "outcome"] => {
            let item = number(item).ok_or_else(|| format!("`{item}` is no number of an item"))?;
            Event::StepEnded { step: name(step)?, item, outcome: Box::new(outcome(headers, body)) }
        }
        ["timer", token] => Event::TimerSet(timer(token)?),
        ["timer", token, "fired"] => Event::TimerFired(timer(token)?),
        ["signal", token] => {
            Event::Signalled { name: name(token)?, value: payload(headers, body).map_err(|failure| failure.message)? }
        }
        ["cancel"] => Event::CancelRequested { reason: reason(body) },
        ["pause"] => Event::PauseRequested,
        ["resume"] => Event::ResumeRequested,
        _ => return Err("a run's log has no such fact".to_owned()),
    })
}

fn started(body: &[u8]) -> Result<Started, String> {
    serde_json::from_slice(body).map_err(|error| format!("it does not say how the run began: {error}"))
}

fn outcome(headers: &Headers, body: &[u8]) -> StepOutcome {
    // Which request it is of is in the subject; the id is only there to read the rest as any outcome is read.
    let read = Outcome::read(RequestId::of_sequence(0), headers, body);
    let (status, output, failure) = match read.status {
        Status::Completed => match payload(headers, body) {
            Ok(output) => (Status::Completed, output, None),
            Err(failure) => (Status::Failed, Payload::default(), Some(failure)),
        },
        status => (status, Payload::default(), read.failure()),
    };
    StepOutcome { status, output, failure, attempt: read.attempt, instance: read.instance }
}

/// What a message carries. Other encodings than ours would lose their type on the way to the next step, so they are refused;
/// text is a text.
fn payload(headers: &Headers, body: &[u8]) -> Result<Payload, Failure> {
    let content_type = ContentType::read(headers.get(header::CONTENT_TYPE));
    if let Some(reference) = headers.get(header::PAYLOAD_REF) {
        return Ok(Payload::Held {
            reference: limits::truncate(reference, limits::ID_BYTES_MAX),
            content_type: content_type.as_str().to_owned(),
        });
    }
    if matches!(&content_type, ContentType::Other(other) if other.starts_with("text/")) {
        return Ok(Payload::from(Value::String(String::from_utf8_lossy(body).into_owned())));
    }
    let value: Value = content_type.decode(body).map_err(|failure| {
        let code =
            if failure.code == codes::INVALID_INPUT { codes::INVALID_OUTPUT } else { codes::CONTENT_TYPE_UNSUPPORTED };
        Failure::new(code, format!("a run cannot read it: {}", failure.message))
    })?;
    Ok(Payload::from(value))
}

/// Text, a JSON text, or JSON with a `reason`: whatever is easy to publish by hand.
fn reason(body: &[u8]) -> String {
    let text = match serde_json::from_slice(body) {
        Ok(Value::String(text)) => text,
        Ok(Value::Object(object)) => match object.get("reason") {
            Some(Value::String(text)) => text.clone(),
            _ => String::new(),
        },
        _ => String::from_utf8_lossy(body).into_owned(),
    };
    limits::truncate(text.trim(), limits::FAILURE_MESSAGE_BYTES_MAX)
}

/// A number as we write it: one number has one spelling.
fn number(token: &str) -> Option<u64> {
    let number: u64 = token.parse().ok()?;
    (number.to_string() == token).then_some(number)
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
