//! Ids and names: strings that were checked once, where they came in.

use std::{fmt, str::FromStr, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits;

/// Why a text is not the id or name that it should be: one sentence that says what is accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {what}: {rule}")]
pub struct NameError {
    what: &'static str,
    text: String,
    rule: &'static str,
}

macro_rules! checked_text {
    ($(#[$doc:meta])* $Name:ident, $what:literal, $check:path, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String")]
        pub struct $Name(Arc<str>);

        impl $Name {
            #[doc = concat!("Checks that the text is a ", $what, ".")]
            ///
            /// # Errors
            /// One sentence that says what is accepted.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                if $check(text) {
                    return Ok(Self(text.into()));
                }
                let text = limits::truncate(text, 80);
                Err(NameError { what: $what, text, rule: $rule })
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $Name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $Name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::parse(&text)
            }
        }

        impl From<$Name> for String {
            fn from(name: $Name) -> Self {
                name.0.as_ref().to_owned()
            }
        }
    };
}

checked_text!(
    /// The first token of every subject; one fleet, one namespace, any number beside each other. Defaults to `fleet`.
    Namespace, "namespace", is_namespace, "a lower-case letter, then up to 30 of a-z, 0-9 and `-`"
);
checked_text!(
    /// What can be asked for: `echo`, `http-get`, `repo-audit`.
    Capability, "capability", is_capability,
    "a-z or 0-9, then up to 62 of a-z, 0-9 and `-`; `coordinator` is reserved"
);
checked_text!(
    /// A circuit breaker, unless told otherwise named like the capability it stands before.
    BreakerName, "breaker name", is_slug, "a-z or 0-9, then up to 62 of a-z, 0-9 and `-`"
);
checked_text!(
    /// The binary or definition that an agent is an instance of.
    Kind, "kind", is_slug, "a-z or 0-9, then up to 62 of a-z, 0-9 and `-`"
);
checked_text!(
    /// A recurring schedule.
    CronName, "cron name", is_slug, "a-z or 0-9, then up to 62 of a-z, 0-9 and `-`"
);
checked_text!(
    /// What an event starts.
    TriggerName, "trigger name", is_slug, "a-z or 0-9, then up to 62 of a-z, 0-9 and `-`"
);
checked_text!(
    /// A workflow that can be started.
    WorkflowName, "workflow name", is_slug, "a-z or 0-9, then up to 62 of a-z, 0-9 and `-`"
);
checked_text!(
    /// One worker process.
    InstanceId, "instance id", is_instance, "up to 63 of a-z, A-Z, 0-9, `_` and `-`; `all` is reserved"
);
checked_text!(
    /// The identity of one piece of work: whatever is published under it is the same request.
    RequestId, "request id", is_id, "up to 200 printable ASCII characters without `.`, `*`, `>`, not only digits"
);
checked_text!(
    /// One execution of a workflow.
    RunId, "run id", is_run_id,
    "up to 64 printable ASCII characters without `.`, `*`, `>`, `~`, not only digits"
);
checked_text!(
    /// A node of a workflow.
    StepName, "step name", is_step_name, "up to 32 of a-z, A-Z, 0-9, `_` and `-`"
);
checked_text!(
    /// The key of which at most one piece of work is queued or running.
    UniqueKey, "unique key", is_unique_key, "up to 128 printable ASCII characters without `.`, `*` and `>`"
);
checked_text!(
    /// Who steers a fleet: a person or a program.
    Operator, "operator", is_operator, "up to 63 of a-z, A-Z, 0-9, `_` and `-`"
);

impl From<&Capability> for BreakerName {
    /// The default name.
    fn from(capability: &Capability) -> Self {
        Self(Arc::clone(&capability.0))
    }
}

/// Where an id comes from, and with that where its outcome lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Chosen by whoever published.
    Client,
    /// A message without an id in the request stream, by its sequence.
    Sequence(u64),
    /// A unique request, by its sequence in its own stream.
    UniqueSequence(u64),
    /// A step of a run: its outcome lives in the run's log.
    Step {
        /// The run.
        run: RunId,
        /// The step in it.
        step: StepName,
        /// The item or turn, else 0.
        item: u64,
    },
}

impl Default for Namespace {
    fn default() -> Self {
        Self("fleet".into())
    }
}

impl Namespace {
    /// What stream names begin with: upper snake case of the namespace, `my-fleet` gives `MY_FLEET`.
    pub fn stream_prefix(&self) -> String {
        self.as_str().to_ascii_uppercase().replace('-', "_")
    }
}

impl InstanceId {
    /// A new one: `ins_` and a UUID v7, so that instances sort by when they started.
    pub fn generate() -> Self {
        Self(format!("ins_{}", uuid::Uuid::now_v7().simple()).into())
    }
}

impl Operator {
    /// The nearest name that a text such as `root@host.example` allows: what cannot stand in it becomes `-`.
    pub fn nearest(text: &str) -> Self {
        let clean = |each: char| if each.is_ascii_alphanumeric() || each == '_' { each } else { '-' };
        let name: String = text.chars().map(clean).take(63).collect();
        Self(if name.is_empty() { "unknown".into() } else { name.into() })
    }
}

impl RunId {
    /// One that is known to be an id.
    pub(crate) fn known(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&RunId> for RequestId {
    /// The request that started the run: its outcome is the run's.
    fn from(run: &RunId) -> Self {
        Self(Arc::clone(&run.0))
    }
}

impl RequestId {
    /// A new one: `req_` and a UUID v7.
    pub fn generate() -> Self {
        Self(format!("req_{}", uuid::Uuid::now_v7().simple()).into())
    }

    /// The id of a message that carries none, by its sequence in the request stream.
    pub fn of_sequence(sequence: u64) -> Self {
        Self(format!("seq-{sequence}").into())
    }

    /// The id of a unique request, by its sequence in its own stream.
    pub fn of_unique_sequence(sequence: u64) -> Self {
        Self(format!("useq-{sequence}").into())
    }

    /// The id of a step's request.
    pub fn of_step(run: &RunId, step: &StepName, item: u64) -> Self {
        Self(format!("{run}~{step}~{item}").into())
    }

    /// Checks an id that a client chose: those that the fleet makes by itself are refused.
    ///
    /// # Errors
    /// One sentence that says what is accepted.
    pub fn from_client(text: &str) -> Result<Self, NameError> {
        let id = Self::parse(text)?;
        match id.origin() {
            Origin::Client if !text.contains('~') && !text.starts_with("seq-") && !text.starts_with("useq-") => Ok(id),
            _ => Err(NameError {
                what: "request id from a client",
                text: text.to_owned(),
                rule: "`seq-…`, `useq-…` and ids with `~` are given by the fleet",
            }),
        }
    }

    /// Where this id comes from.
    pub fn origin(&self) -> Origin {
        let text = self.as_str();
        if let Some(number) = text.strip_prefix("seq-").and_then(sequence) {
            return Origin::Sequence(number);
        }
        if let Some(number) = text.strip_prefix("useq-").and_then(sequence) {
            return Origin::UniqueSequence(number);
        }
        let parts: Vec<&str> = text.split('~').collect();
        if let [run, step, item] = parts.as_slice()
            && let (Ok(run), Ok(step), Some(item)) = (RunId::parse(run), StepName::parse(step), sequence(item))
        {
            return Origin::Step { run, step, item };
        }
        Origin::Client
    }
}

/// A number as we write it: no sign, no leading zero, so that one number has one spelling.
fn sequence(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn is_token(text: &str, bytes_max: usize) -> bool {
    !text.is_empty()
        && text.len() <= bytes_max
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'.' | b'*' | b'>'))
}

fn is_id(text: &str) -> bool {
    is_token(text, limits::ID_BYTES_MAX) && !text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_run_id(text: &str) -> bool {
    text.len() <= limits::RUN_ID_BYTES_MAX && is_id(text) && !text.contains('~')
}

fn is_unique_key(text: &str) -> bool {
    is_token(text, limits::UNIQUE_KEY_BYTES_MAX)
}

fn is_word(text: &str, bytes_max: usize) -> bool {
    !text.is_empty()
        && text.len() <= bytes_max
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

fn is_step_name(text: &str) -> bool {
    is_word(text, limits::STEP_NAME_BYTES_MAX)
}

fn is_operator(text: &str) -> bool {
    is_word(text, 63)
}

fn is_instance(text: &str) -> bool {
    is_word(text, 63) && text != "all"
}

fn is_slug(text: &str) -> bool {
    is_word(text, 63) && !text.starts_with(['-', '_']) && text.bytes().all(is_slug_byte)
}

fn is_slug_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

fn is_capability(text: &str) -> bool {
    is_slug(text) && text != "coordinator"
}

fn is_namespace(text: &str) -> bool {
    text.len() <= 31 && is_slug(text) && text.starts_with(|first: char| first.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_that_lie_are_refused() {
        let long = "x".repeat(201);
        for bad in ["", "a.b", "a*", ">", "a b", "123", "ä", "a\n", long.as_str()] {
            assert!(RequestId::parse(bad).is_err(), "{bad}");
        }
        for ours in ["seq-1", "seq-x", "useq-9", "run~step~0", "a~b"] {
            assert!(RequestId::from_client(ours).is_err(), "{ours}");
        }
        assert!(RequestId::from_client("order-17").is_ok());
    }

    #[test]
    fn an_id_tells_where_its_outcome_lives() {
        let origin = |text: &str| RequestId::parse(text).unwrap().origin();
        assert_eq!(origin("seq-17"), Origin::Sequence(17));
        assert_eq!(origin("useq-3"), Origin::UniqueSequence(3));
        assert_eq!(origin("seq-017"), Origin::Client);
        assert_eq!(origin("req_1"), Origin::Client);
        let (run, step) = (RunId::parse("run-1").unwrap(), StepName::parse("scan").unwrap());
        let id = RequestId::of_step(&run, &step, 4);
        assert_eq!(id.origin(), Origin::Step { run, step, item: 4 });
    }

    #[test]
    fn names() {
        assert!(Capability::parse("http-get").is_ok());
        for bad in ["", "-x", "Echo", "a_b", "coordinator", "a.b"] {
            assert!(Capability::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Namespace::parse("my-fleet").unwrap().stream_prefix(), "MY_FLEET");
        assert!(Namespace::parse("9fleet").is_err());
        assert!(InstanceId::parse("all").is_err());
        for (text, name) in [("root@host.example", "root-host-example"), ("ä b", "--b"), ("", "unknown")] {
            assert_eq!(Operator::nearest(text).as_str(), name);
            assert!(Operator::parse(name).is_ok());
        }
        let message = Capability::parse("Echo Me").unwrap_err().to_string();
        assert!(message.contains("`Echo Me` is not a valid capability"), "{message}");
    }

    proptest! {
        #[test]
        fn nothing_makes_parsing_panic(text in "\\PC*") {
            let _ = RequestId::parse(&text).map(|id| id.origin());
            let _ = Namespace::parse(&text);
        }
    }
}
