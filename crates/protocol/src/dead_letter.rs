//! A request that was given up, with the whole story of why. The body of the stored message is the request's own body,
//! and its foreign headers stand beside ours, so that a dead letter can be sent again as it was.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Backoff, Capability, ContentType, Failure, Headers, InstanceId, Lane, Request, RequestId, RunId, StepName, Subject,
    TraceContext, WorkflowName, duration, header, limits, retry,
    time::{self, Timestamp},
};

/// The header that holds the story as JSON.
pub const STORY: &str = "Sortie-Dead-Letter";

/// Headers of ours that a letter keeps, because the request is sent again with them or is known by them.
const KEPT: [&str; 9] = [
    header::PAYLOAD_REF,
    header::PARENT,
    header::TIMEOUT,
    header::BACKOFF,
    header::MAX_ATTEMPTS,
    header::REPLAY_OF,
    header::LANE,
    header::RETRY_OF,
    header::RETRY_FROM,
];

/// Why and how a request was given up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetter {
    /// The request.
    pub id: RequestId,
    /// What was asked for.
    pub capability: Capability,
    /// The lane it came by.
    #[serde(default)]
    pub lane: Lane,
    /// The last failure, with the attempts before it.
    pub failure: Failure,
    /// The attempt it was given up at.
    pub attempt: u32,
    /// The worker that gave it up; none where the coordinator did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// The version of that worker's kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Workers that died with the message in their hands, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub killed: Vec<InstanceId>,
    /// When the broker stored the request, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_at: Option<Timestamp>,
    /// When it was given up.
    pub dead_at: Timestamp,
}

impl DeadLetter {
    /// The headers of the stored message: the story, and what is needed to send the request again. Foreign headers stay
    /// out where they leave no room for the story.
    pub fn headers(&self, original: &Headers) -> Headers {
        let headers = self.headers_beside(original.foreign(), original);
        if headers.leave_room() { headers } else { self.headers_beside(Headers::new(), original) }
    }

    fn headers_beside(&self, mut headers: Headers, original: &Headers) -> Headers {
        for name in KEPT {
            // A header that was refused stays out: it is told in the failure, and could not be stored again.
            if let Some(value) = original.get(name).filter(|value| value.len() <= limits::ID_BYTES_MAX) {
                let mut alone = Headers::new();
                alone.set(name, value);
                if alone.check().is_ok() {
                    headers.set(name, value);
                }
            }
        }
        headers.set(header::REQUEST_ID, self.id.as_str());
        headers.set(header::CAPABILITY, self.capability.as_str());
        headers.set(STORY, self.story());
        headers
    }

    /// The headers of the request sent again under another id: its first attempt, with its own headers, its body's
    /// reference and its policy, without its deadline. `stored` are those of the letter.
    pub fn headers_again(&self, stored: &Headers, id: RequestId) -> Headers {
        let mut request = Request::new(id);
        request.replay_of = Some(self.id.clone());
        request.payload_ref = stored.get(header::PAYLOAD_REF).map(str::to_owned);
        request.parent = stored.get(header::PARENT).filter(|text| !text.is_empty()).map(str::to_owned);
        // What cannot be read was refused when the request was given up, and must not refuse it again.
        let is_timeout = |timeout: &Duration| !timeout.is_zero() && *timeout <= limits::TIMEOUT_MAX;
        request.timeout = stored.get(header::TIMEOUT).and_then(|text| duration::parse(text).ok()).filter(is_timeout);
        request.attempts_max = stored.get(header::MAX_ATTEMPTS).and_then(|text| retry::parse_attempts(text).ok());
        request.backoff = stored.get(header::BACKOFF).and_then(|text| text.parse::<Backoff>().ok());
        request.content_type = ContentType::read(stored.get(header::CONTENT_TYPE));
        request.trace = TraceContext::read(stored);
        let mut headers = stored.foreign();
        request.write(&mut headers);
        if let Subject::Start(_) = self.sent_again_to(stored) {
            let text = |name| stored.get(name);
            let right = [
                (header::LANE, text(header::LANE).filter(|text| Lane::named(text).is_some())),
                (header::RETRY_OF, text(header::RETRY_OF).filter(|text| RunId::parse(text).is_ok())),
                (header::RETRY_FROM, text(header::RETRY_FROM).filter(|text| StepName::parse(text).is_ok())),
            ];
            for (name, text) in right {
                if let Some(text) = text {
                    headers.set(name, text);
                }
            }
        }
        headers
    }

    /// Where the request is sent again: to what was asked for, in the lane it came by; the start of a run to its workflow.
    /// `stored` are the headers of the letter.
    pub fn sent_again_to(&self, stored: &Headers) -> Subject {
        match stored.get(header::WORKFLOW).and_then(|name| WorkflowName::parse(name).ok()) {
            Some(workflow) => Subject::Start(workflow),
            None => Subject::Request { lane: self.lane, capability: self.capability.clone() },
        }
    }

    /// Reads the story of a stored dead letter.
    pub fn read(headers: &Headers) -> Option<Self> {
        serde_json::from_str(headers.get(STORY)?).ok()
    }

    /// A one-line summary for people.
    pub fn summary(&self) -> String {
        format!(
            "{} {} gave up at attempt {}: {} ({})",
            self.capability,
            self.id,
            self.attempt,
            self.failure,
            time::format(self.dead_at)
        )
    }

    /// The story in at most 8 KiB as it is written, so that it always fits into the headers: what can be done without
    /// goes first. A control character is six bytes in JSON, so texts are cut until the whole fits.
    fn story(&self) -> String {
        const STORY_BYTES_MAX: usize = 8 * 1024;
        let text = |letter: &Self| serde_json::to_string(letter).unwrap_or_default();
        let whole = text(self);
        if whole.len() <= STORY_BYTES_MAX {
            return whole;
        }
        let mut letter = self.clone();
        letter.failure.details = None;
        letter.failure.causes.clear();
        letter.failure.code = limits::truncate(&letter.failure.code, 64);
        letter.version = letter.version.map(|version| limits::truncate(&version, 64));
        let mut bytes_max = limits::FAILURE_MESSAGE_BYTES_MAX;
        loop {
            let cut = text(&letter);
            if cut.len() <= STORY_BYTES_MAX || bytes_max == 0 {
                return cut;
            }
            bytes_max /= 2;
            letter.failure.message = limits::truncate(&letter.failure.message, bytes_max);
            let attempts = &mut letter.failure.attempts;
            if attempts.len() > 2 {
                attempts.drain(1..attempts.len() - 1);
            }
            for attempt in attempts {
                attempt.bound(bytes_max);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes;

    #[test]
    fn a_dead_letter_keeps_what_is_needed_to_send_it_again() {
        let letter = DeadLetter {
            id: RequestId::parse("a").unwrap(),
            capability: Capability::parse("echo").unwrap(),
            lane: Lane::Urgent,
            failure: Failure::new(codes::POISON, "killed three workers").details("x".repeat(20_000).into()),
            attempt: 1,
            instance: None,
            version: None,
            killed: vec![InstanceId::generate()],
            published_at: None,
            dead_at: time::parse("2030-01-01T00:00:00Z").unwrap(),
        };
        let mut original = Headers::new();
        original.set("X-Tenant", "blue");
        original.set("Nats-Schedule", "@at x");
        original.set(header::RETRY_OF, "order-\r16");
        let headers = letter.headers(&original);
        assert_eq!((headers.check(), headers.get(header::RETRY_OF)), (Ok(()), None));
        assert!(headers.size() < limits::HEADERS_BYTES_MAX);
        assert_eq!((headers.get("X-Tenant"), headers.get("Nats-Schedule")), (Some("blue"), None));
        let read = DeadLetter::read(&headers).unwrap();
        assert_eq!((read.id, read.killed, read.failure.code), (letter.id, letter.killed, letter.failure.code));
    }

    #[test]
    fn no_story_is_too_long_for_its_headers() {
        let long = "\u{1}".repeat(3_000);
        let mut failure = Failure::new("x", &long);
        failure.code.clone_from(&long);
        let record = failure.record(1, None, Some(&long), time::parse("2030-01-01T00:00:00Z").unwrap());
        failure.attempts = vec![record; 300];
        let letter = DeadLetter {
            id: RequestId::parse(&"a".repeat(200)).unwrap(),
            capability: Capability::parse("echo").unwrap(),
            lane: Lane::Normal,
            failure,
            attempt: 300,
            instance: Some(InstanceId::generate()),
            version: Some(long),
            killed: Vec::new(),
            published_at: None,
            dead_at: time::parse("2030-01-01T00:00:00Z").unwrap(),
        };
        let mut original = Headers::new();
        original.set("X-Tenant", "blue".repeat(3_000));
        let headers = letter.headers(&original);
        assert_eq!(headers.check(), Ok(()));
        assert_eq!(DeadLetter::read(&headers).unwrap().id, letter.id);
    }
}
