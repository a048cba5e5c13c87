use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const REPO_AUDIT: &str = include_str!("../../tests/repo-audit.yaml");

fn faults(text: &str) -> Vec<String> {
    Plan::parse(text).expect_err(text).iter().map(ToString::to_string).collect()
}

#[test]
fn the_example_is_read() {
    let (plan, definition) = Plan::parse(REPO_AUDIT).unwrap();
    let names: Vec<&str> = plan.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["files", "examine", "secrets", "gate", "report"]);
    let [files, examine, secrets, gate, report] = plan.steps.as_slice() else { panic!("{names:?}") };
    assert_eq!(plan.timeout, Some(Duration::from_secs(3600)));
    assert_eq!(
        (files.dependents.as_slice(), report.needs.as_slice()),
        (&[StepIndex(1), StepIndex(2)][..], &[StepIndex(1), StepIndex(3)][..])
    );
    let Action::ForEach { max_parallel: 32, success: Success::All, body, .. } = &examine.action else {
        panic!("{examine:?}")
    };
    assert_eq!(body.retry.map(|retry| retry.attempts_max), Some(3));
    assert_eq!(secrets.on_error, OnError::Continue);
    assert!(matches!(&gate.action, Action::Signal { timeout: Some(_), otherwise: Some(_), .. }), "{gate:?}");
    assert!(matches!(&report.undo, Some(Body { target: Target::Capability(_), .. })), "{report:?}");
    // Of the gate only the status is read.
    let read: Vec<bool> = plan.steps.iter().map(|step| step.is_output_read).collect();
    assert_eq!(read, [true, true, true, false, true]);
    assert!(plan.is_input_read);
    // What is stored says the same, in the same order.
    let again = Plan::read(&definition).unwrap();
    assert_eq!(format!("{again:?}"), format!("{plan:?}"));
    let again: Value = serde_json::from_str(&definition.to_string()).unwrap();
    assert_eq!(Plan::read(&again).unwrap().steps[3].name.as_str(), "gate");
}

#[test]
fn nothing_is_no_plan() {
    for value in
        [json!(null), json!({}), json!([]), json!("x"), json!({"workflow": "a", "version": "1.0.0", "steps": {}})]
    {
        assert!(!Plan::read(&value).unwrap_err().is_empty(), "{value}");
    }
    assert!(!faults("").is_empty());
}

fn json_values() -> impl Strategy<Value = Value> {
    let keys = "(workflow|version|steps|needs|needs_any|if|call|with|foreach|wait|until|signal|emit|repeat|race|undo|on_error|fallback|timeout|a|b|order|output|concurrency|key|limit|input|success|otherwise)";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "(a|b|c|1s|1.0.0|all|continue|\\$\\{ steps\\.a\\.output \\}|\\$\\{|input\\.x|\\$\\{ last \\})"
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(keys, inner, 0..8).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_json_makes_it_panic(value in json_values(), step in json_values(), other in json_values()) {
        let _ = Plan::read(&value);
        let definition = json!({"workflow": "w", "version": "1.0.0", "steps": {"a": step, "b": other, "c": {"call": "x", "needs": ["a", "b"]}}});
        if let Ok(plan) = Plan::read(&definition) {
            prop_assert_eq!(plan.steps.len(), 3);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,80}") {
        let _ = Plan::parse(&text);
    }
}

#[test]
fn every_fault_is_told_at_once() {
    insta::assert_snapshot!("faulty", faults(include_str!("faulty.yaml")).join("\n"));
}

#[test]
fn what_the_documentation_shows_is_taken() {
    let document = include_str!("../../LANGUAGE.md");
    let blocks: Vec<&str> = document.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 3);
    for block in blocks {
        let mut text = block.to_owned();
        if !block.contains("workflow: ") {
            text = format!("workflow: shown\nversion: 1.0.0\nsteps:\n{block}");
            for (name, step) in [("files", "call: list-files"), ("ask", "signal: approve")] {
                text.push_str(&format!("  {name}: {{ {step} }}\n"));
            }
        }
        Plan::parse(&text).unwrap_or_else(|faults| panic!("{block}: {faults:#?}"));
    }
}
