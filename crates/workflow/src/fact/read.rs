//! From a message of the log to a fact. Whatever cannot be read becomes a fact that changes nothing.

use chrono::{DateTime, Utc};
use protocol::{
    ContentType, Failure, Headers, Outcome, RequestId, RunFact, Status, codes, header, limits, run::step_outcome_of,
};
use serde_json::Value;

use super::{Event, Fact, Started, StepOutcome};
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

fn event(tail: &str, headers: &Headers, body: &[u8]) -> Result<Event, String> {
    let unreadable = headers.unreadable().map(|why| format!("its headers cannot be read: {why}"));
    if let Some((step, item)) = step_outcome_of(tail) {
        if let Some(why) = unreadable {
            // It has the place where no other outcome of this request can be stored any more.
            let failure = Failure::new(codes::INVALID_HEADER, format!("an outcome was stored, but {why}")).give_up();
            let outcome = StepOutcome {
                status: Status::Failed,
                output: Payload::default(),
                failure: Some(failure),
                attempt: 1,
                instance: None,
            };
            return Ok(Event::StepEnded { step, item, outcome: Box::new(outcome) });
        }
        return Ok(Event::StepEnded { step, item, outcome: Box::new(outcome(headers, body)) });
    }
    if let Some(why) = unreadable {
        return Err(why);
    }
    let Some(fact) = RunFact::parse(tail) else { return Err("a run's log has no such fact".to_owned()) };
    Ok(match fact {
        RunFact::Started => Event::Started(Box::new(started(body)?)),
        RunFact::Timer(timer) => Event::TimerSet(timer),
        RunFact::TimerFired(timer) => Event::TimerFired(timer),
        RunFact::Signal(name) => {
            let value = payload(headers, body).map_err(|failure| failure.message)?;
            Event::Signalled { name, value }
        }
        RunFact::Cancel => Event::CancelRequested { reason: reason(body) },
        RunFact::Pause => Event::PauseRequested,
        RunFact::Resume => Event::ResumeRequested,
        RunFact::Unreadable(sequence) => {
            let what = limits::truncate(&String::from_utf8_lossy(body), limits::FAILURE_MESSAGE_BYTES_MAX);
            return Err(format!("message {sequence} has headers that cannot be read: {what}"));
        }
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

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
