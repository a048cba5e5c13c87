//! Why something that was asked of the fleet did not happen, by kinds that can be compared.

use broker::Disposition;
use protocol::{NameError, RequestId};

/// What kind of refusal it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no outcome yet. The request lives on: wait again, or later, under the same id.
    Pending,
    /// Another request with this unique key is queued or running.
    KeyTaken {
        /// That request, where it was still there when it was looked for.
        holder: Option<RequestId>,
    },
    /// The request contradicts itself or breaks a limit; nothing was published.
    Invalid,
    /// A body or the headers are larger than what may travel.
    TooLarge,
    /// What was named does not exist.
    NotFound,
    /// It is there already, or somebody changed it meanwhile; nothing was changed.
    Conflict,
    /// The fleet's streams are not there.
    StreamsMissing,
    /// The body of an outcome is an object that is not there, or is not what its type says.
    Unreadable,
    /// It is stored, but could not be written into the file of what was accepted.
    NotNoted,
    /// The broker did not answer in time. Whatever was asked may have been done.
    TimedOut,
    /// The broker's store is full.
    StoreFull,
    /// No connection to the broker.
    Unreachable,
    /// The broker does not allow it to this user.
    Forbidden,
    /// Another answer of the broker.
    Broker,
}

/// A refusal, in a sentence that says what to do where that is known.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    request: Option<RequestId>,
    source: Option<broker::Error>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), request: None, source: None }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    pub(crate) fn streams_missing(stream: &str) -> Self {
        let message = format!(
            "stream {stream} is not there; make the streams with `sortie topology apply`, or start a whole fleet with `sortie up`"
        );
        Self::new(ErrorKind::StreamsMissing, message)
    }

    pub(crate) fn no_room_to_cancel(refusal: &broker::Error) -> Self {
        let message = format!(
            "it cannot be cancelled now: a cancel is stored, as the request's outcome, and the broker's store is full: {refusal}"
        );
        Self::new(ErrorKind::StoreFull, message)
    }

    pub(crate) fn pending(id: &RequestId) -> Self {
        Self::new(
            ErrorKind::Pending,
            format!("request {id} has no outcome yet; it goes on, and can be waited for again"),
        )
        .about(id)
    }

    /// The same with the request that it is about.
    #[must_use]
    pub(crate) fn about(mut self, id: &RequestId) -> Self {
        self.request = Some(id.clone());
        self
    }

    /// The same with what was being done in front; a refusal of permission names that itself, and leaves no doubt.
    #[must_use]
    pub(crate) fn during(mut self, what: &str) -> Self {
        if self.kind != ErrorKind::Forbidden {
            self.message = format!("{what}: {}", self.message);
        }
        self
    }

    /// Its kind.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// The request that it is about, if it has an id. After a time-out, submitting again under this id is the same
    /// request.
    pub fn request(&self) -> Option<&RequestId> {
        self.request.as_ref()
    }

    /// Whether trying again can help.
    pub fn disposition(&self) -> Disposition {
        match self.kind {
            ErrorKind::Pending
            | ErrorKind::KeyTaken { .. }
            | ErrorKind::TimedOut
            | ErrorKind::StoreFull
            | ErrorKind::Broker => Disposition::Retry,
            ErrorKind::Invalid
            | ErrorKind::TooLarge
            | ErrorKind::NotFound
            | ErrorKind::Conflict
            | ErrorKind::NotNoted
            | ErrorKind::Unreadable => Disposition::Reject,
            ErrorKind::StreamsMissing | ErrorKind::Unreachable | ErrorKind::Forbidden => Disposition::Fatal,
        }
    }
}

impl From<broker::Error> for Error {
    fn from(error: broker::Error) -> Self {
        let kind = match error.kind() {
            broker::Kind::Unreachable => ErrorKind::Unreachable,
            broker::Kind::TimedOut => ErrorKind::TimedOut,
            broker::Kind::NoResponders => ErrorKind::StreamsMissing,
            broker::Kind::Forbidden => ErrorKind::Forbidden,
            broker::Kind::NotFound => ErrorKind::NotFound,
            broker::Kind::StoreFull => ErrorKind::StoreFull,
            broker::Kind::TooLarge => ErrorKind::TooLarge,
            broker::Kind::Invalid => ErrorKind::Invalid,
            _ => ErrorKind::Broker,
        };
        Self { kind, message: error.to_string(), request: None, source: Some(error) }
    }
}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        Self::invalid(error.to_string())
    }
}
