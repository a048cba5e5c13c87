//! Definitions as people write them, right and wrong.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use protocol::retry::Curve;

use super::*;

const WHOLE: &str = r#"
kind: words
version: 1.0.0
directory: work
env: {LIMIT: "10"}
pass_env: [API_TOKEN]
capabilities:
  count-words:
    description: Counts words.
    command: [wc, -w, --]
    args_from: [path]
    output: text
    output_bytes_max: 1000
    timeout: 10s
    retry: {attempts: 5, backoff: linear, first: 250ms, factor: 3, cap: 1m, jitter: none}
    exit: {75: retry, "65": give_up}
    schema:
      input: {type: object, required: [path]}
      output: {type: string}
    directory: elsewhere
  say:
    command: [cat]
"#;

fn faults(text: &str) -> Vec<String> {
    Definition::parse(text).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn everything_at_once() {
    let definition = Definition::parse(WHOLE).unwrap();
    let command = &definition.capabilities[&Capability::parse("count-words").unwrap()];
    assert_eq!(command.timeout, Some(Duration::from_secs(10)));
    assert_eq!(command.exit, BTreeMap::from([(75, ExitMeaning::Retry), (65, ExitMeaning::GiveUp)]));
    let policy = command.retry.as_ref().unwrap().policy();
    assert_eq!((policy.attempts_max, policy.backoff.curve), (5, Curve::Linear));
    assert_eq!(policy.backoff.first, Duration::from_millis(250));
    let least = &definition.capabilities[&Capability::parse("say").unwrap()];
    assert_eq!((least.output, least.output_bytes_max), (Output::Json, OUTPUT_BYTES_DEFAULT));
}

#[test]
fn json_says_the_same_even_with_tabs() {
    let definition = Definition::parse(WHOLE).unwrap();
    let json = serde_json::to_string_pretty(&definition).unwrap().replace("  ", "\t");
    assert_eq!(Definition::parse(&json).unwrap(), definition);
}

#[test]
fn layers_are_read_and_their_faults_told_with_the_others() {
    let text = "kind: words
version: 1.0.0
capabilities:
  right:
    command: [wc]
    layers:
      rate_limit: {count: 10, per: 1s, burst: 3, key: /customer}
      circuit_breaker: {fallback: other}
      cache: {ttl: 10m, bytes_max: 1000000}
      retry_rules: [{category: permission, then: give_up}, {code: x, then: retry, after: 1m}]
";
    let definition = Definition::parse(text).unwrap();
    let layers = &definition.capabilities.values().next().unwrap().layers;
    assert_eq!(layers.circuit_breaker.as_ref().map(|breaker| breaker.failures), Some(5));
    assert_eq!(layers.retry_rules.len(), 2);
    let text = "kind: Words
version: 1.0.0
capabilities:
  a: {command: [wc], layers: {rate_limit: {count: 0, per: 1s}}}
  b: {command: [wc], layers: {cache: {ttl: soon}, breaker: {}}}
  c: {command: [wc], layers: {retry_rules: [{code: a, message: b, then: retry}, {message: '(', then: give_up}]}}
";
    let told = faults(text);
    let places = ["kind", "count", "ttl", "breaker", "retry_rules"];
    for place in places {
        assert!(told.iter().any(|fault| fault.contains(place)), "{place}: {told:#?}");
    }
    assert_eq!(told.iter().filter(|fault| fault.contains("retry_rules")).count(), 2, "{told:#?}");
}

#[test]
fn all_faults_are_told_at_once_and_where() {
    let text = r#"kind: Words
version: 1.0
colour: red
env: {SORTIE_X: a, PORT: 8080, NUL: "a\0b"}
capabilities:
  Count Words:
    command: [wc]
  empty:
    command: []
  loud:
    command: [""]
    comand: [wc]
    output: xml
    timeout: soon
    exit: {0: retry, 75: again, 300: retry}
    retry: {attempts: 0, first: 1, backoff: random}
    schema: {input: {type: strin}}
  nothing: {}
  gone: ~
"#;
    insta::assert_snapshot!(faults(text).join("\n"));
}

#[test]
fn what_is_no_definition_at_all() {
    for (text, expected) in [
        ("", "is not of type \"object\""),
        ("[]", "is not of type \"object\""),
        ("kind: a\nkind: b\n", "2:1: kind: this key is here twice"),
        ("{a: [1", "unclosed"),
        ("kind: a\n---\nkind: b\n", "multiple YAML documents"),
        ("? [a]\n: b\n", "a key must be text"),
        ("{kind: a, version: 1.0.0, capabilities: {}}", "capabilities"),
        ("a: &a [*a]\n", ""),
    ] {
        let faults = faults(text);
        assert!(faults.iter().any(|fault| fault.contains(expected)), "{text}: {faults:#?}");
    }
}

#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    assert!(Definition::parse(&text).is_err());
    assert!(Definition::parse(&"[".repeat(100_000)).is_err());
}

#[test]
fn directories_are_relative_to_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("words.yaml");
    std::fs::write(&path, WHOLE).unwrap();
    let definition = Definition::read(&path).unwrap();
    let of = |name: &str| definition.capabilities[&Capability::parse(name).unwrap()].directory.clone().unwrap();
    assert_eq!(of("say"), folder.path().join("work"));
    assert_eq!(of("count-words"), folder.path().join("elsewhere"));

    std::fs::write(&path, "kind: Words\n").unwrap();
    let message = Definition::read(&path).unwrap_err().to_string();
    assert!(message.lines().count() == 3 && message.lines().all(|line| line.contains("words.yaml:1:1: ")), "{message}");
    let missing = Definition::read(&folder.path().join("no.yaml")).unwrap_err();
    assert!(matches!(missing, Error::Unreadable { .. }));
    std::fs::write(&path, vec![b' '; 2 << 20]).unwrap();
    assert!(matches!(Definition::read(&path), Err(Error::Unreadable { .. })));
}

#[test]
fn the_schema_for_editors() {
    insta::assert_json_snapshot!(Definition::json_schema());
}
