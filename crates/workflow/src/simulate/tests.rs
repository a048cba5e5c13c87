use serde_json::json;

use super::*;
use crate::Plan;

fn run(text: &str, input: Value, change: impl FnOnce(&mut Invented<'_>)) -> Simulation {
    let plan = Plan::parse(text).unwrap_or_else(|faults| panic!("{faults:#?}")).0;
    let program = Arc::new(Program::new(plan).unwrap());
    let mut invented = Invented {
        outputs: BTreeMap::new(),
        failures: BTreeMap::new(),
        signals: BTreeMap::new(),
        output_schema: &|_| None,
    };
    change(&mut invented);
    let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let simulation = simulate(&program, input.clone(), &invented, now);
    assert_eq!(simulation, simulate(&program, input, &invented, now), "the same is invented each time");
    simulation
}

fn lines(simulation: &Simulation) -> String {
    let mut lines: Vec<String> = simulation.happened.iter().map(ToString::to_string).collect();
    if !simulation.waiting.is_empty() {
        lines.push(format!("waits: {:?}", simulation.waiting.iter().map(StepName::as_str).collect::<Vec<_>>()));
    }
    lines.join("\n")
}

const REPO_AUDIT: &str = include_str!("../../tests/repo-audit.yaml");

#[test]
fn the_example_runs_dry() {
    let input = json!({"path": "/src"});
    let simulation = run(REPO_AUDIT, input.clone(), |_| {});
    insta::assert_snapshot!("nothing_said", lines(&simulation));
    let simulation = run(REPO_AUDIT, input.clone(), |invented| {
        invented.outputs.insert("files".into(), json!(["a", "b", "c"]));
        invented.outputs.insert("examine.1".into(), json!("special"));
        invented.signals.insert(StepName::parse("approve").unwrap(), json!({"approved": true}));
    });
    insta::assert_snapshot!("outputs_and_a_signal", lines(&simulation));
    let simulation = run(REPO_AUDIT, input, |invented| {
        invented.failures.insert("examine.1".into(), "out of tea".into());
        invented.failures.insert("secrets".into(), "none found".into());
    });
    insta::assert_snapshot!("failures", lines(&simulation));
}

#[test]
fn what_is_published_is_invented_from_its_schema() {
    let text = "workflow: w\nversion: 1.0.0\nsteps:\n  a: { call: a }\n  b: { needs: [a], call: b, with: { n: \"${ steps.a.output.n + 1 }\" } }\noutput: \"${ steps.b.output }\"\n";
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 5}, "kind": {"enum": ["x"]}, "list": {"type": "array", "items": {"$ref": "#/$defs/i"}}}, "$defs": {"i": {"type": "boolean"}}});
    let of = |target: &Target| (whom(target) == "call a").then(|| schema.clone());
    let plan = Plan::parse(text).unwrap().0;
    let invented =
        Invented { outputs: BTreeMap::new(), failures: BTreeMap::new(), signals: BTreeMap::new(), output_schema: &of };
    let simulation = simulate(&Arc::new(Program::new(plan).unwrap()), Value::Null, &invented, DateTime::UNIX_EPOCH);
    let expected = "      0s  a.0: call a {}\n      1s  a.0: completed {\"kind\":\"x\",\"list\":[true,true],\"n\":5}\n      1s  b.0: call b {\"n\":6}\n      2s  b.0: completed \"b\"\n      2s  run completed \"b\"";
    assert_eq!(lines(&simulation), expected);
}

#[test]
fn what_never_comes_is_told() {
    let text = "workflow: w\nversion: 1.0.0\nsteps:\n  ask: { signal: go }\n  nap: { needs: [ask], wait: 1h }\n";
    assert_eq!(lines(&run(text, json!({"path": "/src"}), |_| {})), "waits: [\"ask\"]");
    let simulation = run(text, json!({"path": "/src"}), |invented| {
        invented.signals.insert(StepName::parse("go").unwrap(), json!(1));
    });
    let expected = "      0s  signal go 1\n      0s  nap: waits until 1h\n      1h  nap: goes on, its time has come\n      1h  run completed null";
    assert_eq!(lines(&simulation), expected);
}

#[test]
fn an_endless_repetition_ends() {
    let text = "workflow: w\nversion: 1.0.0\nsteps:\n  poll: { repeat: { call: a, until: \"last.state == 'done'\", max: 3, pause: 10s } }\n";
    let simulation = run(text, json!({"path": "/src"}), |_| {});
    assert!(lines(&simulation).contains("turns_exhausted"), "{}", lines(&simulation));
    let simulation = run(text, json!({"path": "/src"}), |invented| {
        invented.outputs.insert("poll.1".into(), json!({"state": "done"}));
    });
    assert!(lines(&simulation).contains("12s  run completed"), "{}", lines(&simulation));
}

/// It went on for ever: each of so many properties is an object with all of them, eight levels down.
#[test]
fn an_example_of_a_schema_that_refers_to_itself_has_an_end() {
    let properties: serde_json::Map<String, Value> =
        (0..1_000).map(|number| (format!("p{number}"), json!({"$ref": "#"}))).collect();
    let example = super::invent::example(&json!({"type": "object", "properties": properties}));
    assert!(example["p0"]["p0"].is_object(), "it goes down");
    assert!(example.to_string().len() < 200_000, "{}", example.to_string().len());
}
