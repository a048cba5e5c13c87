//! What a refusal of the client is to whoever called the command.

use client::ErrorKind;
use process::{CREDENTIALS_ADVICE, ExitCode, Problem, STORE_FULL_ADVICE};

/// The problem to end with.
pub(crate) fn problem(error: client::Error) -> Problem {
    let code = match error.kind() {
        ErrorKind::Pending | ErrorKind::StoreFull => ExitCode::Again,
        ErrorKind::KeyTaken { .. } | ErrorKind::NotFound | ErrorKind::Conflict | ErrorKind::Unreadable => {
            ExitCode::WorkFailed
        }
        ErrorKind::Invalid | ErrorKind::TooLarge => ExitCode::Usage,
        ErrorKind::StreamsMissing => ExitCode::Configuration,
        ErrorKind::TimedOut | ErrorKind::Unreachable => ExitCode::BrokerUnreachable,
        ErrorKind::Forbidden => ExitCode::Refused,
        ErrorKind::Broker | ErrorKind::NotNoted => ExitCode::Internal,
    };
    let advice = match error.kind() {
        ErrorKind::TimedOut => "see whether the broker has a leader and its disk has room, then try again",
        ErrorKind::StoreFull => STORE_FULL_ADVICE,
        ErrorKind::Forbidden => CREDENTIALS_ADVICE,
        _ => return Problem::new(code, error.to_string()),
    };
    Problem::new(code, error.to_string()).advise(advice)
}
