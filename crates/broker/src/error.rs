//! One error for whatever the broker refuses or does not answer, by kinds that can be compared.

use std::fmt;

/// What kind of refusal it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// No connection could be made, or it is closed.
    Unreachable,
    /// No answer in time. Whatever was asked may have been done.
    TimedOut,
    /// Nobody listens there: the stream or consumer does not exist, or JetStream is off.
    NoResponders,
    /// The account or user may not do this.
    Forbidden,
    /// What was named does not exist.
    NotFound,
    /// The last sequence on the subject is another one: somebody was first (10071).
    WrongSequence,
    /// A replicated stream is still storing another publish to this subject; it may never be stored (10164, 10158).
    Contended,
    /// The subject holds all that it may (10077).
    SubjectFull,
    /// The store is full, or what the account or the stream may hold of it (10002, 10023, 10028, 10047, 10077).
    StoreFull,
    /// Something with this name exists and is different (10148, 10013, 10058).
    Exists,
    /// It is larger than what the broker takes.
    TooLarge,
    /// The request itself is wrong.
    Invalid,
    /// Whoever asked is no longer the one to do so; nothing was sent.
    Fenced,
    /// Another answer of the JetStream API.
    Api(u64),
}

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It may pass by itself.
    Retry,
    /// The same request will be refused again.
    Reject,
    /// Nothing will work until somebody changes something.
    Fatal,
}

/// A refusal of the broker, in one sentence that says what to do where that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    code: u64,
    message: String,
}

impl Error {
    /// One of this kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, code: 0, message: message.into() }
    }

    /// What the index of a stream has, and no read finds.
    pub(crate) fn unread(stream: &str, subject: &str) -> Self {
        let message = format!("{stream} has {subject}, and the server cannot read it; its log says why");
        Self::new(Kind::TimedOut, message)
    }

    /// The JetStream API's own code; 0 where the error is no answer of it.
    pub(crate) fn code(&self) -> u64 {
        self.code
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether trying again can help.
    pub fn disposition(&self) -> Disposition {
        match self.kind {
            Kind::TimedOut | Kind::NoResponders | Kind::Contended | Kind::StoreFull | Kind::Api(_) => {
                Disposition::Retry
            }
            Kind::NotFound
            | Kind::WrongSequence
            | Kind::SubjectFull
            | Kind::Exists
            | Kind::TooLarge
            | Kind::Invalid
            | Kind::Fenced => Disposition::Reject,
            Kind::Unreachable | Kind::Forbidden => Disposition::Fatal,
        }
    }

    /// The error that a JetStream API answer holds. What is not known to come again is taken for something that passes:
    /// a publish that is given up too early is lost, one that is tried too long is only late.
    pub(crate) fn of_api(code: u64, error_code: u64, description: &str) -> Self {
        let kind = match error_code {
            10071 => Kind::WrongSequence,
            10164 | 10158 => Kind::Contended,
            10077 => refused_by_store(description),
            10002 | 10023 | 10047 | 10028 => Kind::StoreFull,
            10148 | 10013 | 10058 => Kind::Exists,
            10054 | 10097 => Kind::TooLarge,
            10014 | 10059 | 10037 | 10043 => Kind::NotFound,
            10039 | 10076 => Kind::NoResponders,
            _ if INVALID.iter().any(|codes| codes.contains(&error_code)) => Kind::Invalid,
            _ if code == 404 => Kind::NotFound,
            _ => Kind::Api(error_code),
        };
        Self { code: error_code, ..Self::new(kind, format!("{description} ({error_code})")) }
    }

    /// The same with what was being done in front; a refusal of permission names that itself.
    #[must_use]
    pub fn during(mut self, what: &str) -> Self {
        if self.kind != Kind::Forbidden {
            self.message = format!("{what}: {}", self.message);
        }
        self
    }
}

/// What the server says of a message, or a request, that it will refuse until the message or the stream is another one.
const INVALID: [&[u64]; 9] = [
    // Malformed: bad request, invalid JSON.
    &[10003, 10025],
    // It expects another stream or another last message id, or does not say which sequence.
    &[10060, 10070, 10193],
    // A sealed stream; a roll-up that is not allowed or unknown.
    &[10109, 10111],
    // A TTL that is invalid or not allowed.
    &[10165, 10166],
    // Counters: not allowed, or an increment that is missing, invalid, or has a body.
    &[10168, 10169, 10170, 10171],
    // Atomic batches: not allowed, without a number, with a header that they cannot have, with an invalid id, too large,
    // with an invalid end, with a message twice.
    &[10174, 10175, 10177, 10179, 10199, 10200, 10201],
    // Schedules: not allowed, or with an invalid pattern, target, TTL, roll-up, source, scheduler, time zone.
    &[10188, 10189, 10190, 10191, 10192, 10203, 10212, 10223],
    // Batches: not allowed, or with an invalid pattern, an invalid id, an unknown id.
    &[10205, 10206, 10207, 10208],
    // A header that only the server may set.
    &[10227],
];

/// One code stands for whatever a stream's store says; only its words tell a subject that is full from a store that is
/// being closed, which passes.
fn refused_by_store(description: &str) -> Kind {
    match description {
        "maximum messages per subject exceeded" => Kind::SubjectFull,
        "maximum messages exceeded" | "maximum bytes exceeded" => Kind::StoreFull,
        "message too large" => Kind::TooLarge,
        _ => Kind::Api(10077),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_pass_by_itself_is_given_up() {
        let full = "maximum messages per subject exceeded";
        for (code, error_code, description, kind, disposition) in [
            (400, 10071, "wrong last sequence: 7", Kind::WrongSequence, Disposition::Reject),
            (400, 10164, "wrong last sequence", Kind::Contended, Disposition::Retry),
            (409, 10158, "duplicate message id is in process", Kind::Contended, Disposition::Retry),
            (503, 10077, full, Kind::SubjectFull, Disposition::Reject),
            (503, 10077, "maximum bytes exceeded", Kind::StoreFull, Disposition::Retry),
            (503, 10077, "message too large", Kind::TooLarge, Disposition::Reject),
            (503, 10077, "store is closed", Kind::Api(10077), Disposition::Retry),
            (400, 10002, "resource limits exceeded for account", Kind::StoreFull, Disposition::Retry),
            (503, 10023, "insufficient resources", Kind::StoreFull, Disposition::Retry),
            (400, 10054, "message size exceeds maximum allowed", Kind::TooLarge, Disposition::Reject),
            (400, 10097, "header size exceeds maximum allowed of 64k", Kind::TooLarge, Disposition::Reject),
            (400, 10003, "bad request", Kind::Invalid, Disposition::Reject),
            (400, 10060, "expected stream does not match", Kind::Invalid, Disposition::Reject),
            (400, 10109, "invalid operation on sealed stream", Kind::Invalid, Disposition::Reject),
            (500, 10111, "rollup not permitted", Kind::Invalid, Disposition::Reject),
            (400, 10165, "invalid per-message TTL", Kind::Invalid, Disposition::Reject),
            (400, 10166, "per-message TTL is disabled", Kind::Invalid, Disposition::Reject),
            (400, 10188, "message schedules is disabled", Kind::Invalid, Disposition::Reject),
            (400, 10189, "message schedules pattern is invalid", Kind::Invalid, Disposition::Reject),
            (400, 10223, "message schedules time zone is invalid", Kind::Invalid, Disposition::Reject),
            (400, 10227, "message source header is not allowed", Kind::Invalid, Disposition::Reject),
            (503, 10008, "JetStream system temporarily unavailable", Kind::Api(10008), Disposition::Retry),
            (500, 10009, "not leader", Kind::Api(10009), Disposition::Retry),
            (500, 10118, "stream is offline", Kind::Api(10118), Disposition::Retry),
            (503, 10163, "temporarily unavailable", Kind::Api(10163), Disposition::Retry),
            (429, 10167, "too many requests", Kind::Api(10167), Disposition::Retry),
            (429, 10210, "atomic publish too many inflight", Kind::Api(10210), Disposition::Retry),
            (400, 19999, "what a later server may say", Kind::Api(19999), Disposition::Retry),
        ] {
            let error = Error::of_api(code, error_code, description);
            assert_eq!((error.kind(), error.disposition()), (kind, disposition), "{error}");
        }
    }
}
