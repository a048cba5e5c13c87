use serde_json::json;

use super::*;
use crate::expression::tests::{data, held, names};

fn compile(value: &Value) -> Template {
    Template::compile(value, &names()).unwrap()
}

fn value(of: Value) -> Value {
    match compile(&of).evaluate(&data()).unwrap() {
        Payload::Value(value) => value.as_ref().clone(),
        held @ Payload::Held { .. } => panic!("{held:?}"),
    }
}

#[test]
fn values() {
    let cases = [
        (json!("plain"), json!("plain")),
        (json!({"a": [1, null, "x"]}), json!({"a": [1, null, "x"]})),
        (json!("${ input.n }"), json!(3)),
        (json!("${ steps.files.output }"), json!([{"name": "a", "size": 10}, {"name": "b", "size": 2000}])),
        (json!("${ input.n } files in ${ input.path }"), json!("3 files in /src")),
        (json!("${ input.none }/${ input.half }/${ input.list }"), json!("null/0.5/[3,1,2]")),
        (json!(" ${ input.n }"), json!(" 3")),
        (json!("costs $${ input.n }"), json!("costs ${ input.n }")),
        (json!({"a": ["$${x}"]}), json!({"a": ["${x}"]})),
        (
            json!({"with": {"file": "${ item.name }", "of": ["${ size(input.list) }"]}, "n": 1}),
            json!({"with": {"file": "a", "of": [3]}, "n": 1}),
        ),
        (json!({"${ input.n }": 1}), json!({"${ input.n }": 1})),
        (json!("${ {'a': '}'} }"), json!({"a": "}"})),
    ];
    for (template, expected) in cases {
        assert_eq!(value(template.clone()), expected, "{template}");
    }
}

#[test]
fn what_is_held_is_handed_on_as_a_whole_and_read_otherwise() {
    assert_eq!(compile(&json!("${ steps.large.output }")).evaluate(&data()).unwrap(), held());
    let failure = compile(&json!({"doc": "${ steps.large.output }"})).evaluate(&data()).unwrap_err();
    assert!(failure.message.contains("too large to be read"), "{failure}");
    let reads = |template: Value| -> Vec<bool> {
        compile(&template).references().iter().map(|reference| reference.is_read).collect()
    };
    assert_eq!(reads(json!("${ steps.large.output }")), [false]);
    assert_eq!(reads(json!("${ input }")), [false]);
    assert_eq!(reads(json!("${ steps.large.output.a }")), [true]);
    assert_eq!(reads(json!("${ steps.large.output } ${ item }")), [true, true]);
    assert_eq!(reads(json!({"doc": "${ steps.large.output }"})), [true]);
}

#[test]
fn faults_have_the_place_in_their_text() {
    let template = json!({"a": "x ${ foo } ${ input.n + }", "b/c": ["ok", "line\n  ${\n bar }"], "d": "${ input"});
    let faults = Template::compile(&template, &names()).unwrap_err();
    let shown: Vec<String> = faults.iter().map(|fault| format!("{} {}", fault.pointer, fault.fault)).collect();
    let expected = [
        "/a column 6: `foo` is not known",
        "/a column 25: something is missing at the end",
        "/b~1c/1 line 3, column 2: `bar` is not known",
        "/d column 1: `${` has no end",
    ];
    assert_eq!(shown.len(), expected.len(), "{shown:#?}");
    for (fault, expected) in shown.iter().zip(expected) {
        assert!(fault.starts_with(expected), "{shown:#?}");
    }
}
