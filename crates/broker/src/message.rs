//! Messages as plain data, in and out.

use std::time::Duration;

use async_nats::{HeaderMap, HeaderName, StatusCode};
use bytes::Bytes;
use protocol::{Headers, header};

/// A message as it came in.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its subject.
    pub subject: String,
    /// Where an answer goes.
    pub reply: Option<String>,
    /// Its headers.
    pub headers: Headers,
    /// Its body.
    pub body: Bytes,
    /// A status instead of a message, as the server sends them: 404, 408, 409, 503 …
    pub status: Option<(u16, String)>,
}

/// A message to be published.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Its subject.
    pub subject: String,
    /// Its headers.
    pub headers: Headers,
    /// Its body.
    pub body: Bytes,
}

impl Outgoing {
    /// One without headers.
    pub fn new(subject: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { subject: subject.into(), headers: Headers::new(), body: body.into() }
    }

    /// With these headers.
    #[must_use]
    pub fn with_headers(mut self, headers: Headers) -> Self {
        self.headers = headers;
        self
    }

    /// Stored only if this is the last sequence on its subject; 0 means that there is none.
    #[must_use]
    pub fn expecting(mut self, sequence: u64) -> Self {
        self.headers.set(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, sequence.to_string());
        self
    }

    /// Stored only if there is no message on any subject that this filter matches. On a replicated stream what is on its way at
    /// that moment is not seen: the leader compares with what it has stored.
    #[must_use]
    pub fn expecting_none(mut self, filter: &str) -> Self {
        self.headers.set(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE_SUBJECT, filter);
        self.expecting(0)
    }

    /// Stored once per id within the stream's duplicate window.
    #[must_use]
    pub fn with_message_id(mut self, id: impl AsRef<str>) -> Self {
        self.headers.set(header::NATS_MSG_ID, id);
        self
    }

    /// Kept this long. The broker counts whole seconds and refuses less than one: it is rounded up.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        self.headers.set(header::NATS_TTL, format!("{}s", seconds.max(1)));
        self
    }
}

impl Message {
    pub(crate) fn of(message: async_nats::Message) -> Self {
        let status = message.status.filter(|status| *status != StatusCode::OK);
        Self {
            subject: message.subject.to_string(),
            reply: message.reply.map(|reply| reply.to_string()),
            headers: message.headers.as_ref().map(headers_of).unwrap_or_default(),
            body: message.payload,
            status: status.map(|status| (status.as_u16(), message.description.unwrap_or_default())),
        }
    }
}

pub(crate) fn headers_of(map: &HeaderMap) -> Headers {
    map.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value.as_str()))).collect()
}

pub(crate) fn map_of(headers: &Headers) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter() {
        // Names of ours need no memory of their own.
        match header::well_known(name) {
            Some(name) => map.append(HeaderName::from_static(name), value),
            None => map.append(name, value),
        }
    }
    map
}
