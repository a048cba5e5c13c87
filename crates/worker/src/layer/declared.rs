//! Layers as data, for agents that a file declares: what a program says by calls, said by keys.

use std::time::Duration;

use protocol::{BreakerName, Capability, Category, breaker, duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Cache, CircuitBreaker, RateLimit, RetryRules, Then, When};

/// What a cache holds where nothing else is said, in bytes.
const CACHE_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;

/// The layers around one capability. Each instance has its own limit and cache; a breaker is the fleet's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Layers {
    /// How often attempts may begin; what comes beyond that waits, and burns no attempt. Defaults to no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Rate")]
    pub rate_limit: Option<Rate>,
    /// Stops the capability in the whole fleet while what it calls fails all the time. Defaults to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Breaker")]
    pub circuit_breaker: Option<Breaker>,
    /// Keeps results, so that the same input is not worked on again. Defaults to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Keep")]
    pub cache: Option<Keep>,
    /// What becomes of failures: the first rule that fits one decides, and where none fits the failure itself does.
    /// Defaults to none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub retry_rules: Vec<Rule>,
}

/// How often attempts may begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// So many.
    #[schemars(range(min = 1))]
    pub count: u32,
    /// In this time, such as `1s`.
    #[serde(with = "protocol::duration::text")]
    #[schemars(with = "String", extend("format" = "sortie-duration"))]
    pub per: Duration,
    /// So many at once after a quiet while. Defaults to `count`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1))]
    pub burst: Option<u32>,
    /// The JSON pointer of what has a bound of its own, such as `/customer`. Defaults to one bound for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1))]
    pub key: Option<String>,
}

/// When a circuit opens, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Breaker {
    /// Its name, by which capabilities share one. Defaults to the capability's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub name: Option<String>,
    /// Failures in a row, in one instance, that open it. Defaults to 5.
    #[serde(default = "failures_default")]
    #[schemars(range(min = 1))]
    pub failures: u32,
    /// How long it stays open, such as `30s`, the default.
    #[serde(default = "open_for_default", with = "protocol::duration::text")]
    #[schemars(with = "String", extend("format" = "sortie-duration"))]
    pub open_for: Duration,
    /// Attempts that it lets through half open; as many successes close it. Defaults to 3.
    #[serde(default = "trials_default")]
    #[schemars(range(min = 1, max = 100))]
    pub trials: u32,
    /// The capability that does the requests meanwhile. Defaults to none: they wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "sortie-capability"))]
    pub fallback: Option<Capability>,
}

/// How long results are kept, and how much of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// For so long, such as `10m`.
    #[serde(with = "protocol::duration::text")]
    #[schemars(with = "String", extend("format" = "sortie-duration"))]
    pub ttl: Duration,
    /// Bytes of keys and results in all. Defaults to 64 MiB.
    #[serde(default = "cache_bytes_default")]
    #[schemars(range(min = 1))]
    pub bytes_max: u64,
    /// The JSON pointer of what the result follows from, such as `/customer`. Defaults to the whole input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1))]
    pub key: Option<String>,
}

/// One rule: which failures it is for, by exactly one of `code`, `category`, `code_matches` and `message`; and what it says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Exactly this code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub code: Option<String>,
    /// This category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Category")]
    pub category: Option<Category>,
    /// A regular expression that has a match in the code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub code_matches: Option<String>,
    /// A regular expression that has a match in the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub message: Option<String>,
    /// What becomes of such a failure.
    pub then: Verdict,
    /// With `retry`: after this long, such as `1m`. Defaults to what the policy says.
    #[serde(default, with = "protocol::duration::optional", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "sortie-duration"))]
    pub after: Option<Duration>,
    /// With `substitute`: the result. Defaults to null.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub value: Value,
}

/// What becomes of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Another attempt, as many as the policy allows.
    Retry,
    /// The request has failed.
    GiveUp,
    /// It is no failure: `value` is the result.
    Substitute,
}

impl Layers {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Everything that is wrong beyond what the schema says, each with the JSON pointer of its place below the layers.
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut add = |pointer: &str, message: &str| faults.push((pointer.to_owned(), message.to_owned()));
        let mut check = |pointer: &str, length: Option<Duration>| {
            if length.is_some_and(|length| length.is_zero()) {
                add(pointer, "is no time at all");
            }
        };
        check("/rate_limit/per", self.rate_limit.as_ref().map(|rate| rate.per));
        check("/cache/ttl", self.cache.as_ref().map(|keep| keep.ttl));
        check("/circuit_breaker/open_for", self.circuit_breaker.as_ref().map(|breaker| breaker.open_for));
        let keys = [
            ("/rate_limit/key", self.rate_limit.as_ref().and_then(|rate| rate.key.as_ref())),
            ("/cache/key", self.cache.as_ref().and_then(|keep| keep.key.as_ref())),
        ];
        for (pointer, key) in keys {
            if key.is_some_and(|key| !key.starts_with('/')) {
                add(pointer, "is no JSON pointer such as /customer");
            }
        }
        if let Some(Err(error)) =
            self.circuit_breaker.as_ref().and_then(|breaker| breaker.name.as_deref()).map(BreakerName::parse)
        {
            add("/circuit_breaker/name", &error.to_string());
        }
        for (number, rule) in self.retry_rules.iter().enumerate() {
            for message in rule.faults() {
                add(&format!("/retry_rules/{number}"), &message);
            }
        }
        faults
    }

    pub(crate) fn rules(&self) -> Option<RetryRules> {
        let mut rules = RetryRules::new();
        for rule in &self.retry_rules {
            for when in rule.tests() {
                rules = rules.rule(when, rule.outcome());
            }
        }
        (!self.retry_rules.is_empty()).then_some(rules)
    }
}

impl Rule {
    /// One, where the rule is right.
    fn tests(&self) -> Vec<When> {
        let all = [
            self.code.clone().map(When::Code),
            self.category.map(When::Category),
            self.code_matches.clone().map(When::CodeMatches),
            self.message.clone().map(When::MessageMatches),
        ];
        all.into_iter().flatten().collect()
    }

    fn outcome(&self) -> Then {
        match (self.then, self.after) {
            (Verdict::Retry, None) => Then::Retry,
            (Verdict::Retry, Some(after)) => Then::RetryAfter(after),
            (Verdict::GiveUp, _) => Then::GiveUp,
            (Verdict::Substitute, _) => Then::Substitute(self.value.clone()),
        }
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let tests = self.tests();
        if tests.len() != 1 {
            faults.push("has to have exactly one of `code`, `category`, `code_matches` and `message`".to_owned());
        }
        faults.extend(tests.iter().filter_map(When::fault));
        if self.after.is_some() && self.then != Verdict::Retry {
            faults.push("`after` is for `then: retry` only".to_owned());
        }
        if !self.value.is_null() && self.then != Verdict::Substitute {
            faults.push("`value` is for `then: substitute` only".to_owned());
        }
        faults
    }
}

impl From<&Rate> for RateLimit {
    fn from(rate: &Rate) -> Self {
        let limit = Self::new(rate.count, rate.per).burst(rate.burst.unwrap_or(rate.count));
        match &rate.key {
            Some(key) => limit.key(key),
            None => limit,
        }
    }
}

impl From<&Breaker> for CircuitBreaker {
    fn from(declared: &Breaker) -> Self {
        let settings =
            breaker::Settings { failures: declared.failures, open_for: declared.open_for, trials: declared.trials };
        let fallback = declared.fallback.as_ref().map(ToString::to_string);
        Self { name: declared.name.clone(), settings, fallback }
    }
}

impl From<&Keep> for Cache {
    fn from(keep: &Keep) -> Self {
        let cache = Self::new(keep.ttl.min(duration::DURATION_MAX), keep.bytes_max);
        match &keep.key {
            Some(key) => cache.key(key),
            None => cache,
        }
    }
}

fn failures_default() -> u32 {
    breaker::Settings::default().failures
}

fn open_for_default() -> Duration {
    breaker::Settings::default().open_for
}

fn trials_default() -> u32 {
    breaker::Settings::default().trials
}

fn cache_bytes_default() -> u64 {
    CACHE_BYTES_DEFAULT
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_fault_is_told_at_its_place() {
        let layers: Layers = serde_json::from_value(json!({
            "rate_limit": { "count": 1, "per": "0s", "key": "customer" },
            "circuit_breaker": { "name": "no name", "open_for": "0s" },
            "cache": { "ttl": "1m" },
            "retry_rules": [
                { "code": "a", "then": "give_up" },
                { "then": "retry", "value": 1 },
                { "code": "a", "message": "(", "then": "substitute", "after": "1s" },
            ],
        }))
        .unwrap();
        let faults = layers.faults();
        let places: Vec<&str> = faults.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(
            places,
            [
                "/rate_limit/per",
                "/circuit_breaker/open_for",
                "/rate_limit/key",
                "/circuit_breaker/name",
                "/retry_rules/1",
                "/retry_rules/1",
                "/retry_rules/2",
                "/retry_rules/2",
                "/retry_rules/2",
            ],
            "{faults:?}"
        );
        assert_eq!(layers.circuit_breaker.as_ref().map(|breaker| (breaker.failures, breaker.trials)), Some((5, 3)));
        assert!(Layers::default().is_empty() && Layers::default().faults().is_empty());
    }
}
