//! Whether something may have been done, whatever its outcome says.

use protocol::{Failure, Status, codes};

use crate::fact::StepOutcome;

/// Failures after which nobody knows how far it came, and those of work that was done and could not be told.
const UNCERTAIN: [&str; 14] = [
    codes::TIMEOUT,
    codes::DEADLINE_EXCEEDED,
    codes::CANCELLED,
    codes::POISON,
    codes::DELIVERIES_EXHAUSTED,
    codes::HANDLER_PANICKED,
    codes::COMMAND_KILLED,
    codes::HTTP_UNREACHABLE,
    codes::HTTP_BODY_INVALID,
    codes::INVALID_OUTPUT,
    codes::RESULT_UNENCODABLE,
    codes::RESULT_TOO_LARGE,
    codes::STEP_FAILED,
    codes::RUN_TIMEOUT,
];

/// Failures before which nothing can have begun.
const BEFORE: [&str; 8] = [
    codes::DEFINITION_INVALID,
    codes::INVALID_HEADER,
    codes::INVALID_INPUT,
    codes::NOT_FOUND,
    codes::RUN_LIMIT_REACHED,
    codes::RUN_TOO_DEEP,
    codes::WORKFLOW_UNKNOWN,
    codes::EXPRESSION_FAILED,
];

/// Whether an outcome that somebody gave leaves something that an undo should take back: it completed, or nobody knows how
/// far it came. A handler that says no has done nothing, unless an attempt before ended uncertainly. A sub-run that failed has
/// done whatever its steps did.
pub(super) fn may_have_taken_effect(outcome: &StepOutcome, is_sub_run: bool) -> bool {
    let Some(failure) = &outcome.failure else {
        return outcome.status != Status::Failed || is_sub_run;
    };
    match outcome.status {
        Status::Completed | Status::Expired | Status::Cancelled => true,
        Status::Failed => is_uncertain(failure) || is_sub_run && !BEFORE.contains(&failure.code.as_str()),
    }
}

fn is_uncertain(failure: &Failure) -> bool {
    let attempts = failure.attempts.iter().map(|attempt| attempt.code.as_str());
    attempts.chain([failure.code.as_str()]).any(|code| UNCERTAIN.contains(&code))
}
