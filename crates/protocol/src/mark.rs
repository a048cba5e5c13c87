//! What is remembered about one stored message in the state bucket: who died with it, and the tries of unique work.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    AttemptRecord, InstanceId, Lane, Namespace,
    topology::{Names, Source},
};

/// A poison mark: written by a worker before it decodes and runs a message that was delivered before, taken back by
/// whoever gives the message back alive. Only a death leaves one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mark {
    /// The workers that took the redelivered message, oldest first.
    pub takers: Vec<InstanceId>,
}

/// The tries of a unique request. They cannot ride in the message: it keeps its key while it waits, so it is never
/// published again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UniqueTries {
    /// Which attempt comes next, from 1.
    pub attempt: u32,
    /// How often it was put off.
    pub snoozes: u32,
    /// The code of what it was put off for, last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snoozed_for: Option<String>,
    /// The failed attempts so far.
    #[serde(default)]
    pub failures: Vec<AttemptRecord>,
}

/// The key of a poison mark.
pub fn mark_key(stream: &str, sequence: u64) -> String {
    format!("mark.{stream}.{sequence}")
}

/// The inverse of [`mark_key`]: stream, what kind of work lies in it, and sequence. A lane of the request stream stands for
/// all of them.
pub fn parse_mark_key(namespace: &Namespace, key: &str) -> Option<(String, Source, u64)> {
    let (stream, sequence) = key.strip_prefix("mark.")?.rsplit_once('.')?;
    let is_unique = stream == Names::of(namespace).unique;
    let source = if is_unique { Source::Unique } else { Source::Lane(Lane::Normal) };
    Some((stream.to_owned(), source, sequence_of(sequence)?))
}

/// The key of a unique request's tries.
pub fn tries_key(stream: &str, sequence: u64) -> String {
    format!("tries.{stream}.{sequence}")
}

/// The inverse of [`tries_key`]: stream and sequence.
pub fn parse_tries_key(key: &str) -> Option<(&str, u64)> {
    let (stream, sequence) = key.strip_prefix("tries.")?.rsplit_once('.')?;
    Some((stream, sequence_of(sequence)?))
}

/// A sequence as it is written: with a sign or a zero before it, it is no key of ours.
fn sequence_of(text: &str) -> Option<u64> {
    text.parse().ok().filter(|sequence: &u64| sequence.to_string() == text)
}

/// The filter of the tries of all unique requests.
pub const TRIES_FILTER: &str = "tries.>";

/// The key that whoever examines a fleet writes, for a second, to learn whether the store takes anything.
pub const PROBE_KEY: &str = "probe.store";

/// The key of a JSON Schema that registry entries refer to by its digest.
pub fn schema_key(digest: &str) -> String {
    format!("schema.{digest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_names_its_message() {
        let fleet = Namespace::default();
        for (stream, source) in [("FLEET_REQUESTS", Source::Lane(Lane::Normal)), ("FLEET_UNIQUE", Source::Unique)] {
            assert_eq!(parse_mark_key(&fleet, &mark_key(stream, 7)), Some((stream.to_owned(), source, 7)));
        }
        assert_eq!((parse_mark_key(&fleet, "schema.x"), parse_mark_key(&fleet, "mark.S.x")), (None, None));
    }

    #[test]
    fn a_sequence_that_is_written_otherwise_is_no_key() {
        assert_eq!(parse_tries_key("tries.S.8"), Some(("S", 8)));
        for sequence in ["08", "+8", "-8", "8 ", ""] {
            assert_eq!(parse_tries_key(&format!("tries.S.{sequence}")), None, "{sequence}");
            assert_eq!(parse_mark_key(&Namespace::default(), &format!("mark.S.{sequence}")), None, "{sequence}");
        }
    }
}
