//! What a refusal of the client is to whoever called the command.

use client::ErrorKind;
use process::{ExitCode, Problem};

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
        ErrorKind::Broker => ExitCode::Internal,
    };
    let advice = match error.kind() {
        ErrorKind::TimedOut => "see whether the broker has a leader and its disk has room, then try again",
        ErrorKind::StoreFull => "make room in the broker's store, then try again",
        ErrorKind::Forbidden => "give other credentials with --creds or SORTIE_CREDS, or have these allowed to do it",
        _ => return Problem::new(code, error.to_string()),
    };
    Problem::new(code, error.to_string()).advise(advice)
}
