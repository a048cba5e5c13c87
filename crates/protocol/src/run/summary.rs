//! What is kept of a run that has ended: how it ended, and its log as it was.

use base64::{Engine, prelude::BASE64_STANDARD};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Failure, Headers, RequestId, RunId, Status, WorkflowName, time::Timestamp};

/// The data of the event that a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunSummary {
    /// The run.
    pub run: RunId,
    /// The workflow.
    pub workflow: WorkflowName,
    /// Its version.
    pub version: String,
    /// How it ended.
    pub status: Status,
    /// When it began, by the broker's clock.
    pub started_at: Timestamp,
    /// When the fact was stored that ended it.
    pub ended_at: Timestamp,
    /// The step's request that asked for it, if it was a sub-run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<RequestId>,
    /// The run that it did again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<RunId>,
    /// What failed, unless it completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Its log, in order.
    pub facts: Vec<LoggedFact>,
}

/// One message of a run's log, as it was stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoggedFact {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When it was stored.
    pub at: Timestamp,
    /// The end of its subject: `started`, `step.<step>.<n>.outcome` …
    pub name: String,
    /// Its headers in order, names and values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Its body, where that is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Its body, where that is no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

impl LoggedFact {
    /// One as it was stored.
    pub fn new(sequence: u64, at: Timestamp, name: impl Into<String>, headers: &Headers, body: &[u8]) -> Self {
        let text = std::str::from_utf8(body).ok();
        Self {
            sequence,
            at,
            name: name.into(),
            headers: headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            body: text.filter(|text| !text.is_empty()).map(str::to_owned),
            body_base64: text.is_none().then(|| BASE64_STANDARD.encode(body)),
        }
    }

    /// Its headers.
    pub fn headers(&self) -> Headers {
        self.headers.iter().cloned().collect()
    }

    /// Its body.
    pub fn bytes(&self) -> Vec<u8> {
        match (&self.body, &self.body_base64) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(text)) => BASE64_STANDARD.decode(text).unwrap_or_default(),
            (None, None) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_is_kept_byte_by_byte() {
        let mut headers = Headers::new();
        headers.push("Sortie-Status", "completed");
        for body in [&b""[..], b"{\"n\": 1}", b"\xff\x00\xfe"] {
            let fact = LoggedFact::new(7, Timestamp::default(), "step.a.0.outcome", &headers, body);
            let text = serde_json::to_string(&fact).unwrap();
            let read: LoggedFact = serde_json::from_str(&text).unwrap();
            assert_eq!((read.bytes().as_slice(), read.headers()), (body, headers.clone()), "{text}");
        }
    }
}
