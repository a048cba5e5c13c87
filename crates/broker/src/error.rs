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
    /// The store is full (10023, 10047).
    StoreFull,
    /// Something with this name exists and is different (10148, 10013, 10058).
    Exists,
    /// It is larger than what the broker takes.
    TooLarge,
    /// The request itself is wrong.
    Invalid,
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
    message: String,
}

impl Error {
    /// One of this kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
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
            | Kind::Invalid => Disposition::Reject,
            Kind::Unreachable | Kind::Forbidden => Disposition::Fatal,
        }
    }

    /// The error that a JetStream API answer holds.
    pub(crate) fn of_api(code: u64, error_code: u64, description: &str) -> Self {
        let kind = match error_code {
            10071 => Kind::WrongSequence,
            10164 | 10158 => Kind::Contended,
            10077 => Kind::SubjectFull,
            10023 | 10047 | 10028 => Kind::StoreFull,
            10148 | 10013 | 10058 => Kind::Exists,
            10054 | 10097 => Kind::TooLarge,
            10014 | 10059 | 10037 => Kind::NotFound,
            10039 | 10076 => Kind::NoResponders,
            _ if code == 404 => Kind::NotFound,
            _ => Kind::Api(error_code),
        };
        Self::new(kind, format!("{description} ({error_code})"))
    }

    /// The same with what was being done in front.
    #[must_use]
    pub fn during(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
