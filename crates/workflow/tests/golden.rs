//! Logs of runs as this version and those before it wrote them, each folded to what it meant then.
//!
//! A file of `golden/` holds the messages of one run's log as they are stored, and what came of folding them. No file is
//! ever changed: what began under an old version has to end under a new one as it would have. A view may gain keys.
//! `SORTIE_WRITE_GOLDEN=1 cargo test -p sortie-workflow --test golden` writes the files of scenarios that have none.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

#[path = "golden/scenarios.rs"]
mod scenarios;

use std::path::{Path, PathBuf};

use protocol::{Headers, RunId, time};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sortie_workflow::{Fact, State};

/// A file.
#[derive(Serialize, Deserialize)]
pub(crate) struct Golden {
    /// What it shows.
    pub(crate) about: String,
    /// The log.
    pub(crate) messages: Vec<Message>,
    /// What each message did.
    folded: Vec<String>,
    /// What was wanted in the end, from the first message on.
    commands: Value,
    /// What the run looked like in the end.
    view: Value,
}

/// One message of the log.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) sequence: u64,
    pub(crate) at: String,
    /// The subject behind the run's id.
    pub(crate) subject: String,
    pub(crate) headers: Vec<(String, String)>,
    /// Always a text, as the broker keeps bytes.
    pub(crate) body: String,
}

/// What came of a log.
struct Outcome {
    folded: Vec<String>,
    commands: Value,
    view: Value,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn fold(messages: &[Message]) -> Outcome {
    let mut state = State::new(RunId::parse("run-1").unwrap());
    let folded = messages
        .iter()
        .map(|message| {
            let headers: Headers = message.headers.iter().cloned().collect();
            let at = time::parse(&message.at).unwrap();
            let fact = Fact::read(&message.subject, message.sequence, at, &headers, message.body.as_bytes());
            format!("{:?}", state.fold(&fact))
        })
        .collect();
    Outcome { folded, commands: json!(state.commands_since(0)), view: json!(state.view()) }
}

/// Where something of `expected` is missing or different in `found`; what is new in maps is no fault.
fn difference(expected: &Value, found: &Value, at: &str) -> Option<String> {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => expected
            .iter()
            .find_map(|(key, value)| difference(value, found.get(key).unwrap_or(&Value::Null), &format!("{at}/{key}"))),
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            let pairs = expected.iter().zip(found).enumerate();
            pairs
                .into_iter()
                .find_map(|(place, (expected, found))| difference(expected, found, &format!("{at}/{place}")))
        }
        _ if expected == found => None,
        _ => Some(format!("{at} was {expected} and is {found}")),
    }
}

#[test]
fn logs_of_every_version_fold_to_what_they_meant() {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    assert!(files.len() >= scenarios::all().len(), "SORTIE_WRITE_GOLDEN=1 writes what is missing");
    for file in files {
        let golden: Golden = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let found = fold(&golden.messages);
        assert_eq!(golden.folded, found.folded, "{}", file.display());
        let commands = difference(&golden.commands, &found.commands, "commands");
        let view = difference(&golden.view, &found.view, "view");
        assert_eq!(commands.or(view), None, "{}", file.display());
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a switch of this test alone, no setting of any process")]
fn every_scenario_has_its_file() {
    for scenario in scenarios::all() {
        let file = folder().join(format!("{}.json", scenario.name));
        if !file.exists() && std::env::var_os("SORTIE_WRITE_GOLDEN").is_some() {
            let messages = scenario.messages();
            let Outcome { folded, commands, view } = fold(&messages);
            let golden = Golden { about: scenario.about.to_owned(), messages, folded, commands, view };
            std::fs::write(&file, format!("{}\n", serde_json::to_string_pretty(&golden).unwrap())).unwrap();
        }
        assert!(file.exists(), "SORTIE_WRITE_GOLDEN=1 writes {}", file.display());
    }
}

#[test]
fn a_difference_is_found() {
    let expected = json!({ "a": [1, { "b": 2 }] });
    assert_eq!(difference(&expected, &json!({ "a": [1, { "b": 2, "new": 1 }], "new": 2 }), ""), None);
    for found in [json!({ "a": [1, { "b": 3 }] }), json!({ "a": [1] }), json!({}), json!(null)] {
        assert!(difference(&expected, &found, "").is_some(), "{found}");
    }
}
