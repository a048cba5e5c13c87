//! Says for a handler's failures, by code, category or message, whether they are tried again, or something else is given.

use std::{
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use protocol::{Category, Failure, duration};
use regex::{Regex, RegexBuilder};
use serde_json::Value;
use tower::{Layer, Service};

use crate::{BoxService, Call, Reply};

/// The memory of one compiled expression, in bytes.
const REGEX_BYTES_MAX: usize = 1024 * 1024;

/// Rules in order: the first that fits a failure decides, and where none fits, the failure itself does. They stand
/// outside of a capability's other layers, so a breaker counts what a rule then makes good. What is put off or handed
/// over is no failure, and no rule is asked.
///
/// ```
/// use std::time::Duration;
///
/// use sortie_worker::layer::{RetryRules, Then, When};
///
/// let rules = RetryRules::new()
///     .rule(When::code("no_such_user"), Then::Substitute(serde_json::json!({"name": "somebody"})))
///     .rule(When::message("(?i)quota"), Then::RetryAfter(Duration::from_secs(60)))
///     .rule(When::category(sortie_worker::Category::Permission), Then::GiveUp);
/// ```
#[derive(Clone, Debug, Default)]
pub struct RetryRules {
    rules: Vec<(When, Then)>,
}

/// Which failures a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// Those with exactly this code.
    Code(String),
    /// Those of this category.
    Category(Category),
    /// Those whose code has a match of this regular expression.
    CodeMatches(String),
    /// Those whose message has one.
    MessageMatches(String),
}

/// What a rule says of a failure. Attempts are bounded by the policy all the same.
#[derive(Clone, Debug, PartialEq)]
pub enum Then {
    /// Another attempt, by policy.
    Retry,
    /// Another attempt after this long, up to ten years.
    RetryAfter(Duration),
    /// No further attempt.
    GiveUp,
    /// No failure at all: this is the result, and the request is completed.
    Substitute(Value),
}

/// Rules that can be asked.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    rules: Vec<(Test, Then)>,
}

#[derive(Clone, Debug)]
enum Test {
    Code(String),
    Category(Category),
    CodeMatches(Regex),
    MessageMatches(Regex),
}

/// What [`Rules`] make of a handler.
#[derive(Clone, Debug)]
pub(crate) struct Ruled {
    inner: BoxService,
    rules: Rules,
}

impl When {
    /// Exactly this code.
    pub fn code(code: impl Into<String>) -> Self {
        Self::Code(code.into())
    }

    /// This category.
    pub fn category(category: Category) -> Self {
        Self::Category(category)
    }

    /// A code with a match of this regular expression.
    pub fn code_matches(expression: impl Into<String>) -> Self {
        Self::CodeMatches(expression.into())
    }

    /// A message with a match of this regular expression.
    pub fn message(expression: impl Into<String>) -> Self {
        Self::MessageMatches(expression.into())
    }

    /// Why it cannot be asked, if so.
    pub(super) fn fault(&self) -> Option<String> {
        self.compile().err()
    }

    fn compile(&self) -> Result<Test, String> {
        let regex = |text: &str| {
            let built = RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build();
            built.map_err(|error| format!("`{text}` is no regular expression: {error}"))
        };
        Ok(match self {
            Self::Code(code) => Test::Code(code.clone()),
            Self::Category(category) => Test::Category(*category),
            Self::CodeMatches(text) => Test::CodeMatches(regex(text)?),
            Self::MessageMatches(text) => Test::MessageMatches(regex(text)?),
        })
    }
}

impl RetryRules {
    /// No rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more rule, which is asked after those before it.
    #[must_use]
    pub fn rule(mut self, when: When, then: Then) -> Self {
        self.rules.push((when, then));
        self
    }

    /// The rules that can be asked, and what is wrong with the others, which are left out: a mistyped rule is no reason
    /// to serve nothing.
    pub(crate) fn compile(&self) -> (Rules, Vec<String>) {
        let mut rules = Vec::new();
        let mut faults = Vec::new();
        for (number, (when, then)) in self.rules.iter().enumerate() {
            let then_is_fine = match then {
                Then::RetryAfter(delay) if *delay > duration::DURATION_MAX => {
                    Err("waits longer than ten years".to_owned())
                }
                _ => Ok(()),
            };
            match then_is_fine.and_then(|()| when.compile()) {
                Ok(test) => rules.push((test, then.clone())),
                Err(fault) => faults.push(format!("retry rule {}: {fault}", number + 1)),
            }
        }
        (Rules { rules }, faults)
    }
}

impl Rules {
    /// What becomes of a failure: another one, or a value in its place.
    fn apply(&self, failure: Failure) -> Result<Value, Failure> {
        if failure.snoozed().is_some() || failure.handed_over().is_some() {
            return Err(failure);
        }
        let Some((_, then)) = self.rules.iter().find(|(test, _)| test.fits(&failure)) else { return Err(failure) };
        Err(match then {
            Then::Retry => failure.retry(),
            Then::RetryAfter(delay) => failure.retry_after(*delay),
            Then::GiveUp => failure.give_up(),
            Then::Substitute(value) => {
                tracing::info!(%failure, "a retry rule gives a value in place of a failure");
                return Ok(value.clone());
            }
        })
    }
}

impl Test {
    fn fits(&self, failure: &Failure) -> bool {
        match self {
            Self::Code(code) => failure.code == *code,
            Self::Category(category) => failure.category == *category,
            Self::CodeMatches(regex) => regex.is_match(&failure.code),
            Self::MessageMatches(regex) => regex.is_match(&failure.message),
        }
    }
}

impl Layer<BoxService> for Rules {
    type Service = Ruled;
    fn layer(&self, inner: BoxService) -> Ruled {
        Ruled { inner, rules: self.clone() }
    }
}

impl Service<Call> for Ruled {
    type Response = Reply;
    type Error = Failure;
    type Future = BoxFuture<'static, Result<Reply, Failure>>;

    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let (content_type, rules) = (call.content_type.clone(), self.rules.clone());
        let ended = self.inner.call(call);
        async move {
            match ended.await {
                Ok(reply) => Ok(reply),
                Err(failure) => {
                    let value = rules.apply(failure)?;
                    Ok(Reply { body: content_type.encode(&value)?, content_type })
                }
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rules = RetryRules::new()
            .rule(When::code("gone"), Then::Substitute(json!(null)))
            .rule(When::code_matches("^go"), Then::GiveUp)
            .rule(When::message("(?i)QUOTA"), Then::RetryAfter(Duration::from_secs(9)))
            .rule(When::category(Category::Permission), Then::Retry);
        let (rules, faults) = rules.compile();
        assert_eq!(faults, Vec::<String>::new());
        assert_eq!(rules.apply(Failure::new("gone", "quota")), Ok(json!(null)));
        let told = |failure: Failure| {
            let failure = rules.apply(failure).unwrap_err();
            (failure.retryable, failure.retry_after.map(|after| after.as_secs()))
        };
        assert_eq!(told(Failure::new("good", "quota")), (false, None));
        assert_eq!(told(Failure::new("x", "the quota is used up").give_up()), (true, Some(9)));
        assert_eq!(told(Failure::new(protocol::codes::FORBIDDEN, "no")), (true, None));
        assert_eq!(told(Failure::new("x", "no").give_up()), (false, None), "where none fits, it stays as it is");
        let snoozed = rules.apply(Failure::new("gone", "x").snoozing(Duration::from_secs(1))).unwrap_err();
        assert!(snoozed.snoozed().is_some(), "what is put off is no failure");
    }

    #[test]
    fn a_broken_rule_is_told_and_left_out() {
        let rules = RetryRules::new()
            .rule(When::message("("), Then::GiveUp)
            .rule(When::code_matches("a{9999}{9999}"), Then::GiveUp)
            .rule(When::code("x"), Then::RetryAfter(Duration::MAX))
            .rule(When::code("x"), Then::GiveUp);
        let (rules, faults) = rules.compile();
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(faults[0].starts_with("retry rule 1: `(` is no regular expression"), "{faults:?}");
        assert!(!rules.apply(Failure::new("x", "(")).unwrap_err().retryable);
    }
}
