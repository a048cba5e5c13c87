//! The closed list of our own failure codes. Handlers add codes of their own; `CODES.md` has a paragraph for each of
//! ours: what happened, and what to do.

use crate::failure::{Category, Severity};

/// What is known of one of our codes.
#[derive(Clone, Copy, Debug)]
pub struct CodeInfo {
    /// The code, `snake_case`.
    pub code: &'static str,
    /// What it is about.
    pub category: Category,
    /// How bad it is.
    pub severity: Severity,
    /// Whether another attempt may help.
    pub retryable: bool,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $NAME:ident = $code:literal, $category:ident, $severity:ident, $retryable:literal;)*) => {
        $($(#[$doc])* pub const $NAME: &str = $code;)*

        /// Every code of ours.
        pub const ALL: &[CodeInfo] = &[$(CodeInfo {
            code: $code,
            category: Category::$category,
            severity: Severity::$severity,
            retryable: $retryable,
        }),*];
    };
}

codes! {
    /// A header of ours does not say what it may say.
    INVALID_HEADER = "invalid_header", Validation, Medium, false;
    /// The body is not what the handler's type says.
    INVALID_INPUT = "invalid_input", Validation, Medium, false;
    /// The handler's result is not what its schema says.
    INVALID_OUTPUT = "invalid_output", Validation, Medium, false;
    /// The body's encoding is one that the handler cannot read.
    CONTENT_TYPE_UNSUPPORTED = "content_type_unsupported", Validation, Medium, false;
    /// The body is larger than what may travel.
    PAYLOAD_TOO_LARGE = "payload_too_large", Validation, Medium, false;
    /// The body travels through the object store, and the object is not there.
    PAYLOAD_MISSING = "payload_missing", Dependency, High, true;
    /// The handler's result has no encoded form.
    RESULT_UNENCODABLE = "result_unencodable", Execution, Medium, false;
    /// The handler's result is larger than what may travel.
    RESULT_TOO_LARGE = "result_too_large", Execution, Medium, false;
    /// The handler failed without saying more.
    HANDLER_FAILED = "handler_failed", Execution, Medium, true;
    /// The handler panicked.
    HANDLER_PANICKED = "handler_panicked", Execution, High, true;
    /// The attempt took longer than its timeout.
    TIMEOUT = "timeout", Timeout, Medium, true;
    /// The deadline passed before the request was done.
    DEADLINE_EXCEEDED = "deadline_exceeded", Timeout, Medium, false;
    /// Somebody cancelled the request.
    CANCELLED = "cancelled", Execution, Low, false;
    /// The message was in the hands of several workers when they died.
    POISON = "poison", Process, Critical, false;
    /// The broker gave the message up after too many deliveries.
    DELIVERIES_EXHAUSTED = "deliveries_exhausted", Process, High, false;
    /// A layer refused because too much was going on.
    OVERLOADED = "overloaded", Resource, Low, true;
    /// The circuit breaker of what the handler calls is open. Requests are put off with it, they do not fail.
    CIRCUIT_OPEN = "circuit_open", Dependency, Low, true;
    /// The capability's rate limit is reached. Requests are put off with it, they do not fail.
    RATE_LIMITED = "rate_limited", Resource, Low, true;
    /// The agent has no files, processes or memory left for the attempt. Requests are put off with it, they do not fail.
    RESOURCES_EXHAUSTED = "resources_exhausted", Resource, Medium, true;
    /// No agent serves the capability.
    CAPABILITY_UNSERVED = "capability_unserved", Dependency, Medium, true;
    /// A program that does the work ended with a failure.
    COMMAND_FAILED = "command_failed", Execution, Medium, true;
    /// A program that does the work was killed by a signal.
    COMMAND_KILLED = "command_killed", Process, High, true;
    /// A program that should do the work is not there or may not be run.
    COMMAND_NOT_FOUND = "command_not_found", Configuration, High, false;
    /// A called service answered with a status that is no success.
    HTTP_STATUS = "http_status", ExternalService, Medium, true;
    /// A called service could not be reached, or did not answer to the end.
    HTTP_UNREACHABLE = "http_unreachable", Communication, Medium, true;
    /// A called service's answer is not what it should be.
    HTTP_BODY_INVALID = "http_body_invalid", ExternalService, Medium, false;
    /// A call would go to an address that must not be called.
    ADDRESS_REFUSED = "address_refused", Permission, High, false;
    /// There is no workflow of this name.
    WORKFLOW_UNKNOWN = "workflow_unknown", Configuration, Medium, false;
    /// What the request names does not exist.
    NOT_FOUND = "not_found", Validation, Low, false;
    /// What the request names may not be touched.
    FORBIDDEN = "forbidden", Permission, Medium, false;
    /// Agents know no such verb.
    UNKNOWN_VERB = "unknown_verb", Validation, Low, false;
    /// This agent cannot do it.
    UNSUPPORTED = "unsupported", Configuration, Low, false;
    /// An agent that is about to end does it no more.
    DRAINING = "draining", Process, Low, false;
    /// An expression of a workflow has no value.
    EXPRESSION_FAILED = "expression_failed", Validation, Medium, false;
    /// The definition of a workflow cannot be run.
    DEFINITION_INVALID = "definition_invalid", Configuration, High, false;
    /// A step of a run failed for good.
    STEP_FAILED = "step_failed", Execution, Medium, false;
    /// Too many items of a list failed.
    ITEMS_FAILED = "items_failed", Execution, Medium, false;
    /// No branch of a race succeeded.
    RACE_LOST = "race_lost", Execution, Medium, false;
    /// A step was repeated as often as it may, and it was not enough.
    TURNS_EXHAUSTED = "turns_exhausted", Execution, Medium, false;
    /// The signal that a step waited for did not come in time.
    SIGNAL_TIMEOUT = "signal_timeout", Timeout, Medium, false;
    /// The run took longer than its workflow says.
    RUN_TIMEOUT = "run_timeout", Timeout, Medium, false;
    /// As many runs of the workflow, or with its key, are alive as there may be.
    RUN_LIMIT_REACHED = "run_limit_reached", Resource, Low, true;
    /// More runs are above the sub-run than there may be.
    RUN_TOO_DEEP = "run_too_deep", Configuration, High, false;
}

/// What is known of a code, if it is one of ours.
pub fn find(code: &str) -> Option<&'static CodeInfo> {
    ALL.iter().find(|info| info.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_paragraph_and_every_paragraph_a_code() {
        let document = include_str!("../CODES.md");
        let headings: Vec<&str> =
            document.lines().filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`')).collect();
        let codes: Vec<&str> = ALL.iter().map(|info| info.code).collect();
        assert_eq!(headings, codes, "CODES.md lists the codes in the order of the table");
    }
}
