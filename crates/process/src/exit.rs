//! How a process ends: one closed list of codes, one message, one door.

mod broker;

use std::fmt;

pub use broker::{CREDENTIALS_ADVICE, STORE_FULL_ADVICE};

/// What a process says to whoever started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ExitCode {
    /// Everything that was asked for is done.
    Done = 0,
    /// The process did its part, the work it was asked about failed.
    WorkFailed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// A check for a monitoring system could not be made: of such a command only, whose other numbers are those of
    /// monitoring plugins too.
    Unknown = 3,
    /// A setting is missing, malformed or contradicts another. Starting again does not help.
    Configuration = 64,
    /// The broker cannot be reached.
    BrokerUnreachable = 69,
    /// A fault of ours.
    Internal = 70,
    /// Still pending, or: start me again.
    Again = 75,
    /// The broker knows us and does not allow it.
    Refused = 77,
    /// Left at once because of SIGINT.
    Interrupted = 130,
    /// Left at once because of SIGTERM.
    Terminated = 143,
}

impl ExitCode {
    /// The number the operating system sees.
    pub fn number(self) -> u8 {
        self as u8
    }
}

/// An error that knows how the process should end because of it.
pub trait ExitError: std::error::Error {
    /// The code to leave with.
    fn exit_code(&self) -> ExitCode;

    /// What the reader can do about it, in one sentence. Defaults to nothing.
    fn advice(&self) -> Option<String> {
        None
    }
}

/// Why a process ends early: what [`run`](crate::run()) prints once.
///
/// `?` makes one of every [`ExitError`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The code to leave with.
    pub code: ExitCode,
    /// What happened.
    pub message: String,
    /// What to do about it.
    pub advice: Option<String>,
}

impl Problem {
    /// A problem without advice.
    pub fn new(code: ExitCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), advice: None }
    }

    /// The same problem with a sentence that says what to do.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.advice {
            Some(advice) => write!(f, "\n  {advice}"),
            None => Ok(()),
        }
    }
}

impl<E: ExitError> From<E> for Problem {
    fn from(error: E) -> Self {
        Self { code: error.exit_code(), message: with_causes(&error), advice: error.advice() }
    }
}

/// An error's message and those of its causes, leaving out a cause that the message already quotes.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// Ends the process. Nothing else in Sortie does.
#[allow(clippy::disallowed_methods, reason = "this is the one door that the ban points to")]
pub fn leave(code: ExitCode) -> ! {
    std::process::exit(i32::from(code.number()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the door")]
    struct Door(#[source] std::io::Error);

    impl ExitError for Door {
        fn exit_code(&self) -> ExitCode {
            ExitCode::Refused
        }

        fn advice(&self) -> Option<String> {
            Some("ask for the key".into())
        }
    }

    #[test]
    fn an_error_becomes_one_message_with_its_cause_and_advice() {
        let problem = Problem::from(Door(std::io::Error::other("it is locked")));
        assert_eq!(problem.code, ExitCode::Refused);
        assert_eq!(problem.to_string(), "cannot open the door: it is locked\n  ask for the key");
    }

    #[test]
    fn the_numbers_are_those_that_scripts_know() {
        use ExitCode::*;
        let all = [
            Done,
            WorkFailed,
            Usage,
            Unknown,
            Configuration,
            BrokerUnreachable,
            Internal,
            Again,
            Refused,
            Interrupted,
            Terminated,
        ];
        let numbers = all.map(ExitCode::number);
        assert_eq!(numbers, [0, 1, 2, 3, 64, 69, 70, 75, 77, 130, 143]);
    }
}
