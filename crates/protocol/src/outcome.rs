//! The one terminal fact of a request.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{Capability, ContentType, Failure, Headers, InstanceId, RequestId, TraceContext, codes, header};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Done; the body is the result.
    Completed,
    /// Given up; the body is the failure.
    Failed,
    /// Its deadline passed.
    Expired,
    /// Somebody cancelled it.
    Cancelled,
}

/// The one terminal fact of a request: its status, with the result or the failure as body.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The request.
    pub id: RequestId,
    /// How it ended.
    pub status: Status,
    /// What was asked for, where it is known.
    pub capability: Option<Capability>,
    /// The attempt that it ended with.
    pub attempt: u32,
    /// The worker it comes from; none where a client or the coordinator decided.
    pub instance: Option<InstanceId>,
    /// How the body is encoded. A failure is always JSON.
    pub content_type: ContentType,
    /// The result, or the failure.
    pub body: Vec<u8>,
    /// The object that holds the body instead.
    pub payload_ref: Option<String>,
    /// Trace context of the request.
    pub trace: TraceContext,
}

impl Status {
    /// As it stands in the header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads the header.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Completed, Self::Failed, Self::Expired, Self::Cancelled]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl Outcome {
    /// A completed one with an encoded result.
    pub fn completed(id: RequestId, content_type: ContentType, body: Vec<u8>) -> Self {
        Self::new(id, Status::Completed, content_type, body)
    }

    /// One that did not complete: failed, expired or cancelled.
    pub fn not_completed(id: RequestId, status: Status, failure: &Failure) -> Self {
        let body = serde_json::to_vec(failure).unwrap_or_else(|_| b"{}".to_vec());
        Self::new(id, status, ContentType::Json, body)
    }

    /// Expired: its deadline passed.
    pub fn expired(id: RequestId) -> Self {
        let failure = Failure::new(codes::DEADLINE_EXCEEDED, "the deadline passed before the request was done");
        Self::not_completed(id, Status::Expired, &failure)
    }

    fn new(id: RequestId, status: Status, content_type: ContentType, body: Vec<u8>) -> Self {
        Self {
            id,
            status,
            capability: None,
            attempt: 1,
            instance: None,
            content_type,
            body,
            payload_ref: None,
            trace: TraceContext::default(),
        }
    }

    /// Its headers. The caller's trace context stays out where it is too large: the outcome must be storable.
    pub fn headers(&self) -> Headers {
        let mut headers = self.own_headers();
        self.trace.write(&mut headers);
        if headers.leave_room() { headers } else { self.own_headers() }
    }

    fn own_headers(&self) -> Headers {
        let mut headers = Headers::new();
        headers.push(header::REQUEST_ID, self.id.as_str());
        headers.push(header::STATUS, self.status.as_str());
        headers.push(header::CONTENT_TYPE, self.content_type.as_str());
        headers.push(header::ATTEMPT, self.attempt.to_string());
        if let Some(capability) = &self.capability {
            headers.push(header::CAPABILITY, capability.as_str());
        }
        if let Some(instance) = &self.instance {
            headers.push(header::INSTANCE, instance.as_str());
        }
        if let Some(object) = &self.payload_ref {
            headers.push(header::PAYLOAD_REF, object.as_str());
        }
        headers
    }

    /// Reads a stored outcome of the request `id`, whoever wrote it. Without a readable status it counts as
    /// completed: an agent in another language may have published nothing but its result.
    pub fn read(id: RequestId, headers: &Headers, body: &[u8]) -> Self {
        let status = headers.get(header::STATUS).and_then(Status::parse).unwrap_or(Status::Completed);
        Self {
            capability: headers.get(header::CAPABILITY).and_then(|text| Capability::parse(text).ok()),
            attempt: headers.get(header::ATTEMPT).and_then(|text| text.parse().ok()).unwrap_or(1),
            instance: headers.get(header::INSTANCE).and_then(|text| InstanceId::parse(text).ok()),
            payload_ref: headers.get(header::PAYLOAD_REF).map(str::to_owned),
            trace: TraceContext::read(headers),
            ..Self::new(id, status, ContentType::read(headers.get(header::CONTENT_TYPE)), body.to_vec())
        }
    }

    /// The failure of one that did not complete.
    pub fn failure(&self) -> Option<Failure> {
        if self.status == Status::Completed {
            return None;
        }
        let unread = || Failure::new(codes::HANDLER_FAILED, String::from_utf8_lossy(&self.body));
        Some(serde_json::from_slice(&self.body).unwrap_or_else(|_| unread()))
    }

    /// The result of one that completed, read as its content type says.
    ///
    /// # Errors
    /// The failure of one that did not complete; what decoding says where the result is of another type.
    pub fn result<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        match self.failure() {
            Some(failure) => Err(failure),
            None => self.content_type.decode(&self.body),
        }
    }

    /// As one JSON document for people and programs: the result under `result`, or the failure under `failure`.
    pub fn document(&self) -> Value {
        let body = self.content_type.show(&self.body);
        let key = if self.status == Status::Completed { "result" } else { "failure" };
        json!({
            "id": self.id,
            "status": self.status,
            "capability": self.capability,
            "attempt": self.attempt,
            "instance": self.instance,
            key: body,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_survives_its_headers() {
        let id = RequestId::parse("a").unwrap();
        let failure = Failure::new(codes::TIMEOUT, "too slow");
        let mut outcome = Outcome::not_completed(id.clone(), Status::Failed, &failure);
        outcome.attempt = 3;
        outcome.instance = Some(InstanceId::generate());
        outcome.capability = Some(Capability::parse("echo").unwrap());
        let read = Outcome::read(id, &outcome.headers(), &outcome.body);
        assert_eq!(read, outcome);
        assert_eq!(read.failure(), Some(failure));
    }

    #[test]
    fn a_bare_result_counts_as_completed() {
        let outcome = Outcome::read(RequestId::parse("a").unwrap(), &Headers::new(), b"{\"n\":1}");
        assert_eq!((outcome.status, outcome.document()["result"]["n"].as_i64()), (Status::Completed, Some(1)));
        assert_eq!(outcome.result::<Value>(), Ok(json!({ "n": 1 })));
        assert_eq!(outcome.result::<u32>().unwrap_err().code, codes::INVALID_INPUT);
    }

    #[test]
    fn the_result_of_a_failed_one_is_its_failure() {
        let failure = Failure::new(codes::TIMEOUT, "too slow");
        let outcome = Outcome::not_completed(RequestId::parse("a").unwrap(), Status::Failed, &failure);
        assert_eq!(outcome.result::<Value>(), Err(failure));
    }
}
