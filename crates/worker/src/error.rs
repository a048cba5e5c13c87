//! Why a worker could not start, or ended by itself.

use std::fmt;

use process::{ExitCode, ExitError};

/// What kind of end it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The worker was built wrong: two handlers for one capability, a name that is none, a number out of bounds.
    Configuration,
    /// The broker cannot be reached or refuses.
    Broker,
    /// A consumer on the broker is different from what this worker needs.
    Drift,
    /// The start hook failed.
    StartHook,
    /// Every slot is held by a handler that ignores its end, or the worker no longer consumes: start it again.
    Stuck,
    /// It was told to restart, and has drained: start it again.
    Again,
}

/// Why a worker could not start, or ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    message: String,
    broker: Option<broker::Kind>,
}

impl Error {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), broker: None }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What the broker said, if it is the reason.
    pub fn broker_kind(&self) -> Option<broker::Kind> {
        self.broker
    }
}

impl From<broker::Error> for Error {
    fn from(error: broker::Error) -> Self {
        let kind = if error.kind() == broker::Kind::Exists { Kind::Drift } else { Kind::Broker };
        Self { kind, message: error.to_string(), broker: Some(error.kind()) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// How a process ends because its worker did.
impl ExitError for Error {
    fn exit_code(&self) -> ExitCode {
        match (self.kind, self.broker) {
            // Whoever starts it again may find the streams.
            (Kind::Broker, Some(broker::Kind::NotFound)) | (Kind::Again, _) => ExitCode::Again,
            (Kind::Broker, Some(kind)) => broker::Error::new(kind, "").exit_code(),
            (Kind::Configuration | Kind::Drift, _) => ExitCode::Configuration,
            (Kind::Broker | Kind::StartHook | Kind::Stuck, _) => ExitCode::Internal,
        }
    }

    fn advice(&self) -> Option<String> {
        let kind = self.broker.filter(|_| self.kind == Kind::Broker)?;
        broker::Error::new(kind, "").advice()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_can_tell_ends_apart() {
        let of = |kind| Error::from(broker::Error::new(kind, "no")).exit_code().number();
        assert_eq!([of(broker::Kind::Unreachable), of(broker::Kind::Forbidden)], [69, 77]);
        assert_eq!([of(broker::Kind::NotFound), of(broker::Kind::Exists)], [75, 64]);
        assert_eq!(Error::new(Kind::Configuration, "no").exit_code().number(), 64);
    }
}
