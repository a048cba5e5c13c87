//! Rules that send dead letters again by themselves.

use std::{fmt, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Backoff, Capability, DeadLetter, Headers, Kind, codes, duration, replay, retry::Jitter, time::Timestamp};

/// What the keys of rules begin with, in the configuration bucket.
const KEY_PREFIX: &str = "redrive.";

/// Every rule's key.
pub const RULE_KEYS: &str = "redrive.*";

/// Replays that a rule may ask for.
pub const LIMIT_MAX: u32 = 20;

/// Failure codes: one, or all that a pattern with `*` matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct CodePattern(String);

/// Which dead letters are sent again, when, and how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedriveRule {
    /// The codes of the failures that it is for. `poison` only where it is named in full.
    pub code: CodePattern,
    /// The capability that it is for. Defaults to all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<Capability>,
    /// The wait after the first death, the second, and so on. Defaults to
    /// `exponential; first=1m; factor=5; cap=1h; jitter=equal`.
    #[serde(default = "delay_default")]
    pub delay: Backoff,
    /// How often one piece of work is sent again, whoever does it, before its letter stays for a person; 1 to
    /// [`LIMIT_MAX`]. Defaults to 3.
    #[serde(default = "limit_default")]
    pub limit: u32,
    /// Only letters that the broker stored from then on. Defaults to all that are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// The wait where a rule names none: longer than that between attempts, which did not help.
pub fn delay_default() -> Backoff {
    Backoff {
        first: Duration::from_secs(60),
        factor: 5.0,
        cap: Duration::from_secs(3_600),
        jitter: Jitter::Equal,
        ..Backoff::default()
    }
}

/// How often where a rule does not say.
pub fn limit_default() -> u32 {
    3
}

/// The key of a rule in the configuration bucket.
pub fn rule_key(name: &Kind) -> String {
    format!("{KEY_PREFIX}{name}")
}

/// The name of the rule behind a key.
pub fn rule_name(key: &str) -> Option<Kind> {
    Kind::parse(key.strip_prefix(KEY_PREFIX)?).ok()
}

impl CodePattern {
    /// Reads a code, or a pattern with `*` for any letters.
    ///
    /// # Errors
    /// One sentence that says what is accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_one = !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_one.then(|| Self(text.to_owned())).ok_or_else(|| {
            format!(
                "`{text}` is not a code such as timeout, nor a pattern such as http_*: up to 64 printable characters"
            )
        })
    }

    /// Whether a code is one of them.
    pub fn matches(&self, code: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|first| code.strip_prefix(first)) else { return false };
        let mut parts = parts.peekable();
        if parts.peek().is_none() {
            return rest.is_empty();
        }
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return rest.ends_with(part);
            }
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        true
    }

    fn is_exact(&self) -> bool {
        !self.0.contains('*')
    }
}

impl fmt::Display for CodePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl std::str::FromStr for CodePattern {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

impl TryFrom<String> for CodePattern {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<CodePattern> for String {
    fn from(pattern: CodePattern) -> Self {
        pattern.0
    }
}

impl RedriveRule {
    /// Reads a stored rule.
    ///
    /// # Errors
    /// One sentence that says what is wrong with it.
    pub fn read(value: &[u8]) -> Result<Self, String> {
        let rule: Self = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        if !(1..=LIMIT_MAX).contains(&rule.limit) {
            return Err(format!("limit: {} is not from 1 to {LIMIT_MAX}", rule.limit));
        }
        if rule.delay.first > rule.delay.cap {
            // The cap of a back-off that names none is made for attempts, and would quietly shorten the wait.
            let cap = duration::format(rule.delay.cap);
            return Err(format!("delay: its first wait is beyond its cap, {cap}; say a longer one with cap="));
        }
        Ok(rule)
    }

    /// Whether it is for a letter that was stored then, with these headers. What kills its workers is not sent to them
    /// again by a pattern that happens to match.
    pub fn applies(&self, letter: &DeadLetter, headers: &Headers, stored_at: Timestamp) -> bool {
        let code = &letter.failure.code;
        self.code.matches(code)
            && (self.code.is_exact() || code != codes::POISON)
            && self.capability.as_ref().is_none_or(|capability| *capability == letter.capability)
            && self.since.is_none_or(|since| stored_at >= since)
            && replay::times_replayed(&letter.id, headers) < self.limit
    }

    /// How long after its death a letter is sent again.
    pub fn wait(&self, letter: &DeadLetter, headers: &Headers) -> Duration {
        self.delay.wait(replay::times_replayed(&letter.id, headers) + 1, replay::chance_of(&letter.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Failure, Lane, RequestId, time};

    fn letter(id: &str, code: &str) -> DeadLetter {
        DeadLetter {
            id: RequestId::parse(id).unwrap(),
            capability: Capability::parse("echo").unwrap(),
            lane: Lane::Normal,
            failure: Failure::new(code, "it did not work"),
            attempt: 1,
            instance: None,
            version: None,
            killed: Vec::new(),
            published_at: None,
            dead_at: time::parse("2030-01-01T00:00:00Z").unwrap(),
        }
    }

    fn rule(text: &str) -> RedriveRule {
        RedriveRule::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn patterns() {
        for (pattern, code, matches) in [
            ("timeout", "timeout", true),
            ("timeout", "timeouts", false),
            ("*", "anything", true),
            ("http_*", "http_503", true),
            ("http_*", "https", false),
            ("*_failed", "handler_failed", true),
            ("*_failed", "failed", false),
            ("a*b*c", "a_b_c", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(CodePattern::parse(pattern).unwrap().matches(code), matches, "{pattern} {code}");
        }
        for bad in ["", "a b", &"x".repeat(65)] {
            assert!(CodePattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rule_is_for_what_it_says() {
        let stored = time::parse("2030-01-01T00:00:01Z").unwrap();
        let again = replay::replay_id(&RequestId::parse("a").unwrap(), 1, None);
        for (text, id, code, applies) in [
            (r#"{"code":"timeout"}"#, "a", "timeout", true),
            (r#"{"code":"timeout"}"#, "a", "other", false),
            (r#"{"code":"*"}"#, "a", "poison", false),
            (r#"{"code":"poison"}"#, "a", "poison", true),
            (r#"{"code":"*","capability":"echo"}"#, "a", "x", true),
            (r#"{"code":"*","capability":"other"}"#, "a", "x", false),
            (r#"{"code":"*","since":"2030-01-01T00:00:01Z"}"#, "a", "x", true),
            (r#"{"code":"*","since":"2030-01-01T00:00:02Z"}"#, "a", "x", false),
            (r#"{"code":"*","limit":1}"#, "a", "x", true),
            (r#"{"code":"*","limit":1}"#, again.as_str(), "x", false),
            (r#"{"code":"*","limit":2}"#, again.as_str(), "x", true),
        ] {
            let found = rule(text).applies(&letter(id, code), &Headers::new(), stored);
            assert_eq!(found, applies, "{text} {id} {code}");
        }
    }

    #[test]
    fn each_death_waits_longer() {
        let rule = rule(r#"{"code":"*","delay":"exponential; first=1m; factor=5; cap=1h; jitter=none"}"#);
        let again = replay::replay_id(&RequestId::parse("a").unwrap(), 1, None);
        let waits = ["a", again.as_str()].map(|id| rule.wait(&letter(id, "x"), &Headers::new()).as_secs());
        assert_eq!(waits, [60, 300]);
    }

    #[test]
    fn a_broken_rule_says_what_is_wrong() {
        for (text, words) in [
            ("{}", "missing field `code`"),
            (r#"{"code":"x","limit":0}"#, "limit: 0"),
            (r#"{"code":"x","limit":99}"#, "limit: 99"),
            (r#"{"code":"x","delay":"soon"}"#, "back-off `soon`"),
            (r#"{"code":"x","delay":"fixed; first=1h"}"#, "cap="),
            (r#"{"code":"x","colour":"red"}"#, "unknown field `colour`"),
        ] {
            let fault = RedriveRule::read(text.as_bytes()).unwrap_err();
            assert!(fault.contains(words), "{fault}");
        }
        assert_eq!(rule_name(&rule_key(&Kind::parse("slow").unwrap())), Kind::parse("slow").ok());
        assert_eq!(rule_name("redrive.No"), None);
    }
}
