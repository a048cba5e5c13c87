//! What went wrong, as data: one shape in outcomes, dead letters, retries and logs.

use std::{fmt, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Capability, InstanceId, codes, limits, time::Timestamp};

/// What a failure is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Category {
    Configuration,
    Initialization,
    #[default]
    Execution,
    Communication,
    Resource,
    Dependency,
    Validation,
    Timeout,
    Permission,
    ExternalService,
    Process,
    #[serde(other)]
    Unknown,
}

/// How bad a failure is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Severity {
    Low,
    #[default]
    Medium,
    High,
    Critical,
}

/// One failed attempt, as it is remembered with the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptRecord {
    /// Which attempt, from 1.
    pub attempt: u32,
    /// The failure's code.
    pub code: String,
    /// The failure's message, cut to [`limits::ATTEMPT_MESSAGE_BYTES_MAX`].
    pub message: String,
    /// The worker it happened in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// The version of that worker's kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When it ended, on the worker's clock.
    pub at: Timestamp,
}

/// What went wrong. A handler returns it; a caller reads it in a failed outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// A stable `snake_case` code: one of [`codes::ALL`], or the handler's own.
    pub code: String,
    /// One sentence for people.
    pub message: String,
    /// What it is about. Defaults to what is known of the code, else `execution`.
    #[serde(default)]
    pub category: Category,
    /// How bad it is. Defaults to what is known of the code, else `medium`.
    #[serde(default)]
    pub severity: Severity,
    /// Whether another attempt may help. Defaults to what is known of the code, else true.
    #[serde(default)]
    pub retryable: bool,
    /// How long to wait before the next attempt, in place of the policy's back-off.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::duration::optional")]
    #[schemars(with = "Option<String>")]
    pub retry_after: Option<Duration>,
    /// Whatever else a program can use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    /// What caused it, nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// The failed attempts: the first and the latest, at most [`limits::ATTEMPT_RECORDS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptRecord>,
    /// Not a failure at all: put the request off, burning no attempt. It never travels.
    #[serde(skip)]
    snooze: Option<Duration>,
    /// Not a failure at all: another capability is to do it. It never travels.
    #[serde(skip)]
    hand_over: Option<Capability>,
}

impl Failure {
    /// A failure with a code of ours or of your own. Whether it is retried follows from the code; the methods below
    /// say otherwise.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        let code = code.into();
        let info = codes::find(&code);
        let message = message.into();
        Self {
            category: info.map_or_else(Category::default, |info| info.category),
            severity: info.map_or_else(Severity::default, |info| info.severity),
            retryable: info.is_none_or(|info| info.retryable),
            message: limits::truncate(&message, limits::FAILURE_MESSAGE_BYTES_MAX),
            code,
            retry_after: None,
            details: None,
            causes: Vec::new(),
            attempts: Vec::new(),
            snooze: None,
            hand_over: None,
        }
    }

    /// A failure of an ordinary error: code `handler_failed`, its sources as causes, retried by policy.
    pub fn from_error(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut failure = Self::new(codes::HANDLER_FAILED, error.to_string());
        let mut source = error.source();
        while let (Some(cause), true) = (source, failure.causes.len() < 10) {
            failure.causes.push(limits::truncate(&cause.to_string(), limits::FAILURE_MESSAGE_BYTES_MAX));
            source = cause.source();
        }
        failure
    }

    /// Puts the request off by this long without burning an attempt.
    pub fn snooze(delay: Duration) -> Self {
        Self::new("snoozed", "put off by its handler").snoozing(delay)
    }

    /// Not a failure but a reason to put the request off by this long, burning no attempt. Who asks what it waits for is
    /// told the code.
    #[must_use]
    pub fn snoozing(mut self, delay: Duration) -> Self {
        self.snooze = Some(delay);
        self
    }

    /// Has another capability do the request, under the same id and burning no attempt.
    pub fn hand_over(to: Capability) -> Self {
        let mut failure = Self::new("handed_over", format!("{to} is to do it"));
        failure.hand_over = Some(to);
        failure
    }

    /// No further attempt, whatever the policy says.
    #[must_use]
    pub fn give_up(mut self) -> Self {
        self.retryable = false;
        self.retry_after = None;
        self
    }

    /// Another attempt by policy, if one is left.
    #[must_use]
    pub fn retry(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// Another attempt after this long, if one is left.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retryable = true;
        self.retry_after = Some(delay);
        self
    }

    /// With data for programs.
    #[must_use]
    pub fn details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    /// With another category than the code's.
    #[must_use]
    pub fn category(mut self, category: Category) -> Self {
        self.category = category;
        self
    }

    /// This failure as an ordinary error, for programs that are no handlers.
    pub fn into_error(self) -> Box<dyn std::error::Error + Send + Sync> {
        self.to_string().into()
    }

    /// How long the request is to be put off, if this is a snooze and no failure.
    pub fn snoozed(&self) -> Option<Duration> {
        self.snooze
    }

    /// The capability that is to do the request, if this is no failure but a hand-over.
    pub fn handed_over(&self) -> Option<&Capability> {
        self.hand_over.as_ref()
    }

    /// This failure as one remembered attempt.
    pub fn record(
        &self,
        attempt: u32,
        instance: Option<InstanceId>,
        version: Option<&str>,
        at: Timestamp,
    ) -> AttemptRecord {
        AttemptRecord {
            attempt,
            code: limits::truncate(&self.code, limits::CODE_BYTES_MAX),
            message: limits::truncate(&self.message, limits::ATTEMPT_MESSAGE_BYTES_MAX),
            instance,
            version: version.map(|version| limits::truncate(version, 40)),
            at,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// Any ordinary error becomes a failure with `?`, as [`Failure::from_error`] says. For this [`Failure`] itself is no
/// [`std::error::Error`].
impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::from_error(&error)
    }
}

impl AttemptRecord {
    /// Cuts its texts, for whoever wrote it may have been another program.
    pub(crate) fn bound(&mut self, message_bytes_max: usize) {
        self.code = limits::truncate(&self.code, limits::CODE_BYTES_MAX);
        self.message = limits::truncate(&self.message, message_bytes_max);
        self.version = self.version.take().map(|version| limits::truncate(&version, 40));
    }
}

/// Adds an attempt to those remembered: past the bound the first one stays and the oldest of the others goes.
pub fn remember(attempts: &mut Vec<AttemptRecord>, record: AttemptRecord) {
    while attempts.len() >= limits::ATTEMPT_RECORDS_MAX {
        attempts.remove(1);
    }
    attempts.push(record);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_of_ours_brings_what_is_known_of_it() {
        let failure = Failure::new(codes::INVALID_INPUT, "no");
        assert_eq!((failure.category, failure.retryable), (Category::Validation, false));
        let failure = Failure::new("tea_is_cold", "no");
        assert_eq!((failure.category, failure.retryable), (Category::Execution, true));
        assert!(!failure.give_up().retryable);
    }

    #[test]
    fn a_failure_survives_the_wire() {
        let failure =
            Failure::new("busy", "later").retry_after(Duration::from_secs(10)).details(serde_json::json!({"n": 1}));
        let text = serde_json::to_string(&failure).unwrap();
        assert!(text.contains(r#""retry_after":"10s""#), "{text}");
        assert_eq!(serde_json::from_str::<Failure>(&text).unwrap(), failure);
        let least: Failure = serde_json::from_str(r#"{"code":"x","message":"y","category":"new_in_2030"}"#).unwrap();
        assert_eq!(least.category, Category::Unknown);
    }

    #[test]
    fn the_first_and_the_latest_attempts_are_remembered() {
        let mut attempts = Vec::new();
        for attempt in 1..=50 {
            remember(&mut attempts, Failure::new("x", "y").record(attempt, None, None, crate::time::now()));
        }
        assert_eq!(attempts.len(), limits::ATTEMPT_RECORDS_MAX);
        assert_eq!((attempts[0].attempt, attempts[1].attempt, attempts[9].attempt), (1, 42, 50));
    }
}
