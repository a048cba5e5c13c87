//! What an event starts: the spec is a key of the configuration bucket, and a coordinator does it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{Capability, Headers, Lane, Namespace, RequestId, RunId, StepName, TriggerName, WorkflowName};

/// The filter of every spec in the configuration bucket.
pub const KEYS: &str = "trigger.*";

/// The key of [`Acknowledged`] in the state bucket.
pub const ACKNOWLEDGED_KEY: &str = "triggers.acknowledged";

/// How far the events are worked off: what the broker tells of the consumer, kept for when that has to be made anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// The sequence up to which every event is acknowledged.
    pub through: u64,
}

/// The longest topic of a trigger, in bytes.
pub const TOPIC_BYTES_MAX: usize = 200;

/// The most triggers of a fleet: each is looked at for every event.
pub const TRIGGERS_MAX: usize = 500;

/// What is done for each event on a topic, at `trigger.<name>` in the configuration bucket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TriggerSpec {
    /// The topic behind `<ns>.event.`: tokens with dots between them; `*` stands for one token, `>` for all that follow.
    pub on: String,
    /// A CEL expression over `event` (`id`, `source`, `type`, `topic`, `time`, `data`) that must be true. Defaults to every
    /// event.
    #[serde(default, rename = "if", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// What is done.
    pub then: Reaction,
    /// The body: JSON with `${ … }` in it. Defaults to the event's data.
    #[serde(default = "with_default")]
    pub with: Value,
    /// The sequence of the last event that was there before it: only later ones count.
    #[serde(default)]
    pub after: u64,
}

/// What is done for an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reaction {
    /// A run of this workflow begins.
    Start(WorkflowName),
    /// This capability is asked.
    Request {
        /// The capability.
        capability: Capability,
        /// Where in the order. Defaults to normal.
        #[serde(default)]
        lane: Lane,
    },
    /// A run is told.
    Signal {
        /// The signal's name.
        name: StepName,
        /// The run's id, with `${ … }` in it: `${ event.data.run }`.
        run: String,
    },
}

/// The event's data, as it is.
pub fn with_default() -> Value {
    "${ event.data }".into()
}

/// The key of a spec in the configuration bucket.
pub fn key(name: &TriggerName) -> String {
    format!("trigger.{name}")
}

/// The name in a key; none for other keys.
pub fn name_of(key: &str) -> Option<TriggerName> {
    TriggerName::parse(key.strip_prefix("trigger.")?).ok()
}

/// What tells an event from all others: `source` and `id` where its headers say them, as CloudEvents has it, so that one
/// that is published twice is one; else where it is stored.
pub fn identity(headers: &Headers, sequence: u64) -> String {
    match (headers.get("ce-source"), headers.get("ce-id")) {
        (Some(source), Some(id)) => format!("{source} {id}"),
        _ => format!("#{sequence}"),
    }
}

/// The id of what a trigger does for an event: whoever does it again does the same. It can be a run's.
pub fn request_id(name: &TriggerName, identity: &str) -> RequestId {
    let digest = Sha256::digest(format!("{name} {identity}").as_bytes());
    let text: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    RequestId::from(&RunId::known(format!("trg-{text}")))
}

/// The topic of an event, from the subject under which it is stored.
pub fn topic<'a>(namespace: &Namespace, subject: &'a str) -> Option<&'a str> {
    subject.strip_prefix(namespace.as_str())?.strip_prefix(".event.")
}

impl TriggerSpec {
    /// Reads a spec as it is stored.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(body).map_err(|error| error.to_string())
    }

    /// What is wrong with its topic, in a sentence.
    ///
    /// # Errors
    /// That sentence.
    pub fn check_topic(&self) -> Result<(), String> {
        let tokens: Vec<&str> = self.on.split('.').collect();
        let is_token = |token: &&str| {
            !token.is_empty() && (**token == *"*" || !token.contains(|c: char| c.is_whitespace() || "*>".contains(c)))
        };
        let (last, rest) = tokens.split_last().map_or((&"", &[][..]), |(last, rest)| (last, rest));
        if self.on.len() <= TOPIC_BYTES_MAX && rest.iter().all(is_token) && (*last == ">" || is_token(last)) {
            return Ok(());
        }
        Err(format!(
            "on: `{}` is no topic: tokens with dots between them, `*` for one token, `>` for all that follow, {TOPIC_BYTES_MAX} \
             bytes at most",
            crate::limits::truncate(&self.on, TOPIC_BYTES_MAX)
        ))
    }

    /// Whether an event on this topic is one of those that it is for.
    pub fn is_on(&self, topic: &str) -> bool {
        let (mut wanted, mut found) = (self.on.split('.'), topic.split('.'));
        loop {
            match (wanted.next(), found.next()) {
                (Some(">"), Some(_)) | (None, None) => return true,
                (Some(one), Some(other)) if one == "*" || one == other => {}
                _ => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(topic: &str) -> TriggerSpec {
        TriggerSpec {
            on: topic.to_owned(),
            condition: None,
            then: Reaction::Start(WorkflowName::parse("audit").unwrap()),
            with: with_default(),
            after: 0,
        }
    }

    #[test]
    fn topics_match_as_subjects_do() {
        for (wanted, topic, is) in [
            ("order.paid", "order.paid", true),
            ("order.*", "order.paid", true),
            ("order.*", "order.paid.twice", false),
            ("order.>", "order.paid.twice", true),
            ("order.>", "order", false),
            ("*.paid", "order.paid", true),
            (">", "order", true),
            ("order", "order.paid", false),
        ] {
            assert_eq!(on(wanted).is_on(topic), is, "{wanted} {topic}");
        }
        for wrong in ["", "order.", ".order", "a b", "a.>.b", "a*", &"a".repeat(201)] {
            assert!(on(wrong).check_topic().is_err(), "{wrong}");
        }
        for right in ["order", "order.*.paid", "order.>", ">"] {
            assert_eq!(on(right).check_topic(), Ok(()), "{right}");
        }
    }

    #[test]
    fn one_event_is_one_id() {
        let name = TriggerName::parse("paid").unwrap();
        let mut headers = Headers::new();
        assert_ne!(request_id(&name, &identity(&headers, 1)), request_id(&name, &identity(&headers, 2)));
        headers.push("ce-id", "7");
        headers.push("ce-source", "/shop");
        let id = request_id(&name, &identity(&headers, 1));
        assert_eq!(id, request_id(&name, &identity(&headers, 2)));
        assert_ne!(id, request_id(&TriggerName::parse("other").unwrap(), &identity(&headers, 1)));
        assert!(RequestId::from_client(id.as_str()).is_ok() && crate::RunId::parse(id.as_str()).is_ok());
    }

    #[test]
    fn a_spec_reads_as_it_is_written() {
        let spec =
            TriggerSpec::read(br#"{"on":"order.paid","if":"event.data.sum > 100","then":{"start":"audit"}}"#).unwrap();
        assert_eq!(spec.with, with_default());
        assert_eq!(TriggerSpec::read(&serde_json::to_vec(&spec).unwrap()), Ok(spec));
        assert!(TriggerSpec::read(br#"{"on":"a","then":{"start":"audit"},"iff":"x"}"#).is_err());
    }
}
