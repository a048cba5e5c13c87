use serde_json::{Value, json};

use super::*;

fn world() -> World<'static> {
    World {
        capability: &|capability| {
            Some(match capability.as_str() {
                "echo" | "stat" | "list" | "open" => json!(true),
                "read" => json!({
                    "type": "object",
                    "required": ["path"],
                    "properties": { "path": { "type": "string" }, "lines": { "type": "integer", "minimum": 1 }, "tags": { "type": "array", "items": { "type": "string" } } },
                    "additionalProperties": false,
                }),
                _ => return None,
            })
        },
        output: &|capability| match capability.as_str() {
            "read" => Some(json!({ "type": "object", "properties": { "text": {}, "size": {} } })),
            "stat" => Some(json!({
                "type": "object", "properties": { "size": {} }, "additionalProperties": false,
            })),
            "list" => Some(json!({ "type": "array", "items": { "type": "string" } })),
            "open" => Some(json!({ "properties": { "a": {} }, "anyOf": [{ "required": ["b"] }] })),
            _ => None,
        },
        workflow: &|workflow| (workflow.as_str() == "other").then(|| json!({ "required": ["id"] })),
        server: &|capability, _| match capability.as_str() {
            "echo" => Some(Server::Agents),
            "audit" => Some(Server::Workflow(WorkflowName::parse("auditor").ok()?)),
            _ => None,
        },
    }
}

fn lines(faults: &[Fault]) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}

const HEAD: &str = "workflow: w\nversion: 1.0.0\nsteps:\n";

fn found(steps: &str) -> (Vec<String>, Vec<String>) {
    let report = validate(&format!("{HEAD}{steps}"), &world());
    assert_eq!(report.plan.is_some(), report.faults.is_empty());
    (lines(&report.faults), lines(&report.warnings))
}

#[test]
fn literals_are_held_to_the_schema_of_who_is_asked() {
    let cases: [(&str, &[&str]); 10] = [
        ("  a: { call: read, with: { path: x, lines: 3 } }", &[]),
        (
            "  a: { call: read, with: { path: \"${ input.x }\", lines: \"${ 1 + 1 }\", tags: [\"${ input.x }\", y] } }",
            &[],
        ),
        ("  a: { call: read, with: \"${ input }\" }", &[]),
        ("  a: { call: echo, with: { any: thing } }", &[]),
        ("  a: { call: read }", &["4:3: steps.a: with: `path` is missing"]),
        (
            "  a: { call: read, with: { pth: x } }",
            &["steps.a.with: `path` is missing", "steps.a.with.pth: is not a key that is known here"],
        ),
        (
            "  a: { call: read, with: { path: 7 } }",
            &["steps.a.with.path: 7 is not of type \"string\"; put it in quotes if it is text"],
        ),
        (
            "  a: { call: read, with: { path: x, tags: [\"${ input.x }\", 1] } }",
            &["steps.a.with.tags.1: 1 is not of type"],
        ),
        (
            "  a: { call: read, with: { path: \"${ input.x }\", other: \"${ input.y }\" } }",
            &["steps.a.with.other: is not a key"],
        ),
        ("  a: { workflow: other, with: {} }", &["steps.a.with: `id` is missing"]),
    ];
    for (steps, expected) in cases {
        let (faults, warnings) = found(steps);
        assert_eq!((faults.len(), warnings.len()), (expected.len(), 0), "{steps}: {faults:?} {warnings:?}");
        for (fault, expected) in faults.iter().zip(expected) {
            assert!(fault.contains(expected), "{steps}: {faults:?}");
        }
    }
}

#[test]
fn who_is_not_known_is_warned_of() {
    let (faults, warnings) = found("  a: { call: nobody, undo: { call: no-one } }\n  b: { workflow: gone }\n");
    assert_eq!(faults, [""; 0]);
    let expected = [
        "4:8: steps.a.call: no agent is known that serves `nobody`; its requests would wait for one",
        "4:30: steps.a.undo.call: no agent is known that serves `no-one`; its requests would wait for one",
        "5:8: steps.b.workflow: there is no workflow `gone`; its runs would wait until it is applied",
    ];
    assert_eq!(warnings, expected);
}

#[test]
fn a_capability_is_served_by_agents_or_by_one_workflow() {
    let found = |serves: &str, called: &str| {
        let report = validate(&format!("serves: {serves}\n{HEAD}  a: {{ call: {called} }}"), &world());
        assert_eq!(report.plan.is_some(), report.faults.is_empty());
        (lines(&report.faults), lines(&report.warnings))
    };
    assert_eq!(found("mine", "echo"), (vec![], vec![]));
    let faults = found("echo", "read").0;
    assert!(faults[0].starts_with("1:1: serves: agents serve `echo`"), "{faults:?}");
    let faults = found("audit", "echo").0;
    assert_eq!(
        faults,
        ["1:1: serves: the workflow `auditor` serves `audit`: remove it or apply it without `serves` first"]
    );
    let warnings = found("mine", "mine").1;
    assert_eq!(
        warnings,
        ["5:8: steps.a.call: this workflow serves `mine`: each of its runs would ask for another one"]
    );
}

#[test]
fn bounds_are_told() {
    let many: String = (0..1_001).map(|n| format!("  s{n}: {{ call: echo }}\n")).collect();
    let (faults, _) = found(&many);
    assert!(faults[0].contains("has more than 1000 properties"), "{}", faults[0]);
    let large = format!("{HEAD}  a: {{ call: echo, with: {} }}", "x".repeat(1024 * 1024));
    let report = validate(&large, &world());
    assert!(report.faults[0].message.contains("1048576 is the limit"), "{:?}", report.faults);
    let most: String = (0..1_000)
        .map(|n| {
            format!(
                "  s{n}: {{ call: echo, needs: [{}] }}\n",
                if n > 0 { format!("s{}", n - 1) } else { String::new() }
            )
        })
        .collect();
    let (plan, _): (Plan, Value) = validate(&format!("{HEAD}{most}"), &world()).plan.unwrap();
    assert_eq!(plan.steps.len(), 1_000);
}

#[test]
fn what_is_most_likely_not_meant_is_warned_of() {
    let text = "workflow: w\nversion: 1.0.0\ntimeout: 1h\ninput: { type: object, properties: { path: { type: string } } }\nsteps:\n  a: { call: echo, with: { p: \"x ${ input.pth }\", q: \"${ has(input.z) ? input.path : '' }\" } }\n  b: { signal: go, timeout: 1d }\n  c: { wait: 1h }\n  d: { wait: 59m }\n";
    let report = validate(text, &world());
    assert!(report.plan.is_some(), "{:?}", report.faults);
    let expected = [
        "6:28: steps.a.with.p: column 6: the schema of the input has no `pth`; did you mean `path`?",
        "7:20: steps.b.timeout: a run is given up after 1h, before these 1d are over",
        "8:8: steps.c.wait: a run is given up after 1h, before these 1h are over",
    ];
    assert_eq!(lines(&report.warnings), expected);
}

#[test]
fn what_is_read_of_an_output_is_what_is_given() {
    let reads = |step: &str, expression: &str| {
        let steps =
            format!("  a: {{ {step} }}\n  b: {{ needs: [a], call: echo, with: {{ x: \"${{ {expression} }}\" }} }}\n");
        found(&steps)
    };
    for (step, expression) in [
        ("call: stat", "steps.a.output.size"),
        ("call: stat", "has(steps.a.output.sze)"),
        ("call: stat", "steps.a.output"),
        ("call: echo", "steps.a.output.anything"),
        ("call: open", "steps.a.output.b"),
        ("call: list", "steps.a.output[0]"),
        ("foreach: \"${ input }\", call: stat", "steps.a.output.map(each, each.sze)"),
        ("workflow: other, with: { id: 1 }", "steps.a.output.sze"),
    ] {
        assert_eq!(reads(step, expression), (vec![], vec![]), "{step}: {expression}");
    }
    let (faults, warnings) = reads("call: stat", "1 + steps.a.output.sze.deep");
    assert_eq!((faults.len(), warnings.len()), (1, 0), "{faults:?} {warnings:?}");
    assert!(faults[0].starts_with("5:"), "{faults:?}");
    assert!(
        faults[0].contains("steps.b.with.x") && faults[0].contains("`stat` gives no `sze`; did you mean `size`?"),
        "{faults:?}"
    );
    let (faults, _) = reads("repeat: { call: stat, until: 'true' }", "steps.a.output.sze");
    assert_eq!(faults.len(), 1, "{faults:?}");
    let (faults, warnings) = reads("call: read, with: { path: x }", "steps.a.output.sze");
    assert_eq!((faults.len(), warnings.len()), (0, 1), "{faults:?} {warnings:?}");
    assert!(warnings[0].contains("what `read` says it gives has no `sze`"), "{warnings:?}");
}
